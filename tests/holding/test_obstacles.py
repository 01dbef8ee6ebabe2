"""A folder where a file of the spool would stand stops no message but its own (INTERMITTENT 6.1, 6.4)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from muawrap.holding import clock
from muawrap.holding.rules.schedule import Record
from muawrap.holding.store.records import Noted
from muawrap.holding.store.spool import Spool
from tests.support.server import Server
from tests.support.shipping import Host, host


def in_the_way(made: Host, *names: str) -> list[str]:
    """Folders that nobody can remove by the way, since they are not empty."""
    paths = [made.path / name for name in names]
    for path in paths:
        (path / "within").mkdir(parents=True)
    for path in (made.path, *(made.path / name.split("/")[0] for name in names)):
        path.chmod(0o2770)
    return [f"damaged file={path} error=" for path in paths]


def told(made: Host) -> list[str]:
    """How the log names them."""
    return [line[: line.index("error=") + 6] for line in made.events("damaged")]


def test_a_folder_for_a_journal_of_nobody_is_passed_over(tmp_path: Path) -> None:
    """INTERMITTENT 6.4: named in the log, once a run."""
    with Server() as server:
        made = host(tmp_path, server)
        lines = in_the_way(made, "done/zz.j")
        for run in range(1, 3):
            made.put(f"m{run}")
            tally = made.ship()
            assert (tally.sent, tally.failure, tally.kept) == (1, None, 0)
            assert told(made) == lines * run


def test_a_message_whose_journal_cannot_be_read_stays_alone(tmp_path: Path) -> None:
    """INTERMITTENT 6.4: it may have been sent, and the others were not."""
    with Server() as server:
        made = host(tmp_path, server)
        in_the_way(made, "done/m1.j")
        made.put("m1")
        made.put("m2")
        tally = made.ship()
        assert (tally.sent, tally.kept) == (1, 1)
        assert b"Subject: m2" in server.accepted[0].text
    assert "m1.j" in str(tally.failure)
    assert list(made.waiting()) == ["m1"]


@pytest.mark.parametrize(("script", "left"), [({}, 0), ({"RCPT": "450 4.2.1 later"}, 3)], ids=["sent", "kept"])
def test_a_folder_for_a_retry_record_is_passed_over(
    tmp_path: Path, script: dict[str, str], left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INTERMITTENT 6.1: the record counts as none; in this run each message has one try all the same."""
    monkeypatch.setattr(clock, "BUILT", 0)
    with Server(script) as server:
        made = host(tmp_path, server)
        lines = in_the_way(made, "retry/m2")
        for name in ("m1", "m2", "m3"):
            made.put(name)
        tally = made.ship()
        assert (tally.sent, tally.kept, tally.failure) == (3 - left, left, None)
        [session] = server.finished()
    assert sum(line.startswith(b"MAIL") for line in session.commands) == 3
    assert told(made) == lines


def test_a_folder_for_the_record_of_the_host_is_passed_over(tmp_path: Path) -> None:
    """INTERMITTENT 6.1: the run knows that the host is down, and the next one tries it."""
    made = Host(tmp_path, "smtp://127.0.0.1:1")
    lines = in_the_way(made, "state")
    made.put("m1")
    tally = made.ship()
    assert (tally.status, tally.kept) == (0, 1)
    assert "connect" in str(tally.failure)
    assert told(made) == lines


def test_a_folder_for_a_list_of_what_is_done_is_passed_over(tmp_path: Path) -> None:
    """INTERMITTENT 6.3: what would stand in it is not remembered, and all else is done as ever."""
    with Server() as server:
        made = host(tmp_path, server)
        lines = in_the_way(made, "done/list.ab", "done/.list.cd.1", "archive/2026-01/old.why", "archive/2026-01/x")
        (made.path / "archive" / "2026-01").chmod(0o770)
        for path in (made.path / "archive" / "2026-01").iterdir():
            os.utime(path, (clock.BUILT, clock.BUILT))
        made.put("id-abc")
        assert made.ship().sent == 1
        assert made.expire().failure is None
        with Spool(made.keeper) as spool:
            assert not spool.has("id-abc")
            spool.tidy(clock.BUILT + 40 * 86_400)
    assert set(lines[:2]) <= set(told(made))


def test_a_folder_for_a_reason_makes_another_name(tmp_path: Path) -> None:
    """INTERMITTENT 6.4: what is refused is put aside with its reason, and the next message has its turn."""
    with Server([{"RCPT bad@x.example": "550 5.1.1 no"}]) as server:
        made = host(tmp_path, server, 'on_refuse = "archive"')
        in_the_way(made, "failed/m1.why")
        made.put("m1", "bad@x.example")
        made.put("m2")
        tally = made.ship()
    assert (tally.refused, tally.sent, tally.failure) == (1, 1, None)
    [(name, why)] = made.aside("failed").items()
    assert name.endswith("-m1")
    assert why["outcome"] == "refused"


def test_a_folder_does_not_hide_a_message(tmp_path: Path) -> None:
    """INTERMITTENT 6.1: NAME.held takes the place of a message in another format only where it is one."""
    with Server() as server:
        made = host(tmp_path, server)
        name = "1800000000.M1P1.host"
        in_the_way(made, f"new/{name}.held")
        (made.path / "new" / name).write_bytes(
            b"Return-path: <me@client.example>\nEnvelope-to: you@x.example\nDelivery-date: now\nSubject: m1\n\nHello.\n"
        )
        assert made.ship().sent == 1
    assert made.waiting() == {}


def test_a_record_is_still_removed_and_replaced_elsewhere(tmp_path: Path) -> None:
    """INTERMITTENT 6.1: only what a folder stands in the way of is kept in mind."""
    made = Host(tmp_path, "smtp://127.0.0.1:1")
    in_the_way(made, "retry/m1")
    noted = Noted(Record(clock.BUILT, clock.BUILT, clock.BUILT), "no")
    with Spool(made.keeper) as spool:
        for name in ("m1", "m2"):
            spool.set_note(name, noted)
            assert spool.note(name) == noted
            spool.set_note(name, None)
            assert spool.note(name) is None
    assert os.listdir(made.path / "retry") == ["m1"]
