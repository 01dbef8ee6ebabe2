"""Files that decide where mail goes: hostile owners, modes, kinds and folders (RULES D6; muawrap.toml(5), Trust)."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from muawrap import trust
from muawrap.failure import REFUSED, TRY_AGAIN, Failure
from tests.support.need import missing
from tests.support.user import NOBODY, WWW_DATA, acting_as, public_folder

LIMIT = 1000


@pytest.fixture
def folder() -> Iterator[Path]:
    with public_folder() as made:
        yield made


@pytest.fixture
def root() -> None:
    if os.getuid() != 0:
        missing("root, to give files to others")


def made(folder: Path, mode: int = 0o644, owner: int = -1, group: int = -1) -> str:
    path = folder / "file"
    path.write_bytes(b"text\n")
    os.chown(path, owner, group)
    path.chmod(mode)
    return str(path)


def refusal(path: str, **rules: object) -> Failure:
    with pytest.raises(Failure) as caught:
        trust.read(path, limit=LIMIT, **rules)  # type: ignore[arg-type]
    assert caught.value.lead == REFUSED
    assert caught.value.what.startswith((path, f"cannot read {path}: "))
    return caught.value


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640, 0o644, 0o755, 0o664])
def test_a_regular_file_that_only_its_owner_writes_is_read(folder: Path, mode: int) -> None:
    """D6: the group that is the owner's own is the owner."""
    contents = trust.read(made(folder, mode), limit=LIMIT, owners={os.getuid()}, folder=True)
    assert (contents.octets, contents.text, contents.owner, contents.mode) == (b"text\n", "text\n", os.getuid(), mode)


@pytest.mark.row("F1")
@pytest.mark.parametrize("mode", [0o602, 0o646, 0o666, 0o777])
@pytest.mark.parametrize("shared", [False, True])
def test_a_file_that_everybody_may_write_is_refused(folder: Path, mode: int, shared: bool) -> None:
    """D6."""
    failure = refusal(made(folder, mode), shared=shared)
    assert failure.what.endswith("is writable by others")
    assert failure.advice == f"chmod go-w {folder}/file"


@pytest.mark.row("F1")
@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(("owner", "group"), [(0, WWW_DATA), (NOBODY, 0), (54321, 54321)])
def test_a_file_that_another_group_may_write_is_refused(folder: Path, owner: int, group: int) -> None:
    """D6: by a group other than the owner's own, or where nobody knows what the owner's own is."""
    path = made(folder, 0o664, owner, group)
    assert "is writable by others" in refusal(path).what
    assert trust.read(path, limit=LIMIT, shared=True).octets == b"text\n"


@pytest.mark.row("F1", "O2")
@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    ("owners", "advice"),
    [
        ({0}, "it must belong to root"),
        ({0, WWW_DATA}, "it must belong to root or www-data"),
        ({0, 54321}, "it must belong to root or uid 54321"),
    ],
)
def test_a_file_of_another_owner_is_refused_and_the_right_owners_named(
    folder: Path, owners: set[int], advice: str
) -> None:
    """D6."""
    failure = refusal(made(folder, owner=NOBODY), owners=owners)
    assert (failure.what, failure.advice) == (f"{folder}/file belongs to uid {NOBODY}", advice)


KINDS: dict[str, Callable[[str], object]] = {
    "folder": os.mkdir,
    "fifo": os.mkfifo,
    "link to a folder": lambda path: os.symlink("/etc", path),
    "device": lambda path: os.symlink("/dev/zero", path),
    "terminal": lambda path: os.symlink("/dev/tty", path),
    "socket": lambda path: socket.socket(socket.AF_UNIX).bind(path),
    "link to itself": lambda path: os.symlink(path, path),
}


@pytest.mark.row("F1")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_what_is_no_regular_file_is_refused_at_once(folder: Path, kind: str) -> None:
    """D6: neither read nor waited for; a fifo without a writer would hold up an open."""
    path = str(folder / "file")
    KINDS[kind](path)
    found: list[Failure] = []
    reader = threading.Thread(target=lambda: found.append(refusal(path)), daemon=True)
    reader.start()
    reader.join(10)
    assert found


