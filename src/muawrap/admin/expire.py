"""`muawrap expire`: what has been held for too long is given up, and the folders are tidied."""

from __future__ import annotations

import os

import click

from muawrap import report
from muawrap.admin import ship as shipping
from muawrap.admin.screen import complain, told
from muawrap.config import load
from muawrap.failure import TRY_AGAIN, Failure, unexpected
from muawrap.holding import settings
from muawrap.holding.shipping import plan, settling
from muawrap.holding.shipping.expire import expire
from muawrap.holding.waiting.flush import Flush
from muawrap.reading import descriptors


@click.command()
@click.option("-C", "--config", metavar="FILE", help="This configuration instead of the one that is found.")
@click.option("--all", "everything", is_flag=True, help="Every [hold.NAME], one by one.")
@click.option("--outbox", is_flag=True, help="What has waited in your outbox for too long.")
@click.option("--dry-run", is_flag=True, help="Show what would be given up; nothing is changed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; with --dry-run one a message.")
@click.argument("host", required=False)
def command(config: str | None, everything: bool, outbox: bool, dry_run: bool, as_json: bool, host: str | None) -> None:
    """Give up what has been held for HOST longer than max_age, as on_expire has it; nothing is sent to the host.

    It also removes what is too old in the archive, and unfinished files. Without HOST: all hosts. It ends with 0 where
    nothing had to be given up, 69 where something was, 75 where that must wait, 78 where the configuration is wrong.
    """
    descriptors.fill()
    if [everything, outbox, host is not None].count(True) > 1:
        raise click.UsageError("name one HOST, or all of them with --all, or --outbox")
    facts = report.Facts()
    try:
        settled = load(config, os.environ)
        facts.follow(settled)
        flush = Flush(settled) if outbox else None
        keepers = [flush.keeper] if flush is not None else settings.chosen(settled, host)
    except Failure as failure:
        complain(failure)
        report.event("failed", facts, [("host", host or ""), ("error", told(failure))], error=True)
        raise SystemExit(os.EX_CONFIG) from None
    if dry_run:
        plans = (plan.to_expire(one) for one in keepers)
        raise SystemExit(shipping.show_plans(plans, as_json, everything=host is None and not outbox))
    tallies = []
    for keeper in keepers:
        try:
            tally = expire(keeper, settled, flush.road.tell if flush is not None else None)
            if tally.busy:  # unlike ship, which is looked after by whoever is at it
                raise Failure(
                    "another muawrap is at work in its folder",
                    lead=TRY_AGAIN,
                    advice="run it again when that has ended",
                )
        except Exception as error:
            tally = shipping.failed(keeper, settled, unexpected(error))
        tally.kept = 0  # what is not too old is none of its business
        tallies.append(tally)
    raise SystemExit(shipping.tell(tallies, as_json, everything=host is None, main=settling.EXPIRED))
