"""-bs and -bS from outside: what the caller reads, what the smart host gets, and what the log says."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from muawrap.reading.dialogue import OFFERED
from tests.bench.lab import Lab
from tests.submission.test_dialogue import BOTH, verbs
from tests.support.canary import CANARY
from tests.support.certificates import Authority
from tests.support.program import Program, Result
from tests.support.server import Drop, Reset, Server, Then, Wait
from tests.torture.test_signals import ALL, PATIENCE, Tell, ended, mask

ME = 'from = "me@client.example"\nqualify_domain = "client.example"\nhostname = "client.example"\n'
TO = "you@example.net"


def envelope(*to: str, sender: str = "me@client.example") -> list[str]:
    return [f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{address}>" for address in to or (TO,))]


def text(number: int = 1) -> list[str]:
    return [f"Message-ID: <{number}@client.example>", f"Subject: number {number}", "", f"Hello, number {number}."]


def message(number: int = 1, *to: str, sender: str = "me@client.example") -> list[str]:
    """One message as both modes take it."""
    return [*envelope(*to, sender=sender), "DATA", *text(number), "."]


def octets(*lines: str, end: str = "\r\n") -> bytes:
    return "".join(line + end for line in lines).encode()


def set_up(program: Program, *hosts: Any, more: str = "") -> None:
    program.configure(program.smart_hosts(*hosts) + ME + more)


def replies(out: bytes) -> list[str]:
    """Each line of what was said; a reply is as many of them as it has."""
    assert out.endswith(b"\r\n")
    assert b"\n" not in out.replace(b"\r\n", b"")
    return out.decode("ascii").split("\r\n")[:-1]


def answers(done: Result, count: int = 1) -> list[str]:
    """The last replies of a dialogue that said nothing else, up to the goodbye."""
    assert done.err == b""
    lines = replies(done.out)
    assert lines[-1] == "221 2.0.0 goodbye"
    return lines[-1 - count : -1]


def answered(program: Program, *lines: str, end: str = "\r\n", **run: Any) -> Result:
    return program.run("-bs", stdin=octets("EHLO me", *lines, "QUIT", end=end), **run)


def arrived(server: Server) -> list[int]:
    """Which messages were taken, by number; each of them whole."""
    found = []
    for taken in server.accepted:
        number = re.search(rb"Hello, number (\d+)\.\r\n\Z", taken.text)
        assert number is not None, taken.text
        found.append(int(number[1]))
    return found


def logged(program: Program) -> list[tuple[str, str]]:
    """Of each line of the log: the event and the message."""
    found = [re.match(r"\S+ (\w+)(?: id=<(\d+)@)?", line) for line in program.log.splitlines()]
    return [(line[1], line[2] or "") for line in found if line is not None]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(extensions=BOTH) as running:
        yield running


class Caller:
    """One that speaks with the program line by line, and waits for every reply."""

    def __init__(self, process: subprocess.Popen[bytes], stdin: int, stdout: int) -> None:
        self.process = process
        self._stdin = stdin
        self._stdout = stdout
        self._heard = b""

    def say(self, *lines: str) -> None:
        self.send(octets(*lines))

    def send(self, said: bytes) -> None:
        while said:
            said = said[os.write(self._stdin, said) :]

    def hear(self) -> str:
        """The last line of the next reply."""
        while True:
            line, found, rest = self._heard.partition(b"\r\n")
            if found:
                self._heard = rest
                if line[3:4] != b"-":
                    return line.decode("ascii")
            else:
                assert select.select([self._stdout], [], [], PATIENCE)[0], "no reply"
                octets = os.read(self._stdout, 65536)
                assert octets, f"it has hung up after {self._heard!r}"
                self._heard += octets

    def ask(self, *lines: str) -> str:
        self.say(*lines)
        return self.hear()

    def wait_until_idle(self) -> None:
        """It sleeps: there is nothing to do until somebody says something (proc(5))."""
        until(lambda: Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(") ")[2].startswith("S"))


@contextmanager
def calling(program: Program, *argv: str, **popen: Any) -> Iterator[Caller]:
    """The program, and somebody who speaks with it."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | popen
    command: list[str | Path] = [program.named("sendmail"), "-C", program.config, *argv]
    with subprocess.Popen(command, env={"PATH": "/usr/bin:/bin"}, **pipes) as process:
        try:
            said = process.stdin.fileno() if process.stdin else -1
            yield Caller(process, said, process.stdout.fileno() if process.stdout else -1)
        finally:
            process.kill()


def until(what: Callable[[], bool]) -> None:
    """Wait for what no event tells of."""
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end
        time.sleep(0.005)


# -- -bs: the dialogue (RULES E8) ------------------------------------------------------------------------------------


def test_a_message_by_smtp_on_standard_input(program: Program, server: Server) -> None:
    """E8: as alpine, Symfony and Laravel call it; nothing but replies is said, and the log has its line."""
    set_up(program, server)
    done = program.run("-bs", "-odb", "-oem", stdin=octets("EHLO me", *message(), "QUIT"))
    assert (done.status, done.err) == (0, b"")
    assert replies(done.out) == [
        "220 client.example ESMTP muawrap",
        "250-client.example",
        *(f"250-{keyword}" for keyword in OFFERED[:-1]),
        f"250 {OFFERED[-1]}",
        "250 2.1.0 sender ok",
        "250 2.1.5 recipient ok",
        "354 the text now, and a line with a dot",
        "250 2.0.0 taken",
        "221 2.0.0 goodbye",
    ]
    assert arrived(server) == [1]
    assert (server.accepted[0].sender, server.accepted[0].recipients) == (b"me@client.example", [TO.encode()])
    assert logged(program) == [("sent", "1")]


