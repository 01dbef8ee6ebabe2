"""SASLprep (RFC 4013): a user or password in the one spelling that both sides hash."""

from __future__ import annotations

import stringprep
import unicodedata

_PROHIBITED = (
    (stringprep.in_table_c12, "a space beyond ASCII"),
    (stringprep.in_table_c21_c22, "a control character"),
    (stringprep.in_table_c3, "a character of private use"),
    (stringprep.in_table_c4, "a code point that is no character"),
    (stringprep.in_table_c5, "octets that are no UTF-8"),
    (stringprep.in_table_c6, "a character that is not for plain text"),
    (stringprep.in_table_c7, "a character that is not for canonical representation"),
    (stringprep.in_table_c8, "a character that changes how text is displayed"),
    (stringprep.in_table_c9, "a tagging character"),
)
"""RFC 4013, 2.3."""


def prepared(text: str, stored: bool) -> str:
    """The text mapped, normalized and checked; ValueError says in a few words what cannot be in it.

    `stored`: code points that Unicode 3.2 does not know, such as most emoji, are refused (RFC 3454, 7).
    """
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char for char in text if not stringprep.in_table_b1(char)
    )
    found = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    for prohibited, name in _PROHIBITED:
        if any(map(prohibited, found)):
            raise ValueError(f"it holds {name}")
    if stored and any(map(stringprep.in_table_a1, found)):
        raise ValueError("it holds a character that is newer than Unicode 3.2")
    if any(map(stringprep.in_table_d1, found)):  # RFC 3454, 6
        if any(map(stringprep.in_table_d2, found)):
            raise ValueError("it mixes letters that are written from the left and from the right")
        if not (stringprep.in_table_d1(found[0]) and stringprep.in_table_d1(found[-1])):
            raise ValueError("what is written from the right must begin and end so")
    if not found:
        raise ValueError("nothing is left of it")
    return found
