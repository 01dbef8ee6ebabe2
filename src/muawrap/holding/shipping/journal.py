"""How far one message has come, on disk before the next step, so that no crash repeats or loses it.

    file 131589 1795255200.25           inode and mtime of the message: a journal is about this file and no other
    dot 0 2                             the end of the text leaves for these recipients, numbered as in the envelope
    ack 250 2.0.0 taken                 they have it
    no 452 4.3.1 no room                they do not have it, for certain
    has 0                               over LMTP, where each recipient has a verdict: these of them have it
    not 2                               and these do not; the rest may have it
    why refused 550 5.1.1 no such user  what the sender is told of
    tell 1                              about these, from now on
    told 1                              the sender has been told, and is not told again
    gone 1                              these were put aside: they wait no more

Then the message is removed, or rewritten for those who still wait, and the journal is removed: in this order, so that
after a crash at any point what is left says what is to be done (INTERMITTENT 6.4).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from muawrap import report
from muawrap.holding.store.scan import Entry
from muawrap.holding.store.spool import Spool

_TEXT_LIMIT = 900  # characters of a reply, as in the log


class Progress(NamedTuple):
    """What a journal says: recipients by their numbers."""

    done: frozenset[int] = frozenset()  # they have it, or wait no more
    uncertain: frozenset[int] = frozenset()  # the end of the text may have left, and nobody knows the verdict
    told: frozenset[int] = frozenset()  # they do not get it, and the sender has been told
    outcome: str = ""  # refused or expired: of what the sender has been told
    reason: str = ""


class Journal:
    """That of one message, written line by line; each is on disk when its method returns. Raises Failure."""

    def __init__(self, spool: Spool, entry: Entry) -> None:
        self._spool = spool
        self._entry = entry
        self._begun = False
        self.dotted: frozenset[int] = frozenset()  # for whom the end of the text was about to leave, latest
        self.told_of: frozenset[int] = frozenset()

    def dot(self, numbers: Collection[int]) -> None:
        """The end of the text is about to leave for these."""
        self._spool.still_locked()
        self.dotted = frozenset(numbers)
        self._line("dot", numbers)

    def ack(self, reply: str) -> None:
        """The host has taken it."""
        self._append(f"ack {_one_line(reply)}")

    def no(self, reason: str) -> None:
        """The host has not taken it, for certain; nothing to say where no end of a text was about to leave."""
        if self.dotted:
            self._append(f"no {_one_line(reason)}")
        self.dotted = frozenset()

    def parted(self, having: Collection[int], without: Collection[int]) -> None:
        """The host has answered for each: these have it, these do not, and it is not known of the rest."""
        for word, numbers in ("has", having), ("not", without):
            if numbers:
                self._line(word, numbers)
        self.dotted -= frozenset(having) | frozenset(without)

    def tell(self, outcome: str, reason: str, numbers: Collection[int]) -> None:
        """The sender is about to be told of these: where there is no room to say so, it would be told every time."""
        self._append(f"why {outcome} {_one_line(reason)}")
        self._line("tell", numbers)

    def told(self, numbers: Collection[int]) -> None:
        """The sender has been told of these."""
        self.told_of |= frozenset(numbers)
        self._line("told", numbers)

    def gone(self, numbers: Collection[int]) -> None:
        """These wait no more."""
        if numbers:
            self._line("gone", numbers)

    def close(self) -> None:
        """The message is gone, or rewritten, or stands as it stood."""
        if self._begun:
            self._spool.journal_remove(self._entry.name)
        self._begun = False

    def _line(self, word: str, numbers: Collection[int]) -> None:
        self._append(f"{word} {' '.join(map(str, sorted(numbers)))}")

    def _append(self, line: str) -> None:
        head = "" if self._begun else f"{_head(self._entry)}\n"
        self._spool.journal_append(self._entry.name, f"{head}{line}\n".encode("ascii"))
        self._begun = True


def progress(spool: Spool, entry: Entry) -> Progress:
    """What the journal of this message says; nothing where there is none, or it is about another file. Raises Failure.

    A last line without its end was never on disk, and so what it speaks of did not happen.
    """
    head, *lines = spool.journal(entry.name).decode("ascii", "replace").split("\n")[:-1] or [""]
    done: set[int] = set()
    told: set[int] = set()
    outcome = reason = ""
    dotted: frozenset[int] = frozenset()
    if head != _head(entry):
        return Progress()
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "dot":
            dotted = _numbers(rest)
        elif word in ("has", "not"):
            done |= _numbers(rest) if word == "has" else frozenset()
            dotted -= _numbers(rest)
        elif word == "gone":
            done |= _numbers(rest)
        elif word == "why":
            outcome, _, reason = rest.partition(" ")
        elif word == "told":
            told |= _numbers(rest)
        elif word in ("ack", "no"):
            done |= dotted if word == "ack" else frozenset()
            dotted = frozenset()
    return Progress(frozenset(done), dotted - done, frozenset(told - done), outcome, reason)


def reopened(spool: Spool, entry: Entry, told_of: frozenset[int] = frozenset()) -> Journal:
    """The journal of a message that has one, to be gone on with."""
    journal = Journal(spool, entry)
    journal._begun = True
    journal.told_of = told_of
    return journal


def _head(entry: Entry) -> str:
    return f"file {entry.inode} {entry.mtime!r}"


def _numbers(text: str) -> frozenset[int]:
    return frozenset(int(word) for word in text.split() if word.isdigit())


def _one_line(text: str) -> str:
    return report.printable(text)[:_TEXT_LIMIT]
