"""One host's folder of held messages: what stands in it is whole, on disk, and there once (INTERMITTENT 6.1).

    with Spool(keeper) as spool:
        spool.put(batchsmtp.write(held), fresh_name())      # on disk when it returns
        with spool.lock() as ours:
            for entry in spool.entries() if ours else ():   # oldest first
                held = spool.read(entry)
                spool.remove(entry)

    new/      messages in any of the three formats, an MTA's or ours      cur/  those of a maildir somebody looked at
    tmp/      being written                                               lock  flock target, never deleted
    done/     NAME.j journals, and lists of what is done                  again somebody wants the host tried once more
    failed/   refused or parked: message, and NAME.why                    state retry record of the host
    archive/  YYYY-MM/, given up: message, and NAME.why                   retry/ NAME, retry record of one message

Whatever this module is asked for raises Failure where the folder does not let it, and no OSError.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from muawrap.failure import Failure
from muawrap.holding import clock, durable
from muawrap.holding.formats import batchsmtp, maildir, mailstore
from muawrap.holding.held import Envelope, Held
from muawrap.holding.store import done, scan, tidy
from muawrap.holding.store.ledger import Ledger
from muawrap.holding.store.scan import NEXT, Entry

NAME_LIMIT = 200  # octets: what stands beside a message, such as its journal, has its name and more
WHY_LIMIT = 16 * 1024 * 1024  # octets of a NAME.why, which has as much to tell

_OF_EXIM = re.compile(r"q[0-9A-Za-z]+-[0-9]+")  # its directory_file, where nothing else is configured
Made = TypeVar("Made", Envelope, Held)


class Aside(NamedTuple):
    """A message in failed/ or archive/."""

    entry: Entry
    why: Mapping[str, Any]  # what NAME.why says; empty where it is not there or damaged


class Spool(Ledger):
    """One host's folder, open; see above."""

    # -- messages come in

    def put(self, blocks: Iterable[bytes], name: str) -> bool:
        """A new message; it is on disk under this name when this returns. False: one of this name is there already.

        Raises Failure, and what the blocks raise; then there is nothing of it.
        """
        return self.put_all([(name, blocks)]) == 1

    def put_all(
        self, messages: Iterable[tuple[str, Iterable[bytes]]], written_all: Callable[[], None] = lambda: None
    ) -> int:
        """The same for several, all or none of them; how many are new. A crash may leave some without the others,
        and so may trouble those which their caller names: they are held once however often they are given to us.

        `written_all` is called when all of them are on disk, before anybody can see the first.
        """
        unfinished, new = self._at("tmp"), self._at("new")
        written: list[tuple[str, str]] = []
        placed: list[str] = []
        try:
            with durable.writing(self._named("new")):
                for name, blocks in messages:
                    written.append((self._unfinished(blocks), name))
                written_all()
                for temporary, name in written:
                    # Our caller may have given it to another of us while we were writing, and that one has been sent.
                    if not self._is_known_done(name) and durable.link(unfinished, temporary, new, name):
                        placed.append(name)
                # One that was there already may be there since a moment ago, and not on disk yet.
                durable.settle(new)
        except BaseException:
            for name in placed:
                if not done.is_remembered(name):  # else one who gave us the same may have had a yes for it
                    with suppress(OSError):
                        os.unlink(name, dir_fd=new)
            raise
        finally:
            for temporary, _ in written:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=unfinished)
        return len(placed)

    def has(self, name: str) -> bool:
        """Whether a message of this name is here, on disk, or has been done in the last seven days."""
        new = self._seen("new")
        with durable.reading(self._named("new")):
            if new is not None and durable.exists(new, name):
                durable.settle(new)
                return True
        return self._is_known_done(name)

    def _is_known_done(self, name: str) -> bool:
        lists = self._seen("done")
        with durable.reading(self._named("done")):
            if lists is None or self._is_in_the_way(lists, "done", done.list_of(name)):
                return False
            return done.has(lists, name)

    # -- messages go

    def entries(self) -> Iterator[Entry]:
        """What is ready, oldest first, in constant memory; what comes meanwhile may or may not be among them."""
        with durable.reading(self._named("new")):
            places = self._places("new", "cur")
            for entry in scan.ordered(places):
                found = scan.completed(entry, dict(places))
                if found is not None:
                    yield found

    def total(self, *folders: str) -> tuple[int, int]:
        """How many messages stand in these folders, such as "new" and "cur", and their octets: counted, not read."""
        with durable.reading(self.path):
            places = self._places(*folders)
            return scan.total(places)

    def envelope(self, entry: Entry) -> Envelope:
        """Whom it is from and for, without its text. Raises Failure where it is damaged, or gone."""
        return self._with(entry, self._envelope)

    def read(self, entry: Entry) -> Held:
        """All of it. Raises Failure where it is damaged, or gone."""
        return self._with(entry, self._read)

    def remove(self, entry: Entry) -> None:
        """It is done: remembered for seven days where it was held by its id, and gone, with its retry record.

        Its journal is not: remove it next.
        """
        with durable.writing(self._named(entry.place)):
            self._is_done(entry)
            self._unlink(entry)
        self.set_note(entry.name, None)

    def rewrite(self, entry: Entry, held: Held) -> Entry:
        """Put `held`, such as the same for fewer recipients, in its place; the entry it is now.

        It is a file of batch SMTP then, whatever it was, as old as before, with another inode. One step for whoever
        reads; after a crash either of the two is there, and only one.
        """
        name = entry.name if entry.format == "bsmtp" else entry.name + NEXT
        if _OF_EXIM.fullmatch(name):  # made of second and inode, which is free then: the same name could come again
            time.sleep(min(max(0.0, int(entry.mtime) + 1.1 - clock.now()), 1.1))
        unfinished, new = self._at("tmp"), self._at("new")
        with durable.writing(self._named("new")):
            temporary = self._unfinished(batchsmtp.write(held))
            os.utime(temporary, (entry.mtime, entry.mtime), dir_fd=unfinished, follow_symlinks=False)
            os.rename(temporary, name, src_dir_fd=unfinished, dst_dir_fd=new)
            durable.settle(new)
            if name != entry.name:
                self._unlink(entry)
            status = os.stat(name, dir_fd=new, follow_symlinks=False)
        if name != entry.name:
            self.set_note(name, self.note(entry.name))
            self.set_note(entry.name, None)
        return Entry(name, "bsmtp", status.st_size, entry.mtime, status.st_ino)

    def _unlink(self, entry: Entry) -> None:
        """Raises OSError."""
        places = dict(self._places("new", "cur"))
        if entry.name.endswith(NEXT):  # a crash may have left what it took the place of
            before = entry.name.removesuffix(NEXT)
            for folder, place in places.items():
                for name in scan.files(before):
                    if not self._is_in_the_way(place, folder, name):
                        durable.unlink(place, name)
        for name in scan.files(entry.name):
            durable.unlink(places[entry.place], name)
        durable.settle(places[entry.place])

    def _is_done(self, entry: Entry) -> None:
        """Raises OSError."""
        lists = self._at("done") if done.is_remembered(entry.name) else None
        if lists is not None and not self._is_in_the_way(lists, "done", done.list_of(entry.name)):
            done.add(lists, entry.name, self._access)

    def _with(self, entry: Entry, ask: Callable[[int, Entry], Made]) -> Made:
        """What a format makes of it. Raises Failure that names the file."""
        path = self._named(entry.place, entry.name)
        place = self._seen(entry.place)
        if place is None:
            raise Failure(f"{path} is gone")
        if len(os.fsencode(entry.name)) > NAME_LIMIT:
            raise Failure(f"{path}: its name is longer than {NAME_LIMIT} octets", advice="give it a shorter one")
        try:
            with durable.reading(path):
                return ask(place, entry)
        except Failure as failure:
            is_named = failure.what.startswith(entry.name)
            what = failure.what.removeprefix(entry.name) if is_named else f": {failure.what}"
            raise Failure(
                f"{path}{what}",
                lead=failure.lead,
                advice=failure.advice or "look at the file, and move it out of the folder if it cannot be mended",
            ) from failure

    def _envelope(self, place: int, entry: Entry) -> Envelope:
        if entry.format == "mailstore":
            return mailstore.envelope(place, entry.name, *self._around)
        if entry.format == "maildir":
            return maildir.envelope(place, entry.name)
        return batchsmtp.envelope(place, entry.name)

    def _read(self, place: int, entry: Entry) -> Held:
        if entry.format == "mailstore":
            return mailstore.read(place, entry.name, *self._around)
        if entry.format == "maildir":
            return maildir.read(place, entry.name)
        return batchsmtp.read(place, entry.name)

    @property
    def _around(self) -> tuple[int, int]:
        """Lines before and behind the envelope in a .env file."""
        return self.keeper.mailstore_prefix, self.keeper.mailstore_suffix

    # -- messages are put aside

    def fail(self, entry: Entry, why: Mapping[str, Any]) -> None:
        """To failed/, with NAME.why: refused for good, or parked."""
        self._put_aside(entry, "failed", why, 0)

    def fail_part(self, entry: Entry, held: Held, why: Mapping[str, Any]) -> None:
        """A copy for some of its recipients (those of `held`) to failed/; the entry stays: rewrite() it next."""
        self._copy_aside(entry, held, "failed", why, 0)

    def archive(self, entry: Entry, now: float, why: Mapping[str, Any]) -> None:
        """To archive/YYYY-MM/, with NAME.why: given up."""
        self._put_aside(entry, _month(now), why, now)

    def archive_part(self, entry: Entry, held: Held, now: float, why: Mapping[str, Any]) -> None:
        """A copy for some of its recipients (those of `held`) to the archive; the entry stays: rewrite() it next."""
        self._copy_aside(entry, held, _month(now), why, now)

    def failed(self) -> Iterator[Aside]:
        """What is in failed/, oldest first, in constant memory."""
        with durable.reading(self._named("failed")):
            for entry in scan.ordered(self._places("failed")):
                yield Aside(entry, self._why(entry))

    def archived(self) -> int:
        """How many messages are in the archive."""
        place = self._seen("archive")
        with durable.reading(self._named("archive")):
            months = [one.name for one in durable.listing(place)] if place is not None else []
            found = self._places(*(f"archive/{month}" for month in months if tidy.MONTH.fullmatch(month)))
            return sum(bool(scan.format_of(one.name)) for _, month in found for one in durable.listing(month))

    def _put_aside(self, entry: Entry, folder: str, why: Mapping[str, Any], now: float) -> None:
        """The reason first, then the message; a crash between two steps lets all of them be made once more."""
        target, source = self._at(folder), self._at(entry.place)
        with durable.writing(self._named(folder)):
            files = scan.files(entry.name)
            taken = durable.inode(target, entry.name)
            is_free = taken in (0, entry.inode) and not self._is_in_the_way(target, folder, f"{entry.name}{scan.WHY}")
            prefix = "" if is_free else time.strftime("%Y%m%dT%H%M%S-", time.gmtime(entry.mtime))
            self._write_why(target, prefix + entry.name, why, now)
            self._is_done(entry)
            for name in reversed(files):
                durable.link(source, name, target, prefix + name)
            durable.settle(target)
            self._unlink(entry)
        self.set_note(entry.name, None)

    def _copy_aside(self, entry: Entry, held: Held, folder: str, why: Mapping[str, Any], now: float) -> None:
        target = self._at(folder)
        with durable.writing(self._named(folder)):
            name = f"{entry.name}.{entry.inode}{'' if entry.format == 'bsmtp' else NEXT}"
            temporary = self._unfinished(batchsmtp.write(held))
            os.utime(temporary, (entry.mtime, entry.mtime), dir_fd=self._at("tmp"), follow_symlinks=False)
            self._write_why(target, name, why, now)
            # The same copy, made before a crash, is what this one takes the place of.
            os.rename(temporary, name, src_dir_fd=self._at("tmp"), dst_dir_fd=target)
            durable.settle(target)

    def _write_why(self, target: int, name: str, why: Mapping[str, Any], now: float) -> None:
        """Raises OSError."""
        temporary = self._unfinished([json.dumps(dict(why)).encode("ascii") + b"\n"])
        if now:
            os.utime(temporary, (now, now), dir_fd=self._at("tmp"), follow_symlinks=False)
        os.rename(temporary, f"{name}{scan.WHY}", src_dir_fd=self._at("tmp"), dst_dir_fd=target)

    def _why(self, entry: Entry) -> Mapping[str, Any]:
        place = self._seen(entry.place)
        try:
            why = json.loads(durable.read(place, f"{entry.name}{scan.WHY}", WHY_LIMIT)) if place is not None else {}
        except (OSError, ValueError, RecursionError):
            why = {}
        return why if isinstance(why, dict) else {}

    # -- what has stood there too long

    def tidy(self, now: float) -> None:
        """Remove what nobody needs from tmp/, the archive and the lists in done/; nothing by a clock that is wrong."""
        if not clock.is_sane(now):
            return
        for folder, place in self._places("tmp", "archive", "done"):
            with durable.writing(self._named(folder)):
                for name in tidy.FOLDERS[folder](place, now, self.keeper.archive_keep, self._access):
                    self._damaged(self._named(folder, name), "left alone: it is a folder")
        self._let_go("archive/")


def fresh_name(now: float | None = None) -> str:
    """A name that nobody else has, which begins with the time."""
    now = time.time() if now is None else now
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(now))}.{int(now % 1 * 1e6):06}Z-{os.urandom(8).hex()}"


def _month(now: float) -> str:
    return time.strftime("archive/%Y-%m", time.gmtime(now))
