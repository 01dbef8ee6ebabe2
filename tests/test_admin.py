"""The `muawrap` program: what it shows, and that `check` sends nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import muawrap
from tests.support.certificates import Authority
from tests.support.program import REPOSITORY, Program
from tests.support.server import Server, closed_port


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """`muawrap` of this checkout."""
    start = [sys.executable, "-c", "from muawrap.admin.program import main; main()"]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(REPOSITORY / "src"), "LANG": "C.UTF-8"}
    return subprocess.run([*start, *words], capture_output=True, text=True, env=environment, check=False)


def test_version_is_that_of_the_package() -> None:
    """muawrap(1)."""
    assert run("version").stdout == f"muawrap {muawrap.__version__}\n"


def test_the_demo_sends_a_real_message_and_shows_a_refusal() -> None:
    """muawrap(1): configuration, alias, .forward, dialogue, arrival, exit status, and the same for a failure."""
    done = run("demo")
    assert (done.returncode, done.stderr) == (0, "")
    for shown in (
        "bin/sendmail -C /tmp/",
        "C: MAIL FROM:<laptop@demo.example>",
        "C: RCPT TO:<alice@demo.example>",
        "C: RCPT TO:<bob@demo.example>",
        "All 42 files are safe.",
        "exit status 0, not a word",
        "sendmail: not sent, refused: 127.0.0.1:",
        "550 5.1.1 No such user here",
        "exit status 1, one line",
        "All as promised.",
    ):
        assert shown in done.stdout
    assert not [path for path in Path("/tmp").glob("muawrap-demo-*") if path.stat().st_uid == os.getuid()]


def test_check_tries_tls_and_auth_everywhere_and_sends_nothing(
    program: Program, authority: Authority, tmp_path: Path
) -> None:
    """muawrap(1): a row for each smart host, with what it offers."""
    ca = tmp_path / "ca.pem"
    authority.ca_file(ca)
    context = authority.server_context("127.0.0.1")
    with (
        Server(users={"al": "s3cret"}, context=context) as first,
        Server(users={"al": "s3cret"}, context=context, implicit_tls=True) as second,
    ):
        hosts = f"submission://127.0.0.1:{first.port}", f"submissions://127.0.0.1:{second.port}"
        login = f'[auth]\nuser = "al"\npassword = "s3cret"\n[tls]\nca_file = "{ca}"\n'
        program.configure(f'{program.smart_hosts(*hosts)}from = "me@example.net"\n{login}')
        done = run("check", "-v", "-C", program.config)
        sessions = [*first.finished(), *second.finished()]
    assert done.returncode == 0, done.stdout
    rows = [line for line in done.stdout.splitlines() if line.startswith("submission")]
    assert [row.split()[0] for row in rows] == list(hosts)
    assert "sends as       <me@example.net>" in done.stdout
    assert all("TLSv1.3" in row and " al " in row and row.endswith("good") for row in rows)
    assert [session.authenticated for session in sessions] == ["al", "al"]
    assert not [command for session in sessions for command in session.commands if command.startswith(b"MAIL")]
    assert ">>> AUTH PLAIN ***" in done.stderr
    assert "s3cret" not in done.stdout + done.stderr


def test_check_says_what_is_wrong_and_fails(program: Program) -> None:
    """muawrap(1): the host that cannot be reached, and the alias that would fail those who use it (RULES D4)."""
    aliases = program.folder / "aliases"
    aliases.write_text("ops: al@example.net\npager: |/bin/pager\nnot an entry\nbroken: a@@b\n")
    with Server() as server, closed_port() as port:
        hosts = program.smart_hosts(server, f"smtp://127.0.0.1:{port}")
        keys = 'from = "me@example.net"\nkeep_failed = "/nowhere"\n'
        program.configure(f'{hosts}{keys}[redirect]\naliases = ["{aliases}"]\n')
        done = run("check", "-C", program.config)
    assert done.returncode == 1
    assert "keeps failed   nothing: /nowhere: no such file or directory\n" in done.stdout
    for said in ("good", "FAILED", "connection refused", "line 2: pager", "line 3", "line 4: broken"):
        assert said in done.stdout
    assert "ops" not in done.stdout


def test_check_fails_where_there_is_nobody_to_send_as(program: Program) -> None:
    """muawrap(1): every smart host is good, and every message would fail all the same."""
    with Server() as server:
        program.configure(f'{program.smart_hosts(server)}qualify_domain = "localhost"\n')
        done = run("check", "-C", program.config)
    assert done.returncode == 1
    assert "no address to send" in done.stdout


def test_check_tells_a_wrong_configuration_by_file_line_and_key(program: Program) -> None:
    """muawrap(1), muawrap.toml(5)."""
    program.configure('smart_hosts = ["smtp://127.0.0.1"]\nadmn = "al@example.net"\n')
    done = run("check", "-C", program.config)
    assert (done.returncode, done.stdout) == (1, "")
    for said in (str(program.config), "line 2", "admn", "admin"):
        assert said in done.stderr
