"""When something that failed is tried again: Exim's arithmetic, as functions of a record, a rule and the time.

Times are seconds since the epoch, whole ones or not, and spans are seconds; nobody asks a clock here
(INTERMITTENT 3.2, 6.0).
"""

from __future__ import annotations

import random as chance
from collections.abc import Callable, Iterator
from typing import NamedTuple

from muawrap.holding.rules.retry import THOUSAND, Rule, Set

INTERVAL_MAX = 24 * 3_600
"""No rule lets more than this pass between two tries: retry_interval_max of Exim, which cannot be more either."""
DATA_EXPIRE = 7 * 24 * 3_600
"""A record that was last written longer ago tells nothing: retry_data_expire of Exim."""
_GRACE = 1  # a second, by which sums of fractions may differ


class Record(NamedTuple):
    """What is known of a host, a message or a recipient that fails; a success throws it away."""

    first: float  # when it failed for the first time
    last: float  # when it was tried last, and this was written
    next: float  # when it is to be tried again
    expired: bool = False  # it failed beyond the last cutoff: what comes now has one try


def failed(
    record: Record | None,
    rule: Rule | None,
    now: float,
    age: float | None = None,
    random: Callable[[], float] = chance.random,
    *,
    oldest: float | None = None,
) -> Record:
    """The record after one more failure.

    rule    None, or one without sets: the first failure is final
    age     of the message, where the failure is the message's or a recipient's; a host's does not look at it
    random  from 0 up to 1, for H
    oldest  where the failure is the host's, the age of the oldest message that has now had its last try: if that is
            older than the last cutoff and the host is not, other mail has its try at once
    """
    if record is None or now - record.last > DATA_EXPIRE:
        record = Record(now, now, now)
    first = min(record.first, now)  # a clock may have gone wrong, and been put right
    failing = max(now - first, age or 0)
    sets = rule.sets if rule is not None else ()
    current = next((one for one in sets if failing <= one.cutoff), None)
    if current is None:
        return Record(first, now, now + _interval(sets[-1], record, now, random) if sets else now, True)
    if oldest is not None and oldest >= failing and outlived(rule, oldest):
        return Record(first, now, now)
    return Record(first, now, now + _interval(current, record, now, random))


def _interval(current: Set, record: Record, now: float, random: Callable[[], float]) -> float:
    """How long to wait: measured from a try that came late, not from when it was due."""
    if current.letter == "F":
        return min(current.interval, INTERVAL_MAX)
    gap = min(record.next - record.last, now - record.last)
    grown = int(gap * current.factor // THOUSAND)
    if current.letter == "G":
        return min(grown if gap >= current.interval else current.interval, INTERVAL_MAX)
    room = max(0, grown - current.interval)
    return min(current.interval + room // 2 + int(random() * room) // 2, INTERVAL_MAX)


def ready(record: Record | None, now: float, rule: Rule | None = None) -> bool:
    """Whether it may be tried.

    A next try that is further away than any interval of the rule was computed under a wrong clock, and is due
    (INTERMITTENT 6.0).
    """
    return record is None or now >= record.next or record.next - now > _largest(rule) + _GRACE


def _largest(rule: Rule | None) -> float:
    if rule is None or any(one.letter != "F" for one in rule.sets):
        return INTERVAL_MAX
    return min(max((one.interval for one in rule.sets), default=0), INTERVAL_MAX)


def cutoff(rule: Rule | None) -> float:
    """The last cutoff, in seconds: a message that is older has one last try. 0: the first failure is final."""
    return float(rule.sets[-1].cutoff) if rule is not None and rule.sets else 0.0


def outlived(rule: Rule | None, age: float) -> bool:
    """Whether a message of this age has its last try now, be the host ready or not, and is given up if it fails."""
    return age > cutoff(rule)


def tries(
    rule: Rule | None, until: float, random: Callable[[], float] = chance.random
) -> Iterator[tuple[float, float, bool]]:
    """A host that fails from 0 on and is tried as soon as it is due: for each try when, when next, and if expired."""
    record: Record | None = None
    now: float = 0
    while now <= until:
        record = failed(record, rule, now, random=random)
        yield now, record.next, record.expired
        if record.next <= now:
            return
        now = record.next


def dead(rule: Rule) -> list[Set]:
    """The sets that are never used, because one before them goes on for at least as long.

    The last is none of them: it is what counts beyond all cutoffs.
    """
    longest = 0
    found = []
    for one in rule.sets[:-1]:
        if one.cutoff <= longest:
            found.append(one)
        longest = max(longest, one.cutoff)
    return found
