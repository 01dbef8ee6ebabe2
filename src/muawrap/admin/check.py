"""`muawrap check`: the configuration read, every smart host reached, TLS and AUTH tried, nothing sent."""

from __future__ import annotations

import os
import time
from typing import NamedTuple

import click

from muawrap import keeping, report
from muawrap.admin.screen import table, told
from muawrap.config import Config, hosts_for, load
from muawrap.failure import Failure
from muawrap.mail import Body, Invocation, Message, Recipient, SmartHost
from muawrap.routing import transaction
from muawrap.routing.aliases import Aliases, Listing, parse
from muawrap.routing.members import MemberError, members
from muawrap.submission.opening import Opening
from muawrap.submission.ready import ready

HEADINGS = ("smart host", "for", "time", "TLS", "AUTH", "SIZE", "verdict")


class Finding(NamedTuple):
    """One row of the table, and what to say below it."""

    row: tuple[str, ...]
    good: bool
    remark: str = ""


@click.command()
@click.option("-C", "--config", metavar="FILE", help="This configuration instead of the one that is found.")
@click.option("-v", "--verbose", is_flag=True, help="Show the dialogues, without secrets.")
def command(config: str | None, verbose: bool) -> None:
    """Read the configuration, reach every smart host, try TLS and AUTH; nothing is sent."""
    raise SystemExit(run(config, verbose))


def run(given: str | None, verbose: bool) -> int:
    """Check everything and print it; 0 where a message could be sent by every smart host."""
    try:
        config = load(given, os.environ)
        files = Aliases(config.aliases, config.aliases_may_be_missing).files
    except Failure as failure:
        click.echo(told(failure), err=True)
        return 1
    click.echo(f"configuration  {config.source}")
    sender, sends = _sender(config)
    click.echo(f"sends as       {report.printable(sender)}")
    if config.keep_failed:
        click.echo(f"keeps failed   {report.printable(_keeps(config.keep_failed))}")
    for file in (parse(each.path, each.text) for each in files):
        click.echo(f"aliases        {file.path}: {len(file.entries)} names")
        for complaint in complaints(file):
            click.echo(f"               {report.printable(complaint)}")
    click.echo()
    findings = [_try(host, purpose, config, verbose) for host, purpose in all_hosts(config)]
    for line in table([HEADINGS, *(finding.row for finding in findings)]):
        click.echo(line)
    for finding in findings:
        if finding.remark:
            click.echo(f"\n{finding.remark}")
    if not findings:
        click.echo("no smart host is configured: set smart_hosts")
    return 0 if sends and findings and all(finding.good for finding in findings) else 1


def _sender(config: Config) -> tuple[str, bool]:
    """The envelope sender of the calling user's own mail, or why there is none."""
    nobody = Recipient("postmaster@example.invalid", ("postmaster@example.invalid",), "<postmaster@example.invalid>")
    try:
        trial = transaction.build(Invocation(), config, Message((), Body()), (nobody,), transaction.caller())
    except Failure as failure:
        return told(failure), False
    return " or ".join(dict.fromkeys(f"<{way.sender}>" for way in trial.ways)), True


def _keeps(folder: str) -> str:
    """Where messages that were not sent are kept, or why they cannot be."""
    try:
        os.close(keeping.opened(folder))
    except Failure as failure:
        return f"nothing: {told(failure)}"
    return folder


def all_hosts(config: Config) -> list[tuple[SmartHost, str]]:
    """Every smart host of the configuration with every account it is used with, and for whom."""
    found: dict[SmartHost, list[str]] = {}
    for route, account, purpose in [
        (None, None, "everybody"),
        *((None, one, f"account {', '.join((*one.match, *one.users))}") for one in config.accounts),
        *((one, None, f"route {', '.join(one.recipients)}") for one in config.routes),
    ]:
        for host in hosts_for(config, route, account):
            found.setdefault(host, []).append(purpose)
    return [(host, who[0] if who[0] == "everybody" else "; ".join(who)) for host, who in found.items()]


def complaints(file: Listing) -> list[str]:
    """What in an alias file would fail those who use it (RULES D4)."""
    found = [f"line {number}: no entry" for number in file.wrong]
    for name, (number, text) in file.entries.items():
        try:
            kinds = {member.kind for member in members(text)}
        except MemberError as error:
            found.append(f"line {number}: {name}: {error}")
            continue
        found += [
            f"line {number}: {name}: delivers to a {kind}, which fails here"
            for kind in ("command", "file")
            if kind in kinds
        ]
    return found


def _try(host: SmartHost, purpose: str, config: Config, verbose: bool) -> Finding:
    """Everything but MAIL, with one smart host."""
    begin = time.monotonic()
    try:
        connection = ready(Opening(host), config.hostname, report.trace if verbose else None)
    except Failure as failure:
        taken = f"{time.monotonic() - begin:.2f} s"
        return Finding((host.url, purpose, taken, "", "", "", "FAILED"), False, told(failure))
    taken = f"{time.monotonic() - begin:.2f} s"
    limit = connection.capabilities.size_limit
    user = host.auth.user or "-"
    row = (host.url, purpose, taken, connection.tls_name, user, f"{limit / 1_000_000:.3g} MB" if limit else "-", "good")
    connection.leave()
    return Finding(row, True)
