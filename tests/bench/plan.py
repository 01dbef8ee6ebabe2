"""What is run, how often and against whom: the quick plan and the full one."""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import replace

from tests.bench import growth
from tests.bench.lab import Case, Lab
from tests.bench.peers import MODES, NAMES, Peer
from tests.bench.rounds import Results
from tests.bench.targets import BATCH, HUGE, LARGE, MANY, OURS, RTT

BAR = (OURS, "Exim", "msmtp")  # those whom most targets name
TIMEOUT = 20.0  # seconds; for small messages, and a hundred recipients named one by one
LARGE_TIMEOUT = 60.0
BATCH_TIMEOUT = 300.0
QUICK_BATCH = 100  # messages


def rounds(bar: int, others: int, also: tuple[str, ...] = ()) -> dict[str, int]:
    return {name: bar if name in BAR or name in also else others for name in NAMES}


def run(lab: Lab, peers: list[Peer], quick: bool) -> tuple[Results, list[growth.Curve]]:
    """Every measurement of the chosen plan."""
    results = Results()
    for mode in MODES:
        say(f"1 recipient at RTT 50 ms, {mode}")
        results.interleave(lab, peers, Case(mode, rtt=RTT), rounds(3, 1) if quick else rounds(9, 3), TIMEOUT)
    for mode in MODES:
        say(f"{MANY} recipients at RTT 50 ms, {mode}")
        many = rounds(3, 0) if quick else rounds(7, 1)
        results.interleave(lab, peers, Case(mode, MANY, rtt=RTT), many, TIMEOUT, warm=False)
    batch = replace(BATCH, messages=QUICK_BATCH) if quick else BATCH
    say(f"{batch.messages} messages at RTT 50 ms, {batch.mode}")
    several = rounds(2, 0) if quick else rounds(3, 0)
    results.interleave(lab, peers, batch, several, BATCH_TIMEOUT, warm=False)
    for mode in MODES:
        say(f"loopback, {mode}")
        small = {**(rounds(7, 2) if quick else rounds(21, 21)), "ssmtp": 1 if quick else 3}
        results.interleave(lab, peers, Case(mode), small, TIMEOUT)
    for mode in ("plain", "starttls"):
        say(f"50 MB, {mode}")
        large = {OURS: 3, "Exim": 3, "curl": 3} if quick else rounds(7, 3, also=("curl",))
        results.interleave(lab, peers, Case(mode, octets=LARGE), large, LARGE_TIMEOUT)
    say("1000 recipients, loopback")
    results.interleave(lab, peers, Case("plain", 1000), rounds(5, 0) if quick else rounds(11, 3), TIMEOUT)
    return results, curves(lab, peers[0], quick, results)


def curves(lab: Lab, ours: Peer, quick: bool, results: Results) -> list[growth.Curve]:
    """The growth of ours, and a message of 1 GiB where there is room for it and for its spool."""
    largest = 100_000_000
    if not quick and shutil.disk_usage(lab.folder).free > 4 * HUGE:
        largest = HUGE
        say("1 GiB")
        for mode in ("plain", "starttls"):
            results.interleave(lab, [ours], Case(mode, octets=HUGE), {OURS: 1}, growth.TIMEOUT, warm=False)
    say("growth with size")
    found = [growth.sizes(lab, ours, largest, 3)]
    say("growth with recipients")
    found.append(growth.recipients(lab, ours, 10_000, 3 if quick else 7))
    say("growth with alias expansion")
    found.append(growth.aliases(lab, ours, 100_000 if quick else 1_000_000, 3))
    return found


def say(what: str) -> None:
    """Progress, for whoever waits."""
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)
