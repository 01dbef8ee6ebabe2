"""What is done, remembered for a week by name, so that an MTA that asks again is told so (INTERMITTENT 6.3).

Names given by hold to what its caller has a name for begin with "id-"; only these can come again. Each stands with the
time in one of 256 lists, by what its name goes on with, so that looking one up reads little, however many there are.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress

from muawrap.holding import clock, durable

NAMED = "id-"
_GIVEN = re.compile(rf"{NAMED}[!-.0-~]+")  # one printable word: a name stands in a line of a list
DAYS = 7
LIST = "list."
_LIMIT = 64 * 1024 * 1024  # octets of a list: a hundred million messages a week


def is_remembered(name: str) -> bool:
    """Whether a message of this name may be given to us once more."""
    return _GIVEN.fullmatch(name) is not None


def add(folder: int, name: str, access: durable.Access) -> None:
    """Remember it, on disk. Raises OSError."""
    # The line end first: the line before may be torn, by a crash.
    durable.append(folder, list_of(name), f"\n{name} {int(clock.now())}\n".encode(), access)


def has(folder: int, name: str) -> bool:
    """Whether it is remembered. Raises OSError."""
    if not is_remembered(name):
        return False
    try:
        return f"\n{name} ".encode() in durable.read(folder, list_of(name), _LIMIT)
    except FileNotFoundError:
        return False


def list_of(name: str) -> str:
    """The list in which it would stand."""
    return LIST + name.removeprefix(NAMED)[:2]


def prune(folder: int, name: str, now: float, access: durable.Access) -> None:
    """Forget what is older than DAYS. Raises OSError."""
    lines = durable.read(folder, name, _LIMIT).splitlines()
    kept = {}
    for line in lines:
        word, _, when = line.partition(b" ")
        if not when.isdigit():
            continue
        then = int(when)
        if not clock.is_sane(then) or then > now:
            then = int(now)  # a clock was wrong: it counts from today on
        if then > now - DAYS * 86_400:
            kept[word] = then
    if len(kept) < sum(map(bool, lines)):
        temporary = f".{name}.{os.getpid()}"
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        text = b"".join(b"\n%s %d\n" % pair for pair in kept.items())
        durable.write(folder, temporary, [text], access)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
