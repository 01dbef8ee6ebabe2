"""What must hold whatever came in: of a sentence, an address, a log line, a text on the wire."""

from __future__ import annotations

import re

from muawrap import addresses, report
from muawrap.failure import REFUSED, TRY_AGAIN, UNCERTAIN, Failure
from muawrap.submission import sasl

_PRINTABLE = re.compile(r"[ -~]*")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_PAIR = re.compile(r' error=(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s"\\]+))')


def told(failure: Failure) -> str:
    """A failure's sentence: printable, with a lead, and a log line repeats it (RULES A3, RELIABILITY I8, I9)."""
    assert failure.lead in (TRY_AGAIN, REFUSED, UNCERTAIN)
    sentence = f"{failure.sentence()} ({failure.advice})"
    assert failure.sentence().strip()
    assert _PRINTABLE.fullmatch(report.printable(sentence))
    logged(sentence)
    return sentence


def tells_nothing(told: list[str], password: str) -> None:
    """Nobody is told the password, in none of the forms in which a server could repeat it (RELIABILITY T7)."""
    octets = password.encode("utf-8", "surrogateescape")
    for line in told:
        for form in octets.decode("utf-8", "backslashreplace"), sasl.encode(octets), octets.hex():
            assert form.lower() not in line.lower(), line


def logged(*values: str) -> None:
    """Values in a log line come back as they were, unless they had to be cut (RELIABILITY I8)."""
    for value in values:
        line = report.paired("sent", [("error", value)])
        assert _PRINTABLE.fullmatch(line)
        assert len(line) < report.LINE_LIMIT
        if not value:
            assert line == "sent"
            continue
        pair = _PAIR.fullmatch(line, len("sent"))
        assert pair
        read = pair["plain"] or pair["quoted"].encode("ascii").decode("unicode_escape")
        assert read == value or (read.endswith("...") and value.startswith(read[:-3]))


def envelope(address: str) -> None:
    """An address that may go into MAIL or RCPT (RELIABILITY I1)."""
    address.encode("utf-8")
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\r\n]", address), address
    assert not set(_QUOTED.sub("", address)) & set(' <>"\\,;()'), address


def mailboxes(text: str) -> list[addresses.Mailbox]:
    """The mailboxes of a text: each goes into an envelope, is read from where it says, and reads again as itself.

    Raises AddressError for a text that holds none that could be read.
    """
    found = addresses.parse_list(text)
    behind = 0
    for box in found:
        envelope(box.address)
        assert addresses.split(box.address) == (box.local, box.domain)
        again = addresses.parse_one(box.address)
        assert again.address == box.address
        assert addresses.same(box.address, again.address)
        assert behind <= box.first <= box.start < box.end <= box.last <= len(text)
        behind = box.last
        assert addresses.parse_one(text[box.start : box.end]).address == box.address
        assert addresses.parse_one(text[box.first : box.last]).address == box.address
        assert box.display in text
        named = addresses.parse_one(f"{addresses.phrase(box.display)} <{box.address}>")
        assert named.address == box.address
    return found


def wire(octets: bytes) -> None:
    """Text as DATA sends it: lines ended by CRLF, no CR or LF alone, one end (RULES F1, RELIABILITY I5)."""
    assert octets.endswith(b"\r\n.\r\n")
    assert octets.count(b"\r\n.\r\n") == 1
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", octets)
