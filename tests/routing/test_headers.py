"""The header block as it leaves: what must change does, and nothing else."""

from __future__ import annotations

import re
import time
from email.header import decode_header

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muawrap import addresses
from muawrap.mail import Header
from muawrap.routing import headers
from muawrap.routing.headers import Edits

EDITS = Edits(
    sender="me@s.example",
    own="me@s.example",
    full_name="Al Bundy",
    domain="q.example",
    add_missing=False,
    date="Sat, 21 Nov 2026 10:00:00 +0000",
    message_id="<1@s.example>",
    may_pass=None,
    host_local=frozenset({"localhost", "box"}),
)


def fields(text: str) -> tuple[Header, ...]:
    """A header block as the reading station hands it over."""
    octets = text.encode("utf-8", "surrogateescape")
    found = re.findall(rb"[^ \t\n].*\n(?:[ \t].*\n)*", octets)
    assert b"".join(found) == octets
    return tuple(Header(field.partition(b":")[0].strip().decode("ascii").lower(), field) for field in found)


def edited(text: str, **edits: object) -> str:
    block, _ = headers.apply(fields(text), EDITS._replace(**edits))  # type: ignore[arg-type]
    return block.decode("utf-8", "surrogateescape")


# -- what is missing (F3) --------------------------------------------------------------------------------------------

ALL = "From: Al Bundy <me@s.example>\nDate: Sat, 21 Nov 2026 10:00:00 +0000\nMessage-ID: <1@s.example>\n"


def test_from_date_and_message_id_are_added_at_the_end() -> None:
    """F3: what the caller wrote keeps its place."""
    assert edited("", add_missing=True) == ALL
    assert edited("Subject: x\nX: y\n", add_missing=True) == "Subject: x\nX: y\n" + ALL


def test_what_is_there_is_never_replaced() -> None:
    """F3: however it is spelled, and be it empty."""
    text = "DATE : yesterday\nmessage-id:\nFrom:\n"
    assert edited(text, add_missing=True) == text


def test_nothing_is_added_through_a_gateway() -> None:
    """F3: -G."""
    assert edited("Subject: x\n") == "Subject: x\n"


def test_a_from_without_full_name_is_the_address_alone() -> None:
    """F3."""
    assert edited("Date: x\nMessage-ID: y\n", add_missing=True, full_name="").endswith("From: me@s.example\n")


NAMES = [
    ("Al Bundy", "Al Bundy"),
    ("  Al\n Bundy ", "Al Bundy"),
    ("Al B. Bundy", '"Al B. Bundy"'),
    ('Al "B" \\ Bundy', '"Al \\"B\\" \\\\ Bundy"'),
    ("root <x@evil.example>,", '"root <x@evil.example>,"'),
    ("Al\r\nBcc: x@evil.example", '"Al Bcc: x@evil.example"'),
    ("J\u00f6rg", "=?utf-8?B?SsO2cmc=?="),
    ("J\udcf6rg", "=?unknown-8bit?B?SvZyZw==?="),
    ("", ""),
    (" \t\n", ""),
]


@pytest.mark.row("I4")
@pytest.mark.parametrize(("name", "expected"), NAMES)
def test_a_full_name_becomes_a_phrase_that_nothing_breaks_out_of(name: str, expected: str) -> None:
    """F3, F7: atoms, a quoted-string or encoded-words."""
    assert headers.phrase(name) == expected


@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_a_phrase_is_read_back_as_the_name_it_was_made_of(name: str) -> None:
    """F7: encoded-words hold whole characters and 75 of them at most."""
    written = headers.phrase(name)
    for line in written.split("\n "):
        assert name.isascii() or len(line) <= 75
    words = [
        octets.decode(charset or "ascii") if isinstance(octets, bytes) else octets
        for octets, charset in decode_header(written)
    ]
    if not name.isascii():
        assert "".join(words) == " ".join(name.split())
    elif written:
        assert [one.local for one in addresses.parse_list(f"{written} <a@b>")] == ["a"]


@pytest.mark.row("G1")
def test_a_long_phrase_takes_time_in_proportion_to_its_length() -> None:
    """F9: a bare From: with a comment of 4 MiB is somebody's idea, but not an hour's work."""
    begun = time.process_time()
    written = headers.phrase("(" + "x" * 200_000 + " " + "y " * 200_000)
    assert time.process_time() - begun < 5  # an expression that looks ahead from every character took minutes
    assert max(map(len, written.split("\n")[1:])) < 250


