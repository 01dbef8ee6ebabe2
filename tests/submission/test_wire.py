"""The text as it leaves: CRLF, doubled dots, one end."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as some

from muawrap.mail import Body
from muawrap.submission import wire

LINES = some.lists(some.text("ab.\0é ", max_size=5)).map(lambda lines: "".join(line + "\n" for line in lines).encode())


def cut(text: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(place % (len(text) + 1) for place in cuts), len(text)]
    return [text[a:b] for a, b in pairwise(places)]


@pytest.mark.row("I5")
@given(LINES, some.lists(some.integers(0, 100), max_size=6))
def test_every_text_leaves_with_crlf_doubled_dots_and_one_end(text: bytes, cuts: list[int]) -> None:
    """F1: nothing that two receivers could read in two ways, wherever the blocks were cut."""
    blocks = list(wire.with_dots(cut(text, cuts)))
    sent = b"".join(blocks)
    assert sent == b"".join(wire.with_dots([text]))
    assert blocks[-1].endswith(b".\r\n")
    assert sent.count(b"\r") == sent.count(b"\n") == sent.count(b"\r\n")
    assert (b"\r\n" + sent).find(b"\r\n.\r\n") == len(sent) - 3
    received = b"".join(line.removeprefix(b".") for line in sent[:-3].splitlines(keepends=True))
    assert received.replace(b"\r\n", b"\n") == text


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        (b"", b".\r\n"),
        (b"a\n", b"a\r\n.\r\n"),
        (b".\n", b"..\r\n.\r\n"),
        (b"..\n.a\n", b"...\r\n..a\r\n.\r\n"),
        (b"a.\n\n", b"a.\r\n\r\n.\r\n"),
        (b"unfinished", b"unfinished\r\n.\r\n"),
        (b"unfinished\n.", b"unfinished\r\n..\r\n.\r\n"),
    ],
)
def test_dots_are_doubled_where_a_line_begins(text: bytes, sent: bytes) -> None:
    """F1: RFC 5321, 4.5.2; a last line without end does not swallow the dot."""
    assert b"".join(wire.with_dots([text])) == sent


@given(LINES, LINES)
def test_the_size_told_is_the_size_sent_without_doubled_dots(header: bytes, body: bytes) -> None:
    """F6: SIZE= counts CRLF and single dots (RFC 1870, 3)."""
    text = b"".join(wire.text(header, Body(body)))
    assert text == header + b"\n" + body
    assert wire.size(header, Body(body)) == len(text.replace(b"\n", b"\r\n"))
