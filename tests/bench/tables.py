"""Results as tables in Markdown, readable as plain text too; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.bench.growth import Curve
from tests.bench.lab import Case
from tests.bench.peers import MODES, NAMES
from tests.bench.rounds import Results, Series
from tests.bench.targets import LARGE, MANY, MIB, RTT, Check, flights

KINDS = (
    *((f"1 KB, {name}", Case(mode)) for mode, name in zip(MODES, ("plain", "STARTTLS+AUTH", "TLS+AUTH"), strict=True)),
    ("50 MB, plain", Case("plain", octets=LARGE)),
    ("50 MB, STARTTLS+AUTH", Case("starttls", octets=LARGE)),
    ("1 KB, 1000 recipients", Case("plain", 1000)),
)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns of even width."""
    lines = [list(head), *([*row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    lines.insert(1, ["-" * width for width in widths])
    return "".join(f"| {' | '.join(map(str.ljust, line, widths))} |\n" for line in lines)


def of_targets(checks: list[Check]) -> str:
    head = ("", "what", "target", "ours", "peer", "ratio", "verdict")
    rows = ((c.number, c.what, c.target, c.ours, c.peer, c.ratio, c.verdict) for c in checks)
    return table(head, rows)


def of_flights(results: Results) -> str:
    """Client flights and wall time over the distant network, for each peer."""
    columns = [(mode, recipients) for mode in MODES for recipients in (1, MANY)]
    head = ["flights / wall ms", *(f"{mode}, {recipients}" for mode, recipients in columns)]
    cells = [[_distant(results.of(Case(*column, rtt=RTT), name)) for column in columns] for name in NAMES]
    return table(head, ([name, *row] for name, row in zip(NAMES, cells, strict=True) if set(row) != {"-"}))


def _distant(series: Series) -> str:
    wall = series.median("wall")
    if wall is None:
        return "failed" if series.trouble else "-"
    return f"{flights(series.most('flights'), series.most('waited'))} / {wall * 1000:.0f}"


def of_loopback(results: Results) -> str:
    """Wall time, CPU time and peak memory on the loopback, for each peer."""
    head = ["wall ms / CPU ms / MiB", *(name for name, _ in KINDS)]
    cells = [[_local(results.of(case, name)) for _, case in KINDS] for name in NAMES]
    return table(head, ([name, *row] for name, row in zip(NAMES, cells, strict=True) if set(row) != {"-"}))


def _local(series: Series) -> str:
    wall, cpu, peak = (series.median(figure) for figure in ("wall", "cpu", "peak"))
    if wall is None or cpu is None or peak is None:
        return "failed" if series.trouble else "-"
    return f"{wall * 1000:.0f} / {cpu * 1000:.0f} / {peak / MIB:.1f}"


def of_growth(curves: list[Curve]) -> str:
    """Each point of each curve."""
    rows = [
        (curve.name, f"{point.amount:,} {curve.unit}", f"{point.wall * 1000:.0f}", f"{point.peak / MIB:.1f}")
        for curve in curves
        for point in curve.points
    ]
    return table(("growth", "amount", "wall ms", "peak MiB"), rows)


def of_slopes(curves: list[Curve]) -> str:
    rows = [
        (c.name, f"{c.slope * 1e6:.4g} us per {c.unit.rstrip('s')}" if c.slope else "-", f"{c.exponent or 0:.2f}")
        for c in curves
    ]
    return table(("growth", "slope (least squares)", "exponent of the last step"), rows)


def troubles(results: Results) -> list[str]:
    """Every series with runs that do not count."""
    found = []
    for (case, name), series in results.series.items():
        if series.trouble:
            where = f"{case.mode}, {case.recipients} recipients, {case.octets} octets, RTT {case.rtt * 1000:.0f} ms"
            where += f", {case.messages} messages" if case.messages > 1 else ""
            found.append(f"{name} ({where}): {series.trouble}")
    return found
