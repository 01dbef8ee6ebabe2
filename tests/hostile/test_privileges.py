"""Who may be told what by whom: users, rights, descriptors, options and surroundings of a hostile caller."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.need import missing, need
from tests.support.program import REPOSITORY, Program, python_of_everybody
from tests.support.server import Server
from tests.support.user import NOBODY, WWW_DATA

MESSAGE = b"Date: Thu, 1 Jan 2026 00:00:00 +0000\nFrom: me@client.example\nMessage-ID: <1@client.example>\n\nHello.\n"
ME = 'from = "me@client.example"\n'


def acting(uid: int) -> dict[str, Any]:
    """What subprocess needs to run a program as that user."""
    return {"user": uid, "group": uid, "extra_groups": []}


# -- who is told by which configuration ------------------------------------------------------------------------------


@pytest.mark.row("O2")
@pytest.mark.parametrize(("caller", "owner"), list(itertools.product((NOBODY, WWW_DATA), (0, NOBODY, WWW_DATA))))
def test_a_configuration_from_the_command_line_counts_only_where_it_may(
    public: Program, caller: int, owner: int
) -> None:
    """muawrap.toml(5), Trust: root's for everybody, a login user's own for that user; no other one runs its command."""
    (public.folder / "ran").mkdir()
    (public.folder / "ran").chmod(0o1777)
    ran = public.folder / "ran" / "it"
    script = f"touch {ran}; echo pw"
    auth = f'[auth]\nuser = "al"\npassword = {{ command = ["/bin/sh", "-c", "{script}"] }}\nallow_plaintext = true\n'
    with Server(users={"al": "pw"}) as server:
        public.configure(f'{public.smart_hosts(server)}{ME}log = "none"\n{auth}')
        public.config.parent.chmod(0o755)
        public.config.chmod(0o644)
        os.chown(public.config, owner, owner)
        done = public.run("you@example.net", stdin=MESSAGE, **acting(caller))
    trusted = owner == 0 or owner == caller == NOBODY
    assert done.status == (0 if trusted else 1)
    assert ran.exists() == trusted
    assert len(server.accepted) == trusted
    if not trusted:
        assert f"{public.config} belongs to uid {owner}" in done.sentence
        assert server.sessions == []


# -- rights that are not the caller's --------------------------------------------------------------------------------


def set_uid(python: Path) -> None:
    python.chmod(0o4755)


def set_gid(python: Path) -> None:
    python.chmod(0o2755)


@pytest.mark.row("O4")
@pytest.mark.parametrize("give", [set_uid, set_gid])
def test_an_interpreter_with_the_rights_of_another_is_refused(public: Program, give: Callable[[Path], None]) -> None:
    """O4: one line, and nothing is read: the configuration that is named does not even exist."""
    if os.statvfs(public.folder).f_flag & os.ST_NOSUID:
        missing("a folder for temporary files where set-uid means something")
    python = public.bin / "python3"
    python.unlink()
    shutil.copy(python_of_everybody(), python)
    os.chown(python, 0, 0)
    give(python)
    argv = ["-C", "/nowhere", "you@example.net"]
    done = public.run(*argv, config=False, stdin=MESSAGE, **acting(NOBODY))
    assert done.status == 1
    assert "started set-uid or set-gid" in done.sentence
    python.chmod(0o755)
    done = public.run(*argv, config=False, stdin=MESSAGE, **acting(NOBODY))
    assert "there is no configuration file /nowhere" in done.sentence


# -- descriptors -----------------------------------------------------------------------------------------------------

CLOSED = [closed for count in range(4) for closed in itertools.combinations(range(3), count)]


@pytest.mark.row("O6", "L4")
@pytest.mark.parametrize("accepts", [True, False])
@pytest.mark.parametrize("closed", CLOSED, ids=str)
def test_closed_descriptors_never_become_the_connection(
    program: Program, closed: tuple[int, ...], accepts: bool
) -> None:
    """A5, F8: the result is what it would have been, and not a byte of ours gets between the commands; with -v."""
    with Server({} if accepts else {"RCPT": "550 5.1.1 no such user"}) as server:
        program.configure(f"{program.smart_hosts(server)}{ME}")
        closing = " ".join(f"{descriptor}>&-" for descriptor in closed)
        done = subprocess.run(
            [
                "sh",
                "-c",
                f'exec "$@" {closing}',
                "sh",
                program.named("sendmail"),
                "-vC",
                program.config,
                "you@example.net",
            ],
            input=MESSAGE,
            capture_output=True,
            check=False,
        )
        sessions = server.finished()
    assert done.returncode == (0 if accepts and 0 not in closed else 1)
    assert done.stdout == b""
    if 0 in closed:
        assert sessions == []
        assert b"standard input is closed" in (done.stderr if 2 not in closed else program.logged)
        return
    (session,) = sessions
    said = bytes(session.raw)
    assert re.fullmatch(
        rb"EHLO \S+\r\nMAIL FROM:<me@client\.example>[^\r\n]*\r\nRCPT TO:<you@example\.net>\r\n.*", said, re.S
    )
    assert b"sendmail:" not in said
    assert b">>>" not in said
    assert len(server.accepted) == accepts
    if accepts:
        assert server.accepted[0].text == MESSAGE.replace(b"\n", b"\r\n")
    if 2 in closed:
        assert done.stderr == b""
    else:
        assert (b"no such user" in done.stderr) != accepts
        assert b">>> EHLO " in done.stderr


# -- options and redirections that are not to do anything ------------------------------------------------------------

# Forks for each case, so that one strace tells the calls of each apart; the first argument is the folder of sources.
EACH_CASE = """
import os, sys
sys.dont_write_bytecode = True
sys.path.append(sys.argv[1])
from muawrap import sendmail, session, report
from muawrap.submission import deliver
for line in sys.stdin.read().splitlines():
    child = os.fork()
    if not child:
        os.dup2(os.open(sys.argv[2], os.O_RDONLY), 0)
        os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
        os.dup2(1, 2)
        report.leave(sendmail.run(["sendmail", *line.split("\\t")]))
    print(child, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

SINK = "{folder}/made"  # what must never come to be
IGNORED = {
    "-X": ["-X", SINK],
    "-X attached": [f"-X{SINK}"],
    "-oQ": [f"-oQ{SINK}"],
    "-O": ["-O", f"QueueDirectory={SINK}"],
    "-O attached": [f"-OQueueDirectory={SINK}"],
    "-oA": [f"-oA{SINK}"],
    "-o": ["-o", f"Q{SINK}"],
    "-oMr": ["-oMr", SINK],
    "-d": [f"-d+all={SINK}"],
    "-L": ["-L", SINK],
    "-p": [f"-p{SINK}"],
    "-h": ["-h", "17"],
}
NOT_FOR_MAIL = {
    "-oX": [f"-oX{SINK}", "you@example.net"],
    "-oP": ["-oP", SINK, "you@example.net"],
    "-D": [f"-D{SINK}"],
    "-D macro": [f"-DX=${{run{{/usr/bin/touch {SINK}}}}}"],
    "-be": ["-be", f"${{run{{/usr/bin/touch {SINK}}}}}"],
    "-bd": ["-bd", f"-oX{SINK}"],
    "-bD": ["-bD"],
    "-bi": ["-bi", f"-oA{SINK}"],
    "-bp": ["-bp", f"-X{SINK}"],
    "-q": ["-q"],
    "-q15m": ["-q15m"],
    "-qff": ["-qffR", "x"],
    "-Mc": ["-Mc", "1abcde-000001-AB"],
    "-Mset": ["-Mset", "1abcde-000001-AB", SINK],
    "-M": ["-Mvh", SINK],
    "-bs": ["-bs"],
    "-bh": ["-bh", "127.0.0.1"],
    "-bP": ["-bP", SINK],
    "-C behind an address": ["you@example.net", "-C", SINK],
    "--config": [f"--config={SINK}"],
    "alias |": ["pipe"],
    "alias /": ["file"],
    "alias quoted |": ["quoted"],
    "alias :include: |": ["included"],
    ".forward |": ["daemon"],
    ".forward /": ["bin"],
    "|": [f"|/usr/bin/touch {SINK}"],
    ":include:": [f":include:{SINK}"],
}


@pytest.mark.row("O1", "F3")
def test_options_of_old_exploits_and_local_deliveries_open_make_and_run_nothing(
    program: Program, tmp_path: Path
) -> None:
    """D3, E5, E6: the files that are touched are those of a plain delivery, and nothing is run; as strace sees it."""
    sink = tmp_path / "made"
    run = f"|/usr/bin/touch {sink}"
    for name, text in {
        "aliases": f'pipe: {run}\nfile: {sink}\nquoted: "{run}"\nincluded: :include:{tmp_path}/list\n',
        "list": f'"{run}", {sink}\n',
        "daemon.forward": f'"{run}"\n',
        "bin.forward": f"{sink}\n",
        "message": MESSAGE.decode(),
    }.items():
        (tmp_path / name).write_text(text)
    with Server() as server:
        program.configure(
            f'{program.smart_hosts(server)}{ME}qualify_domain = "client.example"\n'
            f'[redirect]\naliases = ["{tmp_path}/aliases"]\nforward = "{tmp_path}/{{user}}.forward"\n'
        )
        program.log_file.touch()
        cases = {"plain": ["you@example.net"], "aliases": ["you@example.net", "root"], **NOT_FOR_MAIL}
        cases |= {name: [*options, "you@example.net"] for name, options in IGNORED.items()}
        lines = "\n".join("\t".join(("-C", str(program.config), *argv)) for argv in cases.values())
        lines = lines.replace("{folder}", str(tmp_path))
        strace: list[str | Path] = [
            need("strace"),
            "-ff",
            "--seccomp-bpf",
            "-e",
            "trace=%file,%process",
            "-s",
            "300",
            "-o",
            tmp_path / "trace",
        ]
        done = subprocess.run(
            [*strace, sys.executable, "-I", "-S", "-c", EACH_CASE, REPOSITORY / "src", tmp_path / "message"],
            input=lines.encode(),
            capture_output=True,
            check=True,
        )
    assert not sink.exists()
    ended = dict(zip(cases, map(str.split, done.stdout.decode().splitlines()), strict=True))
    sent = {name for name, (_, status) in ended.items() if status == "0"}
    assert sent - {"-bi", "-bp", "-q", "-qff"} == {"plain", "aliases", *IGNORED}
    touched = {name: calls_of((tmp_path / f"trace.{pid}").read_text()) for name, (pid, _) in ended.items()}
    usual = touched["plain"] | touched["aliases"]
    assert any(str(program.config) in call for call in usual)
    for name in ended:
        # The program's own modules, such as the one for -v, are no files of anybody's choice.
        theirs = rf'\.forward"|/list"|"{REPOSITORY}/src/muawrap/'
        own = {call for call in touched[name] - usual if not re.search(theirs, call)}
        assert own == set(), name
        making = "O_CREAT|^(exec|v?fork|clone|mk|rename|link|symlink|unlink)"
        made = {call for call in touched[name] if re.search(making, call)}
        assert {call for call in made if f'"{program.log_file}"' not in call} == set(), name


def calls_of(trace: str) -> set[str]:
    """What one process asked of the kernel: the name of each call, its paths and its flags."""
    calls = re.findall(r"^(\w+)\((.*)\) += ", trace, re.MULTILINE)
    return {" ".join((name, *re.findall(r'"[^"]*"|\b[A-Z]+_[A-Z_]+', rest))) for name, rest in calls}


# -- what surrounds the program --------------------------------------------------------------------------------------


@pytest.mark.row("O5")
def test_a_hostile_folder_and_environment_change_no_byte(program: Program, tmp_path: Path) -> None:
    """O5: modules in the current directory and in the user's site, PYTHON* variables: the same message arrives."""
    trap = tmp_path / "trap"
    site = trap / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    site.mkdir(parents=True)
    for name in (
        "email",
        "ssl",
        "smtplib",
        "socket",
        "re",
        "tomllib",
        "muawrap",
        "site",
        "sitecustomize",
        "usercustomize",
    ):
        for folder in trap, site:
            (folder / f"{name}.py").write_text("import os; os.write(2, b'trapped'); os._exit(9)\n")
    (site / "trap.pth").write_text("import os; os._exit(9)\n")
    hostile = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(trap),
        **dict.fromkeys(
            ("PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "PYTHONPLATLIBDIR", "PYTHONPYCACHEPREFIX"), str(trap)
        ),
        **dict.fromkeys(("PYTHONSTARTUP", "ENV", "BASH_ENV"), str(trap / "re.py")),
        **dict.fromkeys(
            ("PYTHONINSPECT", "PYTHONVERBOSE", "PYTHONDEVMODE", "PYTHONTRACEMALLOC", "PYTHONDUMPREFS"), "1"
        ),
        "PYTHONWARNINGS": "error",
        "PYTHONBREAKPOINT": "trap.breakpoint",
        "PYTHONIOENCODING": "trap",
        "PYTHONEXECUTABLE": str(trap / "python"),
        "SSL_CERT_FILE": str(trap / "re.py"),
        "IFS": "/",
        "CDPATH": str(trap),
        "POSIXLY_CORRECT": "1",
    }
    texts = []
    for env, cwd in (None, None), (hostile, trap):
        with Server() as server:
            program.configure(f"{program.smart_hosts(server)}{ME}")
            done = program.run("you@example.net", stdin=MESSAGE, env=env, cwd=cwd)
            assert (done.status, done.out, done.err) == (0, b"", b"")
            (session,) = server.finished()
            texts.append((session.commands, server.accepted[0].data))
    assert texts[0] == texts[1]
    assert stat.S_ISDIR(trap.stat().st_mode)
