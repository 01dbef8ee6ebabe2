"""One run through a host's messages: each is sent, and what went wrong is found to be the host's or its own trouble."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NoReturn

from muawrap import report, signals
from muawrap.config import Config
from muawrap.failure import REFUSED, UNCERTAIN, Failure
from muawrap.holding import clock
from muawrap.holding.settings import Keeper
from muawrap.holding.shipping import due, expire, outcome, settling
from muawrap.holding.shipping.bounce import Loss
from muawrap.holding.shipping.journal import Journal
from muawrap.holding.shipping.lines import Hosts, Lines, hosts_of, way_of
from muawrap.holding.shipping.outcome import Scope
from muawrap.holding.shipping.road import Enough, Road, Wishes
from muawrap.holding.shipping.settling import EXPIRED, Settling, Tally, Work
from muawrap.holding.store.records import Noted
from muawrap.holding.store.scan import Entry
from muawrap.holding.store.spool import Spool
from muawrap.mail import Receipt, Recipient, Transaction
from muawrap.report import Pairs
from muawrap.submission.connection import Trace

PATIENCE = 60
"""Seconds of min_interval that --now waits for; it is not sent away for so little."""


def interrupt(failure: Failure) -> NoReturn:
    """What a signal does, where signals are watched: it ends what is being sent, and the run after it."""
    raise KeyboardInterrupt


class _Down(Exception):
    """Nothing more goes to this host now."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure


class Load(Work):
    """A message about to be sent."""

    def __init__(self, work: Work, transaction: Transaction) -> None:
        super().__init__(work.entry, work.held, work.journal)
        self.transaction = transaction._replace(
            before_end=lambda recipients: self.journal.dot(self.numbers(recipients))
        )

    def numbers(self, recipients: tuple[Recipient, ...]) -> frozenset[int]:
        """Whom of the envelope these stand for."""
        if not self.transaction.partial:
            return self.everybody
        addresses = {recipient.address for recipient in recipients}
        named = self.held.envelope.recipients
        return frozenset(number for number, one in enumerate(named) if one.address in addresses)

    def refused(self, failures: tuple[Exception, ...]) -> dict[int, Failure]:
        """Which of the envelope's recipients these are about."""
        by_address = {one.recipient.strip("<>"): one for one in failures if isinstance(one, Failure)}
        named = self.held.envelope.recipients
        return {number: by_address[one.address] for number, one in enumerate(named) if one.address in by_address}


