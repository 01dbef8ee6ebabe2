"""The time of day, and whether it can be true: machines without a battery wake up in 1970 (INTERMITTENT 6.0)."""

from __future__ import annotations

import time

BUILT = 1_795_219_200
"""2026-11-21, seconds since the epoch: a clock that shows an earlier time than this program was built at is wrong."""


def now() -> float:
    """Seconds since the epoch, as this machine has them."""
    return time.time()


def is_sane(moment: float) -> bool:
    """Whether a moment can have been, so that something may expire by it, or be counted from it."""
    return moment >= BUILT
