"""`muawrap password`: what it says where there is no keyring to ask, and how it asks people."""

from __future__ import annotations

import os
import pty
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import own_dns
from tests.support.canary import CANARY, assert_silent
from tests.support.nameserver import NameServer
from tests.support.need import need_module
from tests.support.program import REPOSITORY, Program

START = [sys.executable, "-c", "from muawrap.admin.program import main; main()", "password"]
HOST = 'smart_hosts = ["submissions://smtp.example.org"]\n'


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Where the keyring is a file."""
    need_module("keyrings.alt")
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "PYTHON_KEYRING_BACKEND": "keyrings.alt.file.PlaintextKeyring",
        "PYTHONPATH": str(REPOSITORY / "src"),
        "LANG": "C.UTF-8",
    }


def run(env: dict[str, str], *words: str | Path, told: bytes = b"") -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*START, *words], input=told, capture_output=True, env=env, check=False)
    assert_silent(done.stdout, done.stderr)
    return subprocess.CompletedProcess([], done.returncode, done.stdout.decode(), done.stderr.decode())


def configuration(program: Program, text: str) -> Path:
    program.configure(HOST + text)
    return program.config


ELSEWHERE = {
    'password = "s3cret"': "the configuration",
    'password = { file = "/etc/muawrap/password" }': "/etc/muawrap/password",
    'password = { command = ["pass", "show", "mail"] }': "the command pass",
    'password = { netrc = "/etc/netrc" }': "the netrc file /etc/netrc",
    'password = { credential = "smtp" }': "the systemd credential smtp",
    'password = [{ env = "PW" }, { file = "/x" }]': "the environment variable PW, then /x",
}


@pytest.mark.parametrize(("form", "where"), ELSEWHERE.items())
def test_what_is_not_in_the_keyring_is_changed_where_it_is(
    form: str, where: str, program: Program, env: dict[str, str]
) -> None:
    """muawrap(1), password: set and delete are for the keyring; for the others the line says where they are."""
    config = configuration(program, f'[auth]\nuser = "al"\n{form}\n')
    for what in "set", "delete":
        done = run(env, what, "-C", config, told=b"new\n")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == (
            f"muawrap: the password of al is not kept in the keyring, but in {where} (change it there)\n"
        )


def test_each_secret_is_looked_for_and_none_is_shown(program: Program, env: dict[str, str], tmp_path: Path) -> None:
    """muawrap(1), password test: those of all hosts, accounts, routes and holds; tokens too; 1 where one is missing."""
    (tmp_path / "pw").write_text(f"{CANARY}\n")
    (tmp_path / "pw").chmod(0o600)
    (tmp_path / "netrc").write_text(f"machine smtp.corp.example login corp password {CANARY}\n")
    (tmp_path / "netrc").chmod(0o600)
    tables = (
        f'[auth]\nuser = "al"\npassword = {{ file = "{tmp_path}/pw" }}\n'
        '[[route]]\nrecipients = ["*@corp.example"]\nsmart_hosts = ["submission://smtp.corp.example"]\n'
        f'auth = {{ user = "corp", password = {{ netrc = "{tmp_path}/netrc" }} }}\n'
        '[[account]]\nusers = ["web"]\nsmart_hosts = ["submission://mail.web.example"]\n'
        f'auth = {{ user = "web", token = {{ command = ["/bin/cat", "{tmp_path}/pw"] }} }}\n'
        '[hold.branch]\nto = ["submission://branch.example"]\nauth = { user = "b", password = { env = "NO_SUCH" } }\n'
    )
    config = configuration(program, tables)
    done = run(env, "test", "-C", config)
    assert done.returncode == 1
    assert re.sub(r"\d\.\d\d s", "T", done.stdout).splitlines() == [
        f"password of al: found in {tmp_path}/pw, T",
        "token of web: found in the command /bin/cat, T",
        f"password of corp for smtp.corp.example: found in the netrc file {tmp_path}/netrc, T",
    ]
    assert done.stderr == (
        "muawrap: password of b: no password for b: looked in the environment variable NO_SUCH"
        " (auth.password says where it is)\n"
    )
    assert run(env, "test", "-C", config, "--user", "corp").returncode == 0
    assert "names no password of nobody" in run(env, "test", "-C", config, "--user", "nobody").stderr


def netrc(folder: Path, machine: str) -> str:
    """A file that has the password of alice at one machine, as it stands in a configuration."""
    path = folder / "netrc"
    path.write_text(f"machine {machine} login alice password {CANARY}\n")
    path.chmod(0o600)
    return f'[auth]\nuser = "alice"\npassword = {{ netrc = "{path}" }}\n'


def test_a_netrc_is_asked_once_for_each_host(program: Program, env: dict[str, str]) -> None:
    """muawrap(1), password test: as a delivery would, for which the first of these hosts has no password."""
    hosts = '["submissions://smtp.client.example", "submissions://mail.client.example", "smtp://mail.client.example"]'
    program.configure(f"smart_hosts = {hosts}\n{netrc(program.folder, 'mail.client.example')}allow_plaintext = true\n")
    done = run(env, "test", "-C", program.config)
    path = program.folder / "netrc"
    assert done.returncode == 1
    assert re.sub(r"\d\.\d\d s", "T", done.stdout) == (
        f"password of alice for mail.client.example: found in the netrc file {path}, T\n"
    )
    assert done.stderr == (
        "muawrap: password of alice for smtp.client.example:"
        f" no password for alice: looked in the netrc file {path} (auth.password says where it is)\n"
    )
    done = run(env, "set", "-C", program.config, told=b"new\n")
    assert done.stderr == (
        f"muawrap: the password of alice is not kept in the keyring, but in the netrc file {path} (change it there)\n"
    )


def test_dns_is_asked_for_the_machine_that_a_netrc_may_name(program: Program, env: dict[str, str]) -> None:
    """muawrap.toml(5), SECRETS: of srv:// the domain, or a host under it that DNS names; else the entry fails."""
    address = own_dns.own_address()
    before = own_dns.resolving(program.folder, f"nameserver {address}\n")
    program.configure(f'smart_hosts = ["srv://client.example"]\n{netrc(program.folder, "mail.client.example")}')

    def test() -> subprocess.CompletedProcess[str]:
        words = [*before, *START, "test", "-C", str(program.config)]
        return subprocess.run(words, capture_output=True, text=True, env=env, check=False)

    zones = {"_submissions._tcp.client.example": ["SRV 0 1 465 mail.client.example."]}
    with NameServer(zones, host=address, port=53):
        done = test()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(
        "password of alice for mail.client.example or client.example: found in the netrc file"
    )
    with NameServer({}, host=address, port=53):
        done = test()
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        r"muawrap: password of alice: client\.example: DNS does not know _submissions\._tcp\.client\.example.*\n",
        done.stderr,
    )


