"""`muawrap outbox` killed at every system call once it has the message: it is sent, or kept, or the caller knows."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.support.outbox import NOWHERE, Outbox
from tests.support.program import Program
from tests.support.server import Server
from tests.torture.scenes import MESSAGE
from tests.torture.tally import Run, Tally
from tests.torture.warm import PATIENCE

SCENES: dict[str, dict[str, str] | None] = {
    "down": None,
    "not now": {"RCPT": "451 4.2.1 later"},
    "no room": {"dot": "452 4.3.1 no room"},
    "up": {},
}
"""What the smart host does; None: nothing listens."""
_CALL = re.compile(r"^(\w+)\(")
_NO_STEP = ("exit_group", "munmap", "brk", "mmap", "mprotect", "rt_sigaction", "rt_sigreturn", "fstat", "lseek")
"""Calls that change nothing anybody else sees, and so no place of their own to die at."""


@dataclass
class Stage:
    """One caller, and the smart host."""

    outbox: Outbox
    server: Server | None

    def play(self, *options: str) -> tuple[Run, list[str]]:
        """`muawrap outbox` under strace, and what that wrote."""
        with tempfile.NamedTemporaryFile("r") as written:
            command = ["strace", "-qq", "-o", written.name, *options]
            done = subprocess.run(
                [*command, *self.outbox.argv("outbox", "-i", "you@example.net")],
                input=MESSAGE,
                capture_output=True,
                env=self.outbox.environment,
                timeout=PATIENCE,
                check=False,
            )
            return Run(done.returncode, done.stdout, done.stderr), written.read().splitlines()

    def faults(self, run: Run) -> set[str]:
        """What there is of the message, held against what was said; then there is nothing of it any more."""
        kept = [held.header + b"\n" + b"".join(held.body.blocks()) for held in self.outbox.waiting()]
        sent = []
        if self.server is not None:
            self.server.finished()
            sent = [one.text.replace(b"\r\n", b"\n") for one in self.server.accepted]
            self.server.sessions.clear()
        for file in (self.outbox.folder / "new").glob("*"):
            file.unlink()
        found = {"tracebacks"} if b"Traceback" in run.err else set()
        if len(sent) + len(kept) > 1:
            found.add("duplicate")
        if any(text != MESSAGE for text in (*sent, *kept)):
            found.add("short")
        if run.status == 0 and not sent and not kept:
            found.add("lost")
        if run.status not in (0, -signal.SIGKILL):
            found.add("wrong status")
        if run.status == 0 and bool(run.err) != bool(kept):
            found.add("unlabelled")
        return found


def steps(lines: list[str]) -> Iterator[tuple[str, int]]:
    """Each call once standard input has ended: its name, and which of that name it is."""
    start = next(number for number, line in enumerate(lines) if line.startswith('read(0, "", '))
    counts: Counter[str] = Counter()
    for number, line in enumerate(lines):
        call = _CALL.match(line)
        if call is not None:
            counts[call[1]] += 1
            if number > start and call[1] not in _NO_STEP:
                yield call[1], counts[call[1]]


def tortured(scene: str, share: tuple[int, int] = (0, 1), sample: int | None = None) -> Tally:
    """One share of all kills."""
    tally = Tally(f"outbox killed: {scene}")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        script = SCENES[scene]
        server = None if script is None else stack.enter_context(Server(script))
        stage = Stage(Outbox(Program(Path(folder))).configure(server or NOWHERE), server)
        stage.play()  # the folders are there, and whatever Python keeps
        stage.faults(Run(0, b"", b""))
        run, lines = stage.play()
        tally.add(f"{scene}, not killed", stage.faults(run), run)
        planned = list(steps(lines))[share[0] :: share[1]]
        for call, when in random.Random(4).sample(planned, sample) if sample else planned:
            run, lines = stage.play("-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={when}")
            tally.add(f"{scene}, killed at {call} {when}: {lines[-2:]}", stage.faults(run), run)
    return tally


def jobs(sample: bool) -> list[tuple[Callable[..., Tally], tuple[object, ...]]]:
    """What may run side by side."""
    if sample:
        return [(tortured, (scene, (0, 1), 10)) for scene in SCENES]
    return [(tortured, (scene, (share, 2))) for scene in SCENES for share in range(2)]
