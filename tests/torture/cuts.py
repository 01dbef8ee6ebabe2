"""The link cut after every octet, in both directions, by FIN and by RST (figure G3)."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.torture.link import Cut
from tests.torture.scenes import SCENES, SESSIONS, Scene, Stage, staged
from tests.torture.tally import Run, Tally
from tests.torture.warm import Warm

SLACK = 24  # octets by which the length of a TLS handshake differs from run to run: signatures in DER

Runs = Callable[[list[str], bytes], Run]


def tortured(scene: Scene, sample: int | None = None, runs: Runs | None = None) -> Tally:
    """All cuts of a scene, or so many of them, by forks of the program, or by something that `runs` it."""
    tally = Tally("link cut: " + scene.name)
    with tempfile.TemporaryDirectory() as folder, staged(scene, Path(folder)) as stage, Warm(stage.asked) as warm:
        run = runs or warm.run
        end, verdict = _whole(stage, run, tally)
        cuts = list(_cuts(stage))
        for cut in random.Random(4).sample(cuts, sample) if sample else cuts:
            stage.link.cut = cut
            ran = run(stage.argv, scene.stdin)
            copies = stage.copies()
            heard = stage.link.octets("down")
            found = scene.faults(ran, copies, end_left=heard >= end, heard=heard >= verdict)
            tally.add(f"{scene.name}, {cut.how} after {cut.offset} octets {cut.direction}", found, ran)
    return tally


def _whole(stage: Stage, run: Runs, tally: Tally) -> tuple[int, int]:
    """The dialogue without a cut: how much the program hears before it sends the end of the message, and then QUIT."""
    ran = run(stage.argv, stage.scene.stdin)
    tally.add(f"{stage.scene.name}, no cut", stage.scene.faults(ran, stage.copies(), heard=True), ran)
    slack = 0 if stage.scene.hosts[0].secure == "clear" else SLACK
    return stage.link.heard_before_the_end() - slack, stage.link.heard_with_the_verdict() + slack


def _cuts(stage: Stage) -> Iterator[Cut]:
    for direction in ("up", "down"):
        for offset in range(stage.link.octets(direction) + 1):
            yield Cut(direction, offset, "FIN")
            yield Cut(direction, offset, "RST")


def jobs(sample: bool) -> list[tuple[Callable[..., Tally], tuple[object, ...]]]:
    """What may run side by side."""
    return [(tortured, (scene, 100 if sample else None)) for scene in (*SCENES, *SESSIONS)]
