"""A user with an outbox: a configuration, a folder, and `muawrap` as that user calls it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muawrap import config
from muawrap.holding import settings
from muawrap.holding.formats import batchsmtp
from muawrap.holding.held import Addressee, Envelope, Held
from muawrap.holding.shipping.road import Wishes
from muawrap.holding.shipping.settling import Tally
from muawrap.holding.shipping.ship import ship
from muawrap.holding.store.spool import Spool
from muawrap.holding.waiting.flush import Flush
from muawrap.mail import Body
from tests.support.canary import assert_silent
from tests.support.program import HasPort, Program, Result
from tests.support.spool import MUAWRAP, SOURCE

NOWHERE = "smtp://127.0.0.1:1"
"""Where nothing listens."""
TEXT = b"Subject: hello\n\nHello.\n"
KEPT = re.compile(r"muawrap: not sent now, kept in the outbox: [\x20-\x7e]+ \(muawrap ship --outbox sends it\)\n")


@dataclass
class Outbox:
    """Everything below a folder of the test's own; the sendmail of `program` has the same configuration."""

    program: Program

    def configure(self, *hosts: HasPort | str, top: str = "", more: str = "", tables: str = "") -> Outbox:
        """`top` goes above, `more` into [outbox], `tables` below."""
        self.program.configure(
            f'{Program.smart_hosts(*hosts)}from = "me@client.example"\nqualify_domain = "client.example"\n'
            f'hostname = "host.client.example"\n{top}\n[outbox]\nfolder = "{self.folder}"\nmin_interval = 0\n{more}\n'
            f"{tables}"
        )
        return self

    @property
    def folder(self) -> Path:
        return self.program.folder / "outbox"

    # -- from outside

    def argv(self, command: str, *words: str) -> list[str]:
        return [*MUAWRAP, command, "-C", str(self.program.config), *words]

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": "/usr/bin:/bin", "PYTHONPATH": SOURCE, "PYTHONDONTWRITEBYTECODE": "1"}

    def run(self, *words: str, stdin: bytes = TEXT) -> Result:
        """`muawrap outbox`."""
        return self.call(self.argv("outbox", *words), stdin)

    def ship(self, *words: str) -> Result:
        """`muawrap ship --outbox`."""
        return self.call(self.argv("ship", "--outbox", *words))

    def call(self, argv: list[str], stdin: bytes = TEXT) -> Result:
        """Any command, in the environment in which `muawrap` is found."""
        done = subprocess.run(argv, input=stdin, capture_output=True, env=self.environment, timeout=60, check=False)
        assert_silent(done.stdout, done.stderr, self.program.logged)
        return Result(done.returncode, done.stdout, done.stderr)

    # -- from inside

    @contextmanager
    def spool(self) -> Iterator[Spool]:
        with Spool(settings.outbox(self.config)) as spool:
            yield spool

    @property
    def config(self) -> config.Config:
        return config.load(str(self.program.config), {})

    def put(self, name: str, *to: str, text: bytes = b"Hello.\n", header: bytes = b"", **more: Any) -> None:
        """One more message waits."""
        recipients = tuple(map(Addressee, to or ("you@example.net",)))
        envelope = Envelope(**{"sender": "me@client.example", "recipients": recipients, "at": time.time(), **more})
        with self.spool() as spool:
            spool.put(batchsmtp.write(Held(envelope, header or f"Subject: {name}\n".encode(), Body(text))), name)

    def flush(self, octets: int = 0, **wishes: Any) -> Tally:
        """What `muawrap ship --outbox` does, without its output."""
        flush = Flush(self.config, octets)
        return ship(flush.keeper, self.config, flush.road, Wishes(**wishes))

    def waiting(self) -> list[Held]:
        """What waits, oldest first."""
        with self.spool() as spool:
            return [spool.read(entry) for entry in spool.entries()]

    def names(self) -> list[str]:
        new = self.folder / "new"
        return sorted(os.listdir(new)) if new.exists() else []

    def aside(self, folder: str) -> dict[str, dict[str, Any]]:
        """What NAME.why says of all messages in failed/ or the archive."""
        found = {}
        for why in sorted(self.folder.glob("failed/*.why" if folder == "failed" else "archive/*/*.why")):
            assert why.with_suffix("").exists()
            found[why.stem] = json.loads(why.read_text())
        return found

    def events(self, name: str) -> list[str]:
        """The log's lines about that."""
        lines = (line.partition(" ")[2] for line in self.program.log.splitlines())
        return [line for line in lines if line.startswith(f"{name} ")]