@pytest.mark.parametrize("name", ["missing", "missing/below", "file/below"])
def test_only_a_missing_file_is_missing(folder: Path, name: str) -> None:
    """D6: only ENOENT and ENOTDIR mean absent."""
    made(folder)
    with pytest.raises((FileNotFoundError, NotADirectoryError)):
        trust.read(str(folder / name), limit=LIMIT)


@pytest.mark.parametrize("path", ["/tmp/" + "x" * 300, "/tmp/\0"])
def test_a_path_that_cannot_be_is_a_failure(path: str) -> None:
    """D6."""
    refusal(path)


def test_a_file_that_may_not_be_read_is_a_failure_with_advice(folder: Path) -> None:
    """D6: unreadable is not absent."""
    path = made(folder, 0o600)
    hidden = folder / "hidden"
    hidden.mkdir(0o700)
    with acting_as(NOBODY):
        for unreadable, advice in (
            (path, "nobody may not read it: look at its owner and modes"),
            (str(hidden / "file"), f"nobody may not enter {hidden}"),
        ):
            failure = refusal(unreadable)
            assert failure.what == f"cannot read {unreadable}: Permission denied"
            assert failure.advice == advice
            assert isinstance(failure.__cause__, PermissionError)


@pytest.mark.parametrize(("code", "lead"), [(errno.EMFILE, TRY_AGAIN), (errno.EIO, TRY_AGAIN), (errno.EPERM, REFUSED)])
def test_what_may_pass_is_told_apart(code: int, lead: str) -> None:
    """A3."""
    assert trust.unreadable("/file", OSError(code, os.strerror(code))).lead == lead


@pytest.mark.row("F1")
@pytest.mark.parametrize(("size", "fits"), [(0, True), (LIMIT, True), (LIMIT + 1, False), (3 << 20, False)])
def test_a_file_is_read_up_to_its_limit(folder: Path, size: int, fits: bool) -> None:
    """D6: bounded."""
    path = folder / "file"
    path.write_bytes(b"x" * size)
    if fits:
        assert len(trust.read(str(path), limit=LIMIT).octets) == size
    else:
        assert refusal(str(path)).what == f"{path} is larger than {LIMIT} octets"


def test_octets_that_are_not_utf_8_survive(folder: Path) -> None:
    """F7: nothing is lost in reading."""
    path = folder / "file"
    path.write_bytes(b"\xff\xc3\xa9")
    assert trust.read(str(path), limit=LIMIT).text == "\udcff\u00e9"


@pytest.mark.row("O2")
@pytest.mark.parametrize(("mode", "good"), [(0o755, True), (0o777, False), (0o757, False), (0o1777, True)])
def test_a_folder_that_others_may_write_is_refused_unless_sticky(folder: Path, mode: int, good: bool) -> None:
    """muawrap.toml(5), Trust."""
    path = made(folder)
    folder.chmod(mode)
    if good:
        assert trust.read(path, limit=LIMIT, folder=True).text == "text\n"
    else:
        failure = refusal(path, folder=True)
        assert failure.what == f"{path} stands in {folder}, which is writable by others"
        assert failure.advice == f"chmod go-w {folder}"
        assert trust.read(path, limit=LIMIT).text == "text\n"


@pytest.mark.row("O2")
def test_both_folders_of_a_link_count(folder: Path) -> None:
    """muawrap.toml(5), Trust: who can write to either can put another file there."""
    for name in ("links", "files"):
        (folder / name).mkdir()
    (folder / "files" / "file").write_text("text\n")
    link = folder / "links" / "link"
    link.symlink_to("../files/file")
    assert trust.read(str(link), limit=LIMIT, folder=True).text == "text\n"
    for name in ("links", "files"):
        (folder / name).chmod(0o777)
        assert str(folder / name) in refusal(str(link), folder=True).what
        (folder / name).chmod(0o755)
