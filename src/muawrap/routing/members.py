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
    owner: int  # uid of the file's owner, who may own what it includes, too
    private: str = ""  # the user whose .forward this is; others do not read what stands in it (RULES D5)


class MemberError(ValueError):
    """Why a right-hand side cannot be read, and the member that is to blame."""


_SPECIAL = re.compile(r":(include|fail|defer|blackhole|unknown):[ \t]*", re.IGNORECASE)
_ITEM = re.compile(
    r"""
    (?: "(?:[^"\\]|\\.)*"        # a quoted string
      | \\.                      # a backslash and what it protects
      | <[^<>\n]*>               # an address in brackets
      | \([^()\n]*\)             # a comment
      | [^,\n"\\<(]              # anything else but a separator
      | ["\\<(]                  # an opening that nothing closes; the address parser will say so
    )*
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT = re.compile(r"#[^\n]*")


def members(text: str) -> list[Member]:
    """Split at commas and line ends, as Exim and sendmail do; "#" at the start of a word begins a comment.

    Raises MemberError for a member that is nothing of what Member lists.
    """
    found = []
    at = 0
    while at < len(text):
        if text[at] in ", \t\r\n":
            at += 1
            continue
        if text[at] == "#":
            at = _COMMENT.match(text, at).end()  # type: ignore[union-attr]
            continue
        special = _SPECIAL.match(text, at)
        if special is not None and special[1].lower() in ("fail", "defer"):
            end = text.find("\n", at)
            end = len(text) if end < 0 else end
            found.append(Member(special[1].lower(), text[special.end() : end].strip()))
            at = end
            continue
        item = _ITEM.match(text, at).group()  # type: ignore[union-attr]
        at += max(1, len(item))
        found += _read(_without_comment(item).strip())
    return found


def _without_comment(item: str) -> str:
    """The item up to a "#" that begins a word outside quotes."""
    quoted = False
    for at, char in enumerate(item):
        if char == '"' and item[at - 1 : at] != "\\":
            quoted = not quoted
        elif char == "#" and not quoted and item[at - 1 : at] in (" ", "\t"):
            return item[:at]
    return item


def _read(item: str) -> list[Member]:
    if item.startswith('"') and item.endswith('"') and item[1:2] in ("|", "/", ":"):
        item = re.sub(r"\\(.)", r"\1", item[1:-1])
    if item.startswith("|"):
        return [Member("command", item)]
    if item.startswith("/"):
        return [Member("file", item)]
    special = _SPECIAL.match(item)
    if special is not None and special[1].lower() != "unknown":
        value = item[special.end() :].strip().strip('"')
        if special[1].lower() == "include" and not value.startswith("/"):
            raise MemberError(f"{item}: an included file needs a path from /")
        return [Member(special[1].lower(), value)]
    if item.startswith(":"):
        raise MemberError(f"{item}: no such special member")
    kind, address = ("stop", item[1:]) if item.startswith("\\") else ("address", item)
    try:
        return [Member(kind, mailbox.address) for mailbox in addresses.parse_list(address)]
    except addresses.AddressError as error:
        raise MemberError(f"{item}: {error}") from error
