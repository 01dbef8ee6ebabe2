"""Text in quoted-printable (RFC 2045, 6.7): line ends stay where they are; pure."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator

LINE_LIMIT = 76  # characters of a line
_GIANT = 64 * 1024  # octets of a line that is encoded in pieces


def quoted_printable(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """A text, in blocks, whose lines are ended by LF."""
    held = b""
    broken = b""  # or what ends the line that the text goes on from
    for block in blocks:
        data = held + block
        cut = data.rfind(b"\n") + 1
        if cut:
            yield _encoded(data[:cut], broken)
            broken = b""
        held = data[cut:]
        if len(held) > _GIANT:
            yield _ended(_encoded(held, broken))
            held, broken = b"", b"=\n"
    if held:
        yield _encoded(held, broken)


def _encoded(text: bytes, before: bytes) -> bytes:
    octets = before + binascii.b2a_qp(text)
    # binascii forgets to count a blank that it encodes at the end of a line.
    octets = re.sub(rb"^([^\n]{74,})(=20|=09)$", rb"\1=\n\2", octets, flags=re.MULTILINE)
    if b"=\n--" in octets:
        octets = re.sub(rb"(?<==\n)--[^\n]*", _no_delimiter, octets)
    return octets[len(before) :]


def _no_delimiter(line: re.Match[bytes]) -> bytes:
    """Where a line has been broken, none begins that could be the end of a part."""
    octets = b"=2D" + line[0][1:]
    if len(octets) <= LINE_LIMIT:
        return octets
    cut = _whole(octets, LINE_LIMIT - 8)
    rest = octets[cut:]
    return octets[:cut] + b"=\n" + (b"=2D" + rest[1:] if rest.startswith(b"--") else rest)


def _ended(octets: bytes) -> bytes:
    """What has been made of a part of a line, with its last line ended, too, as one that goes on."""
    last = octets.rfind(b"\n") + 1
    if len(octets) - last >= LINE_LIMIT:
        cut = _whole(octets, last + LINE_LIMIT - 8)
        octets = octets[:cut] + b"=\n" + re.sub(rb"^--", b"=2D-", octets[cut:])
    return octets + b"=\n"


def _whole(octets: bytes, at: int) -> int:
    """A place near `at` that is in no escape."""
    escape = octets.rfind(b"=", at - 2, at)
    return at if escape < 0 else escape
