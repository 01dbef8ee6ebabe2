"""Octets from a server turned into replies, and an EHLO reply into capabilities: pure, bounded, strict."""

from __future__ import annotations

import re
from typing import NamedTuple

from muawrap.mail import Reply

LINE_LIMIT = 4096  # octets; RFC 5321 (4.5.3.1.5) allows 512, extensions a little more, and no honest server this much
LINES_LIMIT = 100  # lines of one reply; the longest EHLO reply seen has about 20
REPLY_LIMIT = 64 * 1024  # octets of one reply, as curl has it
ANSWER = 400  # octets of a reply to one command of a flight, taken in while the flight is sent; honest ones have 100

# RFC 5321, 4.2: Reply-code = %x32-35 %x30-35 %x30-39, then "-" or SP and text. Servers use second digits up to 9.
_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])([^\0]*))?")


class Malformed(ValueError):
    """What came is no SMTP reply; the message says why, and `line` is what it was."""

    def __init__(self, what: str, line: str = "") -> None:
        super().__init__(what)
        self.line = line


class Reader:
    """Collects octets until a reply is complete. Lines may end with LF alone; nothing else is forgiven."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._searched = 0  # octets of _pending known to hold no LF
        self._lines: list[str] = []
        self._code = 0
        self._size = 0

    @property
    def empty(self) -> bool:
        """Whether nothing has come beyond the replies already taken."""
        return not self._pending and not self._lines

    def room(self, commands: int) -> bool:
        """Whether more may be taken in before what is here is read, while so many commands wait for their replies."""
        return len(self._pending) < REPLY_LIMIT + commands * ANSWER

    def rest(self) -> bytes:
        """What has come behind the replies already taken; it is here no more."""
        octets = bytes(self._pending)
        self._pending.clear()
        self._searched = 0
        return octets

    def feed(self, octets: bytes) -> None:
        """Add what came from the server."""
        self._pending += octets

    def next(self) -> Reply | None:
        """The next complete reply, None while there is none. Raises Malformed."""
        while True:
            end = self._pending.find(b"\n", self._searched)
            if end < 0:
                self._searched = len(self._pending)
                if len(self._pending) > LINE_LIMIT + 1:  # its CR may have come, and its LF not yet
                    raise Malformed(f"a reply line longer than {LINE_LIMIT} octets")
                return None
            line = bytes(self._pending[:end])
            del self._pending[: end + 1]
            self._searched = 0
            if self._take(line.removesuffix(b"\r")):
                reply = Reply(self._code, tuple(self._lines))
                self._lines, self._code, self._size = [], 0, 0
                return reply

    def _take(self, line: bytes) -> bool:
        """Add one line to the reply; True where it is the last. Raises Malformed."""
        if len(line) > LINE_LIMIT:
            raise Malformed(f"a reply line longer than {LINE_LIMIT} octets")
        match = _LINE.fullmatch(line)
        if match is None:
            raise Malformed("what is no SMTP reply", _text(line))
        code = int(match[1])
        if self._lines and code != self._code:
            raise Malformed(f"a reply that disagrees with itself: {self._code} and {code}")
        self._code = code
        self._size += len(line)
        self._lines.append(_text(match[3] or b""))
        if len(self._lines) > LINES_LIMIT or self._size > REPLY_LIMIT:
            raise Malformed(f"a reply longer than {LINES_LIMIT} lines or {REPLY_LIMIT} octets")
        return match[2] != b"-"


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "backslashreplace")


KEYWORDS = ("8BITMIME", "ATRN", "AUTH", "CHUNKING", "DSN", "ETRN", "PIPELINING", "SIZE", "SMTPUTF8", "STARTTLS")
"""Of EHLO, those that mean something to us."""


class Capabilities(NamedTuple):
    """What a server offers: EHLO keywords in capitals, each with its parameters (RFC 5321, 4.1.1.1)."""

    keywords: dict[str, tuple[str, ...]]

    def offers(self, keyword: str) -> bool:
        """Whether a keyword was in the EHLO reply."""
        return keyword in self.keywords

    def without(self, keywords: tuple[str, ...]) -> Capabilities:
        """The same as if these had not been offered."""
        return Capabilities({name: words for name, words in self.keywords.items() if name not in keywords})

    @property
    def size_limit(self) -> int:
        """The largest message taken, in octets; 0: no limit is declared (RFC 1870)."""
        first = next(iter(self.keywords.get("SIZE", ())), "")
        return int(first) if first.isascii() and first.isdigit() and len(first) < 20 else 0

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """SASL mechanisms offered, in capitals (RFC 4954, 3)."""
        return tuple(name.upper() for name in self.keywords.get("AUTH", ()))


def capabilities(reply: Reply) -> Capabilities:
    """Read an EHLO reply. The first line is a greeting; "AUTH=LOGIN" is the spelling of servers before RFC 2554."""
    keywords: dict[str, tuple[str, ...]] = {}
    for line in reply.lines[1:]:
        words = line.replace("=", " ", 1).split() if line.upper().startswith("AUTH=") else line.split()
        if words:
            name = words[0].upper()
            keywords[name] = (*keywords.get(name, ()), *words[1:])
    return Capabilities(keywords)
