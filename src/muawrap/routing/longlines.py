"""Lines longer than SMTP takes (RULES F6): header fields folded, or the first such line told where they are refused."""

from __future__ import annotations

import re
from collections.abc import Iterator

from muawrap.failure import Failure, unreadable
from muawrap.mail import LINE_LIMIT, Body, has_long_lines

_BLANKS = b" \t"
_BLANK = re.compile(rb"[ \t]")
_WORD = re.compile(rb"[^ \t]")


def folded(field: bytes) -> bytes:
    """A header field with line ends before some of its blanks (RFC 5322, 2.2.3): unfolded, it is what it was.

    Where there is no blank within reach, the line stays long.
    """
    return b"\n".join(b"\n".join(_pieces(line)) for line in field.split(b"\n"))


def _pieces(line: bytes) -> Iterator[bytes]:
    """A line cut before blanks. None of the pieces is blank, which some would take for the end of the header."""
    at = 0
    end = len(line.rstrip(_BLANKS))
    while len(line) - at > LINE_LIMIT:
        word = _WORD.search(line, at)
        text = word.start() if word else end
        reach = line[text : at + LINE_LIMIT + 1]
        cut = text + len(reach[: max(reach.rfind(b" "), reach.rfind(b"\t"), 0)].rstrip(_BLANKS))
        if cut == text:  # not within reach: after the long word, then
            blank = _BLANK.search(line, max(text, at + LINE_LIMIT))
            cut = blank.start() if blank else end
        if cut >= end:
            break
        yield line[at:cut]
        at = cut
    yield line[at:]


def refuse(header: bytes, body: Body) -> None:
    """Raise Failure where a line of the message is too long."""
    if has_long_lines(header):
        where, (number, octets) = "header", _first(iter([header]))
    elif body.long_lines:
        try:
            where, (number, octets) = "body", _first(body.blocks())
        except OSError as error:
            raise unreadable(error) from error
    else:
        return
    raise Failure(
        f"line {number} of the {where} has {octets} octets, and {LINE_LIMIT} are the limit",
        advice='long_lines = "encode" sends such lines in a form that survives',
    )


def _first(blocks: Iterator[bytes]) -> tuple[int, int]:
    """The number of the first line that is too long, and how long it is."""
    number, octets = 1, 0
    for block in blocks:
        *ended, begun = block.split(b"\n")
        for line in ended:
            octets += len(line)
            if octets > LINE_LIMIT:
                return number, octets
            number, octets = number + 1, 0
        octets += len(begun)
    return number, octets
