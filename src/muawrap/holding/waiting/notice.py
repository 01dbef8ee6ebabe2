"""The message that tells `admin` of what was given up: a few lines, by the smart hosts, when they can be reached."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import NamedTuple

from muawrap import report
from muawrap.errand import Errand
from muawrap.failure import unexpected
from muawrap.holding.held import Held
from muawrap.holding.shipping.bounce import Loss
from muawrap.mail import Body, Header, Invocation, Message, Transaction
from muawrap.submission.connection import Trace
from muawrap.submission.deliver import deliver

LISTED = 20
"""Messages that are told of one by one; of the others there is a number."""
LIMIT = 400  # characters of anybody's words in one line
WORDS = {
    "refused": "was refused for good",
    "expired": "could not be sent for too long",
    "parked": "may have been sent, and nobody knows",
}


class Notice(NamedTuple):
    """What became of one message, in lines of a text."""

    outcome: str  # a key of WORDS
    lines: tuple[str, ...]


def of(outcome: str, held: Held, losses: Collection[Loss]) -> Notice:
    """What there is to tell of a message that is given up."""
    envelope = held.envelope
    named = [loss.addressee.address for loss in losses]
    listed = ", ".join(named[:LISTED]) + (f" and {len(named) - LISTED} more" if len(named) > LISTED else "")
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(envelope.at)) if envelope.at else "some time ago"
    lines = (
        f"The message of {when} {WORDS[outcome]}:",
        f"  from        <{envelope.sender}>",
        f"  to          {listed}",
        f"  Subject     {_subject(held)}",
        f"  Message-ID  {envelope.id or '-'}",
        f"  reason      {'; '.join(dict.fromkeys(loss.reason for loss in losses))}",
    )
    return Notice(outcome, tuple(report.printable(line)[:LIMIT] for line in lines))


def _subject(held: Held) -> str:
    for line in held.header.splitlines():
        if line[:8].lower() == b"subject:":
            return line[8:].strip().decode("utf-8", "backslashreplace")
    return "-"


def send(errand: Errand, folder: str, notices: list[Notice], trace: Trace | None = None) -> None:
    """Send it now or not at all: it is never kept, and nobody is told that it failed but the log."""
    if not errand.settings.admin:
        return
    facts = errand.facts()
    try:
        offer = _offer(errand, _text(folder, notices), facts)
        if offer is not None:
            receipt = deliver(offer, trace)
            report.event("told", facts, [("host", receipt.host), ("reply", receipt.reply)])
    except KeyboardInterrupt:  # as a run is ended, where signals are watched
        report.event("not-told", facts, [("error", "interrupted by a signal")], error=True)
    except Exception as error:
        report.event("not-told", facts, [("error", str(unexpected(error)))], error=True)


def _offer(errand: Errand, text: str, facts: report.Facts) -> Transaction | None:
    """From the null sender where that may be, so that nothing comes back (RFC 3834). Raises Failure."""
    fields = (
        ("to", f"To: {errand.settings.admin}\n"),
        ("subject", "Subject: mail from your outbox was not sent\n"),
        ("auto-submitted", "Auto-Submitted: auto-generated\n"),
    )
    message = Message(tuple(Header(name, line.encode()) for name, line in fields), Body(text.encode("ascii")))
    return errand.offer(Invocation(sender=""), message, errand.route([errand.settings.admin]), facts)


def _text(folder: str, notices: list[Notice]) -> str:
    lines = [line for one in notices[:LISTED] for line in (*one.lines, "")]
    if len(notices) > LISTED:
        lines += [f"And {len(notices) - LISTED} more.", ""]
    where = report.printable(folder)
    lines += [
        f"What was refused or may have been sent is in {where}/failed,",
        f"what has expired in {where}/archive, unless the configuration says otherwise.",
        "muawrap held --outbox --failed shows it.",
    ]
    return "\n".join(lines) + "\n"
