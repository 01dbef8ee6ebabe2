"""The messages of folders as their directories tell them: oldest first, however many there are."""

from __future__ import annotations

import heapq
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from muawrap.holding import durable
from muawrap.holding.formats import batchsmtp, maildir, mailstore

PASS = 10_000
"""Entries of one look through the directories: few looks, and little memory (INTERMITTENT 6.6)."""
NEXT = ".held"
"""Ends the name of a batch SMTP file that takes the place of a message in another format, the rest of its name."""
WHY = ".why"
"""Ends the name of the file that says why the message beside it was put aside."""
_MAILDIR = re.compile(r"[0-9]{1,20}\.[A-Z][^/]*")  # <seconds>.M<microseconds>P<pid>.<host>


class Entry(NamedTuple):
    """A message in the folder, as far as its directory tells: nothing of it has been read."""

    name: str  # of its file; of a mailstore pair that of the .env; also that of its journal and its retry record
    format: str  # bsmtp, mailstore, maildir
    size: int  # octets of the file; of a mailstore pair those of the .msg
    mtime: float  # seconds since the epoch
    inode: int  # another one once it is rewritten: a journal can tell whether it is about this file
    place: str = "new"  # or cur, failed, archive/YYYY-MM


def format_of(name: str) -> str:
    """The format of the message whose file has this name, "" where it is none, or none yet, or its second file."""
    if not batchsmtp.ready(name) or name.endswith(WHY):
        return ""
    if name.endswith((".env", ".msg")):
        return "mailstore" if mailstore.ready(name) else ""
    return "maildir" if _MAILDIR.fullmatch(name) and not name.endswith(NEXT) else "bsmtp"


def files(name: str) -> tuple[str, ...]:
    """All files of the message whose file has this name, in the order in which they are removed."""
    return FORMATS.get(format_of(name), batchsmtp.files)(name)


FORMATS: Mapping[str, Callable[[str], tuple[str, ...]]] = {
    "bsmtp": batchsmtp.files,
    "mailstore": mailstore.files,
    "maildir": maildir.files,
}


def ordered(places: Sequence[tuple[str, int]]) -> Iterator[Entry]:
    """What stands in these folders, oldest first. Raises OSError.

    A mailstore pair is told as soon as one of its files is there: see `completed`.
    """
    last: tuple[int, str, str] = (-1 << 63, "", "")
    while True:
        found = heapq.nsmallest(PASS, (one for one in _all(places) if one[:3] > last))
        for mtime, place, name, size, inode in found:
            yield Entry(name, format_of(name), size, mtime / 1e9, inode, place)
        if len(found) < PASS:
            return
        last = found[-1][:3]


def total(places: Sequence[tuple[str, int]]) -> tuple[int, int]:
    """How many messages stand in these folders, and their octets. Raises OSError."""
    count = octets = 0
    folders = dict(places)
    for mtime, place, name, size, inode in _all(places):
        found = completed(Entry(name, format_of(name), size, mtime / 1e9, inode, place), folders)
        if found is not None:
            count, octets = count + 1, octets + found.size
    return count, octets


def _all(places: Sequence[tuple[str, int]]) -> Iterator[tuple[int, str, str, int, int]]:
    for place, folder in places:
        for one in durable.listing(folder):
            if not format_of(one.name):
                continue
            try:
                status = one.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # somebody was faster
            if stat.S_ISREG(status.st_mode):
                yield status.st_mtime_ns, place, one.name, status.st_size, status.st_ino


def completed(entry: Entry, places: Mapping[str, int]) -> Entry | None:
    """The entry with the size of its text; None where half of a pair is missing, or another file took its place."""
    if entry.format == "bsmtp":
        return entry
    next_name = entry.name + NEXT
    if "new" in places and durable.exists(places["new"], next_name) and not durable.is_folder(places["new"], next_name):
        return None
    if entry.format == "maildir":
        return entry
    try:
        status = os.stat(mailstore.files(entry.name)[1], dir_fd=places[entry.place], follow_symlinks=False)
    except FileNotFoundError:
        return None
    return entry._replace(size=status.st_size)
