"""The judge itself: it must see every way to break the promise."""

from __future__ import annotations

import pytest

from tests.torture.tally import (
    FAULTS,
    Run,
    Tally,
    faults,
    faults_of_answers,
    faults_of_batch,
    faults_of_parts,
    table,
)

TEXT = b"Hello.\r\n"
REFUSED = b"sendmail: not sent, refused: no such user\n"
AGAIN = b"sendmail: not sent, try again: timed out\n"
UNKNOWN = b"sendmail: may have been sent: lost the connection [Message-ID <1@client.example>]\n"


@pytest.mark.parametrize(
    ("status", "said", "copies"),
    [(0, b"", [TEXT]), (1, REFUSED, []), (1, AGAIN, []), (1, UNKNOWN, []), (1, UNKNOWN, [TEXT])],
)
def test_a_kept_promise_is_no_fault(status: int, said: bytes, copies: list[bytes]) -> None:
    """A1, A2, A3."""
    assert faults(Run(status, b"", said), copies, TEXT) == set()


@pytest.mark.parametrize(
    ("status", "said", "copies", "fault"),
    [
        (0, b"", [], "lost"),
        (0, b"", [TEXT, TEXT], "duplicate"),
        (1, UNKNOWN, [TEXT, TEXT], "duplicate"),
        (0, b"", [b"Hel"], "short"),
        (0, b"warning\n", [TEXT], "unlabelled"),
        (1, b"", [], "unlabelled"),
        (1, AGAIN, [TEXT], "unlabelled"),
        (1, REFUSED, [TEXT], "unlabelled"),
        (1, AGAIN * 2, [], "unlabelled"),
        (1, b"sendmail: may have been sent: no identity\n", [TEXT], "unlabelled"),
        (1, b"sendmail: not sent, refused: \x1b[2J\n", [], "unlabelled"),
        (1, b"Traceback (most recent call last):\n", [], "tracebacks"),
        (-15, AGAIN, [], "wrong status"),
        (75, AGAIN, [], "wrong status"),
        (None, b"", [], "hangs"),
    ],
)
def test_a_broken_promise_is_a_fault(status: int | None, said: bytes, copies: list[bytes], fault: str) -> None:
    """A1, A2, A3."""
    found = faults(Run(status, b"", said), copies, TEXT)
    assert fault in found
    assert found <= set(FAULTS)


def test_what_may_have_been_sent_must_have_been_on_its_way() -> None:
    """A3: an uncertain answer is none to be given before the end of the message can have left."""
    assert faults(Run(1, b"", UNKNOWN), [], TEXT, end_left=False) == {"unlabelled"}
    assert faults(Run(1, b"", UNKNOWN), [], TEXT, end_left=True) == set()


def test_a_good_verdict_that_was_heard_is_success() -> None:
    """A5: nothing after it makes an uncertain outcome of it."""
    assert faults(Run(1, b"", UNKNOWN), [TEXT], TEXT, heard=True) == {"wrong status"}


def test_the_table_counts_and_judges() -> None:
    """A part without a run has proved nothing."""
    good, bad, empty = Tally("good"), Tally("bad"), Tally("empty")
    good.add("here", set())
    bad.add("there", {"lost"}, Run(0, b"", b""))
    lines = [line.split() for line in table([good, bad, empty]).splitlines()]
    assert lines[1:] == [
        ["good", "1", *["0"] * len(FAULTS), "good"],
        ["bad", "1", "1", *["0"] * (len(FAULTS) - 1), "BAD"],
        ["empty", "0", *["0"] * len(FAULTS), "BAD"],
    ]
    assert bad.told == ["there: lost: 0 b''"]


TEXTS = [b"one\r\n", b"two\r\n"]
DOT = b"250 2.1.0 ok\r\n250 2.1.5 ok\r\n354 go on\r\n"
BEGIN, END = b"220 me\r\n250-me\r\n250 DSN\r\n", b"221 bye\r\n"


def answers(*dots: bytes) -> bytes:
    return BEGIN + b"".join(DOT + dot + b"\r\n" for dot in dots) + END


SENT, LATER = b"250 2.0.0 taken", b"451 4.4.1 gone"
MAYBE = b"554 5.4.2 may have been sent: gone"


@pytest.mark.parametrize(
    ("status", "out", "copies", "found"),
    [
        (0, answers(SENT, SENT), TEXTS, set()),
        (1, answers(SENT, LATER), TEXTS[:1], set()),
        (1, answers(MAYBE, SENT), TEXTS, set()),
        (1, answers(MAYBE, SENT), TEXTS[1:], set()),
        (0, answers(SENT, SENT), TEXTS[:1], {"lost"}),
        (0, answers(SENT, SENT), [*TEXTS, TEXTS[0]], {"duplicate"}),
        (0, answers(SENT, SENT), [*TEXTS, b"tw"], {"short"}),
        (1, answers(SENT, LATER), TEXTS, {"unlabelled"}),
        (0, answers(SENT, LATER), TEXTS[:1], {"wrong status"}),
        (1, answers(SENT, SENT), TEXTS, {"wrong status"}),
        (1, answers(SENT), TEXTS[:1], {"unlabelled", "wrong status"}),
        (None, answers(SENT, SENT), TEXTS, {"hangs"}),
    ],
)
def test_the_replies_of_a_dialogue_are_held_against_the_copies(
    status: int | None, out: bytes, copies: list[bytes], found: set[str]
) -> None:
    """E8: 250 to the dot is a copy, anything else none, unless it may be."""
    assert faults_of_answers(Run(status, out, b""), copies, TEXTS) == found


