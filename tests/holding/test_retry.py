"""Retry rules: their grammar, which one matches, and what a person sees of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import example, given, settings
from hypothesis import strategies as st

from muawrap.admin.retry import command
from muawrap.failure import Failure
from muawrap.holding.rules import errors, retry
from muawrap.holding.rules.retry import Set
from tests.support.program import REPOSITORY

DATA = REPOSITORY / "tests" / "data" / "retry"
RULES = DATA / "retry-ruleset.txt"


def rows(name: str) -> list[list[str]]:
    lines = (DATA / name).read_text().splitlines()
    return [line.split("\t") for line in lines if not line.startswith("#")][1:]


def run(*words: str, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(command, list(words), input=stdin)


def only(text: str) -> retry.Rule:
    [rule] = retry.parse(text)
    return rule


def refusal(text: str, source: str = "the retry rules") -> Failure:
    with pytest.raises(Failure) as caught:
        retry.parse(text, source)
    return caught.value


# -- as Exim does ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", rows("retry-truth.tsv"), ids=lambda row: "-".join(filter(None, row[1:5])))
def test_the_rule_that_exim_found(row: list[str]) -> None:
    """INTERMITTENT 3.1, 7: every row measured with Exim 4.96, its own words and its exit status."""
    _, key, alternate, sender, error, status, pattern, matched, params, printed = row
    assert sender == "(unset)"
    words = [key, *filter(None, [alternate]), *([] if error == "(none)" else [error])]
    done = run("--rules", str(RULES), "test", *words)
    assert (done.exit_code, done.stderr) == (int(status), "")
    assert re.sub(r" +\n$", "", done.stdout) == printed  # the table has lost the blanks at the end
    rule = retry.parse(RULES.read_text()).find(key, "" if error == "(none)" else error, alternate)
    assert rule is not None
    assert (rule.pattern, rule.error.printed()) == (pattern, matched)
    assert "; ".join(one.printed() for one in rule.sets) == params.rstrip(";")


def test_the_earlier_line_wins_even_where_only_the_alternate_matches() -> None:
    """INTERMITTENT 3.1: the order is that of the lines; on each the key comes first."""
    rules = retry.parse("wonderland.example * F,1h,1m\nlookingglass.example * F,2h,1m\n")
    found = rules.find("lookingglass.example", alternate="wonderland.example")
    assert found is not None
    assert (found.pattern, found.line) == ("wonderland.example", 1)


@pytest.mark.parametrize(
    ("rule", "covered", "others"),
    [
        ("*", {"", "*", "refused", "quota_1d", "data_452"}, set()),
        ("refused", {"refused", "refused_A", "refused_MX", "REFUSED_a"}, {"", "timeout", "lost_connection"}),
        ("refused_A", {"refused_A"}, {"refused", "refused_MX"}),
        ("timeout", {"timeout", "timeout_A", "timeout_connect", "timeout_connect_MX", "timeout_DNS"}, {"refused"}),
        ("timeout_DNS", {"timeout", "timeout_A", "timeout_connect"}, {""}),
        ("timeout_MX", {"timeout_MX", "timeout_connect_MX"}, {"timeout", "timeout_A", "timeout_connect"}),
        ("timeout_connect", {"timeout_connect", "timeout_connect_A"}, {"timeout", "timeout_A"}),
        ("timeout_connect_A", {"timeout_connect_A"}, {"timeout_connect", "timeout_A", "timeout_connect_MX"}),
        ("rcpt_4xx", {"rcpt_4xx", "rcpt_45x", "rcpt_452"}, {"mail_4xx", "data_452", ""}),
        ("rcpt_45x", {"rcpt_45x", "rcpt_452"}, {"rcpt_4xx", "rcpt_421"}),
        ("rcpt_452", {"rcpt_452"}, {"rcpt_45x", "rcpt_4xx", "rcpt_451"}),
        ("quota", {"quota", "quota_1d"}, {"", "rcpt_4xx"}),
        ("quota_5d", {"quota_5d", "quota_6d", "quota_121h"}, {"quota", "quota_4d", "quota_119h"}),
        ("lookup", {"lookup", "LOOKUP"}, {"lost_connection", "*"}),
        ("auth_failed", {"auth_failed"}, {"tls_required"}),
    ],
)
def test_a_general_error_covers_the_special_ones_and_never_the_reverse(
    rule: str, covered: set[str], others: set[str]
) -> None:
    """INTERMITTENT 3.1: which events a rule is for."""
    rules = retry.parse(f"* {rule} F,1h,1m")
    assert {one for one in covered | others if rules.find("a.example", one)} == covered


def test_senders_match_only_where_a_sender_is_known() -> None:
    """INTERMITTENT 3.1: without one no rule with senders= does, and `senders=:` is for <> alone."""
    rules = retry.parse("* * senders=: F,1h,1m\n* * senders=a@b.example F,2h,1m")
    found = {sender: rules.find("x.example", sender=sender) for sender in (None, "", "a@b.example", "c@b.example")}
    assert {sender: rule and rule.line for sender, rule in found.items()} == {
        None: None,
        "": 1,
        "a@b.example": 2,
        "c@b.example": None,
    }
    for one, line in (("<>", "F,1h,1m"), ("", "F,1h,1m"), ("<a@b.example>", "F,2h,1m")):
        done = run("--rules", "-", "-f", one, "test", "x.example", stdin=b"* * senders=: F,1h,1m\n* * F,2h,1m")
        assert line in done.stdout


@pytest.mark.parametrize(
    ("text", "sets"),
    [
        ("F,2h,15m", [Set("F", 7200, 900)]),
        ("f,1m1m,1s;", [Set("F", 120, 1)]),
        ("F,1s1m1h1d1w, 1d ; ", [Set("F", 694_861, 86_400)]),
        ("G,16h,1h,1.5;F,5d,8h", [Set("G", 57_600, 3600, 1500), Set("F", 432_000, 28_800)]),
        ("h,1d,1m,1.99999", [Set("H", 86_400, 60, 1999)]),
        ("F,1h,1m;\\\n   # why\n  G,2h,1m,2", [Set("F", 3600, 60), Set("G", 7200, 60, 2000)]),
        ("F,1h,1m;\nG,2h,1m,2", [Set("F", 3600, 60), Set("G", 7200, 60, 2000)]),
    ],
)
def test_bare_sets_are_one_rule_for_everything(text: str, sets: list[Set]) -> None:
    """INTERMITTENT 3.1: times add up in any order, factors are cut to thousandths, letters have no case."""
    rule = only(text)
    assert (rule.pattern, rule.error.kind, rule.senders, list(rule.sets)) == ("*", "*", None, sets)


@pytest.mark.parametrize(
    ("span", "printed"),
    [(0, "0s"), (86_400, "1d"), (604_800, "1w"), (90, "1m30s"), (694_861, "1w1d1h1m1s"), (3600 * 50, "2d2h")],
)
def test_a_time_is_printed_in_as_few_units_as_it_takes(span: int, printed: str) -> None:
    """INTERMITTENT 3.1: normalised, and read again it is the same."""
    assert errors.duration(span) == printed
    assert errors.seconds(printed, zero=True) == span


def test_lists_are_read_only_where_a_rule_mentions_them(tmp_path: Path) -> None:
    """INTERMITTENT 3.1: a configuration has many that mean nothing here; a look-up is one in a file of keys."""
    (tmp_path / "hosts").write_text('# comment\na.example: cheshire\n  b.example: goes on\n"c.example" x\n')
    rules = retry.parse(
        f"domainlist held = lsearch;{tmp_path}/hosts : !d.example : *.d.example\n"
        "domainlist other = ${lookup{x}ldap{y}}\n"
        'addresslist people = "x@a.example : : *@+held"\n'
        "begin acl\nmain * F,1h,1m\n"
        "begin retry\n*@+held refused\n+people * senders=+people\n"
    )
    held = {name for name in ("a", "b", "c", "d", "e.d") if rules.find(f"{name}.example", "refused")}
    assert held == {"a", "c", "e.d"}
    assert rules.find("x@a.example", sender="") is not None
    assert rules.find("x@a.example", sender="y@b.example") is None
    assert rules.find("main", "refused") is None


def test_no_rules_at_all_are_rules() -> None:
    """INTERMITTENT 3.1: every failure is final then; `begin retry` with nothing behind it is such a file."""
    for text in ("", "# nothing\n\n", "begin retry\n", "primary_hostname = x\nbegin acl\nfoo:\n  accept\n"):
        assert list(retry.parse(text)) == []
        assert retry.parse(text).find("a.example") is None


# -- refused --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "sentence", "advice"),
    [
        ("* refusd F,1h,1m", 1, "there is no error 'refusd' that a retry rule could be for", "did you mean refused?"),
        ("# x\n\n* l F,1h,1m", 3, "there is no error 'l' that a retry rule could be for", "the names are *, auth_"),
        ("* response F,1h,1m", 1, "there is no error 'response' that a retry rule could be for", ""),
        ("* rcpt_4x2", 1, "there is no error 'rcpt_4x2' that a retry rule could be for", "did you mean rcpt_4xx?"),
        ("* refused_", 1, "there is no error 'refused_' that a retry rule could be for", "did you mean refused"),
        ("* quota_5", 1, "'5' is no time", "write it like 15m or 1d12h"),
        ("a.example", 1, "no error stands behind the pattern", "write * for any"),
        ('"a.example * F,1h,1m', 1, "the pattern is missing, or nothing closes its quote", ""),
        ("a.example F,1h,1m", 1, "there is no error 'F,1h,1m' that a retry rule could be for", ""),
        ("* * senders a@b.example", 1, '"=" and a list come behind senders', ""),
        ("* * senders=", 1, "the list of senders is missing, or nothing closes its quote", ""),
        ("* * F,1h", 1, "'F,1h' does not begin with a set of retry parameters", "write them like F,2h,15m"),
        ("* * F,1h,1m # x", 1, "a \";\" must stand before '# x'", "write them like F,2h,15m"),
        ("* * F,1h,1m;;", 1, "';' does not begin with a set of retry parameters", ""),
        ("* * X,1h,1m", 1, "there are sets of retry parameters F, G and H, but not X", ""),
        ("* * G,1h,1m", 1, "'G,1h,1m' is not G with two times and a factor", ""),
        ("* * F,1h,1m,2", 1, "'F,1h,1m,2' is not F with two times", ""),
        ("* * F,0s,1m", 1, "the time '0s' must be more than nothing", ""),
        ("* * F,4000w,1m", 1, "the time '4000w' is longer than 3550w5d3h14m7s", ""),
        ("* * F,1H,1m", 1, "'1H' is no time", ""),
        ("* * G,1h,1m,0.9", 1, "'0.9' is no factor from 1 to 2147483", "write it like 1.5"),
        ("* * G,1h,1m,3000000", 1, "'3000000' is no factor from 1 to 2147483", ""),
        ("^( *", 1, "the regular expression '^(' cannot be read: missing )", "it is read as Python does"),
        ("^[[:alpha:]] *", 1, "the regular expression '^[[:alpha:]]' cannot be read: Possible nested set", ""),
        ("^x$ *", 1, "'^x$' takes a value from elsewhere", "write \\$ for the sign itself, or \\N before"),
        ("x\\ *", 1, "'x\\\\' ends with a backslash that quotes nothing", ""),
        ("+held *", 1, "there is no address list +held", ""),
        ("domainlist held = a\n+held *", 2, "there is no address list +held", "a list of domains is mentioned as *@+"),
        ("domainlist a = +b\ndomainlist b = +a\n*@+a *", 3, "the domain list +a holds itself", ""),
        ("nis;x *", 1, "the look-up 'nis;x' is not one that can be done here", "write the names, or lsearch;/FILE"),
        ("*@lsearch*;/x *", 1, "the look-up 'lsearch*;/x' is not one that can be done here", ""),
        ("@@x *", 1, "the look-up '@@x' is not one that can be done here", ""),
        ("*@lsearch;/no/file *", 1, "there is no file /no/file to look anything up in", ""),
        ("domainlist a = @mx_any\n*@+a *", 2, "the item '@mx_any' is not one that can be read here", ""),
        ("X = dom\nX.example *", 2, "the macro X is not replaced here", "write what it stands for"),
        ("X = dom\ndomainlist a = X\n*@+a *", 3, "the macro X is not replaced here", ""),
        (".include /etc/rules", 1, "the directive .include is not obeyed here", "write the rules out"),
        ("F,1h,1m; G,1h", 1, "'G,1h' does not begin with a set of retry parameters", ""),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text: str, line: int, sentence: str, advice: str) -> None:
    """INTERMITTENT 3.1: no name is guessed by its beginning, nothing that is not understood is passed over."""
    failure = refusal(text, "/etc/rules")
    assert str(failure).startswith(f"/etc/rules line {line}: ")
    assert sentence in str(failure)
    assert failure.advice.startswith(advice)


def test_lists_within_lists_are_bounded() -> None:
    """INTERMITTENT 3.1: each list is read once, and none is deeper than a person would write."""
    doubling = "".join(f"domainlist l{n} = +l{n + 1} : +l{n + 1}\n" for n in range(40)) + "domainlist l40 = x.example\n"
    assert retry.parse(f"{doubling}*@+l0 *").find("a.example") is None
    deep = "".join(f"domainlist l{n} = +l{n + 1}\n" for n in range(5000)) + "domainlist l5000 = x.example\n*@+l0 *"
    assert "too many others within each other" in str(refusal(deep))


WORDS = st.sampled_from(
    [
        *(
            "*",
            "a.example",
            "F,1h,1m",
            ";",
            "G,1h,1m,1.5",
            "senders=",
            "senders",
            ":",
            "!",
            "+",
            "@",
            "^",
            "(",
            "[",
            "\\",
        ),
        *("\\N", "$", '"', "#", "begin", "retry", "domainlist", "l", "=", "+l", "*@+l", "lsearch;", "/dev/zero", "<;"),
        *(
            ".ifdef",
            "refused",
            "quota_",
            "quota_1d",
            "rcpt_4xx",
            "timeout_DNS",
            "X=",
            "\0",
            "\n",
            "\\\n",
            "\t",
            "\udce9",
        ),
    ]
)
TEXTS = (
    st.lists(WORDS, max_size=12).flatmap(lambda words: st.sampled_from([" ".join(words), "".join(words)])) | st.text()
)


@given(text=TEXTS, key=st.text(max_size=20))
@example("F,1h,1m", "a:b")
@example("* * F," + "9" * 5000 + "w,1m", "a")
@example("!" * 5000 + "a *", "a")
@example("^" + "(" * 5000 + ")" * 5000 + " *", "a")
@example("^a{99999999999} *", "a")
@example("* * senders=" + ":" * 5000, "a")
@settings(max_examples=300, deadline=None)
def test_any_text_is_rules_or_a_failure(text: str, key: str) -> None:
    """INTERMITTENT 6.0: nothing else ever comes out, and what was read can be asked."""
    try:
        rules = retry.parse(text)
    except Failure as failure:
        said = str(failure)
    else:
        said = "the retry rules line 0: none is wrong"
        for sender in (None, "", key):
            rules.find(key, "refused_A", key, sender)
    assert re.match(r"the retry rules line \d+: .", said)


# -- the command ----------------------------------------------------------------------------------------------------


def test_a_remark_on_a_name_that_has_gone() -> None:
    """INTERMITTENT 3.1: timeout_DNS is accepted, and it is said."""
    done = run("--rules", "-", "test", "a.example", "timeout", stdin=b'"x y" *\n* timeout_DNS F,1h,5m\n')
    assert (done.exit_code, done.stdout) == (0, "Retry rule: *  timeout  F,1h,5m; \n")
    assert done.stderr == (
        "muawrap: standard input line 2: there is no timeout_DNS any more, and it is read as timeout\n"
    )


def test_without_a_file_the_rules_are_the_usual_ones() -> None:
    """INTERMITTENT 6.6: test needs no file."""
    assert run("test", "a.example").stdout == "Retry rule: *  *  F,2h,15m; G,16h,1h,1.5; F,5d,8h; \n"


@pytest.mark.parametrize(
    ("words", "stdin", "said"),
    [
        (["test", "a.example", "refusd"], b"", "there is no error 'refusd' that a retry rule could be for (did you"),
        (["test", "a.example", "b", "refused"], b"", "'b' has no dot, and is no alternate (put the error last)"),
        (["--rules", "/no/file", "test", "a.example"], b"", "there is no file of retry rules /no/file"),
        (["--rules", "/", "test", "a.example"], b"", "/ is not a regular file"),
        (
            ["--rules", "-", "test", "a.example"],
            b"* * F\xff\x1b[2J",
            r"standard input line 1: 'F\udcff\x1b[2J' does not",
        ),
        (["--rules", "-", "test", "a.example"], b"#" * 1_048_577, "standard input is larger than 1048576 octets"),
        (["schedule", "F,1h"], b"", "the rule line 1: 'F,1h' does not begin with a set of retry parameters"),
        (["schedule", "a * F,1h,1m\nb * F,1h,1m"], b"", "a schedule is that of one rule, not of 2"),
        (["schedule", "F,1h,1m", "--for", "6"], b"", "'6' is no time (write it like 15m or 1d12h"),
    ],
)
def test_trouble_is_one_line_and_exit_status_1(words: list[str], stdin: bytes, said: str) -> None:
    """A3, INTERMITTENT 3.1: as Exim's exit status for rules it cannot read."""
    done = run(*words, stdin=stdin)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"muawrap: {said}")
    assert done.stderr.count("\n") == 1
    assert done.stderr[:-1].isprintable()


def test_octets_that_are_not_utf8_come_out_as_they_went_in() -> None:
    """INTERMITTENT 3.1: byte for byte."""
    done = run("--rules", "-", "test", "a.example", stdin=b"!\xe9\xff * F,1h,1m\n")
    assert done.stdout_bytes == b"Retry rule: !\xe9\xff  *  F,1h,1m; \n"
