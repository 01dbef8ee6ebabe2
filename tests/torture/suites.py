"""Tests that are figures of their own: the pairs of hosts (G5), the hostile servers (G6), and the password (G8)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable

from tests.hostile.matrix.behaviours import BEHAVIOURS
from tests.hostile.matrix.test_matrix import pairs
from tests.support.program import REPOSITORY
from tests.torture.tally import Tally

MATRIX = "tests/hostile/matrix"
ALL = (
    ("G5, pairs of smart hosts", (MATRIX,), r"(\d+) passed"),
    ("G6, hostile servers, files and callers", ("tests/hostile", f"--ignore={MATRIX}"), r"(\d+) passed"),
    ("G8, outputs and logs without the password", ("tests",), r"the password was looked for in (\d+) outputs"),
)


def jobs(sample: bool) -> list[tuple[Callable[..., Tally], tuple[object, ...]]]:
    """One after the other would do, but they wait most of the time."""
    return [(run, suite) for suite in (ALL[:1] if sample else ALL)]


def run(part: str, paths: tuple[str, ...], counted: str) -> Tally:
    """The runs that these tests made and compared; a test that fails is a wrong status."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *paths]
    environment = {**os.environ, "MATRIX": "whole"}
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=False, env=environment)
    found = re.search(counted, done.stdout)
    runs = int(found[1]) if found else 0
    if runs and paths == (MATRIX,):
        runs = sum(len(list(pairs(first))) for first in range(len(BEHAVIOURS)))  # each of its tests makes many
    tally = Tally(part, runs)
    failed = re.findall(r"^(?:FAILED|ERROR) .*", done.stdout, re.MULTILINE)
    if failed or done.returncode:
        tally.counts["wrong status"] = len(failed) or 1
        tally.told += failed[:20] or [done.stdout[-400:]]
    return tally
