"""What becomes of a held message once it is known who got it: removed, rewritten, put aside, its sender told.

The order of the steps is the promise (INTERMITTENT 6.4): whoever got it stands in the journal first; whoever is given
up is told, put aside and then in the journal; only then is the message removed, or rewritten for those who still wait;
the journal goes last. So a crash anywhere leaves a message that is neither lost nor sent again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from muawrap import report
from muawrap.config import Config
from muawrap.failure import TRY_AGAIN, UNCERTAIN, Failure
from muawrap.holding import clock
from muawrap.holding.held import Held
from muawrap.holding.settings import Keeper
from muawrap.holding.shipping import bounce, due, journal
from muawrap.holding.shipping.bounce import Loss
from muawrap.holding.shipping.journal import Journal
from muawrap.holding.store.scan import Entry
from muawrap.holding.store.spool import Spool
from muawrap.report import Pairs

SENT, REFUSED, EXPIRED, PARKED = "sent", "refused", "expired", "parked"
NO_VERDICT = "the end of the text may have left before a crash, and nobody knows whether it arrived"
Tell = Callable[[str, Held, Collection[Loss]], None]
"""Told of messages that were refused, expired or parked: which of these, the message, who does not get it."""


class Tally:
    """What has been done for one host, counted in messages, and what is left."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.sent = self.refused = self.expired = self.parked = 0
        self.kept: int | None = 0  # None: nobody could count them
        self.octets = 0  # of what was sent
        self.next = 0.0  # when the next try is due, seconds since the epoch; 0: nothing waits for a time
        self.not_due = False  # nothing was tried, because it is too early
        self.guarded = False  # and that by min_interval
        self.busy = False  # nothing was tried, because somebody else is at it
        self.stopped = False  # by a signal
        self.failure: Failure | None = None  # the host's, or our own
        self.status = 0  # of sysexits.h, where the run could not go on; 0: the rest tells it

    def broken_off(self, failure: Failure) -> None:
        """The run could not go on, for trouble of this machine."""
        self.failure, self.kept = failure, None
        self.status = os.EX_TEMPFAIL if failure.lead == TRY_AGAIN else failure.status or os.EX_CONFIG

    def begin_again(self) -> None:
        """Why nothing went is of no account any more."""
        self.not_due = self.guarded = False
        self.failure, self.next = None, 0.0

    @property
    def done(self) -> int:
        """Messages that did not stay as they were."""
        return self.sent + self.refused + self.expired + self.parked


class Work:
    """One message at hand."""

    def __init__(self, entry: Entry, held: Held, journal: Journal) -> None:
        self.entry = entry
        self.held = held
        self.journal = journal

    @property
    def everybody(self) -> frozenset[int]:
        """The numbers of all its recipients."""
        return frozenset(range(len(self.held.envelope.recipients)))

    def only(self, numbers: Collection[int]) -> Held:
        """The same message for some of them."""
        envelope = self.held.envelope
        chosen = tuple(envelope.recipients[number] for number in sorted(numbers))
        return self.held._replace(envelope=envelope._replace(recipients=chosen))


