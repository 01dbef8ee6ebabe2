"""Messages that have waited too long are given up, as `on_expire` has it: told of, archived or discarded."""

from __future__ import annotations

from muawrap import report
from muawrap.config import Config
from muawrap.failure import TRY_AGAIN, Failure
from muawrap.holding import clock
from muawrap.holding.settings import Keeper
from muawrap.holding.shipping import due, settling
from muawrap.holding.shipping.journal import Journal
from muawrap.holding.shipping.settling import EXPIRED, Settling, Tally, Tell, Work
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
        over_age(work, settling.last_error(spool.record()))
        spool.tidy(clock.now())
        tally.kept, _ = spool.total("new", "cur")
    return tally


def over_age(work: Settling, reason: str) -> None:
    """Give up every message that is too old; `reason` is what went wrong with its host last. Raises Failure."""
    spool = work.spool
    for entry in spool.entries():
        if entry.name in work.blocked:
            continue
        try:
            envelope, now = spool.envelope(entry), clock.now()
            if not due.is_over_age(work.keeper, envelope, due.accepted_at(spool, entry, envelope, now), now):
                continue
            held = spool.read(entry)
        except Failure as failure:
            work.damaged(entry, failure)
            continue
        noted = spool.note(entry.name)
        last = Failure(noted.error if noted is not None and noted.error else reason, lead=TRY_AGAIN)
        one = Work(entry, held, Journal(spool, entry))
        work.finish(one, work.give_up(one, dict.fromkeys(one.everybody, last), EXPIRED))
