"""Message after message by SMTP on standard input: -bs answers each with the smart host's verdict, -bS is a batch."""

from __future__ import annotations

import gc
import select
from collections.abc import Callable, Iterator

from muawrap import addresses, report, signals
from muawrap.errand import Errand
from muawrap.failure import TRY_AGAIN, Failure, unexpected
from muawrap.mail import Invocation, Receipt, Recipient, Reply, Transaction
from muawrap.reading import answers
from muawrap.reading import message as reading
from muawrap.reading.dialogue import Dialogue, Event, Mail, Rcpt, Text
from muawrap.routing.redirect import RECIPIENTS, Expansion
from muawrap.submission.line import Line


def answered(invocation: Invocation, errand: Errand) -> int:
    """-bs: the exit status says whether every message was sent (RULES E8)."""
    gc.enable()  # unlike one message, a day of them is worth it
    return _Answered(invocation, errand).run()


def broken(failure: Failure) -> None:
    """-bs where nothing can be sent: the greeting says why, and no command is obeyed (RULES E8)."""
    dialogue = Dialogue(broken=failure)
    try:
        for _ in dialogue.events(_octets(lambda: report.reply(dialogue.replies()))):
            pass
    except Failure:
        pass  # standard input cannot be read; what is wrong has been told
    report.reply(dialogue.replies())


def batch(invocation: Invocation, errand: Errand) -> int:
    """-bS: one message after the other, until one is not sent (RULES E8)."""
    gc.enable()
    work = _Batch(invocation, errand)
    try:
        work.run()
    except _Stopped as failure:
        signals.stop_on(failure)
        work.line.close()
        reading.skip(0, dot_ends=False)  # so that the caller reads our status, and not SIGPIPE (RULES A6)
        signals.decided()
        return report.failure(failure, work.facts)
    finally:
        work.line.close()
    if invocation.verbose:
        report.progress("")
        report.trace("---", f"{work.sent} sent")
    return 0


class _Answered:
    """One caller, who hears of each message at once what became of it."""

    def __init__(self, invocation: Invocation, errand: Errand) -> None:
        self._invocation = invocation
        self._errand = errand
        self._dialogue = Dialogue(hostname=errand.settings.hostname or "localhost")
        self._line = Line(report.trace if invocation.verbose else None)
        self._begun: _Begun | None = None
        self._status = 0
        self._speaking = False

    def run(self) -> int:
        """All of it; the exit status."""
        try:
            for event in self._dialogue.events(_octets(self._idle)):
                self._obey(event)
        except Exception as error:  # no command is to blame: standard input, or we ourselves
            signals.decided()
            self._status = report.failure(unexpected(error), self._facts())
        self._speak()
        self._line.close()
        return self._status or int(self._dialogue.refused is not None)

    def _obey(self, event: Event) -> None:
        """What the caller asks for, and the answer."""
        try:
            if isinstance(event, Mail):
                self._begun = _Begun(self._invocation, self._errand, event)
                self._dialogue.accept()
            elif isinstance(event, Rcpt):
                assert self._begun is not None
                self._begun.add(event)
                self._dialogue.accept()
            elif isinstance(event, Text):
                assert self._begun is not None
                signals.watch(self._interrupted)
                ready = self._begun.taken(event)
                self._dialogue.answer(_verdict(ready.deliver(self._line)))
                self._begun = None
            else:
                self._begun = None
        except Exception as error:
            signals.decided()
            failure = unexpected(error)
            self._note(failure)
            self._dialogue.refuse(failure)

    def _note(self, failure: Failure) -> None:
        """A message that is not sent is one line in the log, however many of its recipients are refused."""
        if self._begun is None or not self._begun.failed:
            status = report.failure(failure, self._facts(), spoken=False)
            self._status = self._status or status
        if self._begun is not None:
            self._begun.failed = True

    def _facts(self) -> report.Facts:
        return self._errand.facts() if self._begun is None else self._begun.facts

    def _idle(self) -> None:
        """Before the caller is waited for."""
        self._speak()
        signals.watch(self._interrupted)

    def _speak(self) -> None:
        self._speaking = True
        report.reply(self._dialogue.replies())
        self._speaking = False

    def _interrupted(self, failure: Failure) -> None:
        """A signal: the caller is told where that costs no waiting, and no line is torn."""
        reply = answers.verdict(failure)
        if failure.lead == TRY_AGAIN:
            reply = Reply(421, (f"4.3.2 {answers.sentence(failure)}",))  # it is us who leave (RFC 5321, 3.8)
        if self._begun is not None:
            self._note(failure)
        if not self._speaking and select.select([], [1], [], 0)[1]:
            report.reply(self._dialogue.replies() + answers.on_the_wire(reply, "4.3.2"))
        report.leave(self._status or int(self._dialogue.refused is not None))


class _Stopped(Failure):
    """What stopped a batch, and how far it had come."""

    def __init__(self, sent: int, failure: Failure, line: int = 0) -> None:
        where = f"message {sent + 1}" + (f", at line {line}," if line else "") + f" after {sent} sent"
        reasons = failure.reasons if not failure.what and failure.reasons else (failure,)
        super().__init__(where, lead=failure.lead, advice=failure.advice, reasons=reasons, status=failure.status)
        self.degraded = failure.degraded
        self.shares = failure.shares


