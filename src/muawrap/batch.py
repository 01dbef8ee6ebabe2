"""One message as batch SMTP, which `sendmail -bS` reads, with notes on it in commands that do nothing.

    NOOP muawrap at=2026-11-21T10:45:00Z id=1xUcvW-0005Ol-1d
    MAIL FROM:<a@b.example>
    RCPT TO:<c@d.example>
    DATA
    ...

A note is `NOOP muawrap` and pairs: name=value where the value is one plain word, else name="value", with quotes and
backslashes behind a backslash and everything that is not printable ASCII as Python writes it (\\n, \\xe4, \\udcff).
A value longer than a line goes on in the next note, as name+=value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from muawrap import report
from muawrap.failure import Failure
from muawrap.mail import Body
from muawrap.report import Pairs
from muawrap.submission import wire

NOTE = "NOOP muawrap"
"""How a note begins; whatever reads SMTP commands ignores it."""
LINE_LIMIT = 4096
"""Octets of a note: what our own reader takes in one line; Exim takes three times as much (and ten notes, no more)."""

_PLAIN = r"[A-Za-z0-9_.@<>,:;+/*=!?~%&'|\[\](){}#$^-]+"
_PAIR = re.compile(rf' +([a-z][a-z0-9.-]*)(\+?)=(?:({_PLAIN})(?= |\Z)|"((?:[^"\\]|\\.)*)")', re.DOTALL)
# What str.encode("unicode_escape") makes of what is not printable ASCII, and what stands in quotes.
_ESCAPE = re.compile(r'\\(?:(["\\])|([nrt])|(x[0-9a-f]{2}|u[0-9a-f]{4}|U00(?:0[0-9a-f]|10)[0-9a-f]{4})|(.))', re.DOTALL)
_BLANKS = {"n": "\n", "r": "\r", "t": "\t"}


# -- writing --------------------------------------------------------------------------------------------------------


def transaction(
    notes: Iterable[str], sender: str, recipients: Iterable[str], header: bytes, body: Body
) -> Iterator[bytes]:
    """One transaction, lines ended by LF; the addresses are mailboxes without brackets, "" the null sender.

    Dots are doubled, and a last line without its end gets one. Raises Failure where the body cannot be read.
    """
    named = (f"RCPT TO:<{recipient}>" for recipient in recipients)
    commands = "\n".join([*notes, f"MAIL FROM:<{sender}>", *named, "DATA", ""])
    return _chained(commands.encode("utf-8", "surrogateescape"), wire.with_dots(wire.text(header, body)))


def _chained(commands: bytes, text: Iterable[bytes]) -> Iterator[bytes]:
    yield commands
    for piece in text:  # which never ends between CR and LF
        yield piece.replace(b"\r\n", b"\n")


def notes(pairs: Pairs) -> Iterator[str]:
    """These names and values in few notes of at most LINE_LIMIT octets; no value is cut, nor breaks out of its line."""
    line = NOTE
    for name, value in pairs:
        left, sign = [_quoted(char) for char in value], "="
        while (size := sum(map(len, left))) > (room := LINE_LIMIT - len(f'{line} {name}{sign}""')):
            if line == NOTE:
                count = _fitting(left, room)
                line += f' {name}{sign}"{"".join(left[:count])}"'
                left, sign = left[count:], "+="
            yield line
            line = NOTE
        plain = size == len(value) and re.fullmatch(_PLAIN, value)
        line += f" {name}{sign}{value}" if plain else f' {name}{sign}"{"".join(left)}"'
    if line != NOTE:
        yield line


def _quoted(char: str) -> str:
    return "\\" + char if char in '\\"' else report.printable(char)


def _fitting(pieces: list[str], room: int) -> int:
    """How many of them, from the first, take at most that many octets; they take more in all."""
    for number, piece in enumerate(pieces):
        room -= len(piece)
        if room < 0:
            return number
    return len(pieces)


# -- reading --------------------------------------------------------------------------------------------------------


def facts(lines: Iterable[tuple[int, str]]) -> Pairs:
    """The pairs of these lines, each with its number and what follows NOOP; those that are no note of ours are skipped.

    A name may stand there more than once. Raises Failure where a note cannot be read: what it asks for would be lost.
    """
    found: Pairs = []
    for number, line in lines:
        if f"NOOP {line} ".startswith(f"{NOTE} "):
            _read(number, line, found)
    return found


def _read(number: int, line: str, found: Pairs) -> None:
    at = len(NOTE) - len("NOOP ")
    while at < len(line):
        pair = _PAIR.match(line, at)
        if pair is None or (pair[2] and (not found or found[-1][0] != pair[1])):
            raise unreadable(number)
        value = pair[3] or _ESCAPE.sub(lambda escape: _meant(escape, number), pair[4] or "")
        if pair[2]:
            value = found.pop()[1] + value
        found.append((pair[1], value))
        at = pair.end()


def _meant(escape: re.Match[str], number: int) -> str:
    if escape[4]:
        raise unreadable(number)
    return escape[1] or _BLANKS.get(escape[2] or "") or chr(int(escape[3][1:], 16))


def unreadable(number: int) -> Failure:
    """The failure of a note in this line, or of the message that begins there."""
    return Failure(f"line {number}: cannot read what stands behind {NOTE}")
