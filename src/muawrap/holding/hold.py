"""Messages from an MTA, on disk in a host's folder before the MTA is told that they are held (INTERMITTENT 6.3)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from muawrap import addresses, signals
from muawrap.failure import Failure
from muawrap.holding import clock
from muawrap.holding.formats import batchsmtp, maildir
from muawrap.holding.held import Addressee, Envelope, Held
from muawrap.holding.store import done
from muawrap.holding.store.spool import Spool, fresh_name
from muawrap.reading.message import as_it_is

NULL_SENDERS = ("", "<>", "MAILER-DAEMON")
"""How callers write the null sender; the last is Postfix's pipe(8) without `null_sender=`, and has no domain."""
# What a pipe transport puts before the header by default; a field may have a blank before its colon, but no word.
_FROM_LINE = re.compile(rb">?From [ \t]*[^ \t:\n][^\n]*\n")


class Interrupted(Failure):
    """A signal came before the message was on disk."""


def watch() -> None:
    """From now on a signal raises Interrupted, until all of a message is on disk."""
    signals.watch(_interrupted)


def _interrupted(failure: Failure) -> None:
    raise Interrupted(failure.what, lead=failure.lead)


class Kept(NamedTuple):
    """What was held, for the log."""

    messages: int
    new: int  # of these; the others had been held before
    size: int  # octets of their header blocks and bodies
    name: str  # of the file of the last one
    envelope: Envelope  # of the last one


def one(spool: Spool, sender: str, recipients: Sequence[str], identity: str, source: Iterator[bytes]) -> Kept:
    """A message with its envelope beside it. Raises Failure, and then there is nothing of it.

    identity   what the caller has a name for is held once, however often it is given to us; "": it has none
    """
    if not recipients:
        raise Failure("no recipient is named behind the host")
    bare = "" if sender in NULL_SENDERS else _without_brackets(sender)
    addressees = tuple(Addressee(_without_brackets(recipient)) for recipient in recipients)
    header, body = as_it_is(source)
    if not header and not body.size:
        raise Failure("standard input is empty, and no MTA sends a message without a header")
    return _kept(spool, identity, [Held(Envelope(bare, addressees), header, body)])


def batch(spool: Spool, identity: str, source: Iterator[bytes]) -> Kept:
    """Messages as batch SMTP, all of them or none. Raises Failure, and then there is nothing of them."""
    return _kept(spool, identity, batchsmtp.transactions(source))


def _kept(spool: Spool, identity: str, messages: Iterable[Held]) -> Kept:
    kept = Kept(0, 0, 0, "", Envelope("", ()))

    def blocks() -> Iterator[tuple[str, Iterator[bytes]]]:
        nonlocal kept
        for number, given in enumerate(messages):
            held = completed(given, identity)
            name = _name(spool.keeper.name, identity, number, held)
            size = len(held.header) + held.body.size
            kept = Kept(number + 1, 0, kept.size + size, name, held.envelope)
            if not spool.has(name):
                yield name, batchsmtp.write(held)

    new = spool.put_all(blocks(), signals.decided)
    if not kept.messages:
        raise Failure("standard input holds no message", advice="with --bsmtp it is at least one transaction")
    return kept._replace(new=new)


def completed(held: Held, identity: str = "") -> Held:
    """The message as it is held: since now, and without what a transport puts above the header for a mailbox."""
    envelope = held.envelope
    named = (envelope.sender, *(one.address for one in envelope.recipients))
    envelope = envelope._replace(
        at=envelope.at or clock.now(),
        id=envelope.id or identity,
        utf8=envelope.utf8 or not all(map(addresses.is_ascii, named)),
    )
    return Held(envelope, held.header[_above(held.header) :], held.body)


def _above(header: bytes) -> int:
    """Octets of the lines that the transport has added: a mailbox file's separator, and the envelope as fields."""
    line = _FROM_LINE.match(header)
    begin = line.end() if line else 0
    return begin + maildir.top(header[begin:], maildir.OWN).end


def _name(host: str, identity: str, number: int, held: Held) -> str:
    """The same for a message that the caller names and gives to us once more, and otherwise one of its own."""
    if not identity:
        return fresh_name()
    envelope = held.envelope
    parts = (host, identity, str(number), envelope.sender, *sorted(one.address for one in envelope.recipients), "")
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape"))
    for block in held.body.blocks():
        digest.update(block)
    return done.NAMED + digest.hexdigest()[:40]


def _without_brackets(address: str) -> str:
    return address[1:-1] if address.startswith("<") and address.endswith(">") else address
