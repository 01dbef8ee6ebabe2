"""Text in quoted-printable: what comes out is read back as what went in."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muawrap.mail import BLOCK
from muawrap.submission.quoted_printable import LINE_LIMIT, quoted_printable

PIECES = st.sampled_from(
    [b"\n", b" ", b"\t", b"=", b".", b"--", b"a", b"F", b"\xc3\xa9", b"\xff", b"x" * 74, b"-" * 80]
)


def cut(text: bytes, size: int) -> Iterator[bytes]:
    return (text[at : at + size] for at in range(0, len(text), size))


def check(text: bytes, size: int) -> bytes:
    """The text encoded from blocks of that size, and found good."""
    made = b"".join(quoted_printable(cut(text, size)))
    assert binascii.a2b_qp(made) == text
    assert made.isascii()
    assert not re.search(rb"[ \t]$", made, re.MULTILINE)
    assert max(map(len, made.split(b"\n"))) <= LINE_LIMIT
    assert not re.search(rb"=\n--", made)
    assert made.endswith(b"\n") == text.endswith(b"\n")
    return made


@given(pieces=st.lists(PIECES, max_size=60), size=st.sampled_from([1, 7, 50, 1000]))
def test_text_is_read_back_as_it_was(pieces: list[bytes], size: int) -> None:
    """F6: RFC 2045, 6.7; and where a line is broken, nothing begins that looks like the end of a part."""
    check(b"".join(pieces), size)


@pytest.mark.parametrize("piece", [b"x", b" ", b"=", b"-", b"\xff", b"--x", b"\xc3\xa9 "])
def test_a_giant_line_is_encoded_in_pieces(piece: bytes) -> None:
    """F6: it is never in memory as a whole."""
    check(piece * 300_000 + b"\n" + piece * 3, BLOCK)
    assert max(map(len, quoted_printable(cut(piece * 1_000_000, 1000)))) < 1024 * 1024


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", b""),
        (b"plain\n\n.\n..\nFrom me\n", b"plain\n\n=2E\n..\nFrom me\n"),
        ("gr\xfc\xdfe = \n".encode(), b"gr=C3=BC=C3=9Fe =3D=20\n"),
        (b"x" * 76 + b"\n", b"x" * 76 + b"\n"),
        (b"x" * 77 + b"\n", b"x" * 75 + b"=\nxx\n"),
        (b"x" * 75 + b"--end\n", b"x" * 75 + b"=\n=2D-end\n"),
        (b"x" * 75 + b" \n", b"x" * 75 + b"=\n=20\n"),
    ],
)
def test_what_is_written(text: bytes, expected: bytes) -> None:
    """F6: a line ends where it ended; a soft line break stands where it was too long."""
    assert check(text, 1000) == expected
