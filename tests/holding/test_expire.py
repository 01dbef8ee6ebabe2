"""What has waited too long is given up, and never by a clock that cannot be right (INTERMITTENT 6.0, 6.5)."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from muawrap.holding import clock
from muawrap.holding.rules.schedule import Record
from muawrap.holding.shipping import plan
from muawrap.holding.store.records import Noted
from muawrap.holding.store.spool import Spool
from tests.support.server import Server, closed_port
from tests.support.shipping import Host, host

DAY = 86_400.0
NOW = clock.BUILT + 100 * DAY


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a hundred days after the program was built."""
    monkeypatch.setattr(clock, "now", lambda: NOW)


@pytest.fixture
def made(tmp_path: Path) -> Host:
    """A host that is known to be down."""
    return down(Host(tmp_path, "smtp://127.0.0.1:9", 'on_expire = "archive"'))


def down(made: Host, first: float = NOW - DAY, last: float = NOW - 60) -> Host:
    """Its last try has failed."""
    with Spool(made.keeper) as spool:
        spool.set_record(Noted(Record(first, last, last + 900), "connection refused", "refused_A", "127.0.0.1"))
    return made


def aged(made: Host, name: str, days: float, *to: str) -> None:
    made.put(name, *to, at=NOW - days * DAY)


def at(monkeypatch: pytest.MonkeyPatch, moment: float) -> None:
    monkeypatch.setattr(clock, "now", lambda: moment)


def test_the_last_cutoff_is_the_limit(made: Host) -> None:
    """INTERMITTENT 6.5: without max_age, that of the rule that matches: five days of the default rules."""
    aged(made, "old", 5.01)
    aged(made, "young", 4.99)
    tally = made.expire()
    assert tally.expired == 1
    assert list(made.waiting()) == ["young"]
    [why] = made.aside("archive").values()
    assert (why["outcome"], why["how"]) == ("expired", "archive")
    assert made.bounces() == []
    assert made.events("expired")


@pytest.mark.parametrize(
    ("more", "limit"),
    [("max_age = 3600", 3600.0), ('max_age = "2d"', 2 * DAY), ('retry = "F,1d,15m; F,3d,1h"', 3 * DAY)],
)
def test_the_limit_is_of_the_table(made: Host, more: str, limit: float) -> None:
    """INTERMITTENT 6.5: max_age, else the rules."""
    made.configure(f'on_expire = "archive"\n{more}')
    made.put("old", at=NOW - limit - 1)
    made.put("young", at=NOW - limit)
    assert made.expire().expired == 1
    assert list(made.waiting()) == ["young"]


def test_the_sender_is_told_by_default(made: Host) -> None:
    """INTERMITTENT 6.0: the MTA has accepted it; archived once the report was taken, else it stays."""
    made.configure()
    aged(made, "one", 6)
    made.mta_ends_with(75)
    tally = made.expire()
    assert (tally.expired, tally.kept) == (0, 1)
    assert tally.failure is not None
    assert list(made.waiting()) == ["one"]
    made.mta_ends_with(0)
    assert made.expire().expired == 1
    [told] = made.bounces()
    assert "It could not be delivered in 6 days; the last try:\n    connection refused\n" in told
    assert "Status: 4.4.7" in told
    assert list(made.aside("archive")) == ["one"]


def test_a_bounce_is_archived_without_a_word(made: Host) -> None:
    """INTERMITTENT 6.5: never for sender <>."""
    made.configure()
    made.put("one", sender="", at=NOW - 6 * DAY)
    assert made.expire().expired == 1
    assert made.bounces() == []
    assert list(made.aside("archive")) == ["one"]


def test_it_is_thrown_away_where_that_is_written_out(made: Host) -> None:
    """INTERMITTENT 6.5: discard needs to be written out."""
    made.configure('on_expire = "discard"')
    aged(made, "one", 6)
    assert made.expire().expired == 1
    assert made.waiting() == {}
    assert made.aside("archive") == {}
    assert made.events("expired")