# -- bare addresses (F9) ---------------------------------------------------------------------------------------------

COMPLETED = [
    ("From: root (Cron Daemon)", 'From: "root (Cron Daemon)" <me@s.example>'),
    ("From: root", "From: root <me@s.example>"),
    ("FROM : root", "FROM : root <me@s.example>"),
    ("From:root", "From:root <me@s.example>"),
    ("From: Cron Daemon <root>", "From: Cron Daemon <me@s.example>"),
    ('From: "Cron, Daemon" <root> (of box)', 'From: "Cron, Daemon" <me@s.example> (of box)'),
    ("From: <root>", "From: <me@s.example>"),
    ("From: (a<b) root", "From: (a<b) me@s.example"),
    ("From:\n root\n (Cron\n Daemon)", 'From:\n "root (Cron Daemon)" <me@s.example>'),
    ("From: j\u00f6rg", "From: =?utf-8?B?asO2cmc=?= <me@s.example>"),
    ("From: root, al@x.example", "From: root <me@s.example>, al@x.example"),
    ("Sender: root", "Sender: root <me@s.example>"),
    ("Reply-To: bob", "Reply-To: bob@q.example"),
    ("To: bob", "To: bob@q.example"),
    ("Cc: bob", "Cc: bob@q.example"),
    (
        "To: bob (Bob), Carol <carol>,\n\td@x.example",
        "To: bob@q.example (Bob), Carol <carol@q.example>,\n\td@x.example",
    ),
    ('To: "bob smith"', 'To: "bob smith"@q.example'),
    ("To:  <bob> ", "To:  <bob@q.example> "),
    ("To: friends: bob, carol@x.example;, dave", "To: friends: bob@q.example, carol@x.example;, dave@q.example"),
    ("To: (a, b) bob (c (d))", "To: (a, b) bob@q.example (c (d))"),
    (
        "To: J\u00f6rg <joerg>, Ren\udce9 <rene>",
        "To: =?utf-8?B?SsO2cmc=?= <joerg@q.example>,\n =?unknown-8bit?B?UmVu6Q==?= <rene@q.example>",
    ),
    ("To: a, , b,", "To: a@q.example, , b@q.example,"),
]


@pytest.mark.parametrize(("text", "expected"), COMPLETED)
def test_a_bare_address_is_completed_and_nothing_around_it_changes(text: str, expected: str) -> None:
    """F9: folds, comments, groups and display names stay."""
    assert edited(text + "\n") == expected + "\n"


UNTOUCHED = [
    "From: a@b.example",
    "From:  root@localhost  (Cron \\) Daemon)",
    "From: two words",
    "From: open (comment",
    "To: undisclosed-recipients:;",
    "To: bob smith, carol",
    "To: a@b.example;",
    "To:",
    "Cc: caf\udce9",
    "Bcc: bob",
    "Resent-To: bob",
    "X-To: bob",
    "Subject: bob",
    "To: al@x.example,\n  bob@x.example\n\t,carol@x.example",
]


@pytest.mark.parametrize("text", UNTOUCHED)
def test_what_has_a_domain_or_is_no_address_list_keeps_its_octets(text: str) -> None:
    """F3, F9: broken lists are not ours to mend."""
    assert edited(text + "\n") == text + "\n"


@pytest.mark.row("I4")
@given(st.text(alphabet='ab@.,"\\<>()[];: \t\u00e9\udce9'))
def test_an_edited_field_is_one_field(value: str) -> None:
    """F9: whatever is written there, only the name's own line and its folds leave, and its text stays."""
    for name in ("From", "To"):
        text = edited(f"{name}: {value}\n", may_pass=lambda address: False)
        assert re.fullmatch(rf"{name}:.*\n(?:[ \t].*\n)*(?:Reply-To: .*\n)?", text)


def test_many_bare_addresses_take_linear_time() -> None:
    """D6: 50 000 of them in one field."""
    text = edited("To: " + ", ".join(["bob"] * 50_000) + "\n")
    assert text == "To: " + ", ".join(["bob@q.example"] * 50_000) + "\n"


# -- a From: that may not pass (F10) ---------------------------------------------------------------------------------


