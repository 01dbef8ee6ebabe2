"""The password is told nowhere: not in words, arguments, environments, descriptors, images of memory or errors."""

from __future__ import annotations

import itertools
import os
import re
import resource
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from muawrap import config
from muawrap.failure import Failure
from tests.submission.offering import failure_of, login, offer, smart_host
from tests.support.canary import CANARY, FORMS, assert_silent, forms, leaks
from tests.support.need import need
from tests.support.program import Program
from tests.support.server import Action, Server, Then, Wait
from tests.support.user import NOBODY, WWW_DATA

ME = 'from = "me@client.example"\n'
MESSAGE = b"Subject: hello\n\nHello.\n"
USERS = {"alice": CANARY}
ECHO = f"{CANARY} czNjcmV0 AGFsaWNlAHMzY3JldA== 733363726574"  # as it is, base64 of it and of PLAIN, hexadecimal


def with_password(program: Program, *servers: Server, password: str = f'"{CANARY}"', user: str = "alice") -> None:
    """A configuration with AUTH in the clear, which these tests do not care about."""
    auth = f'[auth]\nuser = "{user}"\npassword = {password}\nallow_plaintext = true\n'
    program.configure(f"{program.smart_hosts(*servers)}{ME}{auth}")


# -- in words --------------------------------------------------------------------------------------------------------

STAGES = ("AUTH", "MAIL", "RCPT", "DATA", "dot")
KINDS = {
    "refused": "550 {}",
    "for now": "450 {}",
    "no reply": "{}",
    "wrong class": "334 {}",
    "several": "550-{0}\n550 {0}",
}


@pytest.mark.row("T7", "G8")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stage", STAGES)
def test_a_server_that_repeats_the_password_is_masked(stage: str, kind: str) -> None:
    """C7: in the trace and in the sentence, at every stage, in all forms that it could have come by."""
    told: list[str] = []
    with Server({stage: KINDS[kind].format(ECHO)}, users=USERS) as server:
        host = smart_host(server, policy="none", auth=login(allow_plaintext=True))
        failure = failure_of(offer(host), lambda mark, line: told.append(line))
    whole = "\n".join([*told, failure.sentence()])
    assert_silent(whole.encode("utf-8", "backslashreplace"))
    assert "***" in whole


@pytest.mark.row("T7")
@pytest.mark.parametrize("stage", ["greeting", "EHLO", "AUTH"])
def test_a_second_host_that_knows_the_password_already_is_masked_from_its_first_word(stage: str) -> None:
    """C1, C7: the password of a list meets all its hosts."""
    with (
        Server({"AUTH": "535 no"}, users=USERS) as one,
        Server({stage: f"421 {ECHO}", "HELO": f"421 {ECHO}"}, users=USERS) as two,
    ):
        hosts = [smart_host(server, policy="none", auth=login(allow_plaintext=True)) for server in (one, two)]
        failure = failure_of(offer(*hosts))
    assert len(two.sessions) == 1
    assert_silent(failure.sentence().encode("utf-8", "backslashreplace"))
    assert "*** *** *** ***" in failure.sentence()


@pytest.mark.row("T7", "G8")
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256", "OAUTHBEARER", "XOAUTH2"])
@pytest.mark.parametrize("verdict", ["250 2.0.0", "554 5.6.0"])
def test_neither_v_nor_the_log_tells_what_the_server_repeats(program: Program, verdict: str, mechanism: str) -> None:
    """A3, C7: every run is searched for the password, and here it has every reason to be there."""
    with Server({"dot": f"{verdict} {ECHO}"}, users=USERS, mechanisms=(mechanism,)) as server:
        with_password(program, server)
        with program.config.open("a") as file:
            file.write(f'mechanisms = ["{mechanism}"]\ntoken = "{CANARY}"\n')
        done = program.run("-v", "you@example.net", stdin=MESSAGE)
        [session] = server.finished()
        assert session.authenticated == "alice"
    assert done.status == (0 if verdict.startswith("2") else 1)
    assert f">>> AUTH {mechanism}".encode() in done.err
    assert b"***" in done.err
    assert f"{verdict} *** ***" in program.log


