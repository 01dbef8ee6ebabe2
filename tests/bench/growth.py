"""How time and memory grow: with the size of a message, with recipients, with alias expansion."""

from __future__ import annotations

import functools
import math
import statistics
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench import peers
from tests.bench.lab import Case, Lab

DISTINCT = 10_000  # addresses; the most one message may have (RULES D6)
TIMEOUT = 180.0
LINEAR = 1.2  # the exponent that passes for linear: cost ~ amount ** exponent
FLAT = 1.1  # and the growth of memory from the last point but one that passes for none


@dataclass(frozen=True)
class Point:
    """What one amount cost: medians."""

    amount: int
    wall: float  # seconds
    peak: float  # octets


@dataclass(frozen=True)
class Curve:
    """The points of one kind of growth, smallest amount first."""

    name: str
    unit: str
    points: tuple[Point, ...]
    trouble: str = ""

    @property
    def exponent(self) -> float | None:
        """Of the last step, what the smallest amount costs left out: 1 is linear, 2 quadratic, below 1 hidden in it."""
        if len(self.points) < 3:
            return None
        first, before, last = self.points[0], self.points[-2], self.points[-1]
        least = first.wall * 0.05  # what is smaller drowns in the start-up's own spread
        rise = max(last.wall - first.wall, least) / max(before.wall - first.wall, least)
        return math.log(rise) / math.log(last.amount / before.amount)

    @property
    def slope(self) -> float | None:
        """Seconds for each further one, by least squares."""
        if len(self.points) < 2:
            return None
        return statistics.linear_regression([p.amount for p in self.points], [p.wall for p in self.points]).slope

    @property
    def memory(self) -> float | None:
        """Peak memory of the last point, as a multiple of that of the last but one."""
        return self.points[-1].peak / self.points[-2].peak if len(self.points) > 1 else None


def measure(lab: Lab, ours: peers.Peer, name: str, unit: str, cases: dict[int, Case], rounds: int) -> Curve:
    """One curve: every amount in each round. It ends before the first amount that did not go through."""
    runs: dict[int, list[tuple[float, int]]] = {amount: [] for amount in cases}
    trouble = ""
    for _ in range(rounds):
        for amount, case in cases.items():
            sample = lab.run(ours, case, TIMEOUT)
            if sample.trouble:
                trouble = trouble or f"{amount} {unit}: {sample.trouble}"
                break
            runs[amount].append((sample.wall, sample.peak))
    points = (
        Point(amount, statistics.median(wall for wall, _ in found), statistics.median(peak for _, peak in found))
        for amount, found in runs.items()
        if found
    )
    return Curve(name, unit, tuple(points), trouble)


def sizes(lab: Lab, ours: peers.Peer, most: int, rounds: int) -> Curve:
    amounts = [*powers(1000, most)]
    return measure(lab, ours, "Size", "octets", {amount: Case("plain", octets=amount) for amount in amounts}, rounds)


def recipients(lab: Lab, ours: peers.Peer, most: int, rounds: int) -> Curve:
    cases = {amount: Case("plain", recipients=amount) for amount in powers(1, most)}
    return measure(lab, ours, "Recipients", "recipients", cases, rounds)


def aliases(lab: Lab, ours: peers.Peer, most: int, rounds: int) -> Curve:
    """Edges from "everyone" to lists and from these to addresses; every list has all of at most 10 000 addresses."""
    curves = []
    for edges in powers(10, most):
        file = write_aliases(lab.folder / f"aliases-{edges}", edges)
        peer = replace(ours, prepare=functools.partial(everyone, aliases=file))
        case = Case("plain", recipients=min(edges, DISTINCT))
        curves.append(measure(lab, peer, "", "edges", {edges: case}, rounds))
    points = tuple(point for curve in curves for point in curve.points)
    return Curve("Alias expansion", "edges", points, next((curve.trouble for curve in curves if curve.trouble), ""))


def everyone(path: str, job: peers.Job, aliases: Path) -> peers.Command:
    return peers.muawrap(path, replace(job, recipients=("everyone",)), aliases)


def write_aliases(path: Path, edges: int) -> Path:
    lists = max(1, edges // DISTINCT)
    addresses = ",\n  ".join(f"r{number}@bench.example" for number in range(min(edges, DISTINCT)))
    with path.open("w", encoding="ascii") as file:
        file.write("everyone: " + ", ".join(f"list{number}" for number in range(lists)) + "\n")
        for number in range(lists):
            file.write(f"list{number}: {addresses}\n")
    return path


def powers(first: int, most: int) -> list[int]:
    """The first, ten times as much and so on; and the most, at least three times what stands before it."""
    amounts = [first]
    while amounts[-1] * 30 <= most:
        amounts.append(amounts[-1] * 10)
    return [*amounts, most]
