"""A host of the matrix set up: its servers, its entry in smart_hosts, and the name that sentences give it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import cache
from typing import NamedTuple

from tests.hostile.matrix.behaviours import Behaviour
from tests.support.canary import CANARY
from tests.support.certificates import Issued, issue
from tests.support.lmtp_server import LmtpServer
from tests.support.nameserver import NameServer
from tests.support.scram import scram
from tests.support.server import Listener, Received, Server, closed_port
from tests.support.socks_server import SocksServer

_DOMAINS = (f"n{number}.client.example" for number in itertools.count())


class Place(NamedTuple):
    """One host, as the program and the test see it."""

    name: str  # as the program tells it
    url: str
    keys: tuple[str, ...]  # beside the URL
    listeners: tuple[Listener, ...] = ()  # what is to be waited for, in this order
    asked: Callable[[], int] | None = None  # how often it was turned to; None: nobody counts that

    @property
    def messages(self) -> list[Received]:
        """What the server has seen, whatever became of it."""
        servers = (one for one in self.listeners if isinstance(one, Server))
        return [message for server in servers for message in server.messages]


class Wanted(NamedTuple):
    """What a host offers, and who knows the names."""

    behaviour: Behaviour
    extensions: Sequence[str]
    keep_data: bool
    names: NameServer


def place(wanted: Wanted, stack: ExitStack) -> Place:
    """Set it up until the stack is left."""
    return WAYS[wanted.behaviour.way](wanted, stack)


def _smtp(wanted: Wanted, stack: ExitStack) -> Place:
    if not wanted.behaviour.listening:
        port = stack.enter_context(closed_port())
        return Place(_local(port), f"smtp://{_local(port)}", ())
    server = stack.enter_context(_server(wanted))
    return Place(_local(server.port), f"smtp://{_local(server.port)}", (), (server,), lambda: len(server.sessions))


def _lmtp(wanted: Wanted, stack: ExitStack) -> Place:
    script, extensions = wanted.behaviour.script, _offered(wanted)
    server = stack.enter_context(LmtpServer(script, extensions=extensions, keep_data=wanted.keep_data))
    url = f"lmtp://{_local(server.port)}"
    return Place(_local(server.port), url, (_IN_THE_CLEAR,), (server,), lambda: len(server.sessions))


def _pinned(wanted: Wanted, stack: ExitStack) -> Place:
    """Another certificate than the one that is awaited."""
    mine, theirs = _certificates()
    server = stack.enter_context(Server(context=theirs.served(), implicit_tls=True))
    keys = (f'tls = {{ fingerprint = "{mine.pins[0]}" }}',)
    return Place(
        _local(server.port), f"submissions://{_local(server.port)}", keys, (server,), lambda: len(server.sessions)
    )


def _socks(wanted: Wanted, stack: ExitStack) -> Place:
    """Behind a proxy, which knows its name."""
    server = stack.enter_context(_server(wanted._replace(behaviour=wanted.behaviour._replace(script={}))))
    name = next(_DOMAINS)
    proxy = stack.enter_context(SocksServer({name: server.port}, wanted.behaviour.script))  # type: ignore[arg-type]
    keys = (f'proxy = "socks5://{_local(proxy.port)}"',)
    return Place(f"{name}:25", f"smtp://{name}", keys, (proxy, server), lambda: len(proxy.sessions))


def _srv(wanted: Wanted, stack: ExitStack) -> Place:
    """Found by DNS under a domain of its own; a name server that is asked has been turned to."""
    domain = next(_DOMAINS)
    server = stack.enter_context(_server(wanted)) if wanted.behaviour.listening else None
    ports = {name: stack.enter_context(closed_port()) for name in ("closed", "other")}
    ports["port"] = server.port if server is not None else 0
    asked = f"_submission._tcp.{domain}"
    if wanted.behaviour.records:
        wanted.names.zones.update(NameServer.read({asked: [one.format(**ports) for one in wanted.behaviour.records]}))
    servers = () if server is None else (server,)
    return Place(domain, f"srv://{domain}", (_IN_THE_CLEAR,), servers, lambda: wanted.names.asked[f"{asked} SRV"])


WAYS = {"smtp": _smtp, "lmtp": _lmtp, "pinned": _pinned, "socks": _socks, "srv": _srv}
_IN_THE_CLEAR = 'tls = { policy = "none" }'


def _server(wanted: Wanted) -> Server:
    """A host that behaves so; its own password is another one where it says so."""
    behaviour = wanted.behaviour
    more = {"mechanisms": ("SCRAM-SHA-256",), "exchanges": scram(lie=behaviour.lie)} if behaviour.by_scram else {}
    return Server(
        behaviour.script,
        extensions=_offered(wanted),
        users={"alice": behaviour.password or CANARY} if behaviour.login else None,
        keep_data=wanted.keep_data,
        **more,  # type: ignore[arg-type]
    )


def _offered(wanted: Wanted) -> list[str]:
    behaviour = wanted.behaviour
    return [*wanted.extensions, "8BITMIME", f"SIZE {behaviour.size}"]


def _local(port: int) -> str:
    return f"127.0.0.1:{port}"


@cache
def _certificates() -> tuple[Issued, Issued]:
    """The one that is pinned, and the one that is shown."""
    return issue("127.0.0.1"), issue("127.0.0.1")


def finished(places: Iterable[Place]) -> None:
    """Wait until all has come to its end."""
    for one in places:
        for listener in one.listeners:
            listener.finished()
