"""What `ship` and `expire` would do now with what is held for a host; nothing is changed and nobody contacted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from muawrap import report
from muawrap.failure import Failure
from muawrap.holding import clock
from muawrap.holding.held import Envelope
from muawrap.holding.settings import Keeper
from muawrap.holding.shipping import due
from muawrap.holding.shipping.road import Road, Wishes
from muawrap.holding.store.scan import Entry
from muawrap.holding.store.spool import Spool

SEND, WAIT, EXPIRE, UNREADABLE = "send", "wait", "expire", "unreadable"


class Plan(NamedTuple):
    """One message, and what would become of it."""

    what: str  # one of the above
    entry: Entry
    envelope: Envelope | None  # None where it cannot be read
    accepted: float  # seconds since the epoch
    next: float = 0  # when it is tried, seconds since the epoch; 0: now
    error: str = ""


def to_ship(keeper: Keeper, wishes: Wishes, road: Road) -> Iterator[Plan]:
    """Every message, in the order in which it would be sent. Raises Failure."""
    now = clock.now()
    with road.opened(keeper, report.Facts(), False) as spool:
        host = due.next_try(keeper, spool.record(), now, wishes.now)
        left = wishes.limit or -1
        for plan in _all(spool, road.entries(spool)):
            noted = spool.note(plan.entry.name)
            soonest = host
            if noted is not None and noted.error and not wishes.now:
                soonest = max(host, 0 if due.is_ready(keeper, noted.record, now) else noted.record.next)
            if plan.what == UNREADABLE or soonest:
                yield plan if plan.what == UNREADABLE else plan._replace(what=WAIT, next=soonest)
            elif left:
                left -= 1
                yield plan


def to_expire(keeper: Keeper) -> Iterator[Plan]:
    """Every message that is too old. Raises Failure."""
    now = clock.now()
    with Spool(keeper, make=False) as spool:
        for plan in _all(spool, spool.entries()):
            if plan.envelope is not None and due.is_over_age(keeper, plan.envelope, plan.accepted, now):
                yield plan._replace(what=EXPIRE)


def _all(spool: Spool, entries: Iterable[Entry]) -> Iterator[Plan]:
    for entry in entries:
        try:
            envelope = spool.envelope(entry)
        except Failure as failure:
            yield Plan(UNREADABLE, entry, None, entry.mtime, error=str(failure))
            continue
        yield Plan(SEND, entry, envelope, due.seen_at(spool, entry, envelope, clock.now()) or clock.now())