class Run:
    """One host's messages, one after the other."""

    def __init__(
        self,
        keeper: Keeper,
        config: Config,
        spool: Spool,
        tally: Tally,
        road: Road,
        wishes: Wishes,
        trace: Trace | None,
        progress: Callable[[str], None],
    ) -> None:
        self._keeper = keeper
        self._spool = spool
        self._tally = tally
        self._road = road
        self._wishes = wishes
        self._progress = progress
        self._line = Lines(trace)
        self._down: dict[Hosts, Failure] = {}  # nothing more goes there in this run
        self._up: set[str] = set()  # ways by which something went in this run
        self._tried = 0  # messages
        self._guard = 0.0  # until when min_interval holds messages back that PATIENCE is for
        self._settling = Settling(keeper, config, spool, tally, road.tell)
        self._begun = clock.now()
        self._end = time.monotonic() + wishes.seconds if wishes.seconds else float("inf")
        self._left = wishes.limit or -1
        self._broken: tuple[Failure, str] | None = None  # of the message before, and whose trouble is not known yet
        self._noted: Noted | None = None  # the record of the host; where there are several, messages have it
        self.over = False
        self.waits = False  # until the next try of the host

    def all(self) -> None:
        """All that is due, until nothing more comes. Raises Failure."""
        spool, tally = self._spool, self._tally
        self._noted = None if self._road.several else spool.record()
        spool.settle()
        if next(spool.entries(), None) is None:
            self._settling.replay()
            return
        soonest = self._soonest()
        if soonest:
            tally.not_due, self.over = not tally.done and tally.failure is None, True
            tally.guarded = self._wishes.now
            self.waits = True
            self._settling.until(soonest)
        else:
            try:
                self._settling.replay()
                self._passes()
                if self._waited():
                    self._passes()
                if self._broken is not None:
                    self._is_down(*self._broken)
                if self._down:
                    raise _Down(next(iter(self._down.values())))
                self._too_early()
            except _Down:
                self.over = self.waits = True
                ways = frozenset(map(way_of, self._down)) if self._road.several else None
                expire.over_age(self._settling, self._noted, ways)
            except KeyboardInterrupt:
                self.over = tally.stopped = True
            finally:
                self._line.close()
                self._progress("")
        tally.kept, _ = spool.total("new", "cur")

    def _soonest(self) -> float:
        """When the host may be tried, 0 where that is now; min_interval is waited for where somebody waits for us.

        Whoever says that the host is up must not hear "not now" and then wait for hours.
        """
        keeper, at_once = self._keeper, self._wishes.now
        soonest = due.next_try(keeper, self._noted, clock.now(), at_once)
        left = soonest - clock.now()
        if at_once and 0 < left <= PATIENCE:
            self._progress(f"{keeper.name}: tried a moment ago, and once more in {left:.0f} s")
            time.sleep(left)
            soonest = due.next_try(keeper, self._noted, clock.now(), at_once)
        return soonest

    def _waited(self) -> bool:
        """Whether there are messages that min_interval held back for so little that it has been waited for."""
        left = self._guard - clock.now()
        if self.over or not 0 < left < self._end - time.monotonic():
            return False
        self._line.close()
        self._progress(f"{self._keeper.name}: tried a moment ago, and once more in {left:.0f} s")
        if signals.watched():
            signals.watch(interrupt)
        time.sleep(left)
        signals.then(lambda: None)
        return True

    def _too_early(self) -> None:
        """Whoever asked for it, or has several hosts, is told where nothing was tried, for all of it waits."""
        tally = self._tally
        if (self._wishes.now or self._road.several) and tally.next and not self._tried:
            tally.not_due = not tally.done and tally.failure is None
            tally.guarded = self._wishes.now
            self.over = self.waits = True

    def _passes(self) -> None:
        while self._pass() and not self.over:
            self._spool.settle()

    def _pass(self) -> int:
        """Every message that is due, once; how many were tried."""
        before = self._tried
        self._tally.next = 0.0  # whatever waits says so once more
        loads = self._loads()
        load = next(loads, None)
        while load is not None:
            following = next(loads, None)  # its envelope leaves with this text
            hosts = hosts_of(load.transaction)
            if hosts in self._down:
                self._put_off(load, self._down[hosts])
            else:
                self._tried += 1
                self._try(load, following)
            load = following
        return self._tried - before

    def _try(self, load: Load, following: Load | None) -> None:
        """Raises KeyboardInterrupt, Failure, and _Down where nothing more can go anywhere."""
        try:
            self._send(load, following)
        except _Down as down:
            self._down[hosts_of(load.transaction)] = down.failure
            if not self._road.several:
                raise

    # -- which messages

    def _loads(self) -> Iterator[Load]:
        for entry in self._road.entries(self._spool):
            if not self._left or time.monotonic() >= self._end:
                self.over = True
                return
            if not self._is_due(entry):
                continue
            try:
                load = self._load(entry)
            except Enough:
                self.over = True
                return
            if load is not None:
                self._left -= 1
                yield load

    def _is_due(self, entry: Entry) -> bool:
        """Whether it has not been tried in this run, and may be tried by its own record."""
        if entry.name in self._settling.blocked:
            return False
        noted = self._spool.note(entry.name)
        if noted is None or not noted.error:
            return True
        record, now = noted.record, clock.now()
        if self._begun <= record.last <= max(now, self._begun):  # later than now is a wrong clock's
            self._settling.until(record.next)
            return False
        soonest = 0 if noted.way in self._up else due.next_try(self._keeper, noted, now, self._wishes.now)
        if not soonest:
            return True
        self._settling.until(soonest)
        if self._wishes.now and soonest - now <= PATIENCE:
            self._guard = max(self._guard, soonest)
        return False

    def _load(self, entry: Entry) -> Load | None:
        """The message read and made ready; None where it cannot be, and that has been seen to."""
        try:
            held = self._spool.read(entry)
        except Failure as failure:
            self._settling.damaged(entry, failure)
            return None
        work = Work(entry, held, Journal(self._spool, entry))
        try:
            transaction = self._road.made(held)
        except Failure as failure:
            self._tried += 1
            self._message_failed(work, work.everybody, failure)
            return None
        if transaction is None:
            self._settling.event("discarded", work, [])
            self._settling.finish(work, work.everybody)
            return None
        return Load(work, transaction)

    # -- sending

    def _send(self, load: Load, following: Load | None) -> None:
        """One message, and what becomes of it. Raises KeyboardInterrupt, _Down and Failure."""
        try:
            if signals.watched():
                signals.watch(interrupt)  # raises it where a signal has come already
            receipt = self._line.deliver(load.transaction, following.transaction if following else None)
        except KeyboardInterrupt:
            signals.then(lambda: None)
            load.journal.no("interrupted by a signal")
            load.journal.close()
            raise
        except Failure as failure:
            signals.then(lambda: None)
            self._failed(load, failure)
        else:
            signals.then(lambda: None)
            self._sent(load, receipt)
        self._progress(f"{self._keeper.name}: {self._tally.sent} sent, {self._tally.octets // 1000} kB")

    def _sent(self, load: Load, receipt: Receipt) -> None:
        refused, unknown = load.refused(receipt.refused), load.refused(receipt.unknown)
        accepted = load.journal.dotted - refused.keys() - unknown.keys()
        if accepted == load.journal.dotted:
            load.journal.ack(receipt.reply)
        else:
            load.journal.parted(accepted, refused)
        self._is_up(load)
        self._tally.sent += 1
        self._tally.octets += receipt.size
        named = load.held.envelope.recipients
        facts = [
            ("by", receipt.host),
            ("tls", receipt.tls),
            ("user", receipt.user),
            ("size", str(receipt.size)),
            ("reply", receipt.reply),
            ("degraded", "; ".join(receipt.degraded)),
            *_redirected(load.transaction, receipt),
            self._settling.age(load),
        ]
        self._settling.event("sent", load, facts, [Loss(named[number], "") for number in sorted(accepted)])
        self._parted(load, accepted, refused, unknown)

    def _failed(self, load: Load, failure: Failure) -> None:
        scope = outcome.scope(failure)
        if scope is Scope.UNCERTAIN:
            self._uncertain(load, failure)
            return
        self._spool.still_locked()  # that is why it failed, and no trouble of the host
        dotted = load.journal.dotted or load.everybody
        load.journal.no(failure.sentence())
        if scope is Scope.HOST:
            load.journal.close()
            if self._road.several:
                self._put_off(load, failure)
            self._is_down(failure, _domain(load))
        elif scope is Scope.BROKEN:
            self._is_broken(load, failure)
        elif scope is Scope.RECIPIENTS and load.transaction.partial:
            self._is_up(load)
            self._recipients_failed(load, frozenset(), load.refused(failure.reasons or (failure,)))
        else:
            self._is_up(load)
            self._message_failed(load, dotted, failure)

    # -- whose trouble it is

    def _is_up(self, load: Load) -> None:
        """The host has said something about a message."""
        self._broken = None
        self._up.add(way_of(hosts_of(load.transaction)))
        if self._noted is not None:
            self._spool.set_record(None)
            self._noted = None

    def _is_down(self, failure: Failure, domain: str) -> NoReturn:
        if not self._road.several:
            self._noted = due.host_failed(self._keeper, self._noted, failure, domain, clock.now())
            self._spool.set_record(self._noted)
            self._settling.until(self._noted.record.next)
        self._tally.failure = failure
        self._broken = None
        facts = self._settling.facts()
        report.event("failed", facts, [("host", self._keeper.name), ("error", failure.sentence())], error=True)
        raise _Down(failure)

    def _put_off(self, load: Load, failure: Failure) -> None:
        """Of several lists of hosts each has its own trouble: it is on record with every message that goes there."""
        way = way_of(hosts_of(load.transaction))
        self._settling.put_off(load, 0, failure, self._begun, ages=False, way=way)

    def _is_broken(self, load: Load, failure: Failure) -> None:
        """In the middle of a message: one that breaks every connection must not stop the others for ever."""
        self._try_later(load, frozenset(), dict.fromkeys(load.everybody, failure), ages=False)
        self._is_broken_again(load, failure)

    def _parted(
        self, load: Load, accepted: frozenset[int], refused: dict[int, Failure], unknown: dict[int, Failure]
    ) -> None:
        """Each recipient has its own verdict; those without one are parked, or sent to once more, as the owner says."""
        gone = accepted
        if unknown:
            gone |= self._settling.uncertain(load, unknown, next(iter(unknown.values())))
        left = {number: failure for number, failure in unknown.items() if number not in gone}
        self._recipients_failed(load, gone, {**refused, **left})

    def _uncertain(self, load: Load, failure: Failure) -> None:
        if failure.shares is not None and load.transaction.partial:  # nobody has it for certain
            verdicts = load.refused(failure.reasons)
            refused = {number: one for number, one in verdicts.items() if one.lead != UNCERTAIN}
            load.journal.parted((), refused)
            unknown = {number: one for number, one in verdicts.items() if one.lead == UNCERTAIN}
            self._parted(load, frozenset(), refused, unknown)
            return
        numbers = load.journal.dotted
        gone = self._settling.uncertain(load, numbers, failure)
        self._wait(load, gone, dict.fromkeys(sorted(numbers), failure), ages=False)
        self._is_broken_again(load, failure)

    def _is_broken_again(self, load: Load, failure: Failure) -> None:
        """Once may be the message's own trouble, twice in a row is the host's; what a signal broke is nobody's.

        Raises KeyboardInterrupt where one has come.
        """
        if signals.watched():
            signals.watch(interrupt)
            signals.then(lambda: None)
        again = self._broken is not None
        self._broken = failure, _domain(load)
        if again:
            self._is_down(*self._broken)

    # -- who did not get it

    def _message_failed(self, work: Work, numbers: frozenset[int], failure: Failure) -> None:
        self._recipients_failed(work, frozenset(), dict.fromkeys(numbers, failure))

    def _recipients_failed(self, work: Work, accepted: frozenset[int], failures: dict[int, Failure]) -> None:
        """Some have it, some do not, and for each of these there is a reason; whoever has none is tried again."""
        refused = {number: failure for number, failure in failures.items() if failure.lead == REFUSED}
        gone = accepted | self._settling.give_up(work, refused, settling.REFUSED)
        passing = {number: failure for number, failure in failures.items() if number not in refused}
        if not passing and work.everybody - gone:
            passing = dict.fromkeys(refused, next(iter(failures.values())))
            self._wait(work, gone, passing)
            return
        self._try_later(work, gone, passing)

    def _try_later(self, work: Work, gone: frozenset[int], failures: dict[int, Failure], ages: bool = True) -> None:
        """These wait, but for those whose last try it was."""
        gone |= self._settling.give_up(work, self._settling.last_of(work, failures), EXPIRED)
        self._wait(work, gone, failures, ages)

    def _wait(self, work: Work, gone: frozenset[int], failures: dict[int, Failure], ages: bool = True) -> None:
        """The message is seen to; whoever is left waits for its next try."""
        entry = self._settling.finish(work, gone)
        if entry is None or not failures:
            return
        waiting = sorted(work.everybody - gone)
        number = next((number for number in failures if number in waiting), waiting[0])
        failure = failures.get(number) or next(iter(failures.values()))
        kept = Work(entry, work.only(waiting), Journal(self._spool, entry))
        self._settling.keep(kept, waiting.index(number), failure, self._begun, ages)


def _redirected(transaction: Transaction, receipt: Receipt) -> Pairs:
    """As whom and to whom it went, where that is not what its envelope says."""
    if transaction.partial:
        return []
    return [("as", f"<{receipt.sender}>"), ("final", ",".join(one.shown for one in transaction.recipients))]


def _domain(work: Work) -> str:
    return work.held.envelope.recipients[0].address.rpartition("@")[2]
