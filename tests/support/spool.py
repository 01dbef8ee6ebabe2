"""Messages to be held, and a host to hold them for, in a folder of the test's own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muawrap.holding.held import Addressee, Envelope, Held
from muawrap.holding.rules import retry
from muawrap.holding.settings import Keeper
from muawrap.mail import Body
from tests.support.program import REPOSITORY

AT = 1_800_000_000.0
"""2027-01-15T08:00:00Z: a time that a sane clock may show."""
HOST = Keeper(
    name="cheshire",
    folder="",
    hosts=(),
    domains=(),
    etrn_names=(),
    trust_caller=False,
    max_age=0,
    on_expire="bounce",
    on_refuse="bounce",
    uncertain="park",
    rules=retry.DEFAULT,
    min_interval=30,
    archive_keep=30 * 86_400,
    mailstore_prefix=0,
    mailstore_suffix=0,
)


def keeper(folder: Path, name: str = "cheshire") -> Keeper:
    """A host whose folder stands in `folder`, or will."""
    return HOST._replace(name=name, folder=str(folder / name))


def held(
    text: bytes = b"Hello.\n", sender: str = "me@client.example", to: tuple[str, ...] = ("you@example.net",)
) -> Held:
    """A message, as held."""
    return Held(Envelope(sender, tuple(map(Addressee, to)), AT), b"Subject: hello\n", Body(text))


MUAWRAP = (sys.executable, "-c", "from muawrap.admin.program import main; main()")
"""`muawrap` of this checkout, where PYTHONPATH is SOURCE."""
SOURCE = str(REPOSITORY / "src")


@dataclass
class Machine:
    """A configuration with one host to hold mail for, a spool, and a log, in a folder of the test's own."""

    folder: Path

    def __post_init__(self) -> None:
        self.config = self.folder / "muawrap.toml"
        self.log = self.folder / "log"
        self.spool = self.folder / "spool"
        self.spool.mkdir()
        self.configure()

    def configure(self, more: str = "", top: str = "") -> None:
        """`more` stands behind the keys of the host."""
        self.config.write_text(
            f'spool = "{self.spool}"\nlog = "{self.log}"\n{top}'
            f'[hold.cheshire]\nto = "smtp://127.0.0.1:9"\ndomains = ["wonderland.example"]\n{more}'
        )
        self.config.chmod(0o600)

    def argv(self, command: str, *words: str | bytes) -> list[str | bytes]:
        return [*MUAWRAP, command, "-C", str(self.config), *words]

    def environment(self, **more: str) -> dict[str, str]:
        return {"PATH": "/usr/bin:/bin", "PYTHONPATH": SOURCE, "PYTHONDONTWRITEBYTECODE": "1", **more}

    def run(
        self, command: str, *words: str | bytes, stdin: bytes = b"", env: Mapping[str, str] = {}, **popen: Any
    ) -> subprocess.CompletedProcess[bytes]:
        """`muawrap COMMAND -C its-configuration WORDS`."""
        argv = self.argv(command, *words)
        environment = self.environment(**env)
        return subprocess.run(argv, input=stdin, capture_output=True, env=environment, check=False, timeout=60, **popen)

    def files(self, folder: str = "new") -> list[Path]:
        """What stands in a folder of the host."""
        place = self.spool / "cheshire" / folder
        return sorted(place.iterdir()) if place.exists() else []

    def logged(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []
