"""A host's folder: what is put there is whole and there once, whatever breaks off in the middle (INTERMITTENT 6.1)."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from muawrap import report
from muawrap.failure import TRY_AGAIN, Failure
from muawrap.holding import clock
from muawrap.holding.formats import batchsmtp, maildir, mailstore
from muawrap.holding.rules.schedule import Record
from muawrap.holding.settings import OUTBOX
from muawrap.holding.store import scan
from muawrap.holding.store.records import Noted
from muawrap.holding.store.scan import Entry
from muawrap.holding.store.spool import Spool, fresh_name
from tests.support.program import REPOSITORY
from tests.support.spool import AT, held, keeper
from tests.support.user import NOBODY, WWW_DATA, acting_as, public_folder

SAMPLES = REPOSITORY / "tests" / "data" / "held"


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with Spool(keeper(tmp_path)) as one:
        yield one


def put(spool: Spool, name: str, text: bytes = b"Hello.\n", mtime: float = AT) -> Entry:
    """One more message, as old as wanted; its entry."""
    assert spool.put(batchsmtp.write(held(text)), name)
    os.utime(Path(spool.path, "new", name), (mtime, mtime))
    return next(entry for entry in spool.entries() if entry.name == name)


def names(spool: Spool, folder: str = "new") -> list[str]:
    return sorted(path.name for path in Path(spool.path, folder).iterdir())


# -- messages come in


def test_what_is_put_is_there_whole(spool: Spool) -> None:
    """INTERMITTENT 6.3: from tmp/ into new/; what is read back is what was put."""
    assert spool.put(batchsmtp.write(held()), "one")
    [entry] = spool.entries()
    assert (entry.name, entry.format, entry.place) == ("one", "bsmtp", "new")
    again = spool.read(entry)
    assert again.envelope == held().envelope
    assert (again.header, b"".join(again.body.blocks())) == (b"Subject: hello\n", b"Hello.\n")
    assert names(spool, "tmp") == []


def test_a_name_that_is_taken_is_left_as_it_is(spool: Spool) -> None:
    """INTERMITTENT 6.3: idempotent."""
    spool.put([b"first"], "one")
    assert not spool.put([b"second"], "one")
    assert Path(spool.path, "new", "one").read_bytes() == b"first"
    assert names(spool, "tmp") == []


def test_all_or_none(spool: Spool) -> None:
    """INTERMITTENT 6.3: of several that come together none stays where one cannot be read to its end."""

    def broken() -> Iterator[bytes]:
        yield b"begun"
        raise Failure("the input ends")

    with pytest.raises(Failure, match="the input ends"):
        spool.put_all([("one", [b"1"]), ("two", broken())])
    assert names(spool) == names(spool, "tmp") == []
    assert spool.put_all([("one", [b"1"]), ("two", [b"2"])]) == 2


@pytest.mark.row("H1")
def test_none_stays_where_the_last_step_fails(spool: Spool) -> None:
    """INTERMITTENT 6.3: what was not promised is not there either, when a name cannot be given."""
    spool.put([b"0"], "zero")
    with pytest.raises(Failure, match="cannot be written"):
        spool.put_all([("one", [b"1"]), ("no/folder", [b"2"])])
    assert names(spool) == ["zero"]
    assert names(spool, "tmp") == []


def test_what_the_caller_names_stays_where_another_caller_has_seen_it(spool: Spool, tmp_path: Path) -> None:
    """INTERMITTENT 6.3: an MTA that asks twice at a time may have had a 0 for it; asked again, it is there."""
    name = f"id-{'0' * 40}"

    def seen() -> Iterator[tuple[str, Iterator[bytes]]]:
        yield name, iter([b"1"])
        yield "no/folder", iter([b"2"])

    with pytest.raises(Failure, match="cannot be written"):
        spool.put_all(seen())
    assert names(spool) == [name]
    assert spool.has(name)


def test_where_there_are_no_links_a_name_is_still_taken_once(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """INTERMITTENT 6.1: vfat and some network file systems know no second name."""

    def no_links(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    assert spool.put([b"1"], "one")
    assert not spool.put([b"2"], "one")
    assert Path(spool.path, "new", "one").read_bytes() == b"1"
    assert names(spool, "tmp") == []


def test_fresh_names_differ_and_begin_with_the_time() -> None:
    """INTERMITTENT 6.3: names do not collide."""
    found = {fresh_name(AT) for _ in range(1000)}
    assert len(found) == 1000
    assert all(name.startswith("20270115T080000.000000Z-") for name in found)


# -- what is there


def test_oldest_first_whatever_the_names(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """INTERMITTENT 6.4: in several looks through the folder as in one."""
    for number, name in enumerate("qwertyuiop"):
        put(spool, name, mtime=AT + number)
    monkeypatch.setattr(scan, "PASS", 3)
    assert [entry.name for entry in spool.entries()] == list("qwertyuiop")


def test_what_has_the_same_time_comes_once_each(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """INTERMITTENT 6.4: many a file system counts whole seconds."""
    for name in "cbafed":
        put(spool, name)
    monkeypatch.setattr(scan, "PASS", 2)
    assert [entry.name for entry in spool.entries()] == list("abcdef")


def test_what_is_not_ready_is_not_told(spool: Spool) -> None:
    """INTERMITTENT 2.1, 2.3, 6.7: temp., .tmp, half a pair, folders, links and dot files are no messages yet."""
    put(spool, "one")
    new = Path(spool.path, "new")
    for name in ("temp.1.host", ".hidden", "x.tmp", "half.env", "orphan.msg", "x.why"):
        (new / name).write_bytes(b"MAIL FROM:<>\n")
    (new / "folder").mkdir()
    (new / "link").symlink_to(new / "one")
    os.mkfifo(new / "fifo")
    assert [entry.name for entry in spool.entries()] == ["one"]
    assert spool.total("new", "cur") == (1, (new / "one").stat().st_size)


def test_three_formats_side_by_side(spool: Spool, tmp_path: Path) -> None:
    """INTERMITTENT 2: what an MTA's transports write into the folder is read as what it is."""
    place = os.open(spool.path, os.O_RDONLY)
    spool.put(batchsmtp.write(held()), "bsmtp")
    new = os.open("new", os.O_RDONLY, dir_fd=place)
    pair = mailstore.write(new, "1xUcvW-2", held())
    one = maildir.write(place, held(), "mx.example")
    seen = maildir.write(place, held(), "mx.example")
    Path(spool.path, "cur").mkdir()
    Path(spool.path, "new", seen).rename(Path(spool.path, "cur", f"{seen}:2,S"))
    found = {entry.name: entry for entry in spool.entries()}
    assert {(entry.name, entry.format, entry.place) for entry in found.values()} == {
        ("bsmtp", "bsmtp", "new"),
        (pair, "mailstore", "new"),
        (one, "maildir", "new"),
        (f"{seen}:2,S", "maildir", "cur"),
    }
    for entry in found.values():
        assert spool.envelope(entry)[:2] == held().envelope[:2]
        assert b"".join(spool.read(entry).body.blocks()) == b"Hello.\n"
    for entry in found.values():
        spool.remove(entry)
    assert names(spool) == names(spool, "cur") == []
    os.close(new)
    os.close(place)


