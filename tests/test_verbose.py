"""What -v shows on a pipe and on a terminal, and that showing it changes nothing."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muawrap.submission import verbose
from muawrap.submission.deliver import deliver
from tests.submission.offering import offer, smart_host
from tests.support.canary import CANARY
from tests.support.certificates import Authority
from tests.support.program import REPOSITORY, Program
from tests.support.server import Action, Channel, Drop, Script, Server
from tests.support.terminal import Terminal

ME = 'from = "me@client.example"\n'
TO = "you@example.net"
MESSAGE = b"Message-ID: <1@x>\nDate: Thu, 01 Jan 2026 00:00:00 +0000\nSubject: of the text\n\nOf the text.\n"
LARGE = MESSAGE + b"of the text, and so on\n" * 100_000
BOTH = ("PIPELINING", "CHUNKING", "8BITMIME")
NAMED = "certificate for 127.0.0.1, one.example, two.example and 1 more"
ERASED = re.compile(rb"\r +\r")


def batch(*recipients: str, text: bytes = MESSAGE) -> bytes:
    """One message for each of them, as -bS reads it."""
    return b"".join(
        b"MAIL FROM:<me@client.example>\nRCPT TO:<%s>\nDATA\n%s.\n" % (recipient.encode(), text)
        for recipient in recipients
    )


def command(program: Program, *argv: str) -> list[str]:
    return [str(program.named("sendmail")), "-C", str(program.config), *argv]


# -- the dialogue ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", [MESSAGE, LARGE], ids=["small", "large"])
def test_a_pipe_gets_one_line_for_each_event(
    program: Program, authority: Authority, tmp_path: Path, message: bytes
) -> None:
    """A2: connection, dialogue and TLS with its certificate; no secret, nothing of the text, and no bar."""
    context = authority.server_context("127.0.0.1", "one.example", "two.example", "three.example")
    with Server(context=context, users={"al": CANARY}, extensions=BOTH) as server:
        program.configure(
            f'smart_hosts = ["submission://127.0.0.1:{server.port}"]\nhostname = "client.example"\n{ME}'
            f'[auth]\nuser = "al"\npassword = "{CANARY}"\n'
            f'[tls]\nca_file = "{authority.ca_file(tmp_path / "ca.pem")}"\n'
        )
        done = program.run("-v", TO, stdin=message)
        [taken] = server.accepted
    assert (done.status, done.out) == (0, b"")
    text = [f">>> BDAT {taken.size} LAST", f">>> [{taken.size:,} octets of text]"]
    agreed = ["<<< 250 2.1.0 go on", "<<< 250 2.1.5 go on"]
    issued = re.compile(r"(, issued by trustme) v[\d.]+, [\d,]+ days left$", re.MULTILINE)
    assert issued.sub(r"\1", done.err.decode("ascii")).split("\n") == [
        f"--- connecting to 127.0.0.1:{server.port}",
        f"--- connected to 127.0.0.1:{server.port}",
        "<<< 220 server.example ESMTP",
        ">>> EHLO client.example",
        "<<< 250 server.example PIPELINING CHUNKING 8BITMIME STARTTLS AUTH PLAIN LOGIN",
        ">>> STARTTLS",
        "<<< 220 2.0.0 go ahead",
        f"--- TLSv1.3, TLS_AES_256_GCM_SHA384, {NAMED}, issued by trustme",
        ">>> EHLO client.example",
        "<<< 250 server.example PIPELINING CHUNKING 8BITMIME AUTH PLAIN LOGIN",
        ">>> AUTH PLAIN ***",
        "<<< 235 2.7.0 welcome",
        ">>> MAIL FROM:<me@client.example>",
        f">>> RCPT TO:<{TO}>",
        *([*text, *agreed] if message is MESSAGE else [*agreed, *text]),
        "<<< 250 2.0.0 taken",
        ">>> QUIT",
        "",
    ]
    assert b"of the text," not in done.err.lower()


def test_the_reason_stands_between_two_hosts_and_two_attempts(program: Program, authority: Authority) -> None:
    """C1: why the first one did not do; and the one that decides is told by the outcome, once."""
    context = authority.server_context()
    with Server({"greeting": "421 busy"}) as busy, Server({"dot": "550 no"}, context=context) as last:
        program.configure(f"{program.smart_hosts(busy, last)}{ME}")
        done = program.run("-v", TO, stdin=MESSAGE)
    said = done.err.decode("ascii").splitlines()
    assert done.status == 1
    assert f"--- 127.0.0.1:{busy.port} greeted us with 421 busy" in said
    [unknown] = [line for line in said if "the certificate is not good" in line]
    assert unknown.startswith(f"--- 127.0.0.1:{last.port}: ")
    [encrypted] = [line for line in said if line.startswith("--- TLS")]
    assert encrypted.startswith("--- TLSv1.3 unverified, TLS_AES_256_GCM_SHA384, certificate for 127.0.0.1, issued by ")
    assert [line for line in said if "refused the message" in line] == said[-1:]


def test_v_changes_nothing_on_the_wire(program: Program) -> None:
    """A5: the same octets, with a terminal, with a pipe, and without -v."""
    with Server(extensions=BOTH) as server:
        program.configure(program.smart_hosts(server) + ME)
        assert program.run(TO, stdin=LARGE).status == 0
        assert program.run("-v", TO, stdin=LARGE).status == 0
        assert Terminal(command(program, "-v", TO), LARGE).status == 0
        sessions = server.finished()
    assert len(sessions) == 3
    assert len({tuple(session.commands) for session in sessions}) == 1
    assert len({session.messages[0].sha256 for session in sessions}) == 1


# -- a terminal ------------------------------------------------------------------------------------------------------


def test_a_large_text_has_a_bar_that_goes_away(program: Program) -> None:
    """A2: from nothing to all of it; afterwards the dialogue stands there as it does on a pipe."""
    with Server(extensions=BOTH) as server:
        program.configure(program.smart_hosts(server) + ME)
        piped = program.run("-v", TO, stdin=LARGE)
        done = Terminal(command(program, "-v", TO), LARGE, columns=120)
        size = server.accepted[-1].size
    assert (done.status, done.out) == (0, b"")
    assert done.seen == piped.err.decode("ascii").split("\n")
    bars = [bar.strip() for bar in re.findall(r"\[[#.]{20}\][^\r]*", done.written.decode("ascii"))]
    shares = [int(re.fullmatch(r"\[#*\.*\] +(\d+)%, [\d,]+ of [\d,]+ octets.*", bar)[1]) for bar in bars]  # type: ignore[index]
    assert bars[0] == f"[{'.' * 20}]   0%, 0 of {size:,} octets"
    assert bars[-1] == f"[{'#' * 20}] 100%, {size:,} of {size:,} octets, waiting for the verdict"
    assert shares == sorted(shares)
    assert len(shares) > 5
    assert b"%" not in done.written.partition(b"<<< 250 2.0.0 taken")[2]


def test_a_bar_does_not_outlive_its_connection(program: Program) -> None:
    """C3: the next host begins with nothing sent."""
    with Server({"text": Drop()}) as lost, Server() as good:
        program.configure(program.smart_hosts(lost, good) + ME)
        done = Terminal(command(program, "-v", TO), LARGE)
        assert len(good.accepted) == 1
    assert done.status == 0
    one, _, other = done.written.partition(b"--- connecting to 127.0.0.1:%d" % good.port)
    assert b"%, " in one
    assert b"%" not in other.partition(b" octets of text]")[0]
    assert b"100%, " in other


def test_a_small_text_has_none(program: Program) -> None:
    """A2: it would be gone before anybody saw it."""
    with Server() as server:
        program.configure(program.smart_hosts(server) + ME)
        done = Terminal(command(program, "-v", TO), MESSAGE)
    assert done.status == 0
    assert b"%" not in done.written
    assert b"\r" not in done.written.replace(b"\r\n", b"")


@pytest.mark.parametrize(
    ("script", "extensions"),
    [
        ({"dot": "552 too much"}, BOTH),
        ({"dot": Drop()}, ()),
        ({"text": "421 leaving"}, BOTH),
        ({"text": Drop()}, ()),
    ],
    ids=["refused", "lost", "interrupted", "lost early"],
)
def test_the_outcome_stands_alone(program: Program, script: Script, extensions: tuple[str, ...]) -> None:
    """A3: no rest of the bar before it, behind it or above it."""
    with Server(script, extensions=extensions) as server:
        program.configure(program.smart_hosts(server) + ME)
        done = Terminal(command(program, "-v", TO), LARGE)
    assert done.status == 1
    assert b"%, " in done.written
    *above, outcome, below = done.seen
    assert re.match(r"sendmail: (not sent|may have been sent)", outcome)
    assert below == ""
    assert all(re.match(r"(>>>|<<<|---) ", line) for line in above), above


def test_a_narrow_terminal_gets_a_shorter_bar(program: Program) -> None:
    """A2: a line that wraps could not be taken back."""
    with Server(extensions=BOTH) as server:
        program.configure(program.smart_hosts(server) + ME)
        done = Terminal(command(program, "-v", TO), LARGE, columns=30)
    pieces = [piece for piece in re.split(rb"[\r\n]+", done.written) if b"%" in piece]
    assert len(pieces) > 2
    assert {len(piece) for piece in pieces} == {29}
    assert not [line for line in done.seen if "%" in line]


# -- a batch ---------------------------------------------------------------------------------------------------------


def test_a_batch_counts(program: Program) -> None:
    """E8: below the dialogue on a terminal, and once in the end anywhere."""
    to = [f"r{number}@example.net" for number in range(12)]
    with Server(extensions=BOTH) as server:
        program.configure(program.smart_hosts(server))
        piped = program.run("-v", "-bS", stdin=batch(*to))
        done = Terminal(command(program, "-v", "-bS"), batch(*to))
        assert len(server.accepted) == 24
    assert (piped.status, piped.out) == (done.status, done.out) == (0, b"")
    assert done.seen == piped.err.decode("ascii").split("\n")
    assert done.seen[-3:] == [">>> QUIT", "--- 12 sent", ""]
    assert b"\r" not in piped.err
    assert piped.err.count(b" sent\n") == 1
    below = ERASED.sub(b"\n", done.written).replace(b"\r\n", b"\n").split(b"\n")
    counted = [int(line.split()[0]) for line in below if re.fullmatch(rb"\d+ sent", line)]
    assert sorted(set(counted)) == [*range(1, 13)]
    assert counted == sorted(counted)
    assert max(map(counted.count, counted)) > 1, "it stays below the lines that follow"


def test_the_outcome_of_a_batch_stands_alone(program: Program) -> None:
    """A3, E8: whether the host stops it or its own syntax."""
    with Server({"MAIL 3": "550 no more"}, extensions=BOTH) as server:
        program.configure(program.smart_hosts(server))
        refused = Terminal(command(program, "-v", "-bS"), batch(*["a@example.net"] * 4))
        wrong = Terminal(command(program, "-v", "-bS"), batch(*["a@example.net"] * 2) + b"NONSENSE\n")
    for done in refused, wrong:
        assert done.status == 1
        assert b"2 sent" in done.written
        *above, outcome, below = done.seen
        assert (outcome[:24], below) == ("sendmail: not sent, refu", "")
        assert all(re.match(r"(>>>|<<<|---) ", line) for line in above), above


# -- nobody reads ----------------------------------------------------------------------------------------------------

IMPATIENT = (
    "import sys; sys.path.append(sys.argv.pop(1));"
    "from muawrap import report, sendmail;"
    "report.READER_SECONDS = report._screen._patience = float(sys.argv.pop(1));"
    "sys.argv[0] = 'sendmail'; sendmail.main()"
)
"""The program, with less patience for a reader."""


def impatient(program: Program, patience: float, *argv: str) -> list[str]:
    start = [sys.executable, "-I", "-S", "-c", IMPATIENT, str(REPOSITORY / "src"), str(patience)]
    return [*start, "-C", str(program.config), *argv]


def chatty(verdict: str | Action) -> Script:
    """More than a pipe of two pages holds."""
    return {"EHLO": "\n".join(f"250-X-{number} {'x' * 80}" for number in range(99)) + "\n250 8BITMIME", "dot": verdict}


class Meeting(Action):
    """Say that this stage is reached, then wait."""

    def __init__(self) -> None:
        self.reached, self.over = threading.Event(), threading.Event()

    def perform(self, channel: Channel) -> None:
        self.reached.set()
        channel.wait(self.over)


def small_pipe() -> tuple[int, int]:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 8192)  # type: ignore[attr-defined,unused-ignore]  # of Linux
    return reader, writer


@pytest.mark.row("L4")
@pytest.mark.parametrize(("verdict", "status"), [("250 2.0.0 taken", 0), ("550 5.0.0 no", 1)])
def test_a_full_pipe_holds_nobody_up(program: Program, verdict: str, status: int) -> None:
    """A5: nobody ever reads it; the message goes, the status says so, and the log has the rest."""
    reader, writer = small_pipe()
    with Server(chatty(verdict)) as server:
        program.configure(program.smart_hosts(server) + ME)
        argv = impatient(program, 0.2, "-v", TO)
        done = subprocess.run(argv, input=MESSAGE, stdout=subprocess.PIPE, stderr=writer, timeout=60, check=False)
        [session] = server.finished()
    os.close(writer)
    with open(reader, "rb") as pipe:
        said = pipe.read()
    assert (done.returncode, done.stdout) == (status, b"")
    assert [message.accepted for message in session.messages] == [status == 0]
    assert verdict in program.log
    assert len(said) > 4000
    assert verdict.encode() not in said


def test_a_reader_who_comes_back_finds_the_outcome_on_a_line_of_its_own(program: Program) -> None:
    """A3: what was cut off ends; the rest of the dialogue is not made up for."""
    reader, writer = small_pipe()
    meeting = Meeting()
    with Server({**chatty("550 5.0.0 no"), "MAIL": meeting}) as server:
        program.configure(program.smart_hosts(server) + ME)
        process = subprocess.Popen(impatient(program, 0.2, "-v", TO), stdin=subprocess.PIPE, stderr=writer)
        os.close(writer)
        assert process.stdin is not None
        process.stdin.write(MESSAGE)
        process.stdin.close()
        assert meeting.reached.wait(60)
        with open(reader, "rb") as pipe:
            first = pipe.read1(65536)
            meeting.over.set()
            rest = pipe.read()
        process.wait(60)
    assert process.returncode == 1
    assert not first.endswith(b"\n")
    assert re.fullmatch(rb"\nsendmail: not sent, refused: [\x20-\x7e]+ 550 5\.0\.0 no[\x20-\x7e]*\n", rest), rest


def test_a_reader_who_is_slow_gets_everything(program: Program) -> None:
    """A3: as long as he reads at all."""
    reader, writer = small_pipe()
    with Server(chatty("250 2.0.0 taken")) as server:
        program.configure(program.smart_hosts(server) + ME)
        process = subprocess.Popen(command(program, "-v", TO), stdin=subprocess.PIPE, stderr=writer)
        os.close(writer)
        assert process.stdin is not None
        process.stdin.write(MESSAGE)
        process.stdin.close()
        said = b""
        while octets := os.read(reader, 100):
            said += octets
        os.close(reader)
        process.wait(60)
    assert process.returncode == 0
    assert said.endswith(b"<<< 250 2.0.0 taken\n>>> QUIT\n")
    assert said.count(b"x" * 80) == 99


def nobody() -> int:
    """A pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.row("L4")
