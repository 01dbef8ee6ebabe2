"""What is held, in rows that are made one by one, however many there are (INTERMITTENT 6.6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from muawrap.failure import Failure
from muawrap.holding.formats import batchsmtp
from muawrap.holding.held import Envelope
from muawrap.holding.store.records import Noted
from muawrap.holding.store.scan import Entry
from muawrap.holding.store.spool import Spool

FIRST = 1_000_000_000
"""2001: a time before it is that of a machine whose clock had not been set."""


class Heading(NamedTuple):
    """One host, and how much is held for it."""

    name: str
    messages: int
    octets: int
    failed: int
    archived: int
    state: Noted | None  # of the host


class Row(NamedTuple):
    """One message."""

    entry: Entry
    at: float  # when it was accepted, seconds since the epoch; 0 where no clock that can be believed said so
    sender: str | None  # None where it cannot be read
    recipients: tuple[str, ...]
    next: float  # when it is tried next, seconds since the epoch; 0: as soon as somebody tries
    error: str  # what went wrong last, or what is wrong with its file
    kept_for: str  # what went wrong before it was held, in an outbox; else ""
    why: Mapping[str, Any]  # of one that has failed: what is told about that


def heading(spool: Spool) -> Heading:
    """Counted by directories only. Raises Failure."""
    messages, octets = spool.total("new", "cur")
    return Heading(spool.keeper.name, messages, octets, spool.total("failed")[0], spool.archived(), spool.record())


def rows(spool: Spool) -> Iterator[Row]:
    """Of each message that is ready, oldest first; one that is damaged says so. Raises Failure.

    Before its folder is tried for the first time, a message of the outbox says what it was kept for.
    """
    state = spool.record()
    for entry in spool.entries():
        note = spool.note(entry.name)
        later = max((noted.record.next for noted in (state, note) if noted is not None), default=0)
        row = _row(spool, entry, later, note.error if note is not None else "", {})
        yield row if row.error or state is not None else row._replace(error=row.kept_for)


def failed(spool: Spool) -> Iterator[Row]:
    """Of each message that was refused or parked, oldest first. Raises Failure."""
    for aside in spool.failed():
        error = next((str(aside.why[key]) for key in ("reply", "error", "reason") if aside.why.get(key)), "")
        yield _row(spool, aside.entry, 0, error, aside.why)


def exported(spool: Spool) -> Iterator[bytes | Failure]:
    """All that is ready as one stream of batch SMTP, without notes, of which Exim takes ten and no more.

    A message that cannot be read is not in it, but its Failure is. Raises Failure.
    """
    for entry in spool.entries():
        try:
            held = spool.read(entry)
        except Failure as failure:
            yield failure
        else:
            yield from batchsmtp.write(held, noted=False)


def _row(spool: Spool, entry: Entry, later: float, error: str, why: Mapping[str, Any]) -> Row:
    try:
        envelope = spool.envelope(entry)
    except Failure as failure:
        return Row(entry, _believed(entry.mtime), None, (), later, str(failure), "", why)
    named = tuple(one.address for one in envelope.recipients)
    kept_for = dict(envelope.facts).get("error", "")
    return Row(entry, _at(envelope, entry), envelope.sender, named, later, error, kept_for, why)


def _at(envelope: Envelope, entry: Entry) -> float:
    return _believed(envelope.at) or _believed(entry.mtime)


def _believed(moment: float) -> float:
    return moment if moment > FIRST else 0
