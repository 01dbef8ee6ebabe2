"""What is held goes to its host: over one connection, once, and each for itself (INTERMITTENT 6.4)."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from muawrap.failure import Failure
from muawrap.holding import clock, mta
from muawrap.holding.formats import maildir, mailstore
from muawrap.holding.held import Addressee, Envelope, Held
from muawrap.holding.rules.schedule import Record
from muawrap.holding.shipping import road
from muawrap.holding.shipping.road import Road, to_host
from muawrap.holding.store.records import Noted
from muawrap.holding.store.spool import Spool
from muawrap.mail import Body, Transaction
from tests.support.server import Drop, Hold, Received, Reset, Server, Session, Silence, Then, Wait
from tests.support.shipping import CHUNKING, Host, host, numbered

PLAIN = ("PIPELINING", "8BITMIME", "SIZE 10000000")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def taken(server: Server) -> list[tuple[str, list[bytes]]]:
    """What the server has accepted, by the name that is in its Message-ID, and for whom."""
    server.finished()
    return [(name(message), message.recipients) for message in server.accepted]


def name(message: Received) -> str:
    found = re.search(rb"Message-ID: <([\w-]+)@", message.text)
    assert found
    return found[1].decode()


def label(script: dict[str, Any]) -> str:
    """A script as the name of a test."""
    return ", ".join(f"{at}: {what if isinstance(what, str) else type(what).__name__}" for at, what in script.items())


def verbs(session: Session) -> list[bytes]:
    return [line.split(b" ")[0] for line in session.commands]


def moved(monkeypatch: pytest.MonkeyPatch, seconds: float) -> float:
    """The clock goes on by so much; what it shows now."""
    at = clock.now() + seconds
    monkeypatch.setattr(clock, "now", lambda: at)
    return at


# -- one connection


@pytest.mark.parametrize(("offered", "count"), [(CHUNKING, 200), (PLAIN, 20)])
def test_two_hundred_messages_are_one_connection(folder: Path, offered: tuple[str, ...], count: int) -> None:
    """INTERMITTENT 6.4, 7: oldest first; with CHUNKING a flight each, for the next envelope rides with each text."""
    with Server(extensions=offered) as server:
        made = host(folder, server)
        for one in numbered(count):
            made.put(one)
        tally = made.ship()
        [session] = server.finished()
    assert (tally.sent, tally.kept, tally.next) == (count, 0, 0)
    assert [name(message) for message in session.accepted] == list(numbered(count))
    assert verbs(session)[0] == b"EHLO"
    assert verbs(session)[-1] == b"QUIT"
    assert verbs(session).count(b"MAIL") == count
    if offered is CHUNKING:
        said = [words for who, words in session.transcript if who == "C"]
        assert len(said) <= count + 4, "more than one flight for a message"
    assert made.waiting() == {}
    assert made.journals() == []


def test_what_comes_meanwhile_goes_down_the_same_connection(folder: Path) -> None:
    """INTERMITTENT 6.4, line 4: at the end of the list it looks once more."""
    reached, go = threading.Event(), threading.Event()
    with Server({"dot 1": Then(_Sets(reached), Wait(go), "250 taken")}) as server:
        made = host(folder, server)
        made.put("first")
        work = _Thread(made.ship)
        assert reached.wait(10)
        made.put("second")
        go.set()
        assert work.result().sent == 2
        [session] = server.finished()
    assert [name(message) for message in session.accepted] == ["first", "second"]


def test_nothing_to_do_is_no_connection(folder: Path) -> None:
    """INTERMITTENT 6.4, line 3."""
    with Server() as server:
        made = host(folder, server)
        tally = made.ship(now=True)
        assert server.sessions == []
    assert (tally.sent, tally.kept, tally.failure) == (0, 0, None)


@pytest.mark.row("H7")
def test_four_at_once_are_one_shipper(folder: Path) -> None:
    """INTERMITTENT 6.4, line 1, and 1.2: Exim runs four spellings of one name side by side."""
    reached, go = threading.Event(), threading.Event()
    with Server({"EHLO": Then(_Sets(reached), Wait(go), "250-x\n250 PIPELINING")}) as server:
        made = host(folder, server)
        made.put("one")
        first = _Popen(made, "--now", "--", "@x.example")
        assert reached.wait(20)
        others = [_Popen(made, "--now", "--", spelling) for spelling in ("cheshire", "x.example", "#X.EXAMPLE")]
        for other in others:
            out, err = other.communicate(timeout=30)
            assert (other.returncode, out) == (0, b"")
            assert b"already shipping" in err
        assert (made.path / "again").exists()
        go.set()
        out, err = first.communicate(timeout=30)
        assert (first.returncode, out) == (0, b"sent 1\n")
        sessions = server.finished()
    assert [len(session.accepted) for session in sessions] == [1]
    assert not (made.path / "again").exists()


@pytest.mark.row("H7")
def test_two_at_once_send_nothing_twice_where_somebody_removed_the_lock(folder: Path) -> None:
    """INTERMITTENT 6.4, line 1: whoever lost it sends nothing more, since he cannot know what the other one does."""
    reached, go = threading.Event(), threading.Event()
    script = {"dot": Then(_Sets(reached), Wait(go), "250 taken")}
    with Server([script, {}]) as server:
        made = host(folder, server)
        for one in ("one", "two", "three"):
            made.put(one)
        first = _Popen(made, "cheshire")
        assert reached.wait(20)
        (made.path / "lock").unlink()
        second = made.ship()
        go.set()
        _, err = first.communicate(timeout=20)
        names = [one for one, _ in taken(server)]
    assert sorted(names) == ["one", "three", "two"]
    assert (first.returncode, second.sent, second.parked) == (75, 2, 1)
    assert b"lock is not the one that is ours" in err
    with Spool(made.keeper) as spool:
        assert spool.record() is None


def test_a_lock_dies_with_its_process(folder: Path) -> None:
    """INTERMITTENT 6.4, line 1: no stale locks."""
    reached = threading.Event()
    with Server([{"greeting": Hold(reached)}, {}]) as server:
        made = host(folder, server)
        made.put("one")
        work = _Popen(made, "cheshire")
        assert reached.wait(20)
        assert made.ship().busy
        work.kill()
        work.communicate()
        assert made.ship().sent == 1


@pytest.mark.row("H7")
def test_a_word_left_while_unlocking_is_heard(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """INTERMITTENT 6.4, line 4: release; `again` there? Then from the start."""
    with Server() as server:
        made = host(folder, server)
        made.put("one")
        close = Spool.lock
        calls: list[int] = []

        def leave_word() -> None:
            made.put("two")
            with Spool(made.keeper) as other:
                other.wake()

        def lock(self: Spool) -> Any:
            calls.append(1)
            if len(calls) == 1:
                return _after(close(self), leave_word)
            return close(self)

        monkeypatch.setattr(Spool, "lock", lock)
        assert made.ship().sent == 2
        assert taken(server) == [("one", [b"you@x.example"]), ("two", [b"you@x.example"])]
    assert len(calls) == 2


# -- when


def test_etrn_while_the_host_is_found_down_is_heard(folder: Path) -> None:
    """INTERMITTENT 6.4, line 1: whoever says that the host is up, and hears that somebody is at it, gets the mail."""
    reached, go = threading.Event(), threading.Event()
    with Server([{"greeting": Then(_Sets(reached), Wait(go), "421 not yet")}, {}]) as server:
        made = host(folder, server)
        made.put("one")
        timer = _Popen(made, "cheshire")
        assert reached.wait(20)
        assert made.ship(now=True).busy
        go.set()
        out, err = timer.communicate(timeout=20)
    assert (timer.returncode, out, err) == (0, b"sent 1\n", b"")


def test_a_timer_while_the_host_is_found_down_changes_nothing(folder: Path) -> None:
    """INTERMITTENT 6.4, line 2: only who knows that the host is up has it tried at once."""
    reached, go = threading.Event(), threading.Event()
    with Server([{"greeting": Then(_Sets(reached), Wait(go), "421 not yet")}, {}]) as server:
        made = host(folder, server)
        made.put("one")
        timer = _Popen(made, "cheshire")
        assert reached.wait(20)
        assert made.ship().busy
        go.set()
        timer.communicate(timeout=20)
    assert timer.returncode == 75
    assert list(made.waiting()) == ["one"]


def test_a_host_that_is_down_waits_by_its_rules(
    folder: Path, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INTERMITTENT 6.4, lines 2, 6 and 7: the record of the host says when; 75 before that."""
    made = Host(folder, f"smtp://127.0.0.1:{closed_port}", 'retry = "* refused_A F,1h,10m\\n* * F,1h,20m"')
    made.put("one")
    now = moved(monkeypatch, 0)
    tally = made.ship()
    assert (tally.sent, tally.kept, tally.next) == (0, 1, now + 600)
    assert tally.failure is not None
    assert "connection refused" in tally.failure.sentence()
    moved(monkeypatch, 599)
    early = made.ship()
    assert (early.not_due, early.next, early.kept) == (True, now + 600, 1)
    moved(monkeypatch, 1)
    assert made.ship().next == now + 1200
    moved(monkeypatch, 5)
    assert made.ship(now=True).next == now + 605 + 600
    assert made.waiting() == {"one": ("you@x.example",)}


