"""msmtp, told by a configuration of its own to send one message, and what became of it.

    done = Msmtp().send(folder, {"host": "127.0.0.1", "port": server.port, "auth": "plain"}, "you@example.net")

Its exit status is one of sysexits.h, and it says what is wrong in a line or two. Where Debian's msmtp is not installed,
it is unpacked in a cache folder; msmtp-mta, which would be /usr/sbin/sendmail, is not asked for.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.need import missing
from tests.support.unpacked import Unavailable, unpacked

PATIENCE = 60.0  # seconds


class Msmtp:
    def __init__(self) -> None:
        self.environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
        self.path = shutil.which("msmtp") or ""
        if not self.path:
            try:
                package = unpacked("msmtp")
            except Unavailable as error:
                missing(str(error))
            self.path = str(package.folder / "usr/bin/msmtp")
            self.environment["LD_LIBRARY_PATH"] = package.library_path

    def send(
        self, folder: Path, settings: Mapping[str, object], sender: str, recipient: str, message: bytes
    ) -> subprocess.CompletedProcess[bytes]:
        """One message, by these commands of its configuration."""
        config = folder / "msmtprc"
        config.touch(0o600)
        config.write_text("".join(f'{name} "{value}"\n' for name, value in {"account": "default", **settings}.items()))
        return self.run(folder, "-C", str(config), "-i", "-f", sender, "--", recipient, message=message)

    def run(
        self, folder: Path, *argv: str, message: bytes = b"", before: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[bytes]:
        """Whoever runs it has this folder for a home; `before` is a command that runs it, such as unshare."""
        return subprocess.run(
            [*before, self.path, *argv],
            env={**self.environment, "HOME": str(folder)},
            input=message,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