def test_a_damaged_file_is_named_with_what_to_do(spool: Spool) -> None:
    """INTERMITTENT 2.3: it is never taken for a message without recipients."""
    spool.put([b"MAIL FROM:<a@b>\nDATA\n"], "bad")
    spool.put([b"Subject: no envelope\n\n"], "worse")
    for entry in spool.entries():
        with pytest.raises(Failure) as caught:
            spool.read(entry)
        assert str(Path(spool.path, "new", entry.name)) in caught.value.what
        assert caught.value.advice


def test_a_message_that_is_gone_is_a_failure(spool: Spool) -> None:
    """INTERMITTENT 6.4: somebody else was faster."""
    entry = put(spool, "one")
    spool.remove(entry)
    with pytest.raises(Failure, match="new/one"):
        spool.read(entry)
    spool.remove(entry)  # which is no trouble


# -- a message is changed


@pytest.mark.parametrize("kind", ["bsmtp", "mailstore", "maildir"])
def test_a_message_is_rewritten_for_who_is_left(spool: Spool, kind: str) -> None:
    """INTERMITTENT 6.4: the same age, another inode, one message."""
    entry = made(spool, kind)
    spool.set_note(entry.name, Noted(Record(1, 2, 3), "busy"))
    fewer = held(to=("left@example.net",))
    now = spool.rewrite(entry, fewer)
    assert [now] == list(spool.entries())
    assert (now.format, now.mtime) == ("bsmtp", entry.mtime)
    assert now.inode != entry.inode
    assert [one.address for one in spool.envelope(now).recipients] == ["left@example.net"]
    assert spool.note(now.name) == Noted(Record(1, 2, 3), "busy")
    twice = spool.rewrite(now, fewer)
    assert (twice.name, names(spool)) == (now.name, [now.name])


