"""`muawrap held`: what is held for each host, or waits in the outbox, and when it is tried next."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import click

from muawrap import report
from muawrap.admin.screen import complain, moment, size, span
from muawrap.config import load
from muawrap.failure import Failure
from muawrap.holding import listing, settings
from muawrap.holding.listing import Heading, Row
from muawrap.holding.settings import Keeper
from muawrap.holding.store.spool import Spool

WIDTHS = (7, 8, 26)
"""Columns of a row, but for its last: fixed, since nobody knows the last row when the first is printed."""
HEADINGS = ("age", "size", "sender", "recipients")
INDENT = " " * (WIDTHS[0] + 2)
"""Before what else there is to tell of a message, so that a row is not wider than a terminal."""


@click.command()
@click.option("-C", "--config", metavar="FILE", help="This configuration instead of the one that is found.")
@click.option("--outbox", is_flag=True, help="What waits in your outbox.")
@click.option("--failed", is_flag=True, help="What was refused for good or parked, and why.")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
@click.option("--export", type=click.Choice(["bsmtp"]), help="All of HOST's messages as one batch for sendmail -bS.")
@click.argument("host", required=False)
def command(
    config: str | None, outbox: bool, failed: bool, as_json: bool, export: str | None, host: str | None
) -> None:
    """Show what is held, for how long, and when it is tried next; nothing is changed.

    Without HOST this is every [hold.NAME] of the configuration; where there is none, your outbox.
    """
    if host and outbox:
        raise click.UsageError("HOST and --outbox exclude each other")
    if export and not (host or outbox):
        raise click.UsageError("--export wants a HOST, or --outbox")
    if export and (failed or as_json):
        raise click.UsageError("--export is of what waits, and excludes --failed and --json")
    try:
        settled = load(config, os.environ)
        facts = report.Facts()
        facts.follow(settled)
        if host:
            keepers = [settings.keeper(settled, host)]
        else:
            keepers = [] if outbox else settings.keepers(settled)
            keepers = keepers or [settings.outbox(settled)]
    except Failure as failure:
        complain(failure)
        raise SystemExit(os.EX_CONFIG) from failure
    good = True
    for number, keeper in enumerate(keepers):
        try:
            with Spool(keeper, facts, make=False) as spool:
                if export:
                    good = _export(spool) and good
                elif as_json:
                    _in_json(spool, failed)
                else:
                    _table(spool, failed, apart=number > 0)
        except Failure as failure:
            complain(failure)
            good = False
    raise SystemExit(0 if good else os.EX_TEMPFAIL)


def _export(spool: Spool) -> bool:
    """Whether all of it could be read."""
    good = True
    for piece in listing.exported(spool):
        if isinstance(piece, Failure):
            complain(piece)
            good = False
        else:
            sys.stdout.buffer.write(piece)
    return good


def _table(spool: Spool, failed: bool, apart: bool) -> None:
    heading = listing.heading(spool)
    if apart:
        click.echo()
    for line in _told(heading, spool.keeper, failed):
        click.echo(report.printable(line))
    rows = listing.failed(spool) if failed else listing.rows(spool)
    for number, row in enumerate(rows):
        if number == 0:
            click.echo(_line(HEADINGS))
        click.echo(_line(_cells(row)))
        for line in _put_aside(spool, row) if failed else _remarks(row, heading.next):
            click.echo(INDENT + report.printable(line))


def _told(heading: Heading, keeper: Keeper, failed: bool) -> list[str]:
    """A line about a host, or about the outbox, and one about what went wrong with it last."""
    if failed:
        count = f"{heading.failed} failed" if heading.failed else "nothing has failed"
        return [f"{heading.name}: {count}"]
    if heading.messages:
        count = "1 message" if heading.messages == 1 else f"{heading.messages} messages"
        parts = [f"{count}, {size(heading.octets)}"]
    else:
        parts = ["nothing held" if keeper.name != settings.OUTBOX else "nothing waits"]
    if heading.state is not None:
        parts += [_when(heading.next)]
    parts += [f"{heading.failed} failed (--failed shows them)"] if heading.failed else []
    parts += [f"{heading.archived} in the archive"] if heading.archived else []
    error = heading.state.error if heading.state is not None else ""
    return [f"{heading.name}: {'; '.join(parts)}", *([f"last error: {error}"] if error else [])]


def _when(then: float) -> str:
    if not then:
        return "next try now"
    return f"next try {moment(then)}" + (", which is now" if then <= time.time() else "")


def _cells(row: Row) -> tuple[str, ...]:
    first, more = row.recipients[:1], len(row.recipients) - 1
    return (
        span(time.time() - row.at) if row.at else "?",
        size(row.entry.size),
        "?" if row.sender is None else f"<{row.sender}>",
        f"{first[0]}{f' and {more} more' if more else ''}" if first else "?",
    )


def _remarks(row: Row, after: float) -> list[str]:
    """What is this message's own trouble: its next try where its host, due at `after`, can be tried earlier."""
    found = [_when(row.next)] if row.next > after else []
    return [*found, *([f"last error: {row.error}"] if row.error else [])]


def _put_aside(spool: Spool, row: Row) -> list[str]:
    """Why, and where it is for whoever wants to remove it or move it back."""
    outcome = row.why.get("outcome")
    return [f"{outcome}: {row.error}" if outcome else row.error or "-", f"in {spool.path}/failed/{row.entry.name}"]


def _line(cells: tuple[str, ...]) -> str:
    return "  ".join(
        report.printable(cell).ljust(width) for cell, width in zip(cells, (*WIDTHS, 0), strict=True)
    ).rstrip()


def _in_json(spool: Spool, failed: bool) -> None:
    """Times in seconds since the epoch, null for none; octets that are not UTF-8 as they are in Python."""
    for row in listing.failed(spool) if failed else listing.rows(spool):
        fields: dict[str, Any] = {
            "host": spool.keeper.name,
            "name": row.entry.name,
            "format": row.entry.format,
            "at": row.at or None,
            "size": row.entry.size,
            "sender": row.sender,
            "recipients": row.recipients,
            "next": row.next or None,
            "error": row.error or None,
        }
        click.echo(json.dumps({**fields, "why": row.why} if failed else fields))
