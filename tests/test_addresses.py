"""Address lists and mailboxes: what is read, what is refused, and that nothing is guessed."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muawrap import addresses
from muawrap.addresses import AddressError, Mailbox
from tests.support.counting import Counted


def read(text: str) -> list[str]:
    """The addresses of a list."""
    return [mailbox.address for mailbox in addresses.parse_list(text)]


LISTS = {
    # RFC 5322, 3.4
    "a@x.example": ["a@x.example"],
    "a@x.example, b@y.example": ["a@x.example", "b@y.example"],
    "Bob <b@x>": ["b@x"],
    '"Public, John Q." <j@x>': ["j@x"],
    "John Q. Public <j@x>": ["j@x"],
    "<a@x>": ["a@x"],
    "<-a@x>": ["-a@x"],
    "root": ["root"],
    "root,b@x": ["root", "b@x"],
    "Cron Daemon <root>": ["root"],
    "root (Cron Daemon)": ["root"],
    "(who (really?)) a@x (Al \\) z)": ["a@x"],
    "a@b.example <a@b.example>": ["a@b.example"],
    "Tom, Dick @ Harry <h@x>": ["Tom", "h@x"],
    "=?utf-8?q?=C3=A9?= <e@x>": ["e@x"],
    # groups
    "undisclosed-recipients:;": [],
    "Friends: a@x, B <b@x>;, c@x": ["a@x", "b@x", "c@x"],
    "Nobody: ; Some: a@x;": ["a@x"],
    # RFC 5322, 4.4: obsolete forms
    ",a@x,, b@x,": ["a@x", "b@x"],
    "a . b @ x . example": ["a.b@x.example"],
    "a(c)@(c)x": ["a@x"],
    "<@r1,@r2:d@x>": ["d@x"],
    "<@r1 , , @r2 : d@x>": ["d@x"],
    # local parts
    '"q l"@x': ['"q l"@x'],
    '"plain"@x': ["plain@x"],
    '"a.b"@x': ["a.b@x"],
    '"a\\"b\\\\"@x': ['"a\\"b\\\\"@x'],
    '"a@b"@x': ['"a@b"@x'],
    '"a@b"': ['"a@b"'],
    '""@x': ['""@x'],
    'a."b c".d@x': ['"a.b c.d"@x'],
    "!#$%&'*+-/=?^_`{|}~@x": ["!#$%&'*+-/=?^_`{|}~@x"],
    "grüße@x.example": ["grüße@x.example"],
    # domains
    "a@[127.0.0.1]": ["a@[127.0.0.1]"],
    "a@[IPv6:2001:db8::1]": ["a@[IPv6:2001:db8::1]"],
    "a@[ 127.0.0.1 ]": ["a@[127.0.0.1]"],
    "a@bücher.example": ["a@bücher.example"],
    "a@x_y.example": ["a@x_y.example"],
    "a@localhost": ["a@localhost"],
    # white space and nothing
    " a@x\r\n\t, b@x\n ": ["a@x", "b@x"],
    "": [],
    " (nobody) ": [],
}


@pytest.mark.parametrize("text", LISTS)
def test_an_address_list_is_read(text: str) -> None:
    """RULES E7."""
    assert read(text) == LISTS[text]


REFUSED = {
    "a b@x": "two words",
    "a@x b@x": "without a comma",
    "<a@x> <b@x>": "without a comma",
    "a@x; b@x": "stray ';'",
    "a@": "no domain",
    "a@,b@x": "no domain",
    "@x": "stray '@'",
    "a@b@c": "without a comma",
    "<a@x": "nothing closes",
    "<a@x, b@x>": "nothing closes",
    "a@x>": "without a comma",
    "<>": "nothing stands between",
    "Bob <>": "nothing stands between",
    "<": "no address after",
    "<@r1 d@x>": "source route",
    "Friends: a@x": "group",
    "a: b: c@x;;": "stray ':'",
    ":a@x;": "stray ':'",
    "a@x:": "without a comma",
    '"a@x': "quote",
    'a@x "': "quote",
    "(a@x": "comment",
    "a@x (b (c)": "comment",
    "a@x)": '")"',
    "a@[127.0.0.1": '"["',
    "a@x]": '"]"',
    "a@[]": "literal",
    "a@[x@y]": "literal",
    "a@[x>y]": "literal",
    "[a]@x": "stray '[a]'",
    "[list] Bob <b@x>": "stray '[list]'",
    "a\\b@x": "backslash",
    "\\root": "backslash",
    ".a@x": "no local part",
    "a.@x": "no local part",
    "a..b@x": "no local part",
    "a@.x": "no domain",
    "a@x.": "no domain",
    "a@x..y": "no domain",
    "a@-x": "no domain",
    "a@x-.y": "no domain",
    "a@x/y": "no domain",
    "a@x!y": "no domain",
    '"a\x01b"@x': "control",
    '"a\tb"@x': "control",
    "a\x00@x": "stray '\\x00'",
    "a\x7f@x": "stray",
    "a\x85@x": "control",
    "a\udcff@x": "not UTF-8",
    "a@\udcff": "no domain",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_address_list_is_refused_with_a_reason(text: str) -> None:
    """RULES E7: nothing is guessed, and no part of a list is left out."""
    with pytest.raises(AddressError) as refused:
        addresses.parse_list(text)
    assert REFUSED[text] in str(refused.value)


def test_a_list_is_refused_whole() -> None:
    """RULES B3: msmtp would mail to the second only."""
    with pytest.raises(AddressError):
        addresses.parse_list("a b@x, c@x")


@pytest.mark.parametrize("text", ["<>", " < > ", "(null) <>"])
def test_the_null_sender_is_read_where_it_may_stand(text: str) -> None:
    """RULES E1."""
    mailbox = addresses.parse_one(text, null=True)
    assert (mailbox.local, mailbox.domain, mailbox.address) == ("", "", "")


@pytest.mark.parametrize(("text", "error"), [("", "no address"), ("a:;", "no address"), ("a@x,b@x", "more than one")])
def test_one_mailbox_is_exactly_one(text: str, error: str) -> None:
    """RULES B1: an envelope has one sender."""
    with pytest.raises(AddressError, match=error):
        addresses.parse_one(text)


@pytest.mark.parametrize(
    ("text", "spec", "whole", "display"),
    [
        ("root (Cron Daemon)", "root", "root (Cron Daemon)", ""),
        (' "A, B" <a@x> (c), z', "a@x", '"A, B" <a@x> (c)', '"A, B"'),
        ("(c) Al (d) <a@x>", "a@x", "(c) Al (d) <a@x>", "Al (d)"),
        ("g: Al <a@x>;", "a@x", "Al <a@x>", "Al"),
        ("g:(c) a @ x ;", "a @ x", "(c) a @ x", ""),
        ("<@r:a@x>", "a@x", "<@r:a@x>", ""),
        (" \xa0@x ", "\xa0@x", "\xa0@x", ""),
    ],
)
def test_a_mailbox_says_where_it_stands(text: str, spec: str, whole: str, display: str) -> None:
    """RULES F9: so that nothing else in the field changes when it is completed."""
    mailbox = addresses.parse_list(text)[0]
    assert text[mailbox.start : mailbox.end] == spec
    assert text[mailbox.first : mailbox.last] == whole
    assert mailbox.display == display


def test_the_second_mailbox_begins_behind_the_comma() -> None:
    """RULES F9."""
    text = "a@x (c) , (d) Bo <b@x> ,"
    second = addresses.parse_list(text)[1]
    assert second == Mailbox("b", "x", "Bo", 18, 21, 10, 22)


# -- halves and identity --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "halves"),
    [
        ("a@x", ("a", "x")),
        ("root", ("root", "")),
        ('"a@b"', ('"a@b"', "")),
        ('"a@b"@x', ('"a@b"', "x")),
        ("a@[IPv6:::1]", ("a", "[IPv6:::1]")),
        ("", ("", "")),
    ],
)
def test_an_address_falls_into_its_halves(address: str, halves: tuple[str, str]) -> None:
    """RULES D1."""
    assert addresses.split(address) == halves
    assert addresses.join(*halves) == address


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("a@X.Example", "a@x.example", True),
        ("A@x.example", "a@x.example", False),
        ("root", "root", True),
        ("root", "Root", False),
        ('"A@X"', '"A@x"', False),
    ],
)
def test_local_parts_compare_exactly_and_domains_without_case(one: str, other: str, same: bool) -> None:
    """RULES B1."""
    assert addresses.same(one, other) is same


@pytest.mark.parametrize(("address", "ascii_only"), [("a@x", True), ("ä@x", False), ("a@ä", False)])
def test_an_address_knows_whether_it_needs_smtputf8(address: str, ascii_only: bool) -> None:
    """RULES F7."""
    assert addresses.is_ascii(address) is ascii_only


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("Cron Daemon", "Cron Daemon"),
        ("John Q. Public", '"John Q. Public"'),
        ("root (Cron)", '"root (Cron)"'),
        ('say "hi" \\', '"say \\"hi\\" \\\\"'),
        ("a\r\nBcc:  b@x", '"a Bcc: b@x"'),
        ("a\x00b", "a b"),
        ("", '""'),
    ],
)
def test_a_display_name_is_quoted_where_it_must_be(text: str, phrase: str) -> None:
    """RULES F3, F9."""
    assert addresses.phrase(text) == phrase


# -- bounds ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a" * 997 + "@x", "longer than 998 octets"),
        ("é" * 499 + "@x", "longer than 998 octets"),
        ("a@" + ("x" * 63 + ".") * 4, "no domain"),
        ("a@" + "é" * 128, "no domain"),
        ("a@[" + "1" * 254 + "]", "literal"),
        ("w " * 999 + "<a@x>", "words"),
        ("a. " * 999 + "b@x", "words"),
        ("a," * 100_001, "more than 100000 addresses"),
    ],
)
def test_what_is_too_long_is_refused(text: str, error: str) -> None:
    """RULES D6."""
    with pytest.raises(AddressError, match=error):
        addresses.parse_list(text)


def test_what_just_fits_is_read() -> None:
    """RULES D6."""
    assert read("a" * 996 + "@x") == ["a" * 996 + "@x"]
    assert len(read("a@" + ("x" * 63 + ".") * 3 + "y" * 63)) == 1


@pytest.mark.parametrize("text", ["<a@" + "x" * 5000 + "!>", "a" * 5000 + ".@x"])
def test_an_error_quotes_the_beginning_only(text: str) -> None:
    """RULES A3."""
    with pytest.raises(AddressError) as refused:
        addresses.parse_list(text)
    assert len(str(refused.value)) < 200


LONG = 400_000
HOSTILE = {
    "open quote": '"' + "\\a" * LONG,
    "closed quote": '"' + "\\a" * LONG + '"@x',
    "comments": "(" * LONG + ")" * LONG + "@",
    "open comments": "(" * LONG,
    "backslashes": '"' + "\\" * LONG,
    "words": "a " * LONG,
    "dots": "." * LONG,
    "hyphens": "a@" + "a-" * LONG,
    "labels": "a@" + "a. " * LONG,
    "routes": "<" + "@a," * LONG,
    "literals": "[" * LONG,
    "at signs": "@" * LONG,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_costs_linear_time(name: str) -> None:
    """RULES D6: some hundred thousand tokens in a second or so; anything quadratic would take minutes."""
    begin = time.process_time()
    with pytest.raises(AddressError):
        addresses.parse_list(HOSTILE[name])
    assert time.process_time() - begin < 20


def test_a_hundred_thousand_addresses_are_read() -> None:
    """RULES D6."""
    text = ",\n ".join(f"User {number} <u{number}@x.example>" for number in range(100_000))
    begin = time.process_time()
    assert len(addresses.parse_list(text)) == 100_000
    assert time.process_time() - begin < 20


def test_plain_addresses_need_no_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """RULES D6: of 10 000 mailboxes those are parsed that stand behind the first that is not plain."""
    parser = Counted(addresses._local_part)
    monkeypatch.setattr(addresses, "_local_part", parser)
    text = ",\r\n ".join(f"John Q. Public <u{number}@x.example>, n{number}@x" for number in range(5_000))
    assert len(addresses.parse_list(text)) == 10_000
    assert parser.calls == 0
    assert len(addresses.parse_list(text + ', "q l"@x, c@x')) == 10_002
    assert parser.calls == 2


# -- properties -----------------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        *'ab@.,;:<>()"\\ []é\n\t',
        "a@b.c",
        "root",
        "<a@b>",
        "grp:",
        '"q l"',
        "(c)",
        "\udcff",
        "\ud800",
        "\x00",
        "x.example",
    ]
)
TEXTS = st.one_of(st.text(), st.lists(PIECES, max_size=12).map("".join))


@given(TEXTS, st.booleans())
@settings(deadline=None, max_examples=500)
def test_any_text_is_a_list_or_an_address_error(text: str, null: bool) -> None:
    """RULES A3: and what is read lies within the text, in order."""
    try:
        found = addresses.parse_list(text, null=null)
    except AddressError:
        return
    at = 0
    for mailbox in found:
        assert at <= mailbox.first <= mailbox.start <= mailbox.end <= mailbox.last <= len(text)
        at = mailbox.last


@given(TEXTS)
@settings(deadline=None, max_examples=500)
def test_an_address_read_is_read_again_as_itself(text: str) -> None:
    """RULES B1: what goes into the envelope is the mailbox that was meant, and nothing that needs escaping there."""
    try:
        found = addresses.parse_list(text)
    except AddressError:
        return
    for mailbox in found:
        assert read(mailbox.address) == [mailbox.address]
        assert addresses.split(mailbox.address) == (mailbox.local, mailbox.domain)
        assert mailbox.address.isprintable() or not mailbox.address.isascii()


@given(st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1), min_size=1, max_size=4))
@settings(deadline=None)
def test_any_local_part_survives_quoting(locals_: list[str]) -> None:
    """RULES B1."""
    text = ", ".join('"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"@x.example' for local in locals_)
    found = addresses.parse_list(text)
    assert len(found) == len(locals_)
    assert [addresses.parse_one(mailbox.address).local for mailbox in found] == [mailbox.local for mailbox in found]


@given(st.text())
@settings(deadline=None)
def test_any_display_name_is_one_phrase(name: str) -> None:
    """RULES F9: whatever the name holds, the address behind it is the only one."""
    assert read(f"{addresses.phrase(name)} <a@x>") == ["a@x"]


ITEMS = st.sampled_from(
    [
        "a@b.c",
        "root",
        "<a@b>",
        "Al B. <a@b>",
        '"Al, B" <a@b>',
        '"Al\\"" <a@b>',
        "a..b@c",
        "a@-b",
        "J\u00f6rg\xa0<a@b>",
        "a:b;",
    ]
)
ITEM_LISTS = st.lists(ITEMS, max_size=6).flatmap(
    lambda items: st.sampled_from([", ", ",", " ,\r\n\t", ",,"]).map(lambda by: by.join(items))
)


def outcome(text: str, null: bool) -> list[Mailbox] | str:
    try:
        return addresses.parse_list(text, null=null)
    except AddressError as error:
        return str(error)


@given(st.one_of(TEXTS, ITEM_LISTS, st.tuples(ITEM_LISTS, TEXTS).map("".join)), st.booleans())
@settings(deadline=None, max_examples=1000)
def test_a_plain_address_is_read_as_any_other(text: str, null: bool) -> None:
    """RULES A3, B1: the short way for plain addresses leads to the same mailboxes, and to the same words."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(addresses, "_PLAIN_ITEM", re.compile(r"(?!)"))
        expected = outcome(text, null)
    assert outcome(text, null) == expected