@pytest.mark.row("H12")
def test_nothing_expires_while_the_clock_cannot_be_right(made: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """INTERMITTENT 6.0: a machine without a battery begins in 1970."""
    made.put("one", at=5.0)
    at(monkeypatch, clock.BUILT - 1)
    assert made.expire().expired == 0


@pytest.mark.row("H12")
@pytest.mark.parametrize("told", [5.0, clock.BUILT - 1, NOW + 30 * DAY])
def test_a_time_that_cannot_be_counts_from_first_sight(
    made: Host, told: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INTERMITTENT 6.0: age counts from when it was first seen under a sane clock, and that is remembered."""
    made.put("one", at=told)
    os.utime(made.path / "new" / "one", (told, told))
    assert made.expire().expired == 0
    at(monkeypatch, NOW + 4 * DAY)
    assert made.expire().expired == 0
    at(monkeypatch, NOW + 5 * DAY + 1)
    assert down(made, last=NOW + 5 * DAY).expire().expired == 1


@pytest.mark.parametrize("since", [False, True])
def test_what_came_after_the_host_was_down_has_a_try_first(
    made: Host, since: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INTERMITTENT 6.5: one last try where one is possible; a rule without sets is final only for what was tried."""
    made.configure('on_expire = "archive"\nretry = """\n* refused_A\n* * F,4d,1h\n"""')
    made.put("one", at=NOW)
    at(monkeypatch, NOW + 7200)
    if since:
        down(made, last=NOW + 60)
    assert [one.entry.name for one in plan.to_expire(made.keeper)] == (["one"] if since else [])
    assert made.expire().expired == since


def test_a_file_that_does_not_say_counts_from_its_mtime(made: Host) -> None:
    """INTERMITTENT 6.5: what Exim's transport wrote has no `at`."""
    made.put("one")
    path = made.path / "new" / "one"
    path.write_bytes(b"MAIL FROM:<a@b.example>\nRCPT TO:<c@x.example>\nDATA\nSubject: x\n\nx\n.\n")
    os.utime(path, (NOW - 4 * DAY, NOW - 4 * DAY))
    assert made.expire().expired == 0
    os.utime(path, (NOW - 6 * DAY, NOW - 6 * DAY))
    assert made.expire().expired == 1


def test_an_over_age_message_has_one_last_try(tmp_path: Path) -> None:
    """INTERMITTENT 3.2, 6.5: where a try is possible; if that fails it is given up."""
    with Server({"RCPT later@x.example": "450 4.2.1 later"}) as server:
        made = host(tmp_path, server, 'on_expire = "archive"')
        aged(made, "good", 6)
        aged(made, "bad", 6, "later@x.example", "you@x.example")
        aged(made, "young", 4, "later@x.example")
        tally = made.ship()
        server.finished()
        assert (tally.sent, tally.expired, tally.kept) == (2, 1, 1)
    assert made.waiting() == {"young": ("later@x.example",)}
    [why] = made.aside("archive").values()
    assert why["recipients"] == ["later@x.example"]
    assert "450 4.2.1 later" in why["reply"]


def test_with_the_host_down_it_has_none(tmp_path: Path) -> None:
    """INTERMITTENT 6.5: the reason is what the host's trouble is."""
    with closed_port() as port:
        made = Host(tmp_path, f"smtp://127.0.0.1:{port}")
        aged(made, "old", 6)
        aged(made, "young", 4)
        tally = made.ship()
    assert (tally.expired, tally.kept) == (1, 1)
    [told] = made.bounces()
    assert f"127.0.0.1:{port}: connection refused while connecting" in told


RULES = {
    "longer": ("* refused_A F,10d,1h\\n* * F,1d,1h", []),
    "shorter": ("* refused_A F,1h,10m\\n* * F,5d,8h", ["old"]),
    "final": ("* refused_A\\n* * F,5d,8h", ["new", "old"]),
    "of another error": ("* rcpt_4xx\\n* * F,5d,8h", []),
}


@pytest.mark.parametrize(("rules", "expired"), RULES.values(), ids=RULES)
def test_the_rule_for_the_error_says_when_it_is_given_up(tmp_path: Path, rules: str, expired: list[str]) -> None:
    """INTERMITTENT 3.1, 3.2, 6.5: the last cutoff of the rule that matches, and no other; without any at once."""
    with closed_port() as port:
        made = Host(tmp_path, f"smtp://127.0.0.1:{port}", f'retry = "{rules}"\non_expire = "archive"')
        made.put("old", at=NOW - 2 * DAY)
        made.put("new", at=NOW)
        tally = made.ship()
    assert sorted(made.aside("archive")) == expired
    assert (tally.expired, tally.kept) == (len(expired), 2 - len(expired))
    made.put("older", at=NOW - 3 * DAY)  # the error is on record
    planned = [one.entry.name for one in plan.to_expire(made.keeper)]
    assert planned == ["older"] * ("old" in expired)
    assert made.expire().expired == len(planned)


def test_max_age_takes_the_place_of_the_cutoff(tmp_path: Path) -> None:
    """INTERMITTENT 6.5: whatever the rules say of the error."""
    with closed_port() as port:
        rules = 'max_age = "3d"\nretry = "* refused_A F,1h,10m\\n* * F,1d,1h"\non_expire = "archive"'
        made = Host(tmp_path, f"smtp://127.0.0.1:{port}", rules)
        made.put("old", at=NOW - 3 * DAY - 1)
        made.put("young", at=NOW - 3 * DAY)
        assert made.ship().expired == 1
    assert list(made.waiting()) == ["young"]


def test_the_rule_for_the_error_of_a_recipient_says_when_it_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INTERMITTENT 3.2, 3.4: a mailbox that is full has a cutoff of its own."""
    with Server({"RCPT later@x.example": "450 4.2.1 later"}) as server:
        rules = "later@x.example rcpt_4xx F,1h,10m\\n* * F,5d,8h"
        made = host(tmp_path, server, f'retry = "{rules}"\non_expire = "archive"')
        made.put("one", "later@x.example", at=NOW)
        assert made.ship().kept == 1
        at(monkeypatch, NOW + 3601)
        assert made.ship().expired == 1
    assert made.waiting() == {}


def test_each_recipient_is_given_up_by_its_own_rule(tmp_path: Path) -> None:
    """INTERMITTENT 3.1, 6.4, line 6: whoever has it already decides nothing for the others."""
    full = {"RCPT never@x.example": "450 4.2.1 later", "RCPT later@x.example": "450 4.2.1 later"}
    with Server(full) as server:
        made = host(tmp_path, server, 'retry = "a@x.example *\\nnever@x.example *\\n* * F,1h,15m"')
        made.put("one", "a@x.example", "never@x.example", "later@x.example", at=NOW)
        tally = made.ship()
    assert (tally.sent, tally.expired, tally.kept, tally.next) == (1, 1, 1, NOW + 900)
    assert made.waiting() == {"one": ("later@x.example",)}
    [told] = made.bounces()
    assert "never@x.example" in told
    assert "later@x.example" not in told


def test_what_was_never_tried_has_its_try_first(tmp_path: Path) -> None:
    """INTERMITTENT 6.5: one last try when a try is possible, and for `expire` nothing says that it is not."""
    with Server({"RCPT later@x.example": "450 4.2.1 later"}) as server:
        made = host(tmp_path, server, 'on_expire = "archive"')
        aged(made, "one", 6)
        assert list(plan.to_expire(made.keeper)) == []
        tally = made.expire()
        assert (tally.expired, tally.kept) == (0, 1)
        aged(made, "two", 4.9, "later@x.example")
        assert (made.ship().sent, list(made.waiting())) == (1, ["two"])


def test_a_message_whose_own_try_has_failed_is_given_up_without_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INTERMITTENT 6.5: it had its try, and the reason is the one it had then."""
    with Server({"RCPT later@x.example": "450 4.2.1 later"}) as server:
        made = host(tmp_path, server, 'on_expire = "archive"')
        aged(made, "one", 4.9, "later@x.example")
        assert made.ship().kept == 1
    at(monkeypatch, NOW + DAY)
    assert [one.entry.name for one in plan.to_expire(made.keeper)] == ["one"]
    assert made.expire().expired == 1
    [why] = made.aside("archive").values()
    assert "450 4.2.1 later" in why["reply"]


def test_age_goes_on_where_the_record_of_a_message_tells_nothing_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INTERMITTENT 6.0: first sight is first sight, however rarely it is tried; the log has that age, too."""
    with Server([{"RCPT": "450 4.2.1 later"}] * 2) as server:
        made = host(tmp_path, server, 'max_age = "10d"\non_expire = "archive"')
        made.put("one", at=5.0)
        os.utime(made.path / "new" / "one", (5.0, 5.0))
        assert (made.ship().kept, made.ship().expired) == (1, 0)
        at(monkeypatch, NOW + 11 * DAY)
        assert made.ship().expired == 1
    [line] = made.events("expired")
    assert f" age={11 * DAY:.0f}" in line


def test_a_rule_without_parameters_gives_up_at_once(tmp_path: Path) -> None:
    """INTERMITTENT 3.1: no retry; and no rule that matches is no such rule here."""
    with closed_port() as port:
        made = Host(tmp_path, f"smtp://127.0.0.1:{port}", 'retry = "* *"\non_expire = "archive"')
        aged(made, "one", 0.1)
        assert made.ship().expired == 1
        made.configure('retry = "other.example * F,1h,1m"\non_expire = "archive"')
        aged(made, "two", 0.1)
        assert made.ship().expired == 0


def test_what_may_have_been_sent_before_a_crash_is_parked_and_not_expired(made: Host) -> None:
    """INTERMITTENT 6.4: journals first."""
    aged(made, "one", 6)
    entry = made.entry("one")
    (made.path / "done").mkdir()
    (made.path / "done" / "one.j").write_text(f"file {entry.inode} {entry.mtime!r}\ndot 0\n")
    tally = made.expire()
    assert (tally.expired, tally.parked) == (0, 1)
    assert list(made.aside("failed")) == ["one"]


def test_it_tidies(made: Host) -> None:
    """INTERMITTENT 6.1: unfinished files of long ago."""
    aged(made, "one", 1)
    (made.path / "tmp" / "x").write_bytes(b"")
    os.utime(made.path / "tmp" / "x", (NOW - 2 * DAY, NOW - 2 * DAY))
    made.expire()
    assert list((made.path / "tmp").iterdir()) == []


def test_whoever_ships_is_left_alone(made: Host) -> None:
    """INTERMITTENT 6.4, line 1: one at a time."""
    aged(made, "one", 6)
    with Spool(made.keeper) as spool, spool.lock() as ours:
        assert ours
        assert made.expire().busy
        argv = made.argv("expire", "x.example")
        done = subprocess.run(argv, capture_output=True, env=made.environment, check=False, timeout=60, text=True)
    assert (done.returncode, done.stdout) == (75, "")
    assert "another muawrap is at work in its folder (run it again when that has ended)" in done.stderr
    assert list(made.waiting()) == ["one"]


def test_a_damaged_file_stays(made: Host) -> None:
    """INTERMITTENT 6.5: nobody knows how old it is, or for whom; it is told of."""
    aged(made, "one", 6)
    (made.path / "new" / "one").write_bytes(b"MAIL FROM:<a@b.example>\n")
    tally = made.expire()
    assert (tally.expired, tally.kept) == (0, 1)
    assert tally.failure is not None


def test_the_command(tmp_path: Path) -> None:
    """INTERMITTENT 6.5: --dry-run shows it, then it is done; 69 where something was given up."""
    made = down(Host(tmp_path, "smtp://127.0.0.1:9", "max_age = 1"), clock.BUILT + 1)
    made.put("one", at=clock.BUILT + 1)

    def run(*words: str) -> tuple[int, str, str]:
        argv = made.argv("expire", *words)
        done = subprocess.run(argv, capture_output=True, env=made.environment, check=False, timeout=60, text=True)
        return done.returncode, done.stdout, done.stderr

    status, out, err = run("--dry-run", "x.example")
    assert (status, err) == (0, "")
    assert out.startswith("expire one ")
    assert run("--dry-run", "--all")[1].startswith("cheshire: expire one ")
    assert json.loads(run("--dry-run", "--all", "--json")[1])["host"] == "cheshire"
    assert list(made.waiting()) == ["one"]
    made.mta_ends_with(75)
    status, out, err = run("cheshire")
    assert (status, out) == (75, "")
    assert err.startswith("muawrap: cheshire: the sender cannot be told of a message that was given up: ")
    made.mta_ends_with(0)
    assert run() == (69, "cheshire: expired 1\n", "")
    assert run("--all") == (0, "", "")
    assert run("--json", "cheshire")[0] == 0
    assert run("nobody")[0] == 78
    assert run("--all", "cheshire")[0] == 2
