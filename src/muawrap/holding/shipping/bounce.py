"""The report that tells a sender who did not get the message, and why, handed to the mail system of this machine.

It is a delivery status notification (RFC 3464) from the null sender. Nobody is told of a bounce, nor of a recipient
whose NOTIFY does not ask for that (RFC 3461, 4.1). What comes back with it is the header block; the whole message
where its sender asked for that with RET=FULL.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from email.utils import formatdate
from typing import NamedTuple

from muawrap import report
from muawrap.config import Config
from muawrap.failure import TRY_AGAIN, Failure
from muawrap.holding import mta
from muawrap.holding.held import Addressee, Envelope, Held
from muawrap.mail import Reply
from muawrap.reading.message import as_it_is
from muawrap.submission import wire

LIMIT = 900  # characters of anybody's words in one line
_ENHANCED = re.compile(r"(?:2|4|5)\.[0-9]{1,3}\.[0-9]{1,3}(?!\S)")  # RFC 3463
_XTEXT = re.compile(r"\+([0-9A-F]{2})")  # RFC 3461, 4
_DAY, _HOUR = 86_400, 3_600


class Loss(NamedTuple):
    """A recipient who does not get the message."""

    addressee: Addressee
    reason: str  # a sentence
    host: str = ""  # "name:port" of who said so
    reply: Reply | None = None
    expired: bool = False  # nobody refused it: it has waited too long


def told(envelope: Envelope, losses: Iterable[Loss]) -> list[Loss]:
    """Those of them of which the sender is to hear."""
    if not envelope.sender:
        return []
    return [loss for loss in losses if _is_wanted(loss.addressee.notify)]


def _is_wanted(notify: str) -> bool:
    return not notify or "FAILURE" in notify.upper().split(",")


def send(config: Config, held: Held, losses: Sequence[Loss], accepted: float, now: float) -> str:
    """Hand the report to `config.mta`; what that said. `accepted` is when we got the message. Raises Failure.

    The Failure is "try again", whatever the program made of it: until it has taken the report nobody knows. That of a
    program which did not end comes from a TimeoutError.
    """
    header, body = as_it_is(report_text(own_name(config), held, losses, accepted, now))
    answer = mta.hand(config.mta, "", [held.envelope.sender], header, body)
    if answer.outcome != mta.TAKEN:
        raise Failure(
            f"the sender cannot be told of a message that was given up: {answer.words}",
            lead=TRY_AGAIN,
            advice="mta names the program that takes such reports",
        ) from (TimeoutError() if answer.hung else None)
    return answer.words


def own_name(config: Config) -> str:
    """What this machine calls itself; never by way of DNS."""
    return config.hostname or os.uname().nodename


# -- the text -------------------------------------------------------------------------------------------------------


def report_text(name: str, held: Held, losses: Sequence[Loss], accepted: float, now: float) -> Iterator[bytes]:
    """The whole report, lines ended by LF."""
    envelope = held.envelope
    mark = f"muawrap-{os.urandom(12).hex()}"
    full = envelope.returns.upper() == "FULL"
    lines = [
        f"From: Mail Delivery System <MAILER-DAEMON@{name}>",
        f"To: <{envelope.sender}>",
        "Subject: Mail delivery failed: your message comes back",
        f"Date: {formatdate(now, localtime=True)}",
        f"Message-ID: <{os.urandom(12).hex()}.bounce@{name}>",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type=delivery-status; boundary="{mark}"',
        "",
        "This is a report in several parts (RFC 3464).",
        "",
        f"--{mark}",
        "Content-Type: text/plain; charset=us-ascii",
        "",
        *_words(name, losses, accepted, now, full),
        "",
        f"--{mark}",
        "Content-Type: message/delivery-status",
        "",
        *_message_fields(name, envelope, accepted),
        *(line for loss in losses for line in ("", *_recipient_fields(loss, now))),
        "",
        f"--{mark}",
        f"Content-Type: {'message/rfc822' if full else 'text/rfc822-headers'}",
        "Content-Transfer-Encoding: 8bit",
        "",
        "",
    ]
    yield "\n".join(lines).encode("utf-8", "surrogateescape")
    if full:
        yield from wire.text(held.header, held.body)
    else:
        yield held.header
    yield f"\n--{mark}--\n".encode("ascii")


def _words(name: str, losses: Sequence[Loss], accepted: float, now: float, full: bool) -> Iterator[str]:
    """For people."""
    yield f"This is the mail system of {report.printable(name)}."
    yield ""
    yield f"It took your message on {formatdate(accepted, localtime=True)}, and these do not get it:"
    for loss in losses:
        yield ""
        yield f"  {_cut(f'<{loss.addressee.address}>')}"
        yield f"    {_what_happened(loss, after(max(0.0, now - accepted)))}:"
        yield f"    {_cut(loss.reason)}"
    yield ""
    yield f"It is not tried any more. {'Your message' if full else 'The header of your message'} is below."


def _what_happened(loss: Loss, waited: str) -> str:
    if loss.expired:
        return f"It could not be delivered in {waited}; the last try"
    return f"It was refused, {waited} after it came"


def after(seconds: float) -> str:
    """A length of time in words, in the largest unit that is not less than one."""
    for size, unit in (_DAY, "day"), (_HOUR, "hour"), (60, "minute"):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' * (count > 1)}"
    return "less than a minute"


def _message_fields(name: str, envelope: Envelope, accepted: float) -> Iterator[str]:
    """RFC 3464, 2.2."""
    if envelope.envelope_id:
        yield f"Original-Envelope-Id: {_cut(_decoded(envelope.envelope_id))}"
    yield f"Reporting-MTA: dns; {report.printable(name)}"
    yield f"Arrival-Date: {formatdate(accepted, localtime=True)}"


def _recipient_fields(loss: Loss, now: float) -> Iterator[str]:
    """RFC 3464, 2.3; an address beyond ASCII as RFC 6533, 3 writes it."""
    if loss.addressee.original:
        kind, _, address = loss.addressee.original.partition(";")
        yield f"Original-Recipient: {_cut(kind)}; {_cut(_decoded(address))}"
    address = loss.addressee.address
    if address.isascii():
        yield f"Final-Recipient: rfc822; {_cut(address)}"
    else:
        shown = "".join(one if one.isascii() else f"\\x{{{ord(one):X}}}" for one in address)
        yield f"Final-Recipient: utf-8; {_cut(shown)}"
    yield "Action: failed"
    yield f"Status: {_status(loss)}"
    if loss.host:
        yield f"Remote-MTA: dns; {_cut(loss.host.rpartition(':')[0].strip('[]'))}"
    if loss.reply is not None:
        yield f"Diagnostic-Code: smtp; {_cut(str(loss.reply))}"
    yield f"Last-Attempt-Date: {formatdate(now, localtime=True)}"


def _status(loss: Loss) -> str:
    """The host's own enhanced status, or a general one (RFC 3463)."""
    said = str(loss.reply).partition(" ")[2] if loss.reply is not None else ""
    found = _ENHANCED.match(said)
    if found is not None:
        return found[0]
    return "4.4.7" if loss.expired else "5.0.0"


def _decoded(xtext: str) -> str:
    return _XTEXT.sub(lambda code: chr(int(code[1], 16)), xtext)


def _cut(text: str) -> str:
    return report.printable(text)[:LIMIT]
