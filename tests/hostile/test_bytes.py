"""Whatever bytes come in, what leaves can be read in one way only."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muawrap.mail import BLOCK, Body, Message, Way
from muawrap.reading import message as reading
from muawrap.submission import wire
from muawrap.submission.deliver import deliver
from tests.hostile import normaliser
from tests.hostile.normaliser import faults_of_chunk, faults_of_data, with_lf
from tests.submission.offering import offer, smart_host
from tests.support.program import Program
from tests.support.server import Received, Server

# Line ends and dots in every order, between text of any kind.
HOSTILE = st.lists(
    st.one_of(
        st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"\0", b"a", b"\r\n.\r\n", b"\n.\n", b"\r.\r", b"\n.\r\n"]),
        st.binary(max_size=12),
    ),
    max_size=20,
).map(b"".join)
FIELDS = st.lists(
    st.sampled_from([b"Subject: x", b"X-Y:\n folded", b"To: a@b.example", b"X: \xe4\xf6", b"From: .", b"A:"]),
    max_size=4,
)


def read(text: bytes, folder: Path, dot_ends: bool = False) -> Message:
    """A message as the program reads it from a file."""
    path = folder / "message"
    path.write_bytes(text)
    with path.open("rb") as file:
        return reading.read(file.fileno(), dot_ends, 100)[0]


def header(message: Message) -> bytes:
    return b"".join(field.octets for field in message.headers)


def crlf(text: bytes) -> bytes:
    return text.replace(b"\n", b"\r\n")


# -- the proof -------------------------------------------------------------------------------------------------------


@pytest.mark.row("I5", "G2")
def test_every_short_text_leaves_as_the_rules_say() -> None:
    """F1, F2, F5: all texts over CR, LF, dot, NUL and "a", at every buffer size; `make torture` goes up to length 9."""
    proof = normaliser.prove(longest=6)
    assert proof.texts == sum(5**length for length in range(7))
    assert proof.runs > 12 * proof.texts
    assert proof.violations == []


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (b"a\n.\r\n", b"a\n"),
        (b"a\r.\r\n", b"a\n"),
        (b".\r\n.\r\n", b".\n"),
        (b"a\r\n.\r\nb\r\n.\r\n", b"a\n.\nb\n"),
        (b".a\r\n.\r\n", b".a\n"),
        (b"a\r\n", b"a\n"),
        (b"a.\r\n", b"a\n"),
        (b"b\r\n.\r\n", b"a\n"),
        (b"", b""),
    ],
)
def test_the_proof_finds_what_it_looks_for(sent: bytes, text: bytes) -> None:
    """F1: bare line ends, an end too early or none, dots that are not doubled, another text."""
    assert list(faults_of_data(sent, text))
    assert list(faults_of_chunk(sent, text + b"\n"))


@pytest.mark.parametrize(("broken", "name"), [("replace", "crlf_as_lf"), ("keep", "_before_dot")])
def test_the_proof_finds_a_reader_that_is_wrong(broken: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """F1, F2: one that forgets a CR at the end of a block, one that looks for no dot."""

    def forgetful(source: Iterator[bytes]) -> Iterator[bytes]:
        for block in source:
            yield block.replace(b"\r\n", b"\n") if broken == "replace" else block

    monkeypatch.setattr(reading, name, forgetful)
    assert normaliser.prove(longest=3).violations


# -- through a server ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[("8BITMIME",), ("PIPELINING", "CHUNKING", "8BITMIME")], ids=["DATA", "BDAT"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(extensions=request.param) as running:
        yield running


def sent(message: Message, server: Server) -> tuple[Received, bytes]:
    """The message as it arrived in a session of its own, and all that came in that session."""
    way = Way(smart_host(server, policy="none"), "me@client.example", header(message))
    deliver(offer(way.host)._replace(ways=(way,), body=message.body))
    session = server.finished()[-1]
    (arrived,) = session.messages
    return arrived, bytes(session.raw)


@pytest.mark.row("I5", "G2")
@given(fields=FIELDS, body=HOSTILE, end=st.sampled_from([b"\n", b"\r\n"]))
@settings(deadline=None, max_examples=100)
def test_any_body_arrives_as_it_was_with_crlf(
    server: Server, tmp_path_factory: pytest.TempPathFactory, fields: list[bytes], body: bytes, end: bytes
) -> None:
    """F1, F3: the header keeps its octets; nothing alone that is half a line end, and one message."""
    block = b"".join(field.replace(b"\n", end) + end for field in fields)
    message = read(block + end + body, tmp_path_factory.getbasetemp())
    arrived, raw = sent(message, server)
    assert arrived.text == crlf(b"".join(field + b"\n" for field in fields) + b"\n" + with_lf(body))
    assert raw.count(b"\r") == raw.count(b"\n") == raw.count(b"\r\n")
    assert raw.endswith(b"QUIT\r\n")


@pytest.mark.row("I5")
@given(text=HOSTILE, dot_ends=st.booleans())
@settings(deadline=None, max_examples=100)
def test_what_arrived_arrives_again_as_it_is(
    server: Server, tmp_path_factory: pytest.TempPathFactory, text: bytes, dot_ends: bool
) -> None:
    """F1: any input at all, without a header too; a second pass changes nothing."""
    folder = tmp_path_factory.getbasetemp()
    arrived, raw = sent(read(text, folder, dot_ends), server)
    assert raw.count(b"\r") == raw.count(b"\n") == raw.count(b"\r\n")
    assert sent(read(arrived.text, folder), server)[0].text == arrived.text


# -- where blocks meet -----------------------------------------------------------------------------------------------


@pytest.mark.row("I5", "L2")
@pytest.mark.parametrize("dotted", [True, False])
def test_line_ends_and_dots_are_seen_across_the_blocks_of_a_large_message(dotted: bool, tmp_path: Path) -> None:
    """F1: every three of CR, LF and dot at every place across the boundary of two blocks, in a body kept in a file."""
    pieces = []
    size = len(b"X: y\n\n")
    for three, before in itertools.product(itertools.product(b"\r\n.", repeat=3), range(4)):
        filler = -(size + before) % BLOCK
        pieces += [b"x" * filler, bytes(three)]
        size += filler + len(three)
    body = b"".join(pieces)
    message = read(b"X: y\n\n" + body, tmp_path)
    assert message.body.size > reading.MEMORY
    text = b"X: y\n\n" + with_lf(body)
    encode: Any = wire.with_dots if dotted else wire.as_chunk
    out = b"".join(encode(wire.text(header(message), message.body)))
    assert not list(faults_of_data(out, text) if dotted else faults_of_chunk(out, text))


@pytest.mark.row("I5")
def test_dots_are_doubled_across_the_blocks_of_a_body_in_memory() -> None:
    """F1: where the body was cut, a line may begin."""
    for cut in range(BLOCK - 3, BLOCK + 3):
        body = b"x" * cut + b"\n.\n..\n"
        text = b"X: y\n\n" + body
        assert not list(faults_of_data(b"".join(wire.with_dots(wire.text(b"X: y\n", Body(body)))), text))


# -- from outside ----------------------------------------------------------------------------------------------------

SMUGGLED = b"MAIL FROM:<evil@x.example>\r\nRCPT TO:<you@x.example>\r\nDATA\r\nSubject: forged\r\n\r\nforged\r\n"
ENDS = [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\n.\r", b"\r\n\0.\r\n", b"\r\n.\0\r\n"]


@pytest.mark.row("I5")
@pytest.mark.parametrize("extensions", [(), ("PIPELINING", "CHUNKING")], ids=["DATA", "BDAT"])
def test_a_smuggled_end_of_data_is_text(program: Program, extensions: tuple[str, ...]) -> None:
    """F1: CVE-2023-51764 and its kin, all in one message; the server sees one message, and its CRLF only."""
    text = b"Subject: x\n\n" + b"".join(b"text" + end + SMUGGLED for end in ENDS)
    with Server(extensions=extensions) as server:
        program.configure(program.smart_hosts(server) + 'from = "me@client.example"\n')
        done = program.run("-i", "-G", "you@example.net", stdin=text)
        (session,) = server.finished()
    assert (done.status, done.err) == (0, b"")
    (message,) = session.messages
    assert message.text == crlf(with_lf(text))
    assert session.raw.count(b"\r") == session.raw.count(b"\n") == session.raw.count(b"\r\n")
    assert session.commands[-1] == b"QUIT"