def test_a_name_made_of_second_and_inode_is_not_free_in_its_second(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INTERMITTENT 2.1: Exim would give the next message the freed inode, and the name of the rewritten one."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(clock, "now", lambda: AT + 0.25)
    spool.rewrite(put(spool, "q1tIWmQ-131589", mtime=AT), held(to=("one@example.net",)))
    spool.rewrite(put(spool, "q1tIWmP-131589", mtime=AT - 1), held(to=("one@example.net",)))
    spool.rewrite(put(spool, "quite-another", mtime=AT), held(to=("one@example.net",)))
    assert slept == [pytest.approx(0.85), pytest.approx(0)]


@pytest.mark.parametrize("kind", ["mailstore", "maildir"])
def test_what_a_crash_left_of_a_rewritten_message_is_not_sent_again(spool: Spool, kind: str) -> None:
    """INTERMITTENT 6.4: the new file counts as soon as it is there, and takes the old ones along when it goes."""
    entry = made(spool, kind)
    before = {path.name: path.read_bytes() for path in Path(spool.path, "new").iterdir()}
    now = spool.rewrite(entry, held(to=("left@example.net",)))
    for name, octets in before.items():  # as if the power had failed before they were removed
        Path(spool.path, "new", name).write_bytes(octets)
    assert [one.name for one in spool.entries()] == [now.name]
    assert spool.total("new")[0] == 1
    spool.remove(now)
    assert names(spool) == []


def made(spool: Spool, kind: str) -> Entry:
    """A message of this format."""
    spool.put([b""], "nothing")
    Path(spool.path, "new", "nothing").unlink()
    place = os.open(spool.path, os.O_RDONLY)
    if kind == "bsmtp":
        spool.put(batchsmtp.write(held()), "one")
    elif kind == "mailstore":
        new = os.open("new", os.O_RDONLY, dir_fd=place)
        mailstore.write(new, "1xUcvW-2", held())
        os.close(new)
    else:
        maildir.write(place, held(), "mx.example")
    os.close(place)
    [entry] = spool.entries()
    assert entry.format == kind
    return entry


# -- a message is put aside


@pytest.mark.parametrize("kind", ["bsmtp", "mailstore", "maildir"])
def test_a_refused_message_stands_in_failed_with_its_reason(spool: Spool, kind: str) -> None:
    """INTERMITTENT 6.1: message and .why."""
    entry = made(spool, kind)
    spool.set_note(entry.name, Noted(Record(1, 2, 3)))
    spool.fail(entry, {"reply": "550 no", "time": AT, "recipients": ["you@example.net"]})
    assert list(spool.entries()) == []
    [aside] = spool.failed()
    assert aside.why == {"reply": "550 no", "time": AT, "recipients": ["you@example.net"]}
    assert spool.envelope(aside.entry).recipients == held().envelope.recipients
    assert b"".join(spool.read(aside.entry).body.blocks()) == b"Hello.\n"
    assert names(spool) == []
    assert spool.note(entry.name) is None


def test_putting_aside_goes_on_where_a_crash_stopped_it(spool: Spool) -> None:
    """INTERMITTENT 6.1: once more is not twice."""
    entry = put(spool, "one")
    failed = Path(spool.path, "failed")
    failed.mkdir()
    os.link(Path(spool.path, "new", "one"), failed / "one")  # and then the power failed
    spool.fail(entry, {"reply": "550 no"})
    assert names(spool, "failed") == ["one", "one.why"]
    assert names(spool) == []


def test_two_messages_of_one_name_are_both_kept(spool: Spool) -> None:
    """INTERMITTENT 2.1: Exim names files by inode, and a name comes again."""
    for text in (b"first\n", b"second\n"):
        spool.fail(put(spool, "q1-99", text), {})
    found = sorted(b"".join(spool.read(aside.entry).body.blocks()) for aside in spool.failed())
    assert found == [b"first\n", b"second\n"]


def test_some_recipients_are_put_aside_and_the_others_stay(spool: Spool) -> None:
    """INTERMITTENT 6.4: a message of which some are refused; done once more after a crash it is one copy."""
    entry = put(spool, "one")
    for _ in range(2):
        spool.fail_part(entry, held(to=("no@example.net",)), {"reply": "550 no"})
    [aside] = spool.failed()
    assert [one.address for one in spool.envelope(aside.entry).recipients] == ["no@example.net"]
    assert [one.name for one in spool.entries()] == ["one"]
    spool.archive_part(entry, held(to=("no@example.net",)), AT, {"reply": "550 no"})
    assert spool.archived() == 1


def test_the_archive_has_a_folder_a_month(spool: Spool) -> None:
    """INTERMITTENT 6.1: archive/YYYY-MM/."""
    spool.archive(put(spool, "one"), AT, {"reason": "too old"})
    assert names(spool, "archive") == ["2027-01"]
    assert names(spool, "archive/2027-01") == ["one", "one.why"]
    assert spool.archived() == 1


# -- what is remembered


def test_what_was_held_by_its_id_is_remembered_for_a_week(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """INTERMITTENT 6.3: already in new/, or done in the last seven days."""
    name = "id-ab" + "0" * 38
    assert not spool.has(name)
    entry = put(spool, name)
    assert spool.has(name)
    monkeypatch.setattr(clock, "now", lambda: AT)
    spool.remove(entry)
    assert spool.has(name)
    assert not spool.has("id-ab" + "1" * 38)
    spool.tidy(AT + 7 * 86_400 - 1)
    assert spool.has(name)
    spool.tidy(AT + 7 * 86_400 + 1)
    assert not spool.has(name)


def test_a_torn_line_costs_one_name(spool: Spool) -> None:
    """INTERMITTENT 6.3: what comes behind a line that a crash cut short is still found."""
    one, two = (f"id-ab{number:038}" for number in (1, 2))
    spool.remove(put(spool, one))
    with Path(spool.path, "done", "list.ab").open("ab") as file:
        file.write(b"\nid-ab000")
    spool.remove(put(spool, two))
    assert spool.has(one)
    assert spool.has(two)


def test_a_message_without_an_id_leaves_no_trace(spool: Spool) -> None:
    """INTERMITTENT 6.0: two identical alarms are two messages."""
    spool.remove(put(spool, fresh_name()))
    assert not Path(spool.path, "done").exists()


# -- who is at work


def test_one_at_a_time(spool: Spool, tmp_path: Path) -> None:
    """INTERMITTENT 6.4: the lock is somebody's or nobody's, and is never waited for; its file stays."""
    with Spool(keeper(tmp_path)) as other:
        with spool.lock() as ours:
            assert ours
            with other.lock() as theirs:
                assert not theirs
        with other.lock() as theirs:
            assert theirs
    assert Path(spool.path, "lock").exists()


def test_the_lock_dies_with_the_process(spool: Spool) -> None:
    """INTERMITTENT 5: no stale locks."""
    script = (
        "import fcntl, os, sys; f = os.open(sys.argv[1], os.O_RDWR); fcntl.flock(f, fcntl.LOCK_EX);"
        "print(); sys.stdout.flush(); sys.stdin.read()"
    )
    with spool.lock():
        pass
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", script, Path(spool.path, "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with spool.lock() as ours:
            assert not ours
        process.kill()
        process.wait()
        with spool.lock() as ours:
            assert ours


def test_a_mark_says_that_somebody_wants_more(spool: Spool) -> None:
    """INTERMITTENT 6.4: `again`."""
    assert not spool.awake()
    spool.wake()
    spool.wake()
    assert spool.awake()
    spool.settle()
    spool.settle()
    assert not spool.awake()


# -- retry records and journals


def test_a_record_is_read_as_it_was_written(spool: Spool) -> None:
    """INTERMITTENT 6.1: JSON, replaced atomically."""
    assert spool.record() is None
    noted = Noted(Record(AT, AT + 1, AT + 2.5, True), "451 später\n", "rcpt_451", "a.example", "a.example:25 b:25")
    spool.set_record(noted)
    assert spool.record() == noted
    assert json.loads(Path(spool.path, "state").read_bytes())["next"] == AT + 2.5
    spool.set_record(None)
    assert spool.record() is None


@pytest.mark.parametrize(
    "octets",
    [
        *(b"", b"{", b"[]", b"null", b"\xff", b'{"first": 1}', b"[" * 100_000, b" " * 100_000),
        b'{"first":NaN,"last":1,"next":1,"expired":false}',
        b'{"first": 1, "last": true, "next": 3, "expired": false}',
        b'{"first":1,"last":1,"next":1e999,"expired":false}',
        b'{"first": 1, "last": 2, "next": 3, "expired": 0}',
    ],
)
def test_a_damaged_record_counts_as_none_and_is_logged(tmp_path: Path, octets: bytes) -> None:
    """INTERMITTENT 6.1: it costs a try at once, and no mail."""
    facts = report.Facts()
    facts.log = (str(tmp_path / "log"),)
    with Spool(keeper(tmp_path), facts) as spool:
        Path(spool.path, "state").write_bytes(octets)
        assert spool.record() is None
        assert f"damaged file={spool.path}/state error=" in (tmp_path / "log").read_text()
        spool.set_record(Noted(Record(1, 2, 3)))
        assert spool.record() == Noted(Record(1, 2, 3))


def test_a_journal_grows_and_goes(spool: Spool) -> None:
    """INTERMITTENT 6.4: append, read, remove."""
    assert spool.journal("one") == b""
    spool.journal_append("one", b"dot 1 2\n")
    spool.journal_append("one", b"ack 250 ok\n")
    assert spool.journal("one") == b"dot 1 2\nack 250 ok\n"
    assert list(spool.journals()) == ["one"]
    spool.journal_remove("one")
    spool.journal_remove("one")
    assert list(spool.journals()) == []


# -- what has stood there too long


def test_rubbish_goes_after_36_hours(spool: Spool) -> None:
    """INTERMITTENT 6.1: tmp/."""
    put(spool, "one")
    old, young = Path(spool.path, "tmp", "old"), Path(spool.path, "tmp", "young")
    for path, age in ((old, 36 * 3600 + 1), (young, 36 * 3600 - 1)):
        path.write_bytes(b"")
        os.utime(path, (AT - age, AT - age))
    spool.tidy(AT)
    assert names(spool, "tmp") == ["young"]
    assert names(spool) == ["one"]


def test_a_folder_in_tmp_is_left_alone(spool: Spool) -> None:
    """INTERMITTENT 6.1: none of ours, and nothing that stops the rest."""
    spool.put([b""], "one")
    Path(spool.path, "tmp", "folder").mkdir()
    os.utime(Path(spool.path, "tmp", "folder"), (AT - 2 * 86_400, AT - 2 * 86_400))
    spool.tidy(AT)
    assert names(spool, "tmp") == ["folder"]


def test_the_archive_is_kept_as_long_as_configured(spool: Spool) -> None:
    """INTERMITTENT 6.5: archive_keep, counted from when it was put there."""
    spool.archive(put(spool, "one"), AT, {})
    spool.tidy(AT + 30 * 86_400 - 1)
    assert spool.archived() == 1
    spool.tidy(AT + 30 * 86_400 + 1)
    assert spool.archived() == 0
    assert names(spool, "archive") == []
    spool.archive(put(spool, "two"), AT, {})  # the month's folder is made once more
    assert spool.archived() == 1


def test_nothing_goes_by_a_clock_that_is_wrong(spool: Spool) -> None:
    """INTERMITTENT 6.0: neither while it shows 1970, nor once it is right and the file's own time is not."""
    put(spool, "one")
    rubbish = Path(spool.path, "tmp", "rubbish")
    rubbish.write_bytes(b"")
    os.utime(rubbish, (1000, 1000))
    spool.tidy(1000 + 365 * 86_400)
    assert rubbish.exists()
    spool.tidy(AT)
    assert rubbish.stat().st_mtime == AT  # it counts from the first look under a clock that can be right
    spool.tidy(AT + 37 * 3600)
    assert not rubbish.exists()


# -- the folder


def test_a_group_may_share_it_whatever_the_umask(tmp_path: Path) -> None:
    """INTERMITTENT 6.1: mode 02770, its files 0660; the outbox is its owner's alone."""
    before = os.umask(0o077)
    try:
        with Spool(keeper(tmp_path)) as spool:
            put(spool, "one")
            spool.journal_append("one", b"dot\n")
            with spool.lock():
                pass
        with Spool(keeper(tmp_path, OUTBOX)) as spool:
            put(spool, "one")
    finally:
        os.umask(before)
    modes = {str(path.relative_to(tmp_path)): path.stat().st_mode & 0o7777 for path in tmp_path.rglob("*")}
    assert {modes[f"cheshire{name}"] for name in ("", "/new", "/tmp", "/done")} == {0o2770}
    assert {modes[f"cheshire/{name}"] for name in ("new/one", "done/one.j", "lock")} == {0o660}
    assert {modes[f"outbox{name}"] for name in ("", "/new", "/tmp")} == {0o700}
    assert modes["outbox/new/one"] == 0o600


def test_an_outbox_is_made_with_all_above_it(tmp_path: Path) -> None:
    """INTERMITTENT 6.0: ~/.local/state need not be there."""
    folder = tmp_path / "home" / ".local" / "state" / "muawrap" / "outbox"
    with Spool(keeper(tmp_path, OUTBOX)._replace(folder=str(folder))) as spool:
        put(spool, "one")
    assert (folder / "new" / "one").exists()


@pytest.mark.row("H17")
def test_a_folder_of_everybody_is_refused(tmp_path: Path) -> None:
    """INTERMITTENT 6.1: nobody else puts mail there, or takes it."""
    folder = tmp_path / "cheshire"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(Failure, match="is writable by everybody") as caught:
        Spool(keeper(tmp_path))
    assert caught.value.advice == f"chmod o-w {folder}"
    folder.chmod(0o770)
    (folder / "new").mkdir()
    (folder / "new").chmod(0o777)
    with Spool(keeper(tmp_path)) as spool, pytest.raises(Failure, match="new is writable by everybody"):
        list(spool.entries())


@pytest.mark.row("H17")
def test_no_link_is_followed(tmp_path: Path) -> None:
    """INTERMITTENT 6.1: neither to a folder nor to a file."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cheshire").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Failure, match="is no folder"):
        Spool(keeper(tmp_path))
    (tmp_path / "cheshire").unlink()
    with Spool(keeper(tmp_path)) as spool:
        (tmp_path / "cheshire" / "new").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(Failure, match="new is no folder"):
            spool.put([b"1"], "one")
        (tmp_path / "cheshire" / "state").symlink_to(tmp_path / "secret")
        assert spool.record() is None
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_no_other_name_of_a_file_is_written_to(spool: Spool, tmp_path: Path) -> None:
    """INTERMITTENT 6.1: whoever may write to the folder does not have root write to a file elsewhere."""
    foreign = tmp_path / "foreign"
    foreign.write_text("secret\n")
    spool.journal_append("two", b"dot 0\n")
    os.link(foreign, Path(spool.path, "done", "one.j"))
    with pytest.raises(Failure, match=r"one\.j cannot be written: it has another name elsewhere"):
        spool.journal_append("one", b"dot 0\n")
    assert foreign.read_text() == "secret\n"


def test_what_comes_between_is_not_taken_for_new(spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """INTERMITTENT 6.1: root gives away what it has made, and nothing that was put there a moment ago."""
    spool.journal_append("two", b"dot 0\n")
    foreign = tmp_path / "foreign"
    foreign.write_text("secret\n")
    really = os.open

    def late(path: str, flags: int, *more: int, **options: int) -> int:
        if path == "one.j" and flags & os.O_CREAT and not os.path.lexists(f"{spool.path}/done/one.j"):
            os.link(foreign, f"{spool.path}/done/one.j")
        return really(path, flags, *more, **options)

    monkeypatch.setattr(os, "open", late)
    foreign.chmod(0o640)
    with pytest.raises(Failure, match="cannot be written"):
        spool.journal_append("one", b"dot 0\n")
    assert (foreign.read_text(), foreign.stat().st_mode & 0o777) == ("secret\n", 0o640)


@pytest.mark.row("H17")
def test_an_outbox_is_nobody_elses(tmp_path: Path) -> None:
    """INTERMITTENT 6.0: what stands in the outbox is sent with the accounts of its owner, and read by nobody."""
    mine = keeper(tmp_path, OUTBOX)
    Path(mine.folder).mkdir(0o700)
    os.chown(mine.folder, WWW_DATA, WWW_DATA)
    with pytest.raises(Failure, match=f"belongs to uid {WWW_DATA}"):
        Spool(mine)


def test_a_folder_that_cannot_be_made_says_how_root_makes_it(tmp_path: Path) -> None:
    """INTERMITTENT 6.3: no spool, no permission."""
    missing = keeper(tmp_path / "nowhere")
    with pytest.raises(Failure, match="cannot be made: no such file") as caught:
        Spool(missing)
    assert caught.value.advice.startswith("as root: install -d -m 02770 -o ")
    assert caught.value.advice.endswith(missing.folder)


def test_a_folder_on_a_file_system_that_cannot_be_written_is_no_matter_of_owners(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INTERMITTENT 6.3: as after an error on the disk."""

    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", broken)
        with pytest.raises(Failure, match="read-only") as caught:
            spool.put(batchsmtp.write(held()), "one")
    assert caught.value.advice.startswith("its file system has to be mounted for writing")


def test_without_making_a_missing_folder_is_empty(tmp_path: Path) -> None:
    """INTERMITTENT 6.6: who only looks makes nothing."""
    with Spool(keeper(tmp_path), make=False) as spool:
        assert not spool.there
        assert [*spool.entries(), *spool.failed()] == []
        assert (spool.record(), spool.note("x"), spool.journal("x"), spool.awake()) == (None, None, b"", False)
        assert (spool.archived(), spool.total("new"), spool.has("id-00")) == (0, (0, 0), False)
        spool.tidy(AT)
        with pytest.raises(Failure, match="is not there"):
            spool.put([b"1"], "one")
    assert list(tmp_path.iterdir()) == []


def test_a_stranger_is_told_whose_it_must_be() -> None:
    """INTERMITTENT 6.1: the folder is root's, ours, or a group's of ours; and who may not enter it hears who he is."""
    with public_folder() as public:
        theirs = keeper(public)
        with acting_as(NOBODY), pytest.raises(Failure, match="cannot be made: permission denied"):
            Spool(theirs)
        with Spool(theirs) as spool:
            put(spool, "one")
        with acting_as(NOBODY), pytest.raises(Failure, match="cannot be read: permission denied") as caught:
            Spool(theirs)
        assert caught.value.advice.startswith("it must belong to nobody")
        os.chown(theirs.folder, WWW_DATA, WWW_DATA)
        os.chmod(theirs.folder, 0o775)
        with acting_as(NOBODY), pytest.raises(Failure, match=f"belongs to uid {WWW_DATA}"):
            Spool(theirs)


def test_what_root_makes_there_is_its_owners() -> None:
    """INTERMITTENT 6.1: a `ship` that root runs by hand shuts nobody out."""
    with public_folder() as public:
        theirs = keeper(public)
        Path(theirs.folder).mkdir()
        os.chown(theirs.folder, WWW_DATA, WWW_DATA)
        with Spool(theirs) as spool:
            put(spool, "one")
            with spool.lock():
                pass
        with acting_as(WWW_DATA), Spool(theirs) as spool:
            [entry] = spool.entries()
            with spool.lock() as ours:
                assert ours
            spool.remove(entry)


@pytest.mark.parametrize("failing", ["write", "fsync", "link", "unlink", "rename", "open", "fchmod"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_trouble_is_one_sentence(spool: Spool, monkeypatch: pytest.MonkeyPatch, failing: str, number: int) -> None:
    """INTERMITTENT 6.3: whatever the disk does, Failure says what it was about, and to what file."""
    entry = put(spool, "one")

    def broken(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, failing, broken)
        for act in (
            lambda: spool.put(batchsmtp.write(held()), "two"),
            lambda: spool.rewrite(entry, held()),
            lambda: spool.set_record(Noted(Record(1, 2, 3))),
            lambda: spool.journal_append("one", b"dot\n"),
            lambda: spool.fail(entry, {}),
        ):
            failure = failure_of(act)
            if failure is not None:
                assert str(spool.path) in failure.what
                assert failure.lead == TRY_AGAIN
                assert failure.advice
    left = [*spool.entries(), *(aside.entry for aside in spool.failed())]
    assert "one" in {entry.name for entry in left}  # whatever failed, it is not lost


def failure_of(act: Callable[[], object]) -> Failure | None:
    """What it raises; None where it succeeds without the call that is broken."""
    try:
        act()
    except Failure as failure:
        return failure
    return None
