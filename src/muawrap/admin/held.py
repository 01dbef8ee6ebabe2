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

WIDTHS = (7, 8, 19, 24, 32)
"""Columns of a row, but for its last: fixed, since nobody knows the last row when the first is printed."""
HEADINGS = ("age", "size", "next try", "sender", "recipients", "last error")


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
    click.echo(_told(heading, spool.keeper))
    rows = listing.failed(spool) if failed else listing.rows(spool)
    for number, row in enumerate(rows):
        if number == 0:
            click.echo(_line(HEADINGS))
        click.echo(_line(_cells(row)))


def _told(heading: Heading, keeper: Keeper) -> str:
    """One line about a host, or about the outbox."""
    if heading.messages:
        count = "1 message" if heading.messages == 1 else f"{heading.messages} messages"
        parts = [f"{count}, {size(heading.octets)}"]
    else:
        parts = ["nothing held" if keeper.name != settings.OUTBOX else "nothing waits"]
    if heading.state is not None:
        parts += [f"next try {moment(heading.state.record.next)}"]
        parts += [f"last error: {heading.state.error}"] if heading.state.error else []
    parts += [f"{heading.failed} failed (--failed shows them)"] if heading.failed else []
    parts += [f"{heading.archived} in the archive"] if heading.archived else []
    return report.printable(f"{heading.name}: {'; '.join(parts)}")


def _cells(row: Row) -> tuple[str, ...]:
    first, more = row.recipients[:1], len(row.recipients) - 1
    return (
        span(time.time() - row.at) if row.at else "?",
        size(row.entry.size),
        moment(row.next),
        "?" if row.sender is None else f"<{row.sender}>",
        f"{first[0]}{f' and {more} more' if more else ''}" if first else "?",
        row.error or "-",
    )


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
