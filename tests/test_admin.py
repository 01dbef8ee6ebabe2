"""The `muawrap` program: its version, and what its demo shows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import muawrap
from tests.support.program import REPOSITORY


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """`muawrap` of this checkout."""
    start = [sys.executable, "-c", "from muawrap.admin.program import main; main()"]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(REPOSITORY / "src"), "LANG": "C.UTF-8"}
    return subprocess.run([*start, *words], capture_output=True, text=True, env=environment, check=False)


def test_version_is_that_of_the_package() -> None:
    """muawrap(1)."""
    assert run("version").stdout == f"muawrap {muawrap.__version__}\n"


def test_the_demo_sends_a_real_message_and_shows_a_refusal() -> None:
    """muawrap(1): configuration, alias, .forward, dialogue, arrival, exit status, and the same for a failure."""
    done = run("demo")
    assert (done.returncode, done.stderr) == (0, "")
    for shown in (
        "bin/sendmail -C /tmp/",
        "C: MAIL FROM:<laptop@demo.example>",
        "C: RCPT TO:<alice@demo.example>",
        "C: RCPT TO:<bob@demo.example>",
        "All 42 files are safe.",
        "exit status 0, not a word",
        "sendmail: not sent, refused: 127.0.0.1:",
        "550 5.1.1 No such user here",
        "exit status 1, one line",
        "All as promised.",
    ):
        assert shown in done.stdout
    assert not [path for path in Path("/tmp").glob("muawrap-demo-*") if path.stat().st_uid == os.getuid()]
