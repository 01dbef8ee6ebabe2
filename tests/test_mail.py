"""The values that travel: a body is read in pieces, and knows whether its lines are too long."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muawrap.mail import BLOCK, LINE_LIMIT, Body, LongLines, has_long_lines

NEAR = st.sampled_from([0, 1, 5, 500, 997, 998, 999, 1000, 1996, 1997, 2500])
TEXTS = st.lists(NEAR, max_size=6).map(lambda sizes: b"\n".join(b"x" * size for size in sizes))


@given(text=TEXTS, sizes=st.lists(st.sampled_from([1, 3, 100, 998, 999, 1000, 5000]), min_size=1))
def test_a_line_that_is_too_long_is_found_however_the_text_is_cut(text: bytes, sizes: list[int]) -> None:
    """F6: over 998 octets, its end not counted; whole and dripped."""
    expected = any(len(line) > LINE_LIMIT for line in text.split(b"\n"))
    assert has_long_lines(text) == Body(text).long_lines == expected
    lines = LongLines()
    at = 0
    while at < len(text):
        for size in sizes:
            lines.feed(text[at : at + size])
            at += size
    assert lines.found == expected


@pytest.mark.parametrize("spooled", [False, True])
def test_a_part_of_a_body_is_read_as_often_as_asked(spooled: bool, tmp_path: Path) -> None:
    """L2: in blocks, from memory and from a file."""
    text = bytes(range(256)) * (3 * BLOCK // 256)
    path = tmp_path / "body"
    path.write_bytes(text)
    file = os.open(path, os.O_RDONLY)
    body = Body.spooled(file, len(text), text.count(b"\n"), True) if spooled else Body(text)
    for begin, end in [(0, None), (0, 0), (5, 5), (1, BLOCK + 2), (BLOCK, 2 * BLOCK), (2 * BLOCK + 7, None)]:
        blocks = list(body.blocks(begin, end))
        assert b"".join(blocks) == text[begin:end]
        assert all(0 < len(block) <= BLOCK for block in blocks)
    os.close(file)


@pytest.mark.parametrize("owning", [False, True])
def test_the_file_of_a_body_is_closed_with_it_where_nobody_else_closes_it(owning: bool, tmp_path: Path) -> None:
    """E8, L2: of many messages each has its file for as long as it is read; what is not the body's own stays open."""
    path = tmp_path / "body"
    path.write_bytes(b"x\n")
    file = os.open(path, os.O_RDONLY)
    body = Body.spooled(file, 2, 1, False)
    if owning:
        body = body.owning()
    assert b"".join(body.blocks()) == b"x\n"
    del body
    if owning:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(file)
    else:
        os.close(file)
