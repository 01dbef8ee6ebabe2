"""A sample of `muawrap ship` killed at its system calls, and the order of those that a power failure asks for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.need import missing, need
from tests.support.server import Server
from tests.support.shipping import CHUNKING, host
from tests.torture import ship
from tests.torture.ship import SCENES, Scene


@pytest.fixture(autouse=True)
def strace() -> None:
    if sys.platform != "linux":
        missing("Linux")
    need("strace")


@pytest.mark.row("H5")
@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_whenever_it_is_killed_nothing_is_lost_and_nothing_goes_twice(scene: Scene) -> None:
    """INTERMITTENT 6.4, 7: mixed outcomes, refusals and bounces; what may have been sent is parked, or sent again."""
    tally = ship.tortured(scene, sample=5)
    assert tally.good, "\n".join([f"{tally.runs} runs, {dict(tally.counts)}", *tally.told])


@pytest.mark.row("H6")
def test_each_step_is_on_disk_before_the_next(tmp_path: Path) -> None:
    """INTERMITTENT 6.4: dot, the end of the text, ack, removal, each with its fsync: for power failures."""
    with Server(extensions=CHUNKING) as server:
        made = host(tmp_path, server)
        made.put("one")
        run, lines = ship.strace(made, "-e", "trace=write,fsync,sendto,unlinkat", "-y", "-s", "300")
    assert run.status == 0
    steps = [
        (r"write(", '.j>, "file '),
        (r"fsync(", "/done/one.j>"),
        (r"fsync(", "/done>"),
        (r"sendto(", "LAST"),
        (r"write(", '"ack 250 2.0.0 taken'),
        (r"fsync(", "/done/one.j>"),
        (r"unlinkat(", '"one"'),
        (r"fsync(", "/new>"),
        (r"unlinkat(", '"one.j"'),
    ]
    at = 0
    for call, words in steps:
        at = next((n for n in range(at, len(lines)) if lines[n].startswith(call) and words in lines[n]), -1) + 1
        assert at, f"{call}...{words} does not come in its turn:\n" + "\n".join(lines[-60:])
