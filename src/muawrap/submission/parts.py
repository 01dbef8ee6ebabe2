"""The parts of a message, found by their delimiters (RFC 2046, 5.1)."""

from __future__ import annotations

import re
from email.message import Message
from email.parser import BytesHeaderParser
from typing import NamedTuple

from muawrap.mail import Body

PARTS_LIMIT = 1000  # delimiters of one message, and
DEPTH_LIMIT = 50  # multiparts within each other: what has more is left as it is
HEADER_LIMIT = 64 * 1024  # octets of the header of one part
BOUNDARY_LIMIT = 200  # octets; RFC 2046 (5.1.1) allows 70
PADDING_LIMIT = 200  # blanks behind a boundary
VALUE_LIMIT = 8 * 1024  # octets of a Content-Type; the email package takes the square of their time

_PLAIN = ("", "7bit", "8bit", "binary")  # encodings that change nothing
_OPAQUE = ("multipart/signed", "multipart/encrypted")
_OF_MIME = re.compile(
    rb"^(?:mime-version|content-type|content-transfer-encoding):.*\n(?:[ \t].*\n)*", re.IGNORECASE | re.MULTILINE
)
# A line that ends the header for some receivers, and for others not.
_NO_FIELD = re.compile(rb"\A[ \t]|^(?![ \t]|[!-9;-~]+:|\Z)", re.MULTILINE)
_OVERLAP = BOUNDARY_LIMIT + PADDING_LIMIT + 8  # octets of a delimiter with the line ends around it


class Part(NamedTuple):
    """A part of a message, or the message itself, whose header is not in the body (`header_at` is -1 then)."""

    fields: Message
    header: bytes
    header_at: int
    begin: int
    end: int  # -1: a multipart, whose parts have entries of their own
    around: tuple[int, ...]  # the numbers of the multiparts it stands in

    @property
    def is_multipart(self) -> bool:
        return self.end < 0

    @property
    def encoding(self) -> str:
        return str(self.fields.get("content-transfer-encoding", "")).strip().lower()

    @property
    def may_be_changed(self) -> bool:
        """Whether it is encoded in no way, and all receivers read the same out of its header."""
        named = (self.fields.get_all(name, []) for name in ("content-type", "content-transfer-encoding"))
        is_clear = all(len(values) < 2 for values in named) and not _NO_FIELD.search(self.header)
        return is_clear and self.encoding in _PLAIN


class _Delimiter(NamedTuple):
    begin: int  # where its line begins, and
    end: int  # where the next one does
    depth: int  # of the multipart it belongs to
    closing: bool


class Beyond(Exception):
    """The structure is more than anybody's message has, or could be read in two ways."""


class Structure:
    """Reads the parts of a message, in order. Raises Beyond."""

    def __init__(self, header: bytes, body: Body) -> None:
        self.body = body
        self.parts: list[Part] = []
        self._around: list[tuple[bytes, int]] = []  # the boundary and the number of each multipart
        self._left = PARTS_LIMIT
        begin: int | None = self._add(header, -1, 0)
        while begin is not None:
            begin = self._next(begin)

    def _add(self, header: bytes, header_at: int, begin: int) -> int:
        """Note a part; where to go on."""
        fields = _fields(header)
        if self._around and self.parts[self._around[-1][1]].fields.get_content_type() == "multipart/digest":
            fields.set_default_type("message/rfc822")
        part = Part(fields, header, header_at, begin, self.body.size, tuple(number for _, number in self._around))
        if boundary := _boundary(part):
            part = part._replace(end=-1)
            self._around.append((boundary, len(self.parts)))
            if len(self._around) > DEPTH_LIMIT:
                raise Beyond
        self.parts.append(part)
        return begin

    def _next(self, begin: int) -> int | None:
        """From the beginning of what a part holds to that of the next; None where there is none."""
        at, last = begin, len(self.parts) - 1
        while delimiter := self._delimiter(at):
            if not self.parts[last].is_multipart and at == begin:
                self.parts[last] = self.parts[last]._replace(end=delimiter.begin)
            del self._around[delimiter.depth + (not delimiter.closing) :]
            at = delimiter.end
            header = None if delimiter.closing else self._header(at)
            if header is not None:
                return self._add(header, at, at + len(header) + 1)
        return None

    def _delimiter(self, begin: int) -> _Delimiter | None:
        """The next line that ends a part of any multipart around; `begin` is the beginning of a line."""
        if not self._around:
            return None
        names = [boundary for boundary, _ in self._around]
        line = _delimiter_of(names)
        held, at = b"\n", begin - 1  # what is held begins there
        for block in self.body.blocks(begin):
            data = held + block
            if match := line.search(data):
                self._left -= 1
                if not self._left or match["end"] is None:
                    raise Beyond
                depth = len(names) - 1 - names[::-1].index(match["name"])
                return _Delimiter(at + match.start() + 1, at + match.end(), depth, bool(match["closing"]))
            held = data[-_OVERLAP:]
            at += len(data) - len(held)
        return None

    def _header(self, begin: int) -> bytes | None:
        """The header block of a part without the empty line behind it; None where the part ends before that line."""
        text = b"\n" + b"".join(self.body.blocks(begin, min(self.body.size, begin + HEADER_LIMIT)))
        empty = text.find(b"\n\n")
        if _delimiter_of([boundary for boundary, _ in self._around]).search(text[: empty + 1] if empty >= 0 else text):
            return None
        if empty < 0 and len(text) > HEADER_LIMIT:
            raise Beyond
        return text[1 : empty + 1] if empty >= 0 else None


def _delimiter_of(names: list[bytes]) -> re.Pattern[bytes]:
    padding = rb"(?:[ \t]{0,%d}(?P<end>\n)|[ \t]{%d})" % (PADDING_LIMIT, PADDING_LIMIT + 1)
    return re.compile(rb"\n--(?P<name>%b)(?P<closing>--)?%b" % (b"|".join(map(re.escape, names)), padding))


def _fields(header: bytes) -> Message:
    """What a header says of MIME. Raises Beyond."""
    found = _OF_MIME.findall(header)
    if any(len(field) > VALUE_LIMIT for field in found):
        raise Beyond
    return BytesHeaderParser().parsebytes(b"".join(found))


def _boundary(part: Part) -> bytes:
    """What separates the parts of a multipart that may be looked into; b"" where there is nothing to look into."""
    kind = part.fields.get_content_type()
    if not kind.startswith("multipart/") or kind in _OPAQUE or not part.may_be_changed:
        return b""
    boundary = (part.fields.get_boundary("") or "").encode("utf-8", "surrogateescape")
    return boundary if len(boundary) <= BOUNDARY_LIMIT and b"\n" not in boundary else b""