BROKEN = (
    'password = "s3cret\n',
    "password = 's3cret\n",
    "password = s3cret\n",
    'password = "s3cret" "s3cret"\n',
    'password = "s3cret\\q"\n',
    'password = ["s3cret", 5]\n',
    'password = { literal = "s3cret" }\n',
    'password = { file = 5, command = "s3cret" }\n',
    'password = { command = ["echo", 5, "s3cret"] }\n',
    'passwort = "s3cret"\n',
    'pass = { word = "s3cret" }\n',
    'password = "s3cret"\npassword = "s3cret"\n',
    'token = ["s3cret", 5]\n',
    'password = "s3cret"\n[auth.password]\nx = 1\n',
)


@pytest.mark.row("T7")
@pytest.mark.parametrize("line", BROKEN)
def test_no_mistake_in_a_configuration_is_told_with_the_password_in_it(line: str, tmp_path: Path) -> None:
    """C7: the sentence names file, line and key, and that is enough."""
    path = tmp_path / "muawrap.toml"
    path.write_text(f'smart_hosts = ["submissions://smtp.example.org"]\n[auth]\nuser = "al"\n{line}')
    path.chmod(0o600)
    with pytest.raises(Failure) as caught:
        config.load(str(path), {})
    assert str(path) in caught.value.what
    assert_silent(f"{caught.value.sentence()} {caught.value.advice}".encode())


@pytest.mark.row("T7")
@pytest.mark.parametrize(
    "variables",
    [
        {"MUAWRAP_SMART_HOSTS": "submissions://al:s3cret@smtp.example.org"},
        {"MUAWRAP_SMART_HOSTS": "smtp://a.example", "MUAWRAP_AUTH_PASSWORD": "s3cret"},
        {"MUAWRAP_SMART_HOSTS": "smtp://a.example", "MUAWRAP_AUTH_USER": "al", "MUAWRAP_AUTH_PASWORD": "s3cret"},
        {"MUAWRAP_AUTH_USER": "al", "MUAWRAP_AUTH_PASSWORD": "s3cret"},
        {"MUAWRAP_AUTH_PASSWORD": "s3cret", "MUAWRAP_AUTH_PASSWORD_FILE": "/nowhere"},
    ],
)
def test_no_mistake_in_the_environment_is_told_with_the_password_in_it(variables: dict[str, str]) -> None:
    """C7: the sentence names the variable."""
    with pytest.raises(Failure) as caught:
        config.load(None, variables)
    assert_silent(f"{caught.value.sentence()} {caught.value.advice}".encode())


# -- what other processes can see ------------------------------------------------------------------------------------


