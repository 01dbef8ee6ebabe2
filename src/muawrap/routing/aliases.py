"""Alias files: their syntax, and the look-up of a name.

    name: member, member          a name is matched without case; the first entry wins
        , member                  a line that begins with a blank goes on
    "a name": member              quotes where a name has blanks or colons
    # comment                     from the first column, or where a word begins

Members are what muawrap.routing.members reads. A wrong entry counts only for those who use it (RULES D4).
A file is text that is searched for the names asked; only `muawrap check` makes objects of all its entries.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from muawrap import trust
from muawrap.failure import Failure
from muawrap.routing.members import Entry

FILE_LIMIT = 64 * 1024 * 1024  # RULES D6
SCANS = 16  # names a file is searched for, one by one, before an index is made: that costs as much
SHORT = 16 * 1024  # characters of a file whose index is made faster than an expression is compiled

_NAME = re.compile(
    r"""(?: "(?P<quoted>(?:[^"\\\n]|\\[^\n])*)"[ \t]* | (?P<plain>[^\s:\#"][^:\n]*) ) :""",
    re.VERBOSE,
)


class AliasFile:
    """One alias file: its text, and the look-up of a name in it."""

    def __init__(self, path: str, text: str, owner: int = 0) -> None:
        self.path = path
        self.text = text
        self.owner = owner
        self.scans = 0
        self._begins: Sequence[int] = ()  # the offset of each line, and
        self._numbers: dict[str, int] = {}  # the number of the line that each name is in, once there is an index

    def entry(self, name: str) -> Entry | None:
        """The first entry for a name in lower case."""
        number, begin = self._find(name)
        if not number:
            return None
        _, line = next(_logical_lines(_lines(self.text, begin)))
        _, members = _divided(line)
        return Entry(line[members:], f"{self.path} line {number}", self.owner)

    def _find(self, name: str) -> tuple[int, int]:
        """Number and offset of the line where the first entry for a name begins; number 0: there is none."""
        if not self._begins:
            if len(self.text) > SHORT and self.scans < SCANS and name.isascii():
                return self._scan(name)
            self._make_index()
        number = self._numbers.get(name, 0)
        return number, self._begins[number - 1]

    def _scan(self, name: str) -> tuple[int, int]:
        """The same, found by a search for lines that may begin with that name."""
        self.scans += 1
        quoted = "".join(("\\\\" if char in '"\\' else "\\\\?") + re.escape(char) for char in name)
        lines = re.compile(rf'\n(?:{re.escape(name)}|"{quoted}")[^\S\n]*:', re.IGNORECASE)
        for begin in chain((0,), (match.start() + 1 for match in lines.finditer(self.text))):
            if _divided(self.text, begin)[0] == name:
                return self.text.count("\n", 0, begin) + 1, begin
        return 0, 0

    def _make_index(self) -> None:
        from array import array

        self._begins = array("Q", chain((0,), (match.end() for match in re.finditer("\n", self.text))))
        for number, begin in enumerate(self._begins, 1):
            name, _ = _divided(self.text, begin)
            if name is not None:
                self._numbers.setdefault(name, number)


def load(path: str, may_be_missing: bool) -> AliasFile | None:
    """Read an alias file. Raises Failure; None where it is missing and may be."""
    try:
        contents = trust.read(path, limit=FILE_LIMIT, shared=True)
    except (FileNotFoundError, NotADirectoryError):
        if may_be_missing:
            return None
        raise Failure(f"alias file {path} does not exist", advice="redirect.aliases names it") from None
    return AliasFile(path, contents.text, contents.owner)


class Listing(NamedTuple):
    """All of an alias file: for each name in lower case the line and text of its first entry."""

    path: str
    entries: dict[str, tuple[int, str]]
    wrong: tuple[int, ...]  # numbers of lines that are no entry


def parse(path: str, text: str) -> Listing:
    """All entries of a text in alias file syntax; lines that are none are noted, not refused."""
    entries: dict[str, tuple[int, str]] = {}
    wrong = []
    for number, line in _logical_lines(_lines(text)):
        name, members = _divided(line)
        if name is None:
            wrong.append(number)
        else:
            entries.setdefault(name, (number, line[members:]))
    return Listing(path, entries, tuple(wrong))


def _divided(text: str, at: int = 0) -> tuple[str | None, int]:
    """The name, in lower case, whose entry begins there, and where its members begin; None where no entry begins."""
    match = _NAME.match(text, at)
    if match is None:
        return None, at
    name = match["plain"].rstrip() if match["plain"] else _unescaped(match["quoted"])
    return name.lower(), match.end()


def _unescaped(quoted: str) -> str:
    """What stands between quotes, without the backslashes."""
    return re.sub(r"\\(.)", r"\1", quoted)


def _lines(text: str, at: int = 0) -> Iterator[str]:
    """The lines from that offset on, one at a time."""
    while (end := text.find("\n", at)) >= 0:
        yield text[at:end]
        at = end + 1
    yield text[at:]


def _logical_lines(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Lines with their continuation lines, each with the number of its first; comments and empty lines go."""
    parts: list[str] = []
    begin = 0
    for number, line in enumerate(lines, 1):
        line = line.rstrip("\r")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0] in " \t" and parts:
            parts.append(line)
            continue
        if parts:
            yield begin, "\n".join(parts)
        parts, begin = [line], number
    if parts:
        yield begin, "\n".join(parts)


class Aliases:
    """Several alias files as one: the first entry wins. They are read when the first name is looked up."""

    def __init__(self, paths: tuple[str, ...], may_be_missing: bool) -> None:
        self.paths = paths
        self.may_be_missing = may_be_missing
        self._files: list[AliasFile] | None = None

    @property
    def files(self) -> list[AliasFile]:
        """The files that are there. Raises Failure."""
        if self._files is None:
            loaded = (load(path, self.may_be_missing) for path in self.paths)
            self._files = [file for file in loaded if file is not None]
        return self._files

    def __call__(self, name: str) -> Entry | None:
        """The entry for a local part (RULES D1). Raises Failure."""
        if name.startswith('"'):
            name = _unescaped(name[1:-1])
        found = (file.entry(name.lower()) for file in self.files)
        return next((entry for entry in found if entry is not None), None)
