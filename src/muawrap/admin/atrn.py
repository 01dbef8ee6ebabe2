"""`muawrap atrn`: what a provider holds for us, fetched over the connection that asks for it (RFC 2645)."""

from __future__ import annotations

import json
import os

import click

from muawrap import report
from muawrap.admin import asking
from muawrap.admin.screen import complain
from muawrap.failure import Failure
from muawrap.holding import mta
from muawrap.holding.asking import atrn, servers
from muawrap.holding.asking.atrn import Fetched


@click.command()
@asking.options
@click.argument("domains", nargs=-1, metavar="[DOMAIN]...")
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
    domains: tuple[str, ...],
) -> None:
    """Fetch what a server holds for us over the same connection, and hand it to the mail system of this machine.

    SERVER is a [hold.NAME] of the configuration, or a host (at port 366), HOST:PORT or URL. Without DOMAIN: the
    domains of the table, else all that the login is for. `mta` of the configuration takes the messages.
    """
    wishes = asking.wishes(server, port, tls, auth, password_file)
    facts = report.Facts()
    try:
        settings = servers.settings(config, server, os.environ)
        facts.follow(settings)
        found = servers.server(settings, wishes, atrn.PORT)
        wanted = atrn.domains(found, domains)
        mta.must_not_be_us(settings.mta)
    except Failure as failure:
        asking.give_up("atrn", server, facts, failure)
    try:
        if dry_run:
            for line in (*asking.plan(found), f"ATRN {','.join(wanted)}".rstrip(), " ".join(settings.mta)):
                click.echo(report.printable(line))
            return
        fetched = atrn.fetch(settings, found, wanted, trouble=complain, trace=report.trace if verbose else None)
    except Failure as failure:
        complain(failure)
        raise SystemExit(servers.status(failure)) from None
    click.echo(json.dumps(_shown(server, fetched)) if as_json else _told(server, fetched))
    raise SystemExit(none_is if fetched.none_waited else fetched.status)


def _told(server: str, fetched: Fetched) -> str:
    if fetched.none_waited:
        return f"no mail waits at {report.printable(server)}"
    taken, refused, left = fetched.tally
    parts = [f"{taken} message{'' if taken == 1 else 's'} taken, {refused} refused"]
    parts += [f"{left} or more left at {report.printable(server)}"] if left else []
    return ", ".join(parts)


def _shown(server: str, fetched: Fetched) -> dict[str, str | int]:
    shown = {"server": report.printable(server), "reply": report.printable(fetched.reply)}
    return {**shown, **fetched.tally._asdict()}
