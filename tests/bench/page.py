"""The page docs/performance.md and its charts, written from one run."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path

from tests.bench import svg, tables
from tests.bench.growth import Curve
from tests.bench.lab import Case
from tests.bench.peers import MODES, NAMES, REPOSITORY, Peer
from tests.bench.rounds import Results
from tests.bench.targets import MIB, OURS, RTT, Check, batch, flights

DOCS = REPOSITORY / "docs"
SERIES = ("plain", "STARTTLS and AUTH", "TLS at once and AUTH")

PAGE = """\
# Performance

Written by `make bench ARGS=--write` on {date}. What does not depend on the machine comes first.

## Round trips

![Round trips and time for each program](performance.svg)

Client flights and wall time at a round trip of 50 ms, for 1 and for 100 recipients. A flight is a group of client bytes
between server bytes; each one that is waited for costs a round trip, on every machine. The TCP handshake and the
greeting cost two more. "7+1" is seven that were waited for, and one sent on leaving. Peers that name recipients one by
one pay a round trip for each.

{flights}
## Targets

Ratios are medians of ratios within one interleaved round, so that a machine that drifts does not matter.

{targets}
P6 is a script that has {messages} messages for `sendmail -bS`: one process and one connection, on which the envelope of
the next message rides with the text of this one, so that each costs one round trip ({batch}). The peers know
no such thing and are run once for each message; one run stands for all.

## On one machine

Loopback: wall ms / CPU ms / peak MiB, medians. No peak below {floor:.0f} MiB can be seen: a program begins with the
memory of the one that starts it, and the smallest starter in Python needs that much.

{loopback}
## Growth

![Time and memory of muawrap against size, recipients and aliases](growth.svg)

{slopes}
The exponent is that of the last step, without what the smallest amount costs: 1 is linear, 2 quadratic. Alias edges
lead to at most 10 000 distinct addresses, more than which no message may have.

{growth}
## How it is measured

    make bench                    # everything, within a quarter of an hour
    make bench ARGS=--quick       # fewer runs, within two minutes
    make bench ARGS=--write       # and this page

* Versions: {versions}.
* Machine: {machine}.
* Peers that are not installed are downloaded as Debian packages and unpacked in `~/.cache/muawrap-bench`.{missing}
  esmtp finds its AUTH mechanisms only where it is installed; unpacked, it runs in the clear only.
* The smart host is a sink that offers PIPELINING, 8BITMIME, SMTPUTF8, SIZE, CHUNKING, DSN and ENHANCEDSTATUSCODES.
  Runs count only if the body arrived unchanged, for all recipients, with TLS and AUTH where they were asked for.
* The network is a proxy that delays both directions by 25 ms and models the handshake; no loss, no bandwidth limit.
* ssmtp sleeps for a second before QUIT. msmtp waits 40 ms on the loopback, once in the clear and twice under TLS: it
  sends line by line without TCP_NODELAY. Both are as shipped.
{troubles}"""


def write(results: Results, curves: list[Curve], checks: list[Check], peers: list[Peer], missing: list[str]) -> None:
    """All three files."""
    DOCS.mkdir(exist_ok=True)
    (DOCS / "performance.md").write_text(page(results, curves, checks, peers, missing), encoding="utf-8")
    (DOCS / "performance.svg").write_text(distant(results), encoding="utf-8")
    (DOCS / "growth.svg").write_text(growth(curves), encoding="utf-8")


def page(results: Results, curves: list[Curve], checks: list[Check], peers: list[Peer], missing: list[str]) -> str:
    lowest = min((sample.peak for series in results.series.values() for sample in series.good), default=0)
    return PAGE.format(
        date=datetime.date.today().isoformat(),
        flights=tables.of_flights(results),
        targets=tables.of_targets(checks),
        messages=f"{batch(results).messages:,}",
        batch=told_flights(results),
        floor=lowest / MIB,
        loopback=tables.of_loopback(results),
        slopes=tables.of_slopes(curves),
        growth=tables.of_growth(curves),
        versions=", ".join(f"{peer.name} {peer.version}" for peer in peers),
        machine=f"{system()}, {os.cpu_count()} CPUs, benchmark on Python {platform.python_version()}",
        missing=f" Not to be had here: {', '.join(missing)}." if missing else "",
        troubles="".join(f"* Not counted: {trouble}.\n" for trouble in tables.troubles(results)),
    )


def told_flights(results: Results) -> str:
    """Of the batch."""
    ours = results.of(batch(results), OURS)
    return f"{flights(ours.most('flights'), ours.most('waited'))} flights in all" if ours.good else "not measured"


def system() -> str:
    """The name of this system, as it gives it."""
    release = Path("/etc/os-release")
    lines = release.read_text(encoding="utf-8").splitlines() if release.exists() else []
    name = next((line for line in lines if line.startswith("PRETTY_NAME=")), f"={platform.system()}")
    return name.partition("=")[2].strip('"')


def distant(results: Results) -> str:
    """Flights and wall time for each peer, one recipient, at RTT 50 ms."""
    cells = {name: [results.of(Case(mode, rtt=RTT), name) for mode in MODES] for name in NAMES}
    cells = {name: row for name, row in cells.items() if any(series.good for series in row)}
    counted = svg.Bars(
        "client flights waited for (each costs a round trip)",
        {name: tuple(series.median("waited") for series in row) for name, row in cells.items()},
        {name: tuple(flights(s.most("waited"), s.most("waited")) for s in row) for name, row in cells.items()},
    )
    walls = {name: tuple(series.median("wall") for series in row) for name, row in cells.items()}
    timed = svg.Bars(
        "wall time at a round trip of 50 ms, in ms",
        walls,
        {name: tuple("-" if wall is None else f"{wall * 1000:.0f}" for wall in row) for name, row in walls.items()},
        limit=0.8,
    )
    return svg.bars("One message to one recipient", SERIES, (counted, timed), OURS)


def growth(curves: list[Curve]) -> str:
    """Time above, memory below, for each curve."""
    drawn = [(curve, colour) for curve, colour in zip(curves, svg.COLOURS, strict=False) if len(curve.points) > 1]
    time = [
        svg.Line(f"{c.name}: seconds", tuple((p.amount, p.wall) for p in c.points), c.unit, colour)
        for c, colour in drawn
    ]
    memory = [
        svg.Line(f"{c.name}: MiB", tuple((p.amount, p.peak / MIB) for p in c.points), c.unit, colour)
        for c, colour in drawn
    ]
    return svg.curves("muawrap: cost against amount, loopback", (time, memory))
