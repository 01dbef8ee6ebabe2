"""Files in folders held open: written whole and on disk or not at all, and folders that nobody else can reach into."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from muawrap.failure import TRY_AGAIN, Failure

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMLINK)
_NO_RIGHT = (errno.EACCES, errno.EPERM)
_NO_LINKS = (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)


class Access(NamedTuple):
    """Whose the files and folders made here are, and what they may be used for."""

    folder: int  # mode
    file: int
    uid: int = -1  # they are given to; -1: they are right from the start
    gid: int = -1

    def give(self, descriptor: int, mode: int) -> None:
        """What has just been made gets its owner and its mode, whatever the umask. Raises OSError."""
        if (self.uid, self.gid) != (-1, -1):
            os.fchown(descriptor, self.uid, self.gid)
        os.fchmod(descriptor, mode)


PRIVATE = Access(0o700, 0o600)
SHARED = Access(0o2770, 0o660)  # with the MTA's group


# -- trouble --------------------------------------------------------------------------------------------------------


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Where an OSError is a Failure to read `path`."""
    try:
        yield
    except OSError as error:
        raise Failure(f"{path} cannot be read: {reason(error)}", lead=TRY_AGAIN, advice=_way_out(error)) from error


@contextmanager
def writing(path: str) -> Iterator[None]:
    """Where an OSError is a Failure to write to `path`."""
    try:
        yield
    except OSError as error:
        raise Failure(f"{path} cannot be written: {reason(error)}", lead=TRY_AGAIN, advice=_way_out(error)) from error


def is_full(failure: Failure) -> bool:
    """Whether it is room that was missing."""
    return isinstance(failure.__cause__, OSError) and failure.__cause__.errno in _NO_ROOM


def reason(error: OSError) -> str:
    """Why, to go on with in a sentence."""
    text = error.strerror or str(error)
    return text if text[:2].isupper() else text[:1].lower() + text[1:]


def _way_out(error: OSError) -> str:
    if error.errno in _NO_ROOM:
        return "make room on its file system"
    if error.errno == errno.EROFS:
        return "its file system has to be mounted for writing; dmesg may tell why it is not"
    if error.errno in _NO_RIGHT:
        return f"it must belong to {user()}, or to a group of that user which may write to it"
    return "look at the disk that holds it, and at dmesg" if error.errno == errno.EIO else ""


def user() -> str:
    """Who we are, by name where there is one."""
    uid = os.geteuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def group() -> str:
    """Our group, by name where there is one."""
    gid = os.getegid()
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


# -- folders --------------------------------------------------------------------------------------------------------


def opened(path: str, below: int | None = None) -> int:
    """A folder to which nobody can write but root, we, and groups we belong to; `below`: its last name in there.

    Raises FileNotFoundError where there is none, Failure for everything else.
    """
    name = path if below is None else os.path.basename(path)
    try:
        place = os.open(name, FOLDER | os.O_NOFOLLOW, dir_fd=below)
    except FileNotFoundError:
        raise
    except NotADirectoryError as error:  # a symbolic link, too
        raise Failure(f"{path} is no folder", advice="remove it, and the folder is made where it stood") from error
    except OSError as error:
        raise Failure(f"{path} cannot be read: {reason(error)}", lead=TRY_AGAIN, advice=_way_out(error)) from error
    try:
        _check(path, os.fstat(place))
    except BaseException:
        os.close(place)
        raise
    return place


def _check(path: str, status: os.stat_result) -> None:
    """Raises Failure where somebody we have nothing to do with may write."""
    if status.st_mode & stat.S_IWOTH:
        raise Failure(f"{path} is writable by everybody", advice=f"chmod o-w {path}")
    us = os.geteuid()
    if us == 0 or status.st_uid in (0, us) or status.st_gid in (os.getegid(), *os.getgroups()):
        return
    raise Failure(
        f"{path} belongs to uid {status.st_uid} and gid {status.st_gid}",
        advice=f"it must belong to {user()}, or to a group of that user which may write to it",
    )


