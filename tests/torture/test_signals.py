"""Signals, sent to the program from outside while a server holds it at one stage."""

from __future__ import annotations

import re
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.program import REPOSITORY, Program
from tests.support.server import Action, Channel, Server, Then, Wait
from tests.torture.scenes import MESSAGE

ALL = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
PATIENCE = 60  # seconds for what should take none


class Tell(Action):
    """Say that the client has come this far."""

    def __init__(self, reached: threading.Event) -> None:
        self.reached = reached

    def perform(self, channel: Channel) -> None:
        self.reached.set()


@contextmanager
def held(
    program: Program, stage: str, stdin: bytes = MESSAGE, ignored: tuple[signal.Signals, ...] = ()
) -> Iterator[tuple[subprocess.Popen[bytes], Server, threading.Event]]:
    """The program, when it has come to this stage, its server, and what lets that go on."""
    reached, go_on = threading.Event(), threading.Event()

    def as_asked() -> None:
        for number in ALL:
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)

    with Server({stage: Then(Tell(reached), Wait(go_on))}, extensions=["PIPELINING"]) as running:
        program.configure(f'{program.smart_hosts(running)}from = "me@client.example"\n')
        with subprocess.Popen(
            [program.named("sendmail"), "-C", program.config, "-i", "you@example.net"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=as_asked,
        ) as process:
            assert process.stdin is not None
            process.stdin.write(stdin)
            process.stdin.close()
            process.stdin = None
            try:
                assert reached.wait(PATIENCE)
                yield process, running, go_on
            finally:
                go_on.set()
                process.kill()


def ended(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def mask(process: subprocess.Popen[bytes], name: str) -> set[int]:
    """The signals in SigIgn or SigCgt of /proc/PID/status (proc(5))."""
    found = re.search(rf"^{name}:\s+(\w+)$", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return {number for number in range(1, 65) if int(found[1], 16) >> (number - 1) & 1}


@pytest.mark.row("L3")
@pytest.mark.parametrize("number", ALL)
@pytest.mark.parametrize("stage", ["connect", "greeting", "EHLO", "MAIL", "RCPT", "DATA"])
def test_before_the_end_of_the_message_a_signal_ends_it_at_once(
    program: Program, number: signal.Signals, stage: str
) -> None:
    """A3: the connection is closed, the server keeps nothing, and the line says that nothing was sent."""
    with held(program, stage) as (process, server, go_on):
        process.send_signal(number)
        assert ended(process) == (1, b"", b"sendmail: not sent, try again: interrupted by a signal%s\n" % KNOWN)
        go_on.set()
        server.finished()
        assert not [message for message in server.messages if message.complete]


KNOWN = b" [Message-ID <1@client.example>]"


@pytest.mark.row("L3")
@pytest.mark.parametrize("number", ALL)
def test_within_the_text_a_signal_ends_it_at_once(program: Program, number: signal.Signals) -> None:
    """A3: no dot leaves."""
    text = MESSAGE + b"more of the same\n" * 1_000_000  # more than the kernel's buffers hold
    with held(program, "text", text) as (process, server, go_on):
        process.send_signal(number)
        assert ended(process) == (1, b"", b"sendmail: not sent, try again: interrupted by a signal%s\n" % KNOWN)
        go_on.set()
        server.finished()
        assert [message.complete for message in server.messages] == [False]


@pytest.mark.row("L3")
@pytest.mark.parametrize("number", ALL)
def test_after_the_end_of_the_message_the_verdict_is_waited_for(program: Program, number: signal.Signals) -> None:
    """A3: the message is on its way, so the server's word is worth some seconds."""
    with held(program, "dot") as (process, server, go_on):
        process.send_signal(number)
        while signal.SIGALRM not in mask(process, "SigCgt"):  # set when the signal has been taken note of
            assert process.poll() is None
        go_on.set()
        assert ended(process) == (0, b"", b"")
        assert len(server.accepted) == 1


@pytest.mark.row("L3")
def test_a_verdict_that_does_not_come_is_waited_for_no_longer_than_that(program: Program) -> None:
    """A3: after the patience of a signal the outcome is uncertain."""
    reached, never = threading.Event(), threading.Event()
    with Server({"dot": Then(Tell(reached), Wait(never))}) as server:
        program.configure(f'{program.smart_hosts(server)}from = "me@client.example"\n')
        impatient = (
            "import sys; sys.path.append(sys.argv[1]); from muawrap import sendmail, signals; signals.PATIENCE = 1;"
            "sys.argv[1:] = sys.argv[2:]; sendmail.main()"
        )
        argv = [str(REPOSITORY / "src"), "-C", str(program.config), "-i", "you@example.net"]
        with subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", impatient, *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stdin is not None
            process.stdin.write(MESSAGE)
            process.stdin.close()
            process.stdin = None
            assert reached.wait(PATIENCE)
            process.send_signal(signal.SIGTERM)
            status, out, err = ended(process)
    assert (status, out) == (1, b"")
    assert err.startswith(b"sendmail: may have been sent: ")
    assert err.count(b"\n") == 1
    assert b"interrupted by a signal" in err


@pytest.mark.row("L3")
@pytest.mark.parametrize("number", ALL)
def test_what_the_caller_ignores_stays_ignored(program: Program, number: signal.Signals) -> None:
    """A1: nohup, and a shell that starts us in the background."""
    with held(program, "greeting", ignored=(number,)) as (process, server, go_on):
        assert number in mask(process, "SigIgn")
        process.send_signal(number)
        go_on.set()
        assert ended(process) == (0, b"", b"")
        assert len(server.accepted) == 1


@pytest.mark.row("L3", "F5")
def test_a_pipe_or_a_limit_on_files_does_not_kill(program: Program) -> None:
    """A1: SIGPIPE and SIGXFSZ would end us without a word."""
    with held(program, "greeting") as (process, _, go_on):
        assert {signal.SIGPIPE, signal.SIGXFSZ} <= mask(process, "SigIgn")
        go_on.set()
        assert ended(process) == (0, b"", b"")


@pytest.mark.row("L3", "L4")
def test_a_limit_on_files_changes_no_outcome_but_where_the_message_needs_one(program: Program) -> None:
    """A5: the log cannot be written, and a small message is sent all the same; a large one finds no room."""

    def no_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    with Server() as server:
        program.configure(f'{program.smart_hosts(server)}from = "me@client.example"\n')
        small = program.run("-i", "you@example.net", stdin=MESSAGE, preexec_fn=no_files)
        large = program.run("-i", "you@example.net", stdin=MESSAGE + b"more\n" * 400_000, preexec_fn=no_files)
        assert (small.status, small.out, small.err) == (0, b"", b"")
        assert large.status == 1
        assert large.sentence.startswith("sendmail: not sent, try again: no room to keep the message")
        assert len(server.sessions) == len(server.accepted) == 1
    assert program.log == ""
