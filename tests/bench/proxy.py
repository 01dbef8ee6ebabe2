"""A distant network on the loopback: delays both directions by half a round trip, and counts client flights.

    python -m tests.bench.proxy RTT_SECONDS PORT...

The first line it prints is {"ports": [...]}, one for each given; then one line for each connection, when it has
ended on both sides. It ends when its standard input does.

A flight is a group of client bytes; a new one begins with the first bytes after server bytes have been delivered. It
costs a round trip where the client waits for the answer; where it was gone before anything came back (it said QUIT and
left), that last flight is also counted as "unwaited".

The kernel completes a loopback handshake at once, a distant one takes a round trip. So the server sees the connection
one and a half RTT after the client began it, and client bytes that came earlier reach it no sooner. There is no
bandwidth limit, no loss and no slow start.
"""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import sys
import threading
import time
from typing import NamedTuple

BLOCK = 64 * 1024
TCP_STATE = (socket.IPPROTO_TCP, socket.TCP_INFO)  # the first octet of it
CLOSED = 7


class Parcel(NamedTuple):
    """Bytes on their way; empty ones end the direction."""

    due: float
    octets: bytes


class Flights:
    """Counts the groups of client bytes."""

    def __init__(self) -> None:
        self.count = 0
        self.unwaited = 0  # 1 where the client did not stay for what came after its last group
        self._new = True
        self._gone = False

    def client_spoke(self) -> None:
        if self._new:
            self.count += 1
            self.unwaited = 1
            self._new = False

    def server_speaks(self) -> None:
        """Before the send, for the client may answer before that returns."""
        self._new = True
        self.unwaited = int(self._gone)

    def client_was_gone(self) -> None:
        """After the send: nobody heard it, nor will anybody hear what follows."""
        self._gone = True
        self.unwaited = 1


class Connection:
    """One client, and the server behind it."""

    def __init__(self, client: socket.socket, port: int, rtt: float) -> None:
        self._client = client
        self._server: socket.socket | None = None
        self._port = port
        self._half = rtt / 2
        self._established = time.monotonic() + 3 * self._half
        self._up: queue.SimpleQueue[Parcel] = queue.SimpleQueue()
        self._down: queue.SimpleQueue[Parcel] = queue.SimpleQueue()
        self.flights = Flights()

    def run(self) -> None:
        """Carry bytes until both sides have ended."""
        self._client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = threading.Thread(target=self._hear_client, daemon=True)
        reader.start()
        sleep_until(self._established)
        with socket.create_connection(("127.0.0.1", self._port)) as self._server:
            self._server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            others = [threading.Thread(target=work, daemon=True) for work in (self._hear_server, self._tell_client)]
            for thread in others:
                thread.start()
            self._tell_server()
            for thread in (reader, *others):
                thread.join()
        if self._client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):  # a reset that came after the look
            self.flights.client_was_gone()
        self._client.close()
        tell(flights=self.flights.count, unwaited=self.flights.unwaited)

    def _hear_client(self) -> None:
        while octets := received(self._client):
            self.flights.client_spoke()
            self._up.put(Parcel(time.monotonic() + self._half, octets))
        self._up.put(Parcel(time.monotonic() + self._half, b""))

    def _hear_server(self) -> None:
        assert self._server is not None
        while octets := received(self._server):
            self._down.put(Parcel(time.monotonic() + self._half, octets))
        self._down.put(Parcel(time.monotonic() + self._half, b""))

    def _tell_server(self) -> None:
        assert self._server is not None
        deliver(self._up, self._server)

    def _tell_client(self) -> None:
        deliver(self._down, self._client, self.flights)


def deliver(parcels: queue.SimpleQueue[Parcel], to: socket.socket, flights: Flights | None = None) -> None:
    """Pass parcels on when they are due, until the one that ends the direction."""
    with contextlib.suppress(OSError):
        while True:
            parcel = parcels.get()
            sleep_until(parcel.due)
            if not parcel.octets:
                to.shutdown(socket.SHUT_WR)
                return
            if flights is not None:
                flights.server_speaks()
            to.sendall(parcel.octets)
            if flights is not None and not is_open(to):
                flights.client_was_gone()


def is_open(sock: socket.socket) -> bool:
    """Whether the other side still listens; one that closed has answered the last send with a reset, on a loopback."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0 and sock.getsockopt(*TCP_STATE) != CLOSED


def received(sock: socket.socket) -> bytes:
    """The next bytes; empty at the end, however it came."""
    try:
        return sock.recv(BLOCK)
    except OSError:
        return b""


def sleep_until(moment: float) -> None:
    left = moment - time.monotonic()
    if left > 0:
        time.sleep(left)


def tell(**facts: object) -> None:
    """One line to whoever runs us."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def listen(port: int, rtt: float) -> int:
    """Serve a free port of the loopback, which leads to that port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    def serve() -> None:
        while True:
            client, _ = listener.accept()
            threading.Thread(target=Connection(client, port, rtt).run, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return int(listener.getsockname()[1])


def main() -> None:
    rtt = float(sys.argv[1])
    tell(ports=[listen(int(port), rtt) for port in sys.argv[2:]])
    sys.stdin.read()


if __name__ == "__main__":
    main()
