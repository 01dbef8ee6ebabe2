"""The header block as the caller wrote it, turned into the one that leaves under a given envelope sender."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import NamedTuple

from muawrap import addresses
from muawrap.mail import Header

_ENCODED_LIMIT = 45  # octets of UTF-8 in one encoded-word, so that it stays within 75 characters (RFC 2047, 2)


class Edits(NamedTuple):
    """All that decides how a header block changes; equal edits make equal header blocks."""

    sender: str  # full address for a missing or bare From:, never empty
    full_name: str  # for a From: that is added
    domain: str  # for bare addresses in Reply-To:, To: and Cc:
    add_missing: bool  # From:, Date:, Message-ID:
    date: str
    message_id: str
    may_pass: Callable[[str], bool] | None  # may this address stand in From:? None: all may
    host_local: frozenset[str]
    add_headers: tuple[str, ...] = ()
    remove_headers: tuple[str, ...] = ()


def apply(headers: tuple[Header, ...], edits: Edits) -> tuple[bytes, bool]:
    """The header block, lines ended by LF, and whether a From: was rewritten (RULES F3, F9, F10).

    What needs no change keeps its octets and its place; what is added comes last.
    """
    fields = []
    rewritten = False
    replies = any(header.name == "reply-to" for header in headers)
    reply_to = ""
    for header in headers:
        if header.name in edits.remove_headers:
            continue
        text = header.octets.decode("utf-8", "surrogateescape")
        if header.name in ("from", "sender"):
            text = _complete(text, lambda box, raw: _as_sender(box, raw, edits.sender))
        elif header.name in ("reply-to", "to", "cc"):
            text = _complete(text, lambda box, raw: _qualified(box, raw, edits.domain))
        if header.name == "from" and edits.may_pass is not None:
            text, old = _rewrite_from(text, edits)
            if old:
                rewritten = True
                if not replies and not _of_this_host(old, edits.host_local):
                    reply_to = old
        fields.append(text)
    if reply_to:
        fields.append(f"Reply-To: {reply_to}\n")
    names = {header.name for header in headers} - set(edits.remove_headers)
    if edits.add_missing:
        if "from" not in names:
            name = phrase(edits.full_name)
            fields.append(f"From: {name} <{edits.sender}>\n" if name else f"From: {edits.sender}\n")
        if "date" not in names:
            fields.append(f"Date: {edits.date}\n")
        if "message-id" not in names:
            fields.append(f"Message-ID: {edits.message_id}\n")
    fields += [line + "\n" for line in edits.add_headers]
    return "".join(fields).encode("utf-8", "surrogateescape"), rewritten


def mailboxes(headers: tuple[Header, ...], name: str) -> list[addresses.Mailbox]:
    """The mailboxes of the first field of that name; none where it is missing or no address list."""
    for header in headers:
        if header.name == name:
            try:
                return addresses.parse_list(header.value)
            except addresses.AddressError:
                return []
    return []


def date(now: float) -> str:
    """RFC 5322, 3.3, in local time; far-off clocks fall back on what can be written."""
    try:
        return time.strftime("%a, %d %b %Y %H:%M:%S %z", time.localtime(now))
    except (OverflowError, ValueError, OSError):
        return "Thu, 01 Jan 1970 00:00:00 +0000"


def phrase(name: str) -> str:
    """A display name for a header field: atoms, a quoted-string, or encoded-words where it is not ASCII (RFC 2047)."""
    name = " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", name).split())
    if not name:
        return ""
    if name.isascii():
        return addresses.phrase(name)
    import base64

    words = []
    part = b""
    for char in name:
        octets = char.encode("utf-8", "replace")
        if len(part) + len(octets) > _ENCODED_LIMIT:
            words.append(part)
            part = b""
        part += octets
    words.append(part)
    return "\n ".join(f"=?utf-8?B?{base64.b64encode(word).decode('ascii')}?=" for word in words)


def _complete(text: str, change: Callable[[addresses.Mailbox, str], str]) -> str:
    """The field with each bare mailbox replaced; a field that is no address list stays as it is."""
    colon = text.index(":") + 1
    value = text[colon:]
    try:
        found = addresses.parse_list(value)
    except addresses.AddressError:
        return text
    for mailbox in reversed(found):
        if not mailbox.domain:
            changed = change(mailbox, value[mailbox.first : mailbox.last])
            value = value[: mailbox.first] + changed + value[mailbox.last :]
    return text[:colon] + value


def _as_sender(mailbox: addresses.Mailbox, raw: str, sender: str) -> str:
    """`root (Cron Daemon)` as `"root (Cron Daemon)" <sender>`; `Cron <root>` as `Cron <sender>` (RULES F9)."""
    return f"{mailbox.display or addresses.phrase(raw)} <{sender}>"


def _qualified(mailbox: addresses.Mailbox, raw: str, domain: str) -> str:
    """The bare name gets a domain; what stands around it stays (RULES F9)."""
    after = mailbox.end - mailbox.first
    return f"{raw[:after]}@{domain}{raw[after:]}"


def _rewrite_from(text: str, edits: Edits) -> tuple[str, str]:
    """A From: with every address that may not pass replaced by the sender, and the first of them (RULES F10)."""
    colon = text.index(":") + 1
    value = text[colon:]
    old = ""
    try:
        found = addresses.parse_list(value)
    except addresses.AddressError:
        found = []
        if edits.may_pass is not None and not edits.may_pass(""):
            # What cannot be read cannot be allowed; its text stays readable as the display name.
            return f"{text[:colon]} {phrase(value)} <{edits.sender}>\n", ""
    for mailbox in reversed(found):
        if edits.may_pass is None or edits.may_pass(mailbox.address):
            continue
        old = mailbox.address
        display = mailbox.display or _comment_name(value, mailbox) or phrase(mailbox.address)
        value = f"{value[: mailbox.first]}{display} <{edits.sender}>{value[mailbox.last :]}"
    return text[:colon] + value, old


def _comment_name(value: str, mailbox: addresses.Mailbox) -> str:
    """The old way of naming: `a@b (Alice)` says "Alice"."""
    comment = re.search(r"\(([^()\\]*)\)", value[mailbox.end : mailbox.last])
    return phrase(comment[1]) if comment and comment[1].strip() else ""


def _of_this_host(address: str, host_local: frozenset[str]) -> bool:
    return addresses.split(address)[1].lower() in host_local
