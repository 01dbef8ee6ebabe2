"""`muawrap password`: a password put into the keyring, taken out of it, or looked for wherever it may be."""

from __future__ import annotations

import itertools
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
from muawrap.submission import discovery, keyrings, secrets


class Wanted(NamedTuple):
    """One secret that the configuration names: of whom, where it may be, and for which host."""

    what: str  # password or token
    user: str
    places: tuple[Secret, ...]
    host: SmartHost | None = None  # where that matters: a netrc has a password for each
    is_asked_for: bool = True  # by a delivery; else no mechanism that may be used has a use for it

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
    secrets.no_core()
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
    if keyrings.password(entry.services[0], entry.user) != password:
        raise Failure(
            f"the {entry} was put into {secrets.place(entry.places[0])}, which has not kept it",
            advice="python3 -m keyring --list-backends tells the back ends, and PYTHON_KEYRING_BACKEND chooses one",
        )
    return f"the {entry} is now in {secrets.place(entry.places[0])}"


def _delete(entry: Wanted) -> str:
    if keyrings.password(entry.services[0], entry.user) is None:
        raise Failure(f"there is no {entry} in {secrets.place(entry.places[0])}")
    _keyring(lambda keyring: keyring.delete_password(entry.services[0], entry.user))
    return f"the {entry} is no more in {secrets.place(entry.places[0])}"


def _test(found: list[Wanted]) -> bool:
    """Whether a delivery would find all it asks for. Raises Failure where it asks for nothing of that."""
    asked = [one for one in found if one.is_asked_for]
    if not asked:
        whose = " and ".join(dict.fromkeys(str(one) for one in found))
        raise Failure(f"no delivery asks for the {whose}", advice="auth.mechanisms names none that uses it")
    good = True
    done: set[tuple[Wanted, tuple[str, ...]]] = set()
    for one in asked:
        try:
            hosts = _names(one.host)
        except Failure as failure:
            good = _told(str(one), failure)
            continue
        for names in hosts:
            question = (one._replace(host=None), names)
            if question not in done:
                done.add(question)
                good = _is_found(one, names) and good
    return good


def _is_found(one: Wanted, names: tuple[str, ...]) -> bool:
    """Whether it is, which is told; `names` are those of the host, where it matters."""
    label = f"{one} for {' or '.join(names)}" if names else str(one)
    begin = time.monotonic()
    try:
        place = secrets.find(one.places, secrets.Asked(one.what, one.user, names)).place
    except Failure as failure:
        return _told(label, failure)
    click.echo(report.printable(f"{label}: found in {place}, {time.monotonic() - begin:.2f} s"))
    return True


def _told(label: str, failure: Failure) -> bool:
    """False, for it was not found."""
    complain(Failure(f"{label}: {failure}", advice=failure.advice))
    return False


def _names(host: SmartHost | None) -> list[tuple[str, ...]]:
    """What each endpoint of a host may be called, as a delivery has it from DNS. Raises Failure."""
    if host is None:
        return [()]
    return [one.names or (one.host,) for one in discovery.endpoints(host)]


def wanted(config: Config) -> list[Wanted]:
    """Every password and token that the configuration names, each once; of a netrc, once for each host."""
    pairs = itertools.product((None, *config.routes), (None, *config.accounts))
    hosts: list[SmartHost] = [host for route, account in pairs for host in hosts_for(config, route, account)]
    hosts += [host for hold in config.holds.values() for host in hold.hosts]
    found: dict[Wanted, None] = {}
    for host in hosts:
        auth = host.auth
        for what, places, is_asked_for in (
            ("password", auth.password, secrets.needs_password(auth)),
            ("token", auth.token, secrets.needs_token(auth)),
        ):
            own = host if any(place.form == "netrc" for place in places) else None
            if places:
                found[Wanted(what, auth.user, places, own, is_asked_for)] = None
    return list(found)


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
            "; ".join(dict.fromkeys(f"the {one} is not kept in the keyring, but in {_places(one)}" for one in found)),
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
