"""Alias files: their syntax, and the look-up of a name.

    name: member, member          a name is matched without case; the first entry wins
        , member                  a line that begins with a blank goes on
    "a name": member              quotes where a name has blanks or colons
    # comment                     from the first column, or where a word begins

Members are what muawrap.routing.members reads. A wrong entry counts only for those who use it (RULES D4).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from muawrap import trust
from muawrap.failure import Failure
from muawrap.routing.members import Entry

FILE_LIMIT = 64 * 1024 * 1024  # RULES D6

_NAME = re.compile(
    r"""(?: "(?P<quoted>(?:[^"\\\n]|\\.)*)"[ \t]* | (?P<plain>[^\s:\#"][^:\n]*) ) : (?P<members>.*)""",
    re.VERBOSE | re.DOTALL,
)


class AliasFile(NamedTuple):
    """One alias file: its path, and for each name in lower case the line and text of its first entry."""

    path: str
    owner: int
    entries: dict[str, tuple[int, str]]
    wrong: tuple[int, ...]  # numbers of lines that are no entry


def load(path: str, may_be_missing: bool) -> AliasFile | None:
    """Read an alias file. Raises Failure; None where it is missing and may be."""
    try:
        contents = trust.read(path, limit=FILE_LIMIT, shared=True)
    except (FileNotFoundError, NotADirectoryError):
        if may_be_missing:
            return None
        raise Failure(f"alias file {path} does not exist", advice="redirect.aliases names it") from None
    return parse(path, contents.text, contents.owner)


def parse(path: str, text: str, owner: int = 0) -> AliasFile:
    """The entries of a text in alias file syntax; lines that are none are noted, not refused."""
    entries: dict[str, tuple[int, str]] = {}
    wrong = []
    for number, line in _logical_lines(text):
        match = _NAME.match(line)
        if match is None:
            wrong.append(number)
            continue
        name = match["plain"].rstrip() if match["plain"] else _unescaped(match["quoted"])
        entries.setdefault(name.lower(), (number, match["members"]))
    return AliasFile(path, owner, entries, tuple(wrong))


def _unescaped(quoted: str) -> str:
    """What stands between quotes, without the backslashes."""
    return re.sub(r"\\(.)", r"\1", quoted)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their continuation lines, each with the number of its first; comments and empty lines go."""
    parts: list[str] = []
    begin = 0
    for number, line in enumerate(text.split("\n"), 1):
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
        for file in self.files:
            if name.lower() in file.entries:
                number, text = file.entries[name.lower()]
                return Entry(text, f"{file.path} line {number}", file.owner)
        return None
