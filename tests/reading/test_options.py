"""The sendmail command line: what each option does, and what is never guessed."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muawrap.failure import REFUSED, Failure
from muawrap.mail import Invocation
from muawrap.reading import options

TO = "to@x.example"


def parse(*words: str, name: str = "sendmail") -> Invocation:
    """The command line as the kernel hands it over."""
    return options.parse([f"/usr/sbin/{name}", *words])


def refusal(*words: str, name: str = "sendmail") -> str:
    """The sentence a command line is refused with."""
    with pytest.raises(Failure) as refused:
        parse(*words, name=name)
    assert refused.value.lead == REFUSED
    return refused.value.sentence()


# -- getopt (RULES E1, E2) ------------------------------------------------------------------------------------------

WITH_T_AND_I = Invocation(extract=True, dot_ends=False)

BUNDLES = [
    (["-t", "-i"], WITH_T_AND_I),
    (["-ti"], WITH_T_AND_I),
    (["-it"], WITH_T_AND_I),
    (["-tif", "s@x"], WITH_T_AND_I._replace(sender="s@x")),
    (["-tifs@x"], WITH_T_AND_I._replace(sender="s@x")),
    (["-tfi"], Invocation(extract=True, sender="i")),
    (["-toi"], WITH_T_AND_I),
    (["-vGt"], Invocation(verbose=True, gateway=True, extract=True)),
    (["-td0.1"], Invocation(verbose=True, extract=True)),
]


@pytest.mark.parametrize(("words", "expected"), BUNDLES)
def test_options_may_be_bundled(words: list[str], expected: Invocation) -> None:
    """RULES E1."""
    assert parse(*words) == expected


@pytest.mark.parametrize("words", [["-fs@x"], ["-f", "s@x"], ["-rs@x"], ["-r", "s@x"]])
def test_a_value_may_be_attached_or_stand_by_itself(words: list[str]) -> None:
    """RULES E1."""
    assert parse(*words, TO) == Invocation(recipients=(TO,), sender="s@x")


@pytest.mark.parametrize("letter", ["f", "r"])
def test_an_empty_word_is_a_value(letter: str) -> None:
    """RULES E1: `-f ''` is the null sender, and does not eat the address."""
    assert parse(f"-{letter}", "", TO) == Invocation(recipients=(TO,), sender="")


def test_the_last_of_two_senders_counts() -> None:
    """RULES E1: Request Tracker can pass two."""
    assert parse("-f", "one@x", "-ftwo@x", TO).sender == "two@x"


def test_a_value_may_look_like_an_option() -> None:
    """RULES E1."""
    assert parse("-f", "-t", TO) == Invocation(recipients=(TO,), sender="-t")


@pytest.mark.parametrize("option", [row.letter for row in options.OPTIONS if row.kind == options.REQUIRED])
def test_a_missing_value_is_a_usage_error(option: str) -> None:
    """RULES E1."""
    assert refusal(TO, option) in (f"option {option} needs a value", "option -C is refused after an address")


@pytest.mark.row("O3")
def test_two_dashes_end_the_options() -> None:
    """RULES E1, E2: behind them even -t is an address."""
    assert parse("-i", "--", "-t", "-z@x", "--").recipients == ("-t", "-z@x", "--")
    assert not parse("-i", "--", "-t").extract


def test_a_dash_in_a_display_name_begins_no_address() -> None:
    """RULES E2."""
    assert parse('"Smith, -J" <s@x.example>').recipients == ('"Smith, -J" <s@x.example>',)


def test_an_address_may_be_protected_by_brackets() -> None:
    """RULES E2: rmail wraps what begins with a dash."""
    assert parse("-G", "<-a@x>").recipients == ("<-a@x>",)


def test_options_may_follow_addresses() -> None:
    """RULES E2: Emacs writes -N last."""
    expected = Invocation(recipients=("a@x", "b@x"), sender="s@x", notify="NEVER", dot_ends=False)
    assert parse("a@x", "-f", "s@x", "b@x", "-oi", "-N", "never") == expected


@pytest.mark.parametrize("words", [[TO, "-C", "evil"], [TO, "-Cevil"], [TO, "-tCevil"], ["-t", TO, "-C", "evil"]])
def test_a_configuration_behind_an_address_is_refused(words: list[str]) -> None:
    """RULES E2: a web application that can be made to append words must not choose our configuration."""
    assert refusal(*words) == "option -C is refused after an address"


def test_a_configuration_before_the_address_is_taken() -> None:
    """RULES E2."""
    assert parse("-C", "/etc/x", TO).config == parse("-C/etc/x", TO).config == "/etc/x"


def test_an_empty_configuration_name_is_refused() -> None:
    """RULES E1."""
    assert "-C needs" in refusal("-C", "", TO)


def test_a_lone_dash_is_neither_option_nor_address() -> None:
    """RULES E2."""
    assert '"-"' in refusal("-")


@pytest.mark.row("O3")
@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=6), max_size=5))
@settings(deadline=None)
def test_nothing_that_starts_with_a_dash_is_mailed_to(words: list[str]) -> None:
    """RULES E2, E3: any words at all are an invocation or a Failure, and options never become addresses."""
    try:
        invocation = options.parse(["sendmail", *words])
    except Failure:
        return
    before = words[: words.index("--")] if "--" in words else words
    behind = words[len(before) + 1 :]
    assert all(not given.startswith("-") or given in behind for given in invocation.recipients)


# -- refusals (RULES E3, E4, E5) ------------------------------------------------------------------------------------


@pytest.mark.row("O3")
@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("-z", "-z"),
        ("-tz", "-z"),
        ("-Z", "-Z"),
        ("-5", "-5"),
        ("-é", "-é"),
        ("--to", "--to"),
        ("--read-x=y", "--read-x=y"),
    ],
)
def test_an_unknown_option_is_refused_by_name(word: str, named: str) -> None:
    """RULES E3."""
    assert refusal("-t", word, TO) == f"unknown option {named}"


@pytest.mark.parametrize("mode", ["", "b", "e", "f", "F", "h", "H", "P", "r", "z", "C", "mx", "ss"])
def test_an_unknown_mode_is_refused_by_name(mode: str) -> None:
    """RULES E3: the test modes of Exim, and -bs misspelled, are never taken for a delivery."""
    assert refusal("-b", mode, TO) == f"unknown mode -b{mode}"


@pytest.mark.row("I1")
@pytest.mark.parametrize("char", ["\n", "\r", "\x00", "\x1b", "\x7f", "\x85", "\t"])
@pytest.mark.parametrize("words", [["{}"], ["-f", "a{}b", TO], ["-Fa{}", TO], ["--", "a{}@x"], ["-L{}", TO]])
def test_a_control_character_is_refused_and_shown_escaped(words: list[str], char: str) -> None:
    """RULES E4."""
    sentence = refusal(*(word.format(char) for word in words))
    assert char not in sentence
    assert repr(char)[1:-1] in sentence


DAEMONS = ["-bd", "-bD", "-bl", "-bdf", "-bw", "-q15m", "-q1h30m", "-qf5m", "-qp15m", "-bd -q15m", "-q15m -bd"]


@pytest.mark.parametrize("words", DAEMONS)
def test_no_daemon_is_run(words: str) -> None:
    """RULES E5."""
    invocation = parse(*words.split())
    assert invocation.mode == "refused"
    assert invocation.refusal.endswith("this program runs no daemon")
    assert invocation.refusal.startswith(f"option {words.split()[-1]} ")


@pytest.mark.parametrize("word", ["-q", "-qf", "-qff", "-qIabc", "-q!Iabc", "-qRuser", "-qSuser", "-qGgroup", "-qp"])
def test_a_single_queue_run_has_nothing_to_do(word: str) -> None:
    """RULES E5: boot scripts and cron call it."""
    assert parse(word) == Invocation(mode="run")


@pytest.mark.parametrize("words", [["-q", "15m"], ["-q", TO], ["-bi", TO], ["-I", TO], ["-q", "-t"], ["-t", "-bi"]])
def test_a_mode_that_does_nothing_takes_no_message(words: list[str]) -> None:
    """RULES A1, E5: exit 0 would tell the caller that the message waiting on standard input was sent."""
    assert "takes no message and no address" in refusal(*words)


def test_smtp_on_standard_input_is_never_read_as_a_message() -> None:
    """RULES E8: alpine, Symfony and Laravel call it by default."""
    for words in (["-bs"], ["-bs", "-odb", "-oem"], ["-bs", "-i"], ["-i", "-bs"]):
        assert parse(*words).mode == "smtp"
    assert parse("-bS").mode == "batch"


# -- the table, row by row (RULES E6, INTERFACE 2) ------------------------------------------------------------------

PLAIN = Invocation(recipients=(TO,))
NO_DOT = PLAIN._replace(dot_ends=False)
LOUD = PLAIN._replace(verbose=True)

HONOURED = {
    "-bm": PLAIN,
    "-b m": PLAIN,
    "-ba": PLAIN,
    "-t": PLAIN._replace(extract=True),
    "-i": NO_DOT,
    "-oi": NO_DOT,
    "-o i": NO_DOT,
    "-oitrue": NO_DOT,
    "-oifalse": PLAIN,
    "-i -oi0": PLAIN,
    "-f s@x": PLAIN._replace(sender="s@x"),
    "-f <>": PLAIN._replace(sender="<>"),
    "-r s@x": PLAIN._replace(sender="s@x"),
    "-FCronDaemon": PLAIN._replace(full_name="CronDaemon"),
    "-F Me": PLAIN._replace(full_name="Me"),
    "-N never": PLAIN._replace(notify="NEVER"),
    "-N Success,delay,failure": PLAIN._replace(notify="SUCCESS,DELAY,FAILURE"),
    "-N failure,failure": PLAIN._replace(notify="FAILURE"),
    "-R full": PLAIN._replace(returns="FULL"),
    "-RHDRS": PLAIN._replace(returns="HDRS"),
    "-R headers": PLAIN._replace(returns="HDRS"),
    "-V id-1": PLAIN._replace(envelope_id="id-1"),
    "-V a+b=c": PLAIN._replace(envelope_id="a+2Bb+3Dc"),
    "-OIgnoreDots": NO_DOT,
    "-O IgnoreDots=True": NO_DOT,
    "-O ignoredots=no": PLAIN,
    "-G": PLAIN._replace(gateway=True),
    "-U": PLAIN._replace(utf8=True),
    "-v": LOUD,
    "-ov": LOUD,
    "-v -v": LOUD,
    "-d": LOUD,
    "-d0.1": LOUD,
    "-C /etc/x": PLAIN._replace(config="/etc/x"),
    "-bv": PLAIN._replace(mode="verify"),
    "-bt": PLAIN._replace(mode="verify"),
    "-bp": PLAIN._replace(mode="queue"),
}
IGNORED = [
    "-odb",
    "-odi",
    "-odf",
    "-odq",
    "-odd",
    "-odqs",
    "-oem",
    "-oep",
    "-oeq",
    "-oew",
    "-oee",
    "-em",
    "-ep",
    "-eq",
    "-ew",
    "-ee",
    "-om",
    "-m",
    "-oo",
    "-o7",
    "-o8",
    "-or0s",
    "-os10",
    "-oT5d",
    "-oA/x",
    "-oQ/x",
    "-oB10",
    "-oB",
    "-oz",
    "-oMsx",
    "-oMx",
    "-B8BITMIME",
    "-B7BIT",
    "-Bwhat",
    "-h0",
    "-h30",
    "-Ltag",
    "-pSMTP:host",
    "-n",
    "-c",
    "-s",
    "-T",
    "-x",
    "-E",
    "-Etext",
    "-J",
    "-Jtext",
    "-Ac",
    "-Am",
    "-X/tmp/x",
    "-OQueueDirectory=/x",
    "-Oanything",
]
IGNORED_WITH_WORD = ["-B 8BITMIME", "-e m", "-h 5", "-L tag", "-p SMTP", "-A c", "-X /tmp/x", "-O Timeout=5", "-o db"]
EXIM_MACROS = [f"-oM{letters} word" for letters in ("a", "aa", "as", "ai", "i", "m", "r", "s", "t")]


@pytest.mark.parametrize("words", HONOURED)
def test_an_option_does_what_the_table_says(words: str) -> None:
    """RULES E6: -N, -R and -V are those of RFC 3461."""
    assert parse(*words.split(), TO) == HONOURED[words]


@pytest.mark.parametrize("words", IGNORED)
def test_an_ignored_option_changes_nothing_and_eats_nothing(words: str) -> None:
    """RULES E6."""
    assert parse(words, TO) == PLAIN


@pytest.mark.parametrize("words", IGNORED_WITH_WORD + EXIM_MACROS)
def test_an_ignored_option_swallows_its_own_value_only(words: str) -> None:
    """RULES E6: msmtp mails to the word after -oMs, ssmtp to the one after -h."""
    assert parse(*words.split(), TO) == PLAIN


@pytest.mark.parametrize(
    "words", ["-D file", "-Dfile", "-Mx 1", "-Q", "-Qreason", "-S sender", "-oP/x", "-oX25", "-oY"]
)
def test_an_option_that_controls_a_queue_or_a_daemon_is_refused(words: str) -> None:
    """RULES E3, with its reason."""
    assert re.fullmatch(r"option -o?[A-Z] is refused: .+", refusal(*words.split(), TO))


@pytest.mark.parametrize("word", ["-XV", "-XVab"])
def test_verp_is_refused(word: str) -> None:
    """RULES B1: one transaction has one sender."""
    assert "VERP" in refusal(word, TO)


@pytest.mark.parametrize("letter", ["A", "Q", "T", "r", "s"])
def test_a_short_option_never_takes_the_next_word(letter: str) -> None:
    """RULES E3: in some programs it would, and in others that word is mailed to."""
    assert "attached" in refusal(f"-o{letter}", TO)


BAD_VALUES = [
    ("-h", ["x", "", "-1", "1.5", "٣", "1" * 10]),
    ("-N", ["", "x", "never,success", "success,", "success failure"]),
    ("-R", ["", "off", "all"]),
    ("-V", ["", "ä", "x" * 101]),
]


@pytest.mark.row("I3")
@pytest.mark.parametrize(("option", "value"), [(option, value) for option, values in BAD_VALUES for value in values])
def test_a_value_that_cannot_be_is_refused_by_option(option: str, value: str) -> None:
    """RULES E3."""
    assert f"option {option} " in refusal(option, value, TO)


def test_every_row_says_why() -> None:
    """An option that is ignored or refused has its reason beside it; the others say what they do."""
    for row in options.OPTIONS:
        assert re.fullmatch(r"-[A-Za-z]", row.letter)
        assert row.kind in (options.NONE, options.REQUIRED, options.ATTACHED)
        assert len(row.help) > 5
        if row.effect == "ignore":
            assert re.search("[;,] ", row.help), f"{row.letter} is ignored without a reason"
    letters = [row.letter for row in options.OPTIONS]
    assert letters == sorted(set(letters), key=lambda letter: (letter.lower(), letter))


def test_every_letter_of_sendmail_is_known() -> None:
    """Sendmail 8.17's own getopt string: no letter of it is unknown, and none takes another kind of value."""
    known = {row.letter[1]: row.kind for row in options.OPTIONS}
    for letter, value in re.findall(r"([A-Za-z])(:?)", "A:B:b:C:cD:d:e:F:f:Gh:IiL:M:mN:nO:o:p:Q:q:R:r:sTtUV:vX:"):
        assert known[letter] in ((options.REQUIRED, options.ATTACHED) if value else (options.NONE,))