def test_what_no_delivery_asks_for_is_not_looked_for(program: Program, env: dict[str, str]) -> None:
    """muawrap(1), password test: a token beside a password only where it is listed (muawrap.toml(5), mechanisms)."""
    both = f'[auth]\nuser = "al"\npassword = "{CANARY}"\ntoken = {{ command = ["/bin/false"] }}\n'
    done = run(env, "test", "-C", configuration(program, both))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("password of al: found in the configuration, ")
    done = run(env, "test", "-C", configuration(program, f'{both}mechanisms = ["XOAUTH2", "PLAIN"]\n'))
    assert (done.returncode, done.stderr) == (
        1,
        "muawrap: token of al: the token command /bin/false failed with exit status 1 (run it by hand)\n",
    )
    tables = f'{both}mechanisms = ["EXTERNAL"]\n[tls]\nclient_cert = "/etc/ssl/us.pem"\n'
    done = run(env, "test", "-C", configuration(program, tables))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "muawrap: no delivery asks for the password of al and token of al (auth.mechanisms names none that uses it)\n"
    )


def test_what_the_keyring_has_not_kept_is_told(env: dict[str, str]) -> None:
    """muawrap(1), password set: it is read back, as a delivery would; the back end for nothing keeps nothing."""
    env = {**env, "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"}
    done = run(env, "set", "--user", "al", "--service", "muawrap", told=b"pw\n")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "muawrap: the password of al was put into the keyring (service muawrap), which has not kept it"
        " (python3 -m keyring --list-backends tells the back ends, and PYTHON_KEYRING_BACKEND chooses one)\n"
    )


