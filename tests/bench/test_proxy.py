"""The proxy of the benchmark delays, and counts flights rightly."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.bench.lab import Service

RTT = 0.2  # long enough that a busy machine gets its words in before the answer
SLACK = 0.9  # of a delay; clocks are read on both sides of a sleep


@contextmanager
def through(script: list[tuple[bytes, bytes]]) -> Iterator[tuple[socket.socket, Service]]:
    """A client's socket behind a proxy; the server waits for what the script says, and answers it."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10)

    def serve() -> None:
        with listener.accept()[0] as server:
            server.settimeout(10)
            for expected, answer in script:
                heard = b""
                while len(heard) < len(expected):
                    heard += server.recv(len(expected) - len(heard))
                server.sendall(answer)
            while server.recv(100):
                pass

    thread = threading.Thread(target=serve)
    thread.start()
    proxy = Service("proxy", str(RTT), str(listener.getsockname()[1]))
    assert proxy.ready is not None
    try:
        with socket.create_connection(("127.0.0.1", proxy.ready["ports"][0]), timeout=10) as client:
            yield client, proxy
    finally:
        thread.join(10)
        listener.close()
        proxy.stop()


def test_a_group_of_sends_is_one_flight() -> None:
    """Greeting, three groups in five sends, each answered; the client stays for every answer."""
    with through([(b"", b"220"), (b"EHLO", b"250"), (b"MAILRCPT", b"250250"), (b"QUIT", b"221")]) as (client, proxy):
        client.recv(3)
        client.sendall(b"EH")
        client.sendall(b"LO")
        client.recv(3)
        client.sendall(b"MAIL")
        client.sendall(b"RCPT")
        client.recv(6)
        client.sendall(b"QUIT")
        client.recv(3)
        client.close()
        assert proxy.next() == {"flights": 3, "unwaited": 0}


def test_what_nobody_waits_for_is_told_apart() -> None:
    """A client that says QUIT and leaves has sent a flight that cost it nothing."""
    with through([(b"", b"220"), (b"EHLO", b"250"), (b"QUIT", b"221")]) as (client, proxy):
        client.recv(3)
        client.sendall(b"EHLO")
        client.recv(3)
        client.sendall(b"QUIT")
        client.close()
        assert proxy.next() == {"flights": 2, "unwaited": 1}


def test_a_client_that_ends_its_half_still_waits() -> None:
    """Exim says QUIT, shuts down its side, and reads on."""
    with through([(b"", b"220"), (b"QUIT", b"221")]) as (client, proxy):
        client.recv(3)
        client.sendall(b"QUIT")
        client.shutdown(socket.SHUT_WR)
        assert client.recv(3) == b"221"
        client.close()
        assert proxy.next() == {"flights": 1, "unwaited": 0}


@pytest.mark.parametrize("early", [False, True])
def test_the_handshake_costs_a_round_trip(early: bool) -> None:
    """The first answer takes two, whoever speaks first."""
    script = [(b"hello" if early else b"", b"220")]
    begin = time.monotonic()
    with through(script) as (client, _):
        begin = time.monotonic()
        if early:
            client.sendall(b"hello")
        client.recv(3)
        assert time.monotonic() - begin >= 2 * RTT * SLACK
        client.close()


def test_every_exchange_costs_a_round_trip() -> None:
    """Half of it in each direction."""
    with through([(b"", b"220"), (b"a", b"b")]) as (client, _):
        client.recv(3)
        begin = time.monotonic()
        client.sendall(b"a")
        client.recv(1)
        assert time.monotonic() - begin >= RTT * SLACK
        client.close()
