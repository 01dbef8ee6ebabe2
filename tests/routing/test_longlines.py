"""Lines longer than SMTP takes: folded without loss, or told where they are refused."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muawrap.failure import REFUSED, TRY_AGAIN, Failure
from muawrap.mail import BLOCK, LINE_LIMIT, Body
from muawrap.routing import longlines

PIECES = st.sampled_from(
    [b" ", b"\t", b"  ", b" " * 600, b"a", b"a" * 300, b"a" * 990, b"a" * 998, b"a" * 1200, b"\n "]
)


@given(st.lists(PIECES, max_size=14))
def test_a_folded_field_is_unfolded_as_it_was(pieces: list[bytes]) -> None:
    """F6: no line is blank, none too long that has a blank within reach."""
    field = re.sub(rb"\n[ \t]*(?=\n)|\n[ \t]*\Z", b"", b"X:" + b"".join(pieces) + b"y") + b"\n"
    folded = longlines.folded(field)
    assert folded.replace(b"\n", b"") == field.replace(b"\n", b"")
    first, *others = folded.removesuffix(b"\n").split(b"\n")
    for line in others:
        assert re.match(rb"[ \t]", line)
        assert line.strip()
    for text in (line.rstrip(b" \t") for line in (first, *others)):
        if len(text) > LINE_LIMIT:
            assert not re.search(rb"[^ \t][ \t]", text[: LINE_LIMIT + 1])


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (b"X: " + b"a" * 995 + b"\n", b"X: " + b"a" * 995 + b"\n"),
        (b"X: " + b"a" * 996 + b"\n", b"X:\n " + b"a" * 996 + b"\n"),
        (b"X: " + b"a" * 2000 + b" b c\n", b"X:\n " + b"a" * 2000 + b"\n b c\n"),
        (b"X:" + b"a" * 2000 + b"\n", b"X:" + b"a" * 2000 + b"\n"),
        (b"X: a" + b" " * 2000 + b"\n", b"X: a" + b" " * 2000 + b"\n"),
        (b"X: " + b"a" * 900 + b"  \t" + b"b" * 900 + b"\n", b"X: " + b"a" * 900 + b"\n  \t" + b"b" * 900 + b"\n"),
    ],
)
def test_where_a_line_ends(field: bytes, expected: bytes) -> None:
    """F6: before white space, as late as may be; a word that is too long is left."""
    assert longlines.folded(field) == expected


@pytest.mark.parametrize("piece", [b" ", b"a", b" a", b" \t"])
def test_folding_takes_linear_time(piece: bytes) -> None:
    """F6: four million octets in one line."""
    field = b"X: a" + piece * (4_000_000 // len(piece)) + b"\n"
    assert longlines.folded(field).replace(b"\n", b"") == field.removesuffix(b"\n")


REFUSED_LINES = [
    (b"A: b\nX: " + b"a" * 996 + b"\n", b"", "line 2 of the header has 999 octets, and 998 are the limit"),
    (b"A: b\n", b"one\n\n" + b"x" * 999 + b"\n", "line 3 of the body has 999 octets, and 998 are the limit"),
    (b"", b"x" * (BLOCK * 2) + b"\n", f"line 1 of the body has {BLOCK * 2} octets, and 998 are the limit"),
    (
        b"",
        b"a\n" * BLOCK + b"x" * BLOCK + b"\n",
        f"line {BLOCK + 1} of the body has {BLOCK} octets, and 998 are the limit",
    ),
]


@pytest.mark.parametrize(("header", "text", "sentence"), REFUSED_LINES)
def test_the_first_line_that_is_too_long_is_told(header: bytes, text: bytes, sentence: str) -> None:
    """F6: long_lines = "refuse" names the line and the key."""
    with pytest.raises(Failure) as refused:
        longlines.refuse(header, Body(text))
    assert str(refused.value) == sentence
    assert refused.value.lead == REFUSED
    assert "long_lines" in refused.value.advice
    longlines.refuse(b"X: " + b"a" * 995 + b"\n", Body(b"x" * 998 + b"\n"))


def test_a_body_that_cannot_be_read_again_is_one_line(tmp_path: Path) -> None:
    """F5, L8."""
    (tmp_path / "body").touch()
    file = os.open(tmp_path / "body", os.O_RDONLY)
    with pytest.raises(Failure, match="cannot be read again") as failed:
        longlines.refuse(b"", Body.spooled(file, 5000, 1, False, True))
    assert failed.value.lead == TRY_AGAIN
    os.close(file)
