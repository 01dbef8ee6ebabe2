"""An evening without a line: three programs send, a real Exim comes up, and one connection brings it all there."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.support.exim import Exim
from tests.support.need import need
from tests.support.outbox import Outbox
from tests.support.program import Program

TO = "you@example.net"
BODY = "Hello from {name}.\n.\n..dots\nFrom here\n"


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    (tmp_path / "program").mkdir()
    return Outbox(Program(tmp_path / "program"))


def command(outbox: Outbox, folder: Path) -> Path:
    """`muawrap outbox` with its configuration, as one word for programs that want one."""
    path = folder / "outbox.sh"
    sets = " ".join(f"{name}={shlex.quote(value)}" for name, value in outbox.environment.items())
    path.write_text(f'#!/bin/sh\nexec env {sets} {shlex.join(outbox.argv("outbox"))} "$@"\n')
    path.chmod(0o755)
    return path


def mutt(sendmail: Path, folder: Path) -> list[str]:
    muttrc = folder / "muttrc"
    muttrc.write_text(f'set sendmail="{sendmail} -oem -oi"\nset from="me@client.example"\nset copy=no\n')
    return [need("mutt"), "-n", "-F", str(muttrc), "-s", "mutt", "--", TO]


def mailx(sendmail: Path, folder: Path) -> list[str]:
    (folder / "mailrc").write_text(f"set sendmail={sendmail}\n")
    return ["env", f"MAILRC={folder / 'mailrc'}", need("bsd-mailx"), "-s", "mailx", TO]


def pipe(sendmail: Path, folder: Path) -> list[str]:
    return ["sh", "-c", f"{{ printf 'To: {TO}\\nSubject: pipe\\n\\n'; cat; }} | {sendmail} -i -t"]


def test_an_evening_without_a_line(outbox: Outbox, tmp_path: Path) -> None:
    """INTERMITTENT 6.0, 6.4: three are told that it is kept, nobody has lost anything, and one connection is enough."""
    exim = Exim(tmp_path)  # which does not run yet
    sendmail = command(outbox.configure(exim), tmp_path)
    for name, caller in ("mutt", mutt), ("mailx", mailx), ("pipe", pipe):
        done = subprocess.run(
            caller(sendmail, tmp_path),
            input=BODY.format(name=name).encode(),
            capture_output=True,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(tmp_path), "LOGNAME": "me", "TERM": "dumb"},
            cwd=tmp_path,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert len(outbox.names()) == 3
    assert len(outbox.events("kept")) == 3

    with exim:
        before = connections(exim)
        shipped = outbox.ship()
        assert (shipped.status, shipped.out, shipped.err) == (0, b"sent 3\n", b"")
        assert connections(exim) == before + 1
        found = {str(one.parsed["Subject"]): one for one in exim.messages()}
    assert set(found) == {"mutt", "mailx", "pipe"}
    for name, arrived in found.items():
        assert (arrived.sender, arrived.recipients) == ("me@client.example", [TO])
        assert arrived.body.decode() == BODY.format(name=name)
    assert outbox.names() == []
    again = outbox.ship()
    assert (again.status, again.out) == (0, b"")


def connections(exim: Exim) -> int:
    """How often somebody has connected to it."""
    return len(re.findall(r"SMTP connection from \S+ .*\(TCP/IP connection count", exim.log))