class _Batch:
    """Messages of which the last one read waits for the next, so that they can leave together (PERFORMANCE P6)."""

    def __init__(self, invocation: Invocation, errand: Errand) -> None:
        self.line = Line(report.trace if invocation.verbose else None)
        self.facts = errand.facts()  # of the message that is not sent
        self._invocation = invocation
        self._errand = errand
        self._begun: _Begun | None = None
        self._waiting: _Ready | None = None
        self.sent = 0

    def run(self) -> None:
        """All of them. Raises _Stopped."""
        signals.watch(self._interrupted)
        line = 0  # of what is being done, where that is not the dialogue's own failure, which tells its line itself
        try:
            for event in Dialogue(batch=True).events(_octets(self._idle)):
                line = event.line
                if isinstance(event, Mail):
                    self._begun = _Begun(self._invocation, self._errand, event)
                elif isinstance(event, Rcpt):
                    assert self._begun is not None
                    self._begun.add(event)
                elif isinstance(event, Text):
                    assert self._begun is not None
                    line = self._begun.line
                    ready = self._begun.taken(event)
                    self._send(ready.transaction)
                    self._begun, self._waiting = None, ready
                else:
                    self._begun = None
                line = 0
        except _Stopped:
            raise
        except Exception as error:
            self._send(None)  # what came before the trouble is none of its business
            raise self._stopped(unexpected(error), line) from error
        self._send(None)

    def _idle(self) -> None:
        """Nothing more may come for a while: what is here does not wait for it."""
        if not _there_is_more():
            self._send(None)
        if not _there_is_more():  # where the input has ended meanwhile, a signal that came finds all of it sent
            signals.watch(self._interrupted)

    def _send(self, following: Transaction | None) -> None:
        """Send the message that waits, where there is one. Raises _Stopped."""
        ready = self._waiting
        if ready is None:
            return
        signals.watch(self._interrupted)
        try:
            ready.deliver(self.line, following)
        except Exception as error:
            raise self._stopped(unexpected(error)) from error
        self._waiting = None
        self.sent += 1
        if self._invocation.verbose:
            report.progress(f"{self.sent} sent")

    def _stopped(self, failure: Failure, line: int = 0) -> _Stopped:
        """The failure of the message that waits, or else of the one that is being read."""
        concerned = self._waiting or self._begun
        if concerned is not None:
            self.facts = concerned.facts
        return _Stopped(self.sent, failure, line or (self._waiting.line if self._waiting is not None else 0))

    def _interrupted(self, failure: Failure) -> None:
        stopped = failure if isinstance(failure, _Stopped) else self._stopped(failure)
        report.leave(report.failure(stopped, self.facts))


class _Begun:
    """A message whose envelope is being named."""

    def __init__(self, invocation: Invocation, errand: Errand, mail: Mail) -> None:
        self.line = mail.line
        self.facts = errand.facts()
        self.failed = False
        self._errand = errand
        self._named: list[str] = []
        self._recipients: dict[str, Recipient] = {}
        self._discarded: list[str] = []
        self._invocation = invocation._replace(
            sender=mail.sender,
            utf8=mail.utf8 or invocation.utf8,
            returns=mail.returns or invocation.returns,
            envelope_id=mail.envelope_id or invocation.envelope_id,
        )

    def add(self, rcpt: Rcpt) -> None:
        """Route one more recipient; it must agree with the first (RULES B4). Raises Failure."""
        expansion = self._errand.route([rcpt.address])
        first = next(iter(self._recipients.values()), None)
        together = (first, *expansion.recipients) if first else expansion.recipients
        self._errand.agree(self._invocation, Expansion(together, ()))
        self._named.append(rcpt.address)
        self._discarded += expansion.discarded
        for recipient in expansion.recipients:
            asked = recipient._replace(notify=rcpt.notify, original=rcpt.original)
            self._recipients.setdefault(addresses.key(recipient.address), asked)
        if len(self._recipients) > RECIPIENTS:
            raise Failure(f"more than {RECIPIENTS} recipients")

    def taken(self, text: Text) -> _Ready:
        """Read the text; the message as it is ready to be sent. Raises Failure."""
        facts = self.facts
        message, _ = reading.taken(text, self._errand.settings.max_received)
        facts.message_id = message.message_id
        self._errand.keeps(self._invocation, self._named, message, facts)
        expansion = Expansion(tuple(self._recipients.values()), tuple(self._discarded))
        return _Ready(self._errand.offer(self._invocation, message, expansion, facts), facts, self.line)


class _Ready:
    """A message that can be sent."""

    def __init__(self, transaction: Transaction | None, facts: report.Facts, line: int) -> None:
        self.transaction = transaction  # None: everything was discarded
        self.facts = facts
        self.line = line  # of the input, where it begins

    def deliver(self, line: Line, following: Transaction | None = None) -> Receipt:
        """Hand it over. Raises Failure."""
        receipt = line.deliver(self.transaction, following) if self.transaction else Receipt()
        report.success(receipt, self.facts)
        return receipt


def _there_is_more() -> bool:
    """Whether standard input need not be waited for."""
    return bool(select.select([0], [], [], 0)[0])


def _octets(before: Callable[[], None]) -> Iterator[bytes]:
    """Standard input; each time before it is waited for, something else may be done. Raises Failure."""
    source = reading.octets(0)
    while True:
        before()
        block = next(source, b"")
        if not block:
            return
        yield block


def _verdict(receipt: Receipt) -> Reply:
    """The smart host's own reply, as a reply to the caller."""
    code, _, words = receipt.reply.partition(" ")
    return Reply(int(code), (words,)) if code else Reply(250, ("discarded",))
