"""Alias files: what is an entry, which one wins, and whom the file must not belong to."""

from __future__ import annotations

from pathlib import Path

import pytest

from muawrap.failure import Failure
from muawrap.routing import aliases
from muawrap.routing.aliases import Aliases

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
