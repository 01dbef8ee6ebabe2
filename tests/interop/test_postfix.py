"""muawrap hands its messages to a real Postfix, whatever it offers."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

import pytest

from tests.support.postfix import Arrived, Postfix
from tests.support.program import Program

HELLO = b"Subject: hi\n\nhello\n"
EXTENSIONS = {"PIPELINING", "CHUNKING"}


@pytest.fixture(
    scope="module",
    params=[(), ("CHUNKING",), ("PIPELINING",), ("PIPELINING", "CHUNKING")],
    ids=["PIPELINING+CHUNKING", "PIPELINING", "CHUNKING", "neither"],
)
def running_postfix(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Postfix]:
    without = request.param
    with Postfix(tmp_path_factory.mktemp("postfix"), without=without, refuse_recipients=["r123@y.example"]) as postfix:
        assert postfix.offers & EXTENSIONS == EXTENSIONS - set(without)
        yield postfix


@pytest.fixture
def postfix(running_postfix: Postfix) -> Postfix:
    """With each combination of what it offers."""
    running_postfix.forget()
    return running_postfix


@pytest.fixture
def sending(program: Program, postfix: Postfix) -> Program:
    """Through this Postfix, as box@client.example."""
    sender = 'from = "box@client.example"\nallowed_from = ["*@client.example"]\n'
    program.configure(program.smart_hosts(postfix) + sender)
    return program


def send(program: Program, *argv: str, stdin: bytes = HELLO) -> None:
    """It goes out, and nothing is said about it (RULES A1, A2)."""
    result = program.run(*argv, stdin=stdin)
    assert (result.status, result.out, result.err) == (0, b"", b"")


def only(postfix: Postfix) -> Arrived:
    [arrived] = postfix.messages()
    return arrived


# --- one message, one transaction


def test_200_recipients_are_one_mail_and_one_message(sending: Program, postfix: Postfix) -> None:
    """B1, B5: in their order, in one session."""
    recipients = [f"r{number}@x.example" for number in range(1, 201)]
    send(sending, *recipients)
    arrived = only(postfix)
    assert arrived.sender == "box@client.example"
    assert arrived.recipients == recipients
    assert arrived.body == b"hello\n"
    [session] = postfix.sessions()
    assert (session["mail"], session["rcpt"]) == (1, 200)
    assert session.get("data", 0) + session.get("bdat", 0) == 1


def test_nobody_gets_it_where_one_of_200_is_refused(sending: Program, postfix: Postfix) -> None:
    """B2, A3: no text is sent, and the sentence names the one."""
    result = sending.run(*[f"r{number}@y.example" for number in range(1, 201)], stdin=HELLO)
    assert (result.status, result.out) == (1, b"")
    assert result.sentence.startswith("sendmail: not sent, refused: ")
    assert "r123@y.example" in result.sentence
    assert "no such user here" in result.sentence
    assert "r122@" not in result.sentence
    assert postfix.messages() == []
    [session] = postfix.sessions()
    assert not {"data", "bdat"} & set(session)


def test_a_refused_only_recipient_gets_nothing(sending: Program, postfix: Postfix) -> None:
    """B2, B6: a complete refusal is "not sent", even where the text has gone out with the RCPT."""
    result = sending.run("r123@y.example", stdin=HELLO)
    assert (result.status, result.out) == (1, b"")
    assert result.sentence.startswith("sendmail: not sent, refused: ")
    assert "no such user here" in result.sentence
    assert postfix.messages() == []


def test_the_null_sender_stays_null(sending: Program, postfix: Postfix) -> None:
    """E1."""
    send(sending, "-f", "", "a@x.example")
    assert only(postfix).sender == ""


# --- the bytes


def any_bytes(size: int) -> bytes:
    """Lines of all bytes but CR, at most 998 octets long, the same each time."""
    text = random.Random(3).randbytes(size).replace(b"\r", b"\n")
    return re.sub(rb"[^\n]{998}(?!\n)", rb"\g<0>\n", text) + b"\n"


BODIES = {
    "8-bit text": ("Grüße, 日本\n".encode(),) * 2,
    "bytes that are no text": (bytes(set(range(256)) - set(b"\r\n")) + b"\n",) * 2,
    "dots": (b".\n..\n.x\n..y\n...\nz.\n",) * 2,
    "a last lone dot": (b"x\n.\n",) * 2,
    "blank lines at both ends": (b"\n\nx\n\n\n",) * 2,
    "blanks at line ends": (b" x \n\t\n   \n",) * 2,
    "no final line end": (b"x\ny", b"x\ny\n"),
    "a final dot without a line end": (b"x\n.", b"x\n.\n"),
    "CRLF": (b"x\r\n\r\n.\r\ny\r\n", b"x\n\n.\ny\n"),
    "bare CR": (b"x\ry\r\rz\r", b"x\ny\n\nz\n"),
    "a dot between bare CR": (b"x\r.\ry\n.\rz\r.\nend\n", b"x\n.\ny\n.\nz\n.\nend\n"),
    "all line ends": (b"a\nb\r\nc\rd\n\re\r\r\nf", b"a\nb\nc\nd\n\ne\n\nf\n"),
    "empty": (b"", b""),
    "lines of 998 octets": (b"x" * 998 + b"\n" + b"." * 998 + b"\n",) * 2,
    "3 MiB": (any_bytes(3 * 1024 * 1024),) * 2,
}


@pytest.mark.row("I5", "G10")
@pytest.mark.parametrize("body", BODIES)
def test_the_body_arrives_as_it_was(sending: Program, postfix: Postfix, body: str) -> None:
    """F1, F2: the same bytes whatever is offered; LF, CRLF and bare CR are each one line end."""
    given, expected = BODIES[body]
    send(sending, "-i", "a@x.example", stdin=b"Subject: hi\n\n" + given)
    assert only(postfix).body == expected


def test_a_large_body_reaches_200_recipients(sending: Program, postfix: Postfix) -> None:
    """B1, F1: here the text cannot leave in one flight with MAIL and RCPT."""
    given, expected = BODIES["3 MiB"]
    recipients = [f"r{number}@x.example" for number in range(1, 201)]
    send(sending, "-i", *recipients, stdin=b"Subject: hi\n\n" + given)
    arrived = only(postfix)
    assert (arrived.recipients, arrived.body == expected) == (recipients, True)


@pytest.mark.row("G10")
def test_the_callers_header_keeps_its_bytes_and_order(sending: Program, postfix: Postfix) -> None:
    """F3."""
    header = (
        b"Received: from elsewhere; Sat, 21 Nov 2026 10:00:00 +0000\n"
        b"X-Folded: one\n\ttwo\n   three\n"
        b"from: A <a@client.example>\n"
        b"Subject:no blank\n"
        b"Date: Sat, 21 Nov 2026 10:00:00 +0000\n"
        b"To: B <b@x.example>\n"
        b"X-Twice: 1\nX-Twice: 2\n"
        b"Message-ID: <1@client.example>\n"
        b"X-Empty:\n"
    )
    send(sending, "b@x.example", stdin=header + b"\nhello\n")
    assert only(postfix).header == header


@pytest.mark.row("I7")
def test_bcc_is_seen_by_nobody(sending: Program, postfix: Postfix) -> None:
    """E7, F4: it is not Postfix that takes it out."""
    header = b"To: a@x.example\nBcc: b@x.example,\n c@x.example\nbcc: d@x.example\nSubject: hi\n"
    send(sending, "-t", stdin=header + b"\nhello\n")
    arrived = only(postfix)
    assert arrived.recipients == ["a@x.example", "b@x.example", "c@x.example", "d@x.example"]
    assert arrived.parsed["Bcc"] is None
    assert b"b@x" not in arrived.header
    assert b"d@x" not in arrived.header
