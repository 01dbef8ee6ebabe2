"""All pairs of smart hosts, each run and compared with what the model says."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple, Protocol

import pytest

from muawrap.failure import REFUSED, TRY_AGAIN, UNCERTAIN
from tests.hostile.matrix.behaviours import BEHAVIOURS, OLD, Behaviour
from tests.hostile.matrix.forked import Forked
from tests.hostile.matrix.model import Prediction, predict
from tests.hostile.matrix.places import Place, Wanted, finished, place
from tests.support.canary import CANARY, assert_silent
from tests.support.nameserver import NameServer
from tests.support.program import Program, Result
from tests.support.server import Received

WHOLE = os.environ.get("MATRIX") == "whole"  # as `make torture` has it
SHARE = 5  # of the pairs that are not run twice every fifth is, once
AT_ONCE = 12  # calls under way: those that wait for a silent host leave room for others
TEMPFAIL = ("final", "next-host")
HEADER = """\
Date: Thu, 1 Jan 2026 00:00:00 +0000
From: me@client.example
To: you@example.net
Message-ID: <matrix@client.example>
Subject: hello

"""
MESSAGE_ID = "<matrix@client.example>"
LINE = "x" * 63 + "\n"
LONG = 8 * 1024 * 1024 // len(LINE)  # lines; more than the kernel holds for a server that does not read
LENGTHS = {"short": 32, "middling": 640, "long": LONG}  # middling leaves in one flight, but is no single piece of text

NUMBERS = itertools.count()


class Call(Protocol):
    """The program as `sendmail`, with a file on standard input."""

    def __call__(self, *argv: str, stdin: Path) -> Result: ...


class Dialect(NamedTuple):
    """What both servers offer, who gets the message and how long it is: that decides what is sent at once (B5, B6)."""

    extensions: tuple[str, ...]
    recipients: tuple[str, ...]
    length: str


ONE, TWO = ("you@example.net",), ("you@example.net", "them@example.net")
DIALECTS = [
    Dialect((), TWO, "short"),
    Dialect(("PIPELINING",), TWO, "middling"),
    Dialect(("PIPELINING", "CHUNKING"), ONE, "short"),
    Dialect(("PIPELINING", "CHUNKING"), ONE, "middling"),
]


class Case(NamedTuple):
    """Smart hosts, in which dialect they are spoken to, and whether a 4yz is final."""

    hosts: tuple[Behaviour, ...]
    dialect: Dialect
    tempfail: str

    def __str__(self) -> str:
        hosts = ", then ".join(host.name for host in self.hosts)
        return f"{hosts} ({' '.join((*self.dialect.extensions, self.length))}, tempfail {self.tempfail})"

    @property
    def length(self) -> str:
        return "long" if any(host.long for host in self.hosts) else self.dialect.length

    @property
    def prediction(self) -> Prediction:
        one_flight = "CHUNKING" in self.dialect.extensions and self.length != "long"
        return predict(self.hosts, tempfail=self.tempfail, one_flight=one_flight)


def pairs(first: int, whole: bool = True) -> Iterator[Case]:
    """This behaviour before every other, each twice; along a row and a column the dialects take turns.

    Unless it is the `whole` matrix, of the pairs with a host that is no plain one at an address there is a part.
    """
    for second in range(len(BEHAVIOURS)):
        for turn, tempfail in enumerate(TEMPFAIL):
            dialect = DIALECTS[(first + second + turn) % len(DIALECTS)]
            chosen = (first - second) % SHARE == 0 and turn == (first // 20 + second // 20) % 2
            if whole or chosen or max(first, second) < OLD:
                yield Case((BEHAVIOURS[first], BEHAVIOURS[second]), dialect, tempfail)


def configuration(case: Case, places: Sequence[Place], log: Path) -> str:
    """Each host with the timeouts and the login that are its own."""
    tables = []
    for behaviour, where in zip(case.hosts, places, strict=True):
        keys = [f'url = "{where.url}"', *where.keys]
        keys += [f"timeouts = {{ {stage} = {seconds} }}" for stage, seconds in behaviour.timeouts.items()]
        if behaviour.login:
            keys.append(f'auth = {{ user = "alice", password = "{CANARY}", allow_plaintext = true }}')
        tables.append("{ " + ", ".join(keys) + " }")
    return (
        f"smart_hosts = [{', '.join(tables)}]\n"
        f'hostname = "client.example"\nfrom = "me@client.example"\ntempfail = "{case.tempfail}"\nlog = "{log}"\n'
        "[timeouts]\nconnect = 60\ngreeting = 60\ncommand = 60\ndata = 60\nfinal = 60\n"
    )


def wanted(behaviour: Behaviour, case: Case, names: NameServer) -> Wanted:
    """A host that behaves so, in the dialect of the case."""
    extensions = [one for one in case.dialect.extensions if one != "CHUNKING" or not behaviour.by_data]
    return Wanted(behaviour, extensions, case.length != "long", names)


class Seen(NamedTuple):
    """What became of a case."""

    result: Result
    logged: str
    places: list[Place]
    octets: int  # of the text on the wire


def run(case: Case, folder: Path, call: Call, names: NameServer) -> Seen:
    """Both hosts, and one call of the program between them."""
    log, config, text = folder / "log", folder / "muawrap.toml", folder.parent / case.length
    folder.mkdir(mode=0o700)
    with ExitStack() as stack:
        places = [place(wanted(host, case, names), stack) for host in case.hosts]
        config.write_text(configuration(case, places, log), encoding="ascii")
        config.chmod(0o600)
        result = call("-C", str(config), *case.dialect.recipients, stdin=text)
        finished(places)
    logged = log.read_text(encoding="ascii") if log.exists() else ""
    assert_silent(result.out, result.err, logged.encode("ascii"))
    octets = len(HEADER) + HEADER.count("\n") + LENGTHS[case.length] * (len(LINE) + 1)
    return Seen(result, logged, places, octets)


def complaints(case: Case, seen: Seen) -> list[str]:
    """Where what was seen is not what was predicted."""
    expected = case.prediction
    line = seen.result.err.decode("ascii")
    lead = f"sendmail: {expected.lead}: " if expected.lead else ""
    names = [where.name for where in seen.places]
    told = ".*".join(f"{re.escape(names[number])}.*({case.hosts[number].says})" for number in expected.told)
    strangers = [name for name, asked in zip(names, expected.contacts, strict=True) if not asked]
    kept = [messages_kept(*host) for host in zip(case.hosts, seen.places, strict=True)]
    whole = (len(case.dialect.recipients), seen.octets)
    compared = [
        ("exit status", expected.status, seen.result.status),
        ("standard output", b"", seen.result.out),
        ("lines", int(bool(lead)), line.count("\n")),
        ("lead", lead, line[: len(lead)]),
        ("sentence", True, re.search(told, line) is not None),
        ("hosts named without having been asked", [], [name for name in strangers if name in line]),
        ("Message-ID", True, MESSAGE_ID in line or not lead),
        ("log", [("failed" if lead else "sent", MESSAGE_ID)], re.findall(r"(?m)^\S+ (\w+) id=(\S+) ", seen.logged)),
        ("lead in the log", [expected.lead] * bool(lead), re.findall(r' lead="(.*?)"', seen.logged)),
        ("degraded", expected.degraded, " degraded=" in seen.logged),
        ("contacts", list(expected.contacts), contacts(seen.places, expected)),
        ("copies", list(expected.copies), [len(messages) for messages in kept]),
        ("recipients and octets", {whole} if any(kept) else set(), {sized(one) for one in itertools.chain(*kept)}),
    ]
    wrong = [f"{case}: {what}: {should!r} predicted, {did!r} seen" for what, should, did in compared if should != did]
    return [*wrong, f"    {line!r}", f"    {seen.logged!r}"] if wrong else []


def contacts(places: Sequence[Place], expected: Prediction) -> list[int]:
    """How often each host was turned to; one that does not listen cannot count that."""
    asked = zip(places, expected.contacts, strict=True)
    return [predicted if where.asked is None else where.asked() for where, predicted in asked]


def messages_kept(behaviour: Behaviour, where: Place) -> list[Received]:
    """What this host has in the end, whatever it has said of it."""
    return [message for message in where.messages if message.accepted or (message.complete and behaviour.kept)]


def sized(message: Received) -> tuple[int, int]:
    """Recipients and octets of a message."""
    return len(message.recipients), message.size


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the messages."""
    folder = tmp_path_factory.mktemp("matrix")
    for name, lines in LENGTHS.items():
        (folder / name).write_text(HEADER + LINE * lines, encoding="ascii")
    return folder