# -- words, names and modes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["", " ", "   "])
@pytest.mark.parametrize("mode", ["-bm", "-bv", "-t"])
def test_an_empty_argument_is_no_address(mode: str, word: str) -> None:
    """RULES E3: an unset variable in somebody's script."""
    assert refusal(mode, word) == "an empty argument is no address"


def test_without_an_address_and_without_t_there_is_no_recipient() -> None:
    """RULES A1."""
    assert "no recipient" in refusal("-i")


@pytest.mark.parametrize("mode", ["-bv", "-bt"])
def test_there_is_nothing_to_look_up_without_an_address(mode: str) -> None:
    """RULES E9: exit 0 says that all addresses route, so there has to be one."""
    assert "no address to look up" in refusal(mode)


@pytest.mark.parametrize(
    ("words", "mode"),
    [(["--version"], "version"), (["--help"], "help"), (["-bV"], "version"), (["-bp"], "queue"), (["-bi"], "nothing")],
)
def test_modes_that_take_no_message(words: list[str], mode: str) -> None:
    """RULES E5."""
    assert parse(*words) == Invocation(mode=mode)


def test_a_long_word_is_an_option_at_the_first_place_only() -> None:
    """RULES E3."""
    assert refusal("-t", "--version") == "unknown option --version"


NAMES = {
    "mailq": Invocation(mode="queue"),
    "newaliases": Invocation(mode="nothing"),
    "runq": Invocation(mode="run"),
    "hoststat": Invocation(mode="nothing"),
    "purgestat": Invocation(mode="nothing"),
}


