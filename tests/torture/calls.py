"""Every system call of the program failed in turn, and every one interrupted by SIGTERM (figure G4)."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.torture.scenes import PROGRAM, SCENES, Scene, Stage, staged
from tests.torture.tally import Run, Tally, faults
from tests.torture.warm import PATIENCE

ERRORS = {
    "openat": ("EACCES", "EMFILE", "ENOMEM", "EIO"),
    "newfstatat": ("EACCES", "EIO", "ENOMEM"),
    "read": ("EIO", "EINTR", "ENOMEM"),
    "lseek": ("EINVAL", "ESPIPE"),
    "close": ("EIO", "EINTR", "ENOSPC"),
    "ioctl": ("EIO", "ENOTTY"),
    "getdents64": ("EIO", "ENOENT", "ENOMEM"),
    "mmap": ("ENOMEM", "EAGAIN", "EPERM"),
    "mprotect": ("ENOMEM", "EACCES"),
    "munmap": ("ENOMEM",),
    "getrandom": ("ENOSYS", "EINTR"),
    "socket": ("EACCES", "EAFNOSUPPORT", "EMFILE", "ENOBUFS"),
    "connect": ("ECONNREFUSED", "ENETUNREACH", "EACCES", "EADDRNOTAVAIL"),
    "sendto": ("EPIPE", "ECONNRESET", "EINTR", "EAGAIN", "ENOBUFS"),
    "recvfrom": ("ECONNRESET", "ETIMEDOUT", "EINTR", "EAGAIN", "ENOMEM"),
    "write": ("ENOSPC", "EIO", "EPIPE", "EINTR", "EDQUOT"),
    "poll": ("EINTR", "ENOMEM"),
    "pselect6": ("EINTR", "ENOMEM"),
}
OTHERWISE = ("EINVAL", "EIO", "ENOMEM")

CANNOT_FAIL = {
    "brk": "returns no errno, but the break as it is",
    "exit_group": "does not return",
    "futex": "fails only where the C library has a bug, and then that ends the process itself",
    "getegid": "always successful (manual page)",
    "geteuid": "always successful (manual page)",
    "getgid": "always successful (manual page)",
    "getpid": "always successful (manual page)",
    "gettid": "always successful (manual page)",
    "getuid": "always successful (manual page)",
    "rt_sigreturn": "does not return",
}
"""Calls that are interrupted, but not failed."""

_CALL = re.compile(r"^\d+\s+(\w+)\(")


@dataclass(frozen=True)
class Injection:
    """What is done to the `when`-th call of one name."""

    call: str
    when: int
    what: str

    def __str__(self) -> str:
        return f"inject={self.call}:{self.what}:when={self.when}"


def strace(stage: Stage, *options: str) -> tuple[Run, list[str]]:
    """The program under strace, and what strace wrote, line by line."""
    with tempfile.NamedTemporaryFile("r") as written:
        command = ["strace", "-f", "-qq", "-o", written.name, *options]
        python = [sys.executable, "-I", "-S"]
        process = subprocess.Popen(
            [*command, *python, stage.program, *stage.argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": "/usr/bin:/bin"},
        )
        try:
            out, err = process.communicate(stage.scene.stdin, PATIENCE)
            status: int | None = process.returncode
        except subprocess.TimeoutExpired:
            process.kill()  # which lets go of the program, so that it dies of its own peers
            out, err = process.communicate()
            status = None
        return Run(status, out, err), written.read().splitlines()


def first_line(lines: list[str], program: str = PROGRAM) -> int:
    """Where our first line is about to run: the interpreter has closed the program's file, read for the second time."""
    opened = [number for number, line in enumerate(lines) if f'openat(AT_FDCWD, "{program}"' in line]
    if not opened:
        return len(lines)
    descriptor = lines[opened[-1]].rpartition("= ")[2].split(" ")[0]
    closes = re.compile(rf"^\d+\s+close\({re.escape(descriptor)}\)")
    return next((at for at in range(opened[-1], len(lines)) if closes.match(lines[at])), len(lines)) + 1


def calls(lines: list[str]) -> Counter[str]:
    """How often each call was made."""
    return Counter(found[1] for line in lines if (found := _CALL.match(line)))


_DIALLED = re.compile(r"socket\(AF_INET, ")
_TALKING = re.compile(r'sendto\(|recvfrom\(|write\(\d+, "\\26\\3|connect\(\d+, \{sa_family=AF_UNIX, .*/local"')


def begun(scene: Scene, lines: list[str], program: str) -> int:
    """From where on a scene is tortured: what comes before is the same for all, or for all of its kind.

    That is our first line, the first connection, or, since all that is loaded is the same, the first word on it.
    """
    if scene == PLAIN:
        return first_line(lines, program)
    sought = _DIALLED if scene in FROM_THE_CONNECTION else _TALKING
    return next((number for number, line in enumerate(lines) if sought.search(line)), len(lines))


