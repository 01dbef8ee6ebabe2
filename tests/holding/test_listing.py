"""`muawrap held`: what is held, in rows and objects, however much it is (INTERMITTENT 6.6)."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from muawrap.admin import held as command
from muawrap.holding import clock
from muawrap.holding.formats import batchsmtp
from muawrap.holding.rules.schedule import Record
from muawrap.holding.store.records import Noted
from muawrap.holding.store.spool import Spool
from tests.support.exim import Exim
from tests.support.spool import Machine, held, keeper

MANY = 12_000  # more than one look through the folder takes


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def spool(machine: Machine) -> Spool:
    """The same folder that the command looks at."""
    return Spool(keeper(machine.spool))


def put(spool: Spool, name: str, age: float = 0, sender: str = "me@client.example", *to: str) -> None:
    one = held(sender=sender, to=to or ("you@example.net",))
    now = time.time()
    spool.put(batchsmtp.write(one._replace(envelope=one.envelope._replace(at=now - age))), name)
    os.utime(Path(spool.path, "new", name), (now - age, now - age))


def lines(machine: Machine, *words: str) -> list[str]:
    done = machine.run("held", *words)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode("ascii").splitlines()


def listed(machine: Machine, *words: str) -> list[str]:
    """The same in this process, whose clock a test may set."""
    done = CliRunner().invoke(command.command, ["-C", str(machine.config), *words])
    assert done.exit_code == 0, done.output
    return done.stdout.splitlines()


def test_nothing_is_said_so_and_nothing_is_made(machine: Machine) -> None:
    """INTERMITTENT 6.6: who only looks makes no folder."""
    assert lines(machine) == ["cheshire: nothing held"]
    assert list(machine.spool.iterdir()) == []


def test_a_heading_and_a_row_for_each_message(machine: Machine, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """INTERMITTENT 6.6: age, size, sender, recipients, next try, last error; oldest first."""
    monkeypatch.setattr(clock, "BUILT", 0)
    now = int(time.time())
    put(spool, "young", 12_630, "", "a@b", "c@d", "e@f")
    put(spool, "old", 93_700)
    spool.set_record(Noted(Record(now, now, now + 3600), "connection refused"))
    spool.set_note("old", Noted(Record(now, now, now + 7200), "451 greylisted\nX"))
    heading, error, columns, old, after, reason, young = listed(machine, "cheshire")
    later = [time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now + seconds)) for seconds in (3600, 7200)]
    size = sum(path.stat().st_size for path in machine.files())
    assert heading == f"cheshire: 2 messages, {size} B; next try {later[0]}"
    assert error == "last error: connection refused"
    assert columns.split() == ["age", "size", "sender", "recipients"]
    assert (old.split("  ")[0], young.split("  ")[0]) == ("1d2h", "3h30m")
    assert old.endswith("  you@example.net")
    assert (after.strip(), reason.strip()) == (f"next try {later[1]}", "last error: 451 greylisted\\nX")
    assert young.endswith("  a@b and 2 more")
    assert columns.index("sender") == old.index("<me@") == young.index("<>")
    assert all(len(line) <= 80 for line in (heading, error, columns, old, after, reason, young))


def test_a_time_that_has_come_is_now(machine: Machine, spool: Spool) -> None:
    """INTERMITTENT 6.6: nobody has to compare it with the clock."""
    put(spool, "one")
    spool.set_record(Noted(Record(1, 2, time.time() - 5), "connection refused"))
    [heading, *_] = lines(machine, "cheshire")
    assert heading.endswith(", which is now")


@pytest.mark.row("H12")
def test_a_time_that_no_rule_can_have_given_is_now(
    machine: Machine, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INTERMITTENT 6.0: a wrong clock left it, and ship does not wait for it either."""
    monkeypatch.setattr(clock, "now", lambda: clock.BUILT + 1e6)
    put(spool, "one")
    spool.set_record(Noted(Record(clock.BUILT, 2_100_000_000, 2_100_000_900), "connection refused"))
    spool.set_note("one", Noted(Record(clock.BUILT, 2_100_000_000, 2_100_000_900), "451 greylisted"))
    shown = listed(machine, "cheshire")
    assert shown[0].endswith("; next try now")
    assert "2036" not in " ".join(shown)
    assert json.loads(listed(machine, "--json")[0])["next"] is None


