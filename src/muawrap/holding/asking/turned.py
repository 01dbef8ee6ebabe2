"""A connection that was turned round: the server we called is the client now, and its mail goes to our mail system.

We are an SMTP server to it (RFC 2645, 5.2; RFC 5321), over the socket and the TLS that ATRN was said on. A message is
acknowledged when the mail system of this machine has it, and not before; what it does not take stays at the provider.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from muawrap import report
from muawrap.config import Config
from muawrap.failure import REFUSED, TRY_AGAIN, Failure
from muawrap.holding import mta
from muawrap.holding.formats import mailboxes
from muawrap.mail import Body, Reply
from muawrap.reading import message as reading
from muawrap.reading.dialogue import Declined, Dialogue, Mail, Rcpt, Text
from muawrap.report import Pairs
from muawrap.submission.connection import Trace

OFFERED = ("PIPELINING", "8BITMIME", "SIZE", "ENHANCEDSTATUSCODES")
"""What any mail system takes from a command line or batch SMTP; not SMTPUTF8, not DSN."""
IDLE = 300.0  # seconds without an octet (RFC 5321, 4.5.3.2.7)
RECEIVE = 64 * 1024  # octets asked of the kernel at once
RECIPIENTS = 1000  # of one message: what a command line holds; RFC 5321 (4.5.3.1.8) asks for 100
_MESSAGE_ID = re.compile(rb"^message-id:[ \t]*(?:\n[ \t]+)?(\S+)", re.IGNORECASE | re.MULTILINE)


class Tally(NamedTuple):
    """What became of the messages; where one was not taken for some of its recipients, each of these counts as one."""

    taken: int = 0
    refused: int = 0  # for good: the provider tells the senders
    left: int = 0  # at the provider


class Turned:
    """One turned connection, from our greeting to the provider's QUIT."""

    def __init__(
        self,
        sock: socket.socket,
        begun: bytes,
        host: str,
        settings: Config,
        *,
        trouble: Callable[[Failure], None],
        trace: Trace | None = None,
        seconds: float = mta.SECONDS,
        idle: float = IDLE,
    ) -> None:
        """`begun` has come from the provider already; `trouble` is told why a message was not taken."""
        self.tally = Tally()
        self.began = False  # a message: there was mail
        self._sock = sock
        self._begun = begun
        self._host = host
        self._settings = settings
        self._trouble = trouble
        self._trace = trace or (lambda mark, line: None)
        self._seconds = seconds
        self._idle = idle
        self._dialogue = Dialogue(
            hostname=settings.hostname or "localhost", offered=OFFERED, partial=True, address=mailboxes.path
        )
        self._sender = ""
        self._recipients: list[str] = []
        self._too_many = False  # for one transaction
        self._lost = ""  # why nothing more comes

    def run(self) -> Tally:
        """Take what comes. Raises Failure where the provider went without QUIT: more may wait there."""
        for event in self._dialogue.events(self._octets()):
            if isinstance(event, Mail):
                self._mail(event)
            elif isinstance(event, Rcpt):
                self._rcpt(event)
            elif isinstance(event, Text):
                self._text(event)
            elif isinstance(event, Declined):
                self._declined(event)
        self._speak()
        if not self._dialogue.left:
            what = self._lost or "spoke what is no SMTP"
            raise Failure(f"{self._host}, which had turned to send, {what}", lead=TRY_AGAIN, advice="ask again")
        return self.tally

    # -- the connection

    def _octets(self) -> Iterator[bytes]:
        """What the provider says; it ends where nothing more comes."""
        self._speak()
        yield self._begun
        while True:
            self._speak()
            if self._lost:  # who does not hear what became of a message sends it again
                return
            try:
                self._sock.settimeout(self._idle)
                octets = self._sock.recv(RECEIVE)
            except TimeoutError:
                self._lost = f"said nothing for {self._idle:g} s"
            except OSError as error:
                self._lost = f"is lost ({(error.strerror or str(error)).lower()})"
            else:
                if octets:
                    yield octets
                    continue
                self._lost = "left without QUIT"
            return

    def _speak(self) -> None:
        octets = self._dialogue.replies()
        for line in octets.decode("ascii").splitlines():
            self._trace(">>>", line)
        try:
            if octets and not self._lost:
                self._sock.settimeout(self._idle)
                self._sock.sendall(octets)
        except OSError as error:
            self._lost = f"is lost ({(error.strerror or str(error)).lower()})"

    # -- the messages

    def _mail(self, event: Mail) -> None:
        self._trace("<<<", f"MAIL FROM:<{event.sender}>")
        self._begin(event.sender)
        if event.utf8 or event.returns or event.envelope_id:
            self._decline(_NOT_OFFERED, f" from <{event.sender}>")
        else:
            self._dialogue.accept()

    def _rcpt(self, event: Rcpt) -> None:
        self._trace("<<<", f"RCPT TO:<{event.address}>")
        whose = f" from <{self._sender}> to <{event.address}>"
        if event.notify or event.original:
            self._decline(_NOT_OFFERED, whose, event.address)
        elif len(self._recipients) < RECIPIENTS:
            self._recipients.append(event.address)
            self._dialogue.accept()
        elif self._too_many:  # the first of them stands for all, which may come with the next transaction
            self._dialogue.answer(_TOO_MANY)
        else:
            self._too_many = True
            self._decline(_TOO_MANY, whose, event.address)

    def _begin(self, sender: str) -> None:
        self.began = True
        self._sender, self._recipients, self._too_many = sender, [], False

    def _declined(self, event: Declined) -> None:
        """What could not be read, or was not offered, has been answered already."""
        if event.verb == "MAIL":
            self._trace("<<<", "MAIL")
            self._begin("")
            self._refused(event.reply, "")
        elif event.reply.code != 503:  # a recipient behind a MAIL that was declined, which has been told
            self._trace("<<<", "RCPT")
            self._refused(event.reply, f" from <{self._sender}>")

    def _decline(self, reply: Reply, whose: str, *recipients: str) -> None:
        self._dialogue.answer(reply)
        self._refused(reply, whose, *recipients)

    def _refused(self, reply: Reply, whose: str, *recipients: str) -> None:
        """Count, log and tell of a sender or recipient that has been answered with this."""
        answer = mta.Answer(mta.LATER if reply.kind == 4 else mta.REFUSED, f"the reply was {reply}")
        self._count(answer, whose, recipients, [("reply", str(reply))])

    def _text(self, text: Text) -> None:
        """Take a message in, hand it over, and say what became of it."""
        header, body = b"", Body()
        try:
            header, body = reading.as_it_is(text)
        except Failure as failure:
            words = "its end never came" if self._lost else str(failure)
            answer = mta.Answer(mta.LATER, words)
        else:
            self._trace("<<<", f"the text, {len(header) + 1 + body.size} octets")
            answer = mta.hand(
                self._settings.mta,
                self._sender,
                self._recipients,
                header,
                body,
                environment=mta.FOR_FETCHED,
                seconds=self._seconds,
            )
        found = _MESSAGE_ID.search(header)
        message_id = found[1].decode("utf-8", "backslashreplace") if found else ""
        fields = [("size", str(len(header) + 1 + body.size)), ("mta", answer.words)]
        self._count(answer, f" from <{self._sender}>", self._recipients, fields, message_id)
        self._dialogue.answer(_REPLIES[answer.outcome](answer.said))

    def _count(
        self, answer: mta.Answer, whose: str, recipients: Sequence[str], fields: Pairs, message_id: str = ""
    ) -> None:
        tally = self.tally
        self.tally = Tally(
            tally.taken + (answer.outcome == mta.TAKEN),
            tally.refused + (answer.outcome == mta.REFUSED),
            tally.left + (answer.outcome == mta.LATER),
        )
        facts = report.Facts()
        facts.follow(self._settings)
        facts.sender, facts.recipients, facts.message_id = self._sender, tuple(recipients), message_id
        known = [("server", self._host), ("outcome", answer.outcome)]
        report.event("fetched", facts, [*known, *fields], error=answer.outcome != mta.TAKEN)
        if answer.outcome != mta.TAKEN:
            self._trouble(_not_taken(answer, whose, self._host))


def _not_taken(answer: mta.Answer, whose: str, host: str) -> Failure:
    """`whose` is " from <...>", and " to <...>" where it is about one recipient; "" where neither could be read."""
    if answer.outcome == mta.LATER:
        return Failure(f"a message{whose} stays at {host}: {answer.words}", lead=TRY_AGAIN)
    return Failure(f"a message{whose} is refused, and {host} tells its sender: {answer.words}", lead=REFUSED)


_TOO_MANY = Reply(452, (f"4.5.3 more than {RECIPIENTS} recipients",))
_NOT_OFFERED = Reply(555, ("5.5.4 neither SMTPUTF8 nor DSN was offered",))
_REPLIES: dict[str, Callable[[str], Reply]] = {
    mta.TAKEN: lambda said: Reply(250, ("2.0.0 taken",)),
    mta.LATER: lambda said: Reply(451, (f"4.3.0 {said or 'it cannot be taken now'}",)),
    mta.REFUSED: lambda said: Reply(554, (f"5.3.0 {said or 'it is refused'}",)),
}
"""What the provider is told; of a text that did not come whole it hears nothing any more."""
