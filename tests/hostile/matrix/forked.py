"""The program warmed up once and forked for every call: real descriptors and exit status without the start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support.program import REPOSITORY, Result


class Forked:
    """A process that has loaded the program; one call at a time. It asks the name server at this port."""

    def __init__(self, port: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(Path(__file__).with_name("warm.py")), str(REPOSITORY / "src"), str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PATH": "/usr/bin:/bin"},
            text=True,
        )

    def run(self, *argv: str, stdin: Path) -> Result:
        """Call the program as `sendmail` with these arguments and this file as standard input."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(stdin), ["sendmail", *argv]]) + "\n")
        self._process.stdin.flush()
        status, out, err = json.loads(self._process.stdout.readline())
        return Result(status, out.encode("latin-1"), err.encode("latin-1"))

    def close(self) -> None:
        self._process.communicate()
