"""A link between the program and a server that breaks after exactly so many octets."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

from tests.support.lmtp_server import catch_up, move
from tests.support.server import Channel, Listener

Direction = Literal["up", "down"]
"""From the program to the server, and back."""


@dataclass(frozen=True)
class Cut:
    """Where the link breaks: after `offset` octets in one direction, by a FIN or by a RST to both sides."""

    direction: Direction
    offset: int
    how: Literal["FIN", "RST"]


class Link(Listener):
    """Passes octets on to a server and back, as they come or in smaller pieces, until the cut."""

    def __init__(self, port: int, piece: int = 65536, buffer: int = 0, path: Path | None = None) -> None:
        """From a port of its own, or from a unix socket at `path`, to this port."""
        super().__init__()
        self.path = path
        if path is not None:
            move(self, path)
        if buffer:  # of the kernel, for what the program sends; the smallest is 2304 octets
            self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.piece = piece
        self.server = port
        self.cut: Cut | None = None
        self.passed: list[tuple[Direction, int]] = []  # by the last connection, in order

    def _catch_up(self) -> None:
        if self.path is None:
            super()._catch_up()
        else:
            catch_up(self)

    def octets(self, direction: Direction) -> int:
        """How many were passed on."""
        return sum(count for there, count in self.passed if there == direction)

    def heard_before_the_end(self) -> int:
        """How many octets the program had heard when it sent the end of the message, in a dialogue without a cut.

        The last flight but one holds it; the last is QUIT.
        """
        return self._heard_before(2)

    def heard_with_the_verdict(self) -> int:
        """How many it had heard when it sent QUIT."""
        return self._heard_before(1)

    def _heard_before(self, last: int) -> int:
        flights = [(there, sum(count for _, count in run)) for there, run in groupby(self.passed, lambda one: one[0])]
        ups = [number for number, (there, _) in enumerate(flights) if there == "up"]
        return sum(count for there, count in flights[: ups[-last] if len(ups) >= last else 0] if there == "down")

    def serve(self, channel: Channel, number: int) -> None:
        self.passed = []
        client = channel.sock
        with socket.create_connection((self.host, self.server)) as server:
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ends: dict[int, tuple[Direction, socket.socket, socket.socket]] = {
                client.fileno(): ("up", client, server),
                server.fileno(): ("down", server, client),
            }
            poll = select.poll()
            for descriptor in ends:
                poll.register(descriptor, select.POLLIN)
            if self.cut is not None and self.cut.offset == 0:
                self._sever(self.cut, client, server)
                return
            while ends:
                for descriptor, _ in poll.poll():
                    direction, source, sink = ends[descriptor]
                    try:
                        octets = source.recv(self.piece)
                        if self._pass(direction, octets, sink):
                            assert self.cut is not None
                            self._sever(self.cut, client, server)
                            return
                        if octets:
                            continue
                        sink.shutdown(socket.SHUT_WR)
                    except OSError:  # one side has gone by a RST, and the other is told so
                        self._reset(client, server)
                        return
                    poll.unregister(descriptor)
                    del ends[descriptor]

    def _pass(self, direction: Direction, octets: bytes, sink: socket.socket) -> bool:
        """Pass on what may pass; whether this is where the link breaks."""
        cut = self.cut if self.cut is not None and self.cut.direction == direction else None
        if cut is not None:
            octets = octets[: cut.offset - self.octets(direction)]
        sink.sendall(octets)
        if octets:
            self.passed.append((direction, len(octets)))
        return cut is not None and self.octets(direction) >= cut.offset

    def _sever(self, cut: Cut, *ends: socket.socket) -> None:
        if cut.how == "RST":
            self._reset(*ends)
            return
        with contextlib.suppress(OSError):
            for end in ends:
                end.shutdown(socket.SHUT_WR)
        for end in ends:  # who has not heard of it goes on sending; unread octets would make our FIN a RST
            with contextlib.suppress(OSError):
                while end.recv(65536):
                    pass

    def _reset(self, *ends: socket.socket) -> None:
        for end in ends:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.close()
