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
    """When what has this record may be tried; 0: now. `at_once` does away with its next try, not with min_interval."""
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
    name, host = _trouble(keeper, failure)
    record = schedule.failed(noted.record if noted else None, _rule(keeper, host, name, domain), now)
    return Noted(record, failure.sentence(), name, host)


def message_failed(
    keeper: Keeper,
    noted: Noted | None,
    failure: Failure,
    envelope: Envelope,
    number: int,
    now: float,
    age: float | None,
) -> Noted:
    """The record of a message after this, which befell that one of its recipients; `age` None: it is of no account.

    When the message was first seen stays, even where the record is so old that it tells nothing else any more.
    """
    name, host = _trouble(keeper, failure)
    rule = _recipients_rule(keeper, name, host, envelope, number)
    record = schedule.failed(noted.record if noted else None, rule, now, age)
    if noted is not None and clock.is_sane(noted.record.first):
        record = record._replace(first=min(noted.record.first, record.first))
    return Noted(record, failure.sentence(), name, host)


def last_failed(keeper: Keeper, host: Noted | None, message: Noted | None, accepted: float, now: float) -> Noted | None:
    """The last try, which failed; None where no such is on record. That of a host is there until it is up again.

    A host that was down before the message came, and is due, may be up for it (INTERMITTENT 6.5).
    """
    if host is not None and host.record.last < accepted and is_ready(keeper, host.record, now):
        host = None
    return next((one for one in (host, message) if one is not None and one.error), None)


def given_up(keeper: Keeper, last: Noted, envelope: Envelope, accepted: float, now: float) -> frozenset[int]:
    """The numbers of those for whom a last try that failed like this was one too many, or is by now."""
    return frozenset(
        number
        for number in range(len(envelope.recipients))
        if _is_over(keeper, _recipients_rule(keeper, last.name, last.host, envelope, number), accepted, now)
    )


def is_last(keeper: Keeper, failure: Failure, envelope: Envelope, number: int, accepted: float, now: float) -> bool:
    """Whether this was the last try for that one of the recipients."""
    return _is_over(keeper, _recipients_rule(keeper, *_trouble(keeper, failure), envelope, number), accepted, now)


def _is_over(keeper: Keeper, rule: Rule, accepted: float, now: float) -> bool:
    """Whether a failure is final: by a rule without sets, or beyond max_age, else beyond the last cutoff of the rule.

    Nothing is too old by a clock that cannot be right (INTERMITTENT 3.1, 3.2, 6.0, 6.5).
    """
    return not rule.sets or (clock.is_sane(now) and now - accepted > (keeper.max_age or schedule.cutoff(rule)))


def _trouble(keeper: Keeper, failure: Failure) -> tuple[str, str]:
    """What retry rules call the error, and the host it is about."""
    return outcome.error_name(failure), outcome.host_name(failure, keeper.hosts)


def _recipients_rule(keeper: Keeper, name: str, host: str, envelope: Envelope, number: int) -> Rule:
    """What a recipient's own trouble is goes by the address, all other by the host."""
    address = envelope.recipients[number].address
    first = keeper.hosts[0].host if keeper.hosts else domain_of(address)
    key = address if name.startswith("rcpt_") else host or first
    return _rule(keeper, key, name, domain_of(address), envelope.sender)


def accepted_at(spool: Spool, entry: Entry, envelope: Envelope, now: float) -> float:
    """When the message came, as `seen_at` has it; where it is seen for the first time, that is kept in its record."""
    seen = seen_at(spool, entry, envelope, now)
    if not seen:
        noted = spool.note(entry.name)
        first = Record(now, now, now)
        spool.set_note(entry.name, noted._replace(record=first) if noted is not None else Noted(first))
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


def _rule(keeper: Keeper, key: str, error: str, domain: str, sender: str | None = None) -> Rule:
    found = keeper.rules.find(key, error, domain, sender)
    if found is None:
        found = retry.DEFAULT.find(key, error, domain)
    assert found is not None  # the default rules have one for everything
    return found


def domain_of(address: str) -> str:
    """What stands behind the last "@"."""
    return address.rpartition("@")[2]
