"""Message after message by SMTP on standard input: -bs answers each with the smart host's verdict, -bS is a batch."""

from __future__ import annotations

import gc
import select
from collections.abc import Callable, Iterator

from muawrap import addresses, report, signals
from muawrap.errand import Errand
from muawrap.failure import Failure, unexpected
from muawrap.mail import Invocation, Receipt, Recipient, Reply, Transaction
from muawrap.reading import message as reading
from muawrap.reading.dialogue import Dialogue, Mail, Rcpt, Text
from muawrap.routing.redirect import Expansion
from muawrap.submission.line import Line


def answered(invocation: Invocation, errand: Errand) -> int:
    """-bs: the exit status says whether every message was sent (RULES E8)."""
    gc.enable()  # unlike one message, a day of them is worth it
    dialogue = Dialogue(hostname=errand.settings.hostname or "localhost")
    line = Line(report.trace if invocation.verbose else None)
    status = 0
    begun: _Begun | None = None
    for event in dialogue.events(_octets(lambda: report.reply(dialogue.replies()))):
        facts = errand.facts()
        try:
            if isinstance(event, Mail):
                begun = _Begun(invocation, errand, event)
                dialogue.accept()
            elif isinstance(event, Rcpt):
                assert begun is not None
                begun.add(event)
                dialogue.accept()
            elif isinstance(event, Text):
                assert begun is not None
                dialogue.answer(_verdict(begun.taken(event, facts).deliver(line)))
        except Exception as error:
            failure = unexpected(error)
            if isinstance(event, Text):
                signals.decided()
                status = status or report.failure(failure, facts, spoken=False)
            dialogue.refuse(failure)
    report.reply(dialogue.replies())
    line.close()
    return status or int(dialogue.refused is not None)


def broken(failure: Failure) -> None:
    """-bs where nothing can be sent: the greeting says why, and no command is obeyed (RULES E8)."""
    dialogue = Dialogue(broken=failure)
    for _ in dialogue.events(_octets(lambda: report.reply(dialogue.replies()))):
        pass
    report.reply(dialogue.replies())


def batch(invocation: Invocation, errand: Errand) -> int:
    """-bS: one message after the other, until one is not sent (RULES E8)."""
    gc.enable()
    work = _Batch(invocation, errand)
    try:
        work.run()
    except _Stopped as failure:
        signals.stop_on(failure)
        reading.skip(0, dot_ends=False)  # so that the caller reads our status, and not SIGPIPE (RULES A6)
        signals.decided()
        return report.failure(failure, work.facts)
    finally:
        work.line.close()
    return 0


class _Stopped(Failure):
    """What stopped a batch, and how far it had come."""

    def __init__(self, sent: int, failure: Failure, line: int = 0) -> None:
        where = f"message {sent + 1}" + (f", at line {line}," if line else "") + f" after {sent} sent"
        reasons = failure.reasons if not failure.what and failure.reasons else (failure,)
        super().__init__(where, lead=failure.lead, advice=failure.advice, reasons=reasons, status=failure.status)
        self.degraded = failure.degraded


class _Batch:
    """Messages of which the last one read waits for the next, so that they can leave together (PERFORMANCE P6)."""

    def __init__(self, invocation: Invocation, errand: Errand) -> None:
        self.line = Line(report.trace if invocation.verbose else None)
        self.facts = errand.facts()
        self._invocation = invocation
        self._errand = errand
        self._waiting: _Ready | None = None
        self._sent = 0

    def run(self) -> None:
        """All of them. Raises _Stopped."""
        begun: _Begun | None = None
        try:
            for event in Dialogue(batch=True).events(_octets(self._idle)):
                if isinstance(event, Mail):
                    begun = _Begun(self._invocation, self._errand, event)
                elif isinstance(event, Rcpt):
                    assert begun is not None
                    begun.add(event)
                elif isinstance(event, Text):
                    assert begun is not None
                    ready = begun.taken(event, self._errand.facts())
                    self._send(ready.transaction)
                    self._waiting = ready
        except _Stopped:
            raise
        except Exception as error:
            self._send(None)  # what came before the trouble is none of its business
            raise _Stopped(self._sent, unexpected(error)) from error
        self._send(None)

    def _idle(self) -> None:
        """Nothing more may come for a while: what is here does not wait for it."""
        if self._waiting is not None and not select.select([0], [], [], 0)[0]:
            self._send(None)

    def _send(self, following: Transaction | None) -> None:
        """Send the message that waits, where there is one. Raises _Stopped."""
        ready, self._waiting = self._waiting, None
        if ready is None:
            return
        self.facts = ready.facts
        try:
            ready.deliver(self.line, following)
        except Exception as error:
            raise _Stopped(self._sent, unexpected(error), ready.line) from error
        self._sent += 1
        self.facts = self._errand.facts()
        if self._invocation.verbose:
            report.progress(f"{self._sent} sent")


class _Begun:
    """A message whose envelope is being named."""

    def __init__(self, invocation: Invocation, errand: Errand, mail: Mail) -> None:
        self._errand = errand
        self._line = mail.line
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

    def taken(self, text: Text, facts: report.Facts) -> _Ready:
        """Read the text; the message as it is ready to be sent. Raises Failure."""
        signals.watch(lambda failure: report.leave(report.failure(failure, facts)))
        message, _ = reading.taken(text, self._errand.settings.max_received)
        facts.message_id = message.message_id
        self._errand.keeps(self._invocation, self._named, message, facts)
        expansion = Expansion(tuple(self._recipients.values()), tuple(self._discarded))
        return _Ready(self._errand.offer(self._invocation, message, expansion, facts), facts, self._line)


class _Ready:
    """A message that can be sent."""

    def __init__(self, transaction: Transaction | None, facts: report.Facts, line: int) -> None:
        self.transaction = transaction  # None: everything was discarded
        self.facts = facts
        self.line = line  # of the input, where it begins

    def deliver(self, line: Line, following: Transaction | None = None) -> Receipt:
        """Hand it over. Raises Failure."""
        signals.watch(lambda failure: report.leave(report.failure(failure, self.facts)))
        receipt = line.deliver(self.transaction, following) if self.transaction else Receipt()
        report.success(receipt, self.facts)
        return receipt


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
