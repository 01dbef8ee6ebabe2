"""A real Dovecot from its start to its end; what it does is said by the configuration in its folder."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

from tests.support.need import missing, need
from tests.support.unpacked import Unavailable, unpacked

PATIENCE = 20.0  # seconds; how long the daemon may take to answer
PROGRAMS = Path("/usr/lib/dovecot")


class Daemon:
    """Its configuration, its log and its sockets stand in `folder`: dovecot.conf, log and run."""

    def __init__(self, folder: Path) -> None:
        if os.getuid() != 0:
            missing("root, to run Dovecot")
        self.dovecot = need("dovecot")
        self.folder = folder
        (folder / "run").mkdir(parents=True)

    def start(self) -> None:
        """Until it answers."""
        command = [self.dovecot, "-F", "-c", str(self.folder / "dovecot.conf")]
        with (self.folder / "said").open("wb") as said:
            self._daemon = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
            )
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"Dovecot does not run: {(self.folder / 'said').read_text()}{self.log}")
            time.sleep(0.02)  # between two tries

    def stop(self) -> None:
        """Until it and all it has started are gone."""
        raise NotImplementedError

    def _answers(self) -> bool:
        raise NotImplementedError

    @property
    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""


def greets(port: int) -> bool:
    """Whether an SMTP or LMTP server says 220 there."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as probe:
            probe.settimeout(5)
            return probe.recv(3) == b"220"
    except OSError:
        return False


def programs(package: str, name: str) -> Path:
    """The folder of Dovecot's programs that has this one: that of the system, else of the package, unpacked."""
    if (PROGRAMS / name).exists():
        return PROGRAMS
    try:
        return unpacked(package).folder / PROGRAMS.relative_to("/")
    except Unavailable as error:
        missing(str(error))
