"""What octets beyond ASCII are: UTF-8 where they can be, else what the locale says, else nobody knows."""

from __future__ import annotations

import codecs
import locale
import re
from collections.abc import Iterable

UNKNOWN = "unknown-8bit"  # RFC 1428, 3

# Names of nl_langinfo(3) that MIME has, too.
_REGISTERED = ("koi8-r", "koi8-u", "euc-jp", "euc-kr", "gb2312", "gbk", "gb18030", "big5", "big5-hkscs", "tis-620")


def of(blocks: Iterable[bytes]) -> str:
    """The charset of a text by its name in MIME; "" where it is ASCII."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    beyond = False
    try:
        for block in blocks:
            beyond = beyond or not block.isascii()
            decoder.decode(block)
        decoder.decode(b"", True)
    except UnicodeDecodeError:
        return of_the_locale()
    return "utf-8" if beyond else ""


def of_the_locale() -> str:
    """The charset of the caller's locale; UNKNOWN where that is UTF-8, ASCII, or nothing that MIME knows."""
    name = locale.nl_langinfo(locale.CODESET).lower()
    if latin := re.fullmatch(r"iso[-_]?8859[-_]?(\d{1,2})", name):
        return f"iso-8859-{latin[1]}"
    if windows := re.fullmatch(r"cp(125\d)", name):
        return f"windows-{windows[1]}"
    return name if name in _REGISTERED else UNKNOWN
