"""Messages that have waited too long are given up, as `on_expire` has it: told of, archived or discarded."""

from __future__ import annotations

from collections.abc import Collection

from muawrap import report
from muawrap.config import Config
from muawrap.failure import TRY_AGAIN, Failure
from muawrap.holding import clock
from muawrap.holding.settings import Keeper
from muawrap.holding.shipping import due
from muawrap.holding.shipping.journal import Journal
from muawrap.holding.shipping.settling import EXPIRED, Settling, Tally, Tell, Work
from muawrap.holding.store.records import Noted
from muawrap.holding.store.spool import Spool


def expire(keeper: Keeper, config: Config, tell: Tell | None = None) -> Tally:
    """Give up what is too old for one host, and tidy its folder; nothing is sent. Raises Failure."""
    facts = report.Facts()
    facts.follow(config)
    tally = Tally(keeper.name)
    with Spool(keeper, facts) as spool, spool.lock() as ours:
        if not ours:
            tally.busy = True
            return tally
        work = Settling(keeper, config, spool, tally, tell)
        work.replay()
        over_age(work, spool.record())
        spool.tidy(clock.now())
        tally.kept, _ = spool.total("new", "cur")
    return tally


def over_age(work: Settling, host: Noted | None, ways: Collection[str] | None = None) -> None:
    """Give up every message that is too old, for those whose rule says so. Raises Failure.

    host  its record: what no try has failed for may be tried now, and has that try first (INTERMITTENT 6.5)
    ways  where there are several, which are down: only messages that are put off for one of them
    """
    spool = work.spool
    for entry in spool.entries():
        if entry.name in work.blocked:
            continue
        try:
            envelope, now = spool.envelope(entry), clock.now()
            accepted = due.accepted_at(spool, entry, envelope, now)
            own = spool.note(entry.name)
            if ways is not None and (own is None or own.way not in ways):
                continue
            last = due.last_failed(work.keeper, host, own, accepted, now)
            over = due.given_up(work.keeper, last, envelope, accepted, now) if last is not None else ()
            if last is None or not over:
                continue
            held = spool.read(entry)
        except Failure as failure:
            work.damaged(entry, failure)
            continue
        one = Work(entry, held, Journal(spool, entry))
        work.finish(one, work.give_up(one, dict.fromkeys(over, Failure(last.error, lead=TRY_AGAIN)), EXPIRED))
