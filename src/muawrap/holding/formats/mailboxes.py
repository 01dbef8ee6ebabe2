"""Addresses that an MTA has accepted, read more widely than sendmail reads those of its callers.

It is too late to refuse them: mail would be stuck, or bounced to its sender. A local part that needs quotes and came
without, as x.@ and a..b@ of Japanese carriers, gets them, and is the same mailbox (RFC 5321, 4.1.2). What should be a
domain is taken as it is, and the host that hears it decides. Nothing is taken that could end a command or a path.
"""

from __future__ import annotations

import re

from muawrap import addresses
from muawrap.reading import commands

_CHAR = r'[^\x00-\x20"(),.:;<>@\[\\\]\x7f-\xa0\ud800-\udfff]'
_DOT_ATOM = rf"{_CHAR}+(?:\.{_CHAR}+)*"  # RFC 5322, 3.2.3
_QUOTED = r'"((?:[^"\\\x00-\x1f\x7f-\x9f\ud800-\udfff]|\\[ -~])*)"'
_UNQUOTED = rf"(?:{_CHAR}|\.|\\[!-~])+"  # RFC 821 has the backslash outside quotes, too
_DOMAIN = rf"(?:{_CHAR}|\.)+|\[[A-Za-z0-9.:-]+\]"
# Compiled when it is met, by way of the cache that re keeps.
_MAILBOX = rf"[ \t]*(<)?(?:{_QUOTED}|({_UNQUOTED}))@({_DOMAIN})(?(1)>)[ \t]*"


def read(text: str, *, null: bool = False) -> str:
    """One mailbox; with `null`, "<>" is the null sender. Raises AddressError."""
    try:
        return addresses.parse_one(text, null=null).address
    except addresses.AddressError:
        if found := _widely(text):
            return found
        raise


def path(text: str, null: bool) -> str:
    """The same where it follows MAIL or RCPT, as muawrap.reading.commands.address. Raises Refused."""
    try:
        return commands.address(text, null)
    except commands.Refused:
        if found := _widely(text):
            return found
        raise


def quoted(local: str) -> str:
    """A local part in the quotes that it needs."""
    if re.fullmatch(_DOT_ATOM, local):
        return local
    return '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _widely(text: str) -> str:
    """A mailbox with a domain, "" where it is none however it is read."""
    parts = re.fullmatch(_MAILBOX, text)
    if parts is None:
        return ""
    domain = parts[4]
    found = addresses.join(quoted(addresses.unescaped(parts[2] or parts[3] or "")), domain)
    fits = len(found.encode()) <= addresses.MAILBOX_LIMIT and len(domain.encode()) <= addresses.DOMAIN_LIMIT
    return found if fits else ""