def stopped(lead: bytes, number: int, sent: int) -> bytes:
    where = b"message %d, at line 9, after %d sent" % (number, sent)
    return b"sendmail: " + lead + b": " + where + b": timed out [Message-ID <1@client.example>]\n"


@pytest.mark.parametrize(
    ("status", "err", "copies", "found"),
    [
        (0, b"", TEXTS, set()),
        (1, stopped(b"not sent, try again", 2, 1), TEXTS[:1], set()),
        (1, stopped(b"may have been sent", 2, 1), TEXTS[:1], set()),
        (1, stopped(b"may have been sent", 2, 1), TEXTS, set()),
        (1, stopped(b"not sent, refused", 1, 0), [], set()),
        (0, b"", TEXTS[:1], {"lost"}),
        (1, stopped(b"not sent, try again", 2, 1), [], {"lost"}),
        (1, stopped(b"not sent, try again", 2, 1), TEXTS, {"unlabelled"}),
        (1, stopped(b"not sent, try again", 1, 0), TEXTS[1:], {"unlabelled"}),
        (1, stopped(b"not sent, try again", 3, 2), TEXTS, {"unlabelled"}),
        (1, stopped(b"not sent, try again", 2, 0), [], {"unlabelled"}),
        (1, AGAIN, [], {"unlabelled"}),
        (0, stopped(b"not sent, try again", 2, 1), TEXTS, {"unlabelled"}),
        (0, b"", [*TEXTS, TEXTS[0]], {"duplicate"}),
        (75, stopped(b"not sent, try again", 2, 1), TEXTS[:1], {"wrong status"}),
    ],
)
def test_the_line_of_a_batch_is_held_against_the_copies(
    status: int, err: bytes, copies: list[bytes], found: set[str]
) -> None:
    """E8: so many were sent, one is as the lead says, and the others were not begun."""
    assert faults_of_batch(Run(status, b"", err), copies, TEXTS) == found


WHO = ("a@x", "b@x")
HAS_A, HAS_B = b"a@x " + TEXT, b"b@x " + TEXT
PARTED = (
    b"sendmail: not sent, refused: x did not take the message for all: sent to <a@x>; refused for <b@x>: 552 full\n"
)
BROKEN = b"sendmail: may have been sent: x did not answer for all: sent to <a@x>; unknown for <b@x>: lost\n"


def parts(status: int | None, said: bytes, copies: list[bytes], **more: bool) -> set[str]:
    known = {"end_left": None, "heard": False, **more}
    return faults_of_parts(Run(status, b"", said), copies, TEXT, WHO, refused=set(), **known)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "said", "copies"),
    [
        (0, b"", [HAS_B, HAS_A]),
        (1, AGAIN, []),
        (1, UNKNOWN, []),
        (1, UNKNOWN, [HAS_A, HAS_B]),
        (1, PARTED, [HAS_A]),
        (1, BROKEN, [HAS_A]),
        (1, BROKEN, [HAS_A, HAS_B]),
    ],
)
def test_over_lmtp_each_recipient_counts(status: int, said: bytes, copies: list[bytes]) -> None:
    """RFC 2033, 4.2."""
    assert parts(status, said, copies) == set()


@pytest.mark.parametrize(
    ("status", "said", "copies", "fault"),
    [
        (0, b"", [HAS_A], "lost"),
        (0, b"", [HAS_A, HAS_A, HAS_B], "duplicate"),
        (1, BROKEN, [HAS_A, HAS_B, HAS_B], "duplicate"),
        (0, b"", [HAS_A, b"b@x Hel"], "short"),
        (1, PARTED, [HAS_B], "lost"),
        (1, PARTED, [HAS_A, HAS_B], "unlabelled"),
        (1, BROKEN, [], "lost"),
        (1, AGAIN, [HAS_A], "unlabelled"),
        (1, PARTED.replace(b"not sent, refused", b"not sent, try again"), [HAS_A], "unlabelled"),
        (1, PARTED.replace(b"not sent, refused", b"may have been sent"), [HAS_A], "unlabelled"),
        (1, b"", [], "unlabelled"),
        (1, b"Traceback\n", [], "tracebacks"),
        (2, AGAIN, [], "wrong status"),
        (None, b"", [], "hangs"),
    ],
)
def test_a_promise_to_one_recipient_can_be_broken(
    status: int | None, said: bytes, copies: list[bytes], fault: str
) -> None:
    """A1, A3."""
    assert fault in parts(status, said, copies)


def test_what_was_heard_of_all_recipients_is_not_uncertain() -> None:
    """A5."""
    assert "wrong status" in parts(1, BROKEN, [HAS_A], heard=True)
    assert "unlabelled" in parts(1, UNKNOWN, [], end_left=False)
