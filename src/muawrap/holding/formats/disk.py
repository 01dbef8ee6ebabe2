"""Message files in a folder of many: opened without following a link, written whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple

from muawrap.failure import Failure
from muawrap.holding import durable
from muawrap.mail import BLOCK, Body
from muawrap.reading.message import as_it_is

HEAD = 4096  # octets that hold nearly every envelope
_LATEST = 253_402_300_800  # the year 10000: a time beyond is a clock's or a disk's mistake
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NO_FILE = (errno.ELOOP, errno.ENXIO, errno.ENODEV)  # how open(2) says of a link, a socket, a device that it is none


class Opened(NamedTuple):
    """A regular file that is open for reading."""

    descriptor: int
    mtime: float  # seconds since the epoch; 0 where no calendar has it

    def blocks(self, size: int = BLOCK) -> Iterator[bytes]:
        """The octets from the current offset on, first `size` of them. Raises OSError."""
        while block := os.read(self.descriptor, size):
            yield block
            size = BLOCK


def ready(name: str) -> bool:
    """Whether a file of this name is finished: Exim begins others with "temp.", and ends them with ".tmp"."""
    return not name.startswith((".", "temp.")) and not name.endswith(".tmp")


@contextmanager
def opened(folder: int, name: str) -> Iterator[Opened]:
    """A file of the folder. Raises Failure, also for what goes wrong while it is read, and names it there."""
    with durable.reading(name):
        try:
            descriptor = os.open(name, _READ, dir_fd=folder)
        except OSError as error:
            if error.errno in _NO_FILE:
                raise Failure(f"{name} is not a regular file") from error
            raise
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Failure(f"{name} is not a regular file")
            yield Opened(descriptor, sane(status.st_mtime))
        finally:
            os.close(descriptor)


def text(name: str, file: Opened) -> tuple[bytes, Body]:
    """Header block and body from the current offset on. Raises Failure, and names the file there, and OSError."""
    try:
        return as_it_is(file.blocks())
    except Failure as failure:
        raise Failure(f"{name}: {failure}", lead=failure.lead, advice=failure.advice) from failure


def sane(at: float) -> float:
    """A time that can be written down, or 0."""
    return at if 0 <= at < _LATEST else 0


class Writing:
    """Files that stay together: all of them, or none where `done` is not reached. Raises OSError.

    with Writing() as writing:
        writing.file(folder, "x.tmp", blocks)
        writing.rename(folder, "x.tmp", folder, "x")
        writing.done(folder)
    """

    def __init__(self) -> None:
        self._undo = ExitStack()

    def __enter__(self) -> Writing:
        return self

    def __exit__(self, *exception: object) -> None:
        self._undo.close()  # the last name first

    def file(self, folder: int, name: str, blocks: Iterable[bytes], at: float = 0) -> None:
        """A new file, its octets on disk; `at` is its mtime, unless 0. Raises OSError, and what blocks raise."""
        durable.write(folder, name, blocks, durable.SHARED)
        self._undo.callback(_forget, folder, name)
        if at := sane(at):
            os.utime(name, (at, at), dir_fd=folder, follow_symlinks=False)

    def rename(self, source: int, name: str, target: int, new_name: str) -> None:
        """Give a file its last name. Raises OSError."""
        os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)
        self._undo.callback(_forget, target, new_name)

    def done(self, folder: int) -> None:
        """Have the names in the folder on disk, for good. Raises OSError."""
        durable.settle(folder)
        self._undo.pop_all()


def _forget(folder: int, name: str) -> None:
    with suppress(OSError):
        os.unlink(name, dir_fd=folder)


@contextmanager
def below(folder: int, name: str) -> Iterator[int]:
    """A folder in the folder. Raises OSError."""
    place = os.open(name, durable.FOLDER | os.O_NOFOLLOW, dir_fd=folder)
    try:
        yield place
    finally:
        os.close(place)