class Settling:
    """For one host's folder."""

    def __init__(self, keeper: Keeper, config: Config, spool: Spool, tally: Tally, tell: Tell | None = None) -> None:
        self.keeper = keeper
        self.config = config
        self.spool = spool
        self.tally = tally
        self._tell = tell
        self._moved = False  # the message at hand, as a whole
        self._hung: Failure | None = None  # the mail system of this machine, which is not waited for once more
        self.blocked: set[str] = set()  # names of messages that may have been sent, and whose journal cannot be read

    # -- what is known of a message

    def accepted_at(self, work: Work) -> float:
        """When it came. Raises Failure."""
        return due.accepted_at(self.spool, work.entry, work.held.envelope, clock.now())

    def last_of(self, work: Work, failures: Mapping[int, Failure]) -> dict[int, Failure]:
        """Those of the failures after which there is no other try, each by its own rule. Raises Failure."""
        if not failures:
            return {}
        envelope, accepted, now = work.held.envelope, self.accepted_at(work), clock.now()
        return {
            number: failure
            for number, failure in failures.items()
            if due.is_last(self.keeper, failure, envelope, number, accepted, now)
        }

    # -- one after the other

    def give_up(self, work: Work, failures: Mapping[int, Failure], outcome: str) -> frozenset[int]:
        """Tell the sender, and put the message aside for these; their numbers, none where that must wait."""
        if not failures:
            return frozenset()
        losses = {number: _loss(work.held, number, failure, outcome) for number, failure in failures.items()}
        named = list(losses.values())
        is_news = bool(losses.keys() - work.journal.told_of)
        how = {EXPIRED: self.keeper.on_expire, REFUSED: self.keeper.on_refuse, PARKED: "archive"}[outcome]
        try:
            if how == "bounce":
                how = self._bounce(work, losses, outcome)
        except Failure as failure:
            self.event("not-bounced", work, [("error", told(failure))], named, error=True)
            self.tally.failure = self.tally.failure or failure
            return frozenset()
        if self._tell is not None and is_news:
            work.journal.tell(outcome, named[0].reason, losses)
            self._tell(outcome, work.held, named)
            work.journal.told(losses)
        age = self.age(work)  # which may stand in the record that goes with the message
        self._put_aside(work, losses, outcome, how, _who_has_it(failures.values()))
        setattr(self.tally, outcome, getattr(self.tally, outcome) + 1)
        reasons = "; ".join(dict.fromkeys(one.reason for one in named))
        self.event(outcome, work, [("how", how), ("error", reasons), age], named, error=True)
        return frozenset(losses)

    def _bounce(self, work: Work, losses: Mapping[int, Loss], outcome: str) -> str:
        """What is left to be done when the sender has been told. Raises Failure."""
        told_of = work.journal.told_of
        hearing = bounce.told(work.held.envelope, (loss for number, loss in losses.items() if number not in told_of))
        if not hearing:
            return "bounce" if told_of & losses.keys() else "archive"
        if self._hung is not None:
            raise self._hung
        work.journal.tell(outcome, hearing[0].reason, losses)
        try:
            said = bounce.send(self.config, work.held, hearing, self.accepted_at(work), clock.now())
        except Failure as failure:
            if isinstance(failure.__cause__, TimeoutError):
                self._hung = failure
            raise
        work.journal.told(losses)
        self.event("bounced", work, [("mta", said)], hearing)
        return "bounce"

    def _put_aside(self, work: Work, losses: Mapping[int, Loss], outcome: str, how: str, sent: Collection[str]) -> None:
        spool, entry, now = self.spool, work.entry, clock.now()
        why = _why(outcome, how, losses.values(), sent, now)
        to_archive = how == "bounce" or outcome == EXPIRED
        self._moved = how != "discard" and losses.keys() == work.everybody
        if self._moved and to_archive:
            spool.archive(entry, now, why)
        elif self._moved:
            spool.fail(entry, why)
        else:
            if how != "discard" and to_archive:
                spool.archive_part(entry, work.only(losses), now, why)
            elif how != "discard":
                spool.fail_part(entry, work.only(losses), why)
            work.journal.gone(losses)

    def finish(self, work: Work, gone: Collection[int]) -> Entry | None:
        """Remove the message, or rewrite it for those who are not gone; the entry it is then. Raises Failure."""
        left = work.everybody - frozenset(gone)
        entry: Entry | None = None
        if not self._moved:
            if not left:
                self.spool.remove(work.entry)
            else:
                entry = self.spool.rewrite(work.entry, work.only(left)) if gone else work.entry
        work.journal.close()
        self._moved = False
        return entry

    def keep(self, work: Work, number: int, failure: Failure, begun: float, ages: bool = True) -> None:
        """Note when it is tried again, not before the run that `begun` then is over.

        `number` is of the recipient whom the failure befell. `ages`: the age of the message counts, too.
        """
        self.put_off(work, number, failure, begun, ages)
        self.event("kept", work, [("error", told(failure)), self.age(work)])

    def put_off(
        self, work: Work, number: int, failure: Failure, begun: float, ages: bool = True, way: str = ""
    ) -> None:
        """The same without a word in the log. `way`: the hosts that are down, where it is their trouble."""
        entry, envelope, now = work.entry, work.held.envelope, max(clock.now(), begun)
        age = now - due.accepted_at(self.spool, entry, envelope, now) if ages else None
        noted = due.message_failed(self.keeper, self.spool.note(entry.name), failure, envelope, number, now, age)
        self.spool.set_note(entry.name, noted._replace(way=way))
        self.until(noted.record.next)

    def until(self, moment: float) -> None:
        """Something is due then."""
        self.tally.next = min(self.tally.next or moment, moment)

    # -- after a crash

    def replay(self) -> None:
        """Finish what was begun: nothing is sent. Raises Failure."""
        names = set(self.spool.journals())
        for entry in self.spool.entries() if names else ():
            if entry.name in names:
                names.discard(entry.name)
                self._replay(entry)
        for name in names:  # the message is gone, and so is what it says
            self.spool.journal_remove(name)

    def _replay(self, entry: Entry) -> None:
        try:
            said = journal.progress(self.spool, entry)
            held = self.spool.read(entry)
        except Failure as failure:
            self.damaged(entry, failure)
            self.blocked.add(entry.name)
            return
        work = Work(entry, held, journal.reopened(self.spool, entry, said.told))
        gone = said.done & work.everybody
        uncertain = said.uncertain & work.everybody
        told_of = said.told & work.everybody
        if gone or told_of:
            self.event("recovered", work, [])
        if told_of and said.outcome in (REFUSED, EXPIRED):
            gone |= self.give_up(work, dict.fromkeys(told_of, Failure(said.reason, lead=TRY_AGAIN)), said.outcome)
        if uncertain:
            gone |= self.uncertain(work, uncertain, Failure(NO_VERDICT, lead=UNCERTAIN))
        self.finish(work, gone)

    def uncertain(self, work: Work, numbers: Collection[int], failure: Failure) -> frozenset[int]:
        """Nobody knows whether these got it: park it for them, or send it once more, as its owner wishes."""
        some_have_it = failure.shares is not None and bool(failure.shares.sent)
        failures = dict.fromkeys(numbers, failure)
        if self.keeper.uncertain == "resend" and not some_have_it and not self.last_of(work, failures):
            self.event("resend", work, [("error", failure.sentence())], error=True)
            work.journal.no("to be sent again")
            return frozenset()
        return self.give_up(work, failures, PARKED)

    def damaged(self, entry: Entry, failure: Failure) -> None:
        """A file that cannot be read stands where it stands, and is told of."""
        self.tally.failure = self.tally.failure or failure
        report.event("unreadable", self.facts(), [("host", self.keeper.name), ("error", told(failure))], error=True)

    # -- the log

    def facts(self) -> report.Facts:
        """Where the log is."""
        facts = report.Facts()
        facts.follow(self.config)
        return facts

    def event(self, name: str, work: Work, pairs: Pairs, losses: Collection[Loss] = (), error: bool = False) -> None:
        """A log line about a message; about some of its recipients where there are losses."""
        facts = self.facts()
        envelope = work.held.envelope
        facts.message_id = message_id(work.held)
        facts.sender = envelope.sender
        concerned = [one.addressee for one in losses] or envelope.recipients
        facts.recipients = tuple(one.address.removeprefix("\\") for one in concerned)  # a mark (RULES D2)
        report.event(name, facts, [("host", self.keeper.name), ("held", work.entry.name), *pairs], error=error)

    def age(self, work: Work) -> tuple[str, str]:
        """For the log: seconds, as far as they can be known."""
        now = clock.now()
        seen = due.seen_at(self.spool, work.entry, work.held.envelope, now) or now
        return "age", str(int(max(0.0, now - seen)))


