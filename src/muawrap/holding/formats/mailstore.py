"""Messages held as mailstore, two files each: what Exim's appendfile writes with `mailstore_format`.

`.env` has the sender, an empty line for the null sender, and the recipients, one a line; `.msg` has the text. What
mailstore_prefix and mailstore_suffix add to `.env` looks like addresses, so that a reader must be told how many lines
they are. Exim takes the quotes from recipients' local parts; they are put back. There is no room for anything else an
envelope may have, and no sign of an end: of a `.env` cut at the end of a line nobody can tell.
"""

from __future__ import annotations

from muawrap import addresses
from muawrap.failure import Failure
from muawrap.holding import durable
from muawrap.holding.formats import disk, envelopes, mailboxes
from muawrap.holding.held import Addressee, Envelope, Held
from muawrap.submission import wire

LIMIT = 16 * 1024 * 1024
"""Octets of `.env`: 10 000 recipients, all of them long."""
_LINES_ADVICE = "mailstore_prefix and mailstore_suffix are how many lines the MTA's transport adds"


def ready(name: str) -> bool:
    """Whether a file of this name stands for a finished message: `.env`, which is renamed when `.msg` is there."""
    return disk.ready(name) and name.endswith(".env")


def files(name: str) -> tuple[str, ...]:
    """All files of the message, in the order in which they are removed: `.msg` alone is no message."""
    base = name.removesuffix(".env")
    return (f"{base}.env", f"{base}.msg")


def read(folder: int, name: str, prefix_lines: int = 0, suffix_lines: int = 0) -> Held:
    """The message whose `.env` has this name. Raises Failure."""
    found = envelope(folder, name, prefix_lines, suffix_lines)
    with disk.opened(folder, files(name)[1]) as file:
        return Held(found, *disk.text(name, file))


def envelope(folder: int, name: str, prefix_lines: int = 0, suffix_lines: int = 0) -> Envelope:
    """Its envelope; accepted when `.env` was written. Raises Failure."""
    with disk.opened(folder, name) as file:
        octets = b""
        for block in file.blocks():
            octets += block
            if len(octets) > LIMIT:
                raise Failure(f"{name} is larger than {LIMIT} octets")
        *lines, last = octets.decode("utf-8", "surrogateescape").split("\n")
        if last or len(lines) < prefix_lines + 2 + suffix_lines:
            raise Failure(f"{name} is damaged: it has no sender and recipients, each on a whole line")
        sender, *recipients = lines[prefix_lines : len(lines) - suffix_lines]
        try:
            return Envelope(_sender(sender), tuple(map(_recipient, recipients)), file.mtime)
        except addresses.AddressError as error:
            raise Failure(f"{name}: not an address where one should be: {error}", advice=_LINES_ADVICE) from error


def _sender(line: str) -> str:
    """As MAIL had it, quotes and all; "" is the null sender. Raises AddressError."""
    return _whole(line) if line else ""


def _recipient(line: str) -> Addressee:
    """With the quotes that its local part needs. Raises AddressError."""
    local, at, domain = line.rpartition("@")
    if not at:
        raise addresses.AddressError(f"{addresses.excerpt(line)} has no domain")
    return Addressee(_whole(f"{mailboxes.quoted(local)}@{domain}"))


def _whole(text: str) -> str:
    """A mailbox with a domain: a line of a prefix or suffix seldom is one. Raises AddressError."""
    address = mailboxes.read(text)
    if not addresses.split(address)[1]:
        raise addresses.AddressError(f"{addresses.excerpt(text)} has no domain")
    return address


# -- writing --------------------------------------------------------------------------------------------------------


def write(folder: int, base: str, held: Held) -> str:
    """The message as `base`.env and .msg; the name of the first, which comes last and on disk. Raises Failure.

    Of the envelope this format has sender and recipients, and when it was accepted as mtime.
    """
    told = envelopes.writable(held.envelope)
    try:
        lines = [_whole(told.sender) if told.sender else "", *(_bare(one.address) for one in told.recipients)]
    except addresses.AddressError as error:
        raise Failure(f"mailstore has no room for this envelope: {error}") from error
    octets = "".join(f"{line}\n" for line in lines).encode("utf-8")
    with durable.writing(base), disk.Writing() as writing:
        writing.file(folder, f"{base}.tmp", [octets], told.at)
        writing.file(folder, f"{base}.msg", wire.text(held.header, held.body))
        writing.rename(folder, f"{base}.tmp", folder, f"{base}.env")
        writing.done(folder)
    return f"{base}.env"


def _bare(address: str) -> str:
    """As Exim writes a recipient. Raises AddressError."""
    local, domain = addresses.split(_whole(address))
    if local.startswith('"'):
        local = addresses.unescaped(local[1:-1])
    return f"{local}@{domain}"
