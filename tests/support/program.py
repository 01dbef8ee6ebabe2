"""The program run as a user does: a command line and standard input in, exit status and output out."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tests.support.canary import assert_silent
from tests.support.need import missing

REPOSITORY = Path(__file__).resolve().parents[2]

TABLE = re.compile(r"^[ \t]*\[\[?[\w.-]+\]\]?[ \t]*(#.*)?$", re.MULTILINE)


class HasPort(Protocol):
    port: int


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    status: int
    out: bytes
    err: bytes

    @property
    def sentence(self) -> str:
        """The one line of standard error (RULES A3)."""
        assert re.fullmatch(rb"sendmail: [\x20-\x7e]+\n", self.err), f"not one printable line: {self.err!r}"
        return self.err.decode("ascii").rstrip("\n")


class Program:
    """A throw-away installation below a temporary folder, with a configuration and a log of its own.

    Whatever it says and logs is searched for the password of the tests (RELIABILITY G8).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.config = folder / "etc" / "muawrap.toml"
        self.log_file = folder / "log"
        self.bin.mkdir()
        shutil.copy(REPOSITORY / "bin" / "sendmail", self.bin / "sendmail")
        (self.bin / "python3").symlink_to(os.path.realpath(sys.executable))
        if sys.prefix != sys.base_prefix:  # the virtual environment's packages are there for the program too
            shutil.copy(Path(sys.prefix, "pyvenv.cfg"), folder)
            (folder / "lib").symlink_to(Path(sys.prefix, "lib"))
        (folder / "src").symlink_to(REPOSITORY / "src")

    def configure(self, toml: str) -> None:
        """Write the configuration. A text without a log key gets one, after its other top-level keys."""
        if not re.search(r"^log\s*=", toml, re.MULTILINE):
            table = TABLE.search(toml)
            keys, tables = (toml[: table.start()], toml[table.start() :]) if table else (toml, "")
            newline = "" if keys.endswith("\n") or not keys else "\n"
            toml = f'{keys}{newline}log = "{self.log_file}"\n{tables}'
        self.config.parent.mkdir(mode=0o700, exist_ok=True)
        self.config.write_text(toml, encoding="utf-8")
        self.config.chmod(0o600)

    def run(
        self,
        *argv: str | bytes,
        stdin: bytes | int | None = b"",  # bytes to read, or a descriptor as subprocess takes it
        name: str = "sendmail",
        env: dict[str, str] | None = None,  # instead of the minimal one
        timeout: float = 60,
        cwd: Path | None = None,
        config: bool = True,  # False: without -C
        before: Sequence[str] = (),  # a command that runs it, such as unshare
        **popen: Any,
    ) -> Result:
        command: list[str | bytes | Path] = [*before, self.named(name)]
        if config:
            command += ["-C", self.config]
        if isinstance(stdin, bytes):
            popen["input"] = stdin
        else:
            popen["stdin"] = stdin
        done = subprocess.run(
            [*command, *argv],
            capture_output=True,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.folder)} if env is None else env,
            timeout=timeout,
            cwd=cwd,
            check=False,
            **popen,
        )
        assert_silent(done.stdout or b"", done.stderr or b"", self.logged)
        return Result(done.returncode, done.stdout, done.stderr)

    def script(self, code: str, stdin: bytes) -> bytes:
        """What a script prints that imports the program, in a Python that has loaded nothing but itself.

        It has `sys`, and the path of the configuration as sys.argv[1].
        """
        given = [f"import sys; sys.path.append(sys.argv.pop(1)); {code}", str(REPOSITORY / "src"), str(self.config)]
        done = subprocess.run([sys.executable, "-I", "-S", "-c", *given], input=stdin, capture_output=True, check=True)
        assert done.stderr == b""
        return done.stdout

    def named(self, name: str) -> Path:
        """The program under this name, which is a link to bin/sendmail."""
        path = self.bin / name
        if not path.exists():
            path.symlink_to("sendmail")
        return path

    @property
    def log(self) -> str:
        return self.logged.decode("utf-8")

    @property
    def logged(self) -> bytes:
        """The log as it stands, in octets."""
        return self.log_file.read_bytes() if self.log_file.is_file() else b""

    def for_everybody(self) -> None:
        """From now on any user can run it: with sources and an interpreter that everybody may read."""
        (self.folder / "src").unlink()
        shutil.copytree(REPOSITORY / "src", self.folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
        (self.bin / "python3").unlink()
        (self.bin / "python3").symlink_to(python_of_everybody())
        for file in "pyvenv.cfg", "lib":
            (self.folder / file).unlink(missing_ok=True)

    @staticmethod
    def smart_hosts(*hosts: HasPort | str) -> str:
        """The configuration's line for these servers or URLs."""
        urls = [host if isinstance(host, str) else f"smtp://127.0.0.1:{host.port}" for host in hosts]
        return "smart_hosts = [{}]\n".format(", ".join(f'"{url}"' for url in urls))


def python_of_everybody() -> str:
    """An interpreter that everybody may run: ours, or the system's where ours stands in somebody's home."""
    for found in os.path.realpath(sys.executable), "/usr/bin/python3":
        path = Path(os.path.realpath(found))
        test = [found, "-I", "-S", "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
        everybody = path.exists() and all(parent.stat().st_mode & 0o005 == 0o005 for parent in (path, *path.parents))
        if everybody and subprocess.run(test, check=False).returncode == 0:
            return str(path)
    return missing("a Python 3.11 or newer that everybody may run")
