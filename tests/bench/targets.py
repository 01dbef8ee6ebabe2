"""The targets P1 to P7, and the verdict on each; pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tests.bench.growth import FLAT, LINEAR, Curve
from tests.bench.lab import Case
from tests.bench.peers import MODES
from tests.bench.rounds import Results

OURS = "muawrap"
RTT = 0.05
MANY = 100
LARGE = 50_000_000
HUGE = 1 << 30
MIB = 1 << 20
BATCH = Case("tls", rtt=RTT, messages=1000)
FEWER = 8  # times fewer seconds a message in a batch than in a process each
NAMES = {"plain": "plain", "starttls": "STARTTLS+AUTH", "tls": "TLS+AUTH"}
FLIGHTS = {1: {"plain": 2, "starttls": 6, "tls": 5}, MANY: {"plain": 3, "starttls": 7, "tls": 6}}


@dataclass(frozen=True)
class Check:
    """One line of the table of targets, as it is printed."""

    number: str
    what: str
    target: str
    ours: str
    peer: str
    ratio: str
    verdict: str


def verdict(value: float | None, limit: float) -> str:
    return "-" if value is None else "met" if value <= limit else "missed"


def checks(results: Results, curves: list[Curve]) -> list[Check]:
    """The whole table; a row whose measurement is missing stays, and says so."""
    return [*_flights(results), *_walls(results), *_memory(results), _batch(results), *_growth(curves)]


def _flights(results: Results) -> Iterator[Check]:
    for recipients, targets in FLIGHTS.items():
        for mode, target in targets.items():
            case = Case(mode, recipients, rtt=RTT)
            ours, exim = (results.of(case, name) for name in (OURS, "Exim"))
            waited, peer = ours.most("waited"), exim.median("waited")
            yield Check(
                "P1",
                f"flights, {NAMES[mode]}, {count(recipients)}",
                f"<= {target}",
                flights(ours.most("flights"), waited),
                f"Exim {flights(exim.median('flights'), peer)}" if peer else "Exim -",
                f"{waited / peer:.2f}" if waited and peer else "-",
                verdict(waited, target),
            )


def flights(all_of_them: float | None, waited: float | None) -> str:
    """Those waited for; and how many more were sent and not waited for, where there are any."""
    if all_of_them is None or waited is None:
        return "-"
    return f"{waited:.0f}" + (f"+{all_of_them - waited:.0f}" if all_of_them > waited else "")


def _walls(results: Results) -> Iterator[Check]:
    for recipients in FLIGHTS:
        for mode in MODES:
            what = f"wall at RTT {RTT * 1000:.0f} ms, {NAMES[mode]}, {count(recipients)}"
            for peer, limit in (("Exim", 0.90), ("msmtp", 0.80)):
                yield against(results, "P2", what, Case(mode, recipients, rtt=RTT), peer, limit)
    for mode, limit in (("plain", 1.0), ("starttls", 0.65), ("tls", 0.65)):
        yield against(results, "P3", f"wall on loopback, 1 KB, {NAMES[mode]}", Case(mode), "msmtp", limit)
    for mode in ("plain", "starttls"):
        for peer, limit in (("Exim", 0.5), ("curl", 2.5)):
            yield against(results, "P4", f"wall, 50 MB, {NAMES[mode]}", Case(mode, octets=LARGE), peer, limit)
    yield against(results, "P5", "wall on loopback, 1000 recipients", Case("plain", 1000), "Exim", 1.2)


def against(results: Results, number: str, what: str, case: Case, peer: str, limit: float) -> Check:
    """Our wall time as a multiple of a peer's."""
    ours, theirs = results.of(case, OURS), results.of(case, peer)
    ratio = results.ratio(case, OURS, peer)
    if not ours.good:
        judged = ours.trouble or "not measured"
    elif not theirs.good:
        judged = f"no peer ({theirs.trouble})" if theirs.trouble else "no peer"
    else:
        judged = verdict(ratio, limit)
    return Check(
        number,
        what,
        f"<= {limit:.2f} x {peer}",
        milliseconds(ours.median("wall")),
        f"{peer} {milliseconds(theirs.median('wall'))}",
        "-" if ratio is None else f"{ratio:.2f}",
        judged,
    )


def _memory(results: Results) -> Iterator[Check]:
    for octets, size in ((LARGE, "50 MB"), (HUGE, "1 GiB")):
        for mode in ("plain", "starttls"):
            case = Case(mode, octets=octets)
            ours, exim = results.of(case, OURS), results.of(case, "Exim")
            most = ours.most("peak")
            judged = verdict(most, 32 * MIB) if most else ours.trouble or "not measured"
            peer = mebibytes(exim.median("peak"))
            yield Check(
                "P4", f"peak memory, {size}, {NAMES[mode]}", "<= 32 MiB", mebibytes(most), f"Exim {peer}", "-", judged
            )


def _batch(results: Results) -> Check:
    """Against the best of those who need a process for each message, in the same rounds."""
    case = batch(results)
    walls = {name: results.of(case, name).median("wall") for name in ("Exim", "msmtp")}
    best = min(walls, key=lambda name: walls[name] or float("inf"))
    what = f"wall a message at RTT {RTT * 1000:.0f} ms, {NAMES[case.mode]}, -bS with {case.messages}"
    return replace(against(results, "P6", what, case, best, 1 / FEWER), target=f"<= 1/{FEWER} x {best}")


def batch(results: Results) -> Case:
    """The batch that was measured, shorter in the quick plan."""
    return next((case for case, _ in results.series if case.messages > 1), BATCH)


def _growth(curves: list[Curve]) -> Iterator[Check]:
    for curve in curves:
        to = f"{curve.points[-1].amount:,} {curve.unit}" if curve.points else curve.unit
        exponent = curve.exponent
        yield Check(
            "P7",
            f"growth of time, to {to}",
            f"exponent <= {LINEAR}",
            "-" if exponent is None else f"{exponent:.2f}",
            "-",
            "-",
            curve.trouble or verdict(exponent, LINEAR),
        )
        if curve.unit == "octets":
            memory = curve.memory
            last = "-" if memory is None else f"{memory:.2f}"
            judged = curve.trouble or verdict(memory, FLAT)
            yield Check("P7", f"growth of memory, to {to}", f"last step <= {FLAT}", last, "-", "-", judged)


def count(recipients: int) -> str:
    return "1 recipient" if recipients == 1 else f"{recipients} recipients"


def milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.1f} ms" if seconds < 0.1 else f"{seconds * 1000:.0f} ms"


def mebibytes(octets: float | None) -> str:
    return "-" if octets is None else f"{octets / MIB:.1f} MiB"
