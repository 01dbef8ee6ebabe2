"""The header block as the caller wrote it, turned into the one that leaves under a given envelope sender."""

# Annotations are values here: a NamedTuple compiles those that are texts, one by one, while every delivery waits.

import re
import time
from collections.abc import Callable
from typing import NamedTuple

from muawrap import addresses
from muawrap.mail import SIGNATURES, Header, has_long_lines

_FOLD = 200  # characters of a display name on one line; far below 998, and no ordinary name is touched
_MESSAGE_ID = re.compile(rb"^message-id[ \t]*:.*(?:\n[ \t].*)*", re.IGNORECASE | re.MULTILINE)
_NO_NAME = r"[\x00-\x1f\x7f-\x9f\ud800-\udc7f\udd00-\udfff]"  # controls, and surrogates that stand for no octet
_COMMENT = re.compile(r"\(([^()\\]+)\)")


class Edits(NamedTuple):
    """All that decides how a header block changes; equal edits make equal header blocks."""

    sender: str  # full address for a missing or bare From:, never empty
    own: str  # `from`: what an address in From: that may not pass becomes
    full_name: str  # for a From: that is added
    domain: str  # for bare addresses in Reply-To:, To: and Cc:
    add_missing: bool  # From:, Date:, Message-ID:
    date: str
    message_id: str
    may_pass: Callable[[str], bool] | None  # may this address stand in From:? None: all may
    host_local: frozenset[str]
    fold: bool = False  # lines that are too long
    add_headers: tuple[str, ...] = ()
    remove_headers: tuple[str, ...] = ()


def apply(headers: tuple[Header, ...], edits: Edits) -> tuple[bytes, bool]:
    """The header block, lines ended by LF, and whether a From: was rewritten (RULES F3, F9, F10).

    What needs no change keeps its octets and its place; what is added comes last.
    """
    kept = [header for header in headers if header.name not in edits.remove_headers]
    names = {header.name for header in kept} | {line.partition(":")[0].lower() for line in edits.add_headers}
    fields = []
    rewritten = False
    strangers: list[str] = []  # addresses that may not stand in From:
    for header in kept:
        text = header.octets.decode("utf-8", "surrogateescape")
        if header.name in ("from", "sender"):
            text = _changed(text, lambda mailbox, parts: "" if mailbox.domain else _as_sender(parts, edits.sender))
        elif header.name in ("reply-to", "to", "cc"):
            text = _changed(text, lambda mailbox, parts: "" if mailbox.domain else _qualified(parts, edits.domain))
        if header.name == "from" and edits.may_pass is not None:
            passing = _passing(text, edits.may_pass, edits.own, strangers)
            text, rewritten = passing, rewritten or passing != text
        fields.append(text)
    replies = [address for address in strangers if addresses.split(address)[1].lower() not in edits.host_local]
    if replies and "reply-to" not in names:
        separator = ", " if sum(map(len, replies)) < _FOLD else ",\n "
        fields.append(f"Reply-To: {separator.join(replies)}\n")
    if edits.add_missing:
        if "from" not in names:
            name = phrase(edits.full_name)
            fields.append(f"From: {name} <{edits.sender}>\n" if name else f"From: {edits.sender}\n")
        if "date" not in names:
            fields.append(f"Date: {edits.date}\n")
        if "message-id" not in names:
            fields.append(f"Message-ID: {edits.message_id}\n")
    fields += [line + "\n" for line in edits.add_headers]
    signed = _is_signed(kept)
    return _fitting(fields, fold=edits.fold and not signed, encode=not signed), rewritten


def _fitting(fields: list[str], *, fold: bool, encode: bool) -> bytes:
    """The block as SMTP takes it, as far as that can be (RULES F6, F7)."""
    if encode and not all(map(str.isascii, fields)):
        from muawrap.routing import words

        fields = list(map(words.encoded, fields))
    block = "".join(fields).encode("utf-8", "surrogateescape")
    if fold and has_long_lines(block):
        from muawrap.routing import longlines

        return longlines.folded(block)
    return block


def _is_signed(headers: list[Header]) -> bool:
    return any(
        header.name in SIGNATURES
        or (header.name == "content-type" and header.value.lower().startswith("multipart/signed"))
        for header in headers
    )