def rewritten(text: str, **edits: object) -> str | None:
    """What becomes of the block where only me@s.example may pass; None where no From: was rewritten."""
    values = {"may_pass": lambda address: address == "me@s.example", **edits}
    block, changed = headers.apply(fields(text + "\n"), EDITS._replace(**values))  # type: ignore[arg-type]
    return block.decode("utf-8", "surrogateescape").rstrip("\n") if changed else None


REWRITTEN = [
    ("From: Bob <bob@x.example>", "From: Bob <me@s.example>\nReply-To: bob@x.example"),
    ('From: "B, ob" <bob@x.example> (x)', 'From: "B, ob" <me@s.example> (x)\nReply-To: bob@x.example'),
    ("From:\n Bob\n <bob@x.example>", "From:\n Bob\n <me@s.example>\nReply-To: bob@x.example"),
    ("From: bob@x.example", 'From: "bob@x.example" <me@s.example>\nReply-To: bob@x.example'),
    ("From: <bob@x.example>", 'From: "bob@x.example" <me@s.example>\nReply-To: bob@x.example'),
    ("From: bob@x.example (Bob)", "From: Bob <me@s.example>\nReply-To: bob@x.example"),
    ("From: (Bob) <bob@x.example>", "From: Bob <me@s.example>\nReply-To: bob@x.example"),
    ("From: bob@x.example ()", 'From: "bob@x.example" <me@s.example>\nReply-To: bob@x.example'),
    ("From: =?utf-8?B?SsO2cmc=?= <j@x.example>", "From: =?utf-8?B?SsO2cmc=?= <me@s.example>\nReply-To: j@x.example"),
    ("From: Ren\udce9 <r@x.example>", "From: =?unknown-8bit?B?UmVu6Q==?= <me@s.example>\nReply-To: r@x.example"),
    ("From: r@b\u00fc.example", "From: =?utf-8?B?ckBiw7wuZXhhbXBsZQ==?= <me@s.example>\nReply-To: r@xn--b-eha.example"),
    (
        "From: B <bob@x.example>, me@s.example, c@x.example",
        'From: B <me@s.example>, me@s.example, "c@x.example" <me@s.example>\nReply-To: bob@x.example, c@x.example',
    ),
    # host-local: there is nobody to reply to
    ("From: root@localhost", 'From: "root@localhost" <me@s.example>'),
    ("From: Cron <root@BOX>", "From: Cron <me@s.example>"),
    # the caller's own Reply-To is kept
    ("Reply-To: r@x.example\nFrom: Bob <bob@x.example>", "Reply-To: r@x.example\nFrom: Bob <me@s.example>"),
    # what cannot be read cannot be allowed
    ("From: Bob Smith", "From: Bob Smith <me@s.example>"),
    ("From: Bob <bob@x.example", 'From: "Bob <bob@x.example" <me@s.example>'),
    ("From: nobody:;", 'From: "nobody:;" <me@s.example>'),
    ("From:", "From: <me@s.example>"),
]


@pytest.mark.parametrize(("text", "expected"), REWRITTEN)
def test_a_from_that_may_not_pass_becomes_from_and_keeps_its_name(text: str, expected: str) -> None:
    """F10: its display name, else the old address; replies find their way."""
    assert rewritten(text) == expected


@pytest.mark.parametrize("text", ["From: Me <me@s.example>", "From: root", "Sender: bob@x.example", "Subject: x"])
def test_a_from_that_may_pass_is_not_rewritten(text: str) -> None:
    """F10: nor is anything but From:; a bare one becomes the sender first (F9)."""
    assert rewritten(text) is None


def test_the_rewritten_address_is_from_and_not_the_envelope_sender() -> None:
    """F10: with -f bounces@s.example, which may pass, From: still becomes `from`."""
    assert rewritten("From: b@localhost", sender="bounces@s.example") == 'From: "b@localhost" <me@s.example>'


# -- what SMTP does not take (F6, F7) -------------------------------------------------------------------------------

RAW = "Subject: Gr\u00fc\u00dfe\nX: " + "a " * 600 + "\n"


