"""`muawrap password`: a password put into the keyring, taken out of it, or looked for wherever it may be."""

from __future__ import annotations

import os
import sys
import time
from typing import Any, NamedTuple

import click

from muawrap import extras, report
from muawrap.admin.screen import complain
from muawrap.config import Config, hosts_for, load
from muawrap.failure import Failure
from muawrap.mail import Secret, SmartHost
from muawrap.submission import keyrings, secrets


class Wanted(NamedTuple):
    """One secret that the configuration names: of whom, where it may be, and for which hosts."""

    what: str  # password or token
    user: str
    places: tuple[Secret, ...]
    hosts: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.what} of {self.user}"

    @property
    def services(self) -> tuple[str, ...]:
        """Under which it may stand in the keyring."""
        return tuple(str(place.value) for place in self.places if place.form == "keyring")


@click.command()
@click.option("-C", "--config", "given", metavar="FILE", help="This configuration instead of the one that is found.")
@click.option("--user", metavar="USER", help="Whose, where the configuration names several.")
@click.option("--service", metavar="NAME", help="Its name in the keyring; with --user, no configuration is read.")
@click.argument("action", type=click.Choice(["set", "delete", "test"]))
def command(given: str | None, user: str | None, service: str | None, action: str) -> None:
    """Put a password into the keyring, take it out, or see whether it is found; it is never shown.

    set asks twice, or reads one line where standard input is no terminal. test looks for every password and token as
    a delivery would, and says where it was found, and how long that took.
    """
    try:
        if action == "test":
            raise SystemExit(not _test(_wanted(given, user, service)))
        change = _set if action == "set" else _delete
        click.echo(report.printable(change(_entry(given, user, service))))
    except Failure as failure:
        complain(failure)
        raise SystemExit(1) from None


def _set(entry: Wanted) -> str:
    password = _typed(entry)
    _keyring(lambda keyring: keyring.set_password(entry.services[0], entry.user, password))
    return f"the {entry} is now in {secrets.place(entry.places[0])}"


def _delete(entry: Wanted) -> str:
    if keyrings.password(entry.services[0], entry.user) is None:
        raise Failure(f"there is no {entry} in {secrets.place(entry.places[0])}")
    _keyring(lambda keyring: keyring.delete_password(entry.services[0], entry.user))
    return f"the {entry} is no more in {secrets.place(entry.places[0])}"


def _test(found: list[Wanted]) -> bool:
    """Whether all of them are where they should be."""
    good = True
    for one in found:
        begin = time.monotonic()
        try:
            place = secrets.find(one.places, secrets.Asked(one.what, one.user, one.hosts)).place
        except Failure as failure:
            good = False
            failure.what = f"{one}: {failure.what}"
            complain(failure)
        else:
            click.echo(report.printable(f"{one}: found in {place}, {time.monotonic() - begin:.2f} s"))
    return good


def wanted(config: Config) -> list[Wanted]:
    """Every password and token that the configuration names, each once."""
    pairs = [(None, None), *((None, one) for one in config.accounts), *((one, None) for one in config.routes)]
    hosts: list[SmartHost] = [host for route, account in pairs for host in hosts_for(config, route, account)]
    hosts += [host for hold in config.holds.values() for host in hold.hosts]
    found: dict[Wanted, list[str]] = {}
    for host in hosts:
        for what, places in ("password", host.auth.password), ("token", host.auth.token):
            if places:
                found.setdefault(Wanted(what, host.auth.user, places), []).extend((host.host, *host.names))
    return [one._replace(hosts=tuple(dict.fromkeys(names))) for one, names in found.items()]


def _wanted(given: str | None, user: str | None, service: str | None) -> list[Wanted]:
    """What the options mean. Raises Failure where that is nothing."""
    if user and service and not given:
        return [Wanted("password", user, (Secret("keyring", service),))]
    found = wanted(load(given, os.environ))
    found = [one for one in found if user in (None, one.user) and (service is None or service in one.services)]
    if not found:
        of = f" of {user}" if user else ""
        under = f" under the service {service} in the keyring" if service else ""
        raise Failure(f"the configuration names no password{of}{under}", advice="auth.user and auth.password do")
    return found


def _entry(given: str | None, user: str | None, service: str | None) -> Wanted:
    """The one entry of the keyring that is meant. Raises Failure."""
    found = _wanted(given, user, service)
    entries = dict.fromkeys(
        (one.what, one.user, name) for one in found for name in one.services if service in (None, name)
    )
    if not entries:
        raise Failure(
            "; ".join(f"the {one} is not kept in the keyring, but in {_places(one)}" for one in found),
            advice="change it there",
        )
    if len(entries) > 1:
        names = " or ".join(f"--user {whose} --service {name}" for _, whose, name in entries)
        raise Failure("the configuration names several entries of the keyring", advice=f"choose one: {names}")
    ((what, whose, name),) = entries
    return Wanted(what, whose, (Secret("keyring", name),))


def _places(one: Wanted) -> str:
    return ", then ".join(map(secrets.place, one.places))


def _typed(chosen: Wanted) -> str:
    """What somebody types twice without seeing it, or the first line of standard input. Raises Failure."""
    if sys.stdin.isatty():
        text = click.prompt(f"{chosen}", hide_input=True, confirmation_prompt=True, err=True)
    else:
        line = sys.stdin.buffer.readline(secrets.LIMIT + 1)
        if len(line) > secrets.LIMIT:
            raise Failure(f"the {chosen.what} on standard input is longer than {secrets.LIMIT} octets")
        try:
            text = line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise Failure(f"the {chosen.what} on standard input is no UTF-8, which the keyring needs") from None
    if not text or "\0" in text:
        raise Failure(f"the {chosen.what} on standard input is {'not text' if text else 'empty'}")
    return str(text)


def _keyring(change: Any) -> None:
    """Raises Failure."""
    keyring = extras.load("keyring", "muawrap password")
    try:
        change(keyring)
    except Exception as error:  # every back end has exceptions of its own
        raise keyrings.trouble(type(error).__name__, " ".join(str(error).split())) from error
