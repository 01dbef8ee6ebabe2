"""Servers that talk without end, hardly talk, are not there, or talk nonsense; and what they can cost us."""

from __future__ import annotations

import email
import itertools
import os
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from muawrap.failure import TRY_AGAIN, Stage
from muawrap.mail import BLOCK, Timeouts
from muawrap.submission import replies
from muawrap.submission.connection import Connection
from muawrap.submission.deliver import deliver
from tests.submission.offering import PATIENT, failure_of, offer, smart_host
from tests.support.need import missing, need
from tests.support.program import Program
from tests.support.server import Action, Channel, Drip, Drop, Over, Server, Silence, Then, Wait

ME = 'from = "me@client.example"\n'
MESSAGE = b"Subject: hello\nMessage-ID: <1@client.example>\n\nHello.\n"
MIB = 1024 * 1024

# -- endless (S1)


class Flood(Action):
    """The same octets without end, until the client has gone; and how much memory it took meanwhile."""

    wire = b"250-flood"
    final = True

    def __init__(self, begin: bytes, again: bytes) -> None:
        self.begin = begin
        self.again = again * (65536 // len(again))
        self.sent = 0
        self.pid = 0
        self.known = threading.Event()  # the pid
        self.before = self.after = 0

    def perform(self, channel: Channel) -> None:
        assert self.known.wait(20)
        while not waits(self.pid):  # what it loads on its way is not the flood's
            channel.wait(0.005)
        self.before = self.after = peak(self.pid)
        sock = channel.sock
        sock.settimeout(20)
        try:
            sock.sendall(self.begin)
            while self.sent < 256 * MIB:
                sock.sendall(self.again)
                self.sent += len(self.again)
                self.after = peak(self.pid) or self.after
        except OSError:
            raise Over("client reset") from None
        raise AssertionError("the client takes it all")


def peak(pid: int) -> int:
    """The most memory the process has had, in octets; 0 where it has gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0)


def waits(pid: int) -> bool:
    """Whether the process waits for a socket."""
    return "poll" in Path(f"/proc/{pid}/wchan").read_text(encoding="ascii")


FLOODS = {
    "a greeting in one line": ("greeting", b"220 ", b"x"),
    "a greeting of lines": ("greeting", b"", b"220-x\r\n"),
    "a greeting of octets that are no text": ("greeting", b"", b"\0\xff"),
    "an EHLO reply of keywords": ("EHLO", b"", b"250-XKEYWORD with words\r\n"),
    "an EHLO reply of long lines": ("EHLO", b"", b"250-" + b"x" * 4000 + b"\r\n"),
    "an EHLO reply of empty lines": ("EHLO", b"", b"250-\n"),
    "replies to MAIL": ("MAIL", b"", b"250 fine\r\n"),
    "a verdict": ("dot", b"", b"250-taken\r\n"),
    "a verdict, and more of them": ("dot", b"", b"250 taken\r\n"),
    "what is said into a large text": ("text", b"", b"250-x\r\n"),
}


@pytest.mark.row("S1", "G6")
@pytest.mark.parametrize(("stage", "begin", "again"), FLOODS.values(), ids=FLOODS.keys())
def test_who_talks_without_end_costs_no_memory(stage: str, begin: bytes, again: bytes, program: Program) -> None:
    """A3, C1: one line, within what one reply may have; the peak of memory grows by less than 2 MiB."""
    flood = Flood(begin, again)
    text = MESSAGE + (b"y" * 70 + b"\n") * (200_000 if stage == "text" else 1)
    with Server({stage: flood}, extensions=("8BITMIME",), keep_data=False) as server:
        program.configure(f"{program.smart_hosts(server)}{ME}[timeouts]\ndata = 0.5\n")
        with subprocess.Popen(
            [program.named("sendmail"), "-C", program.config, "you@example.net"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            flood.pid = process.pid
            flood.known.set()
            _, said = process.communicate(text, timeout=60)
        server.finished()
    assert process.returncode == 1
    assert said.startswith(b"sendmail: may have been sent: " if stage == "dot" else b"sendmail: not sent, try again: ")
    assert said.count(b"\n") == 1
    assert len(said) < 1000
    assert flood.after - flood.before < 2 * MIB


@pytest.mark.row("S1")
@pytest.mark.parametrize("commands", [0, 1, 10_000])
def test_what_is_taken_in_while_we_send_is_bounded_by_what_was_asked(commands: int) -> None:
    """B5: honest replies to 10 000 recipients have room, and a flood into the text has that of one reply."""
    reader = replies.Reader()
    while reader.room(commands):
        reader.feed(b"250 2.1.5 recipient accepted, and some more words about it are not forbidden either\r\n")
    assert commands * 400 <= len(reader._pending) <= commands * 400 + 65536 + 100


# -- slow (S2, S3)


@pytest.mark.row("S3")
def test_the_times_are_those_of_rfc_5321_at_least() -> None:
    """RFC 5321, 4.5.3.2: greeting, MAIL and RCPT 5 minutes, DATA 2, a block 3, the verdict 10; and 30 s to connect."""
    assert Timeouts() == Timeouts(connect=30, greeting=300, command=300, data=180, final=600, total=0)


@pytest.mark.row("S2", "L7")
def test_no_clock_but_the_monotonic_one_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """C1: a wall clock that jumps a year with every look at it ends nothing, and delays nothing."""
    years = itertools.cycle([0.0, 4e9, 1e9])
    monkeypatch.setattr(time, "time", lambda: next(years))
    with Server({"MAIL": Wait(0.05), "dot": Wait(0.05)}) as server:
        assert deliver(offer(smart_host(server))).reply
    with Server({"RCPT": Silence()}) as server:
        failure = failure_of(offer(smart_host(server, timeouts=PATIENT._replace(command=0.2))))
        assert failure.what == "timed out"


class Sips(Action):
    """Reads the text a few octets at a time, for as long as it comes."""

    final = True

    def __init__(self, octets: int, gap: float) -> None:
        self.octets = octets
        self.gap = gap
        self.read = 0

    def perform(self, channel: Channel) -> None:
        while octets := channel.sock.recv(self.octets):
            self.read += len(octets)
            channel.wait(self.gap)
        raise Over("client closed")


@pytest.mark.row("S2")
@pytest.mark.parametrize("extensions", [(), ("CHUNKING",)], ids=["DATA", "BDAT"])
def test_a_server_that_sips_the_text_is_given_up(extensions: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """C3: a block has its deadline, however much of it is taken meanwhile."""
    real = Connection.connect

    def connect(connection: Connection, *arguments: Any, **named: Any) -> tuple[int, bytes]:
        done = real(connection, *arguments, **named)
        assert connection.sock is not None
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # so that each sip makes room
        return done

    monkeypatch.setattr(Connection, "connect", connect)
    sips = Sips(1024, 0.005)
    with Server({"text": sips}, extensions=extensions) as server:
        server._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        timeouts = PATIENT._replace(data=0.5)
        failure = failure_of(offer(smart_host(server, timeouts=timeouts), text=b"y" * 2 * BLOCK + b"\n"))
        assert (failure.lead, failure.stage, failure.what) == (TRY_AGAIN, Stage.TEXT, "timed out")
        assert not any(message.complete for message in server.messages)
    assert sips.read > 4096  # it did go on


@pytest.mark.row("S2", "S3")
@pytest.mark.parametrize(
    ("stage", "action"),
    [
        ("greeting", Silence()),
        ("EHLO", Drip(b"250-" + b"x" * 1000, 0.05)),
        ("MAIL", Then(*(step for _ in range(200) for step in (b"250-fine\r\n", Wait(0.05))))),
        ("RCPT", Silence(reading=False)),
        ("DATA", Drip(b"354-" + b"x" * 1000, 0.05)),
        ("dot", Drip(b"250-" + b"x" * 1000, 0.05)),
    ],
)
def test_from_outside_too_time_runs_out(stage: str, action: Action, program: Program) -> None:
    """A3, C1, C3: as the configuration says, in one line that names host and stage."""
    with Server({stage: action}) as server:
        times = "".join(f"{name} = 0.3\n" for name in ("greeting", "command", "data", "final"))
        program.configure(f"{program.smart_hosts(server)}{ME}[timeouts]\n{times}")
        done = program.run("you@example.net", stdin=MESSAGE, timeout=30)
        assert (done.status, done.out) == (1, b"")
        lead = "may have been sent" if stage == "dot" else "not sent, try again"
        assert done.sentence.startswith(f"sendmail: {lead}: 127.0.0.1:{server.port}: timed out while ")


@pytest.mark.row("S5")
def test_an_uncertain_outcome_is_told_with_the_message_id(program: Program) -> None:
    """A3: so that it can be looked for before it is sent again."""
    with Server({"dot": Drop()}) as server, Server() as other:
        program.configure(program.smart_hosts(server, other) + ME)
        done = program.run("you@example.net", stdin=MESSAGE)
        assert other.finished() == []
    assert done.status == 1
    assert done.sentence.startswith("sendmail: may have been sent: ")
    assert "1@client.example" in done.sentence
    assert "1@client.example" in program.log


# -- nonsense (S9)

NONSENSE = {
    "letters for digits": "2xx fine",
    "four digits": "2200 fine",
    "two codes": "250-fine\n550 no",
    "two codes, bad news first": "550-no\n250 fine",
    "a code of no class": "600 fine",
    "a preliminary code": "120 wait",
    "no space": "250fine",
    "digits int() would take": "2_5 fine",
    "NUL": b"250 \0fine\r\n",
    "an empty line": b"\r\n250 fine\r\n",
    "HTTP": "HTTP/1.1 200 OK",
}


@pytest.mark.row("S9")
@pytest.mark.parametrize("stage", ["greeting", "EHLO", "MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("reply", NONSENSE.values(), ids=NONSENSE.keys())
def test_nonsense_is_no_acceptance_at_any_stage(reply: Any, stage: str) -> None:
    """C1, C3: and no refusal either: the next host gets the message."""
    with Server({stage: reply}, extensions=()) as server, Server() as other:
        receipt = deliver(offer(smart_host(server), smart_host(other)))
        assert len(receipt.degraded) == 1
        server.finished()
        assert server.messages == []


@pytest.mark.row("S9")
@pytest.mark.parametrize(
    ("stage", "reply"),
    [
        ("greeting", "250 fine"),
        ("greeting", "354 go"),
        ("EHLO", "220 fine"),
        ("EHLO", "354 go"),
        ("MAIL", "354 go"),
        ("RCPT", "354 go"),
        ("DATA", "250 fine"),
        ("DATA", "334 go"),
        ("DATA", "220 fine"),
    ],
)
def test_the_wrong_class_is_no_acceptance(stage: str, reply: str) -> None:
    """C1, C3: what cannot be said there is a broken host."""
    with Server({stage: reply}) as server, Server() as other:
        assert len(deliver(offer(smart_host(server), smart_host(other))).degraded) == 1
        server.finished()
        assert not any(message.complete for message in server.messages)


@pytest.mark.row("S9")
def test_line_ends_of_lf_alone_are_borne() -> None:
    """C1: at every stage, in one line and in several."""
    script = {
        "greeting": b"220-hello\n220 there\n",
        "EHLO": b"250-server.example\n250-8BITMIME\n250 PIPELINING\n",
        "MAIL": b"250 fine\n",
        "RCPT": b"250-fine\n250 fine\n",
        "DATA": b"354 go\n",
        "dot": b"250 taken\n",
    }
    with Server(script) as server:
        assert deliver(offer(smart_host(server))).reply == "250 taken"


# -- out of step before the text (S10)


@pytest.mark.row("S10")
@pytest.mark.parametrize(
    ("script", "stages"),
    [
        ({"greeting": b"220 a\r\n220 a\r\n"}, (Stage.EHLO,)),
        ({"EHLO": b"500 what?\r\n500 what?\r\n"}, (Stage.EHLO,)),
        ({"EHLO": "500 what?", "HELO": b"250 a\r\n250 a\r\n"}, (Stage.OFFER,)),
        ({"EHLO": b"250 a\r\n250 a\r\n"}, (Stage.OFFER,)),
        ({"MAIL": b"250 a\r\n250 a\r\n"}, (Stage.MAIL, Stage.RCPT)),
        ({"RCPT 1": b"250 a\r\n250 a\r\n"}, (Stage.RCPT,)),
        ({"RCPT 2": b"250 a\r\n250 a\r\n"}, (Stage.DATA,)),
        ({"DATA": b"354 a\r\n354 a\r\n"}, (Stage.TEXT,)),
    ],
)
def test_a_reply_too_many_is_met_before_the_next_command(
    script: Mapping[str, str | bytes], stages: tuple[Stage, ...]
) -> None:
    """C3: without PIPELINING nothing is said into a dialogue that is out of step."""
    with Server(script, extensions=()) as server:
        failure = failure_of(offer(smart_host(server), to=("one@example.net", "two@example.net")))
        assert failure.stage in stages
        [session] = server.finished()
        assert not any(message.complete for message in session.messages)


# -- less than the text needs (S11, S12)


@pytest.mark.row("S12")
@pytest.mark.parametrize("extensions", [(), ("8BITMIME",), ("CHUNKING",), ("PIPELINING", "CHUNKING", "8BITMIME")])
@pytest.mark.parametrize(
    "line",
    [
        "caf\xe9".encode(),
        b"caf\xe9",
        bytes(range(0x80, 0x100)),
        b"x" * 998,
        b"x" * 999,
        "\xe9".encode() * 5000,
        b"." * 2000,
    ],
    ids=["UTF-8", "Latin-1", "all octets beyond ASCII", "998", "999", "10000 beyond ASCII", "dots"],
)
@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream"])
def test_no_bit_is_stripped_and_no_line_is_broken(line: bytes, extensions: tuple[str, ...], kind: str) -> None:
    """F6: what a server does not promise to bear is encoded where it can be; BODY=8BITMIME is said where it is offered.

    Lines that are too long are not this station's business: that has been decided before there was a connection.
    """
    text = b"before\n" + line + b"\nafter\n"
    header = f"From: me@client.example\nContent-Type: {kind}\n".encode()
    with Server(extensions=extensions) as server:
        transaction = offer(smart_host(server), text=text)
        receipt = deliver(transaction._replace(ways=(transaction.ways[0]._replace(header=header),)))
        [message] = server.accepted
    wide = "8BITMIME" in extensions or line.isascii()
    arrived = message.text.partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n")
    if wide or kind != "text/plain":
        assert arrived == text
    else:
        assert arrived.isascii()
        assert email.message_from_bytes(message.text).get_payload(decode=True) == text.replace(b"\n", b"\r\n")
    assert receipt.eight_bit == (not wide and kind != "text/plain")
    assert receipt.size == len(message.text)
    assert (b"BODY=8BITMIME" in message.mail_parameters) == ("8BITMIME" in extensions and not line.isascii())


@pytest.mark.row("S11")
@pytest.mark.parametrize("limit", [1, 100])
def test_a_message_that_is_too_large_is_one_line_before_mail(limit: int, program: Program) -> None:
    """A3, C1: the limit is told, and so is the size."""
    with Server(extensions=(f"SIZE {limit}",)) as server:
        program.configure(program.smart_hosts(server) + ME)
        done = program.run("you@example.net", stdin=MESSAGE + b"x" * 100 + b"\n")
        assert not any(command.startswith(b"MAIL") for command in server.finished()[0].commands)
    assert done.status == 1
    assert done.sentence.startswith(f"sendmail: not sent, refused: 127.0.0.1:{server.port}: ")
    assert f"and {limit} are the limit" in done.sentence


# -- nobody there (S13)

ALONE = """
import fcntl, os, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    if sys.argv[1] != "no loopback":
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh22x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
if sys.argv[1] == "silent DNS":
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind(("127.0.0.1", 53))
    silent.set_inheritable(True)
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Run in a network of its own: the loopback comes up or not, and then the program takes over."""


@pytest.mark.row("S13")
@pytest.mark.parametrize("network", ["no loopback", "no DNS", "silent DNS"])
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "mail.client.invalid"])
def test_without_a_network_there_is_one_line(network: str, host: str, program: Program, tmp_path: Path) -> None:
    """A3, C1: in bounded time, whatever the resolver does; and no traceback."""
    unshare = need("unshare")
    if subprocess.run([unshare, "--net", "--mount", "true"], capture_output=True, check=False).returncode != 0:
        missing("network namespaces")
    resolver = tmp_path / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\noptions timeout:30\n", encoding="ascii")
    script = f'mount --bind {resolver} /etc/resolv.conf && exec "$@"'
    program.configure(f'smart_hosts = ["smtp://{host}:2525"]\n{ME}[timeouts]\nconnect = 0.5\n')
    began = time.monotonic()
    done = subprocess.run(
        [
            *(unshare, "--net", "--mount", "sh", "-c", script, "sh"),
            *(os.path.realpath(program.bin / "python3"), "-I", "-S", "-c", ALONE, network),
            *(program.named("sendmail"), "-C", program.config, "you@example.net"),
        ],
        input=MESSAGE,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert time.monotonic() - began < 20
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.count(b"\n") == 1
    assert done.stderr.startswith(b"sendmail: not sent, try again: " + host.encode() + b":2525: ")
