"""Alias files: what is an entry, which one wins, and whom the file must not belong to."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from muawrap.failure import Failure
from muawrap.routing import aliases
from muawrap.routing.aliases import Aliases, AliasFile
from tests.support.counting import Counted

ENTRIES: list[tuple[str, dict[str, tuple[int, str]]]] = [
    ("", {}),
    ("root: bob\n", {"root": (1, " bob")}),
    ("root:bob", {"root": (1, "bob")}),
    ("Root : bob\n", {"root": (1, " bob")}),
    ("root: bob\nROOT: carol\n", {"root": (1, " bob")}),
    ("root: bob,\n\tcarol\nx: y\n", {"root": (1, " bob,\n\tcarol"), "x": (3, " y")}),
    ("root: bob,\n# of them\n\n  # all\n  carol\n", {"root": (1, " bob,\n  carol")}),
    ("\n# x: y\n\nroot: bob\n", {"root": (4, " bob")}),
    ("root: bob\r\nx: y\r\n", {"root": (1, " bob"), "x": (2, " y")}),
    ('"a b": bob\n', {"a b": (1, " bob")}),
    ('"a:b" : bob\n', {"a:b": (1, " bob")}),
    ('"a\\"b": bob\n', {'a"b': (1, " bob")}),
    ("empty:\nroot: bob\n", {"empty": (1, ""), "root": (2, " bob")}),
    ("x: a:b\n", {"x": (1, " a:b")}),
    ("caf\u00e9: bob\n", {"caf\u00e9": (1, " bob")}),
]


@pytest.mark.parametrize(("text", "expected"), ENTRIES)
def test_an_alias_file_is_read_as_names_and_members(text: str, expected: dict[str, tuple[int, str]]) -> None:
    """D1: names without case, the first entry wins; continuation lines, comments, quotes."""
    file = aliases.parse("/etc/aliases", text)
    assert file.entries == expected
    assert file.wrong == ()


WRONG = [
    ("no colon here\n", (1,)),
    ("  begins: with a blank\n", (1,)),
    (": nobody\n", (1,)),
    ('"open: bob\n', (1,)),
    ("good: bob\nbad\n\nbad too\nx: y\n", (2, 4)),
    ("name" + " " * 200_000 + "\n", (1,)),
    ("bad\n x: y\n", (1,)),
]


@pytest.mark.parametrize(("text", "expected"), WRONG, ids=range(len(WRONG)))
def test_lines_that_are_no_entry_are_noted_and_harm_nobody(text: str, expected: tuple[int, ...]) -> None:
    """D4: a syntax error counts only for those who use the entry."""
    assert aliases.parse("/etc/aliases", text).wrong == expected


def write(path: Path, text: str, mode: int = 0o644) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_the_first_file_that_has_the_name_wins(tmp_path: Path) -> None:
    """D1: several files are one; the entry says where it stands."""
    first, second = write(tmp_path / "1", "# one\nroot: bob\n"), write(tmp_path / "2", "Root: carol\nx: y\n")
    found = Aliases((first, second), False)
    root, x = found("ROOT"), found("X")
    assert root is not None
    assert x is not None
    assert (root.text, root.where, root.private) == (" bob", f"{first} line 2", "")
    assert (x.text, x.where) == (" y", f"{second} line 2")
    assert found("nobody") is None


def test_a_quoted_name_is_found(tmp_path: Path) -> None:
    """D1: `"a b"@localhost` is the alias "a b"."""
    found = Aliases((write(tmp_path / "aliases", '"A b": bob\n'),), False)('"a B"')
    assert found is not None
    assert found.text == " bob"


def test_a_default_file_may_be_missing_and_a_configured_one_may_not(tmp_path: Path) -> None:
    """D1, and redirect.aliases in muawrap.toml(5)."""
    missing = str(tmp_path / "aliases")
    assert Aliases((missing,), True)("root") is None
    with pytest.raises(Failure) as caught:
        Aliases((missing,), False)("root")
    assert caught.value.what == f"alias file {missing} does not exist"
    assert caught.value.advice == "redirect.aliases names it"


def test_alias_files_are_not_opened_for_remote_addresses(tmp_path: Path) -> None:
    """D1: they are read when the first name is looked up, not before."""
    Aliases((str(tmp_path / "missing"),), False)


def test_a_group_may_write_to_an_alias_file_and_others_may_not(tmp_path: Path) -> None:
    """D6: who can write there decides where root's mail goes."""
    assert Aliases((write(tmp_path / "group", "root: bob\n", 0o664),), False)("root") is not None
    with pytest.raises(Failure, match="is writable by others"):
        Aliases((write(tmp_path / "all", "root: bob\n", 0o666),), False)("root")


