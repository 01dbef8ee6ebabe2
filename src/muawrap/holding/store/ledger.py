"""What a host's folder says about the work on it: who is at it, what failed and when it is tried next, and journals."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property

from muawrap.failure import TRY_AGAIN, Failure
from muawrap.holding import durable
from muawrap.holding.store import records
from muawrap.holding.store.folders import Folders
from muawrap.holding.store.records import Noted

_NOW = b"now\n"
JOURNAL_LIMIT = 16 * 1024 * 1024  # octets; 10 000 recipients, each with its reply


class Ledger(Folders):
    """A host's folder, as far as it is not messages."""

    # -- who is at work

    _locked = 0  # the inode of the lock while it is ours

    @cached_property
    def _unwritten(self) -> dict[str, Noted | None]:
        """Retry records, by their paths, in whose place a folder stands: so that a run has them itself."""
        return {}

    @contextmanager
    def lock(self) -> Iterator[bool]:
        """`with spool.lock() as ours`: True, and ours until the end of the block or the process; else somebody's."""
        place = self._at("")
        with durable.writing(self._named("lock")):
            file = durable.target(place, "lock", self._access)
        try:
            with durable.writing(self._named("lock")):
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    ours = True
                except BlockingIOError:
                    ours = False
                self._locked = os.fstat(file).st_ino if ours else 0
            yield ours
        finally:
            self._locked = 0
            os.close(file)

    def still_locked(self) -> None:
        """Somebody who removed the lock, or put another in its place, let a second one in. Raises Failure."""
        with durable.reading(self._named("lock")):
            if self._locked and durable.inode(self._at(""), "lock") != self._locked:
                raise Failure(
                    f"{self._named('lock')} is not the one that is ours: somebody else may be sending",
                    lead=TRY_AGAIN,
                    advice="it is never to be removed",
                )

    def wake(self, now: bool = False) -> None:
        """Whoever is at work looks once more when he is done; `now`: even if the host was down, for it is up."""
        with durable.writing(self._named("again")):
            file = durable.target(self._at(""), "again", self._access)
            try:
                if now:
                    with suppress(OSError):  # no room: a mark all the same
                        os.write(file, _NOW)
            finally:
                os.close(file)

    def awake(self) -> bool:
        """Whether somebody has called wake() since settle()."""
        with durable.reading(self._named("again")):
            return self.there and durable.exists(self._open[""], "again")

    def urgent(self) -> bool:
        """Whether one of them said that the host is up."""
        with durable.reading(self._named("again")):
            try:
                return self.there and durable.read(self._open[""], "again", len(_NOW)) == _NOW
            except FileNotFoundError:
                return False

    def settle(self) -> None:
        """What wake() asked for is being done."""
        with durable.writing(self._named("again")):
            durable.unlink(self._at(""), "again")

    # -- retry records

    def record(self) -> Noted | None:
        """The retry record of the host."""
        return self._noted("", "state")

    def set_record(self, noted: Noted | None) -> None:
        """None: there is none any more."""
        self._set_noted("", "state", noted)

    def note(self, name: str) -> Noted | None:
        """The retry record of one message, by entry.name."""
        return self._noted("retry", name)

    def set_note(self, name: str, noted: Noted | None) -> None:
        """None: there is none any more."""
        if noted is not None or self._seen("retry") is not None:
            self._set_noted("retry", name, noted)

    def _noted(self, folder: str, name: str) -> Noted | None:
        place = self._seen(folder)
        path = self._named(folder, name)
        try:
            return records.read(place, name) if place is not None else None
        except ValueError as error:
            self._damaged(path, f"counts as none: {error}")
            return self._unwritten.get(path)

    def _set_noted(self, folder: str, name: str, noted: Noted | None) -> None:
        place = self._at(folder)
        path = self._named(folder, name)
        with durable.writing(path):
            if self._is_in_the_way(place, folder, name):
                self._unwritten[path] = noted
                return
            if noted is None:
                durable.unlink(place, name)
                return
            temporary = self._unfinished([records.written(noted)])
            os.rename(temporary, name, src_dir_fd=self._at("tmp"), dst_dir_fd=place)
            durable.settle(place)

    # -- journals: done/NAME.j

    def journal(self, name: str) -> bytes:
        """What it says; b"" where there is none."""
        place = self._seen("done")
        with durable.reading(self._named("done", f"{name}.j")):
            try:
                return durable.read(place, f"{name}.j", JOURNAL_LIMIT) if place is not None else b""
            except FileNotFoundError:
                return b""

    def journal_append(self, name: str, line: bytes) -> None:
        """On disk when this returns."""
        with durable.writing(self._named("done", f"{name}.j")):
            durable.append(self._at("done"), f"{name}.j", line, self._access)

    def journal_remove(self, name: str) -> None:
        """A power failure may bring it back: entry.inode tells whether it is about the file that is there."""
        with durable.writing(self._named("done", f"{name}.j")):
            if not self._is_in_the_way(self._at("done"), "done", f"{name}.j"):
                durable.unlink(self._at("done"), f"{name}.j")

    def journals(self) -> Iterator[str]:
        """Names that have one, in no order."""
        with durable.reading(self._named("done")):
            for _, place in self._places("done"):
                for one in durable.listing(place):
                    if one.name.endswith(".j"):
                        yield one.name.removesuffix(".j")
