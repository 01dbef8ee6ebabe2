"""The program's first lines: nothing that goes wrong while it is loaded is more than one line."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.need import need
from tests.support.program import REPOSITORY
from tests.torture import calls
from tests.torture.scenes import staged


def started(folder: Path, package: str) -> subprocess.CompletedProcess[bytes]:
    """The program with this in place of its package."""
    (folder / "bin").mkdir()
    (folder / "src" / "muawrap").mkdir(parents=True)
    shutil.copy(REPOSITORY / "bin" / "sendmail", folder / "bin" / "sendmail")
    (folder / "src" / "muawrap" / "__init__.py").touch()
    (folder / "src" / "muawrap" / "sendmail.py").write_text(package)
    return subprocess.run([sys.executable, "-I", "-S", folder / "bin" / "sendmail"], capture_output=True, check=False)


@pytest.mark.row("L2", "L8")
@pytest.mark.parametrize(
    ("trouble", "line"),
    [
        ("raise MemoryError", b"sendmail: not sent, try again: out of memory\n"),
        ("raise OSError(23, 'too many open files')", b"sendmail: not sent, try again: cannot start: OSError: "),
        (
            "raise RuntimeError('two\\nlines')",
            b"sendmail: not sent, try again: cannot start: RuntimeError: two lines\n",
        ),
        ("import no_such_module", b"sendmail: not sent, refused: "),
    ],
)
@pytest.mark.parametrize("place", ["{}\ndef main(): pass", "def main():\n    {}"], ids=["loading", "running"])
def test_whatever_goes_wrong_at_the_start_is_one_line(place: str, trouble: str, line: bytes, tmp_path: Path) -> None:
    """A3: nothing can have been sent by then."""
    done = started(tmp_path, place.format(trouble))
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert done.stderr.startswith(line)


@pytest.mark.row("L8")
def test_a_library_that_complains_is_not_heard(tmp_path: Path) -> None:
    """A2: Python's hashlib logs a traceback where one of its modules cannot be loaded, and goes on."""
    complaint = "import logging, os, warnings\ndef main():\n"
    complaint += "    logging.exception('x'); warnings.warn('x')\n    os._exit(0)\n"
    done = started(tmp_path, complaint)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.row("L3")
@pytest.mark.parametrize("number", ["HUP", "INT", "TERM"])
def test_a_signal_while_the_program_is_loaded_is_one_line(number: str, tmp_path: Path) -> None:
    """A1, A3: it comes with the first file that is looked for after the program's first line."""
    need("strace")
    with staged(calls.PLAIN, tmp_path) as stage:
        _, lines = calls.strace(stage)
        stage.copies()
        when = calls.calls(lines[: calls.first_line(lines)])["openat"] + 1
        ran, _ = calls.strace(stage, "-e", f"inject=openat:signal={number}:when={when}")
        assert stage.copies() == []
    assert (ran.status, ran.out, ran.err) == (1, b"", b"sendmail: not sent, try again: interrupted by a signal\n")
