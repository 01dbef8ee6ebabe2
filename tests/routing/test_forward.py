"""~/.forward and :include: files with real owners and modes; nobody is the user they belong to."""

from __future__ import annotations

import contextlib
import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from muawrap.failure import Failure
from muawrap.routing import forward
from muawrap.routing.forward import Forwards, include
from muawrap.routing.members import Entry
from tests.support.need import missing

NOBODY = pwd.getpwnam("nobody").pw_uid
DAEMON = pwd.getpwnam("daemon").pw_uid


@pytest.fixture
def homes() -> Iterator[Path]:
    """A folder with a home for nobody, in which files may belong to anyone; tmp_path is root's alone."""
    if os.geteuid():
        missing("root, to give files away")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        (Path(folder) / "nobody").mkdir(mode=0o755)
        yield Path(folder)


def write(path: Path, text: str, owner: int = NOBODY, mode: int = 0o644, group: int | None = None) -> str:
    path.write_text(text)
    os.chown(path, owner, 0 if group is None else group)
    path.chmod(mode)
    return str(path)


def forwards(homes: Path) -> Forwards:
    return Forwards(f"{homes}/{{user}}/.forward")


def test_the_forward_file_of_a_user_says_where_the_mail_goes(homes: Path) -> None:
    """D1, D5: found by name, in lower case too; it is private to its user."""
    path = write(homes / "nobody/.forward", "al@x.example\n")
    for name in ("nobody", "NoBody"):
        assert forwards(homes)(name) == Entry("al@x.example\n", path, NOBODY, "nobody")


def test_without_file_or_user_there_is_no_forward(homes: Path) -> None:
    """D1: an existing local user, an existing file."""
    assert forwards(homes)("nobody") is None
    assert Forwards("{home}/.forward")("no-such-user") is None
    assert Forwards("{home}/.forward")("nobody") is None  # whose home does not exist
    assert Forwards("")("nobody") is None


def test_a_template_with_user_alone_needs_no_user(homes: Path) -> None:
    """redirect.forward: {home} needs an existing local user, {user} alone does not; then root owns the file."""
    (homes / "virtual").mkdir()
    path = write(homes / "virtual/.forward", "al@x.example", owner=0)
    assert forwards(homes)("virtual") == Entry("al@x.example", path, 0, "virtual")
    write(homes / "virtual/.forward", "al@x.example", owner=NOBODY)
    with pytest.raises(Failure, match="belongs to uid"):
        forwards(homes)("virtual")


@pytest.mark.parametrize("name", ["..", ".", "../nobody", "nobody/../nobody", "", '"nobody"', "-x", "a b", "no\0body"])
def test_a_name_that_is_no_login_names_no_file(homes: Path, name: str) -> None:
    """D6: a local part is never a path."""
    write(homes / ".forward", "al@x.example")
    write(homes / "nobody/.forward", "al@x.example")
    assert forwards(homes)(name) is None


DISTRUSTED = [
    (NOBODY, 0o666, 0, "is writable by others"),
    (NOBODY, 0o664, 0, "is writable by others"),  # the group is root's, not nobody's own
    (0, 0o646, 0, "is writable by others"),
    (DAEMON, 0o644, 0, f"belongs to uid {DAEMON}"),
]


@pytest.mark.row("F1")
@pytest.mark.parametrize(("owner", "mode", "group", "reason"), DISTRUSTED)
def test_a_forward_that_others_may_have_written_is_refused(
    homes: Path, owner: int, mode: int, group: int, reason: str
) -> None:
    """D6: writable by others, by a group not the owner's own, or owned by neither root nor the user."""
    path = write(homes / "nobody/.forward", "al@x.example", owner, mode, group)
    with pytest.raises(Failure) as caught:
        forwards(homes)("nobody")
    assert caught.value.what == f"{path} {reason}"


TRUSTED = [(NOBODY, 0o600, 0), (0, 0o644, 0), (NOBODY, 0o664, pwd.getpwnam("nobody").pw_gid), (0, 0o664, 0)]


@pytest.mark.parametrize(("owner", "mode", "group"), TRUSTED)
def test_a_forward_of_the_user_or_of_root_is_trusted(homes: Path, owner: int, mode: int, group: int) -> None:
    """D6: the owner's own group may write; the entry speaks for the user, whoever owns the file."""
    write(homes / "nobody/.forward", "al@x.example", owner, mode, group)
    found = forwards(homes)("nobody")
    assert found is not None
    assert found.owner == NOBODY


