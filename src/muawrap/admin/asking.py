"""What `muawrap etrn` and `muawrap atrn` have in common on the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import click

from muawrap import report
from muawrap.admin.screen import complain, told
from muawrap.failure import Failure
from muawrap.holding.asking import servers
from muawrap.holding.asking.servers import Server, Wishes
from muawrap.schema import POLICIES

Command = Callable[..., Any]

_OPTIONS = (
    click.option("-C", "--config", metavar="FILE", help="This configuration instead of the one that is found."),
    click.option("-v", "--verbose", is_flag=True, help="Show the dialogue, without secrets."),
    click.option("-p", "--port", type=click.IntRange(1, 65535), metavar="PORT", help="The port of the server."),
    click.option("--tls", type=click.Choice(POLICIES), metavar="POLICY", help="required, if-offered or none."),
    click.option("--auth", metavar="USER", help="Log in as USER, at the first host only."),
    click.option("--password-file", metavar="FILE", help="Where the password of USER stands, if not in the table."),
    click.option(
        "--none-is",
        type=click.IntRange(0, 255),
        default=0,
        metavar="STATUS",
        help="End with this status where no mail waits.",
    ),
    click.option("--dry-run", is_flag=True, help="Show what would be asked; nobody is contacted."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
    click.argument("server", metavar="SERVER"),
)


def options(command: Command) -> Command:
    """The options and the argument of both commands."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def wishes(server: str, port: int | None, tls: str | None, auth: str | None, password_file: str | None) -> Wishes:
    """The server as the options ask for it. Raises UsageError."""
    if password_file and not auth:
        raise click.UsageError("--password-file goes with --auth USER")
    return Wishes(server, port or 0, tls or "", auth or "", password_file or "")


def give_up(name: str, server: str, facts: report.Facts, failure: Failure) -> NoReturn:
    """End a command that could not ask: a hook of NetworkManager shows nobody what is said here, so the log says it."""
    complain(failure)
    report.event(name, facts, [("server", server), ("error", told(failure))], error=True)
    raise SystemExit(servers.status(failure))


def plan(server: Server) -> list[str]:
    """What would be contacted, for --dry-run: a line for each host, in order."""
    return [
        report.printable(f"{host.url} tls={host.tls.policy}" + (f" auth={host.auth.user}" if host.auth.user else ""))
        for host in server.hosts
    ]
