"""The server that is asked for our mail: found by the name the caller gave, and brought to where it can be asked.

It is the NAME, or a domain, of a [hold.NAME], with the `to`, auth, tls and timeouts of that table; or a host name, an
address literal, HOST:PORT or a URL. Those have no password: one goes only to the hosts of the table it stands in, or
comes from a file that the same command line names.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from muawrap import config, schema, sysexits
from muawrap.config import Config, HostEntry
from muawrap.environment import PREFIX
from muawrap.failure import REFUSED, TRY_AGAIN, Failure, Stage
from muawrap.holding.settings import named
from muawrap.mail import Auth, Secret, SmartHost, endpoint
from muawrap.schema import Bad
from muawrap.submission import discovery
from muawrap.submission.connection import Connection, Trace
from muawrap.submission.opening import Opening
from muawrap.submission.ready import ready

_HOSTS = PREFIX + "SMART_HOSTS"


class Wishes(NamedTuple):
    """What the command line says of the server."""

    server: str
    port: int = 0  # 0: that of the URL
    policy: str = ""  # of TLS; "": that of the table, or of the scheme
    user: str = ""  # for AUTH instead of the table's; then the first host alone is asked
    password_file: str = ""


class Server(NamedTuple):
    """Whom we ask, and what the configuration says we ask for."""

    name: str  # as the caller gave it
    hosts: tuple[SmartHost, ...]
    etrn_names: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()


class Trouble(NamedTuple):
    """Why a host cannot be asked."""

    host: SmartHost
    failure: Failure


def settings(given: str | None, server: str, environ: Mapping[str, str]) -> Config:
    """The configuration; where there is none anywhere, a host or URL is asked without. Raises Failure."""
    if given is None and not {_HOSTS, f"{_HOSTS}_FILE"} & set(environ) and not _has_file(environ):
        return config.load(None, {**environ, _HOSTS: _by_url(server).url})
    return config.load(given, environ)


def _has_file(environ: Mapping[str, str]) -> bool:
    """Whether there is a configuration file, be it one that cannot be read."""
    for place in config.places_looked_in(environ):
        try:
            os.stat(place)
            return True
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError:
            return True
    return False


# -- whom -----------------------------------------------------------------------------------------------------------


def server(settings: Config, wishes: Wishes, port: int = 0) -> Server:
    """The server as wished for; `port` is that of a bare host name or address, 0: 25. Raises Failure."""
    found = _in_table(settings, wishes.server) or _alone(settings, wishes.server, port)
    hosts = found.hosts[:1] if wishes.user else found.hosts
    return found._replace(hosts=tuple(_wished(host, wishes) for host in hosts))


def _in_table(settings: Config, name: str) -> Server | None:
    known = named(settings, name)
    if known is None:
        return None
    hold = settings.holds[known]
    return Server(name, hold.hosts, hold.keys.get("etrn_names", ()), hold.keys.get("domains", ()))


def _alone(settings: Config, name: str, port: int) -> Server:
    """A host that no table knows: without AUTH, and with the TLS and timeouts of the whole configuration."""
    host = _by_url(name, port)
    only = settings.profile._replace(hosts=(HostEntry(host, Auth(), {}, {}),))
    try:
        return Server(name, config.hosts_for(settings._replace(profile=only), None, None))
    except Bad as error:
        raise Failure(f"{settings.source}: {error.key} {error}") from error


def _by_url(name: str, port: int = 0) -> SmartHost:
    """A URL as it is; a host, literal or HOST:PORT as one of smtp://. Raises Failure."""
    bare = f"[{name}]" if name.count(":") > 1 and not name.startswith("[") else name
    try:
        host = schema.smart_host(name if "://" in name else f"smtp://{bare}")
    except Bad as error:
        advice = "SERVER is the NAME of a [hold.NAME], a host, HOST:PORT or a URL"
        raise Failure(f"SERVER {error}", advice=advice) from error
    has_port = "://" in name or bare.rpartition("]")[2].count(":") == 1
    return host if has_port or not port else _at_port(host, port)


def _at_port(host: SmartHost, port: int) -> SmartHost:
    return host._replace(port=port, url=f"{host.scheme}://{endpoint(host.host, port)}")


def _wished(host: SmartHost, wishes: Wishes) -> SmartHost:
    if wishes.port:
        host = _at_port(host, wishes.port)
    if wishes.policy == "none" and host.scheme == "submissions":
        raise Failure(f"{host.url} is TLS from the first octet: --tls none cannot be", status=os.EX_USAGE)
    if wishes.policy:
        host = host._replace(tls=host.tls._replace(policy=wishes.policy))
    if not wishes.user:
        return host
    path = os.path.abspath(wishes.password_file) if wishes.password_file else ""
    password = (Secret("file", path),) if path else host.auth.password
    if not password:
        raise Failure(
            f"there is no password for {wishes.user} at {host}",
            advice="--password-file names a file that only you can read",
            status=os.EX_USAGE,
        )
    return host._replace(auth=host.auth._replace(user=wishes.user, password=password))


# -- reaching it ----------------------------------------------------------------------------------------------------


def reached(
    server: Server, settings: Config, trace: Trace | None = None, tried: tuple[Failure, ...] = ()
) -> Connection:
    """A connection to the first of its hosts that can be asked, EHLO, TLS and AUTH done. Raises Failure.

    Where none could even be connected, `dial_delay` passes and those that are dialled are tried once more (RULES C6);
    `tried` is why the others did not do.
    """
    troubles: list[Trouble] = []
    for host in _endpoints(server.hosts, troubles):
        try:
            return _asked(Opening(host), settings, trace)
        except Failure as failure:
            troubles.append(Trouble(host, failure))
    failures = [*tried, *(one.failure for one in troubles)]
    dialled = tuple(host for host in server.hosts if host.dials)
    if settings.dial_delay and dialled and all(one.stage is Stage.CONNECT for one in failures):
        time.sleep(settings.dial_delay)
        at_hand = tuple(one.failure for one in troubles if not one.host.dials)
        return reached(server._replace(hosts=dialled), settings._replace(dial_delay=0), trace, at_hand)
    if len(failures) == 1:
        raise failures[0]
    lead = TRY_AGAIN if any(one.lead == TRY_AGAIN for one in failures) else REFUSED
    raise Failure("no host could be asked", lead=lead, reasons=tuple(failures))


def _asked(opening: Opening, settings: Config, trace: Trace | None) -> Connection:
    """A connection on which EHLO was not put off: without it nothing can be asked for (RFC 1985, 4). Raises Failure."""
    connection = ready(opening, settings.hostname, trace)
    refusal = connection.ehlo_refused
    if refusal is not None and refusal.lead == TRY_AGAIN:
        connection.leave()
        raise refusal
    return connection


def _endpoints(hosts: tuple[SmartHost, ...], troubles: list[Trouble]) -> Iterator[SmartHost]:
    """The hosts, with the endpoints DNS has in place of srv:// and mx:// entries; it is asked when their turn comes."""
    for host in hosts:
        try:
            found = discovery.endpoints(host)
        except Failure as failure:
            troubles.append(Trouble(host, failure))
            continue
        yield from found


def status(failure: Failure) -> int:
    """The exit status of sysexits.h; a host that cannot be connected or found today may be there tomorrow."""
    reasons = failure.reasons or (failure,)
    if any(one.stage is Stage.CONNECT for one in reasons):
        return os.EX_TEMPFAIL
    return sysexits.status(failure)
