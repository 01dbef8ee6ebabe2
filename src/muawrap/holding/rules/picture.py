"""A line of text that shows how tries lie in a span of time."""

from __future__ import annotations

import math
from collections.abc import Iterable

from muawrap.holding.rules.errors import UNITS, duration

WIDTH = 64
"""Marks in the line: with what stands around it, 80 columns are enough."""
BLOCKS = "▁▂▃▄▅▆▇█"
ASCII = ".:-=+*#@"
_QUARTERS = 4


def drawn(instants: Iterable[float], span: float, marks: str = BLOCKS) -> list[str]:
    """The line, its axis, and what the marks mean; instants and span are in seconds.

    The marks stand for numbers of tries by their order of magnitude: few rules would show anything otherwise, for most
    begin with many tries and go on with few.
    """
    counts = [0] * WIDTH
    for instant in instants:
        counts[min(int(instant / span * WIDTH), WIDTH - 1)] += 1
    most = max(counts)
    line = "".join(_mark(count, most, marks) for count in counts)
    meaning = f"one column is {duration(max(1, round(span / WIDTH)))}, {marks[0]} is 1 try"
    if most > 1:
        meaning += f", {marks[-1]} is {most}"
    return [f"|{line}|", _axis(span), f" {meaning}"]


def _mark(count: int, most: int, marks: str) -> str:
    if not count:
        return " "
    return marks[round(math.log(count, most) * (len(marks) - 1)) if most > 1 else 0]


def _axis(span: float) -> str:
    """Times below the quarters of the line, the last one flush with its end."""
    step = WIDTH // _QUARTERS
    finest = UNITS["h"] if span >= UNITS["w"] else UNITS["m"] if span >= UNITS["h"] else 1  # what there is room for
    labels = [duration(span * number / _QUARTERS // finest * finest) for number in range(_QUARTERS + 1)]
    text = "".join(label.ljust(step) for label in labels[:-1])
    return f" {text[: WIDTH - len(labels[-1]) - 1]} {labels[-1]}"
