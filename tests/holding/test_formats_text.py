"""A text that is only passed on: split at its first empty line, with every octet kept."""

from __future__ import annotations

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muawrap.failure import Failure
from muawrap.mail import Body
from muawrap.reading import message
from tests.support.held import TEXTS


def split(octets: bytes, size: int = 1 << 20) -> tuple[bytes, bytes]:
    header, body = message.as_it_is(octets[at : at + size] for at in range(0, len(octets), size))
    return header, b"".join(body.blocks())


def on_the_wire(octets: bytes) -> bytes:
    """RULES F1, said otherwise: every line end is LF, and the last line has one."""
    text = re.sub(rb"\r\n|\r", b"\n", octets)
    return text if text.endswith(b"\n") or not text else text + b"\n"


@given(TEXTS | st.binary(), st.integers(1, 9))
def test_header_empty_line_and_body_are_the_text(octets: bytes, size: int) -> None:
    """RULES F1; nothing is dropped or judged: Bcc:, NUL, a From line, what is no header."""
    header, body = split(octets, size)
    text = on_the_wire(octets)
    assert header + b"\n" + body == (text if b"\n\n" in b"\n" + text else text + b"\n")
    assert b"\n\n" not in b"\n" + header
    assert split(header + b"\n" + body) == (header, body)


@pytest.mark.parametrize(
    ("octets", "header", "body"),
    [
        (b"", b"", b""),
        (b"\n", b"", b""),
        (b"\nx", b"", b"x\n"),
        (b"\r\nx\r\n", b"", b"x\n"),
        (b"Bcc: x\0\nReturn-Path: <>\n\n\0", b"Bcc: x\0\nReturn-Path: <>\n", b"\0\n"),
        (b"From x Sat Nov 21 10:00:00 2026\nTo: x\n\n", b"From x Sat Nov 21 10:00:00 2026\nTo: x\n", b""),
        (b"no header\n\nbody", b"no header\n", b"body\n"),
        (b"To: x", b"To: x\n", b""),
        (b"To: x\r\n\r\n\r\ny\r", b"To: x\n", b"\ny\n"),
        (b"To: x\n\0\nBcc: y\n\n", b"To: x\n\0\nBcc: y\n", b""),
    ],
)
def test_where_the_header_ends(octets: bytes, header: bytes, body: bytes) -> None:
    """The first line that is really empty."""
    assert split(octets) == split(octets, 1) == (header, body)


@pytest.mark.parametrize("more", [-1, 0, 1])
@pytest.mark.parametrize("ended", [b"\n\nbody\n", b"\n", b""])
@pytest.mark.parametrize("size", [1 << 20, 4099])
def test_what_is_too_long_for_a_header_is_refused(
    monkeypatch: pytest.MonkeyPatch, more: int, ended: bytes, size: int
) -> None:
    """RULES F8: it is never made a body; memory is bounded, and it makes no difference in which pieces it comes."""
    monkeypatch.setattr(message, "HEADER_LIMIT", 10_000)
    octets = b"x" * (message.HEADER_LIMIT - 1 + more) + ended
    if more > 0:
        with pytest.raises(Failure, match=r"^the header block is longer than 10000 octets$"):
            split(octets, size)
    else:
        header, body = split(octets, size)
        assert header + body == on_the_wire(octets).replace(b"\n\n", b"\n")


def test_a_body_may_be_longer_than_any_header(monkeypatch: pytest.MonkeyPatch) -> None:
    """RULES F1: an empty line first is an empty header block, whatever follows."""
    monkeypatch.setattr(message, "HEADER_LIMIT", 10_000)
    assert split(b"\n" + b"x" * 20_000) == (b"", b"x" * 20_000 + b"\n")


def test_a_large_body_is_in_a_file() -> None:
    """As when it is read to be sent: beyond 1 MiB it takes no memory."""
    before = len(os.listdir("/proc/self/fd"))
    header, body = message.as_it_is(iter([b"To: x\n\n", *[b"y" * 65_535 + b"\n"] * 64]))
    assert len(os.listdir("/proc/self/fd")) == before + 1
    assert (header, body.size, body.lines, body.long_lines) == (b"To: x\n", 1 << 22, 64, True)
    body = Body()
    assert len(os.listdir("/proc/self/fd")) == before
