"""Where the callers sit: a home, and a `sendmail` that notes how it was called and hands on to the program."""

from __future__ import annotations

import functools
import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.need import missing, need
from tests.support.program import HasPort, Program

TO, CC, BCC = "a@x.example", "b@x.example", "c@x.example"
ME = "me@client.example"
BOX = "box@client.example"  # `from`: the sender of what has none of its own, or none that may pass
OPS = "ops@client.example"  # whom root's mail goes to
DOMAIN = "client.example"

SUBJECT = "Grüße vom Schreibtisch"
BODY = "hello\n.\n..dots\nFrom here\nGrüße, 日本\n~x\n \nBcc: x@x.example\n\nlast\n"

PATIENCE = 20.0  # seconds; how long a caller may take
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

Done = subprocess.CompletedProcess[bytes]

# It notes its words as the first thing, and its status as the last, for which a test waits where nobody else does.
# The second process is for nmh, which kills the first when it has said QUIT.
NOTING = """\
#!/bin/sh
{{ printf '%s\\0' "${{0##*/}}" "$@"; echo; }} >> {desk}/words
(
    {program} -C {config} "$@"
    status=$?
    echo $status > {desk}/ended
    exit $status
)
exit $?
"""

# In a mount namespace of its own: our program instead of sendmail, and what else is to stand in another's place.
PLACING = """\
set -e
desk=$1; shift
mount --bind "$desk/sendmail" "$(readlink -f /usr/sbin/sendmail)"
while [ "$1" != -- ]; do
    mount --bind "$1" "$2"; shift 2
done
shift
exec "$@"
"""


@dataclass(frozen=True)
class Call:
    """One call of sendmail."""

    argv: tuple[str, ...]  # with the name first
    status: int


@dataclass
class Desk:
    """The program set up for callers, and their home."""

    program: Program
    home: Path
    server: HasPort
    sendmail: Path = field(init=False)

    def __post_init__(self) -> None:
        self.home.mkdir()
        self.notes = self.home / "desk"
        self.notes.mkdir()
        aliases = self.home / "aliases"
        aliases.write_text(f"root: {OPS}\n")
        self.program.configure(
            self.program.smart_hosts(self.server)
            + f'from = "{BOX}"\nallowed_from = ["*@{DOMAIN}"]\nqualify_domain = "{DOMAIN}"\nhostname = "box.{DOMAIN}"\n'
            + f'[redirect]\naliases = ["{aliases}"]\n'
        )
        os.mkfifo(self.notes / "ended")
        self.statuses: list[int] = []
        self.ended = os.open(self.notes / "ended", os.O_RDWR)
        self.sendmail = self.named("sendmail")

    def close(self) -> None:
        os.close(self.ended)

    def named(self, name: str) -> Path:
        """The noting sendmail under this name."""
        path = self.notes / name
        words = {"desk": self.notes, "program": self.program.named(name), "config": self.program.config}
        path.write_text(NOTING.format(**{key: shlex.quote(str(value)) for key, value in words.items()}))
        path.chmod(0o755)
        return path

    # -- running

    def file(self, name: str, text: str, mode: int = 0o644) -> Path:
        """A file in the home."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def folder(self, name: str) -> Path:
        path = self.home / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def environment(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        return {"PATH": PATH, "HOME": str(self.home), "LC_ALL": "C.UTF-8", **(env or {})}

    def run(
        self,
        *argv: str | Path,
        stdin: str | bytes = BODY,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        placed: bool = False,  # it knows no other place than /usr/sbin/sendmail
        over: Mapping[Path, str] | None = None,  # files of ours that stand in the place of others
    ) -> Done:
        """Run a caller to its end."""
        return subprocess.run(
            self._command(argv, placed, over),
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            env=self.environment(env),
            cwd=cwd or self.home,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )

    def run_until_called(self, *argv: str | Path, over: Mapping[Path, str], env: Mapping[str, str]) -> Done:
        """Run a daemon until it has called sendmail."""
        with (self.home / "output").open("wb") as output:
            daemon = subprocess.Popen(
                self._command(argv, True, over), env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            self.wait_for_a_call()
        finally:
            daemon.terminate()
            daemon.wait(PATIENCE)
        return Done(argv, 0, (self.home / "output").read_bytes(), b"")

    def run_on_a_terminal(
        self, *argv: str | Path, keys: Sequence[tuple[bytes, bytes]], last: bytes, placed: bool = False
    ) -> Done:
        """Run a caller on a terminal: where it shows the one, the other is typed; until it ends, or matches `last`."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            self._command(argv, placed),
            env=self.environment({"TERM": "vt100", "COLUMNS": "80", "LINES": "24"}),
            cwd=self.home,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        shown, seen, typed = b"", 0, list(keys)
        deadline = time.monotonic() + PATIENCE
        try:
            while not re.search(last, shown) and readable(ours, deadline - time.monotonic()):
                shown += os.read(ours, 65536).replace(b"\0", b"")  # padding
                if typed and typed[0][0] in shown[seen:]:
                    seen = len(shown)
                    os.write(ours, typed.pop(0)[1])
        except OSError:  # EIO: it has ended
            process.wait(PATIENCE)
        finally:
            process.kill()
            status = process.wait(PATIENCE)
            os.close(ours)
        return Done(argv, status, shown, b"")

    def _command(
        self, argv: tuple[str | Path, ...], placed: bool, over: Mapping[Path, str] | None = None
    ) -> list[str | Path]:
        """Root's callers get a mount namespace in any case: none reaches the machine's own sendmail."""
        command = [need(str(argv[0])), *argv[1:]]
        if lacking := what_lacks():
            return missing(lacking) if placed else command
        mounts = [word for ours, theirs in (over or {}).items() for word in (ours, theirs)]
        return ["unshare", "--mount", "sh", "-c", PLACING, "sh", self.notes, *mounts, "--", *command]

    # -- what was called

    def wait_for_a_call(self, patience: float = PATIENCE) -> bool:
        """Until one more call of sendmail has ended; False where patience has, before."""
        if not readable(self.ended, patience):
            return False
        self.statuses += map(int, os.read(self.ended, 65536).split())
        return True

    def calls(self) -> list[Call]:
        """All calls of sendmail, each at its end; where there was none yet, it is waited for."""
        waiting = True
        while len(self.statuses) < max(1, len(self._argvs())) and waiting:
            waiting = self.wait_for_a_call()
        return [Call(argv, status) for argv, status in zip(self._argvs(), self.statuses, strict=True)]

    def _argvs(self) -> list[tuple[str, ...]]:
        words = self.notes / "words"
        lines = words.read_bytes().split(b"\0\n")[:-1] if words.exists() else []
        return [tuple(word.decode() for word in line.split(b"\0")) for line in lines]


def readable(descriptor: int, patience: float) -> bool:
    return bool(select.select([descriptor], [], [], max(0.0, patience))[0])


@functools.cache
def what_lacks() -> str:
    """What the machine has not got, to let the program stand in the place of its sendmail; empty: nothing."""
    if os.geteuid() != 0 or shutil.which("sendmail", path="/usr/sbin") is None:
        return "root, and a /usr/sbin/sendmail to put the program over"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0:
        return "mount namespaces"
    return ""
