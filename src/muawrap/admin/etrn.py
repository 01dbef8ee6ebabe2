"""`muawrap etrn`: a server asked to send what it holds for us (RFC 1985)."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

import click

from muawrap import report
from muawrap.admin import asking
from muawrap.admin.screen import complain
from muawrap.failure import Failure
from muawrap.holding.asking import etrn, servers
from muawrap.holding.asking.etrn import Answer
from muawrap.holding.asking.servers import Server

OWN_PORT = 25


@click.command()
@asking.options
@click.argument("names", nargs=-1, metavar="[NAME|@NAME|#QUEUE]...")
@click.option("-b", "wait", is_flag=True, help="First wait until our own port takes connections.")
@click.option("--own-port", type=click.IntRange(1, 65535), default=OWN_PORT, metavar="PORT", help="If that is not 25.")
def command(
    config: str | None,
    verbose: bool,
    port: int | None,
    tls: str | None,
    auth: str | None,
    password_file: str | None,
    none_is: int,
    dry_run: bool,
    as_json: bool,
    server: str,
    names: tuple[str, ...],
    wait: bool,
    own_port: int,
) -> None:
    """Ask a server to send what it holds for us, over a new connection to our own port.

    SERVER is a [hold.NAME] of the configuration, or a host, HOST:PORT or URL. NAME is a domain, @NAME one with all
    below it, #QUEUE a queue of the server's; without any: etrn_names or domains of the table, else our own name.
    """
    wishes = asking.wishes(server, port, tls, auth, password_file)
    facts = report.Facts()
    try:
        settings = servers.settings(config, server, os.environ)
        facts.follow(settings)
        found = servers.server(settings, wishes)
        wanted = etrn.names(settings, found, names)
        if dry_run:
            raise SystemExit(_planned(found, wanted))
        if wait:
            etrn.wait_for_own_port(own_port, progress=report.progress)
    except Failure as failure:
        asking.give_up("etrn", server, facts, failure)
    answers: list[Answer] = []
    told: list[Failure] = []
    for answer in etrn.ask(settings, found, wanted, report.trace if verbose else None):
        if answer.code and not as_json:
            click.echo(report.printable(f"{answer.name} {answer.code} {answer.text}"))
        if answer.failure is not None and answer.failure not in told:
            complain(answer.failure)
            told.append(answer.failure)
        answers.append(answer)
    if as_json:
        click.echo(json.dumps({"server": server, "names": list(map(_shown, answers))}))
    raise SystemExit(etrn.status(answers, none_is))


def _planned(server: Server, wanted: Sequence[str]) -> int:
    """Show what would be asked; the exit status."""
    for line in asking.plan(server):
        click.echo(line)
    unfit = [failure for failure in map(etrn.unfit, wanted) if failure is not None]
    for failure in unfit:
        complain(failure)
    for name in wanted:
        if etrn.unfit(name) is None:
            click.echo(f"ETRN {name}")
    return os.EX_DATAERR if unfit else os.EX_OK


def _shown(answer: Answer) -> dict[str, str | int | None]:
    shown: dict[str, str | int | None] = {
        "name": report.printable(answer.name),
        "code": answer.code or None,
        "text": report.printable(answer.text),
        "meaning": answer.meaning,
    }
    return shown if answer.pending is None else {**shown, "pending": answer.pending}
