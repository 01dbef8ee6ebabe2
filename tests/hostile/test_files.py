"""Every file that is named to the program, of every owner, mode, folder and kind: a model says what is trusted."""

from __future__ import annotations

import itertools
import os
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from muawrap import config, environment, report
from muawrap.failure import Failure
from muawrap.mail import Auth, Secret, SmartHost, Tls
from muawrap.routing import aliases
from muawrap.routing.forward import Forwards, include
from muawrap.routing.members import Entry
from muawrap.submission import secrets
from muawrap.submission.opening import Opening
from tests.support.canary import CANARY
from tests.support.need import need
from tests.support.program import Program
from tests.support.server import Server
from tests.support.user import NOBODY, WWW_DATA, acting_as, public_folder

TEXT = 'smart_hosts = ["smtp://127.0.0.1:1"]\n'  # is a configuration, and as good as any text elsewhere


class Use(NamedTuple):
    """One way in which a file is read, and what makes it trusted (RULES D6; muawrap.toml(5), Trust)."""

    read: Callable[[str], object]
    owners: frozenset[int] = frozenset()  # empty: anybody
    login: bool = False  # the caller may own it, too, where that is a login user
    shared: bool = False  # another group than the owner's own may write to it
    folder: bool = False  # nobody else may write to the folders that name it
    secret: bool = False  # no group may write to it, and all may read it only where it is root's


def forward(path: str) -> Entry | None:
    return Forwards(path)("nobody")


ROOT = frozenset({0})
USES = {
    "alias file": Use(lambda path: aliases.load(path, may_be_missing=False), shared=True),
    ".forward": Use(forward, owners=ROOT | {NOBODY}),
    ":include: of root": Use(lambda path: include(path, Entry("", "", 0)), owners=ROOT),
    ":include: of nobody": Use(lambda path: include(path, Entry("", "", NOBODY)), owners=ROOT | {NOBODY}),
    "configuration": Use(lambda path: config.load(path, {}), owners=ROOT, login=True, folder=True),
    "password file": Use(lambda path: secrets.password(Auth("al", (Secret("file", path),))), secret=True),
    "variable's file": Use(lambda path: environment.read({"MUAWRAP_ADMIN_FILE": path})),
}

OWNERS = (0, NOBODY, WWW_DATA)  # each with a group of the same number
MODES = (0o000, 0o400, 0o600, 0o640, 0o644, 0o660, 0o664, 0o602, 0o646, 0o666)
FOLDERS = ((0o755, 0), (0o775, 0), (0o775, WWW_DATA), (0o777, 0), (0o1777, 0), (0o1775, WWW_DATA))  # root's
LINKS = ("no link", "a link to there", "a link from there")


class File(NamedTuple):
    path: str
    owner: int
    group: int
    mode: int
    folder: tuple[int, int]


@pytest.fixture(scope="module")
def files() -> Iterator[list[File]]:
    """All of them, for real."""
    if os.getuid() != 0:
        with acting_as(NOBODY):  # says that it needs root
            pass
    with public_folder() as top:
        found = []
        for number, folder in enumerate(FOLDERS):
            place, elsewhere = top / f"{number}", top / f"{number}-good"
            for made in place, elsewhere:
                made.mkdir(mode=0o755)
            combinations = {
                (owner, group, mode, link)
                for owner, mode, link in itertools.product(OWNERS, MODES, LINKS)
                for group in (0, owner)
            }
            for owner, group, mode, link in sorted(combinations):
                name = f"{owner}-{group}-{mode:o}-{LINKS.index(link)}"
                path = (elsewhere if link == "a link from there" else place) / name
                path.write_text(TEXT)
                os.chown(path, owner, group)
                path.chmod(mode)
                if link != "no link":
                    target, path = path, (place if link == "a link from there" else elsewhere) / f"{name}-link"
                    path.symlink_to(target)
                found.append(File(str(path), owner, group, mode, folder))
            os.chown(place, 0, folder[1])
            place.chmod(folder[0])
        yield found


def predicted(use: Use, file: File, reader: int) -> str:
    """What is to come of it: "read", or the words that the failure has in it."""
    bits = 0o400 if reader == file.owner else 0o040 if reader == file.group else 0o004
    if reader != 0 and not file.mode & bits:
        return "Permission denied"
    owners = use.owners | ({reader} if use.login and (reader == 0 or reader >= 1000) else set())
    if owners and file.owner not in owners:
        return f"belongs to uid {file.owner}"
    by_group = file.mode & 0o020 and file.group != file.owner
    if file.mode & 0o002 or (by_group and not use.shared):
        return "is writable by others"
    mode, group = file.folder
    if use.folder and not mode & 0o1000 and (mode & 0o002 or (mode & 0o020 and group != 0)):
        return "which is writable by others"
    if use.secret and file.owner not in (0, reader):
        return "belongs to "
    if use.secret and file.mode & 0o022:
        return "is writable by others"
    if use.secret and file.mode & 0o004 and file.owner != 0:
        return "is readable by everybody"
    return "read"


@pytest.mark.row("F1", "F4", "O2")
@pytest.mark.parametrize("reader", OWNERS)
@pytest.mark.parametrize("name", USES)
def test_owner_mode_folder_and_link_decide_as_the_model_says(name: str, reader: int, files: list[File]) -> None:
    """D6: 900 files, seven uses, three readers; root, a login user and a system account."""
    use = USES[name]
    wrong = []
    outcomes = set()
    with acting_as(reader) if reader else ExitStack():
        for file in files:
            try:
                use.read(file.path)
                came = "read"
            except Failure as failure:
                came = failure.what
            expected = predicted(use, file, reader)
            outcomes.add(expected)
            if expected not in came:
                wrong.append((file, expected, came))
    assert wrong == []
    assert "read" in outcomes
    assert len(outcomes) > 1