@pytest.mark.row("F1")
def test_a_forward_that_is_no_file_is_refused(homes: Path) -> None:
    """D6: a folder and a fifo (which must not hold us up) are not regular."""
    os.mkfifo(homes / "nobody/.forward")
    with pytest.raises(Failure, match="is not a regular file"):
        forwards(homes)("nobody")
    (homes / "nobody/.forward").unlink()
    (homes / "nobody/.forward").mkdir()
    with pytest.raises(Failure, match="is not a regular file"):
        forwards(homes)("nobody")


def test_only_what_does_not_exist_is_absent(homes: Path) -> None:
    """D6: ENOENT and ENOTDIR are absent; a link that leads round in circles is not."""
    (homes / "nobody").rmdir()
    assert forwards(homes)("nobody") is None
    (homes / "nobody").write_text("a file where the home should be")
    assert forwards(homes)("nobody") is None
    (homes / "nobody").unlink()
    (homes / "nobody").symlink_to("nobody")
    with pytest.raises(Failure, match="cannot read"):
        forwards(homes)("nobody")


@contextlib.contextmanager
def daemon() -> Iterator[None]:
    """What stands within this is done with the rights of a user other than root."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(DAEMON)
    os.seteuid(DAEMON)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


@pytest.mark.parametrize(("home", "file"), [(0o700, 0o644), (0o755, 0o600)])
def test_an_unreadable_home_is_no_missing_one(homes: Path, home: int, file: int) -> None:
    """D6: only root and the user can look; anyone else hears what to do."""
    path = write(homes / "nobody/.forward", "al@x.example", mode=file)
    os.chown(homes / "nobody", NOBODY, 0)
    (homes / "nobody").chmod(home)
    with daemon(), pytest.raises(Failure) as caught:
        forwards(homes)("nobody")
    assert caught.value.what == f"cannot read {path}: Permission denied"
    assert caught.value.advice == "put nobody into the alias file, or set redirect.forward"
    assert forwards(homes)("nobody") is not None  # root can


@pytest.mark.parametrize(("first", "kind"), [("# Exim filter", "Exim"), ("#  sieve Filter # v2", "Sieve")])
def test_a_filter_file_is_refused_and_said_so(homes: Path, first: str, kind: str) -> None:
    """D4: this program runs no filters."""
    path = write(homes / "nobody/.forward", f"{first}\nkeep;\n")
    with pytest.raises(Failure) as caught:
        forwards(homes)("nobody")
    assert caught.value.what == f"{path} is a filter file for {kind}, and this program runs none"
    assert caught.value.advice == "put nobody into the alias file"


def test_a_comment_is_no_filter(homes: Path) -> None:
    """D4: only the first line makes a filter file."""
    write(homes / "nobody/.forward", "# my forward\n# Exim filter\nal@x.example\n")
    assert forwards(homes)("nobody") is not None


@pytest.mark.row("F1")
@pytest.mark.parametrize("what", ["forward", "include"])
def test_forward_and_included_files_are_bounded(homes: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """D6: 1 MiB; here with a smaller number."""
    assert forward.FILE_LIMIT == 1024 * 1024
    monkeypatch.setattr(forward, "FILE_LIMIT", 10)
    path = write(homes / "nobody/.forward", "x@y.example")
    with pytest.raises(Failure, match="is larger than 10 octets"):
        forwards(homes)("nobody") if what == "forward" else include(path, Entry("", "", NOBODY))


@pytest.mark.parametrize(("owner", "within"), [(0, 0), (0, NOBODY), (NOBODY, NOBODY)])
def test_an_included_list_belongs_to_root_or_to_whom_it_is_for(homes: Path, owner: int, within: int) -> None:
    """D4, D6: what it includes in turn is for the same user, and as private."""
    path = write(homes / "list", "x@y.example", owner)
    assert include(path, Entry("", "", within, "nobody")) == Entry("x@y.example", path, within, "nobody")


@pytest.mark.row("F1")
@pytest.mark.parametrize(
    ("owner", "mode", "reason"),
    [
        (NOBODY, 0o644, f"belongs to uid {NOBODY}"),
        (0, 0o666, "is writable by others"),
        (DAEMON, 0o644, f"belongs to uid {DAEMON}"),
    ],
)
def test_an_included_list_that_others_may_have_written_is_refused(
    homes: Path, owner: int, mode: int, reason: str
) -> None:
    """D4, D6: root's alias file does not include what belongs to somebody else."""
    path = write(homes / "list", "x@y.example", owner, mode)
    with pytest.raises(Failure) as caught:
        include(path, Entry("", "/etc/aliases line 1", 0))
    assert caught.value.what == f"{path} {reason}"


def test_a_missing_included_list_is_refused(tmp_path: Path) -> None:
    """D4: it is never taken for an empty one."""
    with pytest.raises(Failure, match=f"^{tmp_path}/list does not exist$"):
        include(f"{tmp_path}/list", Entry("", "", 0))
