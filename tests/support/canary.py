"""The password of all tests, looked for in every byte that the program says: it may stand in none of them."""

from __future__ import annotations

import base64

CANARY = "s3cret"


def forms(secret: str) -> frozenset[bytes]:
    """The secret as it is, in hexadecimal, and in base64 wherever it stands among other octets."""
    octets = secret.encode()
    found = {octets, octets.hex().encode(), octets.hex().upper().encode()}
    for before in range(3):
        text = base64.b64encode(b"\0" * before + octets)
        whole = slice(-(-before * 8 // 6), (before + len(octets)) * 8 // 6)  # the characters that depend on it alone
        found.add(text[whole])
    return frozenset(found)


FORMS = forms(CANARY)


def leaks(octets: bytes) -> list[bytes]:
    """In which forms the password of the tests stands there."""
    return sorted(form for form in FORMS if form in octets)


searched = 0
"""Outputs and logs that were looked through in this run of the tests."""


def assert_silent(*said: bytes) -> None:
    """None of this tells the password."""
    global searched
    for octets in said:
        searched += 1
        assert not leaks(octets), f"the password is told: {octets!r}"
