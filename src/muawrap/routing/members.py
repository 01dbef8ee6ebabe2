"""The right-hand side of an alias, a .forward or an :include: file, split into its members."""

from __future__ import annotations

import re
from typing import NamedTuple

from muawrap import addresses


class Member(NamedTuple):
    """One member: its kind and what it names.

    address    an address or bare name
    stop       a name after a backslash: neither aliases nor .forward apply to it
    include    the path of a further list
    command, file    local deliveries, which there are none of here
    fail, defer      the text to fail with, for good or for now
    blackhole  nothing: this right-hand side is discarded
    """

    kind: str
    value: str


class Entry(NamedTuple):
    """A right-hand side as found: its text, where it stands, whose it is."""

    text: str
    where: str  # "/etc/aliases line 3"
    owner: int  # the uid it speaks for, beside root the only one that may own what it includes
    private: str = ""  # the user whose .forward this is; others do not read what stands in it (RULES D5)


class MemberError(ValueError):
    """Why a right-hand side cannot be read, and the member that is to blame."""


_BETWEEN = re.compile(r"[, \t\r\n]*")
# Most members are an address and nothing more; "|", "/" and "#" may begin one, but mean something else here.
_PLAIN = rf"(?![|/#])({addresses.PLAIN})[ \t\r]*(?=[,\n]|\Z)"
_SPECIAL = re.compile(r":(include|fail|defer|blackhole):[ \t]*", re.IGNORECASE)
_COMMENT = re.compile(r"#[^\n]*")
# The text of :fail: and :defer: may hold commas, and goes on in continuation lines.
_SAID = re.compile(r"(?:[^\n]|\n[ \t])*")
_ITEM = r"""(?xs)
    (?: "(?:[^"\\]|\\.)*"        # a quoted string
      | \\[^\n]                  # a backslash and what it protects
      | <[^<>\n]*>               # an address in brackets
      | \([^()\n]*\)             # a comment
      | (?<![ \t]) \#            # part of a word; at the beginning of one it is a comment to the end of the line
      | [^,\n"\\<(\#]            # anything else but a separator
      | ["\\<(]                  # an opening that nothing closes; the address parser will say so
    )*
"""


def members(text: str) -> list[Member]:
    """Split at commas and line ends, as Exim and sendmail do; "#" at the start of a word begins a comment.

    Raises MemberError for a member that is nothing of what Member lists.
    """
    plain_member, any_member = re.compile(_PLAIN), re.compile(_ITEM)  # most deliveries come by without
    found = []
    at = 0
    while (at := _end(_BETWEEN.match(text, at))) < len(text):
        plain = plain_member.match(text, at)
        if plain and len(plain[1]) <= addresses.PLAIN_LIMIT:
            found.append(Member("address", plain[1]))
            at = plain.end()
        elif comment := _COMMENT.match(text, at):
            at = comment.end()
        elif (special := _SPECIAL.match(text, at)) and special[1].lower() in ("fail", "defer"):
            said = _SAID.match(text, special.end())
            at = _end(said)
            found.append(Member(special[1].lower(), " ".join(text[special.end() : at].split())))
        else:
            item = any_member.match(text, at)
            begin, at = at, _end(item)
            found.append(_member(text[begin:at].strip()))
    return found


def _end(match: re.Match[str] | None) -> int:
    assert match is not None  # of an expression that matches the empty text, too
    return match.end()


def _member(item: str) -> Member:
    """One member, without the blanks around it. Raises MemberError."""
    if item.startswith('"') and item.endswith('"') and item[1:2] in ("|", "/", ":"):
        item = re.sub(r"\\(.)", r"\1", item[1:-1], flags=re.DOTALL)
    if item.startswith("|"):
        return Member("command", item)
    if item.startswith(("/", "~/")):
        return Member("file", item)
    if special := _SPECIAL.match(item):
        kind, value = special[1].lower(), item[special.end() :].strip().strip('"')
        if kind == "include" and not value.startswith("/"):
            raise MemberError(f"{item}: an included file needs a path from /")
        return Member(kind, value)
    if item.startswith(":"):
        raise MemberError(f"{item}: no such special member")
    kind, address = ("stop", item[1:]) if item.startswith("\\") else ("address", item)
    try:
        return Member(kind, addresses.parse_one(address).address)
    except addresses.AddressError as error:
        raise MemberError(f"{item}: {error}") from error
