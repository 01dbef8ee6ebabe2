"""The journal of one message: what it says after a crash at any point (INTERMITTENT 6.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from muawrap.holding.formats import batchsmtp
from muawrap.holding.shipping.journal import Journal, Progress, progress, reopened
from muawrap.holding.store.scan import Entry
from muawrap.holding.store.spool import Spool
from tests.support.spool import held, keeper


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with Spool(keeper(tmp_path)) as one:
        one.put(batchsmtp.write(held()), "one")
        yield one


@pytest.fixture
def entry(spool: Spool) -> Entry:
    return next(spool.entries())


def said(*done: int, uncertain: tuple[int, ...] = ()) -> Progress:
    return Progress(frozenset(done), frozenset(uncertain))


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda journal: None, said()),
        (lambda journal: journal.dot({0, 2}), said(uncertain=(0, 2))),
        (lambda journal: (journal.dot({0, 2}), journal.ack("250 taken")), said(0, 2)),
        (lambda journal: (journal.dot({0, 2}), journal.no("554 no")), said()),
        (lambda journal: (journal.dot({0, 2}), journal.ack("250 taken"), journal.gone({1})), said(0, 1, 2)),
        (lambda journal: journal.gone({1}), said(1)),
        (lambda journal: journal.gone(()), said()),
        (lambda journal: (journal.dot({0, 1}), journal.no("450 x"), journal.dot({1})), said(uncertain=(1,))),
        (lambda journal: (journal.dot({0}), journal.gone({0})), said(0)),
    ],
)
def test_a_journal_says_who_has_it_and_who_may_have_it(
    spool: Spool, entry: Entry, write: Callable[[Journal], None], expected: Progress
) -> None:
    """INTERMITTENT 6.4: `dot` without `ack` is uncertain, `ack` is done, and so is who waits no more."""
    write(Journal(spool, entry))
    assert progress(spool, entry) == expected


def test_no_is_written_only_where_an_end_was_about_to_leave(spool: Spool, entry: Entry) -> None:
    """INTERMITTENT 6.4: a refusal before the text costs no write."""
    journal = Journal(spool, entry)
    journal.no("550 no")
    journal.close()
    assert list(spool.journals()) == []
    assert spool.journal("one") == b""


def test_a_reply_stays_on_its_line(spool: Spool, entry: Entry) -> None:
    """INTERMITTENT 6.4: whatever a host says, it adds no line."""
    journal = Journal(spool, entry)
    journal.dot({0})
    journal.ack("250 fine\ndot 1\r\ngone 2\u2028gone 3 \xe4" + "x" * 5000)
    assert progress(spool, entry) == said(0)
    assert max(map(len, spool.journal("one").splitlines())) < 1000


def test_a_torn_line_never_happened(spool: Spool, entry: Entry) -> None:
    """INTERMITTENT 6.4: what was not on disk when its step began did not begin."""
    journal = Journal(spool, entry)
    journal.dot({0, 1})
    whole = spool.journal("one")
    journal.ack("250 taken")
    for cut in range(len(whole), len(spool.journal("one"))):
        torn = spool.journal("one")[:cut]
        Path(spool.path, "done", "other.j").write_bytes(torn)
        assert progress(spool, entry._replace(name="other")) == said(uncertain=(0, 1))
    for cut in range(len(whole)):
        Path(spool.path, "done", "other.j").write_bytes(whole[:cut])
        assert progress(spool, entry._replace(name="other")) == said()


@pytest.mark.parametrize(("inode", "mtime"), [(4711, 0.0), (0, 5.0)])
def test_the_journal_of_another_file_of_this_name_says_nothing(
    spool: Spool, entry: Entry, inode: int, mtime: float
) -> None:
    """INTERMITTENT 6.4: a message that was rewritten has another inode; what was done for the former is done."""
    Journal(spool, entry).dot({0})
    other = entry._replace(inode=inode or entry.inode, mtime=mtime or entry.mtime)
    assert progress(spool, other) == said()


def test_a_journal_is_gone_on_with_after_a_crash(spool: Spool, entry: Entry) -> None:
    """INTERMITTENT 6.4: what was said before still holds."""
    Journal(spool, entry).dot({0, 1})
    again = reopened(spool, entry)
    again.gone({1})
    assert progress(spool, entry) == said(1, uncertain=(0,))
    again.close()
    assert list(spool.journals()) == []


def test_junk_is_no_journal(spool: Spool, entry: Entry) -> None:
    """INTERMITTENT 6.4: a damaged one stops nobody."""
    Journal(spool, entry).dot({0})
    file = Path(spool.path, "done", "one.j")
    head = file.read_bytes().splitlines(keepends=True)[0]
    for junk in (b"", b"\xff\n", b"\n\n", b"dot 0\n", b"file x\nack\n", b"file"):
        file.write_bytes(junk)
        assert progress(spool, entry) == said()
    file.write_bytes(head + b"what 7\ndot x -1 2\n")
    assert progress(spool, entry) == said(uncertain=(2,))
