"""`muawrap hold --lmtp`: each recipient hears after the dot, and 250 means that it is on disk (RFC 2033)."""

from __future__ import annotations

import os
import resource
import signal
import smtplib
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from muawrap.holding.formats import batchsmtp
from muawrap.holding.held import Held
from muawrap.reading.dialogue import Dialogue
from tests.support.spool import Machine

TEXT = b"Subject: hello\r\n\r\nHello.\r\n"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


class Client(smtplib.LMTP):
    """Python's own, over a socket pair."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self.sock = sock
        self.file = None
        assert self.getreply()[0] == 220

    def verdicts(self, text: bytes, count: int) -> list[tuple[int, bytes]]:
        """The replies to a text, one for each recipient (RFC 2033, 4.2)."""
        assert self.docmd("DATA")[0] == 354
        self.send(text + b".\r\n")
        return [self.getreply() for _ in range(count)]


@contextmanager
def client(machine: Machine, status: int = 0, **popen: object) -> Iterator[Client]:
    """A client of the command, which ends with this status."""
    ours, theirs = socket.socketpair()
    ours.settimeout(30)
    with (
        ours,
        subprocess.Popen(  # type: ignore[call-overload]
            machine.argv("hold", "--lmtp", "cheshire"),
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.PIPE,
            env=machine.environment(),
            **popen,
        ) as process,
    ):
        theirs.close()
        made = Client(ours)
        made.process = process  # type: ignore[attr-defined]
        yield made
        made.close()
        _, said = process.communicate(timeout=30)
        assert (process.returncode, said.count(b"\n")) == (status, int(status != 0)), said


def holding(machine: Machine) -> list[Held]:
    found: list[Held] = []
    for path in machine.files():
        found += batchsmtp.transactions(iter([path.read_bytes()]))
    return found


def test_a_message_is_held_for_each_of_its_recipients(machine: Machine) -> None:
    """RFC 2033, 4.2: as many replies as recipients were accepted; one message in new/, with what was asked for."""
    with client(machine) as lmtp:
        code, offered = lmtp.docmd("LHLO", "mx.example")
        assert code == 250
        assert {b"PIPELINING", b"8BITMIME", b"SIZE", b"SMTPUTF8", b"DSN", b"ENHANCEDSTATUSCODES"} <= set(
            offered.splitlines()
        )
        assert lmtp.docmd("MAIL FROM:<Me@client.example> SIZE=100 BODY=8BITMIME RET=HDRS ENVID=x SMTPUTF8")[0] == 250
        assert lmtp.docmd("RCPT TO:<a@example.net> NOTIFY=NEVER ORCPT=rfc822;z@y")[0] == 250
        assert lmtp.docmd("RCPT TO:<b@example.net>")[0] == 250
        verdicts = lmtp.verdicts(b"Return-path: <forged@x>\r\nSubject: 8\r\n\r\n..dot \xe4\r\n", 2)
        assert [code for code, _ in verdicts] == [250, 250]
        [file] = machine.files()  # before anything else is said
        assert verdicts[0][1] == f"2.0.0 held as {file.name}".encode()
        assert lmtp.docmd("QUIT")[0] == 221
    [one] = holding(machine)
    assert one.header + b"".join(one.body.blocks()) == b"Subject: 8\n.dot \xe4\n"
    envelope = one.envelope
    assert (envelope.sender, envelope.body, envelope.returns, envelope.envelope_id, envelope.utf8) == (
        "Me@client.example",
        "8BITMIME",
        "HDRS",
        "x",
        True,
    )
    assert [tuple(one) for one in envelope.recipients] == [
        ("a@example.net", "NEVER", "rfc822;z@y"),
        ("b@example.net", "", ""),
    ]
    assert envelope.facts == (("size", "100"),)
    assert [" held from=<Me@client.example>" in line for line in machine.logged()] == [True]


def test_several_messages_come_over_one_connection(machine: Machine) -> None:
    """RFC 2033: and a reset in between forgets one."""
    with client(machine) as lmtp:
        lmtp.docmd("LHLO", "x")
        for number in range(3):
            assert lmtp.docmd("MAIL FROM:<>")[0] == 250
            assert lmtp.docmd("RCPT TO:<a@b>")[0] == 250
            if number == 1:
                assert lmtp.docmd("RSET")[0] == 250
            else:
                assert [code for code, _ in lmtp.verdicts(TEXT, 1)] == [250]
        lmtp.docmd("QUIT")
    assert len(holding(machine)) == 2


def test_a_refused_recipient_keeps_the_others_from_nothing(machine: Machine) -> None:
    """RFC 2033, 4.2: replies for those that were accepted only; none at all is 503.

    What cannot be read is put off: over 5yz an MTA would bounce what it has accepted.
    """
    with client(machine) as lmtp:
        lmtp.docmd("LHLO", "x")
        lmtp.docmd("MAIL FROM:<>")
        assert lmtp.docmd("RCPT TO:<no address>")[0] == 451
        assert lmtp.docmd("DATA")[0] == 503
        assert lmtp.docmd("RCPT TO:<a@b>")[0] == 250
        assert [code for code, _ in lmtp.verdicts(TEXT, 1)] == [250]
        lmtp.docmd("QUIT")
    [one] = holding(machine)
    assert [one.address for one in one.envelope.recipients] == ["a@b"]


def test_what_the_mta_has_accepted_is_never_refused_for_its_spelling(machine: Machine) -> None:
    """RFC 5321, 4.1.2: quotes are put round what needs them; what no host can be told is 451, however wrong."""
    with client(machine) as lmtp:
        lmtp.docmd("LHLO", "x")
        for path, status in (
            (b"<a b>", b"4.1.7"),
            (b'<"a\tb"@x.example>', b"4.1.7"),
            (b'<"a\x01b"@x.example>', b"4.5.2"),
            (b"<\xe4@x.example>", b"4.1.7"),
            (b"<a", b"4.5.4"),
            (b"<" + b"x" * 5000 + b"@x.example>", b"4.5.2"),
        ):
            lmtp.send(b"MAIL FROM:" + path + b"\r\n")
            code, words = lmtp.getreply()
            assert (code, words[:5]) == (451, status)
        assert lmtp.docmd("MAIL FROM:<x.@carrier.example>")[0] == 250
        lmtp.send(b"RCPT TO:<\xe4@x.example>\r\n")
        assert lmtp.getreply()[0] == 451
        assert lmtp.docmd("RCPT TO:<a..b@foo-.example>")[0] == 250
        assert [code for code, _ in lmtp.verdicts(TEXT, 1)] == [250]
        lmtp.docmd("QUIT")
    [one] = holding(machine)
    assert one.envelope.sender == '"x."@carrier.example'
    assert [one.address for one in one.envelope.recipients] == ['"a..b"@foo-.example']


def test_a_header_block_that_is_too_long_is_put_off(machine: Machine) -> None:
    """RULES F8: made a body, it would be another message."""
    with client(machine) as lmtp:
        lmtp.docmd("LHLO", "x")
        lmtp.docmd("MAIL FROM:<a@b>")
        lmtp.docmd("RCPT TO:<c@d>")
        [(code, words)] = lmtp.verdicts(b"X: y\r\n" * 1_500_000 + b"\r\nbody\r\n", 1)
        assert (code, b"the header block is longer than" in words) == (451, True)
        lmtp.docmd("QUIT")
    assert machine.files() == []


@pytest.mark.parametrize("verb", ["EHLO", "HELO"])
def test_it_is_no_smtp(machine: Machine, verb: str) -> None:
    """RFC 2033, 4.1: EHLO and HELO are answered 500."""
    with client(machine) as lmtp:
        assert lmtp.docmd(verb, "x")[0] == 500
        lmtp.docmd("QUIT")


def test_and_smtp_is_no_lmtp() -> None:
    """RULES E8: LHLO is unknown to -bs."""
    dialogue = Dialogue()
    list(dialogue.events([b"LHLO x\r\n"]))
    assert b"\r\n500 " in dialogue.replies()


def test_everything_in_one_flight(machine: Machine) -> None:
    """RFC 2920: a client that pipelines is answered in order."""
    flight = b"LHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\nDATA\r\n" + TEXT + b".\r\nQUIT\r\n"
    done = machine.run("hold", "--lmtp", "cheshire", stdin=flight)
    codes = [line[:3] for line in done.stdout.splitlines() if line[3:4] == b" "]
    assert (done.returncode, codes) == (0, [b"220", b"250", b"250", b"250", b"250", b"354", b"250", b"250", b"221"])


def test_no_room_is_452_for_every_recipient_and_the_client_goes_on(machine: Machine) -> None:
    """INTERMITTENT 6.3: 452 when full; nothing is left, and a smaller message has room."""

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    with client(machine, preexec_fn=small) as lmtp:
        lmtp.docmd("LHLO", "x")
        lmtp.docmd("MAIL FROM:<a@b>")
        lmtp.docmd("RCPT TO:<c@d>")
        lmtp.docmd("RCPT TO:<e@f>")
        verdicts = lmtp.verdicts(TEXT + b"y" * 5000 + b"\r\n", 2)
        assert [(code, text[:5]) for code, text in verdicts] == [(452, b"4.3.1")] * 2
        assert machine.files() == machine.files("tmp") == []
        lmtp.docmd("MAIL FROM:<a@b>")
        lmtp.docmd("RCPT TO:<c@d>")
        assert lmtp.verdicts(TEXT, 1)[0][0] == 250
        lmtp.docmd("QUIT")
    assert len(holding(machine)) == 1
    assert " not-held from=<a@b> to=c@d,e@f host=cheshire error=" in machine.logged()[0]


def test_a_size_beyond_all_room_is_452_at_once(machine: Machine) -> None:
    """RFC 1870, 6.1: before the text is sent in vain."""
    with client(machine) as lmtp:
        lmtp.docmd("LHLO", "x")
        code, text = lmtp.docmd(f"MAIL FROM:<a@b> SIZE={10**19}")
        assert (code, text[:5]) == (452, b"4.3.1")
        lmtp.docmd("QUIT")


def test_an_end_in_the_middle_of_a_message_is_75_and_leaves_nothing(machine: Machine) -> None:
    """INTERMITTENT 6.3: a part is never taken for the whole."""
    with client(machine, status=75) as lmtp:
        lmtp.docmd("LHLO", "x")
        lmtp.docmd("MAIL FROM:<a@b>")
        lmtp.docmd("RCPT TO:<c@d>")
        lmtp.docmd("DATA")
        lmtp.send(TEXT)
        assert lmtp.sock is not None
        lmtp.sock.shutdown(socket.SHUT_WR)
        assert lmtp.getreply()[0] == 451
        assert lmtp.getreply()[0] == 421
    assert machine.files() == machine.files("tmp") == []


def test_an_end_between_messages_is_an_end(machine: Machine) -> None:
    """RULES E8: without QUIT, too."""
    with client(machine) as lmtp:
        lmtp.docmd("LHLO", "x")
        lmtp.docmd("MAIL FROM:<a@b>")


@pytest.mark.parametrize("within", [True, False])
def test_a_signal_is_421_and_75(machine: Machine, within: bool) -> None:
    """INTERMITTENT 6.3: what was answered 250 stays, what was not is not there."""
    with client(machine, status=75) as lmtp:
        lmtp.docmd("LHLO", "x")
        lmtp.docmd("MAIL FROM:<a@b>")
        lmtp.docmd("RCPT TO:<c@d>")
        lmtp.verdicts(TEXT, 1)
        lmtp.docmd("MAIL FROM:<a@b>")
        lmtp.docmd("RCPT TO:<c@d>")
        if within:
            lmtp.docmd("DATA")
            lmtp.send(TEXT)
        os.kill(lmtp.process.pid, signal.SIGTERM)  # type: ignore[attr-defined]
        assert lmtp.getreply()[0] == 421
    assert len(machine.files()) == 1
    assert machine.files("tmp") == []


@pytest.mark.parametrize("words", [("nowhere",), ("--what", "cheshire"), ()])
def test_what_fails_at_the_start_is_the_greeting(machine: Machine, words: tuple[str, ...]) -> None:
    """RFC 5321, 3.1: a client waits for one, and we do not wait for the client."""
    command = machine.argv("hold", "--lmtp", *words)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=machine.environment()) as process:
        assert process.stdout is not None
        assert process.stdout.read()[:10] == b"421 4.3.2 "
        assert process.wait(30) == 75
        assert process.stderr is not None
        assert process.stderr.read().count(b"\n") == 1
