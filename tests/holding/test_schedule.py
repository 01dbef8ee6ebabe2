"""When it is tried again: Exim's arithmetic, held against what Exim did, and as rules for any rule and any time."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import groupby, islice, pairwise

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from muawrap.admin.retry import command
from muawrap.holding.rules import errors, retry, schedule
from muawrap.holding.rules.retry import Rule, Set
from muawrap.holding.rules.schedule import DATA_EXPIRE, INTERVAL_MAX, Record, failed, outlived, ready, tries
from tests.support.program import REPOSITORY

USUAL = "F,2h,15m; G,16h,1h,1.5; F,5d,8h"
NOW = 1_800_000_000

ROWS = [
    line.split("\t")
    for line in (REPOSITORY / "tests" / "data" / "retry" / "retry-schedules.tsv").read_text().splitlines()
    if not line.startswith(("#", "rule\t"))
]
MEASURED = {rule: list(rows) for rule, rows in groupby(ROWS, lambda row: row[0])}


def rule(text: str) -> Rule:
    """Sets alone, or behind the name of an error."""
    [one] = retry.parse(text if text[1:2] == "," else f"* {text}")
    return one


def show(*words: str) -> Result:
    return CliRunner().invoke(command, ["schedule", *words])


def shown(locale: str, *words: str) -> str:
    """The same as a process of its own, in a locale."""
    done = subprocess.run(
        [sys.executable, "-c", "from muawrap.admin.retry import command; command()", "schedule", *words],
        env={"PYTHONPATH": str(REPOSITORY / "src"), "LC_ALL": locale},
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    return done.stdout.decode()


# -- as Exim does ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", MEASURED)
def test_the_tries_that_exim_made(text: str) -> None:
    """INTERMITTENT 3.3, 7: every row that a real Exim under a faked clock agreed with, to the second."""
    expected = [(int(at), int(then), past == "1") for _, _, at, _, then, past, _ in MEASURED[text]]
    assert list(tries(rule(text), expected[-1][0])) == expected
    numbers = [(int(row[1]), int(row[3])) for row in MEASURED[text]]
    assert numbers == [(n, at - before) for n, (before, at) in enumerate(pairwise([0, *(row[0] for row in expected)]))]


def test_the_first_failure_begins_a_record() -> None:
    """INTERMITTENT 3.2, 1."""
    assert failed(None, rule(USUAL), NOW) == Record(NOW, NOW, NOW + 900, False)


@pytest.mark.parametrize(("late", "fresh"), [(-5, False), (0, False), (6, True)])
def test_a_record_of_a_week_ago_tells_nothing(late: int, fresh: bool) -> None:
    """INTERMITTENT 3.2, 1: retry_data_expire, counted from when it was written."""
    record = Record(NOW, NOW + 100, NOW + 1000)
    now = NOW + 100 + DATA_EXPIRE + late
    assert (failed(record, rule(USUAL), now).first == now) is fresh


def test_a_set_counts_up_to_its_cutoff_and_with_it() -> None:
    """INTERMITTENT 3.2, 3: inclusive; the last set goes on beyond it, expired."""
    one = rule("F,1h,5m; F,2h,10m")
    gaps = {failing: failed(Record(0, 0, 0), one, failing).next - failing for failing in (3600, 3601, 7200, 7201)}
    assert gaps == {3600: 300, 3601: 600, 7200: 600, 7201: 600}
    assert [failed(Record(0, 0, 0), one, failing).expired for failing in (7200, 7201)] == [False, True]
    assert not failed(Record(0, 0, 0, True), one, 60).expired


def test_a_late_runner_measures_from_the_try_it_made() -> None:
    """INTERMITTENT 3.2: due 1800, run at 10000, next 13600; a gap shorter than planned is the one that counts."""
    record = Record(0, 900, 1800)
    assert failed(record, rule("F,2h,15m; G,16h,1h,1.5"), 10_000).next == 13_600
    assert failed(Record(0, 10_000, 20_000), rule("G,16h,1h,1.5"), 15_000).next == 15_000 + 7500
    assert failed(Record(0, 10_000, 15_000), rule("G,16h,1h,1.5"), 30_000).next == 30_000 + 7500
    assert failed(Record(0, 55_575, 82_912), rule("G,1w,1h,1.5"), 82_912).next == 82_912 + 41_005


def test_the_age_of_a_message_counts_for_its_own_failures() -> None:
    """INTERMITTENT 3.2, 2: for a host there is none; the longer of the two is how long it has been failing."""
    one = rule("F,1h,5m; F,2h,10m")
    assert failed(None, one, NOW).next == NOW + 300
    assert failed(None, one, NOW, 3601).next == NOW + 600
    assert failed(None, one, NOW, 7201).expired
    assert failed(Record(NOW - 3601, NOW, NOW), one, NOW, 60).next == NOW + 600


def test_a_message_that_is_too_old_does_not_delay_others() -> None:
    """INTERMITTENT 3.2, 6: it had its last try at a host that fails for a short time only; next is now."""
    one = rule(USUAL)
    old = 5 * 86_400 + 1
    assert failed(None, one, NOW, oldest=old) == Record(NOW, NOW, NOW)
    assert failed(None, one, NOW, oldest=old - 1).next == NOW + 900
    expired = failed(Record(NOW - old - 1, NOW - 9, NOW), one, NOW, oldest=old)
    assert (expired.next, expired.expired) == (NOW + 28_800, True)
    assert (outlived(one, old), outlived(one, old - 1)) == (True, False)


@pytest.mark.parametrize(("chance", "more"), [(0.0, 1800), (0.5, 2700), (0.999999, 3599)])
def test_h_adds_from_the_upper_half(chance: float, more: int) -> None:
    """INTERMITTENT 3.2, 4: what G would wait beyond the first interval, half of it at the least."""
    record = Record(NOW, NOW, NOW + 3600)
    after = failed(record, rule("H,1d,1h,2"), NOW + 3600, random=lambda: chance)
    assert after.next == NOW + 3600 + 3600 + more
    assert failed(None, rule("H,1d,1h,2"), NOW, random=lambda: chance).next == NOW + 3600


@pytest.mark.parametrize("text", ["F,4w,2d", "G,4w,2d,1", "H,4w,2d,9"])
def test_nothing_waits_for_more_than_a_day(text: str) -> None:
    """INTERMITTENT 3.2, 5."""
    assert failed(Record(0, 0, 86_400), rule(text), 86_400).next == 86_400 + INTERVAL_MAX


@pytest.mark.parametrize("none", [None, rule("*")])
def test_without_parameters_the_first_failure_is_final(none: Rule | None) -> None:
    """INTERMITTENT 3.1: and what comes next has one try at once."""
    assert failed(None, none, NOW) == Record(NOW, NOW, NOW, True)
    assert schedule.cutoff(none) == 0.0
    assert outlived(none, 1)
    assert list(islice(tries(none, 1e9), 3)) == [(0, 0, True)]


def test_ready_when_the_time_has_come() -> None:
    """INTERMITTENT 3.2: not before it, and without a record at any time."""
    record = Record(NOW, NOW, NOW + 900)
    assert [ready(record, NOW + 900 + late, rule(USUAL)) for late in (-1, 0, 1)] == [False, True, True]
    assert ready(None, 0)


@pytest.mark.row("H12")
def test_a_time_that_no_rule_can_have_given_is_due() -> None:
    """INTERMITTENT 6.0: clocks lie; the record of a machine that woke up in 2038, or whose rule was longer."""
    assert not ready(Record(NOW, NOW, NOW + INTERVAL_MAX), NOW)
    assert ready(Record(NOW, NOW, NOW + INTERVAL_MAX), NOW - 60)
    assert ready(Record(NOW, NOW, NOW + 3600), NOW, rule("F,1d,15m; F,2d,30m"))
    assert not ready(Record(NOW, NOW, NOW + 1800), NOW, rule("F,1d,15m; F,2d,30m"))
    assert not ready(Record(NOW, NOW, NOW + 3600), NOW, rule("F,1d,15m; G,2d,15m,1.5"))


def test_a_clock_that_was_put_back_begins_anew_where_it_must() -> None:
    """INTERMITTENT 6.0: nothing has been failing since a time that is to come."""
    record = failed(Record(NOW + 10**9, NOW + 10**9, NOW + 10**9 + 900), rule(USUAL), NOW)
    assert record == Record(NOW, NOW, NOW + 900)


# -- any rule, any time ---------------------------------------------------------------------------------------------

SETS = st.lists(
    st.builds(
        Set,
        st.sampled_from("FGH"),
        st.integers(1, 30 * 86_400),
        st.integers(1, 3 * 86_400),
        st.integers(1000, 5000),
    ).map(lambda one: one._replace(factor=1000) if one.letter == "F" else one),
    min_size=1,
    max_size=4,
)
RULES = SETS.map(lambda sets: Rule("*", errors.error("*"), None, tuple(sets), 1))
CHANCES = st.floats(0, 1, exclude_max=True)


@given(one=RULES, chance=CHANCES)
@settings(max_examples=80, deadline=None)
def test_tries_go_forward_in_steps_that_are_bounded(one: Rule, chance: float) -> None:
    """INTERMITTENT 3.2: each is when the one before said; expired is what the last tries are, and stays."""
    series = list(islice(tries(one, 90 * 86_400, lambda: chance), 300))
    first = min(min(each.interval for each in one.sets), INTERVAL_MAX)
    for (at, then, past), (after, _, past_after) in pairwise(series):
        assert after == then
        assert first <= then - at <= INTERVAL_MAX
        assert past <= past_after
    longest = max(each.cutoff for each in one.sets)
    assert all(past == (at > longest) for at, _, past in series)


@given(one=RULES, chance=CHANCES)
@settings(max_examples=80, deadline=None)
def test_a_set_that_is_dead_changes_nothing(one: Rule, chance: float) -> None:
    """INTERMITTENT 3.2: one whose cutoff is not larger than an earlier one's; the last set is never dead."""
    dead = [id(each) for each in schedule.dead(one)]
    alive = one._replace(sets=tuple(each for each in one.sets if id(each) not in dead))
    with_them = list(islice(tries(one, 40 * 86_400, lambda: chance), 200))
    assert with_them == list(islice(tries(alive, 40 * 86_400, lambda: chance), 200))