def injections(lines: list[str], start: int) -> Iterator[Injection]:
    """Each call from there on, with each of its errors, and interrupted."""
    before, all_of_them = _by_thread(lines[:start]), _by_thread(lines)
    for call in sorted(all_of_them.keys()):
        numbers = {
            when for thread, count in all_of_them[call].items() for when in range(before[call][thread] + 1, count + 1)
        }
        for when in sorted(numbers):  # in each thread strace counts anew
            if call not in CANNOT_FAIL:
                for error in ERRORS.get(call, OTHERWISE):
                    yield Injection(call, when, f"error={error}")
            if call not in ("exit_group", "rt_sigreturn"):
                yield Injection(call, when, "signal=TERM")


def _by_thread(lines: list[str]) -> defaultdict[str, Counter[str]]:
    """How often each call was made, by its name and by the number of the thread."""
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for line in lines:
        if made := _CALL.match(line):
            found[made[1]][line.split()[0]] += 1
    return found


def tortured(scene: Scene, kind: str, share: tuple[int, int] = (0, 1), sample: int | None = None) -> Tally:
    """One share of all injections of a kind, "error" or "signal", into one scene."""
    tally = Tally(f"calls {'failed' if kind == 'error' else 'interrupted'}: {scene.name}")
    with tempfile.TemporaryDirectory() as folder, staged(scene, Path(folder)) as stage:
        ran, lines = strace(stage)
        tally.add(f"{scene.name}, nothing injected", faults(ran, stage.copies(), scene.text), ran)
        heard = stage.link.heard_before_the_end()
        if (kind, share[0]) == ("error", 0):
            tally.notes.append(_excluded(stage, lines))
        start = begun(scene, lines, stage.program)
        planned = [one for one in injections(lines, start) if one.what.startswith(kind)][share[0] :: share[1]]
        for injection in random.Random(4).sample(planned, sample) if sample else planned:
            _inject(stage, injection, heard, tally)
    return tally


def _inject(stage: Stage, injection: Injection, heard: int, tally: Tally) -> None:
    seen = f"trace={','.join({'openat', 'close', injection.call})}"
    ran, lines = strace(stage, "-e", seen, "-e", str(injection))
    copies = stage.copies()
    hit = next((at for at, line in enumerate(lines) if "(INJECTED)" in line or "--- SIGTERM" in line), -1)
    first = first_line(lines, stage.program)
    if hit < first or (injection.what == "signal=TERM" and not _handled(lines[first : hit - 1])):
        return  # the interpreter's own, or a call that this run did not make
    mute = re.search(r"\bwrite\(2, .*\(INJECTED\)", lines[hit]) is not None
    end_left = stage.link.octets("down") >= heard if stage.scene.hosts[0].secure == "clear" else None
    found = faults(ran, copies, stage.scene.text, end_left=end_left, mute=mute)
    tally.add(f"{stage.scene.name}, {injection}: {lines[hit][:160]}", found, ran)


def _handled(ours: list[str]) -> bool:
    """Whether SIGTERM has a handler by now: our first act gives it one, and that very call cannot be told about.

    Where no such call is seen at all, it was not looked for.
    """
    mine = [line for line in ours if _CALL.match(line)]
    return not any("rt_sigaction(" in line for line in mine) or any("rt_sigaction(SIGTERM" in line for line in mine)


def _excluded(stage: Stage, lines: list[str]) -> str:
    """The interpreter's own calls, by name and number."""
    own = calls(lines[: first_line(lines, stage.program)])
    listed = ", ".join(f"{name} {count}" for name, count in sorted(own.items()))
    return f"{stage.scene.name}: before our first line Python makes {own.total()} calls: {listed}"


_BEYOND = ("SCRAM", "pinned", "srv", "SOCKS5", "unix socket")
PLAIN, *FROM_THE_CONNECTION = (scene for scene in SCENES if scene.name in ("clear, DATA", "TLS, DATA"))
"""The dialogue that has each call once, and the one that has those of TLS."""
OTHERS = (
    *FROM_THE_CONNECTION,
    *(scene for scene in SCENES if scene.name in [f"{name}, DATA, two hosts" for name in _BEYOND]),
)


def jobs(sample: bool) -> list[tuple[Callable[..., Tally], tuple[object, ...]]]:
    """What may run side by side."""
    if sample:
        return [(tortured, (PLAIN, kind, (0, 1), 20)) for kind in ("error", "signal")]
    shares = 8
    return [
        (tortured, (scene, kind, (share, shares)))
        for scene in (PLAIN, *OTHERS)
        for kind in ("error", "signal")
        for share in range(shares)
    ]