def test_raw_octets_become_words_and_long_lines_are_folded() -> None:
    """F6, F7: each where it is asked for; what is neither keeps its octets."""
    assert edited("Comments: a\n  b\n" + RAW, fold=True) == (
        "Comments: a\n  b\nSubject: =?utf-8?B?R3LDvMOfZQ==?=\nX:" + " a" * 498 + "\n" + " a" * 102 + " \n"
    )
    assert edited(RAW).endswith("\nX: " + "a " * 600 + "\n")


@pytest.mark.parametrize(
    "signed",
    [
        "DKIM-Signature: v=1\n",
        "domainkey-signature: a=1\n",
        "ARC-Message-Signature: i=1\n",
        "Content-Type: Multipart/Signed; boundary=x\n",
    ],
)
def test_the_header_of_a_signed_message_keeps_its_octets(signed: str) -> None:
    """F6, F7: what has been signed could not be verified after a change."""
    assert edited(signed + RAW, fold=True) == signed + RAW


def test_a_line_that_we_made_long_is_folded_too() -> None:
    """F6, F9: bare names get a domain, and there may be many of them."""
    text = edited("To: " + ", ".join(["bob"] * 5_000) + "\n", fold=True)
    assert text.replace("\n", "") == "To: " + ", ".join(["bob@q.example"] * 5_000)
    assert max(map(len, text.split("\n"))) <= 998


# -- a route's own edits ---------------------------------------------------------------------------------------------


def test_a_route_adds_and_removes_header_lines() -> None:
    """[[route]] in muawrap.toml(5): all fields of that name go; what is added comes last."""
    text = edited("X-A: 1\nX-B: 2\n 3\nx-a: 4\n", remove_headers=("x-a",), add_headers=("X-Route: corp",))
    assert text == "X-B: 2\n 3\nX-Route: corp\n"


def test_what_a_route_removes_counts_as_missing_and_what_it_adds_as_there() -> None:
    """F3, [[route]]: never two of a kind."""
    removed = edited("Date: x\nMessage-ID: y\nFrom: a@b\n", add_missing=True, remove_headers=("from", "message-id"))
    assert removed == "Date: x\nFrom: Al Bundy <me@s.example>\nMessage-ID: <1@s.example>\n"
    added = edited("From: a@b\nDate: x\n", add_missing=True, add_headers=("Message-Id: <2@route>",))
    assert added == "From: a@b\nDate: x\nMessage-Id: <2@route>\n"


def test_a_reply_to_that_a_route_removes_is_replaced() -> None:
    """F10, [[route]]."""
    text = "Reply-To: r@x.example\nFrom: Bob <bob@x.example>"
    assert rewritten(text, remove_headers=("reply-to",)) == "From: Bob <me@s.example>\nReply-To: bob@x.example"


# -- what is read from a block ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (b"Message-ID: <1@x>\n", "<1@x>"),
        (b"X: message-id: no\nmessage-id :\n <1@x>\nX: y\n", "<1@x>"),
        (b"Message-ID:\nX: y\n", ""),
        (b"X: y\n", ""),
    ],
)
def test_the_message_id_is_that_of_the_block_as_it_leaves(block: bytes, expected: str) -> None:
    """A3: the log names it."""
    assert headers.message_id(block) == expected


@pytest.mark.row("L7")
@pytest.mark.parametrize("now", [0.0, 1e9, -1e300, 1e300, float("nan")])
def test_a_date_is_written_whatever_the_clock_says(now: float) -> None:
    """F3: RFC 5322, 3.3."""
    assert re.fullmatch(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}", headers.date(now))


@pytest.mark.parametrize("name", ["From", "Sender"])
def test_no_line_that_we_write_is_too_long(name: str) -> None:
    """RFC 5322, 2.1.1: what was folded stays folded when a bare From becomes a phrase (RULES F9, F10)."""
    folded = "\n ".join(["root"] + ["(a comment of some length)"] * 60)
    for text in (f"{name}: {folded}\n", f"{name}: " + "\n ".join(["unreadable words"] * 100) + "\n"):
        block = headers.apply(fields(text), EDITS._replace(may_pass=lambda address: False))[0]
        assert max(map(len, block.split(b"\n"))) < 998
    strangers = ",\n ".join(f"stranger-{number}@far.example" for number in range(100))
    block = headers.apply(fields(f"From: {strangers}\n"), EDITS._replace(may_pass=lambda address: False))[0]
    assert b"Reply-To: " in block
    assert max(map(len, block.split(b"\n"))) < 998
