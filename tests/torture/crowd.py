"""Many senders at once: one server, one log file, and nobody is answered before all have come (figure G7)."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.support.program import REPOSITORY
from tests.support.server import Action, Channel, Over, Server
from tests.torture.tally import Run, Tally, faults

ALL = 1000
SAMPLE = 50
STARTING = 8  # Pythons that start at the same time; the others wait for them, or have connected
SECONDS = 600  # for all of them


class Gather(Action):
    """Wait until so many connections stand."""

    def __init__(self, crowd: int) -> None:
        self.barrier = threading.Barrier(crowd)
        self.come = threading.Semaphore(0)

    def perform(self, channel: Channel) -> None:
        self.come.release()
        try:
            self.barrier.wait(SECONDS)
        except threading.BrokenBarrierError:
            raise Over("not all have come") from None


def tortured(crowd: int = ALL) -> Tally:
    """So many senders, each with a message of its own."""
    tally = Tally(f"crowd of {crowd}")
    limit = max(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 4 * crowd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4 * crowd + 200, limit), limit))
    gather = Gather(crowd)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(Server({"EHLO": gather}))
        stack.callback(gather.barrier.abort)
        config = folder / "muawrap.toml"
        config.write_text(
            f'smart_hosts = ["smtp://127.0.0.1:{server.port}"]\nfrom = "me@client.example"\nlog = "{folder / "log"}"\n'
            f"[timeouts]\ncommand = {SECONDS}\n"
        )
        config.chmod(0o600)
        begun = time.monotonic()
        processes = [_sender(number, folder, config, gather, stack) for number in range(crowd)]
        runs = [_end(process, folder / f"err{number}") for number, process in enumerate(processes)]
        copies: dict[bytes, list[bytes]] = {}
        for session in server.finished(SECONDS):
            for message in session.messages:
                if message.complete:
                    copies.setdefault(b"".join(message.recipients), []).append(message.text)
        lines = Counter(map(_recipient, (folder / "log").read_text().splitlines()))
        for number, run in enumerate(runs):
            found = faults(run, copies.get(_name(number).encode(), []), _text(number).replace(b"\n", b"\r\n"))
            if lines[_name(number)] != 1:
                found.add("unlabelled")  # its line in the log is missing, torn or there twice
            tally.add(f"sender {number}", found, run)
        if lines.total() != crowd:
            tally.add(f"{lines.total()} log lines", {"unlabelled"})
        tally.notes.append(
            f"{crowd} senders: {len(server.sessions)} connections stood at once, {len(server.accepted)} copies, "
            f"{lines.total() - lines['']} whole log lines, {time.monotonic() - begun:.0f} s"
        )
    return tally


def _sender(number: int, folder: Path, config: Path, gather: Gather, stack: ExitStack) -> subprocess.Popen[bytes]:
    """The program, begun; some have connected by now."""
    if number >= STARTING:
        gather.come.acquire(timeout=SECONDS)
    (folder / "in").write_bytes(_text(number))
    with (folder / "in").open("rb") as stdin, (folder / f"err{number}").open("wb") as err:
        (folder / "in").unlink()
        program = [sys.executable, "-I", "-S", str(REPOSITORY / "bin" / "sendmail")]
        process = subprocess.Popen(
            [*program, "-C", str(config), "-i", _name(number)],
            stdin=stdin,
            stdout=err,
            stderr=err,
            env={"PATH": "/usr/bin:/bin"},
        )
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def _end(process: subprocess.Popen[bytes], err: Path) -> Run:
    try:
        status: int | None = process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        status = None
    return Run(status, b"", err.read_bytes())


def _name(number: int) -> str:
    return f"you{number}@example.net"


def _text(number: int) -> bytes:
    return (
        b"From: me@client.example\nTo: you@example.net\nDate: Sat, 21 Nov 2026 10:00:00 +0000\n"
        b"Message-ID: <%d@client.example>\n\nHello, number %d.\n" % (number, number)
    )


def _recipient(line: str) -> str:
    """Whom a whole line of success names; "" for any other line."""
    found = re.fullmatch(r"\S+ sent id=<(\d+)@client\.example> from=\S+ to=<?(you\1@example\.net)>? .*", line)
    return found[2] if found else ""


def jobs(sample: bool) -> list[tuple[Callable[..., Tally], tuple[object, ...]]]:
    """What may run side by side."""
    return [(tortured, (SAMPLE if sample else ALL,))]
