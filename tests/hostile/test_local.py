"""The machine itself fails: disks, limits, clocks, and the bare world of cron."""

from __future__ import annotations

import ast
import email.utils
import os
import re
import resource
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muawrap.failure import TRY_AGAIN
from muawrap.mail import Body
from muawrap.routing import headers
from muawrap.submission.deliver import deliver
from tests.submission.offering import failure_of, offer, smart_host
from tests.support.need import missing, need
from tests.support.program import REPOSITORY, Program, Result
from tests.support.server import Server

ME = 'from = "me@client.example"\n'
MESSAGE = b"Date: Thu, 1 Jan 2026 00:00:00 +0000\nFrom: me@client.example\nMessage-ID: <1@client.example>\n\nHello.\n"
LARGE = MESSAGE + b"A line of a message that is kept in a file.\n" * 100_000  # 4.4 MB
SENT = Result(0, b"", b"")


def limit(which: int, value: int) -> Callable[[], None]:
    """For preexec_fn."""
    return lambda: resource.setrlimit(which, (value, value))


# -- nowhere to write to ---------------------------------------------------------------------------------------------


@pytest.mark.row("L4")
@pytest.mark.parametrize("accepts", [True, False])
@pytest.mark.parametrize("log", ["/dev/full", "/proc/version", "/nowhere/log"])
@pytest.mark.parametrize("errors", ["full", "nobody reads"])
def test_the_exit_status_is_the_outcome_whoever_can_hear_it(
    program: Program, errors: str, log: str, accepts: bool
) -> None:
    """A5: with standard error and the log full, closed or unwritable, and -v that has much to say."""
    if errors == "full":
        writing = os.open("/dev/full", os.O_WRONLY)
    else:
        reading, writing = os.pipe()
        os.close(reading)
    try:
        with Server({} if accepts else {"dot": "554 5.6.0 no"}) as server:
            program.configure(f'{program.smart_hosts(server)}{ME}log = "{log}"\n')
            command: list[str | Path] = [program.named("sendmail"), "-vC", program.config, "you@example.net"]
            done = subprocess.run(command, input=MESSAGE, stdout=writing, stderr=writing, check=False)
            assert done.returncode == (0 if accepts else 1)
            assert len(server.accepted) == accepts
    finally:
        os.close(writing)


def mounted(script: str, *argv: str | Path, env: dict[str, str], text: bytes) -> Result:
    """A command run where a script has mounted something first, in a mount namespace of its own."""
    if os.getuid() != 0:
        missing("root, to mount")
    need("mount")
    command = [need("unshare"), "--mount", "sh", "-ec", f'{script}\nexec "$@"', "sh"]
    done = subprocess.run([*command, *argv], env=env, input=text, capture_output=True, check=False)
    return Result(done.returncode, done.stdout, done.stderr)


FULL: dict[str, tuple[str, str]] = {
    "TMPDIR": ("small $TMPDIR", ""),
    "TMPDIR and /var/tmp": ("small $TMPDIR; small /var/tmp", ""),
    "TMPDIR, and /var/tmp is read-only": ("small $TMPDIR; fixed /var/tmp", ""),
    "all of them": ("small $TMPDIR; small /var/tmp; fixed /tmp", "No space left on device|Read-only file system"),
    "everything is read-only": ("fixed $TMPDIR; fixed /var/tmp; fixed /tmp", "Read-only file system"),
}
MOUNTS = """
small() { mount -t tmpfs -o size=2m,mode=1777 tmpfs "$1"; }
fixed() { mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; }
"""


@pytest.mark.row("F5", "L4")
@pytest.mark.parametrize("full", FULL)
def test_a_large_message_moves_on_to_where_there_is_room(public: Program, full: str) -> None:
    """A4, F5: whole and without a trace; where no folder has room it is one line before any connection."""
    script, expected = FULL[full]
    temporary = public.folder / "temporary"
    temporary.mkdir()
    env = {"PATH": os.environ["PATH"], "TMPDIR": str(temporary)}
    before = set(os.listdir("/var/tmp")) | set(os.listdir("/tmp"))
    with Server() as server:
        public.configure(f'{public.smart_hosts(server)}{ME}log = "none"\n')
        command = (public.named("sendmail"), "-i", "-C", public.config, "you@example.net")
        done = mounted(f"{MOUNTS}{script}", *command, env=env, text=LARGE)
        if not expected:
            assert done == SENT
            assert server.accepted[0].text == LARGE.replace(b"\n", b"\r\n")
        else:
            assert done.status == 1
            assert done.sentence.startswith(
                "sendmail: not sent, try again: no room to keep the message while it is sent:"
            )
            assert re.search(expected, done.sentence)
            assert server.sessions == []
    left = (set(os.listdir("/var/tmp")) | set(os.listdir("/tmp"))) - before
    assert [name for name in left if name.startswith(".muawrap")] == []
    assert os.listdir(temporary) == []


