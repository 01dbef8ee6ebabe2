"""Whom the caller named."""

from __future__ import annotations

import time

import pytest

from muawrap.failure import REFUSED, Failure
from muawrap.reading import message
from muawrap.reading import recipients as reading

# -- recipients of the header (RULES E7) ----------------------------------------------------------------------------


def recipients(text: bytes) -> list[str]:
    """Whom -t finds in a header block."""
    return reading.of_header(message._spool(message.crlf_as_lf(iter([text])))[0])


HEADERS = {
    b"To: a@x\nCc: b@x\nBcc: c@x\n": ["a@x", "b@x", "c@x"],
    b"TO : a@x\ncc: b@x\n": ["a@x", "b@x"],
    b"To: a@x\nTo: b@x\nBcc: c@x\nSubject: s\nBcc: d@x\n": ["a@x", "b@x", "c@x", "d@x"],
    b'To: A <a@x>,\n "B,\n B" <b@x>,\n\tc@x\n': ["a@x", "b@x", "c@x"],
    b"To: undisclosed-recipients:;\nBcc: b@x\n": ["b@x"],
    b"To: group: a@x, b@x;\n": ["a@x", "b@x"],
    b"To: root\n": ["root"],
    b"To:\nCc: \nBcc: b@x": ["b@x"],
    b"To: \xe4 <a@x>\n": ["a@x"],
    b"To: =?utf-8?q?a=40y?= <a@x>\n": ["a@x"],
    b"To: \xc3\xa4@x\n": ["ä@x"],
    b"T\0o: a\0@x\n": ["a@x"],
    b"To: a@x\r\n b (comment), c@x\n": None,
    b"From: a@x\nReply-To: b@x\nApparently-To: c@x\nX-To: d@x\n": [],
    b"Subject: s\n\nTo: a@x\n": [],
    # Resent-: the top block's only
    b"Resent-To: a@x\nTo: b@x\nCc: c@x\nBcc: d@x\n": ["a@x"],
    b"To: b@x\nResent-Cc: a@x\nResent-Bcc: c@x\n": ["a@x", "c@x"],
    b"Resent-From: a@x\nTo: b@x\n": [],
    b"Resent-Date: now\nResent-To: a@x\nReceived: r\nResent-Date: then\nResent-To: b@x\nTo: c@x\n": ["a@x"],
    b"Resent-To: a@x\nResent-From: m@x\nResent-To: b@x\nResent-From: n@x\nTo: c@x\n": ["a@x"],
    b"Received: r\nResent-From: m@x\nResent-To: a@x\nResent-From: n@x\nResent-To: b@x\n": ["a@x"],
    b"Resent-To: a@x\nSubject: s\nResent-To: b@x\n": ["a@x"],
    b"Resent-From: m@x\nSubject: s\nResent-To: a@x\n": ["a@x"],
    b"Resent-To: a@x\nResent-To: b@x\nResent-Cc: c@x\n": ["a@x", "b@x", "c@x"],
}


@pytest.mark.row("I7")
@pytest.mark.parametrize("text", HEADERS)
def test_t_takes_the_recipients_from_the_header(text: bytes) -> None:
    """RULES E7: all fields, repeated and folded; encoded words are never looked into."""
    expected = HEADERS[text]
    if expected is None:
        with pytest.raises(Failure):
            recipients(text)
    else:
        assert recipients(text) == expected


def test_a_field_that_cannot_be_read_is_a_failure() -> None:
    """RULES E7, A3: named, quoted, with the reason; a long one is quoted in part."""
    with pytest.raises(Failure) as refused:
        recipients(b"To: a b@x\nCc: c@x\n")
    assert refused.value.sentence() == "cannot read the To: header 'a b@x': two words where an address should be"
    with pytest.raises(Failure) as refused:
        recipients(b"To: a b@x" + b", c@x" * 10_000 + b"\n")
    assert len(refused.value.sentence()) < 200


def test_several_fields_that_cannot_be_read_are_all_named() -> None:
    """RULES A7."""
    with pytest.raises(Failure) as refused:
        recipients(b"To: a b@x\nResent: no\nCc: <c@x\nBcc: d@x\n")
    assert [reason.what.split("'")[1] for reason in refused.value.reasons] == ["a b@x", "<c@x"]


def test_a_hundred_thousand_recipients_are_found() -> None:
    """RULES D6: in linear time."""
    text = b"To: " + b",\n ".join(b"<u%d@x.example>" % number for number in range(100_000)) + b"\n"
    begin = time.process_time()
    assert len(recipients(text)) == 100_000
    assert time.process_time() - begin < 20


# -- addresses of the command line ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("a@x", "b@x"), ["a@x", "b@x"]),
        (("a@x,b@x", "c@x"), ["a@x", "b@x", "c@x"]),
        (("Bob <b@x>",), ["b@x"]),
        (("<-a@x>", "-z@x"), ["-a@x", "-z@x"]),
        (("root",), ["root"]),
        (('"q l"@x',), ['"q l"@x']),
        (("\\root", "root"), ["\\root", "root"]),
        (("\\root, ops",), ["\\root", "ops"]),
    ],
)
def test_an_argument_is_an_address_list(words: tuple[str, ...], expected: list[str]) -> None:
    """RULES E1, D2: cron's MAILTO=a,b; a leading backslash, which stops aliases, stays."""
    assert reading.of_arguments(words) == expected


@pytest.mark.parametrize("word", ["a b@x", "<>", "a:;", ",", "(x)", "a@", "\\\\root", "a\udcff@x"])
def test_an_argument_that_is_no_address_list_is_refused(word: str) -> None:
    """RULES E4, A3."""
    with pytest.raises(Failure) as refused:
        reading.of_arguments(("ok@x", word))
    assert repr(word) in refused.value.sentence()
    assert refused.value.lead == REFUSED


def test_all_arguments_that_cannot_be_read_are_named() -> None:
    """RULES A7."""
    with pytest.raises(Failure, match=r"'a b@x'.*; .*'c@'"):
        reading.of_arguments(("a b@x", "ok@x", "c@"))


def test_addresses_can_be_taken_away() -> None:
    """RULES E7: for those who move over from Exim; as B1 compares."""
    assert reading.without(["a@x", "B@x", "c@x", "root"], ["A@x", "B@X", "\\root"]) == ["a@x", "c@x"]
