"""What waits in the outbox, or in a folder of keep_failed, on its way: smallest first, as sendmail would have sent it.

A message goes by the smart hosts that are configured now, with their accounts, to all its recipients or to none. The
run itself is `ship`'s; here is what the outbox has of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from muawrap import report
from muawrap.config import Config
from muawrap.errand import Errand
from muawrap.failure import TRY_AGAIN, Failure
from muawrap.holding import settings
from muawrap.holding.held import Held
from muawrap.holding.settings import Keeper
from muawrap.holding.shipping.road import Enough, Road
from muawrap.holding.store.scan import Entry
from muawrap.holding.store.spool import Spool
from muawrap.holding.waiting import resend
from muawrap.holding.waiting.leftovers import Leftovers
from muawrap.holding.waiting.notice import FACT, Notices
from muawrap.mail import Transaction
from muawrap.submission import wire


class Flush:
    """One run: `keeper` and `road` are for `ship`."""

    def __init__(self, config: Config, octets: int = 0) -> None:
        """`octets`: none is begun that would take the run beyond so many, as SIZE= counts them. Raises Failure."""
        self.keeper = settings.outbox(config)
        self._errand = Errand(config)
        self._notices = Notices(self._errand, self.keeper)
        self.road = Road(self._made, _smallest_first, self._notices.add, several=True, tidies=True)
        self._left = float(octets or "inf")

    def _made(self, held: Held) -> Transaction | None:
        """Raises Enough, and Failure, which is never final: what we ourselves refuse now may be mended."""
        if FACT in dict(held.envelope.facts):
            self._notices.leaves()
        try:
            made = resend.transaction(self._errand, held)
        except Failure as failure:
            failure.lead = TRY_AGAIN
            raise
        if made is not None:
            self._left -= max(wire.size(way.header, made.body) for way in made.ways)
            if self._left < 0:
                raise Enough
        return made


class Leftover(Flush):
    """The same for a folder of keep_failed: its owner looks on, so that nothing is given up and nobody else told."""

    def __init__(self, config: Config, folder: str, remark: Callable[[str], None], octets: int = 0) -> None:
        """`remark` is told of what is left alone in the folder, and why. Raises Failure."""
        super().__init__(config, octets)
        self.keeper = self.keeper._replace(
            max_age=float("inf"), on_expire="archive", on_refuse="archive", uncertain="park"
        )

        def opened(keeper: Keeper, facts: report.Facts, make: bool = True) -> Spool:
            return Leftovers(keeper, facts, folder, remark, make)

        self.road = self.road._replace(tell=None, opened=opened, tidies=False)


def _smallest_first(spool: Spool) -> Iterator[Entry]:
    """Over a narrow line, as many as possible before it breaks."""
    yield from sorted(spool.entries(), key=lambda entry: (entry.size, entry.mtime, entry.name))