@pytest.mark.parametrize("extensions", [[], BOTH])
def test_what_ehlo_offers_is_the_same_whatever_the_smart_host_does(program: Program, extensions: list[str]) -> None:
    """E8: the list is fixed, and nobody is contacted for it."""
    with Server(extensions=extensions) as server:
        set_up(program, server)
        done = answered(program)
        assert re.findall(r"250.(\w+)", done.out.decode())[1:] == list(OFFERED)
        assert OFFERED == ("PIPELINING", "8BITMIME", "SIZE", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES")
        assert server.finished() == []


def test_a_caller_who_waits_for_every_reply_gets_it(program: Program, server: Server) -> None:
    """E8: and the smart host is connected after the caller's dot, not before."""
    set_up(program, server)
    with calling(program, "-bs") as caller:
        said = ["EHLO me", *envelope(), "DATA"]
        assert [caller.hear()[:3], *(caller.ask(line)[:3] for line in said)] == ["220", "250", "250", "250", "354"]
        assert server.finished() == []
        assert caller.ask(*text(), ".") == "250 2.0.0 taken"
        assert caller.ask("QUIT")[:3] == "221"
        assert ended(caller.process) == (0, b"", b"")
    assert arrived(server) == [1]


@pytest.mark.parametrize(
    ("to", "reply"),
    [
        (
            "pager",
            "550 5.1.0 pager -> |/bin/pager: {aliases} line 1 asks for a local delivery",
        ),
        ("list", "550 5.1.0 list -> :fail: gone"),
        ("busy", "451 4.3.0 busy -> :defer: come back"),
        ("a@corp.example", "550 5.1.0 one transaction cannot serve both: "),
    ],
)
def test_each_recipient_is_routed_at_once(program: Program, server: Server, to: str, reply: str) -> None:
    """E8, B4: the sentence says why; DATA is refused until RSET or MAIL, and nobody has been contacted."""
    aliases = program.folder / "aliases"
    aliases.write_text("pager: |/bin/pager\nlist: :fail: gone\nbusy: :defer: come back\n")
    route = '[[route]]\nrecipients = ["*@corp.example"]\nsmart_hosts = ["smtp://127.0.0.1:1"]\n'
    set_up(program, server, more=f'{route}[redirect]\naliases = ["{aliases}"]\n')
    done = answered(program, *envelope(TO, to), "DATA", "RSET", *envelope(), "RSET")
    assert done.status == 1
    lines = replies(done.out)
    at = next(number for number, line in enumerate(lines) if not line.startswith(("2", "3")))
    assert lines[at].startswith(reply.format(aliases=aliases))
    assert lines[at + 1].startswith("554 5.5.0 not all of it was accepted")
    assert [line[:3] for line in lines[at + 2 :]] == ["250", "250", "250", "250", "221"]
    assert server.finished() == []
    assert logged(program) == [("failed", "")]


@pytest.mark.parametrize("again", [["RSET"], []], ids=["RSET", "MAIL alone"])
def test_after_a_recipient_that_is_refused_comes_a_message_that_is_sent(
    program: Program, server: Server, again: list[str]
) -> None:
    """E8: exit 1 all the same, for one message was not sent; its recipients are one line in the log."""
    refused = [f"RCPT TO:<nobody{number}>" for number in range(3)]
    (program.folder / "aliases").write_text("".join(f"nobody{number}: :fail: gone\n" for number in range(3)))
    set_up(program, server, more=f'[redirect]\naliases = ["{program.folder / "aliases"}"]\n')
    done = answered(program, *envelope(), *refused, *again, *message(2))
    assert done.status == 1
    assert [line[:3] for line in answers(done, 8 + len(again))][-4:] == ["250", "250", "354", "250"]
    assert replies(done.out).count("550 5.1.0 nobody0 -> :fail: gone") == 1
    assert arrived(server) == [2]
    assert logged(program) == [("failed", ""), ("sent", "2")]


# -- -bs: the verdict


@pytest.mark.parametrize(
    ("verdict", "told"),
    [
        ("250 2.6.0 <1@x> queued as 4711", ["250 2.6.0 <1@x> queued as 4711"]),
        ("250 OK id=1abc-23", ["250 2.0.0 OK id=1abc-23"]),
        ("451 4.7.1 greylisted, come back", ["451 4.7.1 greylisted, come back"]),
        ("452 too much", ["452 4.0.0 too much"]),
        ("550 5.7.1 spam", ["550 5.7.1 spam"]),
        (
            "552-5.3.4 too large\n552 5.3.4 see https://x.example/",
            ["552-5.3.4 too large", "552 5.3.4 see https://x.example/"],
        ),
        ("421 4.3.2 going down", ["451 4.3.2 going down"]),
    ],
)
def test_the_reply_to_the_dot_is_the_smart_hosts_own(program: Program, verdict: str, told: list[str]) -> None:
    """E8: word for word; only its 421 is passed on as 451, for it is not us who leave."""
    with Server({"dot": verdict}, extensions=BOTH if verdict.startswith("2") else ["PIPELINING"]) as server:
        set_up(program, server)
        done = answered(program, *message())
        assert answers(done, len(told)) == told
        assert done.status == (0 if verdict.startswith("2") else 1)
        assert len(server.finished()) == 1
    assert logged(program) == [("sent" if verdict.startswith("2") else "failed", "1")]


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA"])
def test_a_refusal_before_the_text_is_the_verdict_too(program: Program, stage: str) -> None:
    """E8: the caller's dot is what asks for it; of a recipient the reply says which."""
    with Server({stage: "550 5.7.1 not you"}, extensions=["PIPELINING"]) as server:
        set_up(program, server)
        said = answers(answered(program, *message()), 2 if stage == "RCPT" else 1)
        assert said[0].replace("-", " ") == "550 5.7.1 not you"
        if stage == "RCPT":
            assert said[1] == f"550 5.7.1 127.0.0.1:{server.port} refused the recipient <{TO}>"


def test_no_smart_host_in_reach_may_pass(program: Program, closed_port: int) -> None:
    """E8: 451 4.4.1 with the sentence."""
    set_up(program, f"smtp://127.0.0.1:{closed_port}")
    [reply] = answers(answered(program, *message()))
    assert reply.startswith(f"451 4.4.1 127.0.0.1:{closed_port}: connection refused while connecting (is the network")


@pytest.mark.parametrize(
    ("users", "login", "words"),
    [
        ({"al": "another"}, 'password = "{canary}"', "answered AUTH with 535 5.7.8 wrong"),
        (None, 'password = "{canary}"', "offers no AUTH"),
        ({"al": CANARY}, 'password = {{ file = "/nowhere" }}', "no password for al"),
    ],
)
def test_trouble_with_the_login_is_for_good(
    program: Program, users: dict[str, str] | None, login: str, words: str
) -> None:
    """E8: 554, and the dialogue goes on."""
    with Server(users=users) as server:
        auth = f'[auth]\nuser = "al"\nallow_plaintext = true\n{login.format(canary=CANARY)}\n'
        set_up(program, server, more=auth)
        done = answered(program, *message(), "NOOP")
        reply, noop = answers(done, 2)
        assert reply.startswith("554 5.3.0 ")
        assert words in reply
        assert (noop, done.status) == ("250 2.0.0 nothing done", 1)


@pytest.mark.parametrize("loss", [Drop(), Reset(), "what?"], ids=["FIN", "RST", "nonsense"])
def test_what_may_have_been_sent_is_never_to_be_tried_again(program: Program, loss: Any) -> None:
    """E8: 554 with the sentence, where a 4yz would have it sent twice."""
    with Server({"dot": loss}, extensions=BOTH) as server:
        set_up(program, server)
        done = answered(program, *message())
        [reply] = answers(done)
        assert reply.startswith(f"554 5.4.2 may have been sent: 127.0.0.1:{server.port}: ")
        assert reply.endswith("(look whether it arrived before you send it again)")
        assert done.status == 1
        assert len(server.finished()) == 1


def test_the_dialogue_goes_on_after_a_message_that_failed(program: Program) -> None:
    """E8: exit 1 for one of three; each is one line in the log, the second failure too."""
    with Server([{"dot": "550 5.7.1 no"}, {"dot 2": "451 4.0.0 later"}], extensions=BOTH) as server:
        set_up(program, server)
        done = answered(program, *message(1), *message(2), *message(3), *message(4))
        assert done.status == 1
        said = [line for line in replies(done.out) if not line.startswith(("250 2.1", "250-", "354", "2.0", "22"))]
        assert said[1:] == ["550 5.7.1 no", "250 2.0.0 taken", "451 4.0.0 later", "250 2.0.0 taken"]
        assert arrived(server) == [2, 4]
    assert logged(program) == [("failed", "1"), ("sent", "2"), ("failed", "3"), ("sent", "4")]


def test_a_failure_at_the_start_is_the_greeting(program: Program) -> None:
    """E8: 554 with the sentence; no command is obeyed but QUIT, and standard error tells it as well."""
    program.configure("smart_host = 1\n")
    done = program.run("-bs", stdin=octets("EHLO me", "MAIL FROM:<a@b.example>", "QUIT"))
    greeting, ehlo, mail, quit = replies(done.out)
    assert greeting.startswith("554 ")
    assert "smart_host" in greeting
    assert (ehlo[:3], mail[:3], quit[:3]) == ("503", "503", "221")
    assert done.status == 1
    assert "smart_host" in done.sentence


def test_what_all_recipients_discard_is_accepted(program: Program, server: Server) -> None:
    """D3, E8: nobody is contacted."""
    (program.folder / "aliases").write_text("sink: :blackhole:\n")
    set_up(program, server, more=f'[redirect]\naliases = ["{program.folder / "aliases"}"]\n')
    done = answered(program, *message(1, "sink"))
    assert answers(done) == ["250 2.0.0 discarded"]
    assert (done.status, server.finished()) == (0, [])
    assert logged(program) == [("discarded", "1")]


# -- -bs: line ends and ends


SMUGGLED = "before\n.\nMAIL FROM:<evil@x.example>\nRCPT TO:<victim@x.example>\nDATA\nboo\n.\nafter"


@pytest.mark.row("I6")
def test_a_smuggled_line_end_is_text(program: Program, server: Server) -> None:
    """E8, F1: where lines end with CRLF a dot between two LFs ends nothing; it arrives as text, doubled on the wire."""
    set_up(program, server)
    said = octets("EHLO me", *envelope(), "DATA", "", SMUGGLED, ".", "QUIT")
    done = program.run("-bs", stdin=said)
    assert (done.status, done.out.count(b"354 ")) == (0, 1)
    [taken] = server.accepted
    assert taken.text.endswith(b"\r\n\r\n" + SMUGGLED.replace("\n", "\r\n").encode() + b"\r\n")
    assert taken.recipients == [TO.encode()]


def test_line_ends_are_those_of_the_first_command(program: Program, server: Server) -> None:
    """E8: LF as well as CRLF; with LF a CRLF.CRLF is text."""
    set_up(program, server)
    done = answered(program, *envelope(), "DATA", "", "one\r", ".\r", "two", ".", end="\n")
    assert done.status == 0
    assert server.accepted[0].text.endswith(b"\r\n\r\none\r\n\r\ntwo\r\n")


@pytest.mark.parametrize("left", [[], envelope(), ["RSET"]])
def test_an_end_of_the_input_without_quit_is_no_failure(program: Program, server: Server, left: list[str]) -> None:
    """E8: every message that was given has been sent."""
    set_up(program, server)
    done = program.run("-bs", stdin=octets("EHLO me", *message(), *left))
    assert (done.status, done.err, arrived(server)) == (0, b"", [1])


@pytest.mark.parametrize("cut", [b"", b"\r\n.", b"\r\n.\r", b"\n.\n"])
def test_an_end_of_the_input_within_a_text_sends_nothing(program: Program, server: Server, cut: bytes) -> None:
    """E8: half a message is none; the caller who may still hear is told, and exit 1 tells the others."""
    set_up(program, server)
    done = program.run("-bs", stdin=octets("EHLO me", *message(1), *envelope(), "DATA", "", "half")[:-2] + cut)
    assert (done.status, done.err, arrived(server)) == (1, b"", [1])
    assert "the input ends in the middle of a message" in replies(done.out)[-1]
    assert logged(program) == [("sent", "1"), ("failed", "")]
    assert len(server.messages) == 1


@pytest.mark.parametrize("said", [b"", octets("EHLO me"), octets("EHLO me", "AUTH PLAIN", "QUIT")])
def test_a_caller_without_a_message_has_lost_none(program: Program, server: Server, said: bytes) -> None:
    """E8, A1."""
    set_up(program, server)
    assert program.run("-bs", stdin=said).status == 0


def test_a_message_instead_of_commands_is_not_sent(program: Program, server: Server) -> None:
    """A1: dma and OpenSMTPD take it with -bs, so that somebody may believe it."""
    set_up(program, server)
    done = program.run("-bs", stdin=octets(*text(), end="\n"))
    assert done.status == 1
    assert {line[:3] for line in replies(done.out)} == {"220", "500"}
    assert server.finished() == []


def test_a_closed_standard_input_is_one_line(program: Program, server: Server) -> None:
    """F8, A3."""
    set_up(program, server)
    done = program.run("-bs", stdin=None, preexec_fn=lambda: os.close(0))
    assert done.status == 1
    assert done.sentence == "sendmail: not sent, refused: standard input is closed"
    program.configure("smart_host = 1\n")
    broken = program.run("-bs", stdin=None, preexec_fn=lambda: os.close(0))
    assert "smart_host" in broken.sentence
    batch = program.run("-bS", stdin=None, preexec_fn=lambda: os.close(0))
    assert "smart_host" in batch.sentence


# -- one connection (RULES E8, C8) -----------------------------------------------------------------------------------

BATCHES = ["-bs", "-bS"]


@pytest.mark.parametrize("mode", BATCHES)
def test_one_connection_and_one_login_for_all(program: Program, mode: str, authority: Authority) -> None:
    """E8: as long as hosts and account stay the same."""
    context = authority.server_context("127.0.0.1")
    ca_file = authority.ca_file(program.folder / "ca.pem")
    with Server(extensions=BOTH, context=context, implicit_tls=True, users={"al": CANARY}) as server:
        tables = f'[auth]\nuser = "al"\npassword = "{CANARY}"\n[tls]\nca_file = "{ca_file}"\n'
        set_up(program, f"submissions://127.0.0.1:{server.port}", more=tables)
        done = program.run(mode, stdin=octets(*(line for number in range(5) for line in message(number))))
        [session] = server.finished()
        assert (done.status, arrived(server)) == (0, [0, 1, 2, 3, 4])
    assert sum(command.startswith(b"AUTH") for command in session.commands) == 1


@pytest.mark.parametrize("mode", BATCHES)
def test_another_account_is_another_connection(program: Program, server: Server, mode: str) -> None:
    """E8: the sender decides about it, and a message of one never goes over the other's."""
    with Server(extensions=BOTH) as work:
        account = f'[[account]]\nmatch = ["*@work.example"]\n{program.smart_hosts(work)}from = "w@work.example"\n'
        set_up(program, server, more=account)
        senders = ["a@home.example", "a@home.example", "w@work.example", "a@home.example"]
        lines = [line for number, sender in enumerate(senders) for line in message(number, sender=sender)]
        assert program.run(mode, stdin=octets(*lines)).status == 0
        assert [len(session.accepted) for session in server.finished()] == [2, 1]
        assert (arrived(server), arrived(work)) == ([0, 1, 3], [2])


@pytest.mark.parametrize("mode", BATCHES)
@pytest.mark.parametrize("gone", [Drop(), Reset(), "421 4.4.2 too long"], ids=["FIN", "RST", "421"])
def test_a_connection_that_has_gone_stale_is_made_anew(program: Program, mode: str, gone: Any) -> None:
    """C8: the host has said nothing about the second message."""
    with Server([{"MAIL 2": gone}, {}], extensions=BOTH) as server:
        set_up(program, server)
        done = program.run(mode, stdin=octets(*message(1), *message(2)))
        assert (done.status, done.err, arrived(server)) == (0, b"", [1, 2])
        assert len(server.finished()) == 2


def test_a_host_that_leaves_while_the_caller_thinks_is_connected_anew(program: Program) -> None:
    """C8: as smart hosts do after five minutes."""
    leave, left = threading.Event(), threading.Event()
    script = {"dot": Then("250 2.0.0 taken", Wait(leave), "421 4.4.2 idle for too long", Tell(left), Drop())}
    with Server([script, {}], extensions=BOTH) as server:
        set_up(program, server)
        with calling(program, "-bs") as caller:
            said = [caller.hear(), *(caller.ask(line) for line in ("EHLO me", *envelope(), "DATA"))]
            assert [*said, caller.ask(*text(1), ".")][-1] == "250 2.0.0 taken"
            leave.set()
            assert left.wait(PATIENCE)
            assert [caller.ask(line)[:3] for line in (*envelope(), "DATA")] == ["250", "250", "354"]
            assert caller.ask(*text(2), ".") == "250 2.0.0 taken"
        assert [len(session.messages) for session in server.sessions] == [1, 1]


# -- -bS (RULES E8) --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sendmail -bS", "rsmtp"])
def test_200_messages_cost_one_connection_and_a_round_trip_each(program: Program, server: Server, name: str) -> None:
    """E8, E10, PERFORMANCE P6: silence, and the next envelope rides with the text."""
    set_up(program, server)
    count = 200 if name == "rsmtp" else 20
    program_name, *mode = name.split()
    lines = [line for number in range(count) for line in message(number)]
    done = program.run(*mode, name=program_name, stdin=octets(*lines, end="\n"))
    assert (done.status, done.out, done.err) == (0, b"", b"")
    [session] = server.finished()
    assert arrived(server) == list(range(count))
    rode = ["BDAT", "MAIL", "RCPT"]
    assert verbs(session) == [["EHLO"], ["MAIL", "RCPT"], *[rode] * (count - 1), ["BDAT"], ["QUIT"]]
    assert logged(program) == [("sent", str(number)) for number in range(count)]


STOPS: dict[str, tuple[list[str], str]] = {
    "command": (["FOO"], "message 3 after 2 sent: line 17: unknown command"),
    "recipient": ([*envelope("pager"), "DATA", "", "."], "message 3, at line 18, after 2 sent: pager -> |/bin/pager"),
    "loop": (
        [*envelope(), "DATA", *["Received: x"] * 101, "", "."],
        "message 3, at line 17, after 2 sent: 101 Rec",
    ),
    "cut": ([*envelope(), "DATA", "", "half"], "message 3, at line 17, after 2 sent: line 21: the input ends"),
    "refused": (message(3, "bad@example.net"), "message 3, at line 17, after 2 sent: 127.0.0.1:"),
}


@pytest.mark.parametrize("wrong", STOPS)
def test_a_batch_stops_at_the_first_error(program: Program, wrong: str) -> None:
    """E8: it says line and number; what came before is sent exactly once, what comes after is not begun."""
    lines, sentence = STOPS[wrong]
    (program.folder / "aliases").write_text("pager: |/bin/pager\n")
    with Server({"RCPT bad@example.net": "550 5.1.1 no such user"}, extensions=BOTH) as server:
        set_up(program, server, more=f'[redirect]\naliases = ["{program.folder / "aliases"}"]\n')
        after = [] if wrong == "cut" else message(4)
        done = program.run("-bS", stdin=octets(*message(1), *message(2), *lines, *after, end="\n"))
        assert (done.status, done.out) == (1, b"")
        assert done.sentence.startswith(f"sendmail: not sent, refused: {sentence}"), done.sentence
        server.finished()
        assert arrived(server) == [1, 2]
        assert len(server.messages) == 2
    assert [event for event, _ in logged(program)] == ["sent", "sent", "failed"]


def test_a_failure_of_the_message_before_comes_first(program: Program) -> None:
    """E8: that message waits for the next one, which is wrong too, and is not begun."""
    with Server({"dot 2": "554 5.7.1 spam"}, extensions=BOTH) as server:
        set_up(program, server)
        done = program.run("-bS", stdin=octets(*message(1), *message(2), "FOO", end="\n"))
        assert done.sentence.startswith("sendmail: not sent, refused: message 2, at line 9, after 1 sent: 127.0.0.1:")
        assert "554 5.7.1 spam [Message-ID <2@client.example>]" in done.sentence
        assert arrived(server) == [1]


@pytest.mark.parametrize("stage", ["dot 2", "MAIL 2"])
def test_a_batch_stops_at_a_refusal_and_begins_nothing_after_it(program: Program, stage: str) -> None:
    """E8, C2: neither the envelope that rode along nor a new connection."""
    with Server({stage: "451 4.3.0 later"}, extensions=BOTH) as server:
        set_up(program, server)
        done = program.run("-bS", stdin=octets(*(line for number in (1, 2, 3, 4) for line in message(number))))
        assert done.sentence.startswith("sendmail: not sent, try again: message 2, at line 9, after 1 sent: ")
        [session] = server.finished()
        assert arrived(server) == [1]
        assert len(session.messages) == (2 if stage == "dot 2" else 1)
    assert logged(program) == [("sent", "1"), ("failed", "2")]


def test_what_may_have_been_sent_ends_a_batch_and_says_so(program: Program) -> None:
    """E8, C3: the lead is that of the message."""
    with Server({"dot 2": Drop()}, extensions=BOTH) as server:
        set_up(program, server)
        done = program.run("-bS", stdin=octets(*(line for number in (1, 2, 3) for line in message(number))))
        assert done.sentence.startswith("sendmail: may have been sent: message 2, at line 9, after 1 sent: 127.0.0.1:")
        assert len(server.finished()) == 1
    assert logged(program) == [("sent", "1"), ("failed", "2")]


def test_the_rest_of_a_batch_is_read_before_it_is_told(program: Program) -> None:
    """A6: the caller reads our status, and not SIGPIPE."""
    with Server({"dot": "550 no"}) as server:
        set_up(program, server)
        with calling(program, "-bS") as caller:
            caller.send(octets(*message(1), *message(2)))
            until(lambda: bool(server.messages) and server.messages[0].complete)
            caller.send(octets(*(line for number in range(2000) for line in message(number))))  # more than a pipe holds
            assert caller.process.poll() is None
            status, out, err = ended(caller.process)
    assert (status, out) == (1, b"")
    assert err.startswith(b"sendmail: not sent, refused: message 1, at line 1, after 0 sent: ")


def test_a_writer_that_pauses_has_its_messages_sent(program: Program, server: Server) -> None:
    """E8: what is here does not wait for what may never come, not even for the rest of the next message."""
    set_up(program, server)
    with calling(program, "-bS") as caller:
        caller.say(*message(1))
        until(lambda: arrived(server) == [1])
        caller.say(*message(2), *envelope(), "DATA", "", "half")
        until(lambda: arrived(server) == [1, 2])
        caller.say("Hello, number 3.", ".")
        until(lambda: arrived(server) == [1, 2, 3])
        assert ended(caller.process) == (0, b"", b"")
    assert len(server.sessions) == 1


def test_a_batch_from_a_file_and_one_without_a_message(program: Program, server: Server, tmp_path: Path) -> None:
    """E8: blank lines, comments and a QUIT in the middle; what comes behind that is not read."""
    set_up(program, server)
    lines = ["", "NOOP a note", *message(1), "", *message(2), "NOOP", "QUIT", *message(3)]
    (tmp_path / "batch").write_bytes(octets(*lines, end="\n"))
    with (tmp_path / "batch").open("rb") as file:
        assert program.run("-bS", stdin=file.fileno()).status == 0
    assert arrived(server) == [1, 2]
    for nothing in b"", octets("HELO me", "QUIT"), b"\n\n":
        done = program.run("-bS", stdin=nothing)
        assert (done.status, done.out, done.err) == (0, b"", b"")


RSS = re.compile(r"^VmRSS:\s+(\d+) kB", re.MULTILINE)
GROWTH = 1024  # KiB; if each message left 0.2 KiB behind, this would not hold


@pytest.mark.parametrize("mode", BATCHES)
def test_10_000_messages_take_no_more_memory_than_1000(program: Program, mode: str) -> None:
    """E8: a batch of any length; the server is one that forgets."""
    with Lab() as lab:
        assert lab.sink.ready is not None
        set_up(program, f"smtp://127.0.0.1:{lab.sink.ready['ports'][0]}")
        with calling(program, mode, stdout=subprocess.DEVNULL) as caller:
            status = Path(f"/proc/{caller.process.pid}/status")
            resident = []
            for first, last in ((0, 1000), (1000, 10_000 if mode == "-bS" else 2_000)):
                caller.send(octets(*(line for number in range(first, last) for line in message(number))))
                assert all(lab.sink.next() is not None for _ in range(first, last))
                resident.append(int(RSS.findall(status.read_text())[0]))
            assert ended(caller.process)[0] == 0
    assert resident[1] - resident[0] < GROWTH, resident
    assert program.log.count(" sent id=<") == last


# -- the message -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", BATCHES)
def test_the_text_is_treated_as_any_other(program: Program, server: Server, mode: str) -> None:
    """F3, F4: Bcc goes, From, Date and Message-ID are added, dots are doubled again, 8-bit stays."""
    set_up(program, server)
    said = ["Subject: x", "Bcc: secret@example.net", "", "..", "..dot", "\xe4"]
    lines = [*envelope(), "DATA", *said, "."]
    done = program.run(mode, stdin="".join(f"{line}\r\n" for line in lines).encode("latin-1"))
    assert done.status == 0
    [taken] = server.accepted
    header, _, body = taken.text.partition(b"\r\n\r\n")
    assert b"Bcc" not in header
    assert [name for name in (b"From: ", b"Date: ", b"Message-ID: ") if b"\r\n" + name not in header] == []
    assert body == b".\r\n.dot\r\n\xe4\r\n"
    assert taken.mail_parameters.endswith(b"BODY=8BITMIME")


@pytest.mark.parametrize("mode", BATCHES)
def test_notifications_are_asked_for_as_the_caller_does(program: Program, mode: str) -> None:
    """RFC 3461: NOTIFY and ORCPT for each recipient, RET and ENVID for the message; the next one asks for nothing."""
    with Server(extensions=[*BOTH, "DSN"]) as server:
        set_up(program, server)
        lines = [
            "MAIL FROM:<me@client.example> RET=HDRS ENVID=4711",
            "RCPT TO:<a@example.net> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;A+2Bb@example.org",
            "RCPT TO:<b@example.net> NOTIFY=NEVER",
            "RCPT TO:<c@example.net>",
            *("DATA", *text(1), "."),
        ]
        assert program.run(mode, stdin=octets(*lines, *message(2))).status == 0
        first, second = server.accepted
    assert first.mail_parameters.endswith(b" RET=HDRS ENVID=4711")
    assert first.rcpt_parameters[0] == b"NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;A+2Bb@example.org"
    assert first.rcpt_parameters[1].startswith(b"NOTIFY=NEVER")
    assert (first.rcpt_parameters[2], second.rcpt_parameters) == (b"", [b""])
    assert b"RET=" not in second.mail_parameters


def test_a_backslash_and_a_null_sender_mean_what_they_do_elsewhere(program: Program, server: Server) -> None:
    """D2, E1: no redirection; and the null sender stays."""
    (program.folder / "aliases").write_text("root: ops@example.net\n")
    set_up(program, server, more=f'[redirect]\naliases = ["{program.folder / "aliases"}"]\n')
    assert answered(program, *message(1, "root", "\\root", sender="")).status == 0
    [taken] = server.accepted
    assert (taken.sender, taken.recipients) == (b"", [b"ops@example.net", b"root@client.example"])


def test_one_recipient_named_twice_counts_once(program: Program, server: Server) -> None:
    """B1."""
    set_up(program, server)
    assert answered(program, *message(1, "a@Example.net", "a@example.NET", "A@example.net")).status == 0
    assert server.accepted[0].recipients == [b"a@Example.net", b"A@example.net"]


def test_lists_together_name_no_more_than_there_may_be(program: Program, server: Server) -> None:
    """D6: 10 000 distinct ones, whichever RCPT they come by."""
    lists = {name: ", ".join(f"{name}{number}@x.example" for number in range(5001)) for name in ("one", "two")}
    (program.folder / "aliases").write_text("".join(f"{name}: {members}\n" for name, members in lists.items()))
    set_up(program, server, more=f'[redirect]\naliases = ["{program.folder / "aliases"}"]\n')
    done = answered(program, *envelope("one", "two"))
    assert answers(done, 2) == ["250 2.1.5 recipient ok", "550 5.1.0 more than 10000 recipients"]


@pytest.mark.parametrize("mode", BATCHES)
@pytest.mark.parametrize(("verdict", "folder"), [("550 5.7.1 no", ""), (Drop(), "uncertain")], ids=["refused", "lost"])
def test_what_was_not_sent_is_kept(program: Program, mode: str, verdict: Any, folder: str) -> None:
    """A4: with envelope and text, and the log says where; what was sent is not."""
    kept = program.folder / "kept"
    kept.mkdir(mode=0o700)
    with Server({"dot 2": verdict}, extensions=BOTH) as server:
        program.configure(f'{program.smart_hosts(server)}{ME}keep_failed = "{kept}"\n')
        done = program.run(mode, stdin=octets(*message(1), *message(2, "\\you", sender="x@y.example")))
        assert done.status == 1
    [file] = [path for path in kept.rglob("*") if path.is_file()]
    assert file.parent == kept / folder
    note, *lines = file.read_text().splitlines()
    assert note.startswith("NOOP muawrap ")
    assert lines[:3] == ["MAIL FROM:<x@y.example>", "RCPT TO:<\\you>", "DATA"]
    assert lines[-2:] == ["Hello, number 2.", "."]
    assert f"kept={file}" in program.log.splitlines()[1]
    assert ("kept as" in done.err.decode()) is (mode == "-bS")
    with Server(extensions=BOTH) as again:
        set_up(program, again)
        with file.open("rb") as batch:
            assert program.run("-bS", stdin=batch.fileno()).status == 0
        assert arrived(again) == [2]


def test_a_message_of_a_batch_that_cannot_be_offered_is_kept(program: Program, server: Server) -> None:
    """A4: the configuration refuses it, and nobody has been contacted about it."""
    kept = program.folder / "kept"
    kept.mkdir(mode=0o700)
    program.configure(f'{program.smart_hosts(server)}{ME}keep_failed = "{kept}"\nlong_lines = "refuse"\n')
    long = [*envelope(), "DATA", "Message-ID: <2@client.example>", "", "x" * 999, "."]
    done = program.run("-bS", stdin=octets(*message(1), *long))
    assert "message 2, at line 9, after 1 sent: " in done.sentence
    assert "[Message-ID <2@client.example>]" in done.sentence
    assert arrived(server) == [1]
    [file] = kept.iterdir()
    assert file.read_text().splitlines()[-2:] == ["x" * 999, "."]


# -- callers and their descriptors -----------------------------------------------------------------------------------


def test_a_socket_pair_is_as_good_as_pipes(program: Program, server: Server) -> None:
    """E5: Node hands one over."""
    set_up(program, server)
    ours, theirs = socket.socketpair()
    with ours, theirs, calling(program, "-bs", stdin=theirs, stdout=theirs) as running:
        theirs.close()
        caller = Caller(running.process, ours.fileno(), ours.fileno())
        said = [caller.hear(), *(caller.ask(line) for line in ("EHLO me", *envelope(), "DATA"))]
        assert [line[:3] for line in [*said, caller.ask(*text(), ".")]] == ["220", "250", "250", "250", "354", "250"]
        ours.shutdown(socket.SHUT_WR)
        assert running.process.wait(PATIENCE) == 0
        assert ours.recv(100) == b""
    assert arrived(server) == [1]


def test_a_full_pipe_that_does_not_block_loses_no_reply(program: Program, server: Server, tmp_path: Path) -> None:
    """E8: as event loops hand it over."""
    set_up(program, server)
    (tmp_path / "input").write_bytes(octets(*["NOOP"] * 10_000, *message(), "QUIT"))
    read, write = os.pipe()
    os.set_blocking(write, False)
    with (tmp_path / "input").open("rb") as file, calling(program, "-bs", stdin=file, stdout=write) as caller:
        os.close(write)
        until(lambda: int.from_bytes(fcntl.ioctl(read, termios.FIONREAD, bytes(4)), sys.byteorder) >= 65536 - 4096)
        with os.fdopen(read, "rb") as pipe:
            lines = replies(pipe.read())
        assert caller.process.wait(PATIENCE) == 0
    assert [line[:3] for line in lines] == ["220", *["250"] * 10_002, "354", "250", "221"]


def test_a_caller_gone_within_the_text_gets_nothing_sent(program: Program, server: Server) -> None:
    """E8: and exit 1 is for whoever waits for us."""
    set_up(program, server)
    with calling(program, "-bs") as caller:
        said = [caller.hear(), *(caller.ask(line) for line in ("EHLO me", *envelope(), "DATA"))]
        assert said[-1][:3] == "354"
        caller.say(*text())
        assert caller.process.stdin
        assert caller.process.stdout
        caller.process.stdout.close()
        caller.process.stdin.close()
        assert caller.process.wait(PATIENCE) == 1
    assert server.finished() == []
    assert logged(program) == [("failed", "")]


def test_a_caller_gone_after_the_dot_has_sent_the_message(program: Program) -> None:
    """E8, A5: nobody hears the reply, and the log has it."""
    reached, go_on = threading.Event(), threading.Event()
    with Server({"dot": Then(Tell(reached), Wait(go_on))}, extensions=BOTH) as server:
        set_up(program, server)
        with calling(program, "-bs") as caller:
            caller.say("EHLO me", *message())
            assert reached.wait(PATIENCE)
            assert caller.process.stdin
            assert caller.process.stdout
            caller.process.stdout.close()
            caller.process.stdin.close()
            go_on.set()
            assert caller.process.wait(PATIENCE) == 0
        assert arrived(server) == [1]
    assert logged(program) == [("sent", "1")]


# -- signals (RULES A3, A5; RELIABILITY L3) --------------------------------------------------------------------------


@pytest.mark.row("L3")
@pytest.mark.parametrize(("number", "before"), [*((number, 1) for number in ALL), (signal.SIGTERM, 0)])
def test_a_signal_between_messages_ends_the_dialogue(
    program: Program, server: Server, number: signal.Signals, before: int
) -> None:
    """E8: the caller reads 421; nothing that was given is left unsent, and so the status is that of the end."""
    set_up(program, server)
    with calling(program, "-bs") as caller:
        caller.hear()
        said = [caller.ask("EHLO me"), *(caller.ask(line) for line in (*envelope(), "DATA")[: 3 * before])]
        assert before == 0 or caller.ask(*text(), ".") == "250 2.0.0 taken"
        assert len(said) == 1 + 3 * before
        caller.wait_until_idle()
        caller.process.send_signal(number)
        assert caller.hear() == "421 4.3.2 interrupted by a signal"
        assert ended(caller.process) == (0, b"", b"")
    assert arrived(server) == [1] * before


@pytest.mark.row("L3")
@pytest.mark.parametrize("said", [envelope(), [*envelope(), "DATA"]], ids=["envelope", "text"])
def test_a_signal_within_a_message_sends_nothing_of_it(program: Program, server: Server, said: list[str]) -> None:
    """E8: 421, exit 1, and a line in the log."""
    set_up(program, server)
    with calling(program, "-bs") as caller:
        caller.hear()
        assert [caller.ask(line)[:3] for line in ("EHLO me", *said)][-1] in ("250", "354")
        if said[-1] == "DATA":
            caller.say(*text())
        caller.wait_until_idle()
        caller.process.send_signal(signal.SIGTERM)
        assert caller.hear() == "421 4.3.2 interrupted by a signal"
        assert ended(caller.process) == (1, b"", b"")
    assert server.finished() == []
    assert logged(program) == [("failed", "")]


@contextmanager
def at_the_dot(program: Program, mode: str, more: list[str]) -> Iterator[tuple[Caller, Server, threading.Event]]:
    """A signal has come while the verdict is waited for, and has been taken note of."""
    reached, go_on = threading.Event(), threading.Event()
    with Server({"dot 1": Then(Tell(reached), Wait(go_on))}, extensions=BOTH) as server:
        set_up(program, server)
        with calling(program, mode) as caller:
            caller.say("EHLO me", *message(1), *more)
            assert reached.wait(PATIENCE)
            caller.process.send_signal(signal.SIGTERM)
            until(lambda: signal.SIGALRM in mask(caller.process, "SigCgt"))
            yield caller, server, go_on
            go_on.set()


@pytest.mark.row("L3")
@pytest.mark.parametrize("more", [[], message(2)], ids=["nothing more", "another message"])
def test_a_signal_waits_for_the_verdict_and_then_ends_the_dialogue(program: Program, more: list[str]) -> None:
    """E8, A3: the verdict is told; no other message is begun."""
    with at_the_dot(program, "-bs", more) as (caller, server, go_on):
        go_on.set()
        status, out, err = ended(caller.process)
        lines = replies(out)
        assert lines[-1] == "421 4.3.2 interrupted by a signal"
        assert "250 2.0.0 taken" in lines
        assert (status, err, arrived(server)) == (1 if more else 0, b"", [1])


@pytest.mark.row("L3")
def test_a_verdict_that_does_not_come_after_a_signal_is_uncertain(program: Program) -> None:
    """E8, A3: a second signal waits no longer; 554, for a 4yz would have it sent twice."""
    with at_the_dot(program, "-bs", []) as (caller, _, _):
        caller.process.send_signal(signal.SIGTERM)
        status, out, err = ended(caller.process)
    assert (status, err) == (1, b"")
    assert replies(out)[-1].startswith("554 5.4.2 may have been sent: 127.0.0.1:")
    assert logged(program) == [("failed", "1")]


@pytest.mark.row("L3")
def test_a_signal_while_a_batch_waits_says_how_far_it_came(program: Program, server: Server) -> None:
    """E8, A3: the batch may not have been all."""
    set_up(program, server)
    with calling(program, "-bS") as caller:
        caller.say(*message(1))
        until(lambda: bool(program.log))
        caller.process.send_signal(signal.SIGTERM)
        line = b"sendmail: not sent, try again: message 2 after 1 sent: interrupted by a signal\n"
        assert ended(caller.process) == (1, b"", line)
    assert arrived(server) == [1]


@pytest.mark.row("L3")
def test_a_signal_waits_for_the_verdict_and_then_ends_the_batch(program: Program) -> None:
    """E8, A3, A5: what was accepted is sent, and the next one, which had been read, is not."""
    with at_the_dot(program, "-bS", [*message(2), *message(3)]) as (caller, server, go_on):
        go_on.set()
        status, out, err = ended(caller.process)
        line = rb"sendmail: not sent, try again: message 2, at line 10, after 1 sent: interrupted by a signal"
        assert (status, out) == (1, b"")
        assert err.startswith(line)
        assert arrived(server) == [1]
    assert logged(program) == [("sent", "1"), ("failed", "2")]


@pytest.mark.row("L3")
def test_a_signal_at_the_last_verdict_of_a_batch_changes_nothing(program: Program) -> None:
    """A5: all of it has been sent."""
    with at_the_dot(program, "-bS", []) as (caller, server, go_on):
        assert caller.process.stdin
        caller.process.stdin.close()
        caller.process.stdin = None
        go_on.set()
        assert ended(caller.process) == (0, b"", b"")
        assert arrived(server) == [1]


@pytest.mark.row("L3")
@pytest.mark.parametrize("how", ["a second signal", "a refusal"])
def test_a_batch_that_was_interrupted_says_what_became_of_the_message(program: Program, how: str) -> None:
    """A3, E8: uncertain without a verdict, whatever rode along; with one, its own words, and no more is read."""
    reached, go_on = threading.Event(), threading.Event()
    verdict = Then(Tell(reached), Wait(go_on), "550 5.7.1 no")
    with Server({"dot 2": verdict}, extensions=BOTH) as server:
        set_up(program, server)
        with calling(program, "-bS") as caller:
            caller.say(*(line for number in (1, 2, 3) for line in message(number)))
            assert reached.wait(PATIENCE)
            caller.process.send_signal(signal.SIGTERM)
            until(lambda: signal.SIGALRM in mask(caller.process, "SigCgt"))
            if how == "a refusal":
                go_on.set()
            else:
                caller.process.send_signal(signal.SIGTERM)
            assert caller.process.stderr
            told = caller.process.stderr.read()  # up to its end, although the input goes on
            assert caller.process.wait(PATIENCE) == 1
        go_on.set()
        lead = "not sent, refused" if how == "a refusal" else "may have been sent"
        assert told.decode().startswith(f"sendmail: {lead}: message 2, at line 9, after 1 sent: 127.0.0.1:")
        assert arrived(server) == [1]