def test_beyond_ascii_all_but_controls_and_surrogates_may_stand_in_an_address() -> None:
    """RFC 6531, 3.3; RFC 6532, 3.2."""
    for code in range(0x80, 0x110000):
        char = chr(code)
        allowed = code > 0x9F and not 0xD800 <= code <= 0xDFFF
        assert (re.fullmatch(addresses._DOT_ATOM, char) is not None) == (code > 0x9F)
        assert (re.search(addresses._NOT_UTF8, char) is not None) == (0xD800 <= code <= 0xDFFF)
        assert (re.fullmatch(addresses._DOMAIN, char) is not None) == (code > 0xA0)
        if code % 257 == 0 or code < 0x110:
            assert (outcome(f"{char}@x", False) == [Mailbox(char, "x", "", 0, 3, 0, 3)]) == allowed


# -- domains as they travel (F7) -------------------------------------------------------------------------------------

A_LABELS = [
    ("al@example.org", "al@example.org"),
    ("al@EXAMPLE.org", "al@EXAMPLE.org"),
    ("al@b\u00fccher.example", "al@xn--bcher-kva.example"),
    ("al@B\u00dcCHER.Example", "al@xn--bcher-kva.Example"),
    ("al@bu\u0308cher.example", "al@xn--bcher-kva.example"),
    ("al@b\u00fccher\u3002example", "al@xn--bcher-kva.example"),
    ("j\u00f6rg@b\u00fccher.example", "j\u00f6rg@xn--bcher-kva.example"),
    ("al@\uff45\uff58\uff41.example", "al@exa.example"),
    ("al@p\u0430ypal.example", "al@xn--pypal-4ve.example"),  # a Cyrillic a
    ("al@\u4f8b\u3048.\u30c6\u30b9\u30c8", "al@xn--r8jz45g.xn--zckzah"),
    ("j\u00f6rg", "j\u00f6rg"),
    ('"\u00e4@b"', '"\u00e4@b"'),
]

