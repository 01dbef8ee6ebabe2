"""Every input that has ever been worth keeping, through its target again."""

from __future__ import annotations

from pathlib import Path

import pytest

from muawrap.failure import UNCERTAIN, Failure
from muawrap.mail import Receipt
from muawrap.submission import identity, netrc, pins, scram, socks
from muawrap.submission.connection import Connection
from tests.fuzz import accounts, dialogues, wired
from tests.fuzz.targets import TARGETS, bounded

CORPUS = Path(__file__).with_name("corpus")
FILES = sorted(CORPUS.glob("*/*"))


@pytest.mark.row("I1", "I5", "I8", "I9", "S1", "S9", "T6", "T7", "G1")
@pytest.mark.parametrize("file", FILES, ids=[f"{file.parent.name}/{file.name}" for file in FILES])
def test_an_input_found_by_fuzzing_breaks_no_promise(file: Path) -> None:
    """A3, B2, C3, F1: what each target checks, within a second and 64 MiB."""
    bounded(TARGETS[file.parent.name], file.read_bytes())


def test_every_target_has_a_corpus_and_the_corpus_stays_small() -> None:
    """G1: a regression test, not an archive."""
    assert {file.parent.name for file in FILES} == set(TARGETS)
    assert len(FILES) <= 400
    assert sum(file.stat().st_size for file in FILES) <= 300 * 1024


OUTCOMES = {
    "one_flight": "sent",
    "flights": "sent",
    "lockstep": "sent",
    "small_mouthfuls": "sent",
    "large": "sent",
    "helo": "sent",
    "starttls_refused": "sent",
    "starttls_closed": "not sent, try again",
    "auth_plain": "sent",
    "auth_login": "not sent, refused",
    "utf8_dsn": "sent",
    "flights_rcpt_refused": "not sent, refused",
    "large_552": "not sent, refused",
    "unasked": "not sent, try again",
    "data_250": "not sent, try again",
    "dot_mixed": "may have been sent",
    "dot_silence": "may have been sent",
    "dot_half": "may have been sent",
    "twice_250": "may have been sent",
    "one_flight_contradiction": "may have been sent",
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_the_dialogues_of_the_corpus_get_as_far_as_they_should(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """C3: an input that ends at the greeting would prove nothing of what comes after it."""
    outcomes: list[str] = []

    def bears(course: object, outcome: Receipt | Failure, surprises: bool) -> None:
        outcomes.append("sent" if isinstance(outcome, Receipt) else outcome.lead)

    monkeypatch.setattr(dialogues._Course, "bears", bears)
    dialogues.dialogue((CORPUS / "dialogue" / name).read_bytes())
    assert outcomes == [OUTCOMES[name]]


LIES: dict[str, tuple[str, Receipt | Failure]] = {
    "a refusal taken for success": ("flights_rcpt_refused", Receipt("h:25", reply="250 taken")),
    "half a verdict taken for success": ("dot_half", Receipt("h:25", reply="250 taken")),
    "a contradiction taken for success": ("one_flight_contradiction", Receipt("h:25", reply="250 taken")),
    "success called a refusal": ("lockstep", Failure("no")),
    "success called uncertain": ("lockstep", Failure("no", lead=UNCERTAIN)),
    "uncertain without an end of message": ("data_250", Failure("no", lead=UNCERTAIN)),
    "a loss after the end called not sent": ("dot_half", Failure("no")),
}


@pytest.mark.parametrize("lie", LIES)
def test_the_judge_of_dialogues_is_not_deceived(lie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A1, C3: an outcome that does not follow from what was said and heard fails the target."""
    name, outcome = LIES[lie]
    bears = dialogues._Course.bears
    monkeypatch.setattr(dialogues._Course, "bears", lambda course, _, surprises: bears(course, outcome, surprises))
    with pytest.raises(AssertionError):
        dialogues.dialogue((CORPUS / "dialogue" / name).read_bytes())


WRONG: dict[str, tuple[object, str, object]] = {
    "scram/wrong": (scram.Scram, "_prove", lambda mechanism, signature: setattr(mechanism, "_proved", True)),
    "scram/few": (scram, "FEWEST", 1),
    "scram/plus": (scram.Scram, "_hmac", lambda mechanism, key, message: bytes(32)),
    "certificate/ecdsa": (pins, "public_key", lambda der: der[8:]),
    "certificate/cut": (pins, "public_key", lambda der: der[8:]),
    "names/star_tld": (identity, "matches", lambda presented, name: name.endswith(presented.lstrip("*"))),
    "names/case": (identity, "matches", lambda presented, name: presented == name),
    "socks/good": (socks, "LENGTHS", {1: 5, 4: 16}),
    "socks/ipv6": (socks, "LENGTHS", {1: 4, 4: 15}),
    "socks/code": (socks, "ANSWERS", {99: socks.Answer(accounts.PASSWORD)}),
    "netrc/unknown": (netrc, "_wrong", lambda path, number: Failure("s3cret is not understood")),
    "netrc/default": (netrc, "password", lambda entries, machines, login: entries[0].password),
    "netrc/quoted": (netrc.Entry, "__repr__", lambda entry: str(tuple(entry))),
    "complaint/echo": (Connection, "_shown", lambda connection, text: text),
}


@pytest.mark.parametrize("seed", WRONG)
def test_a_target_finds_what_is_wrong(seed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """G1: a target that passes whatever the code does would prove nothing."""
    where, name, instead = WRONG[seed]
    monkeypatch.setattr(where, name, instead)
    with pytest.raises(Exception):  # noqa: B017, PT011 -- whatever atheris would report
        TARGETS[seed.partition("/")[0]].run((CORPUS / seed).read_bytes())


@pytest.mark.parametrize(
    ("octets", "codes"),
    [
        (b"", []),
        (b"250 a\r\n4", [250]),
        (b"250-a\n250 b\n421 c\r\n", [250, 421]),
        (b"250\r\n250-\r\n250\r\n", [250, 250]),
        (b"250-a\r\n550 b\r\n", []),
        (b"250-a\r\n250 b", []),
        (b"250x\r\n", []),
        (b"250 a\0\r\n", []),
        (b"199 a\r\n", []),
        (b"250 " + b"x" * 4093 + b"\r\n", []),
        (b"250-x\r\n" * 100 + b"250 x\r\n", []),
    ],
)
def test_the_second_opinion_on_replies(octets: bytes, codes: list[int]) -> None:
    """C3: the targets do not ask the code under test what a complete reply is."""
    assert [reply.code for reply in wired.replies_in(octets)] == codes
