"""The address space limited, in steps, from where Python starts to where the program works; and 1 GiB of mail (G9)."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench.lab import Case, Lab
from tests.bench.peers import Peer, muawrap
from tests.torture.scenes import PROGRAM, SCENES, Scene, Stage, staged
from tests.torture.tally import Run, Tally, faults
from tests.torture.warm import PATIENCE

MIB = 1024  # of the KiB that ulimit counts in
MOST = 48 * MIB  # where the program must work
HUGE, HUGE_PEAK = 1 << 30, 40 << 20  # octets of a message, and of memory for it
GOOD = 3  # steps in a row that worked, until the rest of them will

PYTHON = (sys.executable, "-I", "-S")
_READ = "import sys; compile(open(sys.argv[1]).read(), 'sendmail', 'exec')"


def limited(limit: int, argv: list[str], stdin: bytes = b"") -> Run:
    """A command with so many KiB of address space, and some seconds of the processor: without room Python may spin."""
    command = ["/bin/sh", "-c", 'ulimit -t 2 && ulimit -v "$0" && exec "$@"', str(limit), *argv]
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, env={}, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired as late:
        return Run(None, late.stdout or b"", late.stderr or b"")
    return Run(done.returncode, done.stdout, done.stderr)


def smallest(step: int) -> int:
    """The last limit, counted downwards, under which Python starts and reads the program.

    What Python does below that is not ours: it prints what it likes, or hangs.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".py") as control:
        control.write(_READ)
        control.flush()
        limit = MOST // step * step
        while limited(limit - step, [*PYTHON, control.name, PROGRAM]).status == 0:
            limit -= step
    return limit


def tortured(scene: Scene, step: int = MIB) -> Tally:
    """One scene under every limit, until it has worked some times in a row."""
    tally = Tally(f"memory limited: {scene.name}")
    with tempfile.TemporaryDirectory() as folder, staged(scene, Path(folder)) as stage:
        first = smallest(step)
        worked: list[int] = []
        for limit in _limits(first, step, worked):
            ran = _one(stage, limit, tally)
            worked[:] = [*worked, limit] if ran.status == 0 else []
        at = f"and the message is sent from {worked[0] / MIB:g} MiB on" if worked else "and the message is never sent"
        tally.notes.append(f"{scene.name}: Python starts with {first / MIB:g} MiB of address space, {at}")
        if not worked:
            tally.add(f"{scene.name}, {MOST / MIB:g} MiB", {"lost"})
    return tally


def huge(mode: str) -> Tally:
    """A message of 1 GiB, and the most memory that sending it took."""
    tally = Tally(f"1 GiB: {mode}")
    with Lab() as lab:
        sample = lab.run(Peer("muawrap", PROGRAM, {}, muawrap), Case(mode, octets=HUGE), PATIENCE)
    tally.add(
        sample.trouble or f"{sample.peak >> 20} MiB", {"lost"} if sample.trouble or sample.peak > HUGE_PEAK else ()
    )
    tally.notes.append(f"1 GiB, {mode}: peak of {sample.peak / (1 << 20):.1f} MiB")
    return tally


def _limits(first: int, step: int, worked: list[int]) -> Iterator[int]:
    for limit in range(first, MOST, step):
        if len(worked) == GOOD:
            return
        yield limit


def _one(stage: Stage, limit: int, tally: Tally) -> Run:
    ran = limited(limit, [*PYTHON, PROGRAM, *stage.argv], stage.scene.stdin)
    tally.add(f"{stage.scene.name}, {limit} KiB", faults(ran, stage.copies(), stage.scene.text), ran)
    return ran


def jobs(sample: bool) -> list[tuple[Callable[..., Tally], tuple[object, ...]]]:
    """What may run side by side."""
    scenes = [scene for scene in SCENES if scene.name in ("clear, DATA", "TLS, DATA")]
    sweeps = [(tortured, (scene, 2 * MIB if sample else MIB // 4)) for scene in (scenes[:1] if sample else scenes)]
    return [*sweeps, *([] if sample else [(huge, ("plain",)), (huge, ("starttls",))])]
