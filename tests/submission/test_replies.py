"""Octets from a server, and the one reply they are, or none."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as some

from muawrap.mail import Reply
from muawrap.submission.replies import LINE_LIMIT, LINES_LIMIT, Capabilities, Malformed, Reader, capabilities

WELL_FORMED = [
    (b"250 fine\r\n", Reply(250, ("fine",))),
    (b"250\r\n", Reply(250, ("",))),
    (b"250 \r\n", Reply(250, ("",))),
    (b"220 greeted\n", Reply(220, ("greeted",))),
    (b"250-one\r\n250-\r\n250 three\r\n", Reply(250, ("one", "", "three"))),
    (b"250-one\n250\r\n", Reply(250, ("one", ""))),
    (b"599 odd\r\n", Reply(599, ("odd",))),
    (b"550 \xc3\xa9 \xff \x1b[31m\r\n", Reply(550, ("é \\xff \x1b[31m",))),
    (b"250 " + b"x" * (LINE_LIMIT - 4) + b"\r\n", Reply(250, ("x" * (LINE_LIMIT - 4),))),
    (b"250-x\r\n" * (LINES_LIMIT - 1) + b"250 x\r\n", Reply(250, ("x",) * LINES_LIMIT)),
]

MALFORMED = {
    "digits int() would take": b"2_5 x\r\n",
    "a sign": b"+25 x\r\n",
    "lines that disagree": b"250-a\r\n550 b\r\n",
    "lines that disagree after a bare code": b"250-a\r\n251\r\n",
    "no space after the code": b"250x\r\n",
    "four digits": b"2200 x\r\n",
    "two digits": b"25 x\r\n",
    "a preliminary code": b"150 x\r\n",
    "a code beyond 5yz": b"650 x\r\n",
    "digits of another script": "٢٥٠ x\r\n".encode(),
    "a leading space": b" 250 x\r\n",
    "an empty line": b"\r\n",
    "an empty line within": b"250-a\r\n\r\n250 b\r\n",
    "NUL": b"250 a\0b\r\n",
    "another protocol": b"* OK IMAP ready\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x0a\n",
    "a line that is too long": b"250 " + b"x" * LINE_LIMIT + b"\r\n",
    "a line without end": b"250 " + b"x" * LINE_LIMIT,
    "101 lines": b"250-x\r\n" * LINES_LIMIT + b"250 x\r\n",
    "lines without end": b"250-x\r\n" * (LINES_LIMIT + 1),
    "64 KiB": b"".join(b"250-" + b"x" * 4000 + b"\r\n" for _ in range(17)),
}


def read(octets: bytes) -> Reply | None:
    reader = Reader()
    reader.feed(octets)
    return reader.next()


def drip(octets: bytes) -> None:
    """Octet by octet, as long as there is no reply."""
    reader = Reader()
    for octet in octets:
        reader.feed(bytes([octet]))
        assert reader.next() is None


@pytest.mark.parametrize(("wire", "reply"), WELL_FORMED)
def test_a_reply_is_the_same_whole_dripped_and_crowded(wire: bytes, reply: Reply) -> None:
    """C2: how the network cuts a reply changes nothing, and what follows it is left alone."""
    assert read(wire) == reply

    reader = Reader()
    for octet in wire[:-1]:
        reader.feed(bytes([octet]))
        assert reader.next() is None
        assert not reader.empty
    reader.feed(wire[-1:])
    assert reader.next() == reply
    assert reader.empty

    reader.feed(wire + b"421 bye\r\n4")
    assert reader.next() == reply
    assert reader.next() == Reply(421, ("bye",))
    assert reader.next() is None
    assert not reader.empty


@pytest.mark.row("S1", "S9")
@pytest.mark.parametrize("wire", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_reply_is_refused(wire: bytes) -> None:
    """C3: what is no reply is never read as one, whole or dripped."""
    with pytest.raises(Malformed):
        read(wire)
    with pytest.raises(Malformed):
        drip(wire)


@pytest.mark.row("S5")
@pytest.mark.parametrize("wire", [b"", b"2", b"250", b"250 fine", b"250 fine\r", b"250-fine\r\n", b"250-a\r\n250 b"])
def test_an_unfinished_reply_is_none_yet(wire: bytes) -> None:
    """A1: a verdict counts when it is complete, not before."""
    assert read(wire) is None


@given(some.binary(max_size=200), some.lists(some.integers(0, 200), max_size=5))
def test_any_octets_are_replies_or_malformed_however_they_are_cut(octets: bytes, cuts: list[int]) -> None:
    """C3: no octets surprise the reader, and cuts do not change what it says."""

    def outcome(pieces: list[bytes]) -> list[object]:
        reader, found = Reader(), []
        try:
            for piece in pieces:
                reader.feed(piece)
                while (reply := reader.next()) is not None:
                    assert 200 <= reply.code <= 599
                    found.append(reply)
        except Malformed:
            return [*found, "malformed"]
        return [*found, reader.empty]

    places = sorted({0, len(octets), *(cut for cut in cuts if cut < len(octets))})
    assert outcome([octets[a:b] for a, b in pairwise(places)] or [b""]) == outcome([octets])


def test_ehlo_keywords_are_read_without_case_and_the_greeting_line_is_none() -> None:
    """C1: what a server offers (RFC 5321, 4.1.1.1)."""
    found = capabilities(Reply(250, ("PIPELINING greets you", "size 1000", "Auth plain LOGIN", "AUTH=CRAM-MD5", "")))
    assert not found.offers("PIPELINING")
    assert found.size_limit == 1000
    assert found.mechanisms == ("PLAIN", "LOGIN", "CRAM-MD5")


@pytest.mark.parametrize("size", ["", " 0", " ten", " -1", " ²", " " + "9" * 20, " 1_000"])
def test_a_size_limit_that_is_no_number_is_none(size: str) -> None:
    """C1: SIZE alone and SIZE 0 declare no limit (RFC 1870, 4)."""
    assert capabilities(Reply(250, ("host", f"SIZE{size}"))).size_limit == 0
    assert Capabilities({}).size_limit == 0
