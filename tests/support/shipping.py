"""A host to ship to: a folder with held messages, a server that takes them, and a mail system that takes bounces."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muawrap import config
from muawrap.holding import settings
from muawrap.holding.formats import batchsmtp
from muawrap.holding.held import Addressee, Envelope, Held
from muawrap.holding.shipping.expire import expire
from muawrap.holding.shipping.road import Road, Wishes, to_host
from muawrap.holding.shipping.settling import Tally
from muawrap.holding.shipping.ship import ship
from muawrap.holding.store.scan import Entry
from muawrap.holding.store.spool import Spool
from muawrap.mail import Body
from tests.support.program import HasPort
from tests.support.spool import MUAWRAP, SOURCE

CHUNKING = ("PIPELINING", "8BITMIME", "SIZE 10000000", "CHUNKING", "DSN")
"""What a server offers that takes a message in one flight."""
_MTA = """#!/bin/sh
if [ -s {folder}/mta.status ]; then exit $(cat {folder}/mta.status); fi
number=$(ls {folder}/bounces | wc -l)
echo "$@" > {folder}/bounces/.part; env >> {folder}/bounces/.part; echo >> {folder}/bounces/.part
cat >> {folder}/bounces/.part
mv {folder}/bounces/.part {folder}/bounces/$number.$$
"""


@dataclass
class Host:
    """One [hold.cheshire], with everything below a folder of the test's own."""

    folder: Path
    to: str  # a URL, or a list of them as TOML has it
    more: str = ""  # of [hold.cheshire]
    top: str = ""

    def __post_init__(self) -> None:
        (self.folder / "bounces").mkdir()
        (self.folder / "spool").mkdir()
        mta = self.folder / "mta"
        mta.write_text(_MTA.format(folder=self.folder))
        mta.chmod(0o755)
        self.configure(self.more)

    def configure(self, more: str = "") -> None:
        """Other keys of [hold.cheshire]."""
        to = self.to if self.to.startswith("[") else f'"{self.to}"'
        interval = "" if "min_interval" in more else "min_interval = 0\n"
        self.file.write_text(
            f'log = "{self.folder / "log"}"\nspool = "{self.folder / "spool"}"\nhostname = "client.example"\n'
            f'mta = ["{self.folder / "mta"}"]\n{self.top}\n'
            f'[hold.cheshire]\nto = {to}\ndomains = ["x.example"]\n{interval}{more}\n'
        )
        self.file.chmod(0o600)
        self.reload()

    def reload(self) -> None:
        """The file has another text."""
        self.config = config.load(str(self.file), {})
        self.keeper = settings.keeper(self.config, "cheshire")

    @property
    def file(self) -> Path:
        return self.folder / "muawrap.toml"

    @property
    def path(self) -> Path:
        """The host's folder."""
        return Path(self.keeper.folder)

    # -- work

    def put(
        self, name: str, *to: str | Addressee, sender: str = "me@client.example", text: bytes = b"Hello.\n", **more: Any
    ) -> str:
        """One more message; its Message-ID is made of its name."""
        recipients = tuple(Addressee(one) if isinstance(one, str) else one for one in to or ("you@x.example",))
        header = f"From: me@client.example\nMessage-ID: <{name}@client.example>\nSubject: {name}\n".encode()
        with Spool(self.keeper) as spool:
            assert spool.put(batchsmtp.write(Held(Envelope(sender, recipients, **more), header, Body(text))), name)
        return name

    def ship(self, road: Road | None = None, **wishes: Any) -> Tally:
        return ship(self.keeper, self.config, road or to_host(self.config, self.keeper), Wishes(**wishes))

    def expire(self) -> Tally:
        return expire(self.keeper, self.config)

    def argv(self, command: str, *words: str) -> list[str]:
        """`muawrap COMMAND` with this configuration."""
        return [*MUAWRAP, command, "-C", str(self.file), *words]

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": "/usr/bin:/bin", "PYTHONPATH": SOURCE, "PYTHONDONTWRITEBYTECODE": "1"}

    # -- what a test reads afterwards

    def waiting(self) -> dict[str, tuple[str, ...]]:
        """Who still waits for which message, by its name."""
        with Spool(self.keeper) as spool:
            return {entry.name: _addresses(spool.envelope(entry)) for entry in spool.entries()}

    def entry(self, name: str) -> Entry:
        with Spool(self.keeper) as spool:
            return next(entry for entry in spool.entries() if entry.name == name)

    def aside(self, folder: str) -> dict[str, dict[str, Any]]:
        """What NAME.why says, of all messages in failed/ or the archive; a crash may leave one alone."""
        found = {}
        for why in sorted(self.path.glob("failed/*.why" if folder == "failed" else "archive/*/*.why")):
            message = why.with_suffix("")
            if message.exists():
                found[message.name] = json.loads(why.read_text())
        return found

    def bounces(self) -> list[str]:
        """Each: the arguments, the environment, an empty line, the text."""
        found = sorted((self.folder / "bounces").glob("[0-9]*"), key=lambda path: int(path.name.split(".")[0]))
        return [path.read_text("utf-8", "surrogateescape") for path in found]

    def mta_ends_with(self, status: int) -> None:
        (self.folder / "mta.status").write_text(str(status) if status else "")

    def events(self, name: str = "") -> list[str]:
        """The lines of the log, without the time; those of one event."""
        log = self.folder / "log"
        lines = [line.partition(" ")[2] for line in log.read_text().splitlines()] if log.exists() else []
        return [line for line in lines if line.startswith(f"{name} " if name else "")]

    def journals(self) -> list[str]:
        done = self.path / "done"
        return sorted(one for one in os.listdir(done) if one.endswith(".j")) if done.exists() else []


def host(folder: Path, server: HasPort, more: str = "", top: str = "") -> Host:
    """A host at a server of the loopback."""
    return Host(folder, f"smtp://127.0.0.1:{server.port}", more, top)


def _addresses(envelope: Envelope) -> tuple[str, ...]:
    return tuple(one.address for one in envelope.recipients)


def numbered(count: int) -> Iterator[str]:
    """Names in order."""
    return (f"m{number:06}" for number in range(count))
