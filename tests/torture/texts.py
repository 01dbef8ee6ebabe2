"""Every short text over CR, LF, dot, NUL and a letter, read and taken to the wire as a reference says (G2)."""

from __future__ import annotations

import os
from collections.abc import Callable

from tests.hostile import normaliser
from tests.torture.tally import KEPT, Tally

ALL, SAMPLE = 9, 5  # octets of the longest texts


def jobs(sample: bool) -> list[tuple[Callable[..., Tally], tuple[object, ...]]]:
    """One, which takes all processors."""
    return [(proved, (SAMPLE if sample else ALL,))]


def proved(longest: int) -> Tally:
    """The proof's runs; whatever is not the text of the reference counts as short."""
    proof = normaliser.prove(longest, os.cpu_count() or 1)
    tally = Tally(f"texts: all {proof.texts} up to {longest} octets", proof.runs, told=proof.violations[:KEPT])
    tally.counts.update({"short": len(proof.violations)} if proof.violations else {})
    return tally