def made(path: str, below: int | None, access: Access) -> int:
    """The same, made where it is missing, and then on disk. Raises OSError and Failure."""
    try:
        return opened(path, below)
    except FileNotFoundError:
        pass
    with suppress(FileExistsError):
        os.mkdir(path if below is None else os.path.basename(path), 0o700, dir_fd=below)
    place = opened(path, below)
    if os.fstat(place).st_uid == os.geteuid():
        access.give(place, access.folder)
    above = os.open("..", FOLDER, dir_fd=place)
    try:
        settle(above)
    finally:
        os.close(above)
    return place


def access_of(folder: int, plain: Access) -> Access:
    """How files are made so that whoever shares the folder can use them: root makes its owner theirs."""
    status = os.fstat(folder)
    uid = status.st_uid if os.geteuid() == 0 and status.st_uid != 0 else -1
    inherited = status.st_mode & stat.S_ISGID or status.st_gid == os.getegid()
    gid = -1 if inherited and uid == -1 else status.st_gid
    return plain._replace(uid=uid, gid=gid)


def listing(folder: int) -> Iterator[os.DirEntry[str]]:
    """What stands in it, in no order; several may be under way at once. Raises OSError."""
    place = os.open(".", FOLDER, dir_fd=folder)
    try:
        with os.scandir(place) as found:
            yield from found
    finally:
        os.close(place)


# -- files ----------------------------------------------------------------------------------------------------------


def write(folder: int, name: str, blocks: Iterable[bytes], access: Access) -> None:
    """A new file, whole and on disk, or none; its name is not on disk yet. Raises OSError, and what blocks raise."""
    file = os.open(name, _NEW, 0o600, dir_fd=folder)
    try:
        try:
            access.give(file, access.file)
            for block in blocks:
                _all(file, block)
            os.fsync(file)
        finally:
            os.close(file)
    except BaseException:
        with suppress(OSError):
            os.unlink(name, dir_fd=folder)
        raise


def append(folder: int, name: str, octets: bytes, access: Access) -> None:
    """More at the end of a file, made where it is missing; on disk, too. Raises OSError."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        file = os.open(name, flags, dir_fd=folder)
        is_new = False
    except FileNotFoundError:  # what is put there meanwhile is not ours to be given away
        file = os.open(name, flags | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
        is_new = True
    try:
        if is_new:
            access.give(file, access.file)
        _own(file)
        _all(file, octets)
        os.fsync(file)
    finally:
        os.close(file)
    if is_new:
        settle(folder)


def read(folder: int, name: str, limit: int) -> bytes:
    """A regular file of at most `limit` octets. Raises OSError."""
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        parts = []
        while part := os.read(file, 1024 * 1024):
            parts.append(part)
            limit -= len(part)
            if limit < 0:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return b"".join(parts)
    finally:
        os.close(file)


def link(source: int, name: str, target: int, new_name: str) -> bool:
    """Give a file one more name, or another one where there are no links; False where that name is taken.

    Raises OSError.
    """
    try:
        os.link(name, new_name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if exists(target, new_name):
            return False
        os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)
    return True


def target(folder: int, name: str, access: Access) -> int:
    """A file that is there for its name, made where it is missing; a descriptor of it. Raises OSError."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        file = os.open(name, flags | os.O_EXCL, 0o600, dir_fd=folder)
    except FileExistsError:
        return os.open(name, flags, 0o600, dir_fd=folder)
    access.give(file, access.file)
    return file


def exists(folder: int, name: str) -> bool:
    """Whether there is anything of this name. Raises OSError where that cannot be told."""
    return inode(folder, name) != 0


def inode(folder: int, name: str) -> int:
    """That of what has this name, 0 where nothing has. Raises OSError where that cannot be told."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_ino
    except FileNotFoundError:
        return 0


def is_folder(folder: int, name: str) -> bool:
    """Whether what has this name is one. Raises OSError where that cannot be told."""
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def unlink(folder: int, name: str) -> None:
    """Remove a name; one that is gone is gone. Raises OSError."""
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


def settle(folder: int) -> None:
    """Have the names in a folder on disk. Raises OSError."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that has nothing to do for it
            raise


def _own(file: int) -> None:
    """Raises OSError for what is no file, and for one that also stands where others would not let us write."""
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    if status.st_nlink > 1:
        raise OSError(errno.EINVAL, "it has another name elsewhere")


def _all(file: int, octets: bytes) -> None:
    view = memoryview(octets)
    while view:
        view = view[os.write(file, view) :]