def mailboxes(headers: tuple[Header, ...], name: str) -> list[addresses.Mailbox]:
    """The mailboxes of the first field of that name; none where it is missing or no address list."""
    for header in headers:
        if header.name == name:
            try:
                return addresses.parse_list(header.value)
            except addresses.AddressError:
                return []
    return []


def message_id(block: bytes) -> str:
    """The Message-ID of a header block as it leaves, "" where it has none."""
    found = _MESSAGE_ID.search(block)
    return Header("message-id", found.group()).value if found else ""


def date(now: float) -> str:
    """RFC 5322, 3.3, in local time; far-off clocks fall back on what can be written."""
    try:
        local = time.localtime(now)
        if local.tm_year >= 1900:
            return time.strftime("%a, %d %b %Y %H:%M:%S %z", local)
    except (OverflowError, ValueError, OSError):
        pass
    return "Thu, 01 Jan 1970 00:00:00 +0000"


def phrase(name: str) -> str:
    """A display name for a header field: atoms, a quoted-string, or encoded-words where it is not ASCII (RFC 2047)."""
    name = " ".join(re.sub(_NO_NAME, " ", name).split())
    if not name:
        return ""
    if name.isascii():
        return _folded(addresses.phrase(name))
    from muawrap.routing import words

    return words.phrase(name)


def _folded(text: str) -> str:
    """The same with a line end before some of its blanks, so that no line of a header is too long (RFC 5322, 2.2.3)."""
    lines = []
    at = 0
    while (blank := text.find(" ", at + _FOLD)) >= 0:  # an expression would look for it again from every character
        lines.append(text[at:blank])
        at = blank + 1
    return "\n ".join((*lines, text[at:]))


Parts = tuple[str, str, str]
"""A mailbox as written: what stands before its address, the address, and what stands behind it."""


def _changed(text: str, change: Callable[[addresses.Mailbox, Parts], str]) -> str:
    """The field with each mailbox as `change` writes it, "" being no change; what is no address list stays as it is."""
    colon = text.index(":") + 1
    value = text[colon:]
    try:
        found = addresses.parse_list(value)
    except addresses.AddressError:
        return text
    pieces = [text[:colon]]
    at = 0
    for mailbox in found:
        first, start, end, last = mailbox.first, mailbox.start, mailbox.end, mailbox.last
        changed = change(mailbox, (value[first:start], value[start:end], value[end:last]))
        if changed:
            pieces += [value[at:first], changed]
            at = last
    return "".join((*pieces, value[at:]))


def _as_sender(parts: Parts, sender: str) -> str:
    """`root (Cron Daemon)` as `"root (Cron Daemon)" <sender>`; `Cron <root>` as `Cron <sender>` (RULES F9)."""
    before, _, behind = parts
    return f"{before}{sender}{behind}" if "<" in before else f"{phrase(''.join(parts))} <{sender}>"


def _qualified(parts: Parts, domain: str) -> str:
    """The bare name gets a domain; what stands around it stays (RULES F9)."""
    before, name, behind = parts
    return f"{before}{name}@{domain}{behind}"


def _passing(text: str, may_pass: Callable[[str], bool], own: str, strangers: list[str]) -> str:
    """A From: with each address that may not pass replaced by `from`, and added to strangers (RULES F10)."""

    def change(mailbox: addresses.Mailbox, parts: Parts) -> str:
        if may_pass(mailbox.address):
            return ""
        strangers.append(mailbox.address)
        before, _, behind = parts
        if mailbox.display:
            return f"{before}{own}{behind}"
        comment = _COMMENT.search(f"{before} {behind}")  # the old way of naming: a@b (Alice)
        return f"{phrase(comment[1] if comment else '') or phrase(mailbox.address)} <{own}>"

    colon = text.index(":") + 1
    try:
        readable = bool(addresses.parse_list(text[colon:]))
    except addresses.AddressError:
        readable = False
    if readable:
        return _changed(text, change)
    # What cannot be read cannot be allowed; its text stays readable as the display name.
    return " ".join(filter(None, (text[:colon], phrase(text[colon:]), f"<{own}>\n")))