@pytest.fixture(scope="module")
def names() -> Iterator[NameServer]:
    """The name server of everybody."""
    with NameServer({}) as server:
        yield server


@pytest.fixture(scope="module")
def call(names: NameServer) -> Iterator[Call]:
    """Calls the program, several at once."""
    idle: SimpleQueue[Forked] = SimpleQueue()
    with ExitStack() as stack:
        for _ in range(AT_ONCE):
            idle.put(stack.enter_context(closing(Forked(names.port))))

        def run(*argv: str, stdin: Path) -> Result:
            one = idle.get()
            try:
                return one.run(*argv, stdin=stdin)
            finally:
                idle.put(one)

        yield run


def all_complaints(cases: Sequence[Case], texts: Path, call: Call, names: NameServer) -> list[str]:
    """Run them, several at once."""

    def one(case: Case) -> list[str]:
        return complaints(case, run(case, texts / str(next(NUMBERS)), call, names))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(itertools.chain(*pool.map(one, cases)))


@pytest.mark.row("S5", "S6", "S7", "S8", "S9", "S11", "G5")
@pytest.mark.parametrize("first", range(len(BEHAVIOURS)), ids=[behaviour.name for behaviour in BEHAVIOURS])
def test_a_pair_comes_out_as_predicted(first: int, texts: Path, call: Call, names: NameServer) -> None:
    """A1, A2, A3, A5, C1, C2, C3, C4, C7: this smart host before each of them."""
    wrong = all_complaints(list(pairs(first, WHOLE)), texts, call, names)
    assert not wrong, "\n".join(wrong)


