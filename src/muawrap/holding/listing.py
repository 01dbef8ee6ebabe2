"""What is held, in rows that are made one by one, however many there are (INTERMITTENT 6.6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from muawrap.failure import Failure
from muawrap.holding import clock
from muawrap.holding.formats import batchsmtp
from muawrap.holding.shipping import due
from muawrap.holding.store.records import Noted
from muawrap.holding.store.scan import Entry
from muawrap.holding.store.spool import Spool


class Heading(NamedTuple):
    """One host, and how much is held for it."""

    name: str
    messages: int
    octets: int
    failed: int
    archived: int
    state: Noted | None  # of the host
    next: float  # when that is tried next, seconds since the epoch; 0: as soon as somebody tries


class Row(NamedTuple):
    """One message."""

    entry: Entry
    at: float  # when it was accepted or first seen, seconds since the epoch; 0 where no clock that can be right said so
    sender: str | None  # None where it cannot be read
    recipients: tuple[str, ...]
    next: float  # when it is tried next, seconds since the epoch; 0: as soon as somebody tries
    error: str  # what went wrong last, or what is wrong with its file
    kept_for: str  # what went wrong before it was held, in an outbox; else ""
    why: Mapping[str, Any]  # of one that has failed: what is told about that


def heading(spool: Spool) -> Heading:
    """Counted by directories only. Raises Failure."""
    messages, octets = spool.total("new", "cur")
    state = spool.record()
    failed, archived = spool.total("failed")[0], spool.archived()
    return Heading(spool.keeper.name, messages, octets, failed, archived, state, _next(spool, state))


def rows(spool: Spool) -> Iterator[Row]:
    """Of each message that is ready, oldest first; one that is damaged says so. Raises Failure.

    Before its folder is tried for the first time, a message of the outbox says what it was kept for.
    """
    state = spool.record()
    for entry in spool.entries():
        note = spool.note(entry.name)
        tried = note if note is not None and note.error else None  # else it says only when it was first seen
        later = max(_next(spool, state), _next(spool, tried))
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


def _next(spool: Spool, noted: Noted | None) -> float:
    """When what has this record is tried next; 0 where it has none, or one that only a wrong clock can have left."""
    if noted is None:
        return 0
    now = clock.now()
    return 0 if noted.record.next > now and due.is_ready(spool.keeper, noted.record, now) else noted.record.next


def _row(spool: Spool, entry: Entry, later: float, error: str, why: Mapping[str, Any]) -> Row:
    try:
        envelope = spool.envelope(entry)
    except Failure as failure:
        at = entry.mtime if clock.is_sane(entry.mtime) else 0
        return Row(entry, at, None, (), later, str(failure), "", why)
    named = tuple(one.address for one in envelope.recipients)
    kept_for = dict(envelope.facts).get("error", "")
    seen = due.seen_at(spool, entry, envelope, clock.now())
    at = seen if clock.is_sane(seen) else 0
    return Row(entry, at, envelope.sender, named, later, error, kept_for, why)
