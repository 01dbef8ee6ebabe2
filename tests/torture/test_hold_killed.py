"""A sample of `muawrap hold` broken at its system calls; `make torture ARGS="--only hold"` runs all of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.need import need
from tests.support.spool import Machine
from tests.torture import holding
from tests.torture.holding import SCENES, Scene


@pytest.mark.row("H2")
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_0_is_a_whole_message_and_75_is_none(scene: Scene) -> None:
    """INTERMITTENT 6.3, 7: killed, interrupted or failed anywhere; and the same again is there once."""
    need("strace")
    tally = holding.tortured(scene, sample=5)
    assert tally.good, "\n".join(tally.told)


@pytest.mark.row("H1")
def test_a_message_is_on_disk_before_it_has_a_name_and_its_name_before_0(tmp_path: Path) -> None:
    """INTERMITTENT 6.3: write, fsync, link, fsync of the directory, exit; nothing of these in another order."""
    need("strace")
    machine = Machine(tmp_path)
    ran, lines = holding.strace(machine, SCENES[0], "-e", "trace=write,fsync,linkat,exit_group,mkdirat,mkdir")
    assert ran.status == 0
    place = re.escape(str(machine.spool / "cheshire"))
    steps = {
        "folder": rf'mkdir(?:at)?\((?:AT_FDCWD\S*, )?"{place}", ',
        "folder on disk": rf"fsync\(\d+<{re.escape(str(machine.spool))}>\) += 0",
        "text": rf"write\(\d+<{place}/tmp/[^>]+>",
        "text on disk": rf"fsync\(\d+<{place}/tmp/[^>]+>\) += 0",
        "name": rf"linkat\(\d+<{place}/tmp>, .*, \d+<{place}/new>, ",
        "name on disk": rf"fsync\(\d+<{place}/new>\) += 0",
        "0": r"exit_group\(0\)",
    }
    found = [name for line in lines for name, pattern in steps.items() if re.search(pattern, line)]
    assert [name for number, name in enumerate(found) if name not in found[:number]] == list(steps)
    assert found.index("name") > len(found) - 1 - found[::-1].index("text on disk")  # after the last of them
