"""A sample of each part of the torture; `make torture` runs all of them."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import Literal

import pytest

from tests.support.need import missing, need
from tests.torture import calls, crowd, cuts, memory
from tests.torture.link import Cut
from tests.torture.scenes import SCENES, SESSIONS, Scene, Session, staged
from tests.torture.tally import Tally
from tests.torture.warm import Warm, real


def assert_good(tally: Tally) -> None:
    assert tally.good, "\n".join([f"{tally.runs} runs, {dict(tally.counts)}", *tally.told])


@pytest.mark.row("S4", "S5", "G3")
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_a_link_that_is_cut_loses_nothing_and_doubles_nothing(scene: Scene) -> None:
    """C3: FIN or RST, in either direction; exit status and lead are true each time."""
    assert_good(cuts.tortured(scene, sample=24 if scene.plain else 8))


@pytest.mark.row("S4", "S5", "G3")
@pytest.mark.parametrize("scene", SESSIONS, ids=lambda scene: scene.name)
def test_a_link_that_is_cut_under_a_session_leaves_every_message_known(scene: Session) -> None:
    """E8, C3, C8: 250 to the dot is one copy, a refusal is none; a batch says how many were sent."""
    assert_good(cuts.tortured(scene, sample=16 if scene.plain else 8))


@pytest.mark.row("S4", "S5")
def test_the_program_as_users_start_it_bears_a_cut_as_well() -> None:
    """C3: what is forked to be fast is no other program."""
    assert_good(cuts.tortured(SCENES[1], sample=6, runs=real))


@pytest.mark.row("S5")
@pytest.mark.parametrize("how", ["FIN", "RST"])
@pytest.mark.parametrize("scene", SCENES[:5], ids=lambda scene: scene.name)
def test_a_verdict_that_is_lost_is_uncertain_and_no_second_host_is_tried(
    scene: Scene, how: Literal["FIN", "RST"], tmp_path: Path
) -> None:
    """C3: all but the last octet of it came, so the message has; its Message-ID tells the user what to look for."""
    with staged(scene, tmp_path) as stage, Warm() as warm:
        assert warm.run(stage.argv, scene.stdin).status == 0
        assert stage.copies() == [scene.text]
        stage.link.cut = Cut("down", stage.link.heard_with_the_verdict() - 1, how)
        ran = warm.run(stage.argv, scene.stdin)
        assert stage.copies() == [scene.text]
    assert (ran.status, ran.out) == (1, b"")
    assert ran.err.startswith(b"sendmail: may have been sent: ")
    assert b" [Message-ID <1@client.example>]" in ran.err


def linux() -> None:
    if sys.platform != "linux":
        missing("Linux")


@pytest.mark.row("L8", "G4")
@pytest.mark.parametrize("kind", ["error", "signal"])
def test_a_system_call_that_fails_is_one_line_or_no_matter(kind: str) -> None:
    """A1, A3: or is interrupted by SIGTERM; never a traceback, a hang, a second copy or half of one."""
    linux()
    need("strace")
    assert_good(calls.tortured(calls.PLAIN, kind, sample=20))


@pytest.mark.row("L8", "L4")
@pytest.mark.parametrize("call", ["write", "close"])
def test_trouble_after_the_verdict_changes_nothing(call: str, tmp_path: Path) -> None:
    """A5: the log cannot be written, the connection cannot be closed."""
    linux()
    need("strace")
    with staged(calls.PLAIN, tmp_path) as stage:
        lines = calls.strace(stage)[1]
        last = calls.calls(lines)[call]
        ran, lines = calls.strace(stage, "-e", f"inject={call}:error=EIO:when={last}")
        assert any("(INJECTED)" in line for line in islice(reversed(lines), 40))
        assert (ran.status, ran.out, ran.err) == (0, b"", b"")
        assert stage.copies() == [calls.PLAIN.text] * 2


@pytest.mark.row("L2", "G9")
def test_a_limit_on_memory_is_one_line_until_there_is_enough() -> None:
    """A1, A3: no traceback, wherever memory ends."""
    linux()
    assert_good(memory.tortured(SCENES[0], 2 * memory.MIB))


@pytest.mark.row("L6", "G7")
def test_a_crowd_of_senders_is_as_many_copies_and_log_lines() -> None:
    """B1, A5: all connections stand before the first is answered, and all write the same log."""
    assert_good(crowd.tortured(crowd.SAMPLE))