def test_an_alias_file_that_is_none_is_refused(tmp_path: Path) -> None:
    """D6: a folder, a device."""
    with pytest.raises(Failure, match="is not a regular file"):
        Aliases((str(tmp_path),), False)("root")
    with pytest.raises(Failure, match="is not a regular file"):
        Aliases(("/dev/null",), False)("root")


def test_an_alias_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D6: 64 MiB and not an octet more; here with a smaller number."""
    assert aliases.FILE_LIMIT == 64 * 1024 * 1024
    monkeypatch.setattr(aliases, "FILE_LIMIT", 10)
    assert Aliases((write(tmp_path / "1", "root: bobb"),), False)("root") is not None
    with pytest.raises(Failure, match="is larger than 10 octets"):
        Aliases((write(tmp_path / "2", "root: bobby"),), False)("root")


# -- how a name is looked up -----------------------------------------------------------------------------------------


def searched(text: str) -> AliasFile:
    """A file in which an ASCII name is searched for, however short it is and however often it is asked."""
    file = AliasFile("/etc/aliases", text)
    file.scans = -1_000_000
    return file


PIECES = st.sampled_from(
    [*'ab:"\\#, \t\r\n\x0c\xa0', "A", "\n", "\nab:", '\n"a b":', "\u212a", "k", "\u0130", "i\u0307"]
)
NAMES = ["", "a", "b", "ab", "a b", "a ", " a", "a:", "#a", "a\\", "\\a", 'a"', '"a', "k", "i", "i\u0307", "\xa0a"]


@given(st.lists(PIECES, max_size=30).map("".join))
@example("\na\xa0: b")
@example("\n\u0130: b")
def test_search_index_and_listing_find_the_same_entries(text: str) -> None:
    """D1: which way a name is looked up is a matter of speed only."""
    listed = aliases.parse("/etc/aliases", text).entries
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aliases, "SHORT", -1)
        found = {name: searched(text).entry(name) for name in [*listed, *NAMES]}
    indexed = AliasFile("/etc/aliases", text)
    for name, entry in found.items():
        number, members = listed.get(name, (0, ""))
        assert entry == indexed.entry(name)
        assert (entry and (entry.text, entry.where)) == (
            (members, f"/etc/aliases line {number}") if number else None
        ), name


def test_every_character_that_is_ascii_in_lower_case_is_found_by_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """D1: without case is as str.lower() has it; the Kelvin sign is a k."""
    monkeypatch.setattr(aliases, "SHORT", -1)
    for char in map(chr, range(0x110000)):
        if char.lower() != char and char.lower().isascii():
            assert searched(f"x: y\nx{char}: z\n").entry(f"x{char}".lower()) is not None, char


LARGE = "".join(f"name{number}: user{number}@x.example\n" for number in range(100_000)) + "root: bob,\n carol\n"


def test_a_large_file_is_searched_for_the_names_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """D6: of 100 000 lines those are read that may be the entry."""
    divided = Counted(aliases._divided)
    monkeypatch.setattr(aliases, "_divided", divided)
    file = AliasFile("/etc/aliases", LARGE)
    entry = file.entry("root")
    assert entry is not None
    assert (entry.text, entry.where) == (" bob,\n carol", "/etc/aliases line 100001")
    assert file.entry("nobody") is None
    assert divided.calls == 4  # the first line each time, which needs no search, and that of root twice
    assert file.scans == 2


def test_many_names_cost_one_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """D6: 10 000 names in 100 000 lines are not 10 000 searches."""
    divided = Counted(aliases._divided)
    monkeypatch.setattr(aliases, "_divided", divided)
    file = AliasFile("/etc/aliases", LARGE)
    for number in range(0, 100_000, 10):
        entry = file.entry(f"name{number}")
        assert entry is not None
        assert (entry.text, entry.where) == (f" user{number}@x.example", f"/etc/aliases line {number + 1}")
    assert file.scans == aliases.SCANS
    assert divided.calls < 100_000 + 10_000 + 3 * aliases.SCANS


def test_a_search_takes_linear_time_whatever_the_name() -> None:
    """D6: backslashes may stand for themselves or for what follows."""
    file = AliasFile("/etc/aliases", "x: y\n" * 10_000 + '"' + "\\" * 999 + "\n" + "\\" * 999 + "\n")
    assert file.entry("\\" * 400) is None
    assert file.scans == 1