@pytest.mark.row("G5")
def test_the_program_itself_comes_out_as_predicted(texts: Path, program: Program, names: NameServer) -> None:
    """A1, A3: the same from the outside, with every behaviour once in each place that needs no name server."""

    def call(*argv: str, stdin: Path) -> Result:
        with stdin.open("rb") as file:
            return program.run(*argv, stdin=file.fileno(), config=False)

    reached = [
        number for number, behaviour in enumerate(BEHAVIOURS) if behaviour.way != "srv"
    ]  # the program asks port 53
    sample = []
    for turn, first in enumerate(reached):
        second = reached[7 * turn % len(reached)]
        sample.append(list(pairs(first))[2 * second + turn % 2])
    for number in range(2):
        assert {case.hosts[number].name for case in sample} == {BEHAVIOURS[one].name for one in reached}
    wrong = all_complaints(sample, texts, call, names)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("hosts", [1, 2, 3])
def test_the_model_keeps_the_promise(hosts: int) -> None:
    """A1, A3: whatever the hosts do, the lead is true of the copies there are, and there are never two."""
    possible = {"": {1}, TRY_AGAIN: {0}, REFUSED: {0}, UNCERTAIN: {0, 1}}
    for case in itertools.product(BEHAVIOURS, repeat=hosts):
        for tempfail, one_flight in itertools.product(TEMPFAIL, (False, True)):
            expected = predict(case, tempfail=tempfail, one_flight=one_flight)
            assert sum(expected.copies) in possible[expected.lead], [host.name for host in case]


def test_the_matrix_is_as_large_as_it_says() -> None:
    """Thirty-eight ways to behave, five of them both as 4yz and as 5yz; every dialect meets every behaviour."""
    names = [behaviour.name for behaviour in BEHAVIOURS]
    ways = {name if name.startswith("dot") else re.sub(r" [45]\d\d$", "", name) for name in names}
    assert (len(set(names)), len(ways)) == (43, 38)
    cases = list(itertools.chain(*map(pairs, range(len(names)))))
    assert len({(first.name, second.name) for (first, second), _, _ in cases}) == 1849
    met = {(place, case.hosts[place].name, case.dialect) for case in cases for place in range(2)}
    assert len(met) == 2 * len(names) * len(DIALECTS)
    part = [case for first in range(len(names)) for case in pairs(first, whole=False)]
    assert {(place, case.hosts[place].name, case.dialect) for case in part for place in range(2)} == met
    assert len(part) < 2 * OLD**2 + 200
