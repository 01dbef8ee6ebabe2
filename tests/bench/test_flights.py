"""How many round trips a delivery waits for, counted between the program and a smart host, TLS included."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.lab import Case, Lab
from tests.bench.peers import Peer, muawrap

PROGRAM = Path(__file__).parents[2] / "bin" / "sendmail"
RTT = 0.05  # so long that a busy machine does not take the next flight for a part of this one
TIMEOUT = 60
OURS = Peer("muawrap", str(PROGRAM), {}, muawrap, batches=True)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.mark.parametrize(
    ("mode", "recipients", "flights"),
    [("plain", 1, 2), ("starttls", 1, 6), ("tls", 1, 5), ("plain", 2, 3), ("starttls", 2, 7), ("tls", 2, 6)],
)
def test_a_delivery_waits_for_no_more_flights_than_this(lab: Lab, mode: str, recipients: int, flights: int) -> None:
    """B5, B6, PERFORMANCE P1: handshakes, AUTH and the message; QUIT leaves and is not waited for."""
    sample = lab.run(OURS, Case(mode, recipients, rtt=RTT), TIMEOUT)
    assert sample.trouble == ""
    assert (sample.waited, sample.flights) == (flights, flights + 1)


@pytest.mark.parametrize("messages", [2, 10])
def test_a_batch_waits_for_one_flight_a_message(lab: Lab, messages: int) -> None:
    """E8, PERFORMANCE P6: beside the handshakes, AUTH and the envelope of the first message; QUIT is not waited for."""
    sample = lab.run(OURS, Case("tls", rtt=RTT, messages=messages), TIMEOUT)
    assert sample.trouble == ""
    assert (sample.waited, sample.flights) == (messages + 5, messages + 6)