def test_where_there_are_several_one_is_chosen(program: Program, env: dict[str, str]) -> None:
    """muawrap(1), password: --user and --service choose, and the line says how."""
    config = configuration(
        program,
        '[auth]\nuser = "al"\npassword = { keyring = "one" }\n'
        '[[account]]\nusers = ["web"]\nauth = { user = "web", password = { keyring = "two" } }\n',
    )
    done = run(env, "set", "-C", config, told=b"pw\n")
    assert done.returncode == 1
    assert done.stderr.endswith("(choose one: --user al --service one or --user web --service two)\n")
    for chosen in ["--user", "web"], ["--service", "two"]:
        done = run(env, "set", "-C", config, *chosen, told=b"pw\n")
        assert done.stdout == "the password of web is now in the keyring (service two)\n"
    assert run(env, "test", "-C", config, "--service", "one").returncode == 1
    assert run(env, "test", "-C", config, "--service", "two").returncode == 0


def test_with_user_and_service_no_configuration_is_needed(env: dict[str, str]) -> None:
    """muawrap(1), password: the first one is put in before there is one."""
    entry = ["--user", "al", "--service", "muawrap"]
    assert run(env, "test", *entry).returncode == 1
    assert run(env, "set", *entry, told=f"{CANARY}\n".encode()).returncode == 0
    assert run(env, "test", *entry).returncode == 0
    assert run(env, "delete", *entry).returncode == 0
    assert run(env, "test", *entry).returncode == 1


@pytest.mark.parametrize(
    ("told", "said"),
    [(b"", "empty"), (b"\n", "empty"), (b"a\0b", "not text"), (b"\xff\n", "no UTF-8"), (b"x" * 70_000, "longer than")],
)
def test_what_is_no_password_is_refused(told: bytes, said: str, env: dict[str, str]) -> None:
    """muawrap(1), password set: one line of standard input."""
    done = run(env, "set", "--user", "al", "--service", "muawrap", told=told)
    assert done.returncode == 1
    assert re.fullmatch(rf"muawrap: the password on standard input is {said}.*\n", done.stderr)


def images() -> None:
    """As large an image of memory as may be, for preexec_fn."""
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))


@pytest.mark.parametrize("second", [CANARY, "a slip"])
def test_on_a_terminal_it_is_asked_for_twice_and_not_shown(second: str, env: dict[str, str]) -> None:
    """muawrap(1), password set: without echo, and again after a slip; RELIABILITY T7: no image of memory meanwhile."""
    master, terminal = pty.openpty()
    words = [*START, "set", "--user", "al", "--service", "terminal"]
    process = subprocess.Popen(
        words,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=env,
        start_new_session=True,
        close_fds=True,
        preexec_fn=images,
    )
    os.close(terminal)
    answers = [CANARY, second] + ([CANARY, CANARY] if second != CANARY else [])
    shown = b""
    try:
        for answer in answers:
            while not shown.endswith(b": "):
                shown += os.read(master, 1024)
            limits = Path(f"/proc/{process.pid}/limits").read_text()
            assert re.search(r"^Max core file size +[01] ", limits, re.MULTILINE), "a crash would write it down"
            os.write(master, answer.encode() + b"\n")
            shown += b"|"
        while b"is now in" not in shown:
            shown += os.read(master, 1024)
        assert process.wait(20) == 0
    finally:
        os.close(master)
        process.wait(20)
    assert_silent(shown)
    assert shown.count(b"password of al: ") == len(answers) // 2
    assert (b"do not match" in shown) == (second != CANARY)
    assert run(env, "test", "--user", "al", "--service", "terminal").returncode == 0
