"""Retry rules as a real Exim reads them: what `exim -brt` prints for generated rules and keys, we print as well."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner, Result

from muawrap.admin.retry import command
from muawrap.failure import Failure
from muawrap.holding.rules import retry
from tests.support.need import need

MAIN = """\
exim_user = {uid}
exim_group = {gid}
spool_directory = {folder}/spool
log_file_path = {folder}/%slog
keep_environment =
primary_hostname = here.example
"""
LISTS = """\
domainlist near = dom.example : *.near.example : !not.far.example : *.far.example
domainlist both = +near : other.example
addresslist people = a@dom.example : *@sub.dom.example
addresslist nobody = : !a@dom.example : *@dom.example
"""
RULE_SETS = 250
QUERIES = 3
BROKEN = 150

DOMAINS = (
    "dom.example",
    "sub.dom.example",
    "x.near.example",
    "not.far.example",
    "x.far.example",
    "other.example",
    "one",
)
LOCALS = ("a", "A", "b", "a.b", '"a b"')
PATTERNS = (
    "*",
    "dom.example",
    "DOM.example",
    "*.dom.example",
    "*om.example",
    "*@dom.example",
    "*@*.dom.example",
    "*@*",
    "a@dom.example",
    "*b@dom.example",
    "!dom.example",
    "!a@dom.example",
    "!*",
    "*@!dom.example",
    "+people",
    "!+people",
    "+nobody",
    "*@+near",
    "a@+both",
    "!*@+both",
    "^a@",
    "!^.*@dom",
    r"^\\*@dom\\.ex",
    r"\N^\*@[a-z]+\.example$\N",
    r"\N^.*@(dom|other)\.\w+$\N",
    '"a b@dom.example"',
    r'"\N^\\"a b\"@\N"',
    "*@^.*far",
    "@dom.example",
    "one",
    "1.2.3.4",
    "lsearch;{folder}/look",
    "*@lsearch;{folder}/look",
    "b@lsearch;{folder}/look",
)
ERRORS = (
    *("*", "auth_failed", "lookup", "lost_connection", "tls_required", "quota", "quota_5d", "quota_36h"),
    *("refused", "refused_A", "refused_MX", "timeout", "timeout_A", "timeout_MX", "TIMEOUT"),
    *("timeout_connect", "timeout_connect_A", "timeout_connect_MX", "mail_4xx", "mail_45x", "mail_452"),
    *("rcpt_4xx", "rcpt_45x", "rcpt_452", "data_4xx", "data_40x", "data_421"),
)
EVENTS = [one for one in ERRORS if one[-1] not in "*x"]  # a reply has a code, and Exim mistakes 4xx for 421
SENDERS = ("a@dom.example", "A@DOM.EXAMPLE", "b@sub.dom.example", "", "c@other.example")
LISTS_OF_SENDERS = (
    *(":", "*", "*@*", "a@dom.example", "+people", "+nobody", "!+people", "*@+both", "dom.example", "^a", '""'),
    *(
        '"a@dom.example : !*@dom.example"',
        '": c@other.example"',
        '"<; a@dom.example ; *@sub.dom.example"',
        "!a@dom.example",
    ),
)
LOOK = 'dom.example: x\n# no.example:\nother.example y\n  one: x\n"b@sub.dom.example" z\n*@x.far.example: x\n\nOne'


class Query(NamedTuple):
    """One call of -brt."""

    config: str
    rules: str
    words: tuple[str, ...]
    sender: str | None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("brt")
    (folder / "spool").mkdir()
    (folder / "look").write_text(LOOK)
    return folder


class Exim:
    """`exim -brt` with a configuration, as whoever runs the tests."""

    def __init__(self, folder: Path) -> None:
        self.path = need("exim4")
        self.folder = folder
        self.main = MAIN.format(uid=os.geteuid(), gid=os.getegid(), folder=folder)
        self.number = 0

    def config(self, rules: str, lists: str = LISTS) -> tuple[str, str]:
        """The path of a configuration with these rules, and the part of it that is ours to read."""
        self.number += 1
        path = self.folder / f"{self.number}.conf"
        text = f"{lists}begin retry\n{rules}"
        path.write_text(self.main + text)
        return str(path), text

    def ask(self, query: Query) -> tuple[int, str]:
        """Exit status and standard output."""
        sender = [] if query.sender is None else ["-f", query.sender]
        done = subprocess.run(
            [self.path, "-C", query.config, *sender, "-brt", *query.words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return done.returncode, done.stdout


@pytest.fixture(scope="module")
def exim(folder: Path) -> Exim:
    return Exim(folder)


def ask_us(query: Query) -> Result:
    sender = [] if query.sender is None else ["-f", query.sender]
    return CliRunner().invoke(command, ["--rules", query.config, *sender, "test", "--", *query.words])


def all_at_once(ask: Callable[[Query], tuple[int, str]], queries: list[Query]) -> Iterator[tuple[int, str]]:
    with ThreadPoolExecutor(2) as pool:
        yield from pool.map(ask, queries)


def sets(chance: random.Random) -> str:
    """Parameters in every spelling that is allowed."""
    made = []
    for _ in range(chance.choice((0, 1, 1, 2, 3))):
        letter = chance.choice("FGHfgh")
        times = ["".join(f"{chance.randint(0, 40)}{chance.choice('wdhms')}" for _ in range(3)) + "1s" for _ in range(2)]
        factor = [] if letter in "Ff" else [chance.choice(("1", "1.5", "2.", "1.0009", "1.2345", "10.05", "3.100"))]
        made.append(chance.choice((",", ", ")).join([letter, *times, *factor]))
    return chance.choice((";", "; ", " ;\\\n   ")).join(made) + (chance.choice(("", ";", " ; ")) if made else "")


def rule(chance: random.Random, folder: Path) -> str:
    pattern = chance.choice(PATTERNS).replace("{folder}", str(folder))
    senders = f"senders{chance.choice(('=', ' = '))}{chance.choice(LISTS_OF_SENDERS)}" if chance.random() < 0.3 else ""
    blank = chance.choice((" ", "\t", "   "))
    before = chance.choice(("", "", "# a comment\n", "\n", "  "))
    return (
        before
        + blank.join(filter(None, (pattern, chance.choice(("*", chance.choice(ERRORS))), senders, sets(chance))))
        + "\n"
    )


def words(chance: random.Random) -> tuple[str, ...]:
    """The arguments of one call."""
    domain, local, alternate = chance.choice(DOMAINS), chance.choice(LOCALS), chance.choice(DOMAINS)
    key = chance.choice((domain, f"{local}@{domain}", f"{domain}:1.2.3.4", "1.2.3.4", domain.upper(), f"@{domain}"))
    error = chance.choice(EVENTS) if chance.random() < 0.6 else None
    other = alternate if "." in alternate and chance.random() < 0.4 else None
    return tuple(one for one in (key, other, error) if one is not None)


def test_what_exim_prints_we_print(exim: Exim, folder: Path) -> None:
    """INTERMITTENT 3.1: the same rule, byte by byte, for patterns, errors, senders and alternates of all kinds."""
    chance = random.Random(20261121)
    queries = []
    for _ in range(RULE_SETS):
        config = exim.config("".join(rule(chance, folder) for _ in range(chance.randint(3, 8))))
        for _ in range(QUERIES):
            queries.append(Query(*config, words(chance), chance.choice((None, *SENDERS))))
    found = 0
    for query, (status, printed) in zip(queries, all_at_once(exim.ask, queries), strict=True):
        ours = ask_us(query)
        assert (ours.exit_code, ours.stdout) == (status, printed), f"{query.words} {query.sender!r}\n{query.rules}"
        found += "Retry rule: " in printed
    assert found > len(queries) / 3, "most questions find no rule, and prove little"


def test_what_exim_refuses_we_refuse_and_nothing_else(exim: Exim) -> None:
    """INTERMITTENT 3.1: parameters with one character too many, too few or changed."""
    chance = random.Random(4)
    queries: list[Query] = []
    while len(queries) < BROKEN:
        text = chance.choice(("F,1h,15m; G,2d,1h,2.5", "H,30m,5m,1.05;", "G,16h,1h,1.5 ; F,4d,6h"))
        for _ in range(chance.choice((1, 1, 2))):
            at = chance.randrange(len(text))
            put = chance.choice(("", *"FGHX,;. 019mhdwsx"))
            text = text[:at] + put + text[at + chance.randint(0, 1) :]
        queries.append(Query(*exim.config(f"dom.example * {text}\n"), ("dom.example",), None))
    verdicts = set()
    for query, (status, printed) in zip(queries, all_at_once(exim.ask, queries), strict=True):
        try:
            [only] = retry.parse(query.rules)
            ours = (0, f"{only.printed()}\n")
        except Failure:
            ours = (1, "")
        assert ours == (status, printed), query.rules
        verdicts.add(status)
    assert verdicts == {0, 1}


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ("* l F,1h,5m\n", ("dom.example", "lost_connection")),
        ("* t F,1h,5m\n", ("dom.example", "tls_required")),
        ("* refused_ F,1h,5m\n", ("dom.example", "refused_MX")),
        ("* auth_fail F,1h,5m\n", ("dom.example", "auth_failed")),
        ("* * F,99999999999w,1m\n", ("dom.example",)),
        ("^[[:alpha:]] * F,1h,5m\n", ("a@dom.example",)),
        ("${lc:DOM}.example * F,1h,5m\n", ("dom.example",)),
        ("MACRO = dom\nbegin retry\nMACRO.example * F,1h,5m\n", ("dom.example",)),
    ],
)
def test_what_exim_takes_and_we_refuse(exim: Exim, rules: str, words: tuple[str, ...]) -> None:
    """INTERMITTENT 3.1: the quirks that are not copied, and what cannot be done here; each is said, none is guessed."""
    main, _, text = rules.rpartition("begin retry\n")
    query = Query(*exim.config(text, main), words, None)
    status, printed = exim.ask(query)
    assert (status, printed.split()[:2]) == (0, ["Retry", "rule:"])
    ours = ask_us(query)
    assert (ours.exit_code, ours.stdout) == (1, "")
    assert " line " in ours.stderr


@pytest.mark.parametrize(
    ("rule", "event"), [("data_421", "data_4xx"), ("rcpt_42x", "rcpt_4xx"), ("mail_454", "mail_45x")]
)
def test_a_special_code_covers_no_general_one(exim: Exim, rule: str, event: str) -> None:
    """INTERMITTENT 3.1: general covers special, never the reverse; in Exim the marks for "any" are codes themselves."""
    query = Query(*exim.config(f"* {rule} F,1h,5m\n"), ("dom.example", event), None)
    assert exim.ask(query)[1].startswith("Retry rule: ")
    assert ask_us(query).stdout == "No retry information found\n"


def test_exim_says_the_same_to_a_name_without_a_dot_and_to_no_rule(exim: Exim) -> None:
    """INTERMITTENT 3.1: the warning is part of the output, and no rule is no error."""
    for words in (("one",), ("dom.example",), ("one", "refused"), ("-x",)):
        query = Query(*exim.config(""), words, None)
        ours = ask_us(query)
        assert (ours.exit_code, ours.stdout) == exim.ask(query)


def test_a_whole_exim_configuration_is_read(exim: Exim) -> None:
    """INTERMITTENT 6.6: of everything else in it only the named lists count."""
    config, _ = exim.config(
        "*@+near * F,1h,5m\nbegin rewrite\n*@one *@two.example\n", LISTS + "timeout_frozen_after = 7d\n"
    )
    query = Query(config, "", ("x.near.example",), None)
    assert (ask_us(query).exit_code, ask_us(query).stdout) == exim.ask(query)
    assert ask_us(query).stdout == "Retry rule: *@+near  *  F,1h,5m; \n"
