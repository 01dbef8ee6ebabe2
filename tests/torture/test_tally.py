"""The judge itself: it must see every way to break the promise."""

from __future__ import annotations

import pytest

from tests.torture.tally import FAULTS, Run, Tally, faults, table

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
