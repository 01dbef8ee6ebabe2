"""muawrap asks a real Exim and a real Postfix for mail by ETRN."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.certificates import Authority
from tests.support.exim import Exim
from tests.support.postfix import Postfix
from tests.support.program import REPOSITORY

# INTERMITTENT 6.7: the name passes a lookup, since Exim runs no command with what a stranger gave it.
MAIN = """\
acl_smtp_etrn = etrn
smtp_etrn_command = /bin/sh {folder}/ship \
  ${{lookup{{${{sg{{$domain}}{{^[@#]}}{{}}}}}}lsearch{{{folder}/hosts}}{{$value}}fail}}
"""
ACLS = """\
etrn:
  deny   condition = ${{if !match{{$smtp_command_argument}}{{^[@#]?[A-Za-z0-9.-]+\\$}}}}
  deny  !condition = ${{lookup{{${{sg{{$smtp_command_argument}}{{^[@#]}}{{}}}}}}lsearch{{{folder}/hosts}}{{yes}}{{no}}}}
         message = 459 <$smtp_command_argument> not allowed here
  accept
"""


class Ran(NamedTuple):
    status: int
    out: list[str]
    err: str


def etrn(*words: str | Path) -> Ran:
    """`muawrap etrn` as a process of its own."""
    start = [sys.executable, "-c", "from muawrap.admin.commands import group; group()", "etrn"]
    environment = {"PYTHONPATH": str(REPOSITORY / "src"), "PATH": "/usr/bin:/bin", "MUAWRAP_LOG": "none"}
    done = subprocess.run([*start, *words], env=environment, capture_output=True, text=True, check=False)
    return Ran(done.returncode, done.stdout.splitlines(), done.stderr)


@contextlib.contextmanager
def rung(port: socket.socket) -> Iterator[list[str]]:
    """What is said, in one line, by the one who connects to a listening socket in here."""
    told: list[str] = []
    yield told
    caller, _ = port.accept()
    with caller, caller.makefile() as lines:
        told.append(lines.readline().strip())


@pytest.fixture(scope="module")
def exim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Exim, socket.socket]]:
    """A running Exim that knows two names, and the port its command calls with the host's name."""
    folder = tmp_path_factory.mktemp("exim")
    (folder / "hosts").write_text("a.example: cheshire\nb.example: alice\n")
    with socket.create_server(("127.0.0.1", 0)) as bell:
        bell.settimeout(20)
        (folder / "ship").write_text(
            f'exec {sys.executable} -c \'import socket, sys; s = socket.create_connection(("127.0.0.1", '
            f'{bell.getsockname()[1]})); s.sendall(sys.argv[1].encode() + b"\\n")\' "$1"\n'
        )
        folder.chmod(0o755)
        with Exim(folder, extra=MAIN.format(folder=folder), acls=ACLS.format(folder=folder)) as running:
            yield running, bell


@pytest.mark.parametrize(
    ("name", "host"), [("a.example", "cheshire"), ("@b.example", "alice"), ("#a.example", "cheshire")]
)
def test_exim_begins_to_send(exim: tuple[Exim, socket.socket], name: str, host: str) -> None:
    """INTERMITTENT 1.2: 250, and its command runs for the host that the name belongs to."""
    running, bell = exim
    with rung(bell) as told:
        assert etrn(f"127.0.0.1:{running.port}", name) == (0, [f"{name} 250 OK"], "")
    assert told == [host]


def test_exim_does_not_know_the_name(exim: tuple[Exim, socket.socket]) -> None:
    """INTERMITTENT 1.2: 459 from an ACL; the other name is served."""
    running, bell = exim
    with rung(bell) as told:
        done = etrn(f"127.0.0.1:{running.port}", "c.example", "a.example")
    assert (done.status, told) == (77, ["cheshire"])
    assert done.out == ["c.example 459 <c.example> not allowed here", "a.example 250 OK"]
    assert "refused ETRN for c.example: 459 <c.example> not allowed here (" in done.err


def test_exim_without_etrn_does_not_offer_it(tmp_path: Path) -> None:
    """INTERMITTENT 1.2: rejected unless acl_smtp_etrn is set."""
    with Exim(tmp_path) as running:
        done = etrn(f"127.0.0.1:{running.port}", "a.example")
    assert (done.status, done.out) == (69, [])
    assert "does not offer ETRN, but SIZE" in done.err


@pytest.mark.parametrize("name", ["a.example", "@a.example"])
def test_exim_without_a_command_wants_a_queue(tmp_path: Path, name: str) -> None:
    """INTERMITTENT 1.2: without smtp_etrn_command only #string works, and anything else is a 501."""
    with Exim(tmp_path, extra="acl_smtp_etrn = etrn\n", acls="etrn:\n  accept\n") as running:
        done = etrn(f"127.0.0.1:{running.port}", name)
        assert (done.status, done.out) == (65, [f"{name} 501 argument must begin with #"])
        assert etrn(f"127.0.0.1:{running.port}", "#a.example").status == 0


def test_exim_is_asked_after_tls(tmp_path: Path, authority: Authority) -> None:
    """INTERMITTENT 6.2: STARTTLS before ETRN, verified by the configuration's authority."""
    with Exim(
        tmp_path,
        tls=authority.certificate("127.0.0.1"),
        extra="acl_smtp_etrn = etrn\n",
        acls="etrn:\n  deny\n    !encrypted = *\n    message = 459 TLS first\n  accept\n",
    ) as running:
        conf = tmp_path / "muawrap.toml"
        conf.write_text(
            'smart_hosts = ["smtp://127.0.0.1:1"]\nlog = "none"\n'
            f'[tls]\nca_file = "{authority.ca_file(tmp_path / "ca.pem")}"\n'
        )
        where = f"127.0.0.1:{running.port}"
        assert etrn("-C", conf, "--tls", "required", where, "#x").status == 0
        assert etrn("-C", conf, "--tls", "none", where, "#x").out == ["#x 459 TLS first"]


def test_postfix(tmp_path: Path) -> None:
    """INTERMITTENT 1.2: 250 for fast_flush_domains, with @ and # too; 459 for others, 501 for what is no name."""
    extra, services = "fast_flush_domains = a.example\n", "flush unix n - n - 0 flush\n"
    with Postfix(tmp_path, extra=extra, services=services) as postfix:
        where = f"127.0.0.1:{postfix.port}"
        served = etrn(where, "a.example", "@a.example", "#a.example")
        refused = etrn(where, "b.example", "a_b..example")
    assert served == (0, [f"{name} 250 Queuing started" for name in ("a.example", "@a.example", "#a.example")], "")
    assert refused.status == 65
    assert refused.out[0] == "b.example 459 <b.example>: service unavailable"
    assert refused.out[1].startswith("a_b..example 501 ")


def test_postfix_without_its_flush_service(tmp_path: Path) -> None:
    """INTERMITTENT 1.2: 458, which is for later."""
    with Postfix(tmp_path, extra="fast_flush_domains = a.example\n") as postfix:
        done = etrn(f"127.0.0.1:{postfix.port}", "a.example")
    assert (done.status, done.out) == (75, ["a.example 458 Unable to queue messages"])