@given(
    one=RULES,
    record=st.builds(Record, *[st.integers(0, 10**7)] * 3, st.booleans()),
    now=st.integers(0, 10**7),
    age=st.none() | st.integers(0, 10**7),
    chance=CHANCES,
)
@settings(max_examples=200, deadline=None)
def test_whatever_the_record_says_the_next_try_is_near(
    one: Rule, record: Record, now: int, age: int | None, chance: float
) -> None:
    """INTERMITTENT 6.0: also for records of lying clocks; a try never leaves what would be tried again at once."""
    after = failed(record, one, now, age, lambda: chance)
    assert after.first <= after.last == now < after.next <= now + INTERVAL_MAX
    assert not ready(after, now, one)
    assert ready(after, int(after.next), one)
    assert after.expired == (max(now - after.first, age or 0) > max(each.cutoff for each in one.sets))


# -- the command ----------------------------------------------------------------------------------------------------


def test_the_usual_schedule_as_a_person_sees_it() -> None:
    """INTERMITTENT 6.6: number, time, gap and next, in words and in seconds, within 80 columns up to the cutoff."""
    lines = shown("C.UTF-8", USUAL, "--for", "5d").splitlines()
    assert lines[0].split() == ["try", "at", "seconds", "gap", "seconds", "next", "seconds"]
    assert lines[1].split() == ["1", "0s", "0", "0s", "0", "15m", "900"]
    assert lines[16].split() == ["16", "23h1m52s", "82912", "7h35m37s", "27337", "1d7h1m52s", "111712"]
    assert lines[28].split() == ["28", "4d23h1m52s", "428512", "8h", "28800", "5d7h1m52s", "457312"]
    assert lines[29:] == [
        "",
        "|█▅▁▁ ▁  ▁   ▁   ▁   ▁    ▁   ▁   ▁   ▁    ▁   ▁   ▁   ▁    ▁   ▁|",
        " 0s              1d6h            2d12h           3d18h         5d",
        " one column is 1h52m30s, ▁ is 1 try, █ is 8",
        "",
        "A message that is older than 5d has one last try, and is given up.",
    ]
    assert all(len(line) <= 80 for line in lines)