@pytest.mark.row("T7", "T8")
@pytest.mark.parametrize("form", ["literal", "file", "command", "keyring"])
def test_no_process_is_given_the_password(program: Program, tmp_path: Path, form: str) -> None:
    """C7: all that is ever run is what the configuration names, word by word; its environment is the caller's."""
    (tmp_path / "pw").write_text(f"{CANARY}\n")
    (tmp_path / "pw").chmod(0o600)
    password = {
        "literal": f'"{CANARY}"',
        "file": f'{{ file = "{tmp_path}/pw" }}',
        "command": f'{{ command = ["/bin/cat", "{tmp_path}/pw"] }}',
        "keyring": '{ keyring = "muawrap" }',
    }[form]
    user = "al; touch made `touch made` $(touch made)"
    trace = tmp_path / "trace"
    with Server(users={user: CANARY}) as server:
        with_password(program, server, password=password, user=user)
        strace: list[str | Path] = [
            need("strace"),
            "-f",
            "-v",
            "-s",
            "4096",
            "-e",
            "trace=execve,execveat",
            "-o",
            trace,
        ]
        command: list[str | Path] = [*strace, program.named("sendmail"), "-C", program.config, "you@example.net"]
        environment = {"PATH": "/usr/bin:/bin", "ONE": "1"}
        if form == "keyring":
            environment.update(XDG_DATA_HOME=str(tmp_path), PYTHON_KEYRING_BACKEND="keyrings.alt.file.PlaintextKeyring")
            store = f"import keyring; keyring.set_password('muawrap', {user!r}, {CANARY!r})"
            subprocess.run([sys.executable, "-c", store], env=environment, check=True)
        subprocess.run(command, input=MESSAGE, env=environment, cwd=tmp_path, capture_output=True, check=True)
        assert server.accepted
    assert not (tmp_path / "made").exists()
    runs = re.findall(r"execve\((.*)\) = 0", trace.read_text())
    assert len(runs) == 2 + (form in ("command", "keyring"))  # sh, Python, and what else
    assert_silent("\n".join(runs).encode())
    if form == "keyring":
        assert re.search(r'"-I", "[^"]*/keyring_child\.py"\], \[', runs[-1]), "service and user are told by a pipe"
    if form == "command":
        assert f'["/bin/cat", "{tmp_path}/pw"]' in runs[-1]
        names = set(re.findall(r'"(\w+)=', runs[-1]))
        assert names - {"PWD", "LC_CTYPE"} == {"PATH", "ONE"}  # those of sh and of Python itself
        assert user not in runs[-1]


@pytest.mark.row("T8")
def test_a_password_command_has_nothing_of_ours(program: Program, tmp_path: Path) -> None:
    """C1: no mail on its standard input, no configuration, connection or message among its descriptors."""
    seen = tmp_path / "seen"
    script = f"for one in 0 1 2 3 4 5 6 7 8 9; do readlink /proc/$$/fd/$one || echo none; done >{seen}; echo {CANARY}"
    with Server(users=USERS) as server:
        with_password(program, server, password=f'{{ command = ["/bin/sh", "-c", "{script}"] }}')
        done = program.run("-i", "you@example.net", stdin=MESSAGE + b"x\n" * 1_000_000)
        assert (done.status, done.err) == (0, b"")
    null, output, errors, *more = seen.read_text().splitlines()
    assert (null, errors) == ("/dev/null", "/dev/null")
    assert output == str(seen)
    assert more == ["none"] * 7


class Reached(Action):
    """Say that the client has come this far."""

    def __init__(self, event: threading.Event) -> None:
        self.event = event

    def perform(self, channel: object) -> None:
        self.event.set()


@pytest.fixture
def public(public: Program) -> Program:
    """The program where everybody may run it, and that of its configuration."""
    public.config.parent.mkdir()
    return public


def images() -> None:
    """As large an image of memory as may be, for preexec_fn."""
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))


def no_images() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def stalled(program: Program, cwd: Path, what: Any, **popen: Any) -> int:
    """Run the program up to DATA, let `what` look at the process, and end it; its exit status."""
    reached, go = threading.Event(), threading.Event()
    with Server({"DATA": Then(Reached(reached), Wait(go))}, users=USERS) as server:
        with_password(program, server)
        if "user" in popen:
            program.config.parent.chmod(0o755)
            os.chown(program.config, popen["user"], popen["group"])
        command: list[str | Path] = [program.named("sendmail"), "-C", program.config, "you@example.net"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=cwd, env={"PATH": "/usr/bin:/bin"}, **popen
        ) as process:
            assert process.stdin is not None
            assert process.stderr is not None
            process.stdin.write(MESSAGE)
            process.stdin.close()
            try:
                assert reached.wait(60)
                what(process)
            finally:
                go.set()
            assert_silent(process.stderr.read())
    return process.returncode