@pytest.mark.parametrize("name", NAMES)
def test_the_name_decides_the_mode(name: str) -> None:
    """RULES E10."""
    assert parse(name=name) == NAMES[name]


@pytest.mark.parametrize("name", ["sendmail", "send-mail", "msmtp", "anything"])
def test_any_other_name_delivers(name: str) -> None:
    """RULES E10."""
    assert parse(TO, name=name) == PLAIN


def test_rmail_is_i() -> None:
    """RULES E10."""
    assert parse(TO, name="rmail") == NO_DOT


def test_smtpd_is_refused() -> None:
    """RULES E5, E10."""
    assert parse(name="smtpd").refusal == "option -bd is refused: this program runs no daemon"


def test_rsmtp_is_batch_smtp() -> None:
    """RULES E10."""
    assert parse(name="rsmtp") == parse("-bS")


@pytest.mark.parametrize(
    ("name", "words", "mode"),
    [
        ("newaliases", ["-bp"], "queue"),
        ("mailq", ["-bi"], "nothing"),
        ("mailq", ["-bm", TO], "deliver"),
        ("smtpd", ["-bm", TO], "deliver"),
        ("runq", ["-bv", TO], "verify"),
    ],
)
def test_options_override_the_name(name: str, words: list[str], mode: str) -> None:
    """RULES E10."""
    assert parse(*words, name=name).mode == mode


