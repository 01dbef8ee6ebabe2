"""Charts as SVG, drawn with a few shapes; they read in light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 960
COLOURS = ("#2f81f7", "#d9822b", "#1a9c87")
STYLE = """\
  text { font: 13px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
  .title { font-size: 16px; font-weight: 600; }
  .bold { font-weight: 700; }
  .small { font-size: 12px; }
  .bar { opacity: 0.55; }
  .ours { opacity: 1; }
  .line { fill: none; stroke-width: 2; }
"""
# Paper, ink, quiet ink, grid. Literal colours, since not every reader of SVG knows variables.
LIGHT = ("#ffffff", "#1f2328", "#59636e", "#d8dee4")
DARK = ("#0d1117", "#e6edf3", "#9198a1", "#3d444d")


def colours(paper: str, ink: str, quiet: str, grid: str) -> str:
    return f".paper {{ fill: {paper} }} text {{ fill: {ink} }} .quiet {{ fill: {quiet} }} .grid {{ stroke: {grid} }}"


@dataclass(frozen=True)
class Bars:
    """One panel: a value for each group (a peer) and series (a mode), None where there is none."""

    title: str
    values: dict[str, tuple[float | None, ...]]
    marks: dict[str, tuple[str, ...]]  # what is written at the end of each bar
    limit: float = math.inf  # longer bars are cut


@dataclass(frozen=True)
class Line:
    """One panel of amounts and what they cost, both axes logarithmic."""

    title: str
    points: tuple[tuple[float, float], ...]
    across: str  # what the amounts are
    colour: str


def text(x: float, y: float, words: str, style: str = "", anchor: str = "start") -> str:
    name = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{name}>{escape(words)}</text>\n'


def line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="grid" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>\n'


def document(height: float, name: str, content: str) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}"'
    head += f' viewBox="0 0 {WIDTH} {height:.0f}" role="img">\n<title>{escape(name)}</title>\n<style>\n'
    head += f"{STYLE}  {colours(*LIGHT)}\n  @media (prefers-color-scheme: dark) {{ {colours(*DARK)} }}\n</style>\n"
    return head + f'<rect class="paper" width="{WIDTH}" height="{height:.0f}"/>\n{content}</svg>\n'


def legend(names: Sequence[str], y: float) -> str:
    drawn = ""
    x = 100.0
    for name, colour in zip(names, COLOURS, strict=False):
        drawn += f'<rect x="{x:.0f}" y="{y - 10:.0f}" width="12" height="12" rx="2" fill="{colour}"/>\n'
        drawn += text(x + 18, y, name)
        x += 46 + 8 * len(name)
    return drawn


def bars(title: str, series: Sequence[str], panels: Sequence[Bars], first: str) -> str:
    """Horizontal bars, a row for each group; `first` is the group that stands out."""
    groups = list(panels[0].values)
    thick, row = 13.0, 13.0 * len(series) + 14
    top, left, gap = 92.0, 100.0, 70.0
    width = (WIDTH - left - gap * len(panels)) / len(panels)
    height = top + row * len(groups) + 14
    drawn = text(20, 30, title, "title") + legend(series, 56)
    for number, panel in enumerate(panels):
        x = left + number * (width + gap)
        drawn += text(x, 82, panel.title, "small quiet")
        most = min(
            panel.limit, max((value for values in panel.values.values() for value in values if value), default=1)
        )
        for place, group in enumerate(groups):
            y = top + place * row
            ours = group == first
            if number == 0:
                drawn += text(left - 10, y + row / 2, group, "bold" if ours else "", "end")
            pairs = zip(panel.values[group], panel.marks[group], COLOURS, strict=False)
            for step, (value, mark, colour) in enumerate(pairs):
                at = y + step * thick
                length = width * min(value or 0, most) / most
                look = f'class="bar{" ours" if ours else ""}" fill="{colour}"'
                drawn += f'<rect {look} x="{x:.1f}" y="{at:.1f}" width="{length:.1f}" height="{thick - 2}" rx="2"/>\n'
                mark = f"{mark} \u2192" if (value or 0) > most else mark
                drawn += text(x + length + 5, at + thick - 3, mark, "bold" if ours and value else "small quiet")
        drawn += line(x, top - 4, x, height - 14)
    return document(height, title, drawn)


def curves(title: str, rows: Sequence[Sequence[Line]]) -> str:
    """Panels in rows; both axes of each are logarithmic, decades are marked."""
    across = max(map(len, rows))
    width, tall, top = (WIDTH - 40) / across, 220.0, 46.0
    drawn = text(20, 30, title, "title")
    for down, row in enumerate(rows):
        for right, panel in enumerate(row):
            drawn += _curve(panel, 20 + right * width + 56, top + down * tall + 34, width - 84, tall - 84)
    return document(top + tall * len(rows), title, drawn)


def _curve(panel: Line, x: float, y: float, width: float, height: float) -> str:
    drawn = text(x - 50, y - 14, panel.title, "bold")
    xs = [math.log10(amount) for amount, _ in panel.points]
    ys = [math.log10(cost) for _, cost in panel.points]
    low, high = math.floor(min(ys)), max(math.ceil(max(ys)), math.floor(min(ys)) + 1)
    wide = (max(xs) - min(xs)) or 1

    def place(across: float, up: float) -> tuple[float, float]:
        return x + width * (across - min(xs)) / wide, y + height * (high - up) / (high - low)

    for decade in range(low, high + 1):
        _, at = place(0, decade)
        drawn += line(x, at, x + width, at) + text(x - 6, at + 4, short(10.0**decade), "small quiet", "end")
    first, last = math.ceil(min(xs)), math.floor(max(xs))
    for decade in range(first, last + 1):
        at, _ = place(decade, low)
        drawn += line(at, y + height, at, y + height + 4)
        if (last - decade) % (2 if last - first > 4 else 1) == 0:
            drawn += text(at, y + height + 18, short(10.0**decade), "small quiet", "middle")
    drawn += text(x + width / 2, y + height + 36, panel.across, "small quiet", "middle")
    dots = [place(*point) for point in zip(xs, ys, strict=True)]
    path = " ".join(f"{across:.1f},{down:.1f}" for across, down in dots)
    drawn += f'<polyline class="line" stroke="{panel.colour}" points="{path}"/>\n'
    for across, down in dots:
        drawn += f'<circle cx="{across:.1f}" cy="{down:.1f}" r="3.5" fill="{panel.colour}"/>\n'
    return drawn


def short(number: float) -> str:
    """1 000 as 1k, a million as 1M, 0.01 as it is."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:g}{letter}"
    return f"{number:g}"
