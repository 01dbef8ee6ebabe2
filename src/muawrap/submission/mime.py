"""A message with its text parts in quoted-printable, where long lines or octets beyond ASCII would not survive."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from muawrap import charset
from muawrap.failure import unreadable
from muawrap.mail import BLOCK, SIGNATURES, Body, LongLines, Transaction
from muawrap.submission.parts import Beyond, Part, Structure
from muawrap.submission.quoted_printable import quoted_printable


class Edit(NamedTuple):
    """The octets of a body from `begin` to `end` become `new`, or quoted-printable where that is None."""

    begin: int
    end: int
    new: bytes | None


class Recoded(Body):
    """A body as edits make it, made anew whenever it is read, so that it needs no room. Raises OSError."""

    def __init__(self, original: Body, edits: tuple[Edit, ...]) -> None:
        super().__init__()
        self._original = original
        self._edits = edits
        long_lines = LongLines()
        for block in self.blocks():
            self.size += len(block)
            self.lines += block.count(b"\n")
            self.eight_bit = self.eight_bit or not block.isascii()
            long_lines.feed(block)
        self.long_lines = long_lines.found

    def blocks(self, begin: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The octets from the beginning, in blocks of BLOCK and more, so that little text leaves in one piece."""
        assert (begin, end) == (0, None), "no part of it is ever asked for"
        held: list[bytes] = []
        size = 0
        for piece in self._pieces():
            held.append(piece)
            size += len(piece)
            if size >= BLOCK:
                yield b"".join(held)
                held, size = [], 0
        if size:
            yield b"".join(held)

    def _pieces(self) -> Iterator[bytes]:
        at = 0
        for edit in self._edits:
            yield from self._original.blocks(at, edit.begin)
            if edit.new is None:
                yield from quoted_printable(self._original.blocks(edit.begin, edit.end))
            else:
                yield edit.new
            at = edit.end
        yield from self._original.blocks(at)


class Recoding(NamedTuple):
    """What becomes of a message: fields of its header that are replaced, or added, and its body."""

    fields: tuple[tuple[str, bytes], ...]
    body: Body

    def header(self, block: bytes) -> bytes:
        """A header block, which may be that of any way, as it goes with the body."""
        return _with_fields(block, self.fields)


def without_long_lines(transaction: Transaction) -> Transaction:
    """The same, its text encoded where it has lines that are too long (RULES F6). Raises Failure.

    The ways differ in their From: only, so that one reading does for all of them.
    """
    made = recoding(transaction.ways[0].header, transaction.body, seven_bit=False)
    ways = tuple(way._replace(header=made.header(way.header)) for way in transaction.ways)
    return transaction._replace(ways=ways, body=made.body)


def recoding(header: bytes, body: Body, *, seven_bit: bool) -> Recoding:
    """Each text part in quoted-printable where the receiver asks for that (RULES F6). Raises Failure.

    That is a part with lines that are too long or, for a host that takes seven bits only, with octets beyond ASCII.
    Where one of them has to be encoded, both kinds are, so that once is enough. What is signed, no text, or encoded
    already stays as it is: the body tells whether it has long lines or eight bits still. Lines are ended by LF.
    """
    unchanged = Recoding((), body)
    if isinstance(body, Recoded):
        return unchanged
    try:
        parts = Structure(header, body).parts
        needs = [_needs(body, part) for part in parts]
        textual = [_may_be_encoded(part) for part in parts]
        wanted = any(may and (long or (eight and seven_bit)) for may, (long, eight) in zip(textual, needs, strict=True))
        if not wanted or _is_signed(header):
            return unchanged
        encoded = {number for number, need in enumerate(needs) if textual[number] and any(need)}
        eight_bit = {number for number, (_, eight) in enumerate(needs) if eight} - encoded
        around = _around(parts, encoded) - _around(parts, eight_bit)
        edits = []
        fields: tuple[tuple[str, bytes], ...] = ()
        for number, part in enumerate(parts):
            new: list[tuple[str, bytes]] = []
            if number in encoded:
                new = [*_declared(part, body), ("Content-Transfer-Encoding", b"quoted-printable")]
            elif number in around and part.encoding in ("8bit", "binary"):
                new = [("Content-Transfer-Encoding", b"7bit")]
            if part.header_at < 0:
                fields = (*new, *(() if "mime-version" in part.fields else (("MIME-Version", b"1.0"),)))
            elif new:
                end = part.header_at + len(part.header)
                edits.append(Edit(part.header_at, end, _with_fields(part.header, tuple(new))))
            if number in encoded:
                edits.append(Edit(part.begin, part.end, None))
        return Recoding(fields, Recoded(body, tuple(edits)))
    except (Beyond, ValueError, LookupError, TypeError, AttributeError):
        return unchanged  # nor is what the email package trips over anybody's message
    except OSError as error:
        raise unreadable(error) from error


def _around(parts: list[Part], numbers: set[int]) -> set[int]:
    """The multiparts that some of the parts stand in."""
    return {outer for number in numbers for outer in parts[number].around}


def _needs(body: Body, part: Part) -> tuple[bool, bool]:
    """Whether what a part holds has long lines, and octets beyond ASCII."""
    long_lines, eight_bit = LongLines(), False
    for block in body.blocks(part.begin, part.end):
        long_lines.feed(block)
        eight_bit = eight_bit or not block.isascii()
    return long_lines.found, eight_bit


def _may_be_encoded(part: Part) -> bool:
    return not part.is_multipart and part.fields.get_content_maintype() == "text" and part.may_be_changed


def _is_signed(header: bytes) -> bool:
    return any(_pattern(name).search(header) for name in SIGNATURES)


_ASCII = re.compile(rb"(charset[ \t\n]*=[ \t\n]*)(\"?)(?:us-)?ascii\2", re.IGNORECASE)


def _declared(part: Part, body: Body) -> list[tuple[str, bytes]]:
    """The Content-Type of a text part with the charset of what is in it, where it names none, or says it is ASCII."""
    name = charset.of(body.blocks(part.begin, part.end)).encode("ascii")
    said = part.fields.get_param("charset", "")
    if not name or (said and str(said).lower() not in ("us-ascii", "ascii")):
        return []
    field = _field(part.header, "Content-Type")
    written = field.partition(b":")[2].strip(b" \t\n;")
    if b"/" not in written:
        return [("Content-Type", b"text/plain; charset=" + name)]
    if name == charset.UNKNOWN.encode("ascii") and part.fields.get_content_subtype() != "plain":
        return []  # HTML and XML may say it themselves
    if said:
        return [("Content-Type", _ASCII.sub(lambda match: match[1] + name, written))]
    return [("Content-Type", written + b"; charset=" + name)]


def _pattern(name: str) -> re.Pattern[bytes]:
    return re.compile(rb"^%b[ \t]*:.*\n(?:[ \t].*\n)*" % re.escape(name.encode()), re.IGNORECASE | re.MULTILINE)


def _field(header: bytes, name: str) -> bytes:
    """The first field of that name, b"" where there is none."""
    found = _pattern(name).search(header)
    return found[0] if found else b""


def _with_fields(header: bytes, fields: tuple[tuple[str, bytes], ...]) -> bytes:
    """A header block with these fields, each where it stood, or at the end."""
    for name, value in fields:
        field = name.encode("ascii") + b": " + value + b"\n"
        first = _pattern(name).search(header)
        if first is None:
            header += field
        else:
            header = header[: first.start()] + field + header[first.end() :]
    return header
