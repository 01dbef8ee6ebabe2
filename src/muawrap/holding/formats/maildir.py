"""Messages held in a maildir, their envelope in fields above the header.

So Exim's appendfile writes them with `maildir_format`, return_path_add, envelope_to_add and delivery_date_add:

    Return-path: <a@b.example>
    Envelope-to: c@d.example,
     "quoted local"@d.example
    Delivery-date: Sat, 21 Nov 2026 04:42:14 +0000

The fields count above the first other one only, each once: further down, and the second time, they are somebody
else's and part of the message. The first three are the MTA's own; fields of other programs are read on request.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

from muawrap import addresses
from muawrap.failure import Failure
from muawrap.holding import durable
from muawrap.holding.formats import disk, envelopes, mailboxes
from muawrap.holding.held import Addressee, Envelope, Held
from muawrap.reading.message import HEADER_LIMIT, as_lf
from muawrap.submission import wire

SENDERS = ("return-path", "x-envelope-from")
RECIPIENTS = ("envelope-to", "x-envelope-to", "x-original-to", "delivered-to")
"""Fields that name them; where there are several, the first of these counts."""
OWN = ("return-path", "envelope-to", "delivery-date")
OTHERS = (*OWN, "x-envelope-from", "x-envelope-to", "x-original-to", "delivered-to")
"""On request: fetchmail, procmail, Postfix and qmail each have their own."""
ADVICE = "the MTA's transport needs return_path_add, envelope_to_add and delivery_date_add, or better use_bsmtp"
"""For a message without an envelope, which nobody can send."""

_FIELD = re.compile(rb"([A-Za-z-]+)[ \t]*:(.*\n)", re.DOTALL)
_FOLDED = (b" ", b"\t")
_ITEM = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^,])+')  # of a list of recipients, one of which is no strict address
_DATE = re.compile(r"(?:[A-Z][a-z]{2}, +)?[0-9]{1,2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} [+-][0-9]{4}")  # RFC 5322, 3.3
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_FLAGS = re.compile(r":2,[^/]*\Z")


class Top(NamedTuple):
    """What stands above the first field that is not about the envelope."""

    fields: dict[str, str]  # names in lower case, values unfolded
    end: int  # octets


# -- reading --------------------------------------------------------------------------------------------------------

ready = disk.ready


def files(name: str) -> tuple[str, ...]:
    """All files of the message, in the order in which they are removed."""
    return (name,)


def unflagged(name: str) -> str:
    """A name of `cur` as it was in `new`."""
    return _FLAGS.sub("", name)


def read(folder: int, name: str, known: Collection[str] = OWN) -> Held:
    """The message in a file of `new` or `cur`, without the fields of its envelope. Raises Failure."""
    with disk.opened(folder, name) as file:
        told, above = _above_it(file, name, known)
        os.lseek(file.descriptor, 0, os.SEEK_SET)
        header, body = disk.text(name, file)
        return Held(told, header[above:], body)


def envelope(folder: int, name: str, known: Collection[str] = OWN) -> Envelope:
    """Its envelope, without a look at its text. Raises Failure."""
    with disk.opened(folder, name) as file:
        return _above_it(file, name, known)[0]


def _above_it(file: disk.Opened, name: str, known: Collection[str]) -> tuple[Envelope, int]:
    """The envelope, and how many octets its fields are with line ends of LF. Raises Failure."""
    found = _top(file, known)
    if found is None:
        raise Failure(f"{name} is damaged: its envelope has no end")
    return _envelope(name, found, file.mtime), found.end


def _top(file: disk.Opened, known: Collection[str]) -> Top | None:
    """The fields of the envelope, None where no whole line follows them, be it the empty one."""
    begun = b""
    wanted = 0
    for block in as_lf(file.blocks(disk.HEAD)):
        begun += block
        if len(begun) >= wanted:
            found = top(begun, known)
            if b"\n" in begun[found.end :]:
                return found
            if len(begun) > HEADER_LIMIT:
                return None
            wanted = 2 * len(begun)  # a long list is not looked through too often
    found = top(begun, known)
    return found if b"\n" in begun[found.end :] else None


def top(header: bytes, known: Collection[str] = OWN) -> Top:
    """The fields of the envelope that a header begins with. One that goes on over lines is a list of recipients."""
    fields: dict[str, str] = {}
    name = ""
    end = 0
    for line in header.splitlines(keepends=True):
        if name in RECIPIENTS and line.startswith(_FOLDED) and line.endswith(b"\n"):
            fields[name] += _text(line)
        else:
            field = _FIELD.match(line)
            name = field[1].decode("ascii").lower() if field else ""
            if field is None or name not in known or name in fields:
                break
            fields[name] = _text(field[2])
        end += len(line)
    return Top(fields, end)


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogateescape").rstrip("\n")


def _envelope(name: str, found: Top, mtime: float) -> Envelope:
    fields = found.fields
    sender = next((fields[field] for field in SENDERS if field in fields), None)
    recipients = next((fields[field] for field in RECIPIENTS if field in fields), None)
    if sender is None or recipients is None:
        raise Failure(f"{name} has no envelope", advice=ADVICE)
    try:
        return Envelope(
            mailboxes.read(sender, null=True),
            tuple(map(Addressee, _some(recipients))),
            _seconds(fields.get("delivery-date", "")) or mtime,
        )
    except addresses.AddressError as error:
        raise Failure(f"{name}: cannot read the envelope above its header: {error}") from error


def _some(recipients: str) -> list[str]:
    """The addresses of a list. Raises AddressError."""
    try:
        found = [mailbox.address for mailbox in addresses.parse_list(recipients)]
    except addresses.AddressError:
        found = list(map(mailboxes.read, _ITEM.findall(recipients)))
    if not found:
        raise addresses.AddressError("no recipient")
    return found


def _seconds(date: str) -> float:
    """A date of RFC 5322 since the epoch, 0 for anything else."""
    if not _DATE.fullmatch(date.strip(" \t")):
        return 0
    from email.utils import parsedate_to_datetime

    with suppress(ValueError):  # there is no such day, or no such zone
        return disk.sane((parsedate_to_datetime(date.replace("-0000", "+0000")) - _EPOCH).total_seconds())
    return 0


# -- writing --------------------------------------------------------------------------------------------------------


def write(folder: int, held: Held, hostname: str) -> str:
    """The message as a file of `new` below the folder, by way of `tmp`; its name, on disk. Raises Failure.

    Of the envelope this format has sender and recipients, and the second when it was accepted.
    """
    told = envelopes.writable(held.envelope)
    above = _above(told)
    if len(above) + len(held.header) > HEADER_LIMIT:
        raise Failure(f"the header block is longer than {HEADER_LIMIT} octets")
    name = _name(hostname)
    text = wire.text(above + held.header, held.body)
    with (
        durable.writing(name),
        disk.below(folder, "tmp") as tmp,
        disk.below(folder, "new") as new,
        disk.Writing() as writing,
    ):
        writing.file(tmp, name, text, told.at)
        writing.rename(tmp, name, new, name)
        writing.done(new)
    return name


def _name(hostname: str) -> str:
    """As Exim names a file; what a host's name may not bring in is written as in the description of maildir."""
    whole, micro = divmod(time.time_ns() // 1000, 1_000_000)
    return f"{whole}.M{micro}P{os.getpid()}.{hostname}".replace("/", r"\057").replace(":", r"\072")


def _above(told: Envelope) -> bytes:
    from email.utils import format_datetime

    recipients = ",\n ".join(one.address for one in told.recipients)
    date = format_datetime(_EPOCH + timedelta(seconds=int(disk.sane(told.at) or time.time())))
    fields = f"Return-path: <{told.sender}>\nEnvelope-to: {recipients}\nDelivery-date: {date}\n"
    return fields.encode("utf-8")
