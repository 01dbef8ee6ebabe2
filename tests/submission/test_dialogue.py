"""The shape of the dialogue: what leaves in one flight, and what that means for the verdict."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from muawrap.failure import REFUSED, TRY_AGAIN, UNCERTAIN
from muawrap.mail import Body
from muawrap.submission.deliver import deliver
from muawrap.submission.transact import ONE_FLIGHT
from tests.submission.offering import failure_of, offer, smart_host
from tests.support.need import need
from tests.support.program import Program
from tests.support.server import Drop, Reset, Server, Session

PIPELINING = ["PIPELINING", "8BITMIME", "SIZE 0"]
CHUNKING = ["CHUNKING", "8BITMIME", "SIZE 0"]
BOTH = ["PIPELINING", *CHUNKING]
TEXT = b"..dots\n.\nand more\n"


def flights(session: Session) -> list[list[bytes]]:
    """What the client said, in groups with words of the server between them; each command without its text."""
    groups = []
    for said_by, group in itertools.groupby(session.transcript, key=lambda said: said[0]):
        if said_by == "C":
            groups.append([line for line in b"".join(octets for _, octets in group).split(b"\r\n") if line])
    return groups


def verbs(session: Session) -> list[list[str]]:
    known = ("EHLO", "MAIL", "RCPT", "DATA", "BDAT", "QUIT")
    return [[word for line in flight if (word := line[:4].decode("latin-1")) in known] for flight in flights(session)]


def test_one_recipient_with_pipelining_and_chunking_is_two_flights() -> None:
    """B5, B6, PERFORMANCE P1: EHLO, then everything; QUIT waits for nothing."""
    with Server(extensions=BOTH) as server:
        deliver(offer(smart_host(server)))
        (session,) = server.finished()
    assert verbs(session) == [["EHLO"], ["MAIL", "RCPT", "BDAT"], ["QUIT"]]


def test_several_recipients_are_three_flights() -> None:
    """B2, B5: the text waits until all of them are accepted."""
    with Server(extensions=BOTH) as server:
        deliver(offer(smart_host(server), to=("one@example.net", "two@example.net")))
        (session,) = server.finished()
    assert verbs(session) == [["EHLO"], ["MAIL", "RCPT", "RCPT"], ["BDAT"], ["QUIT"]]


def test_without_chunking_data_has_a_flight_of_its_own() -> None:
    """B5."""
    with Server(extensions=PIPELINING) as server:
        deliver(offer(smart_host(server)))
        (session,) = server.finished()
    assert [flight for flight in verbs(session) if flight] == [["EHLO"], ["MAIL", "RCPT"], ["DATA"], ["QUIT"]]


def test_without_pipelining_every_command_waits() -> None:
    """B5."""
    with Server(extensions=CHUNKING) as server:
        deliver(offer(smart_host(server)))
        (session,) = server.finished()
    assert verbs(session) == [["EHLO"], ["MAIL"], ["RCPT"], ["BDAT"], ["QUIT"]]


@pytest.mark.parametrize("extensions", [BOTH, PIPELINING, CHUNKING, ["8BITMIME"], []])
@pytest.mark.parametrize("recipients", [1, 3])
@pytest.mark.parametrize("size", [0, 1, 100_000, 3_000_000])
def test_whatever_is_offered_the_same_octets_arrive(extensions: list[str], recipients: int, size: int) -> None:
    """B1, F1: every combination, small and large, within one block and across them."""
    text = TEXT + b"x" * size + b"\n.\n"
    to = tuple(f"r{number}@example.net" for number in range(recipients))
    with Server(extensions=extensions) as server:
        deliver(offer(smart_host(server), to=to, body=Body(text)))
    (message,) = server.accepted
    assert message.text.partition(b"\r\n\r\n")[2] == text.replace(b"\n", b"\r\n")
    assert message.recipients == [address.encode() for address in to]


def test_what_a_host_does_not_master_is_not_used() -> None:
    """muawrap.toml(5), ignore_extensions."""
    with Server(extensions=BOTH) as server:
        deliver(offer(smart_host(server, ignore_extensions=("CHUNKING", "PIPELINING"))))
        (session,) = server.finished()
    assert verbs(session)[1:4] == [["MAIL"], ["RCPT"], ["DATA"]]


def test_a_further_host_or_a_large_text_keeps_the_text_back() -> None:
    """B6: only where nothing is lost by it."""
    with Server(extensions=BOTH) as server, Server(extensions=BOTH) as other:
        deliver(offer(smart_host(server), smart_host(other)))
        deliver(offer(smart_host(server), body=Body(b"x" * ONE_FLIGHT + b"\n")))
        sessions = server.finished()
    assert [verbs(session)[1] for session in sessions] == [["MAIL", "RCPT"]] * 2


# -- the verdict of a message that left with its envelope (RULES B6)


@pytest.mark.parametrize(
    ("script", "lead"),
    [
        ({"RCPT": "550 5.1.1 no"}, REFUSED),
        ({"RCPT": "450 4.2.0 later"}, TRY_AGAIN),
        ({"MAIL": "550 5.7.1 no"}, REFUSED),
        ({"dot": "552 5.3.4 too much"}, REFUSED),
        ({"dot": "451 later"}, TRY_AGAIN),
        ({"dot": Drop()}, UNCERTAIN),
        ({"dot": Reset()}, UNCERTAIN),
        ({"dot": "354 what"}, UNCERTAIN),
        ({"MAIL": Drop()}, UNCERTAIN),
        ({"RCPT": "garbage"}, UNCERTAIN),
    ],
)
def test_a_refusal_is_not_sent_and_any_other_loss_may_have_been_sent(script: dict[str, Any], lead: str) -> None:
    """B6, C3."""
    with Server(script, extensions=BOTH) as server:
        failure = failure_of(offer(smart_host(server)))
        server.finished()
        assert failure.lead == lead
        assert server.accepted == []


def test_a_refused_recipient_and_then_a_loss_is_not_sent() -> None:
    """B6: with a single recipient nothing can be half delivered."""
    with Server({"RCPT": "550 5.1.1 no", "dot": Reset()}, extensions=BOTH) as server:
        assert failure_of(offer(smart_host(server))).lead == REFUSED


@pytest.mark.row("S8")
def test_nobody_gets_it_where_one_of_many_is_refused_although_chunking_is_offered() -> None:
    """B2: Exim would send the text to the others."""
    with Server({"RCPT 2": "550 5.1.1 no"}, extensions=BOTH) as server:
        failure = failure_of(offer(smart_host(server), to=("a@example.net", "b@example.net", "c@example.net")))
        (session,) = server.finished()
    assert failure.recipient == "<b@example.net>"
    assert verbs(session) == [["EHLO"], ["MAIL", "RCPT", "RCPT", "RCPT"], ["QUIT"]]


def test_10_000_recipients_in_one_flight_do_not_lock_up() -> None:
    """B5: their replies are taken in while the flight is still under way."""
    to = tuple(f"recipient-number-{number}@a-rather-long-domain.example" for number in range(10_000))
    wordy = "250 2.1.5 " + "recipient accepted, and that is said at length " * 3
    with Server({"RCPT": wordy}, extensions=BOTH) as server:
        deliver(offer(smart_host(server), to=to))
        (session,) = server.finished()
        assert len(server.accepted[0].recipients) == 10_000
    assert sum(command.startswith(b"RCPT") for command in session.commands) == 10_000


# -- from outside


def test_a_flight_is_one_send(program: Program, tmp_path: Path) -> None:
    """PERFORMANCE: no Nagle, no delayed acknowledgement; one system call each for EHLO, the message and QUIT."""
    trace = tmp_path / "trace"
    with Server(extensions=BOTH) as server:
        program.configure(f'{program.smart_hosts(server)}from = "me@client.example"\n')
        command = [str(program.named("sendmail")), "-C", str(program.config), "you@example.net"]
        strace = [need("strace"), "-f", "-e", "trace=sendto,connect,setsockopt", "-o", str(trace)]
        subprocess.run([*strace, *command], input=b"Subject: x\n\n" + b"x\n" * 1000, check=True)
    calls = trace.read_text().splitlines()
    assert sum("sendto(" in call for call in calls) == 3
    assert any("TCP_NODELAY" in call for call in calls)


# What a delivery loads before its connection begins, beside the package and what Python itself has loaded by then.
BEFORE_THE_CONNECTION = {
    *(
        "__future__",
        "array",
        "collections",
        "_collections_abc",
        "contextlib",
        "copyreg",
        "datetime",
        "encodings",
        "enum",
        "errno",
    ),
    *("functools", "genericpath", "importlib", "itertools", "keyword", "math", "operator", "os", "posixpath", "pwd"),
    *("re", "reprlib", "select", "selectors", "signal", "socket", "stat", "string", "tomllib", "types", "typing"),
    *("warnings", "zipimport", "sre_compile", "sre_constants", "sre_parse"),  # the last three with Python 3.10
    *("tomli", "site", "sitecustomize", "usercustomize"),  # what 3.10 has instead of tomllib, and the way to it
}


def test_the_connection_is_begun_before_the_dialogue_is_loaded(program: Program) -> None:
    """PERFORMANCE: start-up hides behind the wire; what is loaded before is a short list."""
    with Server() as server:
        program.configure(f'{program.smart_hosts(server)}from = "me@client.example"\n')
        said = program.script(
            "bare = set(sys.modules);"
            "from muawrap import sendmail;"
            "from muawrap.submission import dial;"
            "real = dial.Dial.__init__; loaded = [];"
            "dial.Dial.__init__ = lambda self, *a: (loaded.extend(set(sys.modules) - bare), real(self, *a))[1];"
            "sendmail.run(['sendmail', '-C', sys.argv[1], 'you@example.net']);"
            "print(*loaded)",
            b"Subject: hello\n\nHello.\n",
        )
        assert len(server.finished()[0].messages) == 1
    loaded = set(said.decode().split())
    ours = {name for name in loaded if name.startswith("muawrap")}
    if "site" not in loaded:  # which may run whatever is installed beside tomli
        assert {name.partition(".")[0].lstrip("_") for name in loaded - ours} - {
            name.lstrip("_") for name in sys.builtin_module_names
        } <= {name.lstrip("_") for name in BEFORE_THE_CONNECTION}
        assert "encodings.idna" not in loaded  # an address or an ASCII name needs no codec
    assert not loaded & {"ssl", "smtplib", "email", "hmac", "base64", "threading", "muawrap.submission.deliver"}
    assert {name for name in ours if name.startswith("muawrap.submission.")} == {
        f"muawrap.submission.{name}" for name in ("dial", "opening", "secrets", "smarthosts")
    }
