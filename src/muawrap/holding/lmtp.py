"""LMTP on standard input and output: each message is on disk before its recipients are answered (RFC 2033)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

from muawrap import report, signals
from muawrap.failure import Failure, unexpected
from muawrap.holding import durable
from muawrap.holding.formats import batchsmtp, mailboxes
from muawrap.holding.held import Addressee, Envelope, Held
from muawrap.holding.hold import Interrupted, Kept, completed, watch
from muawrap.holding.store.spool import Spool, fresh_name
from muawrap.mail import Reply
from muawrap.reading import answers
from muawrap.reading.dialogue import Dialogue, Mail, Rcpt, Reset, Text
from muawrap.reading.message import as_it_is

Told = Callable[[Kept | Failure, Envelope], None]
"""Hears of each message that it was held, or why it was not: for the log."""


def session(spool: Spool, hostname: str, source: Iterator[bytes], told: Told) -> None:
    """One client, to its QUIT or the end of its input.

    Raises Failure where standard input cannot be read, ends in the middle of a message, or a signal came.
    """
    _Session(spool, hostname, told).run(source)


def unable(failure: Failure) -> None:
    """It is us who leave, for now; as a greeting, too (RFC 5321, 3.8)."""
    report.reply(answers.on_the_wire(Reply(421, (f"4.3.2 {answers.sentence(failure)}",)), "4.3.2"))


class _Session:
    def __init__(self, spool: Spool, hostname: str, told: Told) -> None:
        self._spool = spool
        self._told = told
        self._dialogue = Dialogue(lmtp=True, hostname=hostname, address=mailboxes.path)
        self._mail: Mail | None = None
        self._recipients: list[Rcpt] = []

    def run(self, source: Iterator[bytes]) -> None:
        try:
            for event in self._dialogue.events(self._octets(source)):
                if isinstance(event, Mail):
                    self._mail, self._recipients = event, []
                    self._announced(event.size)
                elif isinstance(event, Rcpt):
                    self._recipients.append(event)
                    self._dialogue.accept()
                elif isinstance(event, Text):
                    self._dialogue.answer(self._verdict(event))
                    self._mail = None
                    if not event.complete:
                        raise Failure("the input ends in the middle of a message")
                elif isinstance(event, Reset):
                    self._mail = None
        except Failure as failure:
            self._speak()
            unable(failure)
            raise
        self._speak()

    def _octets(self, source: Iterator[bytes]) -> Iterator[bytes]:
        """What the client says; before it is waited for, it is told what there is to tell."""
        while True:
            self._speak()
            watch()
            block = next(source, None)
            if block is None:
                return
            yield block

    def _speak(self) -> None:
        signals.decided()  # no line is torn
        report.reply(self._dialogue.replies())

    def _announced(self, size: int) -> None:
        """Whether there is room, where the client has said how much is needed (RFC 1870)."""
        if size and size > shutil.disk_usage(self._spool.path).free:
            self._dialogue.answer(Reply(452, (f"4.3.1 no room for {size} octets in {self._spool.path}",)))
        else:
            self._dialogue.accept()

    def _verdict(self, text: Text) -> Reply:
        """The reply to a text, which is held by then or not at all."""
        assert self._mail is not None
        envelope = self._envelope(self._mail)
        try:
            held = completed(Held(envelope, *as_it_is(text)))
            name = fresh_name()
            self._spool.put_all([(name, batchsmtp.write(held))], signals.decided)
        except Interrupted:
            raise
        except Exception as error:
            failure = unexpected(error)
            self._told(failure, envelope)
            full = durable.is_full(failure)
            return Reply(452 if full else 451, (f"4.3.{int(full)} {answers.sentence(failure)}",))
        size = len(held.header) + held.body.size
        self._told(Kept(1, 1, size, name, held.envelope), envelope)
        return Reply(250, (f"2.0.0 held as {name}",))

    def _envelope(self, mail: Mail) -> Envelope:
        return Envelope(
            mail.sender,
            tuple(Addressee(one.address, one.notify, one.original) for one in self._recipients),
            body=mail.body,
            utf8=mail.utf8,
            returns=mail.returns,
            envelope_id=mail.envelope_id,
            facts=(("size", str(mail.size)),) if mail.size else (),
        )