# -- what is no file -------------------------------------------------------------------------------------------------


def bound_socket(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path)


def linked_fifo(path: str) -> None:
    os.mkfifo(path + ".fifo")
    os.symlink(path + ".fifo", path)


KINDS: dict[str, Callable[[str], object]] = {
    "fifo": os.mkfifo,
    "link to a fifo": linked_fifo,
    "folder": os.mkdir,
    "socket": bound_socket,
    "endless device": lambda path: os.symlink("/dev/zero", path),
    "terminal": lambda path: os.symlink("/dev/ptmx", path),
    "link to itself": lambda path: os.symlink(path, path),
}


def ca_file(path: str) -> None:
    """What is done with tls.ca_file before anybody is called."""
    host = SmartHost("submissions://127.0.0.1:1", "submissions", "127.0.0.1", 1, tls=Tls("required", path))
    opening = Opening(host)
    opening.close()
    if opening.failure is not None:
        raise opening.failure


READERS = {**{name: use.read for name, use in USES.items()}, "CA file": ca_file}


def at_once(call: Callable[[], object]) -> Failure | None:
    """The failure of a call that may not wait for anything."""
    ended: list[Failure | None] = []

    def run() -> None:
        try:
            call()
            ended.append(None)
        except Failure as failure:
            ended.append(failure)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    assert ended, "it hangs"
    return ended[0]


@pytest.mark.row("F1")
@pytest.mark.parametrize(
    ("name", "kind"), [pair for pair in itertools.product(READERS, KINDS) if pair != ("CA file", "folder")]
)
def test_what_is_no_regular_file_is_a_failure_at_once(name: str, kind: str, tmp_path: Path) -> None:
    """D6: nothing waits for the writer of a fifo, reads a device for ever or takes a folder for an empty file.

    Only tls.ca_file may name a folder, of certificates.
    """
    path = str(tmp_path / "file")
    KINDS[kind](path)
    failure = at_once(lambda: READERS[name](path))
    assert failure is not None
    assert path in failure.what
    reason = "not a regular file|cannot read|No such device|too many levels"
    assert re.search(reason, failure.what, re.IGNORECASE), failure.what


@pytest.mark.row("F6")
@pytest.mark.parametrize("kind", [*KINDS, "link to a file", "link to nothing"])
def test_a_log_that_is_no_file_is_passed_over_at_once(kind: str, tmp_path: Path) -> None:
    """A5: no link is followed, whoever made it, and the next log is taken."""
    path, target = tmp_path / "log", tmp_path / "target"
    if kind in KINDS:
        KINDS[kind](str(path))
    else:
        if kind == "link to a file":
            target.write_text("somebody's\n")
        path.symlink_to(target)
    facts = report.Facts()
    facts.log = (str(path), str(tmp_path / "next"))
    assert at_once(lambda: report._log("failed", facts, [("error", "x")])) is None
    assert (tmp_path / "next").read_text().endswith(" failed error=x\n")
    if kind == "link to a file":
        assert target.read_text() == "somebody's\n"
    if kind == "link to nothing":
        assert not target.exists()


# -- races -----------------------------------------------------------------------------------------------------------


UNFOLLOWED = re.compile(r"execve\(|readlink\(|lstat\(|AT_SYMLINK_NOFOLLOW")
"""Calls that have a path in them and do not look at the file: those that find the folders of a configuration."""


@pytest.mark.row("F1", "F4")
def test_what_is_checked_is_what_is_read(program: Program, tmp_path: Path) -> None:
    """D6: each file is named to the kernel once, without waiting; all else is asked of the open descriptor."""
    texts = {
        "aliases": f"root: ops@x.example, :include:{tmp_path}/list\n",
        "list": "al@x.example\n",
        "daemon.forward": "da@x.example\n",
        "password": f"{CANARY}\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    trace = tmp_path / "trace"
    with Server(users={"alice": CANARY}) as server:
        program.configure(
            f'{program.smart_hosts(server)}from = "me@client.example"\nqualify_domain = "x.example"\n'
            f'[auth]\nuser = "alice"\npassword = {{ file = "{tmp_path}/password" }}\nallow_plaintext = true\n'
            f'[redirect]\naliases = ["{tmp_path}/aliases"]\nforward = "{tmp_path}/{{user}}.forward"\n'
        )
        command = [need("strace"), "-f", "-y", "-s", "256", "-e", "trace=%file,fstat,read", "-o", str(trace)]
        command += [str(program.named("sendmail")), "-C", str(program.config), "root", "daemon"]
        subprocess.run(command, input=b"Subject: x\n\n", check=True)
        assert len(server.accepted) == 1
    calls = trace.read_text().splitlines()
    for path in [str(program.config), *(f"{tmp_path}/{name}" for name in texts)]:
        by_name = [call for call in calls if f'"{path}"' in call and not UNFOLLOWED.search(call)]
        assert len(by_name) == 1, (path, by_name)
        assert "openat(" in by_name[0]
        assert {"O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY"} <= set(re.findall(r"O_[A-Z]+", by_name[0]))
        of_descriptor = [call for call in calls if f"<{path}>" in call and "openat(" not in call]
        assert "fstat" in of_descriptor[0], of_descriptor
        assert "read(" in of_descriptor[1], of_descriptor
