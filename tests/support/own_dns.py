"""An /etc/resolv.conf of one's own for one command, in a mount namespace; and an address for the server it names."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

from tests.support.need import missing, need


def own_address() -> str:
    """A loopback address whose ports 25 and 53 are nobody's but ours."""
    if os.getuid() != 0:
        missing("root, to listen at ports 25 and 53")
    if subprocess.run([need("unshare"), "--mount", "true"], capture_output=True, check=False).returncode != 0:
        missing("the right to mount")
    chance = random.SystemRandom()  # not that of a test, which may be the same in every process
    return f"127.{chance.randint(64, 250)}.{chance.randint(1, 250)}.{chance.randint(1, 250)}"


def resolving(folder: Path, resolv_conf: str) -> list[str]:
    """What goes before a command, so that it sees this text as /etc/resolv.conf."""
    file = folder / "resolv.conf"
    file.write_text(resolv_conf, encoding="ascii")
    script = f'mount --bind {file} /etc/resolv.conf && exec "$@"'
    return [need("unshare"), "--mount", "sh", "-c", script, "sh"]
