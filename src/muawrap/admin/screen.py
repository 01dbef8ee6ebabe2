"""What every `muawrap` command shows in the same way: a failure, a table, a time, an age and a size."""

from __future__ import annotations

import time

import click

from muawrap import report
from muawrap.failure import Failure

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def told(failure: Failure) -> str:
    """A failure as one printable line, with what to do about it."""
    return report.printable(str(failure) + (f" ({failure.advice})" if failure.advice else ""))


def complain(failure: Failure, lead: bool = False) -> None:
    """A failure on standard error, in the name of this program; `lead`: with what became of the message."""
    click.echo(f"muawrap: {f'{failure.lead}: ' if lead else ''}{told(failure)}", err=True)


def table(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows as lines, each column as wide as its widest cell."""
    widths = [max(len(report.printable(row[column])) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(report.printable(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def moment(seconds: float) -> str:
    """A time of day with its date, as the machine's clock on the wall has it; "-" for none."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else "-"


def span(seconds: float) -> str:
    """A length of time by its two largest units, such as "1d3h"."""
    left = max(0, int(seconds))
    parts = []
    for size, unit in _UNITS:
        if left >= size:
            parts.append(f"{left // size}{unit}")
            left %= size
        elif parts:
            break
        if len(parts) == 2:
            break
    return "".join(parts) or "0s"


def size(octets: int) -> str:
    """A number of octets, such as "12 kB"."""
    for limit, unit in (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB"):
        if octets >= limit:
            return f"{octets / limit:.3g} {unit}"
    return f"{octets} B"
