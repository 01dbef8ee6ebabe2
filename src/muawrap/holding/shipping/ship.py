"""What is held for a host goes there over one connection, and what comes meanwhile with it (INTERMITTENT 6.4).

    wake, lock, is it due? -> replay journals -> each message, oldest first -> look once more -> unlock

Whoever finds the folder locked leaves the mark `again` and goes: the one who is at work looks once more for it. How a
held message becomes a transaction is the Road's: that of a host is `to_host`, the outbox has one of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from muawrap import report
from muawrap.config import Config
from muawrap.failure import Failure
from muawrap.holding import clock
from muawrap.holding.settings import Keeper
from muawrap.holding.shipping.road import Road, Wishes
from muawrap.holding.shipping.run import Run
from muawrap.holding.shipping.settling import Tally, told
from muawrap.submission.connection import Trace


def ship(
    keeper: Keeper,
    config: Config,
    road: Road,
    wishes: Wishes,
    trace: Trace | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Tally:
    """Send what is due; the Tally tells what went wrong, too. Raises Failure where the folder cannot be had at all."""
    facts = report.Facts()
    facts.follow(config)
    tally = Tally(keeper.name)
    with road.opened(keeper, facts, True) as spool:
        run = Run(keeper, config, spool, tally, road, wishes, trace, progress)
        while True:
            spool.wake(wishes.now)
            with spool.lock() as ours:
                if not ours:
                    tally.busy = not tally.done
                    return tally
                try:
                    run.all()
                    if road.tidies:
                        spool.tidy(clock.now())
                except Failure as failure:
                    tally.broken_off(failure)
                    with suppress(Failure):
                        tally.kept, _ = spool.total("new", "cur")
                    report.event("failed", facts, [("host", keeper.name), ("error", told(failure))], error=True)
                    return tally
            if run.over and not (run.waits and spool.urgent()):
                return tally
            if run.over:  # while we found that the host was down, somebody was told that we look once more
                wishes = wishes._replace(now=True)
                tally.begin_again()
                run = Run(keeper, config, spool, tally, road, wishes, trace, progress)
            elif not spool.awake():
                return tally
