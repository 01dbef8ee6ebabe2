"""The error names of Exim's retry rules, and which of them covers which.

    *                                       anything
    auth_failed lookup lost_connection tls_required
    mail_4xx rcpt_4xx data_4xx              also 45x and 452: a general code covers the special ones, never the reverse
    refused timeout timeout_connect         each also with _A or _MX: how the host had been found
    quota quota_TIME                        the mailbox has not been read for that long, or longer

Names have no case. Exim compares them by prefix, so that "l" is lost_connection; here they are written out
(INTERMITTENT 3.1). To Exim an event named 4xx is 421, too, and 45x is 454: it stores "any" as a code. No reply has one.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from muawrap import schema
from muawrap.addresses import excerpt
from muawrap.failure import Failure

UNITS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
"""Seconds in each unit of time, the largest first."""
LONGEST = 2**31 - 1
"""Seconds: Exim counts them in 31 bits, and what goes beyond wraps around."""

_SIMPLE = ("*", "auth_failed", "lookup", "lost_connection", "tls_required")
_BY_HOST = ("refused", "timeout", "timeout_connect")
_BY_CODE = ("mail", "rcpt", "data")
_KNOWN = (
    *_SIMPLE,
    *(name + ending for name in _BY_HOST for ending in ("", "_A", "_MX")),
    *(f"{name}_4xx" for name in _BY_CODE),
    "quota",
)
_NO_LONGER = "timeout_dns"
_CODE = re.compile(r"(mail|rcpt|data)_4(xx|[0-9]x|[0-9][0-9])", re.IGNORECASE)
_PRINTED = ("quota", "refused", "timeout", "timeout_connect", "auth_failed")


class Error(NamedTuple):
    """What went wrong, or what a rule is for."""

    kind: str  # "*", one of the names above without its ending, or mail, rcpt, data
    host: str = ""  # "A" or "MX"; "" is either
    code: str = ""  # the last two digits of a reply 4yz, an x for any
    unread: int = 0  # seconds since a mailbox over quota has been read

    def covers(self, event: Error) -> bool:
        """Whether a rule for this error is one for that event, too."""
        if self.kind == "*":
            return True
        if self.kind == "timeout" and event.kind == "timeout_connect":
            event = event._replace(kind="timeout")
        return (
            self.kind == event.kind
            and self.host in ("", event.host)
            and all(wanted in ("x", given) for wanted, given in zip(self.code, event.code, strict=True))
            and self.unread <= event.unread
        )

    def printed(self) -> str:
        """As `exim -brt` prints it, which knows the names of a few kinds only."""
        if self.kind not in _PRINTED:
            return "*"
        ending = self.host or (duration(self.unread) if self.unread else "")
        return f"{self.kind}_{ending}" if ending else self.kind


def error(name: str) -> Error:
    """The error with this name; "" is one that no rule names. Raises Failure."""
    known = {one.lower(): one for one in _KNOWN}
    word = name.lower() if name else "*"
    if match := _CODE.fullmatch(name):
        return Error(match[1].lower(), code=match[2].lower())
    if word.startswith("quota_"):
        return Error("quota", unread=seconds(name[len("quota_") :], zero=True))
    if word == _NO_LONGER:
        return Error("timeout")
    if word not in known:
        near = schema.nearest(word, known)
        advice = f"did you mean {known[near]}?" if near else f"the names are {', '.join(_KNOWN)}"
        raise Failure(f"there is no error {excerpt(name)} that a retry rule could be for", advice=advice)
    kind, _, host = known[word].rpartition("_")
    return Error(kind, host) if host in ("A", "MX") else Error(known[word])


def is_no_longer(name: str) -> bool:
    """Whether Exim accepts this name only so that old files can be read: it means "timeout"."""
    return name.lower() == _NO_LONGER


# -- times ----------------------------------------------------------------------------------------------------------


def seconds(text: str, *, zero: bool = False) -> int:
    """A time such as "1d12h", in seconds: units in any order, repeated ones add up. Raises Failure."""
    if not re.fullmatch(r"(?:[0-9]{1,10}[wdhms])+", text):
        raise Failure(
            f"{excerpt(text)} is no time", advice="write it like 15m or 1d12h, with the units w, d, h, m and s"
        )
    total = sum(int(number) * UNITS[unit] for number, unit in re.findall(r"([0-9]+)([wdhms])", text))
    if total > LONGEST:
        raise Failure(f"the time {excerpt(text)} is longer than {duration(LONGEST)}")
    if not total and not zero:
        raise Failure(f"the time {excerpt(text)} must be more than nothing")
    return total


def duration(span: float) -> str:
    """Whole seconds as Exim writes a time, in as few units as it takes: "1d12h"."""
    left = int(span)
    parts = []
    for unit, size in UNITS.items():
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
