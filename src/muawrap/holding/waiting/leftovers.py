"""A folder of keep_failed as a spool: what its owner may send again now is taken from it, and nothing else is touched.

Such a folder has no room for journals and retry records; they stand in the outbox, in a folder whose name is made from
the path of this one. A file goes when a smart host has taken its message. What turns out to be refused stays, and has
a try a day; what may have been sent goes to uncertain/, where keep_failed would have put it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from muawrap import keeping, report
from muawrap.failure import REFUSED, TRY_AGAIN, Failure
from muawrap.holding import clock, durable
from muawrap.holding.formats import batchsmtp
from muawrap.holding.held import Envelope, Held
from muawrap.holding.rules import schedule
from muawrap.holding.rules.schedule import Record
from muawrap.holding.settings import Keeper
from muawrap.holding.shipping.settling import PARKED
from muawrap.holding.store.records import Noted
from muawrap.holding.store.scan import WHY, Entry
from muawrap.holding.store.spool import Spool

NAME = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z-[0-9a-f]{16}")
"""Files of keep_failed; the others in there are somebody else's, or half written."""


class Leftovers(Spool):
    """One folder of keep_failed, with `keeper` being that of the outbox."""

    def __init__(
        self, keeper: Keeper, facts: report.Facts, folder: str, remark: Callable[[str], None], make: bool = True
    ) -> None:
        """`remark` is told of each file that is left alone, and why. Raises Failure."""
        self._folder = os.path.abspath(folder)
        _is_no_outbox(self._folder, keeper.folder)
        self._files = _listable(self._folder)
        self._remark = remark
        self._remarked: set[str] = set()
        self._over: set[str] = set()  # they had their turn in this run, and stay
        mark = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:16]
        Spool(keeper, facts, make).close()  # which makes it as private as it is to be
        super().__init__(keeper._replace(folder=os.path.join(keeper.folder, f"from-{mark}")), facts, make)

    def close(self) -> None:
        super().close()
        with suppress(OSError):
            os.close(self._files)

    @contextmanager
    def lock(self) -> Iterator[bool]:
        """As any, and the folder itself: another configuration may have another outbox for it. Raises Failure."""
        with super().lock() as ours:
            if ours:
                self._lock_folder()
            try:
                yield ours
            finally:
                if ours:
                    fcntl.flock(self._files, fcntl.LOCK_UN)

    def _lock_folder(self) -> None:
        with durable.reading(self._folder):
            try:
                fcntl.flock(self._files, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Failure(
                    f"another muawrap sends what is in {self._folder}, by way of another outbox",
                    lead=TRY_AGAIN,
                    advice="run it again when that has ended",
                ) from error

    # -- what is there

    def entries(self) -> Iterator[Entry]:
        """Those that were not sent, and may be tried again; in no order."""
        with durable.reading(self._folder):
            names = {one.name for one in durable.listing(self._files)}
        for name in sorted(names):
            if name in self._over or name == keeping.UNCERTAIN_FOLDER:
                continue
            found = self._looked_at(name) if name + WHY not in names else "it was put aside, and is never sent again"
            if isinstance(found, Entry):
                yield found
            elif name not in self._remarked:
                self._remarked.add(name)
                self._remark(f"{self._path(name)}: left alone: {found}")

    def _looked_at(self, name: str) -> Entry | str:
        """What stands there, or why it is to be left alone."""
        if not NAME.fullmatch(name):
            return "half written" if name[0] == "." and NAME.fullmatch(name, 1) else "keep_failed writes no such file"
        try:
            status = os.stat(name, dir_fd=self._files, follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):
                return "not a regular file"
            if status.st_uid != os.geteuid():
                return f"it belongs to uid {status.st_uid}"
            if status.st_nlink != 1:
                return "it has another name elsewhere"
            outcome = dict(batchsmtp.envelope(self._files, name).facts).get("outcome", "")
        except OSError as error:
            return durable.reason(error)
        except Failure as failure:
            return str(failure)
        if outcome == TRY_AGAIN:
            return Entry(name, "bsmtp", status.st_size, status.st_mtime, status.st_ino)
        if outcome == REFUSED:
            return "it was refused (sendmail -bS sends it all the same)"
        return outcome or "it does not say what became of the message"

    def total(self, *folders: str) -> tuple[int, int]:
        """Messages and octets of what is left to be sent."""
        sizes = [entry.size for entry in self.entries()]
        return len(sizes), sum(sizes)

    def envelope(self, entry: Entry) -> Envelope:
        """Raises Failure."""
        return batchsmtp.envelope(self._files, entry.name)

    def read(self, entry: Entry) -> Held:
        """Raises Failure."""
        return batchsmtp.read(self._files, entry.name)

    # -- what becomes of it

    def remove(self, entry: Entry) -> None:
        """A smart host has it."""
        with durable.writing(self._path(entry.name)):
            durable.unlink(self._files, entry.name)
            durable.settle(self._files)
        self.set_note(entry.name, None)

    def fail(self, entry: Entry, why: Mapping[str, Any]) -> None:
        """What may have been sent, or was sent to some, is put aside; what was refused stays."""
        self._over.add(entry.name)
        if why["outcome"] != PARKED and "sent" not in why:
            now = clock.now()
            self.set_note(entry.name, Noted(Record(now, now, now + schedule.INTERVAL_MAX), str(why["reply"])))
            self._remark(f"{self._path(entry.name)}: {why['outcome']}, and left where it is: {why['reply']}")
            return
        aside = self._path(keeping.UNCERTAIN_FOLDER)
        with durable.writing(aside):
            with suppress(FileExistsError):
                os.mkdir(keeping.UNCERTAIN_FOLDER, 0o700, dir_fd=self._files)
            place = _listable(aside, self._files)
            try:
                os.rename(entry.name, entry.name, src_dir_fd=self._files, dst_dir_fd=place)
                durable.settle(place)
                durable.settle(self._files)
            finally:
                os.close(place)
        reason = f"it was sent to some: {why['reply']}: it" if "sent" in why else "it may have been sent, and"
        self._remark(f"{aside}/{entry.name}: {reason} is not sent again")
        self.set_note(entry.name, None)

    def archive(self, entry: Entry, now: float, why: Mapping[str, Any]) -> None:
        """Nothing is given up here."""
        self.fail(entry, why)

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)


def _is_no_outbox(folder: str, outbox: str) -> None:
    """What stands in there is sent, or was put aside and is not to be sent. Raises Failure."""
    inside, whole = os.path.realpath(folder), os.path.realpath(outbox)
    if os.path.commonpath([inside, whole]) == whole:
        raise Failure(
            f"{folder} is in the outbox itself, and no folder of keep_failed",
            advice="muawrap ship --outbox sends what waits there; what is in failed/ is not sent again by itself",
        )


def _listable(path: str, below: int | None = None) -> int:
    """The folder, in which nobody but its owner can put another file in the place of ours. Raises Failure."""
    place = keeping.opened(path, below)
    try:
        with durable.reading(path):
            return os.open(".", durable.FOLDER, dir_fd=place)
    finally:
        os.close(place)
