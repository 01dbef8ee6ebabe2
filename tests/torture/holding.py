"""`muawrap hold` failed, interrupted and killed at each system call: 0 is a whole message, 75 none (INTERMITTENT 7)."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from muawrap.failure import Failure
from muawrap.holding.formats import batchsmtp
from tests.support.need import need
from tests.support.spool import Machine
from tests.torture import calls
from tests.torture.calls import Injection
from tests.torture.tally import Run, Tally

ERRORS = {
    **calls.ERRORS,
    "openat": ("EACCES", "EMFILE", "ENOMEM", "EIO", "ENOSPC", "EROFS"),
    "mkdirat": ("EACCES", "EIO", "ENOSPC", "EROFS"),
    "mkdir": ("EACCES", "EIO", "ENOSPC", "EROFS"),
    "fchmod": ("EPERM", "EIO", "EROFS"),
    "fsync": ("EIO", "ENOSPC", "EDQUOT"),
    "linkat": ("EIO", "ENOSPC", "EDQUOT", "EPERM"),
    "unlinkat": ("EIO", "EROFS"),
    "renameat": ("EIO", "ENOSPC"),
}
_LINE = re.compile(rb"muawrap: not held, try again: [\x20-\x7e]+\n")


@dataclass(frozen=True)
class Scene:
    """One call, and the texts that it is to hold."""

    name: str
    words: tuple[str, ...]
    stdin: bytes
    texts: tuple[bytes, ...]


def _transaction(text: bytes) -> bytes:
    return b"MAIL FROM:<me@client.example>\nRCPT TO:<you@example.net>\nDATA\n" + text.replace(b"\n.", b"\n..") + b".\n"


TEXTS = (b"Subject: one\n\nHello.\n.\nBye.\n", b"Subject: two\n\n" + b"0123456789abcde\n" * 100_000)
SCENES = (
    Scene("hold", ("--id", "1", "cheshire", "-f", "me@client.example", "you@example.net"), TEXTS[0], TEXTS[:1]),
    Scene("hold --bsmtp", ("--id", "1", "--bsmtp", "cheshire"), b"".join(map(_transaction, TEXTS)), TEXTS),
)


def strace(machine: Machine, scene: Scene, *options: str) -> tuple[Run, list[str]]:
    """The command under strace, and what strace wrote, line by line."""
    with tempfile.NamedTemporaryFile("r") as written:
        command = [need("strace"), "-f", "-qq", "-y", "-o", written.name, *options]
        argv = machine.argv("hold", *scene.words)
        try:
            done = subprocess.run(
                [*command, *argv],
                input=scene.stdin,
                capture_output=True,
                env=machine.environment(),
                timeout=60,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            return Run(None, late.stdout or b"", late.stderr or b""), written.read().splitlines()
        return Run(done.returncode, done.stdout, done.stderr), written.read().splitlines()


def held(machine: Machine) -> list[bytes]:
    """The texts in new/, b"" for a file that is no whole message."""
    found = []
    for path in machine.files():
        try:
            for one in batchsmtp.transactions(iter([path.read_bytes()])):
                found.append(one.header + b"\n" + b"".join(one.body.blocks()))
        except Failure:
            found.append(b"")
    return sorted(found)


def faults(run: Run, found: list[bytes], scene: Scene, mute: bool = False) -> set[str]:
    """Where the promise was broken."""
    bad = set()
    if any(text not in scene.texts for text in found):
        bad.add("short")
    if len(found) != len(set(found)):
        bad.add("duplicate")
    if b"Traceback" in run.err or b"Fatal Python error" in run.err:
        bad.add("tracebacks")
    if run.status is None:
        bad.add("hangs")
    elif run.status == 0:
        bad |= {"lost"} if found != sorted(scene.texts) else set()
        bad |= {"unlabelled"} if run.out or run.err else set()
    elif run.status == 75:
        # The caller gives it to us once more; what it names may be here already, and is held once all the same.
        bad |= {"duplicate"} if found and "--id" not in scene.words else set()
        bad |= {"unlabelled"} if not (mute or _LINE.fullmatch(run.err)) or run.out else set()
    elif run.status not in (-9, 137):
        bad.add("wrong status")
    return bad


def first(lines: list[str], machine: Machine) -> int:
    """Where the command begins to read its configuration; what comes before is Python's, and loads modules."""
    return next(number for number, line in enumerate(lines) if str(machine.config) in line and "openat(" in line)


def injections(lines: list[str], start: int) -> Iterator[Injection]:
    """Each call from there on, killed, interrupted, and with each of its errors."""
    before, all_of_them = calls.calls(lines[:start]), calls.calls(lines)
    for call in sorted(all_of_them):
        for when in range(before[call] + 1, all_of_them[call] + 1):
            if call not in calls.CANNOT_FAIL:
                for error in ERRORS.get(call, calls.OTHERWISE):
                    yield Injection(call, when, f"error={error}")
            if call not in ("exit_group", "rt_sigreturn"):
                yield Injection(call, when, "signal=TERM")
                yield Injection(call, when, "signal=KILL")


def tortured(scene: Scene, share: tuple[int, int] = (0, 1), sample: int | None = None) -> Tally:
    """One share of all injections into one scene."""
    tally = Tally(f"calls failed, interrupted and killed: {scene.name}")
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(Path(folder))
        machine.run("hold", *scene.words, stdin=scene.stdin)
        _forget(machine)
        ran, lines = strace(machine, scene)
        tally.add(f"{scene.name}, nothing injected", faults(ran, held(machine), scene), ran)
        planned = list(injections(lines, first(lines, machine)))[share[0] :: share[1]]
        for injection in random.Random(7).sample(planned, sample) if sample else planned:
            _inject(machine, scene, injection, tally)
    return tally


def _inject(machine: Machine, scene: Scene, injection: Injection, tally: Tally) -> None:
    _forget(machine)
    seen = f"trace={','.join(sorted({'openat', injection.call}))}"
    ran, lines = strace(machine, scene, "-e", seen, "-e", str(injection))
    hit = next((line for line in lines if "(INJECTED)" in line), "")
    found = faults(ran, held(machine), scene, mute="write(2" in hit)
    # The MTA gives it to us once more, and then it is there once.
    again = machine.run("hold", *scene.words, stdin=scene.stdin)
    if again.returncode != 0 or held(machine) != sorted(scene.texts):
        found.add("lost" if len(held(machine)) < len(scene.texts) else "duplicate")
    tally.add(f"{scene.name}, {injection}: {hit[:160]}", found, ran)


def _forget(machine: Machine) -> None:
    shutil.rmtree(machine.spool / "cheshire", ignore_errors=True)


def jobs(sample: bool) -> list[tuple[Callable[..., Tally], tuple[object, ...]]]:
    """What may run side by side."""
    if sample:
        return [(tortured, (scene, (0, 1), 20)) for scene in SCENES]
    shares = 4
    return [(tortured, (scene, (share, shares))) for scene in SCENES for share in range(shares)]
