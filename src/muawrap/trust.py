"""Files that decide where mail goes or hold a secret: opened once, checked on the open descriptor, read bounded."""

from __future__ import annotations

import errno
import os
import pwd
import stat
from collections.abc import Collection
from typing import NamedTuple

from muawrap.failure import REFUSED, TRY_AGAIN, Failure


class Contents(NamedTuple):
    """What a trusted file holds, and who may read it."""

    octets: bytes
    owner: int  # uid
    mode: int  # permission bits

    @property
    def text(self) -> str:
        """As UTF-8, without the mark some editors put first; other octets survive as surrogate escapes."""
        return self.octets.decode("utf-8-sig", "surrogateescape")


def read(
    path: str, *, limit: int, owners: Collection[int] = (), folder: bool = False, shared: bool = False
) -> Contents:
    """Read a regular file of at most `limit` octets that nobody but its owner may have written.

    owners   uids that may own it; empty: anyone
    folder   the folders that name it must not be writable by others either (sticky ones are fine)
    shared   a group may write to it, only others may not
    Raises FileNotFoundError or NotADirectoryError where there is none, Failure for everything else.
    """
    try:
        # O_NONBLOCK: a fifo must not hold us up before fstat has told it from a file.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    try:
        status = os.fstat(descriptor)
        _check(path, status, owners, shared)
        if folder:
            for place in {os.path.dirname(os.path.abspath(path)), os.path.dirname(os.path.realpath(path))}:
                _check_folder(path, place)
        parts = []
        size = 0
        while part := os.read(descriptor, 1024 * 1024):
            parts.append(part)
            size += len(part)
            if size > limit:
                raise Failure(f"{path} is larger than {limit} octets")
        return Contents(b"".join(parts), status.st_uid, stat.S_IMODE(status.st_mode))
    except OSError as error:
        raise unreadable(path, error) from error
    finally:
        os.close(descriptor)


def must_be_secret(contents: Contents, path: str, what: str) -> None:
    """A file that holds a secret, which `what` names: nobody else wrote it, and whoever else reads it reads root's.

    Raises Failure.
    """
    if contents.mode & 0o022:
        raise Failure(f"the {what} {path} is writable by others", advice=f"chmod go-w {path}")
    if contents.mode & 0o004 and contents.owner != 0:
        raise Failure(f"the {what} {path} is readable by everybody", advice=f"chmod 600 {path}")


def unreadable(path: str, error: Exception) -> Failure:
    """The failure for a file that is there but cannot be read."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    advice = ""
    if isinstance(error, PermissionError):
        advice = _denied(path)
    passing = isinstance(error, OSError) and error.errno in _PASSING
    return Failure(f"cannot read {path}: {reason}", lead=TRY_AGAIN if passing else REFUSED, advice=advice)


def _denied(path: str) -> str:
    """What stands between us and a file: a folder above it, its own modes, or neither of them.

    Who we are is worth telling: cron, php-fpm and systemd run as users that nobody thinks of.
    """
    who = name(os.geteuid())
    path = os.path.abspath(path)
    folder = "/"
    for part in path.split("/")[1:]:
        if not os.access(folder, os.X_OK) and not _modes_allow(folder, stat.S_IXUSR):
            return f"{who} may not enter {folder}"
        folder = os.path.join(folder, part)
    if os.access(path, os.R_OK) or _modes_allow(path, stat.S_IRUSR):
        return f"its modes let {who} read it, so AppArmor or SELinux may be in the way: look at dmesg"
    return f"{who} may not read it: look at its owner and modes"


def _modes_allow(path: str, bit: int) -> bool:
    """Whether the permission bits let us; `bit` is that of the owner. access(2) would ask SELinux, too."""
    try:
        status = os.stat(path)
    except OSError:
        return False
    if status.st_uid != os.geteuid():
        bit >>= 3 if status.st_gid in (os.getegid(), *os.getgroups()) else 6
    return bool(status.st_mode & bit)


_PASSING = (errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ESTALE)
"""Errors that may be gone by the next try."""


def written_by_group(status: os.stat_result) -> bool:
    """Whether a group other than the owner's own may write (RULES D6)."""
    if not status.st_mode & stat.S_IWGRP:
        return False
    try:
        return pwd.getpwuid(status.st_uid).pw_gid != status.st_gid
    except KeyError:
        return True


def name(uid: int) -> str:
    """The login name of a user, or its number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _check(path: str, status: os.stat_result, owners: Collection[int], shared: bool) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Failure(f"{path} is not a regular file")
    if owners and status.st_uid not in owners:
        names = " or ".join(map(name, sorted(owners)))
        raise Failure(f"{path} belongs to uid {status.st_uid}", advice=f"it must belong to {names}")
    if status.st_mode & stat.S_IWOTH or (not shared and written_by_group(status)):
        raise Failure(f"{path} is writable by others", advice=f"chmod go-w {path}")


def _check_folder(path: str, folder: str) -> None:
    status = os.stat(folder)
    if status.st_mode & stat.S_ISVTX:
        return
    if status.st_mode & stat.S_IWOTH or written_by_group(status):
        raise Failure(f"{path} stands in {folder}, which is writable by others", advice=f"chmod go-w {folder}")
