"""`muawrap ship` killed at every system call: nothing is lost, and nothing goes twice (INTERMITTENT 6.4, 7)."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.server import Server
from tests.support.shipping import CHUNKING, Host, host
from tests.torture.tally import Run, Tally
from tests.torture.warm import PATIENCE

SCRIPT = {"RCPT no@x.example": "550 5.1.1 no such user", "RCPT later@x.example": "450 4.2.1 later"}
MESSAGES = {
    "plain": ("a@x.example",),
    "mixed": ("a@x.example", "no@x.example", "later@x.example", "b@x.example"),
    "refused": ("no@x.example",),
    "later": ("later@x.example",),
    "partly": ("no@x.example", "b@x.example"),
    "last": ("b@x.example", "a@x.example"),
}
SERVERS = {"a flight each": CHUNKING, "a command at a time": ("8BITMIME",)}
CHANGES = (
    *("openat", "write", "fsync", "renameat", "linkat", "unlinkat", "utimensat"),
    *("sendto", "recvfrom", "vfork", "wait4"),
)
"""Calls that change something outside, or wait for something: what happens between two of them is all the same."""
_INSIDE = ("brk", "mmap", "munmap", "mprotect", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "exit_group")
_CALL = re.compile(r"^(\w+)\(")


@dataclass(frozen=True)
class Scene:
    """What the server offers, and what becomes of a message that may have been sent."""

    offered: str
    uncertain: str = "park"

    def __str__(self) -> str:
        return f"{self.offered}, {self.uncertain}"


SCENES = tuple(Scene(offered, uncertain) for offered in SERVERS for uncertain in ("park", "resend"))


def staged(folder: Path, server: Server, scene: Scene) -> Host:
    """The folder with all its messages."""
    made = host(folder, server, f'uncertain = "{scene.uncertain}"')
    for name, recipients in MESSAGES.items():
        made.put(name, *recipients)
    return made


def strace(made: Host, *options: str) -> tuple[Run, list[str]]:
    """`muawrap ship` under strace, and what that wrote; what it starts is not traced."""
    with tempfile.NamedTemporaryFile("r") as written:
        command = ["strace", "-qq", "-o", written.name, *options, *made.argv("ship", "--now", "cheshire")]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, env=made.environment, timeout=PATIENCE, check=False
        )
        return Run(done.returncode, done.stdout, done.stderr), written.read().splitlines()


def kills(lines: list[str]) -> list[tuple[str, int]]:
    """Each call from the first one that touches the folder on: its name, and which of that name it is."""
    start = next(number for number, line in enumerate(lines) if "cheshire" in line and line.startswith("openat("))
    counts: Counter[str] = Counter()
    found = []
    for number, line in enumerate(lines):
        call = _CALL.match(line)
        if call is not None:
            counts[call[1]] += 1
            if number >= start and call[1] not in _INSIDE:
                found.append((call[1], counts[call[1]]))
    return found


def tortured(scene: Scene, share: tuple[int, int] = (0, 1), sample: int | None = None) -> Tally:
    """One share of all kills."""
    tally = Tally(f"ship killed: {scene}")
    with tempfile.TemporaryDirectory() as folder, Server(SCRIPT, extensions=SERVERS[scene.offered]) as server:
        Path(folder, "whole").mkdir()
        whole = staged(Path(folder, "whole"), server, scene)
        run, lines = strace(whole)
        tally.add(f"{scene}, not killed", faults(whole, server, run, scene), run)
        planned = kills(lines)[share[0] :: share[1]]
        if sample:
            planned = random.Random(4).sample([one for one in planned if one[0] in CHANGES], sample)
        for number, (call, when) in enumerate(planned):
            Path(folder, str(number)).mkdir()
            made = staged(Path(folder, str(number)), server, scene)
            run, lines = strace(made, "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={when}")
            found = faults(made, server, run, scene)
            tally.add(f"{scene}, killed at {call} {when}: {lines[-2:]}", found, run)
    return tally


def faults(made: Host, server: Server, run: Run, scene: Scene) -> set[str]:
    """Ship until nothing more is done, and count: each recipient's copies at the server, and what is where."""
    killed = run.status == -signal.SIGKILL
    found = {"tracebacks"} if b"Traceback" in run.err else set()
    if not killed and run.status != 69:
        found.add("wrong status")
    while made.ship(now=True).done:
        pass
    server.finished()
    copies = Counter(
        (re.search(rb"Message-ID: <(\w+)@", message.text)[1].decode(), address.decode())  # type: ignore[index]
        for session in server.sessions
        for message in session.accepted
        for address in message.recipients
    )
    server.sessions.clear()
    parked = {(name.split(".")[0], one) for name, one in _aside(made, "failed")}
    refused = {(name.split(".")[0], one) for name, one in _aside(made, "archive")}
    waiting = {(name, one) for name, several in made.waiting().items() for one in several}
    for name, recipients in MESSAGES.items():
        for one in recipients:
            key = name, one
            if one.startswith("no"):
                good = key in refused and key not in waiting and not copies[key]
            elif one.startswith("later"):
                good = key in waiting and not copies[key]
            elif key in parked:  # where it may have been sent
                good = killed and key not in waiting and copies[key] <= 1
            else:
                good = key not in waiting and 1 <= copies[key] <= 1 + (killed and scene.uncertain == "resend")
            if not good:
                found.add("duplicate" if copies[key] > 1 else "lost")
    resent = [key for key in copies if copies[key] > 1]
    if len({name for name, _ in (*parked, *resent)}) > 1:
        found.add("duplicate")  # one message was on its way, and no more
    if resent and not made.events("resend"):
        found.add("unlabelled")
    if len(made.bounces()) < 3 or made.journals():
        found.add("lost")
    return found


def _aside(made: Host, folder: str) -> list[tuple[str, str]]:
    return [(name, one) for name, why in made.aside(folder).items() for one in why["recipients"]]


def jobs(sample: bool) -> list[tuple[Callable[..., Tally], tuple[object, ...]]]:
    """What may run side by side."""
    if sample:
        return [(tortured, (scene, (0, 1), 10)) for scene in SCENES]
    return [(tortured, (scene, (share, 4))) for scene in SCENES for share in range(4)]


if __name__ == "__main__":
    for each in SCENES:
        done = tortured(each, sample=int(sys.argv[1]) if sys.argv[1:] else None)
        print(done.part, done.runs, dict(done.counts), *done.told, *done.notes, sep="\n")