def message_id(held: Held) -> str:
    """As the header has it, else what its MTA named it by."""
    for line in held.header.split(b"\n"):
        if line[:11].lower() == b"message-id:":
            return line[11:].strip().decode("utf-8", "surrogateescape")
    return held.envelope.id


def told(failure: Failure) -> str:
    """A failure as the log has it."""
    return failure.sentence() + (f" ({failure.advice})" if failure.advice else "")


def _loss(held: Held, number: int, failure: Failure, outcome: str) -> Loss:
    addressee = held.envelope.recipients[number]
    return Loss(addressee, failure.sentence(), failure.host, failure.reply, outcome == EXPIRED)


def _who_has_it(failures: Iterable[Failure]) -> list[str]:
    """Recipients that LMTP has delivered to, of a message that others did not get and that goes to all or nobody."""
    shares = [failure.shares for failure in failures if failure.shares is not None]
    return list(dict.fromkeys(one.address for share in shares for one in share.sent))


def _why(outcome: str, how: str, losses: Collection[Loss], sent: Collection[str], now: float) -> dict[str, Any]:
    """What stands beside a message put aside."""
    return {
        "outcome": outcome,
        "how": how,
        "time": now,
        "reply": next(iter(losses)).reason,
        "recipients": [one.addressee.address for one in losses],
        "reasons": {one.addressee.address: one.reason for one in losses},
        **({"sent": list(sent)} if sent else {}),
    }
