"""Whether a host or a message is due for a try, and whether a message has waited too long (INTERMITTENT 3.2, 6.5).

Where no rule matches, the default rules hold: Exim gives everything up then, and a rule somebody forgot is no reason to
lose mail. A rule without parameters says so itself.
"""

from __future__ import annotations

from muawrap.failure import Failure
from muawrap.holding import clock
from muawrap.holding.held import Envelope
from muawrap.holding.rules import retry, schedule
from muawrap.holding.rules.retry import Rule
from muawrap.holding.rules.schedule import Record
from muawrap.holding.settings import Keeper
from muawrap.holding.shipping import outcome
from muawrap.holding.store.records import Noted
from muawrap.holding.store.scan import Entry
from muawrap.holding.store.spool import Spool

_AHEAD = 86_400  # seconds by which an arrival may seem to lie in the future before it counts as a wrong clock's


def next_try(keeper: Keeper, noted: Noted | None, now: float, at_once: bool) -> float:
    """When the host may be tried; 0 where that is now. `at_once` does away with its next try, not with min_interval."""
    if noted is None:
        return 0
    record = noted.record
    soonest = record.last + keeper.min_interval
    if record.last <= now < soonest:
        return soonest if at_once or is_ready(keeper, record, now) else max(soonest, record.next)
    return 0 if at_once or is_ready(keeper, record, now) else record.next


def is_ready(keeper: Keeper, record: Record, now: float) -> bool:
    """By its own next try; one that is further away than any rule can have it is a wrong clock's (INTERMITTENT 6.0)."""
    return all(schedule.ready(record, now, rule) for rule in tuple(keeper.rules) or tuple(retry.DEFAULT))


def host_failed(keeper: Keeper, noted: Noted | None, failure: Failure, domain: str, now: float) -> Noted:
    """The record of the host after this."""
    name = outcome.host_name(failure, keeper.hosts)
    rule = _rule(keeper, name, outcome.error_name(failure), domain)
    record = schedule.failed(noted.record if noted else None, rule, now)
    return Noted(record, failure.sentence())


def may_wait(keeper: Keeper, failure: Failure, envelope: Envelope) -> bool:
    """Whether there is another try at all after this."""
    return bool(_message_rule(keeper, failure, envelope).sets)


def message_failed(
    keeper: Keeper, noted: Noted | None, failure: Failure, envelope: Envelope, now: float, age: float | None
) -> Noted:
    """The record of a message after this; `age` None: its age is of no account."""
    rule = _message_rule(keeper, failure, envelope)
    return Noted(schedule.failed(noted.record if noted else None, rule, now, age), failure.sentence())


def _message_rule(keeper: Keeper, failure: Failure, envelope: Envelope) -> Rule:
    """What a recipient's own trouble is goes by the address, all other by the host."""
    error = outcome.error_name(failure)
    first = envelope.recipients[0].address
    key = first if error.startswith("rcpt_") else outcome.host_name(failure, keeper.hosts)
    return _rule(keeper, key, error, domain_of(first), envelope.sender)


def accepted_at(spool: Spool, entry: Entry, envelope: Envelope, now: float) -> float:
    """When the message came, as `seen_at` has it; where it is seen for the first time, that is kept in its record."""
    seen = seen_at(spool, entry, envelope, now)
    if not seen:
        noted = spool.note(entry.name)
        spool.set_note(entry.name, Noted(Record(now, now, now), noted.error if noted else ""))
    return seen or now


def seen_at(spool: Spool, entry: Entry, envelope: Envelope, now: float) -> float:
    """When the message came: as its envelope or its file says, or when it was first seen where that cannot be.

    0, where nobody has seen it under a clock that can be right; `now`, where the present one cannot.
    """
    told = envelope.at or entry.mtime
    if clock.is_sane(told) and told <= now + _AHEAD:
        return told
    if not clock.is_sane(now):
        return now
    noted = spool.note(entry.name)
    known = noted is not None and clock.is_sane(noted.record.first) and noted.record.first <= now
    return noted.record.first if noted is not None and known else 0


def is_over_age(keeper: Keeper, envelope: Envelope, accepted: float, now: float) -> bool:
    """Whether one more try is the last one; never by a clock that cannot be right."""
    return clock.is_sane(now) and now - accepted > longest(keeper, envelope)


def longest(keeper: Keeper, envelope: Envelope) -> float:
    """How many seconds the message may wait: max_age, else the last cutoff of the rule for its host."""
    if keeper.max_age:
        return keeper.max_age
    domain = domain_of(envelope.recipients[0].address)
    return schedule.cutoff(_rule(keeper, keeper.hosts[0].host if keeper.hosts else domain, "", domain))


def _rule(keeper: Keeper, key: str, error: str, domain: str, sender: str | None = None) -> Rule:
    found = keeper.rules.find(key, error, domain, sender)
    if found is None:
        found = retry.DEFAULT.find(key, error, domain)
    assert found is not None  # the default rules have one for everything
    return found


def domain_of(address: str) -> str:
    """What stands behind the last "@"."""
    return address.rpartition("@")[2]
