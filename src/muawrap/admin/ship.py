"""`muawrap ship`: what is held for a host, sent over one connection; and what every run says."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from typing import Any

import click

from muawrap import report, signals
from muawrap.admin import screen
from muawrap.config import Config, load
from muawrap.failure import TRY_AGAIN, Failure, unexpected
from muawrap.holding import clock, settings
from muawrap.holding.settings import Keeper
from muawrap.holding.shipping import plan, road, run, settling
from muawrap.holding.shipping.plan import Plan
from muawrap.holding.shipping.road import Road, Wishes
from muawrap.holding.shipping.settling import Tally
from muawrap.holding.shipping.ship import ship
from muawrap.holding.store.spool import Spool
from muawrap.holding.waiting.flush import Flush, Leftover
from muawrap.reading import descriptors
from muawrap.schema import Bad, duration


def _seconds(ctx: click.Context, param: click.Parameter, value: str) -> float:
    try:
        return duration(int(value) if value.isdigit() else value)
    except Bad as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@click.option("-C", "--config", metavar="FILE", help="This configuration instead of the one that is found.")
@click.option("-v", "--verbose", is_flag=True, help="Show the dialogue, without secrets.")
@click.option("--all", "everything", is_flag=True, help="Every [hold.NAME] that has something due, one by one.")
@click.option("--now", is_flag=True, help="The host is up: do not wait for the next try, but for min_interval.")
@click.option("--to", "address", metavar="ADDR[:PORT]", help="Another address of the host, where trust_caller is true.")
@click.option("--limit", type=click.IntRange(1), default=None, metavar="N", help="At most so many messages.")
@click.option("--time", "seconds", callback=_seconds, default="0", metavar="T", help="Begin none after so long: 10m.")
@click.option("--outbox", is_flag=True, help="What waits in your outbox, by the smart hosts; smallest first.")
@click.option("--from", "folder", metavar="DIR", help="With --outbox: what keep_failed has kept in DIR instead.")
@click.option("--max-bytes", "octets", type=click.IntRange(1), metavar="N", help="With --outbox: no more than that.")
@click.option("--dry-run", is_flag=True, help="Show what would be sent; nobody is contacted.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; with --dry-run one a message.")
@click.argument("host", required=False)
def command(
    config: str | None,
    verbose: bool,
    everything: bool,
    now: bool,
    address: str | None,
    limit: int | None,
    seconds: float,
    outbox: bool,
    folder: str | None,
    octets: int | None,
    dry_run: bool,
    as_json: bool,
    host: str | None,
) -> None:
    """Send what is held for HOST, a [hold.NAME] of the configuration or one of its domains, over one connection.

    It ends with 0 where all that was due has been delivered, 75 where something waits for later, 69 where something was
    given up for good, and 78 where the configuration is wrong. One run at a time: others leave word, and end with 0.
    """
    descriptors.fill()
    if [everything, outbox, host is not None].count(True) != 1:
        raise click.UsageError("name one HOST, or all of them with --all, or --outbox")
    if not outbox and (folder is not None or octets is not None):
        raise click.UsageError("--from and --max-bytes go with --outbox")
    if address is not None and host is None:
        raise click.UsageError("--to goes with one HOST")
    facts = report.Facts()
    try:
        settled = load(config, os.environ)
        facts.follow(settled)
        flush = _flush(settled, folder, octets or 0) if outbox else None
        if flush is not None:
            keepers, roads = [flush.keeper], [flush.road]
        else:
            keepers = settings.chosen(settled, host)
            roads = [road.to_host(settled, one, road.address_of(one, address) if address else None) for one in keepers]
    except Failure as failure:
        screen.complain(failure)
        # Exim, which runs this for ETRN, shows nobody what is said here.
        report.event("failed", facts, [("host", host or ""), ("error", screen.told(failure))], error=True)
        raise SystemExit(os.EX_CONFIG) from None
    wishes = Wishes(now, limit or 0, seconds)
    work = list(zip(keepers, roads, strict=True))
    if dry_run:
        raise SystemExit(show_plans((plan.to_ship(keeper, wishes, way) for keeper, way in work), as_json, everything))
    raise SystemExit(shipped(settled, work, wishes, verbose, as_json, everything))


def _flush(settled: Config, folder: str | None, octets: int) -> Flush:
    """What there is to send from the outbox, or from a folder of keep_failed. Raises Failure."""
    if folder is None:
        return Flush(settled, octets)
    return Leftover(settled, folder, lambda text: click.echo(f"muawrap: {report.printable(text)}", err=True), octets)


def shipped(
    settled: Config, work: list[tuple[Keeper, Road]], wishes: Wishes, verbose: bool, as_json: bool, everything: bool
) -> int:
    """One run for each; what became of it is told, and is the exit status."""
    signals.watch(run.interrupt)
    trace = report.trace if verbose else None
    tallies = []
    for keeper, way in work:
        try:
            tally = ship(keeper, settled, way, wishes, trace, (lambda text: None) if verbose else report.progress)
        except KeyboardInterrupt:
            tally = Tally(keeper.name)
            tally.stopped = True
        except Exception as error:
            tally = failed(keeper, settled, unexpected(error))
        tallies.append(tally)
        if wishes.now and tally.not_due:  # somebody has asked for it, and need not see what is said here
            facts = report.Facts()
            facts.follow(settled)
            report.event("not-due", facts, [("host", keeper.name), ("next", screen.moment(tally.next))])
        if tally.stopped:
            break
    told_already = any(way.opened is not Spool for _, way in work)  # a folder of keep_failed tells of its files itself
    return tell(tallies, as_json, everything, spoken=verbose, told_already=told_already)


def failed(keeper: Keeper, settled: Config, failure: Failure) -> Tally:
    """Trouble with the folder itself, or with us: in the log, too, for whoever calls may not listen."""
    facts = report.Facts()
    facts.follow(settled)
    report.event("failed", facts, [("host", keeper.name), ("error", screen.told(failure))], error=True)
    tally = Tally(keeper.name)
    tally.broken_off(failure)
    return tally


# -- what is said ---------------------------------------------------------------------------------------------------


def tell(
    tallies: list[Tally],
    as_json: bool,
    everything: bool,
    *,
    spoken: bool = False,
    main: str = settling.SENT,
    told_already: bool = False,
) -> int:
    """Print what became of it; the exit status. `main` is the count that is told where all are nothing.

    Where nothing happened, nothing is said, unless somebody is there to read it: cron sends mail of every word. With
    --all a host that is down is no news, either; trouble of this machine always is.
    """
    if as_json:
        found = [_fields(tally, told_already) for tally in tallies]
        _say(json.dumps({"hosts": found, "status": _worst(tallies)} if everything else found[0]))
        return _worst(tallies)
    for tally in tallies:
        head = f"{tally.host}: " if everything else ""
        if not everything or spoken or os.isatty(2) or (tally.failure is not None and tally.failure.stage is None):
            for line in _remarks(tally, told_already):
                _say(f"muawrap: {tally.host}: {line}", err=True)
        if tally.done or os.isatty(1):
            _say(head + summary(tally, main))
    return _worst(tallies)


def _say(text: str, err: bool = False) -> None:
    """Tell it; that nobody can hear it changes no status."""
    try:
        click.echo(text, err=err)
    except OSError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), 2 if err else 1
        )  # so that the end of Python does not try it once more


def summary(tally: Tally, main: str) -> str:
    """The counts that are not nothing, and when the next try is due."""
    counts = [(name, getattr(tally, name)) for name in ("sent", "kept", "refused", "expired", "parked")]
    told = [f"{name} {count}" for name, count in counts if count] or [f"{main} 0"]
    return " ".join([*told, *([f"next {screen.moment(tally.next)}"] if tally.next else [])])


def _remarks(tally: Tally, told_already: bool) -> Iterator[str]:
    """`told_already`: where what was parked is now."""
    if tally.busy:
        yield "already shipping; whoever is at it looks once more"
    if tally.not_due:
        why = "it was tried less than min_interval ago" if tally.guarded else "retry time not reached"
        way_out = "" if tally.guarded else " (--now does not wait for it)"
        yield f"{why}, next at {screen.moment(tally.next)}{way_out}"
    if tally.stopped:
        yield "stopped by a signal"
    if tally.failure is not None:
        yield screen.told(tally.failure)
    if tally.parked and not told_already:
        which = "--outbox" if tally.host == settings.OUTBOX else tally.host
        yield f"what was parked may have been sent, and is not sent again (muawrap held --failed {which} shows it)"


def status(tally: Tally) -> int:
    """What one run comes to, by sysexits.h."""
    if tally.status:
        return tally.status
    if tally.refused or tally.expired or tally.parked:
        return os.EX_UNAVAILABLE
    if tally.kept or tally.not_due or tally.stopped or tally.failure is not None:
        return os.EX_TEMPFAIL
    return os.EX_OK


_ORDER = (os.EX_OK, os.EX_TEMPFAIL, os.EX_UNAVAILABLE, os.EX_CONFIG)


def _worst(tallies: list[Tally]) -> int:
    found = [status(tally) for tally in tallies]
    return max(found, key=lambda one: _ORDER.index(one) if one in _ORDER else len(_ORDER), default=os.EX_OK)


def _fields(tally: Tally, told_already: bool) -> dict[str, Any]:
    return {
        "host": tally.host,
        "sent": tally.sent,
        "kept": tally.kept,
        "refused": tally.refused,
        "expired": tally.expired,
        "parked": tally.parked,
        "octets": tally.octets,
        "next": tally.next or None,
        "remarks": list(_remarks(tally, told_already)),
        "status": status(tally),
    }


# -- what would be done ---------------------------------------------------------------------------------------------


def show_plans(plans: Iterable[Iterator[Plan]], as_json: bool, everything: bool) -> int:
    """A line for each message, of `everything` with its host; nothing is done."""
    try:
        for made in plans:
            for one in made:
                head = f"{one.host}: " if everything else ""
                _say(json.dumps(_plan_fields(one)) if as_json else head + _plan_line(one))
    except Failure as failure:
        screen.complain(failure)
        return os.EX_TEMPFAIL if failure.lead == TRY_AGAIN else os.EX_CONFIG
    return os.EX_OK


def _plan_line(one: Plan) -> str:
    parts = [one.what.ljust(6), one.entry.name, screen.size(one.entry.size)]
    parts.append(screen.span(clock.now() - one.accepted))
    if one.envelope is not None:
        first, *others = (f"<{recipient.address}>" for recipient in one.envelope.recipients)
        parts.append(f"<{one.envelope.sender}> {first}" + (f" and {len(others)} more" if others else ""))
    if one.next:
        parts.append(f"next {screen.moment(one.next)}")
    return report.printable(" ".join([*parts, one.error]).rstrip())


def _plan_fields(one: Plan) -> dict[str, Any]:
    return {
        "host": one.host,
        "what": one.what,
        "name": one.entry.name,
        "size": one.entry.size,
        "accepted": one.accepted,
        "sender": one.envelope.sender if one.envelope is not None else None,
        "recipients": [each.address for each in one.envelope.recipients] if one.envelope is not None else None,
        "next": one.next or None,
        "error": one.error,
    }