def test_in_a_locale_without_utf8_the_picture_is_ascii() -> None:
    """INTERMITTENT 6.6: the marks of ASCII say as much."""
    lines = shown("C", USUAL, "--for", "5d", "--limit", "1").splitlines()
    assert "|@+.. .  .   .   .   .    .   .   .   .    .   .   .   .    .   .|" in lines
    assert " one column is 1h52m30s, . is 1 try, @ is 8" in lines
    assert "\n".join(lines).isascii()


def test_thousands_of_tries_are_counted_and_not_listed() -> None:
    """INTERMITTENT 6.6: the output is bounded, and says how many more there are."""
    done = show("F,1d,1m", "--for", "1d")
    assert len(done.stdout.splitlines()) < 70
    assert "and 1381 more\n" in done.stdout
    assert "and 99998 more at the least\n" in show("F,1w,1s", "--for", "52w", "--limit", "2").stdout


def test_json_has_seconds_and_the_same_tries() -> None:
    """INTERMITTENT 6.6: for programs."""
    told = json.loads(show(USUAL, "--for", "5d8h", "--json", "--limit", "29").stdout)
    assert [(one["number"], one["at"], one["next"], one["past_cutoff"]) for one in told.pop("tries")] == [
        (int(row[1]) + 1, int(row[2]), int(row[4]), row[5] == "1") for row in MEASURED[USUAL]
    ]
    assert told == {
        "rule": "F,2h,15m; G,16h,1h,1.5; F,5d,8h;",
        "for": 460_800,
        "cutoff": 432_000,
        "more": 0,
        "more_is_exact": True,
    }


def test_what_the_table_does_not_tell_is_said_below() -> None:
    """INTERMITTENT 3.2: a dead set, chance, and no sets at all."""
    said = show("F,1h,5m; F,30m,1m; H,1d,10m,2").stdout
    assert "\nF,30m,1m is never used: a set before it goes on for as long.\n" in said
    assert said.endswith("\nH adds something by chance: what is shown is the middle.\n")
    assert show("* *").stdout.endswith("\nThere are no sets: the first failure is final.\n")


def test_options_of_the_other_command_are_refused() -> None:
    """INTERMITTENT 6.6: --rules and -f would do nothing here."""
    done = CliRunner().invoke(command, ["--rules", "/x", "schedule", USUAL])
    assert done.exit_code == 2
    assert "--rules and -f are for test." in done.stderr
