"""TOML text as values, and the line of the text that each of them stands on."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from muawrap import extras
from muawrap.failure import Failure

LOOKED = 1024 * 1024  # characters read again to find a line; what it stands on is worth no more than a second

Where = tuple[str | int, ...]
"""A place in a document: ("smart_hosts", 1, "url") is the url of the second smart host."""


class Document(NamedTuple):
    """A file's text and what it says."""

    name: str
    text: str
    values: dict[str, Any]

    def line(self, where: Where) -> int:
        """The line of the statement that sets a key, or else of the table it would stand in; 0 for the top.

        The parser tells: each statement is parsed by itself, so that quotes, dots and brackets mean here what they
        mean there. Only an error costs this.
        """
        best, depth = 0, 0
        table: Where = ()
        counts: dict[Where, int] = {}
        for number, statement in _statements(self.text):
            values = _values(statement)
            if statement.lstrip().startswith("["):
                table = _table(values, counts)
                found = len(table) if where[: len(table)] == table else 0
            elif where[: len(table)] == table:
                inner = where[len(table) :]
                found = len(table) + _depth(values, inner)
                number += _offset(statement, inner)
            else:
                continue
            if found > depth:
                best, depth = number, found
        return best


def parse(name: str, octets: bytes) -> Document:
    """The document in a file's octets. Raises Failure."""
    try:
        text = octets.decode("utf-8-sig").replace("\r\n", "\n")  # with the mark that some editors put first
        return Document(name, text, _values(text))
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise Failure(f"configuration {name} line {line}: not UTF-8", advice="save the file as UTF-8") from error
    except ValueError as error:  # TOMLDecodeError, or a number beyond what int() reads
        reason, _, at = str(error).partition(" (at ")
        line_of = re.match(r"line [0-9]+", at)
        place = f" {line_of[0]}" if line_of else ""
        end = " at the end of the file" if at.startswith("end") else ""
        raise Failure(
            f"configuration {name}{place}: not TOML: {reason}{end}",
            advice="a text stands in quotes, a list in brackets; see muawrap.toml(5)",
        ) from error
    except RecursionError as error:
        raise Failure(f"configuration {name}: nested too deeply") from error


def _values(text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        tomllib = extras.load("tomli", "the configuration")
    values: dict[str, Any] = tomllib.loads(text)
    return values


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Headers and assignments of a good document, each with the number of its first line, as far as LOOKED goes."""
    looked = 0
    lines: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not lines and (not line.strip() or line.lstrip().startswith("#")):
            continue
        lines.append(line)
        if len(lines) > 1 and not any(end in line for end in ("]", '"""', "'''")):
            continue  # what goes on over several lines ends with one of these
        statement = "\n".join(lines)
        looked += len(statement)
        if looked > LOOKED:
            return
        try:
            _values(statement)
        except ValueError:
            continue
        yield number - len(lines) + 1, statement
        lines = []


def _table(values: object, counts: dict[Where, int]) -> Where:
    """The place that a header opens; [[name]] counts, and [name.more] goes into the last of them."""
    path: Where = ()
    while isinstance(values, dict) and values:
        ((key, values),) = values.items()
        path = (*path, key)
        if isinstance(values, list):
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = (*path, counts[path])
    return path


def _depth(values: Any, where: Where) -> int:
    """How far a place can be followed into values."""
    for depth, part in enumerate(where):
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            return depth
    return len(where)


def _offset(statement: str, where: Where) -> int:
    """How many lines below a statement's first one the item of its list stands that `where` leads to."""
    number = next((number for number, part in enumerate(where) if isinstance(part, int)), None)
    if number is None or "\n" not in statement:
        return 0
    from bisect import bisect_left

    lines = statement.split("\n")
    offset = bisect_left(range(1, len(lines)), True, key=lambda count: _reaches(lines[:count], where, number))
    return offset if offset < len(lines) - 1 else 0


def _reaches(lines: list[str], where: Where, number: int) -> bool:
    """Whether the beginning of a list, as far as it can be read, holds the item at `number` in `where`."""
    while lines:
        try:
            return _depth(_values("\n".join((*lines, "]"))), where) > number
        except ValueError:
            lines = lines[:-1]
    return False