def test_success_deletes_the_record_of_the_host(folder: Path) -> None:
    """INTERMITTENT 6.4, line 7."""
    with Server([{"greeting": "421 later"}, {}]) as server:
        made = host(folder, server)
        made.put("one")
        assert made.ship().next
        assert (made.path / "state").exists()
        assert made.ship(now=True).sent == 1
    assert not (made.path / "state").exists()


def test_min_interval_guards_now_too_once_something_failed(
    folder: Path, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INTERMITTENT 6.4, line 2: whoever sends ETRN in a loop does no harm."""
    made = Host(folder, f"smtp://127.0.0.1:{closed_port}", "min_interval = 300")
    made.put("one")
    now = moved(monkeypatch, 0)
    assert not made.ship(now=True).not_due
    moved(monkeypatch, 239)
    tally = made.ship(now=True)
    assert (tally.not_due, tally.next) == (True, now + 300)
    moved(monkeypatch, 61)
    assert not made.ship(now=True).not_due


def test_whoever_says_that_the_host_is_up_waits_for_the_rest_of_min_interval(folder: Path) -> None:
    """INTERMITTENT 6.4, line 2: ETRN a moment after a failed try is answered by the mail, not hours later."""
    with Server([{"greeting": "421 later"}, {}]) as server:
        made = Host(folder, f"smtp://127.0.0.1:{server.port}", "min_interval = 1")
        made.put("one")
        failed = made.ship()
        tally = made.ship(now=True)
    assert (failed.sent, tally.sent) == (0, 1)


def test_min_interval_guards_a_message_that_was_put_off_and_no_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INTERMITTENT 6.4, line 2: ETRN in a loop has nobody tried once more, and what is new goes at once."""
    with Server([{"RCPT later@x.example": "450 4.2.1 later"}] * 4) as server:
        made = host(folder, server, 'min_interval = "10m"')
        made.put("one", "later@x.example", "you@x.example")
        now = moved(monkeypatch, 0)
        assert made.ship(now=True).sent == 1
        moved(monkeypatch, 1)
        for _ in range(2):
            tally = made.ship(now=True)
            assert (tally.not_due, tally.guarded, tally.next, tally.kept) == (True, True, now + 600, 1)
        assert len(server.finished()) == 1
        made.put("two")
        tally = made.ship(now=True)
        assert (tally.sent, tally.kept, tally.not_due) == (1, 1, False)
        moved(monkeypatch, 600)
        tally = made.ship(now=True)
        assert (tally.not_due, tally.next) == (False, now + 601 + 900)
        assert len(server.finished()) == 3


def test_whoever_says_that_the_host_is_up_waits_for_a_message_that_was_put_off_a_moment_ago(folder: Path) -> None:
    """INTERMITTENT 6.4, line 2: as for the host, up to a minute; what is new need not wait for that."""
    with Server([{"RCPT later@x.example": "450 4.2.1 later"}, {}, {}]) as server:
        made = Host(folder, f"smtp://127.0.0.1:{server.port}", "min_interval = 1")
        made.put("one", "later@x.example")
        assert made.ship().kept == 1
        made.put("two")
        tally = made.ship(now=True)
        assert [one for one, _ in taken(server)] == ["two", "one"]
    assert (tally.sent, tally.kept, tally.next, tally.not_due) == (2, 0, 0, False)


def test_a_next_try_that_no_rule_can_have_given_is_due(folder: Path) -> None:
    """INTERMITTENT 6.0: clocks lie."""
    with Server() as server:
        made = host(folder, server, 'retry = "F,1h,15m"')
        made.put("one")
        now = clock.now()
        with Spool(made.keeper) as spool:
            spool.set_record(Noted(Record(now, now + 86_400, now + 87_300), "x"))
        assert made.ship().sent == 1
        made.put("two")
        with Spool(made.keeper) as spool:
            spool.set_record(Noted(Record(now, now, now + 890), "x"))
        assert made.ship().not_due


def test_a_message_tried_under_a_clock_of_the_future_is_due(folder: Path) -> None:
    """INTERMITTENT 6.0: the record of a message may have been written by a clock that has been put right since."""
    with Server() as server:
        made = host(folder, server)
        made.put("one")
        ahead = clock.now() + 30 * 86_400
        with Spool(made.keeper) as spool:
            spool.set_note("one", Noted(Record(ahead, ahead, ahead + 900), "x"))
        assert made.ship().sent == 1


def test_a_message_of_its_own_is_skipped_until_it_is_due(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """INTERMITTENT 6.4, line 6: MAIL refused for now is the message's, and the others go; --now tries it again."""
    with Server([{"MAIL 1": "451 4.3.0 not now"}, {}]) as server:
        made = host(folder, server)
        made.put("one")
        made.put("two")
        now = moved(monkeypatch, 0)
        tally = made.ship()
        assert (tally.sent, tally.kept, tally.next, tally.failure) == (1, 1, now + 900, None)
        moved(monkeypatch, 800)
        assert made.ship().sent == 0
        assert len(server.finished()) == 1, "it was not due, and the host was called"
        assert made.ship(now=True).sent == 1
    assert list((made.path / "retry").iterdir()) == []


def test_limit_and_time_leave_the_rest(folder: Path) -> None:
    """INTERMITTENT 6.4: --limit N, --time T."""
    with Server({"dot": Then(Wait(0.06), "250 taken")}) as server:
        made = host(folder, server)
        for one in numbered(12):
            made.put(one)
        tally = made.ship(limit=2)
        assert (tally.sent, tally.kept) == (2, 10)
        tally = made.ship(seconds=0.1)
        assert 1 <= tally.sent < 10
        assert tally.kept == 10 - tally.sent
        assert made.ship().kept == 0
        assert [one for one, _ in taken(server)] == list(numbered(12))


# -- what goes


def test_it_goes_as_it_is_held(folder: Path) -> None:
    """INTERMITTENT 6.4, line 4: Bcc, 8-bit, dots, no From: nothing is added, dropped or rewritten."""
    header = b"Bcc: secret@x.example\nReceived: by me\nSubject: \xe4\nX: y\n folded\n"
    body = b".\n..\nFrom x\n\xff\n"
    with Server() as server:
        made = host(folder, server)
        with Spool(made.keeper) as spool:
            held = Held(Envelope("", (Addressee("A.b@X.example"), Addressee('"q q"@x.example'))), header, Body(body))
            spool.put(_written(held), "one")
        assert made.ship().sent == 1
        [message] = server.accepted
    assert message.text == (header + b"\n" + body).replace(b"\n", b"\r\n")
    assert message.sender == b""
    assert message.recipients == [b"A.b@X.example", b'"q q"@x.example']
    assert b"BODY=8BITMIME" in message.mail_parameters
    assert b"SIZE=%d" % len(message.text) in message.mail_parameters


def test_notifications_are_asked_for_as_they_were(folder: Path) -> None:
    """RFC 3461: RET and ENVID of the message, NOTIFY and ORCPT of each recipient."""
    with Server(extensions=CHUNKING) as server:
        made = host(folder, server)
        to = Addressee("a@x.example", "NEVER"), Addressee("b@x.example", "SUCCESS,DELAY", "rfc822;c@y.example")
        made.put("one", *to, returns="HDRS", envelope_id="QQ1")
        assert made.ship().sent == 1
        [message] = server.accepted
    assert message.mail_parameters.endswith(b"RET=HDRS ENVID=QQ1")
    assert message.rcpt_parameters == [b"NOTIFY=NEVER", b"NOTIFY=SUCCESS,DELAY ORCPT=rfc822;c@y.example"]


def test_addresses_beyond_ascii_need_smtputf8(folder: Path) -> None:
    """RFC 6531: a host without it cannot take such a message; the next one goes."""
    with Server() as server:
        made = host(folder, server, 'on_refuse = "archive"')
        made.put("one", "\u00e4@x.example")
        made.put("two")
        tally = made.ship()
        assert (tally.sent, tally.refused, tally.kept) == (1, 1, 0)
    assert "SMTPUTF8" in made.aside("failed")["one"]["reply"]


def test_other_formats_ship_as_well(folder: Path) -> None:
    """INTERMITTENT 2: what Exim's transports write, mixed outcomes included."""
    with Server({"RCPT later@x.example": "450 later", "RCPT no@x.example": "550 no"}) as server:
        made = host(folder, server, 'on_refuse = "archive"')
        made.put("first")
        assert made.ship().sent == 1
        to = tuple(map(Addressee, ("you@x.example", "later@x.example", "no@x.example")))
        held = Held(Envelope("me@client.example", to, clock.now()), b"Message-ID: <one@x>\n", Body(b"Hello.\n"))
        place = os.open(made.path / "new", os.O_RDONLY)
        mailstore.write(place, "1xUcvW-0005Ol-1d", held)
        os.close(place)
        place = os.open(made.path, os.O_RDONLY)
        maildir.write(place, held._replace(header=b"Message-ID: <two@x>\n"), "client.example")
        os.close(place)
        tally = made.ship()
        assert (tally.sent, tally.kept, tally.refused) == (2, 2, 2)
        assert sorted(taken(server)[1:]) == [("one", [b"you@x.example"]), ("two", [b"you@x.example"])]
    assert list(made.waiting().values()) == [("later@x.example",)] * 2
    assert [why["recipients"] for why in made.aside("failed").values()] == [["no@x.example"]] * 2


@pytest.mark.parametrize("name", [b"id-\xff\xfe", b"id-a\nid-b 1", b"\x1b[31m", b"x" * 200])
def test_a_name_is_any_octets(folder: Path, name: bytes) -> None:
    """INTERMITTENT 6.1: a file goes whatever its name is, and its name is no line of a list."""
    with Server() as server:
        made = host(folder, server)
        made.put("one")
        os.rename(made.path / "new" / "one", os.path.join(os.fsencode(made.path), b"new", name))
        tally = made.ship()
        assert (tally.sent, tally.failure) == (1, None)
    assert made.waiting() == {}
    with Spool(made.keeper) as spool:
        assert not spool.has("id-b")


def test_a_name_without_room_for_a_journal_stands_in_nobodys_way(folder: Path) -> None:
    """INTERMITTENT 6.1, 6.4: what is written beside a message has its name and some octets more."""
    with Server() as server:
        made = host(folder, server, "max_age = 1")
        made.put("x" * 253, at=clock.now() - 5)
        made.put("one")
        tally = made.ship()
        assert (tally.sent, tally.kept) == (1, 1)
        assert made.expire().expired == 0
    assert tally.failure is not None
    assert "its name is longer than 200 octets" in tally.failure.sentence()


@pytest.mark.row("H10")
def test_a_damaged_file_stands_in_nobodys_way(folder: Path) -> None:
    """INTERMITTENT 6.4: it is told of, and stays."""
    with Server() as server:
        made = host(folder, server)
        made.put("a")
        (made.path / "new" / "a").write_bytes(b"MAIL FROM:<x@y>\nRCPT TO:<")
        made.put("b")
        tally = made.ship()
        assert (tally.sent, tally.kept) == (1, 1)
    assert tally.failure is not None
    assert "cheshire/new/a" in tally.failure.sentence()
    assert made.events("unreadable")


# -- what becomes of it


OUTCOMES: list[tuple[dict[str, str], dict[str, int], tuple[str, ...], list[str]]] = [
    # the server's script, what is told of in the tally, who waits, in failed/
    ({"RCPT a@x.example": "450 x"}, {"sent": 1, "kept": 1}, ("a@x.example",), []),
    ({"RCPT a@x.example": "550 x"}, {"sent": 1, "refused": 1}, (), ["a@x.example"]),
    ({"RCPT a@x.example": "550 x", "RCPT b@x.example": "450 x"}, {"kept": 1, "refused": 1}, ("b@x.example",), ["a"]),
    ({"RCPT": "550 x"}, {"refused": 1}, (), ["a@x.example", "b@x.example"]),
    ({"RCPT": "450 x"}, {"kept": 1}, ("a@x.example", "b@x.example"), []),
    ({"MAIL": "451 x"}, {"kept": 1}, ("a@x.example", "b@x.example"), []),
    ({"MAIL": "550 x"}, {"refused": 1}, (), ["a@x.example", "b@x.example"]),
    ({"DATA": "451 x"}, {"kept": 1}, ("a@x.example", "b@x.example"), []),
    ({"DATA": "554 x"}, {"refused": 1}, (), ["a@x.example", "b@x.example"]),
    ({"dot": "452 x"}, {"kept": 1}, ("a@x.example", "b@x.example"), []),
    ({"dot": "554 x"}, {"refused": 1}, (), ["a@x.example", "b@x.example"]),
    ({"dot": "554 x", "RCPT b@x.example": "450 x"}, {"kept": 1, "refused": 1}, ("b@x.example",), ["a@x.example"]),
]


@pytest.mark.row("H9")
@pytest.mark.parametrize(("script", "told", "waiting", "failed"), OUTCOMES, ids=[label(row[0]) for row in OUTCOMES])
def test_each_recipient_has_an_outcome_of_its_own(
    folder: Path, script: dict[str, str], told: dict[str, int], waiting: tuple[str, ...], failed: list[str]
) -> None:
    """INTERMITTENT 6.4, line 6: 2xx goes, 4xx waits, 5xx is put aside; the host has been heard, and has no record."""
    with Server(script) as server:
        made = host(folder, server, 'on_refuse = "archive"')
        made.put("one", "a@x.example", "b@x.example")
        tally = made.ship()
        server.finished()
    assert {key: value for key, value in vars(tally).items() if value and key in ("sent", "kept", "refused")} == told
    assert made.waiting() == ({"one": waiting} if waiting else {})
    aside = [one for why in made.aside("failed").values() for one in why["recipients"]]
    assert [one.split("@")[0] for one in aside] == [one.split("@")[0] for one in failed]
    assert not (made.path / "state").exists()
    assert made.journals() == []
    assert bool(tally.next) == bool(waiting)


DOWN: list[tuple[dict[str, Any], int]] = [
    ({"greeting": "421 busy"}, 1),
    ({"greeting": "554 go away"}, 1),
    ({"greeting": Drop()}, 1),
    ({"EHLO": "550 x", "HELO": "550 x"}, 1),
    ({"MAIL": "421 x"}, 1),
    ({"RCPT 1": "421 x"}, 1),
    ({"DATA": "421 x"}, 1),
    ({"dot": "421 x"}, 1),
    ({"MAIL": Drop()}, 2),
    ({"RCPT": Reset()}, 2),
    ({"DATA": Drop()}, 2),
    ({"DATA": "250 what"}, 2),
]


@pytest.mark.parametrize(("script", "connections"), DOWN, ids=[label(row[0]) for row in DOWN])
def test_trouble_with_the_host_stops_the_run(folder: Path, script: dict[str, Any], connections: int) -> None:
    """INTERMITTENT 6.4, line 6: what may be one message's own trouble is the host's when the next one meets it too."""
    with Server(script) as server:
        made = host(folder, server)
        for one in numbered(5):
            made.put(one)
        tally = made.ship()
        sessions = len(server.finished())
    assert (tally.sent, tally.kept, tally.parked) == (0, 5, 0)
    assert sessions <= connections + (1 if "MAIL" in script or "dot" in script else 0)
    assert tally.failure is not None
    assert (made.path / "state").exists()
    assert made.journals() == []
    assert made.events("failed")


@pytest.mark.row("H10")
def test_a_message_that_breaks_every_connection_does_not_stop_the_others(folder: Path) -> None:
    """INTERMITTENT 5: one that a host cannot swallow must not stop all mail for ever."""
    with Server({"RCPT poison@x.example": Drop()}) as server:
        made = host(folder, server)
        made.put("a", "poison@x.example")
        made.put("b")
        made.put("c", "poison@x.example")
        made.put("d")
        tally = made.ship()
        assert (tally.sent, tally.kept, tally.failure) == (2, 2, None)
        assert [one for one, _ in taken(server)] == ["b", "d"]
    assert not (made.path / "state").exists()


def test_a_name_that_cannot_be_looked_up_is_temporary(folder: Path) -> None:
    """INTERMITTENT 5: dma bounced everything when the network was away."""
    made = Host(folder, "smtp://does-not-exist.invalid", 'retry = "* lookup F,1h,7m\\n* * F,1h,20m"')
    made.put("one")
    now = clock.now()
    tally = made.ship()
    assert (tally.kept, tally.refused) == (1, 0)
    assert 415 < tally.next - now < 430


RULES = """
* refused_A           F,1h,1m
* timeout_connect_A   F,1h,2m
* timeout_A           F,1h,3m
* lost_connection     F,1h,4m
* auth_failed         F,1h,6m
* tls_required        F,1h,7m
* mail_45x            F,1h,8m
* rcpt_452            F,1h,9m
* data_4xx            F,1h,10m
* *                   F,1h,11m
"""
NAMES: list[tuple[dict[str, Any], str, int]] = [
    # the server's script, more of the table, the minutes of the rule
    ({"greeting": Silence()}, "timeouts = { greeting = 0.2 }", 3),
    ({"EHLO": Silence()}, "timeouts = { command = 0.2 }", 3),
    ({"greeting": Drop()}, "", 4),
    ({"DATA": Drop()}, "", 4),
    ({"greeting": "421 busy"}, "", 11),
    ({"greeting": "554 no"}, "", 11),
    ({}, 'auth = { user = "me", password = "x", allow_plaintext = true }', 6),
    ({}, 'tls = { policy = "required" }', 7),
    ({"MAIL": "451 x"}, "", 8),
    ({"MAIL": "421 x"}, "", 11),
    ({"RCPT": "452 x"}, "", 9),
    ({"RCPT": "450 x"}, "", 11),
    ({"RCPT": Silence()}, "timeouts = { command = 0.2 }", 11),
    ({"DATA": "451 x"}, "", 10),
    ({"dot": "452 x"}, "", 10),
]


@pytest.mark.parametrize(("script", "more", "minutes"), NAMES, ids=[f"{label(row[0])} {row[1]}" for row in NAMES])
def test_each_trouble_has_the_name_that_rules_know(
    folder: Path, script: dict[str, Any], more: str, minutes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INTERMITTENT 3.4: the rule for what happened decides when it is tried again."""
    with Server(script) as server:
        made = host(folder, server, f'retry = """{RULES}"""\n{more}')
        made.put("one")
        now = moved(monkeypatch, 0)
        tally = made.ship()
    assert (tally.sent, tally.kept) == (0, 1)
    assert tally.next == now + minutes * 60


def test_a_host_that_does_not_answer_has_a_name_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """INTERMITTENT 3.4: timeout_connect_A, which is no timeout_A."""
    with contextlib.ExitStack() as stack:
        busy = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):  # its queue is full then, and what comes next is not answered
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(busy.getsockname())
        url = f"smtp://127.0.0.1:{busy.getsockname()[1]}"
        made = Host(folder, url, f'retry = """{RULES}"""\ntimeouts = {{ connect = 0.3 }}')
        made.put("one")
        now = moved(monkeypatch, 0)
        assert made.ship().next == now + 120


@pytest.mark.row("H10")
def test_a_host_that_fails_does_not_stop_the_next(folder: Path, closed_port: int) -> None:
    """INTERMITTENT 6.4: ship --all, in the order of the configuration, one connection each."""
    with Server() as server:
        made = Host(folder, f"smtp://127.0.0.1:{closed_port}")
        made.file.write_text(f'{made.file.read_text()}[hold.hatter]\nto = "smtp://127.0.0.1:{server.port}"\n')
        made.put("one")
        made.keeper = made.keeper._replace(folder=str(folder / "spool" / "hatter"))
        made.put("two")
        made.put("three")
        done = _run(made, "--all")
        assert len(server.finished()) == 1
    assert (done.returncode, done.stdout) == (75, b"hatter: sent 2\n")
    assert done.stderr == b"", "cron would send a mail, every time"


def test_a_mailbox_that_is_full_goes_by_the_rule_for_its_address(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """INTERMITTENT 3.4: the key of a recipient is the address, its error rcpt_452; without a set it is given up."""
    rules = 'retry = "full@x.example rcpt_452 F,1h,3m\\nnever@x.example rcpt_4xx\\n* * F,5d,20m"\non_expire = "archive"'
    with Server({"RCPT": "452 4.2.2 full"}) as server:
        made = host(folder, server, rules)
        made.put("full", "full@x.example")
        made.put("never", "never@x.example")
        now = moved(monkeypatch, 0)
        tally = made.ship()
    assert (tally.kept, tally.expired, tally.next) == (1, 1, now + 180)
    assert list(made.aside("archive")) == ["never"]


def test_what_a_host_cannot_take_is_refused_without_being_sent(folder: Path) -> None:
    """INTERMITTENT 6.4: too large for the host is this message's trouble, and for good."""
    with Server(extensions=("PIPELINING", "SIZE 500")) as server:
        made = host(folder, server, 'on_refuse = "archive"')
        made.put("large", text=b"x\n" * 1000)
        made.put("small")
        tally = made.ship()
        assert (tally.sent, tally.refused) == (1, 1)
    assert "500 are the limit" in made.aside("failed")["large"]["reply"]


def test_hosts_of_a_table_are_tried_in_turn(folder: Path, closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """INTERMITTENT 6.4: one that is down, one that cannot take one of the messages; the trouble is that message's."""
    with Server(extensions=("PIPELINING", "SIZE 500")) as server:
        hosts = f'["smtp://127.0.0.1:{closed_port}", "smtp://127.0.0.1:{server.port}"]'
        made = Host(folder, hosts, f'retry = """{RULES}"""')
        made.put("large", text=b"x\n" * 1000)
        made.put("small")
        tally = made.ship()
        assert (tally.sent, tally.kept, tally.refused, tally.failure) == (1, 1, 0, None)
        assert taken(server) == [("small", [b"you@x.example"])]
    [kept] = made.events("kept")
    assert "connection refused" in kept
    assert "500 are the limit" in kept
    now = moved(monkeypatch, 0)
    tally = made.ship(now=True)  # the second is down, too: the rule is that for the first
    assert (tally.kept, tally.next) == (1, now + 60)
    assert tally.failure is not None


def test_duplicate_recipients_get_it_once(folder: Path) -> None:
    """RULES B1: a recipient counts once, and its outcome is that of all."""
    with Server({"RCPT no@x.example": "550 no"}) as server:
        made = host(folder, server, 'on_refuse = "archive"')
        made.put("one", "a@x.example", "no@x.example", "a@x.example", "no@x.example")
        tally = made.ship()
        assert (tally.sent, tally.kept) == (1, 0)
        assert taken(server) == [("one", [b"a@x.example"])]


# -- a verdict that does not come


@pytest.mark.row("H8")
@pytest.mark.parametrize("offered", [PLAIN, CHUNKING])
@pytest.mark.parametrize("action", [Drop(), Reset(), "250-a\n251 b", "399 what"], ids=["FIN", "RST", "mixed", "399"])
def test_a_message_that_may_have_been_sent_is_parked(folder: Path, action: Any, offered: tuple[str, ...]) -> None:
    """INTERMITTENT 6.0, 6.4: never sent again by itself; in failed/, with the reason; the others go."""
    with Server({"dot 1": action}, extensions=offered) as server:
        made = host(folder, server, 'on_refuse = "archive"')
        made.put("one", "a@x.example", "b@x.example")
        tally = made.ship()
        server.finished()
    assert (tally.sent, tally.parked, tally.kept) == (0, 1, 0)
    assert made.aside("failed")["one"]["outcome"] == "parked"
    assert made.aside("failed")["one"]["recipients"] == ["a@x.example", "b@x.example"]
    assert made.events("parked")
    assert made.bounces() == []
    assert made.journals() == []


def test_a_parked_message_can_be_put_back(folder: Path) -> None:
    """INTERMITTENT 6.4: by its owner, who has asked at the other end; nothing remembers that it was on its way."""
    with Server([{"dot": Drop()}, {}]) as server:
        made = host(folder, server)
        made.put("one")
        done = _run(made, "cheshire")
        assert (done.returncode, done.stdout[:9]) == (69, b"parked 1 ")
        assert b"(muawrap held --failed cheshire shows it)" in done.stderr
        (made.path / "failed" / "one").rename(made.path / "new" / "one")
        assert made.ship(now=True).sent == 1
        assert taken(server) == [("one", [b"you@x.example"])]


def test_only_those_it_went_to_are_parked(folder: Path) -> None:
    """INTERMITTENT 6.4: a mixed outcome, and then no verdict."""
    with Server([{"RCPT later@x.example": "450 later", "dot": Drop()}, {}]) as server:
        made = host(folder, server)
        made.put("one", "a@x.example", "later@x.example")
        tally = made.ship()
        assert (tally.parked, tally.kept) == (1, 1)
        assert made.waiting() == {"one": ("later@x.example",)}
        assert made.ship(now=True).sent == 1
        assert taken(server) == [("one", [b"later@x.example"])]
    assert [why["recipients"] for why in made.aside("failed").values()] == [["a@x.example"]]


def test_it_is_sent_again_where_its_owner_wants_that(folder: Path) -> None:
    """INTERMITTENT 6.4: uncertain = "resend", which is logged; the same Message-ID."""
    with Server([{"dot": Drop()}, {}]) as server:
        made = host(folder, server, 'uncertain = "resend"')
        made.put("one")
        tally = made.ship()
        assert (tally.parked, tally.kept) == (0, 1)
        assert made.ship(now=True).sent == 1
        sessions = server.finished()
    assert [name(message) for session in sessions for message in session.messages] == ["one", "one"]
    assert made.events("resend")


def test_a_server_that_never_answers_after_the_dot_parks_two_and_no_more(folder: Path) -> None:
    """INTERMITTENT 6.4: the second in a row is the host's trouble: all mail must not go to failed/."""
    with Server({"dot": Silence()}) as server:
        made = host(folder, server, "timeouts = { final = 0.2 }")
        for one in numbered(5):
            made.put(one)
        tally = made.ship()
    assert (tally.parked, tally.kept) == (2, 3)
    assert (made.path / "state").exists()


# -- after a crash


def _crashed(made: Host, *lines: str) -> None:
    entry = made.entry("one")
    (made.path / "done" / "one.j").write_text(f"file {entry.inode} {entry.mtime!r}\n" + "".join(lines))


def test_what_was_acknowledged_before_a_crash_is_not_sent_again(folder: Path) -> None:
    """INTERMITTENT 6.4, the journal: `ack` finishes the removal."""
    with Server() as server:
        made = host(folder, server)
        made.put("one", "a@x.example", "b@x.example")
        with Spool(made.keeper) as spool:
            spool.journals()
        (made.path / "done").mkdir(exist_ok=True)
        _crashed(made, "dot 0 1\n", "ack 250 taken\n")
        made.ship()
        assert server.sessions == []
    assert made.waiting() == {}
    assert made.journals() == []
    assert made.events("recovered")


@pytest.mark.row("H9")
def test_after_a_crash_the_others_still_get_it(folder: Path) -> None:
    """INTERMITTENT 6.4, the journal: a mixed outcome; and who is done is done."""
    with Server() as server:
        made = host(folder, server)
        made.put("one", "a@x.example", "b@x.example", "c@x.example", "d@x.example")
        (made.path / "done").mkdir(exist_ok=True)
        _crashed(made, "dot 0\n", "no 452 full\n", "dot 0 2\n", "ack 250 taken\n", "gone 3\n")
        assert made.ship().sent == 1
        assert taken(server) == [("one", [b"b@x.example"])]


@pytest.mark.row("H8")
def test_after_a_crash_before_the_verdict_it_is_parked(folder: Path) -> None:
    """INTERMITTENT 6.4, the journal: `dot` without `ack`."""
    with Server() as server:
        made = host(folder, server)
        made.put("one", "a@x.example", "b@x.example")
        (made.path / "done").mkdir(exist_ok=True)
        _crashed(made, "dot 0\n")
        tally = made.ship()
        assert (tally.parked, tally.sent) == (1, 1)
        assert taken(server) == [("one", [b"b@x.example"])]
    [why] = made.aside("failed").values()
    assert why["recipients"] == ["a@x.example"]
    assert "crash" in why["reply"]


def test_a_journal_without_its_message_goes(folder: Path) -> None:
    """INTERMITTENT 6.4: the crash came after the message was removed, or rewritten."""
    with Server() as server:
        made = host(folder, server)
        made.put("one")
        (made.path / "done").mkdir(exist_ok=True)
        (made.path / "done" / "gone.j").write_text("file 1 1.0\ndot 0\n")
        (made.path / "done" / "one.j").write_text("file 1 1.0\ndot 0\nack 250 x\n")
        assert made.ship().sent == 1
    assert made.journals() == []


@pytest.mark.row("H6")
def test_a_journal_that_cannot_be_written_keeps_the_end_back(folder: Path) -> None:
    """INTERMITTENT 6.4: no room for `dot`, no dot: the message stays, and nothing was sent."""
    with Server() as server:
        made = host(folder, server)
        made.put("one")
        done = subprocess.run(
            made.argv("ship", "cheshire"),
            capture_output=True,
            env=made.environment,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
            check=False,
        )
        server.finished()
        assert [message.complete for message in server.messages] == [False]
    assert done.returncode == 75
    assert b"cannot be written: file too large (make room on its file system)" in done.stderr
    assert made.waiting() == {"one": ("you@x.example",)}
    assert made.ship(now=True).failure is not None  # there is no server any more, and no journal stood in the way


def test_a_journal_that_cannot_be_read_holds_its_message_back(folder: Path) -> None:
    """INTERMITTENT 6.4: it may say that the message has been sent; the others go."""
    with Server() as server:
        made = host(folder, server, "max_age = 1")
        made.put("one", at=clock.now() - 5)
        made.put("two")
        (made.path / "done" / "one.j").mkdir(parents=True)
        tally = made.ship()
        assert (tally.sent, tally.kept) == (1, 1)
        assert made.expire().expired == 0
        assert taken(server) == [("two", [b"you@x.example"])]
    assert tally.failure is not None
    assert "one.j cannot be read" in tally.failure.sentence()


@pytest.mark.parametrize("recipients", [("a@x.example",), ("a@x.example", "b@x.example")])
def test_a_sender_is_told_once_however_often_the_archive_fails(folder: Path, recipients: tuple[str, ...]) -> None:
    """INTERMITTENT 6.4: a bounce that was taken is not sent again because its message cannot be put aside."""
    with Server({"RCPT a@x.example": "550 5.1.1 no"}) as server:
        made = host(folder, server)
        made.put("one", *recipients)
        (made.path / "archive").write_text("")  # as where somebody has put a link to another disk
        for _ in range(3):
            tally = made.ship(now=True)
            assert tally.failure is not None
            assert "archive is no folder" in tally.failure.sentence()
        (made.path / "archive").unlink()
        assert made.ship(now=True).refused == 1
        sent = taken(server)
    assert sent == [("one", [b"b@x.example"])] * (len(recipients) - 1)
    assert len(made.bounces()) == 1
    assert [why["recipients"] for why in made.aside("archive").values()] == [["a@x.example"]]
    assert (made.waiting(), made.journals()) == ({}, [])


def test_a_bounce_is_not_begun_where_nothing_can_be_written(folder: Path) -> None:
    """INTERMITTENT 6.4: what cannot be noted is not told, or it would be told every time."""
    with Server({"RCPT": "550 5.1.1 no"}) as server:
        made = host(folder, server)
        made.put("one")
        for _ in range(2):
            done = subprocess.run(
                made.argv("ship", "--now", "cheshire"),
                capture_output=True,
                env=made.environment,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
                check=False,
            )
            assert done.returncode == 75
    assert made.bounces() == []
    assert list(made.waiting()) == ["one"]


def test_a_mail_system_that_hangs_is_waited_for_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """INTERMITTENT 5: what hangs must not stop the mail of a host for as many times as there are messages."""
    assert mta.hand.__kwdefaults__ is not None
    monkeypatch.setitem(mta.hand.__kwdefaults__, "seconds", 1.0)
    with Server({"RCPT": "550 5.1.1 no"}) as server:
        made = host(folder, server)
        (made.folder / "mta").write_text("#!/bin/sh\necho x >>" + str(made.folder / "called") + "\nexec sleep 60\n")
        for one in numbered(3):
            made.put(one)
        tally = made.ship()
    assert (tally.refused, tally.kept) == (0, 3)
    assert tally.failure is not None
    assert "took longer than" in tally.failure.sentence()
    assert (made.folder / "called").read_text() == "x\n"


# -- signals


def test_a_signal_ends_it_in_good_order(folder: Path) -> None:
    """INTERMITTENT 6.4: before the end of a text that message stays as it was; 75."""
    reached = threading.Event()
    with Server({"RCPT two@x.example": Hold(reached)}) as server:
        made = host(folder, server)
        made.put("one", "one@x.example")
        made.put("two", "two@x.example")
        work = _Popen(made, "cheshire")
        assert reached.wait(20)
        work.send_signal(signal.SIGTERM)
        out, err = work.communicate(timeout=20)
        assert (work.returncode, out) == (75, b"sent 1 kept 1\n")
        assert b"stopped by a signal" in err
        server.finished()
    assert made.waiting() == {"two": ("two@x.example",)}
    assert made.journals() == []


def test_a_signal_after_the_dot_waits_for_the_verdict(folder: Path) -> None:
    """RULES A5: what was accepted is done, and the next one is not begun."""
    reached, go = threading.Event(), threading.Event()
    with Server({"dot": Then(_Sets(reached), Wait(go), "250 taken")}) as server:
        made = host(folder, server)
        made.put("one")
        made.put("two")
        work = _Popen(made, "cheshire")
        assert reached.wait(20)
        work.send_signal(signal.SIGTERM)
        time.sleep(0.1)  # so that it comes before the verdict: nothing tells when a signal has been heard
        go.set()
        out, _ = work.communicate(timeout=20)
        assert (work.returncode, out) == (75, b"sent 1 kept 1\n")
    assert made.waiting() == {"two": ("you@x.example",)}
    assert made.journals() == []


def test_a_second_signal_ends_the_waiting_for_the_verdict_and_is_no_trouble_of_the_host(folder: Path) -> None:
    """INTERMITTENT 6.4: it may have been sent, and is parked; the host has no record, for it did nothing wrong."""
    reached, go = threading.Event(), threading.Event()
    with Server({"dot": Then(_Sets(reached), Wait(go))}) as server:
        made = host(folder, server)
        made.put("one")
        work = _Popen(made, "cheshire")
        assert reached.wait(20)
        work.send_signal(signal.SIGTERM)
        while not _catches(work, signal.SIGALRM):  # as it does from the first signal on
            time.sleep(0.01)
        work.send_signal(signal.SIGTERM)
        out, err = work.communicate(timeout=20)
        go.set()
    assert (work.returncode, out) == (69, b"parked 1\n")
    assert b"stopped by a signal" in err
    assert not (made.path / "state").exists()


# -- where


@pytest.mark.row("H13")
def test_another_address_needs_trust(folder: Path) -> None:
    """INTERMITTENT 6.4, line 5: mail never goes to whoever asks, unless the table says that callers are trusted."""
    with Server() as server:
        made = Host(folder, "smtp://127.0.0.1:9")
        made.put("one")
        done = _run(made, "--to", f"127.0.0.1:{server.port}", "cheshire")
        assert done.returncode == 78
        assert b"trust_caller = true" in done.stderr
        assert server.sessions == []
        made.configure("trust_caller = true")
        done = _run(made, "--to", f"127.0.0.1:{server.port}", "cheshire")
        assert (done.returncode, done.stdout) == (0, b"sent 1\n")


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("192.0.2.1", "192.0.2.1", 2525),
        ("192.0.2.1:26", "192.0.2.1", 26),
        ("::1", "::1", 2525),
        ("[::1]:27", "::1", 27),
    ],
)
def test_an_address_has_the_ports_of_the_table_and_its_name_is_still_verified(
    folder: Path, text: str, address: str, port: int
) -> None:
    """INTERMITTENT 6.4, line 5: whoever stands at the address must have the host's certificate."""
    made = Host(folder, "submission://cheshire.example:2525", "trust_caller = true")
    found = road.address_of(made.keeper, text)
    assert (found.host, found.port, found.tls.server_name) == (address, port, "cheshire.example")
    with pytest.raises(Failure, match="--to"):
        road.address_of(made.keeper, "no host")


# -- what the outbox needs


def test_a_road_decides_how_a_message_becomes_a_transaction(folder: Path) -> None:
    """INTERMITTENT 6.0: the outbox ships by the same machine: all or nobody, and in its own order."""
    with Server({"RCPT no@x.example": "550 no"}) as server:
        made = host(folder, server, 'on_refuse = "archive"')
        made.put("a", "a@x.example", "b@x.example")
        made.put("b", "a@x.example", "no@x.example")
        made.put("c", "nobody@x.example")
        made.put("d", "defer@x.example")
        made.put("e", "a@x.example")
        way = to_host(made.config, made.keeper)
        told: list[tuple[str, list[str]]] = []

        def transaction(held: Held) -> Transaction | None:
            first = held.envelope.recipients[0].address
            if first.startswith("nobody"):
                return None
            if first.startswith("defer"):
                raise Failure("not yet", lead="not sent, try again")
            found = way.made(held)
            assert found is not None
            return found._replace(partial=False)

        backwards = Road(
            transaction,
            lambda spool: iter(sorted(spool.entries(), key=lambda entry: entry.name, reverse=True)),
            lambda outcome, held, losses: told.append((outcome, [one.addressee.address for one in losses])),
        )
        tally = made.ship(backwards)
        assert (tally.sent, tally.refused, tally.kept) == (2, 1, 1)
        assert [one for one, _ in taken(server)] == ["e", "a"]
    assert made.waiting() == {"d": ("defer@x.example",)}
    assert told == [("refused", ["a@x.example", "no@x.example"])]


# -- what is said


def test_the_command_says_what_became_of_it(folder: Path) -> None:
    """INTERMITTENT 6.4: the summary, and a status for each kind; -- before HOST, as Exim's ETRN command has it."""
    script = {"RCPT no@x.example": "550 no", "RCPT later@x.example": "450 later"}
    with Server(script) as server:
        made = host(folder, server, 'on_refuse = "archive"')
        assert _said(_run(made, "--", "cheshire")) == (0, "", "")
        made.put("one")
        planned = _run(made, "--dry-run", "cheshire")
        assert (planned.returncode, planned.stderr) == (0, b"")
        assert re.fullmatch(rb"send   one \d+ B \ds <me@client.example> <you@x.example>\n", planned.stdout)
        assert server.sessions == []
        assert _said(_run(made, "--now", "--", "x.example")) == (0, "sent 1\n", "")
        made.put("two", "a@x.example", "later@x.example")
        done = _run(made, "cheshire")
        assert done.returncode == 75
        assert re.fullmatch(rb"sent 1 kept 1 next \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\n", done.stdout)
        made.put("three", "no@x.example")
        done = _run(made, "--json", "cheshire")
        told = json.loads(done.stdout)
        assert (done.returncode, told["sent"], told["kept"], told["refused"], told["status"]) == (69, 0, 1, 1, 69)
        done = _run(made, "-v", "--now", "cheshire")
        assert (done.returncode, done.stdout) == (75, b"")
        assert b">>> RCPT TO:<later@x.example>" in done.stderr
    for line in ("sent", "kept", "refused"):
        assert all("host=cheshire" in one and " to=" in one for one in made.events(line)), line


@pytest.mark.parametrize("descriptor", ["stdout", "stderr"])
def test_whether_anybody_listens_changes_no_status(folder: Path, descriptor: str) -> None:
    """RULES A5: the reader of a pipe has gone, a disk is full."""
    with Server({"RCPT later@x.example": "450 later"}) as server:
        made = host(folder, server)
        made.put("one")
        made.put("two", "later@x.example")
        (made.path / "new" / "three").write_bytes(b"")
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                made.argv("ship", "cheshire"),
                stdin=subprocess.DEVNULL,
                env=made.environment,
                check=False,
                timeout=60,
                stdout=full if descriptor == "stdout" else subprocess.PIPE,
                stderr=full if descriptor == "stderr" else subprocess.PIPE,
            )
    assert done.returncode == 75
    assert b"Traceback" not in (done.stdout or b"") + (done.stderr or b"")


def test_it_is_told_when_the_host_may_be_tried(folder: Path, closed_port: int) -> None:
    """INTERMITTENT 6.4, line 2: retry time not reached, next at ..."""
    made = Host(folder, f"smtp://127.0.0.1:{closed_port}")
    made.put("one")
    done = _run(made, "cheshire")
    assert (done.returncode, done.stdout) == (75, b"")
    assert b"connection refused" in done.stderr
    done = _run(made, "cheshire")
    assert done.returncode == 75
    assert re.fullmatch(
        rb"muawrap: cheshire: retry time not reached, next at [-\d :]+ \(--now does not wait for it\)\n", done.stderr
    )
    assert _said(_run(made, "--all")) == (75, "", "")


@pytest.mark.parametrize(
    "words", [("nobody",), ("--to", "x", "--all"), (), ("--all", "cheshire"), ("--time", "x", "a")]
)
def test_a_call_that_cannot_be_is_refused(folder: Path, words: tuple[str, ...]) -> None:
    """INTERMITTENT 6.4: 78 for the configuration, click's own 2 for the call."""
    made = Host(folder, "smtp://127.0.0.1:9")
    done = _run(made, *words)
    assert done.returncode == (78 if words == ("nobody",) else 2)
    assert b"Traceback" not in done.stderr


def test_trouble_of_this_machine_is_told_to_cron_too(folder: Path) -> None:
    """INTERMITTENT 6.4: unlike a host that is down, it does not pass by itself; the status says which it is."""
    made = Host(folder, "smtp://127.0.0.1:9")
    made.put("one")
    made.path.chmod(0o777)
    done = _run(made, "--all")
    assert (done.returncode, done.stdout) == (78, b"")
    assert b"is writable by everybody (chmod o-w " in done.stderr
    made.path.chmod(0o770)
    (made.path / "new" / "one").write_bytes(b"MAIL FROM:<a@b.example>\n")
    done = _run(made, "--all")
    assert (done.returncode, done.stdout) == (75, b"")
    assert done.stderr.startswith(b"muawrap: cheshire: ")
    assert b"new/one: line 1: the input ends in the middle of a message" in done.stderr


def test_what_nobody_could_count_is_not_told_as_nothing(folder: Path) -> None:
    """muawrap(1): --json, where the folder cannot be had at all; and where the run was broken off after a look."""
    made = Host(folder, "smtp://127.0.0.1:9")
    made.put("one")
    made.path.chmod(0o777)
    assert json.loads(_run(made, "--json", "cheshire").stdout)["kept"] is None
    made.path.chmod(0o770)
    (made.path / "again").mkdir()
    assert json.loads(_run(made, "--json", "cheshire").stdout)["kept"] is None
    (made.path / "again").rmdir()
    (made.path / "done").write_text("in the way")
    assert json.loads(_run(made, "--json", "cheshire").stdout)["kept"] == 1


def test_a_dry_run_of_all_names_each_host(folder: Path) -> None:
    """muawrap(1): as the run does, in lines and in objects; expire, too."""
    made = Host(folder, "smtp://127.0.0.1:9")
    made.put("one", at=1_000_000_000)
    assert _run(made, "--dry-run", "--all").stdout.startswith(b"cheshire: send   one ")
    assert _run(made, "--dry-run", "cheshire").stdout.startswith(b"send   one ")
    assert json.loads(_run(made, "--dry-run", "--all", "--json").stdout)["host"] == "cheshire"


def test_what_was_done_before_trouble_of_this_machine_is_told(folder: Path) -> None:
    """INTERMITTENT 6.4: the summary tells of all that was sent, and the status that somebody has to look."""
    with Server({"RCPT later@x.example": "450 later"}) as server:
        made = host(folder, server)
        made.put("one")
        made.put("two", "later@x.example")
        (made.path / "tmp").rmdir()
        (made.path / "tmp").write_text("in the way")
        done = _run(made, "--all")
    assert (done.returncode, done.stdout) == (78, b"cheshire: sent 1 kept 1\n")
    assert b"tmp is no folder" in done.stderr
    assert made.events("failed")


# -- many


@pytest.mark.row("H18")
def test_a_crowd_takes_no_memory(folder: Path) -> None:
    """INTERMITTENT 6.4: constant memory, however many messages there are."""
    grown = []
    for count in (60, 500):
        (folder / str(count)).mkdir()
        with Server(extensions=CHUNKING, keep_data=False) as server:
            made = host(folder / str(count), server)
            made.put("m")
            one = (made.path / "new" / "m").read_bytes()
            for each in numbered(count):
                (made.path / "new" / each).write_bytes(one)
            script = (
                "import resource, sys\nfrom muawrap.admin.program import main\n"
                "try:\n    main()\nfinally:\n    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
            )
            argv = made.argv("ship", "cheshire")
            argv[argv.index("-c") + 1] = script
            done = subprocess.run(argv, capture_output=True, env=made.environment, check=False, timeout=120)
            assert done.returncode == 0, done.stderr
            assert len(server.finished()) == 1
        assert done.stdout.startswith(b"sent %d\n" % (count + 1))
        grown.append(int(done.stdout.split()[-1]))
    assert grown[1] - grown[0] < 2500, f"{grown} kB"


# -- what helps


class _Sets(Wait):
    """Others are told that the client has come this far."""

    def __init__(self, event: threading.Event) -> None:
        super().__init__(0)
        self._event = event

    def perform(self, channel: Any) -> None:
        self._event.set()


class _Thread:
    """A call in a thread, and what it returns."""

    def __init__(self, call: Any) -> None:
        self._found: list[Any] = []
        self._thread = threading.Thread(target=lambda: self._found.append(call()), daemon=True)
        self._thread.start()

    def result(self) -> Any:
        self._thread.join(20)
        assert self._found
        return self._found[0]


class _after:
    """A context manager, and something to be done before it ends."""

    def __init__(self, within: Any, act: Any) -> None:
        self._within, self._act = within, act

    def __enter__(self) -> Any:
        return self._within.__enter__()

    def __exit__(self, *exception: Any) -> Any:
        self._act()
        return self._within.__exit__(*exception)


def _written(held: Held) -> Iterator[bytes]:
    from muawrap.holding.formats import batchsmtp

    return batchsmtp.write(held)


def _Popen(made: Host, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        made.argv("ship", *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=made.environment
    )


def _catches(process: subprocess.Popen[bytes], number: signal.Signals) -> bool:
    """Whether it has a handler for that (proc(5))."""
    assert process.poll() is None
    found = re.search(r"^SigCgt:\s*([0-9a-f]+)$", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
    assert found
    return bool(int(found[1], 16) >> (number - 1) & 1)


def _run(made: Host, *words: str) -> subprocess.CompletedProcess[bytes]:
    argv = made.argv("ship", *words)
    return subprocess.run(argv, capture_output=True, env=made.environment, check=False, timeout=60)


def _said(done: subprocess.CompletedProcess[bytes]) -> tuple[int, str, str]:
    return done.returncode, done.stdout.decode(), done.stderr.decode()
