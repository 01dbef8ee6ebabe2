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
from muawrap.holding.shipping.road import Enough, Road, Wishes
from muawrap.holding.store.scan import Entry
from muawrap.holding.store.spool import Spool

SEND, WAIT, DISCARD, EXPIRE, UNREADABLE = "send", "wait", "discard", "expire", "unreadable"


class Plan(NamedTuple):
    """One message, and what would become of it."""

    what: str  # one of the above
    host: str  # of [hold.NAME], or "outbox"
    entry: Entry
    envelope: Envelope | None  # None where it cannot be read
    accepted: float  # seconds since the epoch
    next: float = 0  # when it is tried, seconds since the epoch; 0: now
    error: str = ""


def to_ship(keeper: Keeper, wishes: Wishes, road: Road) -> Iterator[Plan]:
    """Every message, in the order in which it would be sent, until there would be enough. Raises Failure."""
    now = clock.now()
    with road.opened(keeper, report.Facts(), False) as spool:
        host = due.next_try(keeper, spool.record(), now, wishes.now)
        left = wishes.limit or -1
        for plan in _all(spool, road.entries(spool)):
            noted = spool.note(plan.entry.name)
            soonest = host
            if noted is not None and noted.error:
                soonest = max(host, due.next_try(keeper, noted, now, wishes.now))
            if plan.what == UNREADABLE or soonest:
                yield plan if plan.what == UNREADABLE else plan._replace(what=WAIT, next=soonest)
            elif left:
                try:
                    made = _made(spool, road, plan)
                except Enough:
                    return
                left -= made.what == SEND
                yield made


def _made(spool: Spool, road: Road, plan: Plan) -> Plan:
    """What would become of a message whose turn has come. Raises Enough."""
    try:
        held = spool.read(plan.entry)
    except Failure as failure:
        return plan._replace(what=UNREADABLE, error=str(failure))
    try:
        return plan if road.made(held) is not None else plan._replace(what=DISCARD)
    except Failure as failure:
        return plan._replace(what=WAIT, error=str(failure))


def to_expire(keeper: Keeper) -> Iterator[Plan]:
    """Every message that is too old. Raises Failure."""
    now = clock.now()
    with Spool(keeper, make=False) as spool:
        host = spool.record()
        for plan in _all(spool, spool.entries()):
            last = due.last_failed(keeper, host, spool.note(plan.entry.name), plan.accepted, now)
            if last is None or plan.envelope is None:
                continue
            if due.given_up(keeper, last, plan.envelope, plan.accepted, now):
                yield plan._replace(what=EXPIRE)


def _all(spool: Spool, entries: Iterable[Entry]) -> Iterator[Plan]:
    for entry in entries:
        try:
            envelope = spool.envelope(entry)
        except Failure as failure:
            yield Plan(UNREADABLE, spool.keeper.name, entry, None, entry.mtime, error=str(failure))
            continue
        seen = due.seen_at(spool, entry, envelope, clock.now()) or clock.now()
        yield Plan(SEND, spool.keeper.name, entry, envelope, seen)
