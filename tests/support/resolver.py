"""The program on a machine of its own where every question about a name is written down.

    seen = alone(program, "smtp://mail.client.example:{port}", answers={"mail.client.example": ["127.0.0.1"]})
    assert seen.questions == [("mail.client.example", "A"), ("mail.client.example", "AAAA")]

The machine is a network, mount and UTS namespace: its loopback is its only interface, 127.0.0.1:53 its name server,
and what listens where nscd would is told what the C library asks for before it looks anywhere else. An SMTP server
is there, too. The program runs under strace. What is within it is tests.support.alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tests.support.need import missing, need
from tests.support.program import REPOSITORY, Program


class Seen(NamedTuple):
    """How the program ended there, and what it asked and did."""

    status: int
    out: str
    err: str
    questions: list[tuple[str, str]]  # to the name server: name and type, each as often as it was asked
    asked_at: list[float]  # when, in seconds of one clock
    about_names: list[str]  # what nscd was asked that is not about users
    sent: int  # messages that the SMTP server took
    sessions: int
    trace: list[str]  # strace's lines, each with its time in seconds

    def at(self, text: str) -> list[float]:
        """When the calls were made in whose line `text` stands."""
        return [float(line.split()[1]) for line in self.trace if text in line]


def alone(
    program: Program,
    *hosts: str,  # URLs; {port} stands for that of the SMTP server
    argv: Sequence[str] = ("you@example.net",),
    stdin: bytes = b"Subject: hello\n\nHello.\n",
    more: str = "",  # of the configuration
    answers: Mapping[str, Sequence[str]] | None = None,  # to the n-th question of a type: address, SERVFAIL, NXDOMAIN
    script: Mapping[str, str] | None = None,  # of the SMTP server
) -> Seen:
    """Run it there. Skips where namespaces are not to be had."""
    unshare = [need("unshare"), "--net", "--mount", "--uts"]
    need("strace")
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode != 0:
        missing("network namespaces")
    listed = ", ".join(f'"{host}"' for host in hosts)
    program.configure(f'smart_hosts = [{listed}]\nfrom = "me@client.example"\n{more}')
    wanted = {
        "config": str(program.config),
        "command": [str(program.named("sendmail")), "-C", str(program.config), *argv],
        "stdin": stdin.decode("latin-1"),
        "answers": {name: list(given) for name, given in (answers or {}).items()},
        "script": dict(script or {}),
    }
    done = subprocess.run(
        [*unshare, sys.executable, "-m", "tests.support.alone"],
        input=json.dumps(wanted),
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    return Seen(**{**seen, "questions": [(name, kind) for name, kind in seen["questions"]]})