@pytest.mark.row("L4")
def test_a_small_message_needs_no_disk_at_all(public: Program) -> None:
    """A5: all file systems read-only, the one of the log too."""
    with Server() as server:
        public.configure(f"{public.smart_hosts(server)}{ME}")
        command = (public.named("sendmail"), "-C", public.config, "you@example.net")
        env = {"PATH": os.environ["PATH"]}
        assert mounted(f"{MOUNTS}fixed /tmp; fixed /var/tmp", *command, env=env, text=MESSAGE) == SENT
        assert len(server.accepted) == 1
    assert not public.log_file.exists()


@pytest.mark.row("F5")
@pytest.mark.parametrize(("octets", "fits"), [(0, False), (2_000_000, False), (16_000_000, True)])
def test_a_limit_on_file_sizes_is_one_line_and_no_signal(program: Program, octets: int, fits: bool) -> None:
    """A3: RLIMIT_FSIZE, whose SIGXFSZ would end us; a small message does not meet it, but the log may."""
    with Server() as server:
        program.configure(f"{program.smart_hosts(server)}{ME}")
        limited = limit(resource.RLIMIT_FSIZE, octets)
        assert program.run("you@example.net", stdin=MESSAGE, preexec_fn=limited) == SENT
        assert ("sent" in program.log) == bool(octets)
        done = program.run("-i", "you@example.net", stdin=LARGE, preexec_fn=limited)
        assert len(server.finished()) == 1 + fits
    if fits:
        assert done == SENT
    else:
        assert done.status == 1
        assert "not sent, try again: no room to keep the message while it is sent: File too large" in done.sentence


@pytest.mark.row("F5")
def test_a_file_system_without_nameless_files_is_good_enough(program: Program, tmp_path: Path) -> None:
    """A4: O_TMPFILE refused by the kernel, as strace makes it; the name is gone before the message is there."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    trace = tmp_path / "trace"
    with Server() as server:
        program.configure(f"{program.smart_hosts(server)}{ME}")
        strace: list[str | Path] = [
            need("strace"),
            "-f",
            "-o",
            trace,
            "-P",
            temporary,
            "-e",
            "inject=openat:error=EOPNOTSUPP",
        ]
        done = subprocess.run(
            [*strace, program.named("sendmail"), "-i", "-C", program.config, "you@example.net"],
            input=LARGE,
            env={"PATH": os.environ["PATH"], "TMPDIR": str(temporary)},
            capture_output=True,
            check=False,
        )
        assert Result(done.returncode, done.stdout, done.stderr) == SENT
        assert server.accepted[0].text == LARGE.replace(b"\n", b"\r\n")
    assert "O_TMPFILE" in trace.read_text()
    assert "(INJECTED)" in trace.read_text()
    assert list(temporary.iterdir()) == []


@pytest.fixture
def broken(tmp_path: Path) -> Iterator[dict[str, Body]]:
    """Spooled bodies that the disk does not give back."""
    (tmp_path / "short").write_bytes(b"line\n" * 100_000)
    files = [os.open("/proc/self/mem", os.O_RDONLY), os.open(tmp_path / "short", os.O_RDONLY)]
    yield {
        "from the beginning": Body.spooled(files[0], 3_000_000, 600_000, False),  # pread says EIO
        "from the middle": Body.spooled(files[1], 3_000_000, 600_000, False),
    }
    for file in files:
        os.close(file)


@pytest.mark.row("F5", "L8")
@pytest.mark.parametrize("extensions", [(), ("PIPELINING", "CHUNKING")])
@pytest.mark.parametrize("where", ["from the beginning", "from the middle"])
def test_a_disk_that_does_not_give_the_message_back(
    where: str, extensions: tuple[str, ...], broken: dict[str, Body]
) -> None:
    """A1, A3: one sentence, nothing that the server could take for a whole message, and nobody else is asked."""
    with Server(extensions=extensions) as server, Server(extensions=extensions) as other:
        failure = failure_of(offer(smart_host(server), smart_host(other), body=broken[where]))
        assert failure.lead == TRY_AGAIN
        assert failure.sentence() == "the message, kept in a file while it is sent, cannot be read again: " + (
            os.strerror(5)
        )
        server.finished()
        assert server.accepted == []
        assert not any(message.complete for message in server.messages)
        assert other.sessions == []


# -- limits ----------------------------------------------------------------------------------------------------------

ENOUGH = 11  # descriptors: one for each of the standard three, and the number 10 that sh wants for its script


@pytest.mark.row("L5", "L8")
@pytest.mark.parametrize("text", [MESSAGE, LARGE], ids=["small", "large"])
def test_eleven_descriptors_are_enough(program: Program, text: bytes) -> None:
    """A1: by name and with a message in a file; with fewer sh does not get to our first line."""
    with Server() as server:
        program.configure(f"{program.smart_hosts(f'smtp://localhost:{server.port}')}{ME}")
        limited = limit(resource.RLIMIT_NOFILE, ENOUGH)
        assert program.run("-i", "you@example.net", stdin=text, preexec_fn=limited) == SENT
        assert server.accepted[0].text == text.replace(b"\n", b"\r\n")


@pytest.mark.row("L8")
@pytest.mark.parametrize("descriptors", range(4, ENOUGH))
def test_fewer_descriptors_are_sent_or_one_line(program: Program, descriptors: int) -> None:
    """A1, A3: what Python itself can start with, sh left out."""
    with Server() as server:
        program.configure(f"{program.smart_hosts(server)}{ME}")
        done = subprocess.run(
            [sys.executable, "-I", "-S", program.named("sendmail"), "-i", "-C", program.config, "you@example.net"],
            input=LARGE,
            capture_output=True,
            preexec_fn=limit(resource.RLIMIT_NOFILE, descriptors),
            check=False,
        )
        result = Result(done.returncode, done.stdout, done.stderr)
        if result != SENT:
            assert result.status == 1
            assert result.sentence.startswith("sendmail: not sent, ")
        assert len(server.accepted) == (result == SENT)


@pytest.mark.row("L8")
def test_without_further_processes_or_threads_a_name_is_still_resolved(public: Program) -> None:
    """A1: RLIMIT_NPROC; where the shell would need a process of its own, the status is 1 and not the shell's."""
    with Server() as server:
        public.configure(f'{public.smart_hosts(f"smtp://localhost:{server.port}")}{ME}log = "none"\n')
        public.config.parent.chmod(0o755)
        public.config.chmod(0o644)
        limited: dict[str, Any] = {"user": 54321, "group": 54321, "extra_groups": []}
        limited["preexec_fn"] = limit(resource.RLIMIT_NPROC, 0)
        assert public.run("you@example.net", stdin=MESSAGE, **limited) == SENT
        done = public.run("you@example.net", stdin=MESSAGE, name="send-mail", **limited)
        assert done.status == 1
        assert done.err.count(b"\n") == 1
        assert len(server.accepted) == 1


