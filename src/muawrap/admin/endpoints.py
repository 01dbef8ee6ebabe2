"""Every endpoint that a configuration names: where it stands there, for whom it is, and which DNS record has it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from muawrap.config import Account, Config, Profile, Route, hosts_for
from muawrap.failure import Failure
from muawrap.mail import SmartHost, endpoint
from muawrap.submission import discovery, smarthosts

EVERYBODY = "everybody"


class Endpoint(NamedTuple):
    """One host to try; or an entry of which DNS has not told all, and `failure` says why."""

    host: SmartHost
    sources: tuple[str, ...]  # the lists in which it stands, such as "smart_hosts" and "hold.isp.to"
    purposes: tuple[str, ...]  # for whom it is used, such as "everybody" and "route *@corp.example"
    record: str = ""  # of DNS, by which it was found
    failure: Failure | None = None

    @property
    def name(self) -> str:
        """Scheme, host and port, as they would stand in the configuration."""
        host = self.host
        is_found = host.url.startswith(("srv://", "mx://")) and not smarthosts.is_discovered(host)
        return f"{host.scheme}://{endpoint(host.host, host.port)}" if is_found else host.url


def entries(config: Config) -> list[Endpoint]:
    """All entries with every account they are used with, each once."""
    found: dict[SmartHost, tuple[list[str], list[str]]] = {}
    for source, purpose, hosts in _lists(config):
        for host in hosts:
            sources, purposes = found.setdefault(host, ([], []))
            sources += [] if source in sources else [source]
            purposes += [] if purpose in purposes or EVERYBODY in purposes else [purpose]
    for name, hold in config.holds.items():
        for host in dict.fromkeys(hold.hosts):
            sources, purposes = found.setdefault(host, ([], []))
            sources.append(f"hold.{name}.to")
            purposes.append(f"hold {name}")
    for source, purpose, hosts in _pairs(config):
        for host in hosts:
            found.setdefault(host, ([source], [purpose]))
    return [Endpoint(host, tuple(sources), tuple(purposes)) for host, (sources, purposes) in found.items()]


def _lists(config: Config) -> Iterator[tuple[str, str, tuple[SmartHost, ...]]]:
    """Each list of smart hosts, where it stands, and for whom it is."""
    yield "smart_hosts", EVERYBODY, hosts_for(config, None, None)
    for account in config.accounts:
        who = f"account {_account(account)}"
        yield _source(who, account.profile), who, hosts_for(config, None, account)
    for route in _routes(config):
        who = f"route {_route(route)}"
        yield _source(who, route.profile), who, hosts_for(config, route, None)


def _pairs(config: Config) -> Iterator[tuple[str, str, tuple[SmartHost, ...]]]:
    """The lists of routes, where an account has a word in them.

    Its `tls` holds for them, too, and a route without hosts goes by those of the account with an `auth` of its own.
    """
    for account in config.accounts:
        for route in _routes(config):
            by_account = route.profile.hosts is None and account.profile.hosts is not None
            if by_account or account.profile.tls:
                whose, who = f"route {_route(route)}", f"account {_account(account)}"
                yield (
                    _source(who, account.profile) if by_account else _source(whose, route.profile),
                    f"{whose} and {who}",
                    hosts_for(config, route, account),
                )


def _routes(config: Config) -> list[Route]:
    """Those that lead to a host."""
    return [route for route in config.routes if not route.unroutable]


def _source(who: str, profile: Profile) -> str:
    return "smart_hosts" if profile.hosts is None else f"smart_hosts of {who}"


def _account(account: Account) -> str:
    return ", ".join((*account.match, *account.users))


def _route(route: Route) -> str:
    return ", ".join(route.recipients)


def expanded(entry: Endpoint) -> Iterator[Endpoint]:
    """What DNS has for an entry, each once and in the order of one draw; what stands in none is itself."""
    if not smarthosts.is_discovered(entry.host):
        yield entry
        return
    try:
        found = discovery.find(entry.host)
    except Failure as failure:
        yield entry._replace(failure=failure)
        return
    for trouble in found.failures:
        yield entry._replace(failure=trouble)
    known: list[SmartHost] = []
    for one in found.endpoints:
        if not any(smarthosts.covers(host, one.host) for host in known):
            known.append(one.host)
            yield entry._replace(host=one.host, record=one.record)
