"""A right-hand side falls into members as Exim and sendmail split it, or is refused in words."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from muawrap import addresses
from muawrap.routing import members as module
from muawrap.routing.members import Member, MemberError, members
from tests.support.counting import Counted

READ: list[tuple[str, list[tuple[str, str]]]] = [
    ("", []),
    ("  \n\t, ,\r\n", []),
    ("# nobody, really\n", []),
    ("bob", [("address", "bob")]),
    ("bob, carol@x.example", [("address", "bob"), ("address", "carol@x.example")]),
    ("bob\ncarol\r\n", [("address", "bob"), ("address", "carol")]),
    ("bob # was: carol, dave\nerin", [("address", "bob"), ("address", "erin")]),
    ("bob,#carol\n#dave\nerin", [("address", "bob"), ("address", "erin")]),
    ("c#minor@x.example", [("address", "c#minor@x.example")]),
    ('"# not a comment"@x.example', [("address", '"# not a comment"@x.example')]),
    ("bob (of # three, or four)", [("address", "bob")]),
    ("Bob Smith <bob@x.example>", [("address", "bob@x.example")]),
    ('"Smith, Bob" <bob@x.example>, carol', [("address", "bob@x.example"), ("address", "carol")]),
    ("<@a.example,@b.example:bob@x.example>", [("address", "bob@x.example")]),
    ('"a b"', [("address", '"a b"')]),
    ('"a\\"b, c"@x.example', [("address", '"a\\"b, c"@x.example')]),
    ("\\bob, \\carol@x.example", [("stop", "bob"), ("stop", "carol@x.example")]),
    ('\\"a b"', [("stop", '"a b"')]),
    ("|/bin/pager", [("command", "|/bin/pager")]),
    ('"|/bin/pager -x, y"', [("command", "|/bin/pager -x, y")]),
    ('|"/bin/pager -x, y"', [("command", '|"/bin/pager -x, y"')]),
    ("/var/mail/bob", [("file", "/var/mail/bob")]),
    ("/dev/null", [("file", "/dev/null")]),
    ('"/with blank"', [("file", "/with blank")]),
    ('"/not/a/file"@x.example', [("address", "/not/a/file@x.example")]),
    (":include:/etc/list, bob", [("include", "/etc/list"), ("address", "bob")]),
    (":Include: /etc/list", [("include", "/etc/list")]),
    ('":include:/with blank, comma"', [("include", "/with blank, comma")]),
    (':include:"/with blank"', [("include", "/with blank")]),
    (":fail: gone, for good # or not", [("fail", "gone, for good # or not")]),
    (":fail: gone\n  for good\nbob", [("fail", "gone for good"), ("address", "bob")]),
    (':FAIL:"quoted"', [("fail", '"quoted"')]),
    (":defer:", [("defer", "")]),
    ("bob, :defer: later, please", [("address", "bob"), ("defer", "later, please")]),
    ('":fail: said, in quotes"', [("fail", "said, in quotes")]),
    (":blackhole:", [("blackhole", "")]),
    (":BlackHole: and more", [("blackhole", "and more")]),
    ("j\u00f6rg@x.example", [("address", "j\u00f6rg@x.example")]),
]


@pytest.mark.parametrize(("text", "expected"), READ)
def test_a_right_hand_side_is_split_into_its_members(text: str, expected: list[tuple[str, str]]) -> None:
    """D3, D4: addresses, stops, specials, commands and files, each told from the other."""
    assert members(text) == [Member(*each) for each in expected]


REFUSED = [
    ("bob smith", "bob smith: two words where an address should be"),
    ("bob, carol dave # erin", "carol dave: two words where an address should be"),
    ('"bob', '"bob: a quote is not closed'),
    ("bob@", 'bob@: no domain after "@"'),
    ("<>", '<>: nothing stands between "<" and ">"'),
    ("\\", "\\: it holds no address"),
    ("\\\nbob", "\\: it holds no address"),
    ("(nobody)", "(nobody): it holds no address"),
    (":unknown: text", ":unknown: text: no such special member"),
    (":include:list", ":include:list: an included file needs a path from /"),
    (":include:", ":include:: an included file needs a path from /"),
    ("caf\udce9@x.example", "caf\udce9@x.example: a control character, or what is not UTF-8, in an address"),
]


@pytest.mark.parametrize(("text", "expected"), REFUSED)
def test_what_is_no_member_is_refused_with_its_text(text: str, expected: str) -> None:
    """D3: an unparsable member is named, and why."""
    with pytest.raises(MemberError) as caught:
        members(text)
    assert str(caught.value) == expected


@given(st.text(alphabet='ab@.,"\\<>()#|/: \t\r\n:'))
def test_any_text_is_read_or_refused(text: str) -> None:
    """D3: nothing makes the parser hang or stumble."""
    try:
        members(text)
    except MemberError:
        pass


@pytest.mark.parametrize("text", ['"' * 100_001, "<" * 100_000, "(" * 100_000, "\\" * 100_001, 'a"' * 50_000 + '"'])
def test_openings_that_nothing_closes_take_linear_time(text: str) -> None:
    """D6: time is linear."""
    with pytest.raises(MemberError):
        members(text)


def read(text: str) -> list[Member] | str:
    try:
        return members(text)
    except MemberError as error:
        return str(error)


PIECES = st.sampled_from([*'a.@,\n\r\t "#|/\\:<', "\r\n", "bob", "c@x.example", ", ", "-", ":fail:", "\xa0", "\u00e9"])


@given(st.lists(PIECES, max_size=15).map("".join))
@example("a@" + "x" * 256)
def test_a_plain_member_is_read_as_any_other(text: str) -> None:
    """D3: the short way for plain addresses leads to the same members, and to the same words."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_PLAIN", re.compile(r"(?!)"))
        expected = read(text)
    assert read(text) == expected


def test_plain_members_need_no_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """D6: of 10 000 members the one with a display name is parsed."""
    parser = Counted(addresses.parse_one)
    monkeypatch.setattr(addresses, "parse_one", parser)
    text = ",\n ".join(f"u{number}@x.example, n{number}" for number in range(5_000))
    assert len(members(text + ", Bob <bob@x.example>")) == 10_001
    assert parser.calls == 1