# -- the world of cron -----------------------------------------------------------------------------------------------


WORLDS: dict[str, dict[str, Any]] = {
    "no environment": {"env": {}},
    "no PATH but a home": {"env": {"HOME": "/"}},
    "a home that is none": {"env": {"HOME": "/nowhere", "LOGNAME": "nobody-at-all", "USER": ""}},
    "LANG=C": {"env": {"LANG": "C", "LC_ALL": "C"}},
    "a language that is none": {"env": {"LANG": "xx_YY.ZZ", "LC_ALL": "xx_YY.ZZ", "LANGUAGE": "xx"}},
    "a time zone that is none": {"env": {"TZ": "XXX/../../etc/passwd"}},
    "umask 0": {"umask": 0},
    "umask 777": {"umask": 0o777},
    "few descriptors": {"preexec_fn": limit(resource.RLIMIT_NOFILE, 12)},
    "a session of its own": {"start_new_session": True},
}


@pytest.mark.row("L5")
@pytest.mark.parametrize("world", WORLDS)
def test_from_cron_the_result_is_the_same(program: Program, world: str) -> None:
    """A1, A2: the same bytes arrive in whatever world; the log is its owner's alone."""
    with Server() as server:
        program.configure(f"{program.smart_hosts(server)}{ME}")
        assert program.run("you@example.net", stdin=MESSAGE, **WORLDS[world]) == SENT
        (session,) = server.finished()
        assert server.accepted[0].text == MESSAGE.replace(b"\n", b"\r\n")
        assert session.commands[1].startswith(b"MAIL FROM:<me@client.example>")
    if world != "umask 777":
        assert stat.S_IMODE(program.log_file.stat().st_mode) == 0o600
        assert " sent " in program.log