@pytest.mark.row("T7")
def test_proc_tells_nothing_and_no_image_of_memory_may_be_made(program: Program, tmp_path: Path) -> None:
    """C7: arguments and environment while the password is in use, and the limit that stops piped images, too."""
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]

    def look(process: subprocess.Popen[bytes]) -> None:
        proc = Path(f"/proc/{process.pid}")
        assert b"-I\0-S\0" in (proc / "cmdline").read_bytes()
        assert_silent((proc / "cmdline").read_bytes(), (proc / "environ").read_bytes())
        found = re.search(r"^Max core file size +(\w+) +(\w+)", (proc / "limits").read_text(), re.MULTILINE)
        assert found
        assert found.groups() == (("1", "1") if hard else ("0", "0"))

    assert stalled(program, tmp_path, look, preexec_fn=images) == 0


@pytest.mark.row("T7")
def test_where_images_of_memory_are_forbidden_they_stay_so(public: Program) -> None:
    """C7: a user who may not raise the limit from 0 to 1 keeps it at 0, and sends."""

    def look(process: subprocess.Popen[bytes]) -> None:
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        found = re.search(r"^Max core file size +(\w+) +(\w+)", limits, re.MULTILINE)
        assert found
        assert found.groups() == ("0", "0")

    as_nobody: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    assert stalled(public, public.folder, look, **as_nobody, preexec_fn=no_images) == 0


# -- what several users share ----------------------------------------------------------------------------------------

MAIL, DAEMON = 8, 1  # a group and a user of every Debian


@pytest.mark.row("F4", "T7")
@pytest.mark.parametrize("form", ["file", "netrc", "credential"])
def test_a_group_shares_a_password_and_others_are_told_that_they_are_not_in_it(public: Program, form: str) -> None:
    """muawrap.toml(5), SECRETS: a configuration for all, root:mail 0640 for the password; two are in, one is not.

    The third is told by the name of the group, and the host has not been contacted.
    """
    secret = public.folder / "password"
    secret.write_text(f"machine 127.0.0.1 login alice password {CANARY}\n" if form == "netrc" else f"{CANARY}\n")
    os.chown(secret, 0, MAIL)
    secret.chmod(0o640)
    value = "password" if form == "credential" else str(secret)
    env = {"PATH": "/usr/bin:/bin", "CREDENTIALS_DIRECTORY": str(public.folder)}
    with Server(users=USERS) as server:
        with_password(public, server, password=f'{{ {form} = "{value}" }}')
        public.config.write_text(f'log = "none"\n{public.config.read_text().replace("log =", "#log =")}')
        public.config.parent.chmod(0o755)
        public.config.chmod(0o644)
        for user in NOBODY, WWW_DATA:
            done = public.run("you@example.net", stdin=MESSAGE, env=env, user=user, group=user, extra_groups=[MAIL])
            assert (done.status, done.err) == (0, b"")
        done = public.run("you@example.net", stdin=MESSAGE, env=env, user=DAEMON, group=DAEMON, extra_groups=[])
        assert [session.authenticated for session in server.finished()] == ["alice", "alice"]
    assert done.status == 1
    assert f"cannot read {secret}: Permission denied" in done.sentence
    assert "(the group mail may read it, and daemon is not in that group)" in done.sentence
    secret.chmod(0o644)
    os.chown(secret, NOBODY, MAIL)
    done = public.run("you@example.net", stdin=MESSAGE, env=env, user=NOBODY, group=NOBODY, extra_groups=[])
    assert "is readable by everybody" in done.sentence


# -- the search itself -----------------------------------------------------------------------------------------------


@pytest.mark.row("G8")
def test_the_password_is_found_in_every_form(program: Program) -> None:
    """G8: wherever it stands, in base64 at all three offsets."""
    import base64

    for before, after in itertools.product((b"", b"x", b"xy", b"\0alice\0"), (b"", b"z", b"zz", b"\n")):
        text = before + CANARY.encode() + after
        for shown in text, text.hex().encode(), base64.b64encode(text), base64.urlsafe_b64encode(text):
            assert leaks(b"... " + shown + b" ..."), shown
    assert not leaks(b"s3kret czNrcmV0 " + b"s3kret".hex().encode())
    assert len(FORMS) == len(forms(CANARY)) >= 5
