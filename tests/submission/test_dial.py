"""The addresses of one smart host race for the connection."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from muawrap.failure import TRY_AGAIN, Failure, Stage
from muawrap.mail import Timeouts
from muawrap.submission import dial, smarthosts
from muawrap.submission.dial import Dial, interleaved
from muawrap.submission.smarthosts import Address
from tests.submission.offering import smart_host
from tests.support.server import closed_port

FOUR, SIX = socket.AF_INET, socket.AF_INET6


@contextlib.contextmanager
def silent() -> Iterator[Address]:
    """An address that takes no connection and refuses none: its queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        waiting = []
        for _ in range(4):
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(full.getsockname())
        try:
            yield Address(FOUR, full.getsockname())
        finally:
            for one in waiting:
                one.close()


@contextlib.contextmanager
def listening() -> Iterator[tuple[socket.socket, Address]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server, Address(FOUR, server.getsockname())


def dialled(monkeypatch: pytest.MonkeyPatch, addresses: list[Address], connect: float = 5) -> Dial:
    monkeypatch.setattr(smarthosts, "addresses", lambda host: addresses)
    return Dial(smart_host(25, timeouts=Timeouts(connect=connect)))


@pytest.mark.row("S3")
def test_a_dead_address_costs_a_quarter_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """RULES C5: not the thirty seconds of the connection."""
    with silent() as dead, listening() as (_, alive):
        began = time.monotonic()
        with dialled(monkeypatch, [dead, alive]).connected() as made:
            assert made.getpeername() == alive.sockaddr
            assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert dial.STAGGER <= time.monotonic() - began < 2


def test_a_connection_that_timeouts_total_cuts_short_tells_how_long_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """A3: not timeouts.connect, which nobody has waited for."""
    with silent() as dead:
        monkeypatch.setattr(smarthosts, "addresses", lambda host: [dead])
        cut = Dial(smart_host(25, timeouts=Timeouts(connect=30, total=0.3)), end=time.monotonic() + 0.3)
        with pytest.raises(Failure, match=r"no answer within 0(\.[0-9]+)? s"):
            cut.connected()


def test_a_refused_address_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """RULES C5: the next one is tried at once."""
    monkeypatch.setattr(dial, "STAGGER", 60)
    with closed_port() as port, listening() as (_, alive):
        made = dialled(monkeypatch, [Address(FOUR, ("127.0.0.1", port)), alive]).connected()
        assert made.getpeername() == alive.sockaddr
        made.close()


def test_only_one_connection_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """RULES C5: the losers are closed, and a server sees no half-hearted callers."""
    with listening() as (first, one), listening() as (second, two):
        with dialled(monkeypatch, [one, two]).connected() as made:
            assert made.getpeername() == one.sockaddr
        second.setblocking(False)
        with pytest.raises(BlockingIOError):
            second.accept()
        first.accept()[0].close()


def test_the_families_take_turns() -> None:
    """RFC 8305, 4."""
    sixes = [Address(SIX, (f"::{number}", 25, 0, 0)) for number in range(3)]
    fours = [Address(FOUR, (f"127.0.0.{number}", 25)) for number in range(2)]
    assert interleaved([*sixes, *fours]) == [sixes[0], fours[0], sixes[1], fours[1], sixes[2]]
    assert interleaved([]) == []


def test_each_address_has_its_reason_where_they_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """RULES C7."""
    with silent() as dead, closed_port() as port:
        closed = Address(FOUR, ("127.0.0.1", port))
        with pytest.raises(Failure) as caught:
            dialled(monkeypatch, [closed, dead], connect=0.3).connected()
    assert caught.value.stage is Stage.CONNECT
    assert caught.value.lead == TRY_AGAIN
    assert caught.value.what == "127.0.0.1: connection refused, 127.0.0.1: no answer within 0.3 s"


@pytest.mark.row("S13")
def test_a_resolver_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """RELIABILITY S13: the time for a connection covers the look-up of its name."""
    hang = threading.Event()

    def addresses(host: object) -> list[Address]:
        hang.wait(20)
        return []

    monkeypatch.setattr(smarthosts, "addresses", addresses)
    try:
        with pytest.raises(Failure, match="still being looked up"):
            Dial(smart_host(25, address="mail.example.org", timeouts=Timeouts(connect=0.2))).connected()
    finally:
        hang.set()


def test_a_literal_is_never_looked_up_and_dialled_at_once() -> None:
    """DESIGN: an IP-literal smart host costs no look-up, and the wire works while the rest is loaded."""
    with listening() as (server, address):
        under_way = Dial(smart_host(address.sockaddr[1]))  # type: ignore[arg-type]
        server.settimeout(5)
        server.accept()[0].close()  # it has arrived, and nobody has waited for it
        under_way.connected().close()
