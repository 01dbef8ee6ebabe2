"""The smart hosts of a transaction turned into addresses to connect to, in order."""

from __future__ import annotations

import socket
from typing import NamedTuple

from muawrap import schema
from muawrap.failure import REFUSED, TRY_AGAIN, Failure, Stage
from muawrap.mail import SmartHost

# The name is unknown for good; everything else of the resolver's troubles may pass.
_UNKNOWN = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))


class Address(NamedTuple):
    """One address of a smart host, as the socket module wants it."""

    family: int
    sockaddr: tuple[object, ...]

    def __str__(self) -> str:
        return str(self.sockaddr[0])


def is_discovered(host: SmartHost) -> bool:
    """Whether DNS has to be asked for the endpoints that an entry of smart_hosts stands for."""
    return host.scheme in schema.DISCOVERED


def covers(tried: SmartHost, host: SmartHost) -> bool:
    """Whether `host` is `tried` once more: same address, same settings, and no name more for its certificate.

    One of them may have been found by DNS (RULES C4).
    """
    one, other = (each._replace(url="", names=(), host=each.host.lower()) for each in (tried, host))
    names, known = (set(each.names or (one.host,)) for each in (host, tried))
    return one == other and (bool(one.tls.server_name) or names <= known)


def is_literal(host: SmartHost) -> bool:
    """Whether the host is an address already; a literal is never looked up."""
    return ":" in host.host or host.host.replace(".", "").isdigit()


def addresses(host: SmartHost) -> list[Address]:
    """The addresses of a smart host in the resolver's order; a literal is never looked up. Raises Failure."""
    flags = socket.AI_NUMERICSERV
    if is_literal(host):
        flags |= socket.AI_NUMERICHOST
    try:
        # As octets, what is ASCII needs no codec for internationalized names, which takes a while to load.
        name = host.host.encode("ascii") if host.host.isascii() else host.host
        found = socket.getaddrinfo(name, host.port, type=socket.SOCK_STREAM, flags=flags)
    except socket.gaierror as error:
        unknown = error.errno in _UNKNOWN
        raise Failure(
            f"{(error.strerror or 'the name cannot be resolved').lower()}",
            stage=Stage.CONNECT,
            host=str(host),
            lead=REFUSED if unknown else TRY_AGAIN,
            advice="look at the name of the smart host, and at DNS" if unknown else "is the network up?",
        ) from error
    except (UnicodeError, OSError) as error:
        raise Failure(str(error), stage=Stage.CONNECT, host=str(host)) from error
    return [Address(family, sockaddr) for family, _, _, _, sockaddr in found]
