"""The folders of one host, opened when they are needed and made where they are missing (INTERMITTENT 6.1)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from typing import TypeVar

from muawrap import report
from muawrap.failure import TRY_AGAIN, Failure
from muawrap.holding import durable
from muawrap.holding.settings import OUTBOX, Keeper

Self = TypeVar("Self", bound="Folders")


class Folders:
    """A host's folder and those in it."""

    def __init__(self, keeper: Keeper, facts: report.Facts | None = None, make: bool = True) -> None:
        """Open it, and make it where it is missing; without `make` a folder that is missing is empty. Raises Failure.

        `facts` say where the log is, for files that are damaged and count as none. The outbox is nobody else's.
        """
        self.keeper = keeper
        self.path = keeper.folder
        self._facts = facts or report.Facts()
        self._open: dict[str, int] = {}
        self._named_once: set[str] = set()  # paths of what is damaged, or in our way
        self._access = durable.PRIVATE if keeper.name == OUTBOX else durable.SHARED
        try:
            self._open[""] = durable.opened(self.path)
        except FileNotFoundError:
            if make:
                self._open[""] = _host_folder(self.path, self._access)
        if self.there:
            with durable.reading(self.path):
                self._access = durable.access_of(self._open[""], self._access)
            if keeper.name == OUTBOX:
                self._must_be_ours()

    def _must_be_ours(self) -> None:
        """What is in the outbox leaves with the accounts of its owner. Raises Failure."""
        status = os.fstat(self._open[""])
        if status.st_uid != os.geteuid():
            self.close()
            raise Failure(f"{self.path} belongs to uid {status.st_uid}", advice=f"it must belong to {durable.user()}")

    @property
    def there(self) -> bool:
        """Whether there is a folder at all."""
        return "" in self._open

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it; what matters is on disk by then."""
        self._let_go("")

    def _let_go(self, begins: str) -> None:
        """Of its folders whose names begin so."""
        for name in [name for name in self._open if name.startswith(begins)]:
            with suppress(OSError):
                os.close(self._open.pop(name))

    # -- its folders

    def _named(self, *names: str) -> str:
        return os.path.join(self.path, *names)

    def _at(self, name: str) -> int:
        """A folder in it, to write to, made where it is missing. Raises Failure."""
        found = self._seen(name)
        if found is not None:
            return found
        above = name.rpartition("/")[0]
        if not self.there:
            raise Failure(f"{self.path} is not there", advice=_install(self.path, self._access))
        with durable.writing(self._named(name)):
            self._open[name] = durable.made(self._named(name), self._at(above), self._access)
        return self._open[name]

    def _seen(self, name: str) -> int | None:
        """A folder in it, to read from, None where it is missing. Raises Failure."""
        if name in self._open or not self.there:
            return self._open.get(name)
        above = self._seen(name.rpartition("/")[0])
        if above is None:
            return None
        try:
            self._open[name] = durable.opened(self._named(name), above)
        except FileNotFoundError:
            return None
        return self._open[name]

    def _places(self, *names: str) -> list[tuple[str, int]]:
        found = ((name, self._seen(name)) for name in names)
        return [(name, place) for name, place in found if place is not None]

    # -- what is none of ours

    def _is_in_the_way(self, place: int, folder: str, name: str) -> bool:
        """Whether a folder stands where a file of ours would: it is named, and passed over. Raises OSError."""
        found = durable.is_folder(place, name)
        if found:
            self._damaged(self._named(folder, name), "left alone: it is a folder")
        return found

    def _damaged(self, path: str, words: str) -> None:
        """Into the log, once a run."""
        if path not in self._named_once:
            self._named_once.add(path)
            report.event("damaged", self._facts, [("file", path), ("error", words)], error=True)

    def _unfinished(self, blocks: Iterable[bytes]) -> str:
        """A new file in tmp/, whole and on disk; its name. Raises OSError."""
        name = f"{os.getpid()}-{os.urandom(8).hex()}"
        durable.write(self._at("tmp"), name, blocks, self._access)
        return name


def _host_folder(path: str, access: durable.Access) -> int:
    """The folder of a host, made; that of an outbox with all above it, in somebody's home. Raises Failure."""
    try:
        if access is durable.PRIVATE:
            _above(os.path.dirname(path))
        else:
            above = durable.opened(os.path.dirname(path))
            try:
                access = durable.access_of(above, access)
            finally:
                os.close(above)
        return durable.made(path, None, access)
    except OSError as error:
        reason = durable.reason(error)
        raise Failure(f"{path} cannot be made: {reason}", lead=TRY_AGAIN, advice=_install(path, access)) from error


def _above(path: str) -> None:
    """Raises OSError."""
    if not os.path.isdir(path):
        _above(os.path.dirname(path))
        with suppress(FileExistsError):
            os.mkdir(path, 0o755 if os.geteuid() == 0 else 0o700)


def _install(path: str, access: durable.Access) -> str:
    """How root makes it for us."""
    if access.folder == durable.PRIVATE.folder:
        return f"as root: install -d -m 0700 -o {durable.user()} {path}"
    return f"as root: install -d -m 02770 -o {durable.user()} -g {durable.group()} {path}"