@pytest.mark.row("H12")
def test_an_age_counts_from_first_sight_where_nothing_else_can_be_right(
    machine: Machine, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INTERMITTENT 6.0: as ship and expire count it; until then there is none."""
    monkeypatch.setattr(clock, "now", time.time)
    now = time.time()
    monkeypatch.setattr(clock, "BUILT", now - 30 * 86_400)
    put(spool, "one", 6000 * 86_400)
    assert json.loads(listed(machine, "--json")[0])["at"] is None
    assert listed(machine)[2].startswith("? ")
    first = now - 2 * 86_400
    spool.set_note("one", Noted(Record(first, first, first)))
    assert json.loads(listed(machine, "--json")[0])["at"] == first
    assert listed(machine)[2].startswith("2d ")


@pytest.mark.parametrize("moment", ["1e300", "-1", "1" * 400])
def test_a_record_beyond_every_calendar_counts_as_none(machine: Machine, spool: Spool, moment: str) -> None:
    """INTERMITTENT 6.1: a damaged disk stops no listing."""
    put(spool, "one")
    text = f'{{"first": 1, "last": 1, "next": {moment}, "expired": false, "error": "no"}}'
    Path(spool.path, "state").write_text(text)
    spool.set_note("one", Noted(Record(1, 1, 1), "no"))
    Path(spool.path, "retry", "one").write_text(text)
    heading, *rest = lines(machine)
    assert "next try" not in " ".join([heading, *rest])
    assert machine.log.read_text().count("counts as none: next is no time") == 2


def test_what_is_as_its_host_has_no_line_of_its_own(machine: Machine, spool: Spool) -> None:
    """INTERMITTENT 6.6: a message waits for its host, or for a later time of its own."""
    put(spool, "one")
    put(spool, "two")
    now = time.time()
    spool.set_record(Noted(Record(now, now, now + 7200), "connection refused"))
    spool.set_note("two", Noted(Record(now, now, now + 3600), "451 greylisted"))
    rest = lines(machine, "cheshire")
    told = [line.strip() for line in rest]
    assert [line for line in told if line.startswith("next try")] == []
    assert told.count("last error: connection refused") == told.count("last error: 451 greylisted") == 1


def test_a_damaged_file_has_a_row_too(machine: Machine, spool: Spool) -> None:
    """INTERMITTENT 6.6: and the others are shown."""
    spool.put([b"MAIL FROM:<a@b>\nwhatever\n"], "bad")
    put(spool, "good")
    shown = lines(machine)
    assert f"{spool.path}/new/bad: line 2: unknown command" in " ".join(shown)
    assert any("you@example.net" in line for line in shown)


def test_failed_says_where_there_is_none(machine: Machine, spool: Spool) -> None:
    """INTERMITTENT 6.6: and tells nothing of what waits."""
    put(spool, "one")
    assert lines(machine, "--failed") == ["cheshire: nothing has failed"]


def test_what_failed_is_told_and_shown_on_request(machine: Machine, spool: Spool) -> None:
    """INTERMITTENT 6.1: failed/ and archive/ are counted; --failed tells the reason."""
    for name in ("one", "two", "three"):
        put(spool, name)
    one, two, _ = spool.entries()
    spool.fail(one, {"outcome": "refused", "reply": "550 no such user", "time": 1, "recipients": ["you@example.net"]})
    spool.archive(two, time.time(), {"reason": "too old"})
    [heading, *_] = lines(machine)
    assert heading.endswith("; 1 failed (--failed shows them); 1 in the archive")
    heading, _, row, why, where = lines(machine, "--failed")
    assert heading == "cheshire: 1 failed"
    assert row.endswith("  you@example.net")
    assert why.strip() == "refused: 550 no such user"
    [file] = [path for path in machine.files("failed") if path.suffix != ".why"]
    assert where.strip() == f"in {file}"
    [line] = lines(machine, "--failed", "--json")
    assert json.loads(line)["why"]["reply"] == "550 no such user"


def test_json_is_an_object_a_line(machine: Machine, spool: Spool) -> None:
    """INTERMITTENT 6: --json."""
    put(spool, "one", 10)
    put(spool, "two", 5, "", '"a b"@c', "\u00e4@d")
    first, second = map(json.loads, lines(machine, "--json"))
    assert (first["host"], first["name"], first["format"], first["next"]) == ("cheshire", "one", "bsmtp", None)
    assert abs(first["at"] - time.time() + 10) < 60
    assert (second["sender"], second["recipients"]) == ("", ['"a b"@c', "\u00e4@d"])


def test_an_export_is_a_batch_that_exim_takes(machine: Machine, spool: Spool, tmp_path: Path) -> None:
    """INTERMITTENT 6.6, 6.7: `held --export bsmtp HOST | exim -bS`, more messages than Exim takes notes; all stay."""
    for number in range(15):
        put(spool, f"n{number:02}", 100 - number, "Me@client.example", "a@x.example", '"b c"@x.example')
    spool.put([b"damaged"], "zz")
    done = machine.run("held", "--export", "bsmtp", "cheshire")
    assert done.returncode == 75
    assert done.stderr.count(b"\n") == 1
    assert b"new/zz has no envelope" in done.stderr
    with Exim(tmp_path) as exim:
        taken = subprocess.run(
            [exim.path, "-C", str(exim.folder / "exim.conf"), "-odq", "-bS"], input=done.stdout, check=False, timeout=60
        )
        arrived = exim.messages()
    assert (taken.returncode, len(arrived)) == (0, 15)
    assert {(one.sender, *one.recipients) for one in arrived} == {
        ("Me@client.example", "a@x.example", '"b c"@x.example')
    }
    assert {one.body for one in arrived} == {b"Hello.\n"}
    assert len(machine.files()) == 16


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("nowhere",), 78, b"there is no host"),
        (("-C", "/nonexistent"), 78, b"there is no configuration file"),
        (("--export", "bsmtp"), 2, b"wants a HOST"),
        (("--outbox", "cheshire"), 2, b"exclude"),
        (("--export", "bsmtp", "--failed", "cheshire"), 2, b"excludes --failed"),
        (("--export", "bsmtp", "--json", "cheshire"), 2, b"--json"),
    ],
)
def test_trouble_has_a_status(machine: Machine, words: tuple[str, ...], status: int, said: bytes) -> None:
    """INTERMITTENT 6.6: 78 is the configuration's."""
    done = machine.run("held", *words)
    assert done.returncode == status
    assert said in done.stderr


def test_a_folder_that_cannot_be_looked_at_is_75_and_the_others_are_shown(machine: Machine) -> None:
    """INTERMITTENT 6.6: host by host."""
    machine.configure(more='[hold.white-rabbit]\nto = "smtp://127.0.0.1:9"\n')
    (machine.spool / "cheshire").mkdir()
    (machine.spool / "cheshire").chmod(0o777)
    done = machine.run("held")
    assert done.returncode == 75
    assert b"is writable by everybody (chmod o-w" in done.stderr
    assert b"white-rabbit: nothing held" in done.stdout


def test_the_outbox_is_shown_where_there_is_no_host(tmp_path: Path) -> None:
    """INTERMITTENT 6.0: the client's side."""
    machine = Machine(tmp_path)
    machine.config.write_text(f'[outbox]\nfolder = "{tmp_path}/out"\n')
    assert lines(machine) == lines(machine, "--outbox") == ["outbox: nothing waits"]


@pytest.mark.row("H18")
def test_memory_and_time_do_not_grow_with_the_square(machine: Machine, spool: Spool) -> None:
    """INTERMITTENT 6.6: a listing in constant memory; all of it, oldest first."""
    put(spool, "m")
    peaks = []
    for count in (100, MANY):
        template = machine.files()[0].read_bytes()
        for number in range(count):
            path = Path(spool.path, "new", f"{number:06}")
            path.write_bytes(template)
            os.utime(path, (1_700_000_000 + number, 1_700_000_000 + number))
        argv = machine.argv("held", "--json")
        with subprocess.Popen(argv, stdout=subprocess.PIPE, env=machine.environment()) as process:
            assert process.stdout is not None
            names = [json.loads(line)["name"] for line in process.stdout]
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        assert names == [*(f"{number:06}" for number in range(count)), "m"]
        peaks.append(usage.ru_maxrss)
    assert peaks[1] - peaks[0] < 12 * 1024  # kB; one look holds scan.PASS entries