@pytest.mark.parametrize("opened", [nobody, lambda: os.open("/dev/full", os.O_WRONLY)], ids=["gone", "full"])
def test_who_cannot_be_told_changes_no_outcome(program: Program, opened: Callable[[], int]) -> None:
    """A5."""
    descriptor = opened()
    with Server(extensions=BOTH) as server:
        program.configure(program.smart_hosts(server) + ME)
        argv = command(program, "-v", TO)
        done = subprocess.run(argv, input=LARGE, stdout=subprocess.PIPE, stderr=descriptor, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (0, b"")
        assert len(server.accepted) == 1
    os.close(descriptor)


def test_trouble_with_telling_changes_no_outcome() -> None:
    """A5: whatever it is, and at every line."""

    def trace(mark: str, line: str) -> None:
        told.append(mark)
        raise MemoryError

    told: list[str] = []
    with Server(extensions=BOTH) as server:
        assert deliver(offer(smart_host(server), text=LARGE), trace).reply == "250 2.0.0 taken"
    assert {">>>", "<<<", "---", "..."} == set(told)


# -- words -----------------------------------------------------------------------------------------------------------

NOW = 1_767_225_600.0  # 2026-01-01
NAMES = (("DNS", "mx.example"), ("email", "a@b.example"), ("IP Address", "192.0.2.1"))
ISSUER = ((("countryName", "NO"),), (("organizationName", "An Authority"),), (("commonName", "A1"),))


@pytest.mark.parametrize(
    ("certificate", "words"),
    [
        ({}, ""),
        ({"subjectAltName": NAMES}, "certificate for mx.example, 192.0.2.1"),
        ({"subject": ((("commonName", "mx.example"),),)}, "certificate for no host"),
        ({"subjectAltName": (("DNS", "x" * 99),)}, f"certificate for {'x' * 64}..."),
        ({"subjectAltName": NAMES[:1], "issuer": ISSUER}, "certificate for mx.example, issued by An Authority"),
        ({"subjectAltName": NAMES[:1], "issuer": ISSUER[2:]}, "certificate for mx.example, issued by A1"),
        ({"notAfter": "Jan  1 00:00:00 2027 GMT"}, "certificate for no host, 365 days left"),
        ({"notAfter": "Jan  2 23:59:59 2026 GMT"}, "certificate for no host, 1 day left"),
        ({"notAfter": "Jan  1 00:00:00 2026 GMT"}, "certificate for no host, 0 days left"),
        ({"notAfter": "Dec 31 23:59:59 2025 GMT"}, "certificate for no host, expired"),
    ],
)
def test_a_certificate_in_words(certificate: dict[str, Any], words: str) -> None:
    """A3: whom it is for, who says so, and for how long."""
    assert verbose.described(certificate, NOW) == words


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (("192.0.2.1", 25), "192.0.2.1:25"),
        (("2001:db8::1", 587, 0, 0), "[2001:db8::1]:587"),
        ("/run/lmtp", "/run/lmtp"),
    ],
)
def test_an_address_in_words(name: object, words: str) -> None:
    """C5: which of a host's addresses it was."""
    assert verbose.endpoint(name) == words


def test_a_bar_is_always_as_wide() -> None:
    """A2: it is written over itself."""
    assert {verbose.bar(sent, 1999).index("]") for sent in range(2000)} == {21}
    assert verbose.bar(1000, 2000) == "[##########..........]  50%, 1,000 of 2,000 octets"
