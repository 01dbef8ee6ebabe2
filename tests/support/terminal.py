"""A run of a program whose standard error is a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
from collections.abc import Mapping, Sequence


class Terminal:
    """A run with a pseudo-terminal for standard error: all that was written, and what of it is seen in the end."""

    def __init__(
        self, argv: Sequence[str], stdin: bytes, columns: int = 0, env: Mapping[str, str] | None = None
    ) -> None:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=theirs, env=env)
        os.close(theirs)
        written: list[bytes] = []
        reader = threading.Thread(target=self._read, args=(ours, written))
        reader.start()
        self.out, _ = process.communicate(stdin, timeout=60)
        reader.join()
        os.close(ours)
        self.status = process.returncode
        self.written = b"".join(written)
        assert re.fullmatch(rb"[\x20-\x7e\r\n]*", self.written), self.written

    @staticmethod
    def _read(descriptor: int, written: list[bytes]) -> None:
        try:
            while octets := os.read(descriptor, 65536):
                written.append(octets)
        except OSError:  # the other side is closed
            pass

    @property
    def seen(self) -> list[str]:
        """The lines as the terminal shows them; the last one is that of the cursor."""
        lines = []
        for line in self.written.decode("ascii").split("\r\n"):
            shown = ""
            for piece in line.split("\r"):
                shown = piece + shown[len(piece) :]
            lines.append(shown.rstrip())
        return lines
