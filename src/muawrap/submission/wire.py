"""Message text turned into what goes on the wire: CRLF line ends, and doubled dots where DATA wants them; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from muawrap.failure import unreadable
from muawrap.mail import Body


def text(header: bytes, body: Body) -> Iterator[bytes]:
    """The whole message, lines ended by LF: header block, empty line, body. Raises Failure."""
    try:
        blocks = body.blocks()
        yield header + b"\n" + next(blocks, b"")
        yield from blocks
    except OSError as error:
        raise unreadable(error) from error


def size(header: bytes, body: Body) -> int:
    """Octets of the message with CRLF line ends and single dots, as SIZE= counts them (RFC 1870, 3)."""
    return len(header) + header.count(b"\n") + 2 + body.size + body.lines


def with_dots(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines ended by CRLF, a leading dot doubled (RFC 5321, 4.5.2), then the line that is one dot.

    The blocks hold no CR, so that exactly one CRLF.CRLF leaves, as the end of the last block yielded (RULES F1).
    """
    held = None
    line_begins = True
    for block in blocks:
        if not block:
            continue
        if held is not None:
            yield held
        doubled = block.replace(b"\n.", b"\n..")
        if line_begins and doubled.startswith(b"."):
            doubled = b"." + doubled
        line_begins = block.endswith(b"\n")
        held = doubled.replace(b"\n", b"\r\n")
    yield (held or b"") + (b"" if line_begins else b"\r\n") + b".\r\n"


def as_chunk(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines ended by CRLF, dots as they are: what follows BDAT (RFC 3030, 2).

    The blocks hold no CR, and the last one ends with LF.
    """
    for block in blocks:
        if block:
            yield block.replace(b"\n", b"\r\n")
