"""Exim's address lists and domain lists, made into functions that say whether something is in them.

    item, in an address list        item of a domain, in a domain list or behind an "@"
    dom  *.dom  *dom                dom  *.dom  *dom  *
    user@DOMAIN  *er@DOMAIN         ^regex
    *@DOMAIN                        +name of a domain list
    ^regex                          lsearch;/file
    +name of an address list        !item
    lsearch;/file
    !item

Items are divided by colons, a doubled colon is one in an item, and a list may begin with "<;" to be divided by
semicolons. The first item that matches decides; a list that ends with a negated item has everything else in it.
Nothing has case. A text is expanded before it is read: backslashes quote, \\N...\\N is left alone, and anything that
begins with a dollar sign is refused, for there is nothing here to take values from (INTERMITTENT 3.1).
"""

from __future__ import annotations

import re
import string
import warnings
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import TypeAlias

from muawrap import trust
from muawrap.addresses import excerpt
from muawrap.failure import Failure

DEPTH = 50  # named lists within each other
FILE_LIMIT = 16 * 1024 * 1024  # octets of a file that is looked up in
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_ESCAPE = re.compile(r"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{0,2})|(.))", re.DOTALL)
_PIECE = re.compile(
    r"""
      \\N (?P<verbatim> .*? ) (?: \\N | \Z )
    | (?P<escape> \\ (?: [0-7]{1,3} | x[0-9A-Fa-f]{0,2} | . ) )
    | (?P<wrong> [$\\] )
    """,
    re.DOTALL | re.VERBOSE,
)
_KEY = re.compile(r'"((?:[^"\\]|\\.)*)"|([^\s:]*)')

Test: TypeAlias = Callable[[str], bool]
"""Whether an address, or a domain, is one of those meant."""


class Lists:
    """The named lists of a file, by their names; they are read where an item mentions them."""

    def __init__(self, domains: Mapping[str, str], addresses: Mapping[str, str], macros: Collection[str] = ()) -> None:
        self._named = {"domain": domains, "address": addresses}
        self._macros = macros
        self._read: dict[tuple[str, str], Test] = {}
        self._open: list[tuple[str, str]] = []

    def settled(self, text: str) -> str:
        """The text, if no macro of the file is in it. Raises Failure."""
        for macro in self._macros:
            if macro in text:
                raise Failure(f"the macro {macro} is not replaced here", advice="write what it stands for")
        return text

    def address(self, pattern: str) -> Test:
        """One item of an address list, where colons divide nothing. Raises Failure."""
        return self._any([expanded(pattern)], self._address)

    def addresses(self, text: str) -> Test:
        """An address list; the empty address is the null sender. Raises Failure."""
        return self._any(divided(expanded(text)), self._address)

    def domains(self, text: str) -> Test:
        """A domain list. Raises Failure."""
        return self._any(divided(expanded(text)), self._domain)

    def _any(self, items: list[str], read: Callable[[str], Test]) -> Test:
        tests = []
        for item in items:
            negated = item.startswith("!")
            tests.append((read(item[1:].lstrip() if negated else item), not negated))
        otherwise = bool(tests) and not tests[-1][1]

        def test(subject: str) -> bool:
            return next((verdict for matches, verdict in tests if matches(subject)), otherwise)

        return test

    def _named_list(self, kind: str, name: str) -> Test:
        known = self._named[kind]
        if name not in known:
            advice = ""
            if any(name in names for names in self._named.values()):
                advice = "a list of domains is mentioned as *@+NAME, one of addresses as +NAME"
            raise Failure(f"there is no {kind} list +{name}", advice=advice)
        if (kind, name) in self._open or len(self._open) >= DEPTH:
            raise Failure(f"the {kind} list +{name} holds itself, or too many others within each other")
        if (kind, name) not in self._read:
            self._open.append((kind, name))
            text = self.settled(known[name])
            test = self.domains(text) if kind == "domain" else self.addresses(text)
            self._read[kind, name] = lru_cache(maxsize=1)(test)  # lists that share lists would ask them over and over
            self._open.pop()
        return self._read[kind, name]

    def _address(self, item: str) -> Test:
        if not item:
            return lambda address: not address
        if item.startswith("+"):
            return self._named_list("address", item[1:])
        test = self._whole(item)
        return lambda address: "@" in address and test(address)

    def _whole(self, item: str) -> Test:
        """An item that is not empty, for addresses with a domain."""
        at = item.find("@")
        if item.startswith("^"):
            return _regex(item)
        if item.startswith("@@"):
            raise Failure(f"the look-up {excerpt(item)} is not one that can be done here", advice=_INSTEAD)
        if ";" in item[: at if at >= 0 else None]:
            return _looked_up(item)
        local, at_sign, domain = item.rpartition("@")
        of_domain = self._any([domain], self._domain)
        of_local = _ending_or_equal(local) if at_sign else lambda _: True

        def test(address: str) -> bool:
            user, _, host = address.rpartition("@")
            return of_local(user.lower()) and of_domain(host.lower())

        return test

    def _domain(self, item: str) -> Test:
        if item.startswith("^"):
            return _regex(item)
        if item.startswith("+"):
            return self._named_list("domain", item[1:])
        if item.startswith(("@", "/")):
            raise Failure(f"the item {excerpt(item)} is not one that can be read here", advice=_INSTEAD)
        if ";" in item and not item.startswith("*"):
            return _looked_up(item)
        return _ending_or_equal(item)