@pytest.mark.row("L5")
def test_the_working_folder_may_be_gone(program: Program, tmp_path: Path) -> None:
    """A1: it is needed for nothing; what sh has to say of it before our first line is sh's own."""
    gone: list[str | Path] = ["sh", "-c", 'mkdir "$0"; cd "$0"; rmdir "$0"; exec "$@"', tmp_path / "gone"]
    itself = subprocess.run([*gone, "sh", "-c", ":"], capture_output=True, env={}, check=True).stderr
    with Server() as server:
        program.configure(f"{program.smart_hosts(server)}{ME}")
        command = [*gone, program.named("sendmail"), "-C", program.config, "you@example.net"]
        done = subprocess.run(command, input=MESSAGE, capture_output=True, env={}, check=False)
        assert Result(done.returncode, done.stdout, done.stderr.replace(itself, b"")) == SENT
        assert server.accepted[0].text == MESSAGE.replace(b"\n", b"\r\n")


@pytest.mark.row("L5")
@pytest.mark.parametrize("sender", ["", ME])
def test_a_uid_without_a_name_sends_or_hears_what_to_set(public: Program, sender: str) -> None:
    """A3: as in a container; where there is no sender to be had, one line names the key."""
    with Server() as server:
        public.configure(f'{public.smart_hosts(server)}{sender}log = "none"\n')
        public.config.parent.chmod(0o755)
        public.config.chmod(0o644)
        done = public.run("you@example.net", stdin=b"hello\n", env={}, user=54321, group=54321, extra_groups=[])
        sessions = server.finished()
    if sender:
        assert done == SENT
        assert len(sessions) == 1
    elif done.status == 0:  # this machine has a domain of its own
        assert sessions[0].commands[1].startswith(b"MAIL FROM:<54321@")
    else:
        assert "from" in done.sentence
        assert sessions == []


# -- the clock -------------------------------------------------------------------------------------------------------

CLOCKS = {"1970": 10, "2038": 2**31 + 5, "9999": 253_402_214_400, "before all time": -(2**31), "no calendar": 2**62}

# Runs the program with another time of day.
AT_THAT_TIME = """
import sys, time
sys.path.append(sys.argv[1])
moment = float(sys.argv[2])
time.time = lambda: moment
from muawrap import report, sendmail
report.leave(sendmail.run(["sendmail", *sys.argv[3:]]))
"""


@pytest.mark.row("L7")
@pytest.mark.parametrize("clock", CLOCKS)
def test_at_any_time_a_message_leaves_with_a_valid_date(program: Program, clock: str) -> None:
    """F3, A5: and with a log line, as long as there is a calendar."""
    with Server() as server:
        program.configure(f"{program.smart_hosts(server)}{ME}")
        words = [str(REPOSITORY / "src"), str(CLOCKS[clock]), "-C", str(program.config), "you@example.net"]
        command = [sys.executable, "-I", "-S", "-c", AT_THAT_TIME, *words]
        done = subprocess.run(command, input=b"hello\n", capture_output=True, env={"TZ": "UTC"}, check=False)
        assert Result(done.returncode, done.stdout, done.stderr) == SENT
        found = re.search(rb"^Date: (.*)\r\n", server.accepted[0].text, re.MULTILINE)
    assert found
    assert valid(found[1].decode())
    if clock.isdigit():
        assert found[1].split()[3].decode() == clock
        assert program.log.startswith(f"{clock}-")


def valid(date: str) -> bool:
    """A date-time by RFC 5322, 3.3, of a year since 1900."""
    match = re.fullmatch(
        r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d "
        r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) (\d{4,}) [012]\d:[0-5]\d:[0-6]\d [+-]\d{4}",
        date,
    )
    return match is not None and int(match[1]) >= 1900


@pytest.mark.row("L7")
@given(st.integers(-(2**63), 2**63 - 1) | st.integers(-(2**33), 2**40))
def test_any_clock_gives_a_valid_date(now: int) -> None:
    """F3: any time_t there is; those of our own times are told as they are."""
    date = headers.date(now)
    assert valid(date)
    if 0 <= now < 253_402_300_000:
        assert email.utils.mktime_tz(email.utils.parsedate_tz(date) or (0,) * 10) == now


@pytest.mark.row("L7")
def test_no_deadline_asks_the_time_of_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """C1: a clock that is set while we wait changes nothing: nobody below looks at it."""
    with Server() as server:
        monkeypatch.setattr(time, "time", lambda: pytest.fail("the time of day was asked"))
        assert deliver(offer(smart_host(server))).reply
    source = REPOSITORY / "src" / "muawrap"
    of_deadlines = ("dial", "connection", "deliver", "opening", "secrets", "smarthosts", "replies")
    for path in [source / "submission" / f"{name}.py" for name in of_deadlines] + [source / "signals.py"]:
        calls = [ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        assert not {"time.time", "time.localtime", "time.gmtime"} & set(calls), path
