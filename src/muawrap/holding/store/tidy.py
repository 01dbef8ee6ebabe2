"""What has stood in a host's folder too long to be of use: unfinished files, old archives, old lists.

Each says which names it has left alone, because a folder has them that is none of ours.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from muawrap.holding import clock, durable
from muawrap.holding.store import done, scan

UNFINISHED = 36 * 3600
"""Seconds after which a file in tmp/ is rubbish, as in every maildir."""
MONTH = re.compile(r"[0-9]{4}-[0-9]{2}")
"""A folder of the archive."""


def unfinished(folder: int, now: float, keep: float, access: durable.Access) -> Iterator[str]:
    """Of tmp/. Raises OSError."""
    for one in durable.listing(folder):
        if one.is_dir(follow_symlinks=False):
            yield one.name
        elif _is_older(folder, one, now, UNFINISHED):
            durable.unlink(folder, one.name)


def archive(folder: int, now: float, keep: float, access: durable.Access) -> Iterator[str]:
    """Of the archive, `keep` seconds after it was put there, which is when its reason was written. Raises OSError."""
    for month in durable.listing(folder) if keep else ():
        if not MONTH.fullmatch(month.name) or not month.is_dir(follow_symlinks=False):
            continue
        place = durable.opened(month.name, folder)
        try:
            for one in durable.listing(place):
                if one.name.endswith(scan.WHY) and _is_older(place, one, now, keep):
                    name = one.name.removesuffix(scan.WHY)
                    for file in (*scan.files(name), one.name):  # the reason last, which says that there is a message
                        if durable.is_folder(place, file):
                            yield f"{month.name}/{file}"
                        else:
                            durable.unlink(place, file)
        finally:
            os.close(place)
        with suppress(OSError):
            os.rmdir(month.name, dir_fd=folder)  # when it is empty


def lists(folder: int, now: float, keep: float, access: durable.Access) -> Iterator[str]:
    """Of the names of what is done. Raises OSError."""
    for one in durable.listing(folder):
        if one.is_dir(follow_symlinks=False):
            yield one.name
        elif one.name.startswith(done.LIST):
            done.prune(folder, one.name, now, access)
        elif one.name.startswith(f".{done.LIST}"):
            durable.unlink(folder, one.name)  # of a crash: whoever tidies has the lock


FOLDERS: Mapping[str, Callable[[int, float, float, durable.Access], Iterator[str]]] = {
    "tmp": unfinished,
    "archive": archive,
    "done": lists,
}


def _is_older(folder: int, one: os.DirEntry[str], now: float, age: float) -> bool:
    """A file of a time that cannot be counts from now on: machines without a battery wake up in 1970."""
    try:
        written = one.stat(follow_symlinks=False).st_mtime
        if not clock.is_sane(written) or written > now + 86_400:
            os.utime(one.name, (now, now), dir_fd=folder, follow_symlinks=False)
            return False
    except FileNotFoundError:
        return False
    return written < now - age