NO_LABELS = [
    *("stra\u00dfe", "STRA\u1e9eE", "\u03b2\u03cc\u03bb\u03bf\u03c2", "a\u200cb", "a\u200db"),  # two readings
    *("a\uff1eb", "a\uff20b", "a\u2100b", "a\u3000b", "a\uff0fb", "\uff1c\uff1e\uff0c", "\uff0da\u00fc"),  # by NFKC
    *("a\u202eb", "\u05d0a", "\ud800", "\ufffd", "\xad", "xn--\u00fc", "\u00fc" * 60),
    *("\u00fc-", "-\u00fc", "\u3002", "a\uff0e"),
]


@pytest.mark.row("I10 A-labels")
@pytest.mark.parametrize(("address", "expected"), A_LABELS)
def test_a_domain_beyond_ascii_becomes_a_labels(address: str, expected: str) -> None:
    """F7: one that only looks like another is another; made once, they stay."""
    assert addresses.in_a_labels(address) == expected
    assert addresses.in_a_labels(expected) == expected


@pytest.mark.row("I10 A-labels")
@pytest.mark.parametrize("label", NO_LABELS, ids=ascii)
def test_what_idna_forbids_or_reads_in_two_ways_is_refused(label: str) -> None:
    """F7: nothing that NFKC makes of a character gets into a command."""
    with pytest.raises(AddressError):
        addresses.in_a_labels(f"al@{label}.example")


@pytest.mark.row("I10 A-labels")
@given(st.text(min_size=1, max_size=80), st.text(max_size=5))
def test_whatever_becomes_of_a_domain_can_stand_in_a_command(text: str, more: str) -> None:
    """F7, I1: labels of letters, digits and hyphens, or an error."""
    try:
        made = addresses.in_a_labels(addresses.parse_one(f"al@\u00fc{text}.{more}x").address)
    except AddressError:
        return
    assert re.fullmatch(r"al@[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})+", made)


@pytest.mark.parametrize(("text", "expected"), [("a@b", "a@b"), ("a+b=c d~", "a+2Bb+3Dc+20d~"), ("\x7f\t", "+7F+09")])
def test_xtext(text: str, expected: str) -> None:
    """E6: RFC 3461, 4."""
    assert addresses.xtext(text) == expected
