"""Addresses that an MTA has accepted: read more widely than a caller's, and never so that one could end a command."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muawrap import addresses
from muawrap.holding.formats import batchsmtp, envelopes, mailboxes
from muawrap.holding.held import Addressee, Envelope
from muawrap.reading.commands import Refused

TAKEN = {
    "x.@carrier.example": '"x."@carrier.example',
    "a..b@carrier.example": '"a..b"@carrier.example',
    ".x@carrier.example": '".x"@carrier.example',
    ".j\xf6rg@\xf6.example": '".j\xf6rg"@\xf6.example',
    ".x@[192.0.2.1]": '".x"@[192.0.2.1]',
    "a\\@b@x.example": '"a@b"@x.example',
    "a@foo-.example": "a@foo-.example",
    "a@-foo.example": "a@-foo.example",
    "a@x.example.": "a@x.example.",
    '"a b"@foo-.example': '"a b"@foo-.example',
    '""@foo-.example': '""@foo-.example',
}
NEVER = [
    "x.",
    "x.@",
    "x.@a b",
    "x.@a,b",
    "x.@a>,<c@d",
    "x.@a\n",
    "x.@a\r",
    "x.@a\0",
    "x.@a\x7f",
    "x.\n@a",
    "x\\\n@a-.b",
    '"x\ty"@a',
    '"x\\\x01"@a',
    "\udce4.@a",
    "x.@\udce4",
    "x.@a\xa0",
    "x." * 500 + "@a",
    "x.@" + "a" * 256,
]


@pytest.mark.parametrize(("given", "read"), TAKEN.items())
def test_what_mtas_take_is_read_and_can_be_written(given: str, read: str) -> None:
    """RFC 5321, 4.1.2: a local part in quotes is the same mailbox; what should be a domain stays as it is."""
    batch = f"MAIL FROM:<{given}>\nRCPT TO:<{given}>\nDATA\nSubject: x\n\n.\n"
    for octets in (batch.encode(), batch.replace(given, read).encode()):
        [held] = batchsmtp.transactions(iter([octets]))
        assert (held.envelope.sender, held.envelope.recipients) == (read, (Addressee(read),))
    given_out = Envelope(given, (Addressee(given),))
    assert envelopes.writable(given_out) == Envelope(read, (Addressee(read),))


@pytest.mark.parametrize("text", NEVER)
def test_what_could_break_out_or_not_be_sent_is_not_read(text: str) -> None:
    """RFC 5321, 4.1.2: neither control characters nor what is not UTF-8 can be said to a host; nor can a half."""
    for spelled in (text, f"<{text}>"):
        with pytest.raises(addresses.AddressError):
            mailboxes.read(spelled)
        with pytest.raises(Refused):
            mailboxes.path(spelled, True)


@given(st.text('ax.@<>\\"-[],: \t\n\r\0\x7f\xa0\xe9\udce4', max_size=12) | st.text(max_size=12))
def test_whatever_is_read_stays_within_its_brackets(text: str) -> None:
    """RFC 5321, 4.1.1: one line, one path, and read again it is the same."""
    try:
        found = mailboxes.read(text + "@foo-.example")
    except addresses.AddressError:
        return
    assert found.encode()
    assert not any(char < " " or "\x7f" <= char <= "\x9f" for char in found)
    assert mailboxes.read(f"<{found}>") == found