def test_no_name_at_all_delivers() -> None:
    """RULES E10: execve() allows an empty argv."""
    with pytest.raises(Failure, match="no recipient"):
        options.parse([])


CALLERS = {  # what programs really call
    "cron": ("-FCronDaemon -i -B8BITMIME -oem root", NO_DOT._replace(full_name="CronDaemon", recipients=("root",))),
    "cronie": (
        "-FCronDaemon -i -odi -oem -oi -t -f me@x",
        WITH_T_AND_I._replace(full_name="CronDaemon", sender="me@x"),
    ),
    "anacron": (f"-FAnacron -odi {TO}", PLAIN._replace(full_name="Anacron")),
    "systemd-cron": (f"-i -B 8BITMIME {TO}", NO_DOT),
    "s-nail": (f"-i -m -v -F Me -f me@x -- {TO}", NO_DOT._replace(verbose=True, full_name="Me", sender="me@x")),
    "mutt": (
        f"-oem -oi -B8BITMIME -f me@x -N never -R hdrs -- {TO}",
        NO_DOT._replace(sender="me@x", notify="NEVER", returns="HDRS"),
    ),
    "sympa": (
        f"-oi -odi -oem -N success,delay,failure -R hdrs -V 1.2 -f me@x -- {TO}",
        NO_DOT._replace(sender="me@x", notify="SUCCESS,DELAY,FAILURE", returns="HDRS", envelope_id="1.2"),
    ),
    "emacs": ("-oi -f me@x -oA/etc/x -oem -odb -t -N failure", WITH_T_AND_I._replace(sender="me@x", notify="FAILURE")),
    "rmail": (
        "-G -oee -odi -oi -fme@x -puucp:host <-a@x>",
        NO_DOT._replace(gateway=True, sender="me@x", recipients=("<-a@x>",)),
    ),
    "php": ("-t -i -fme@x", WITH_T_AND_I._replace(sender="me@x")),
    "rss2email": (f"-C /etc/x -F Feed -f me@x {TO}", PLAIN._replace(config="/etc/x", full_name="Feed", sender="me@x")),
    "nmh": ("-m -t -i", WITH_T_AND_I),
}


@pytest.mark.parametrize("caller", CALLERS)
def test_a_real_caller_is_understood(caller: str) -> None:
    """RULES E1, E6."""
    words, expected = CALLERS[caller]
    assert parse(*words.split()) == expected


@pytest.mark.row("O3")
@pytest.mark.parametrize(
    "word",
    [
        " -z@a.example",
        "a@b.example,-z@c.example",
        "a@b.example, -z@c.example",
        "a@b.example, friends: -z;",
        "(c)-z@a.example",
        "\\-z",
        "a@b.example, -z <",
    ],
)
def test_an_address_that_begins_with_a_dash_needs_two_dashes_before_it(word: str) -> None:
    """RULES E2: not in the middle of a list, either."""
    with pytest.raises(Failure, match="begins with a dash"):
        options.parse(["sendmail", word])
    assert options.parse(["sendmail", "--", word]).recipients == (word,)
