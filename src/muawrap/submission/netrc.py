"""The netrc file of ftp(1) and curl(1): which password goes with a machine and a login; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from muawrap.failure import Failure

_QUOTED = re.compile(r'"((?:[^"\\\n]|\\.)*)"(?!\S)')
_TOKEN = re.compile(rf"{_QUOTED.pattern}|\S+|\n")  # a quoted word, a word, or the end of a line
_VALUES = ("login", "user", "password", "passwd", "account")


class Entry(NamedTuple):
    """What stands for one machine; `machine` "" is the default, `login` None is anybody's."""

    machine: str
    login: str | None
    password: str | None

    def __repr__(self) -> str:
        return f"Entry({self.machine!r}, ...)"


def password(entries: Sequence[Entry], machines: Sequence[str], login: str) -> str | None:
    """The password of the first entry for one of the machines and this login, None where there is none.

    As with ftp(1), the default stands for all machines, and what comes after it does not count.
    """
    names = [name.lower() for name in machines]
    for entry in entries:
        if entry.machine and entry.machine.lower() not in names:
            continue
        if entry.login in (None, login) and entry.password is not None:
            return entry.password
        if not entry.machine:
            break
    return None


def entries(text: str, path: str) -> list[Entry]:
    """All entries, in their order. Raises Failure, which tells the line and none of its words: one is a secret."""
    found: list[Entry] = []
    words = _words(text)
    for number, word in words:
        if word == "macdef":
            _skip_macro(words)
        elif word == "default":
            found.append(Entry("", None, None))
        elif word == "machine":
            machine = _value(words, number, path)
            if not machine:  # in quotes: a machine without a name is not all machines
                raise _wrong(path, number)
            found.append(Entry(machine, None, None))
        elif word in _VALUES and found:
            value = _value(words, number, path)
            if word in ("login", "user"):
                found[-1] = found[-1]._replace(login=value)
            elif word != "account":
                found[-1] = found[-1]._replace(password=value)
        elif word.startswith("#"):
            _rest_of_line(words)
        elif word != "\n":
            raise _wrong(path, number)
    return found


def _words(text: str) -> Iterator[tuple[int, str]]:
    """Each word with the number of its line, and "\\n" for each line end; quotes are still there."""
    number = 1
    for match in _TOKEN.finditer(text):
        yield number, match[0]
        number += match[0] == "\n"


def _value(words: Iterator[tuple[int, str]], number: int, path: str) -> str:
    """The word that belongs to a key, which may stand in the next line."""
    for at, word in words:
        if word == "\n":
            continue
        quoted = _QUOTED.fullmatch(word)
        if word.startswith('"') and not quoted:
            raise _wrong(path, at)
        return re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else word
    raise _wrong(path, number)


def _skip_macro(words: Iterator[tuple[int, str]]) -> None:
    """Its lines, which end with an empty one."""
    before = ""
    for _, word in words:
        if word == before == "\n":
            return
        before = word


def _rest_of_line(words: Iterator[tuple[int, str]]) -> None:
    for _, word in words:
        if word == "\n":
            return


def _wrong(path: str, number: int) -> Failure:
    return Failure(f"{path} line {number} is not understood", advice="netrc(5): machine NAME login NAME password TEXT")
