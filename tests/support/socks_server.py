"""A scripted SOCKS5 proxy on the loopback (RFC 1928, RFC 1929), which knows names that nobody else does.

    with SocksServer({"smtp.example.org": server.port}) as proxy:
        ...                                   # let a client talk to 127.0.0.1, proxy.port
        assert proxy.asked == ["smtp.example.org:25"]

A script maps stages to actions, as in tests/support/server.py: "method" is the answer to the greeting, "login" that to
user and password, "reply" that to the request. What is no success ends the dialogue.
"""

from __future__ import annotations

import contextlib
import ipaddress
import select
import socket
from collections.abc import Mapping

from tests.support.server import Action, Channel, Listener, as_action

Script = Mapping[str, Action | bytes]
BOUND = bytes((1, 127, 0, 0, 1, 0, 25))


class SocksServer(Listener):
    """Connects to the ports its names stand for, all on 127.0.0.1; to addresses as they are."""

    def __init__(
        self,
        names: Mapping[str, int] | None = None,
        script: Script | None = None,
        *,
        users: Mapping[bytes, bytes] | None = None,  # asks for one of them
        bound: bytes = BOUND,  # what it says it connects from: kind, address, port
        host: str = "127.0.0.1",
    ) -> None:
        super().__init__(host)
        self.names = dict(names or {})
        self.script = {stage: as_action(action) for stage, action in (script or {}).items()}
        self.users = users
        self.bound = bound
        self.asked: list[str] = []

    def serve(self, channel: Channel, number: int) -> None:
        methods = self._take(channel, self._take(channel, 2)[1])
        wanted = 2 if self.users is not None else 0
        if self._answer(channel, "method", bytes((5, wanted if wanted in methods else 0xFF))) != wanted:
            return
        if self.users is not None:
            user = self._take(channel, self._take(channel, 2)[1])
            password = self._take(channel, self._take(channel, 1)[0])
            if self._answer(channel, "login", bytes((1, int(self.users.get(user) != password)))):
                return
        _, _, _, kind = self._take(channel, 4)
        host = self._host(channel, kind)
        port = int.from_bytes(self._take(channel, 2), "big")
        self.asked.append(f"{host}:{port}")
        if host in self.names:
            host, port = "127.0.0.1", self.names[host]
        with contextlib.ExitStack() as stack:
            code = 0
            server = stack.enter_context(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET))
            try:
                server.connect((str(ipaddress.ip_address(host)), port))
            except ValueError:  # a name we do not know, and nobody is asked
                code = 4
            except OSError:
                code = 5
            if not self._answer(channel, "reply", bytes((5, code, 0)) + self.bound) and not code:
                self._relay(channel, server)

    def _answer(self, channel: Channel, stage: str, default: bytes) -> int:
        """Say it; its second octet."""
        action = self.script.get(stage)
        if action is not None:
            action.perform(channel)
        if action is None or not (action.wire or action.final):
            channel.send(default)
            return default[1]
        return action.wire[1] if len(action.wire) > 1 else 0xFF

    def _take(self, channel: Channel, count: int) -> bytes:
        taken = bytearray()
        channel.read_count(count, taken.extend, record=True)
        return bytes(taken)

    def _host(self, channel: Channel, kind: int) -> str:
        if kind == 3:
            return self._take(channel, self._take(channel, 1)[0]).decode()
        return str(ipaddress.ip_address(self._take(channel, {1: 4, 4: 16}[kind])))

    def _relay(self, channel: Channel, server: socket.socket) -> None:
        """Both ways, until one side ends."""
        client = channel.sock
        server.sendall(bytes(channel.buffer))
        poll = select.poll()
        for one in client, server:
            poll.register(one, select.POLLIN)
        with contextlib.suppress(OSError):
            while True:
                for descriptor, _ in poll.poll():
                    source, sink = (client, server) if descriptor == client.fileno() else (server, client)
                    octets = source.recv(65536)
                    if not octets:
                        return
                    sink.sendall(octets)