_INSTEAD = "write the names, or lsearch;/FILE"


def _ending_or_equal(item: str) -> Test:
    item = item.lower()
    return (lambda text: text.endswith(item[1:])) if item.startswith("*") else (lambda text: text == item)


def _regex(item: str) -> Test:
    """Without case, found anywhere; of the octets beyond ASCII none is a letter. Raises Failure."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # [[:alpha:]], which means something else to Exim
            found = re.compile(item, re.IGNORECASE | re.ASCII).search
    except (re.error, Warning, RecursionError, OverflowError) as error:
        what = f"the regular expression {excerpt(item)} cannot be read: {error}"
        raise Failure(what, advice="it is read as Python does: no [[:alpha:]], for one") from error
    return lambda text: found(text) is not None


def _looked_up(item: str) -> Test:
    """A linear search in a file, read here and now. Raises Failure."""
    kind, _, path = item.partition(";")
    path = path.strip()
    if kind.strip().lower() != "lsearch" or not path.startswith("/"):
        raise Failure(f"the look-up {excerpt(item)} is not one that can be done here", advice=_INSTEAD)
    try:
        text = trust.read(path, limit=FILE_LIMIT, shared=True).text
    except (FileNotFoundError, NotADirectoryError):
        raise Failure(f"there is no file {path} to look anything up in") from None
    keys = frozenset(_key(line) for line in text.split("\n") if line and line[0] not in " \t\r#")
    return lambda subject: subject.lower() in keys


def _key(line: str) -> str:
    """The key of a line: quoted, or up to a colon or a blank. A line that begins with a blank goes on."""
    match = _KEY.match(line)
    if match is None:
        return ""
    return (unescaped(match[1]) if match[1] is not None else match[2]).lower()


# -- texts ----------------------------------------------------------------------------------------------------------


def divided(text: str) -> list[str]:
    """The items of a list, without blanks around them."""
    text = text.strip()
    mark = ":"
    if text[:1] == "<" and text[1:2] in tuple(string.punctuation):
        mark, text = text[1], text[2:]
    one = re.escape(mark)
    items = []
    for match in re.finditer(rf"((?:[^{one}]|{one}{one})*)(?:{one}|\Z)", text):
        if match.start() < len(text):
            items.append(match[1].replace(mark * 2, mark).strip())
    return items


def expanded(text: str) -> str:
    """What Exim's string expansion leaves of a text without variables. Raises Failure."""

    def piece(match: re.Match[str]) -> str:
        if match["wrong"] == "$":
            advice = r"write \$ for the sign itself, or \N before and behind a regular expression"
            raise Failure(f"{excerpt(text)} takes a value from elsewhere", advice=advice)
        if match["wrong"]:
            raise Failure(f"{excerpt(text)} ends with a backslash that quotes nothing")
        return unescaped(match["escape"]) if match["escape"] else match["verbatim"]

    return _PIECE.sub(piece, text)


def unescaped(text: str) -> str:
    """Backslashes taken away: octal, \\x and the usual letters; before anything else they quote."""

    def character(match: re.Match[str]) -> str:
        octal, hexadecimal, other = match.groups()
        if other is not None:
            return _ESCAPES.get(other, str(other))
        return chr((int(octal, 8) if octal else int(hexadecimal or "0", 16)) & 0xFF)

    return _ESCAPE.sub(character, text)
