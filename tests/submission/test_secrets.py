"""Where a password may be, with real files, commands and a real keyring."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muawrap.failure import REFUSED, TRY_AGAIN, Failure
from muawrap.mail import Auth, Secret
from muawrap.submission import helper, keyrings, netrc, secrets
from tests.support.need import missing, need_module
from tests.support.program import Program
from tests.support.server import Server
from tests.support.user import WWW_DATA

OTHER_WAYS = "use password = { command = ... } or { file = ... }"


def password(*places: Secret) -> str:
    return secrets.password(Auth("alice", places))


def why_not(*places: Secret) -> Failure:
    with pytest.raises(Failure) as caught:
        password(*places)
    return caught.value


def shell(script: str) -> Secret:
    return Secret("command", ("/bin/sh", "-c", script))


def file(path: Path, content: bytes = b"s3cret\n", mode: int = 0o600) -> Secret:
    path.write_bytes(content)
    path.chmod(mode)
    return Secret("file", str(path))


def need_root() -> None:
    if os.getuid() != 0:
        missing("root, to give files away")


# -- files


@pytest.mark.parametrize("content", [b"s3cret", b"s3cret\n", b"s3cret\r\n", b"s3cret\nand a note\n"])
def test_a_password_file_holds_it_in_its_first_line(tmp_path: Path, content: bytes) -> None:
    """C1: pass(1) and people write notes below."""
    assert password(file(tmp_path / "pw", content)) == "s3cret"


@pytest.mark.row("F4")
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o640 | 0o020, 0o666])
def test_a_password_file_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    """C1: DESIGN 2, secrets in files."""
    failure = why_not(file(tmp_path / "pw", mode=mode))
    assert "writable by others" in failure.what
    assert failure.lead == REFUSED
    assert "s3cret" not in str(failure)


@pytest.mark.row("F4")
def test_a_password_file_that_everybody_can_read_is_refused_unless_it_is_roots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C1: container secrets are 0444 and root's; a user's own file is private."""
    secret = file(tmp_path / "pw", mode=0o444)
    if os.getuid() == 0:
        assert password(secret) == "s3cret"
        os.chown(tmp_path / "pw", 12345, -1)
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert "readable by everybody" in why_not(secret).what


@pytest.mark.row("F4")
@pytest.mark.parametrize("form", ["file", "netrc", "credential"])
def test_a_secret_is_ours_or_roots(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RELIABILITY F4: whoever else owns it chooses the password; neither his group nor being root helps."""
    need_root()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    path = tmp_path / "pw"
    file(path, b"default login alice password s3cret", mode=0o640)
    secret = Secret(form, "pw" if form == "credential" else str(path))
    assert "s3cret" in password(secret)
    os.chown(path, 12345, 8)
    failure = why_not(secret)
    what = "netrc" if form == "netrc" else "password"
    assert (failure.what, failure.lead) == (f"the {what} file {path} belongs to uid 12345", REFUSED)
    assert failure.advice == "chown it to root, unless uid 12345 is who sends"
    monkeypatch.setattr(os, "geteuid", lambda: WWW_DATA)
    assert why_not(secret).advice == "chown it to root or www-data"
    os.chown(path, WWW_DATA, 8)
    assert "s3cret" in password(secret)


def test_a_group_may_read_a_password_file(tmp_path: Path) -> None:
    """C1: root:mail 0640 is how a system file is shared."""
    assert password(file(tmp_path / "pw", mode=0o640)) == "s3cret"


@pytest.mark.parametrize("content", [b"", b"\n", b"\nsecond line\n"])
def test_an_empty_password_is_a_failure(tmp_path: Path, content: bytes) -> None:
    """C1: an empty first line is no password."""
    assert "is empty" in why_not(file(tmp_path / "pw", content)).what


def test_a_password_with_nul_is_a_failure(tmp_path: Path) -> None:
    """C1: NUL separates the fields of AUTH PLAIN."""
    assert "is not text" in why_not(file(tmp_path / "pw", b"a\0b\n")).what


@pytest.mark.row("F4")
def test_what_is_no_regular_file_holds_no_password(tmp_path: Path) -> None:
    """C1: a fifo must not hold us up."""
    os.mkfifo(tmp_path / "fifo", 0o600)
    assert "not a regular file" in why_not(Secret("file", str(tmp_path / "fifo"))).what
    assert "not a regular file" in why_not(Secret("file", str(tmp_path))).what
    assert "larger than" in why_not(file(tmp_path / "pw", b"x" * (secrets.LIMIT + 1))).what


def test_the_first_place_that_exists_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C1: absent places are passed over, and all are named where there is none."""
    nowhere, variable = Secret("file", str(tmp_path / "none")), Secret("env", "PW_OF_THIS_TEST")
    found = file(tmp_path / "pw")
    assert password(nowhere, variable, found, shell("exit 1")) == "s3cret"
    monkeypatch.setenv("PW_OF_THIS_TEST", "from the environment")
    assert password(nowhere, variable, found) == "from the environment"
    monkeypatch.delenv("PW_OF_THIS_TEST")
    failure = why_not(nowhere, variable)
    assert failure.what.startswith("no password for alice")
    assert str(tmp_path / "none") in failure.what
    assert "PW_OF_THIS_TEST" in failure.what


def test_a_command_that_is_not_there_is_passed_over_where_another_place_follows(tmp_path: Path) -> None:
    """muawrap.toml(5), SECRETS: the first that exists; what is there and fails is told."""
    nowhere, found = Secret("command", ("/no/such/pass", "show")), file(tmp_path / "pw")
    assert password(nowhere, found) == "s3cret"
    assert why_not(nowhere, nowhere).what.startswith("cannot run the password command /no/such/pass: ")
    assert why_not(nowhere, Secret("file", str(tmp_path / "none"))).what == (
        f"no password for alice: looked in the command /no/such/pass, then {tmp_path}/none"
    )
    assert why_not(shell("exit 1"), found).what == "the password command /bin/sh failed with exit status 1"
    assert why_not(Secret("command", (str(tmp_path),)), found).what.endswith(": Permission denied")


@pytest.mark.row("T7")
def test_a_literal_is_the_password_and_is_never_shown() -> None:
    """C7: not in a repr, not in a sentence."""
    assert password(Secret("literal", "s3cret")) == "s3cret"
    assert "s3cret" not in repr(Auth("alice", (Secret("literal", "s3cret"),)))


# -- systemd


def test_a_systemd_credential_is_read_where_systemd_puts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd.exec(5), LoadCredential=: 0400, in a folder that only the service may enter."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    file(tmp_path / "smtp", mode=0o400)
    assert password(Secret("credential", "smtp")) == "s3cret"
    failure = why_not(Secret("credential", "other"))
    assert failure.what == "no password for alice: looked in the systemd credential other"
    (tmp_path / "smtp").chmod(0o402)
    assert "writable by others" in why_not(Secret("credential", "smtp")).what


@pytest.mark.parametrize("folder", [None, "", "relative"])
def test_outside_a_service_there_are_no_credentials(folder: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """DESIGN 2: the next place of the list is looked at."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    if folder is not None:
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", folder)
    assert password(Secret("credential", "smtp"), Secret("literal", "s3cret")) == "s3cret"


@pytest.mark.parametrize("name", ["../etc/shadow", "a/b", "/etc/passwd", ".", ".."])
def test_a_credential_is_a_name_and_no_path(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DESIGN 2."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert why_not(Secret("credential", name)).what == f"{name} is no name of a systemd credential"


# -- netrc


NETRC = """\
# a comment, and "an open quote
machine one.example login alice password first # and a remark
machine TWO.example
    login "al ice"
    password "qu\\"oted p\\\\w"
macdef init
machine not.one login alice password macro
no words "of ours

machine three.example password anybodys
machine three.example login alice password second
machine four.example login alice account x
machine four.example user alice passwd third
machine five.example login alice password p#ss
default login alice password other
machine six.example login alice password unreachable
"""


@pytest.mark.parametrize(
    ("host", "user", "found"),
    [
        ("one.example", "alice", "first"),
        ("ONE.EXAMPLE", "alice", "first"),
        ("one.example", "Alice", None),
        ("two.example", "al ice", 'qu"oted p\\w'),
        ("two.example", "alice", "other"),
        ("not.one", "alice", "other"),
        ("three.example", "alice", "anybodys"),
        ("four.example", "alice", "third"),
        ("five.example", "alice", "p#ss"),
        ("six.example", "alice", "other"),
        ("seven.example", "bob", None),
    ],
)
def test_netrc_has_a_password_for_a_machine_and_a_login(
    host: str, user: str, found: str | None, tmp_path: Path
) -> None:
    """ftp(1), curl(1): quotes, comments, macros, the default and what comes after it."""
    secret = file(tmp_path / "netrc", NETRC.encode())._replace(form="netrc")
    auth = Auth(user, (secret, Secret("env", "NO_SUCH_VARIABLE")))
    if found is None:
        with pytest.raises(Failure, match=f"no password for {user}: looked in the netrc file {tmp_path}/netrc"):
            secrets.password(auth, (host,))
    else:
        assert secrets.password(auth, (host,)) == found
        assert secrets.password(auth, ("nowhere.example", host)) in (found, "other")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("machine a login b password s3cret\ns3cret\n", 2),
        ("\n\nmachine", 3),
        ("machine a password", 1),
        ('machine "" login a password b', 1),
        ("login alice password s3cret", 1),
        ('machine a login b password "s3cret\n', 1),
        ("machine a\nlogin b\npassw s3cret", 3),
        ("s3cret", 1),
    ],
)
def test_a_netrc_that_is_not_understood_is_told_by_its_line_alone(text: str, line: int, tmp_path: Path) -> None:
    """C7: whatever stands there may be a password."""
    secret = file(tmp_path / "netrc", text.encode())._replace(form="netrc")
    failure = why_not(secret)
    assert failure.what == f"{tmp_path}/netrc line {line} is not understood"
    assert "s3cret" not in f"{failure} {failure.advice}"


@pytest.mark.row("F4")
def test_a_netrc_is_a_secret_like_others(tmp_path: Path) -> None:
    """DESIGN 2: modes, size and kind; a missing one is passed over."""
    secret = file(tmp_path / "netrc", b"default password x", mode=0o622)._replace(form="netrc")
    assert "writable by others" in why_not(secret).what
    secret = file(tmp_path / "netrc", b"#" * (secrets.LIMIT + 1))._replace(form="netrc")
    assert "larger than" in why_not(secret).what
    assert password(Secret("netrc", str(tmp_path / "none")), Secret("literal", "x")) == "x"


@settings(max_examples=200)
@given(st.text('machinedefaultlogpsw \n\t"\\#', max_size=60) | st.text(max_size=40))
def test_whatever_stands_in_a_netrc_ends_with_a_password_or_one_line(text: str) -> None:
    """RULES A3: no traceback."""
    try:
        said = netrc.password(netrc.entries(text, "/netrc"), ("a",), "b")
    except Failure as failure:
        said = failure.what
        assert re.fullmatch(r"/netrc line \d+ is not understood", said)
    assert said is None or isinstance(said, str)


# -- tokens


def test_a_token_has_the_same_forms_and_a_name_of_its_own(tmp_path: Path) -> None:
    """DESIGN 2: the line says token where it is one."""
    helper_of_mine = Secret("command", ("/bin/sh", "-c", "echo ya29.token"))
    assert secrets.token(Auth("alice", token=(helper_of_mine,))) == "ya29.token"
    with pytest.raises(Failure) as caught:
        secrets.token(Auth("alice", token=(Secret("command", ("/bin/false",)),)))
    assert caught.value.what == "the token command /bin/false failed with exit status 1"
    with pytest.raises(Failure) as caught:
        secrets.token(Auth("alice", token=(Secret("file", str(tmp_path / "none")),)))
    assert caught.value.what == f"no token for alice: looked in {tmp_path}/none"
    assert caught.value.advice == "auth.token says where it is"


@pytest.mark.parametrize(
    ("mechanisms", "needed"),
    [((), True), (("PLAIN",), True), (("XOAUTH2", "PLAIN"), True), (("XOAUTH2",), False), (("EXTERNAL",), False)],
)
def test_a_password_is_looked_for_only_where_it_could_be_used(mechanisms: tuple[str, ...], needed: bool) -> None:
    """DESIGN 2: a keyring that asks for nothing is a nuisance."""
    assert secrets.needs_password(Auth("al", (Secret("literal", "x"),), mechanisms)) == needed
    assert not secrets.needs_password(Auth("al", (), mechanisms))


@pytest.mark.parametrize(
    ("password", "mechanisms", "needed"),
    [
        (False, (), True),
        (True, (), False),
        (True, ("PLAIN", "XOAUTH2"), True),
        (True, ("PLAIN",), False),
        (False, ("OAUTHBEARER",), True),
        (False, ("EXTERNAL",), False),
    ],
)
def test_a_token_is_looked_for_only_where_it_could_be_used(
    password: bool, mechanisms: tuple[str, ...], needed: bool
) -> None:
    """muawrap.toml(5), mechanisms: a token beside a password, only where it is listed."""
    places = (Secret("literal", "x"),)
    assert secrets.needs_token(Auth("al", places if password else (), mechanisms, token=places)) == needed
    assert not secrets.needs_token(Auth("al", places, mechanisms))


# -- commands


@pytest.mark.row("T8")
def test_a_command_prints_the_password_and_reads_nothing() -> None:
    """C1: standard input is empty and not the message; what it complains goes nowhere."""
    assert password(shell("cat; echo noise >&2; echo s3cret; echo more")) == "s3cret"


def test_a_command_is_not_given_to_a_shell(tmp_path: Path) -> None:
    """C1: its words are its words."""
    assert password(Secret("command", ("/bin/echo", "$HOME;", "`id`"))) == "$HOME; `id`"


@pytest.mark.row("T8")
def test_a_command_without_terminal_or_our_descriptors(tmp_path: Path) -> None:
    """C1: no descriptor but the standard ones, a session of its own."""
    reading, writing = os.pipe()
    try:
        os.set_inheritable(writing, True)
        assert password(shell(f"test ! -e /proc/self/fd/{writing} && echo closed")) == "closed"
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.row("T7", "T8")
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo s3cret; exit 3", "failed with exit status 3"),
        ("echo s3cret; kill -9 $$", "failed with signal 9"),
        ("exit 0", "is empty"),
        ("echo", "is empty"),
        ("yes s3cret", f"printed more than {secrets.LIMIT} octets"),
        ("printf 'a\\000b'", "is not text"),
    ],
)
def test_a_command_that_fails_is_named_and_its_output_is_not(script: str, reason: str) -> None:
    """C7: neither what it printed nor its arguments, which may tell as much."""
    failure = why_not(shell(script))
    assert reason in failure.what
    assert "/bin/sh" in failure.what
    assert "s3cret" not in f"{failure} {failure.advice}"
    assert failure.lead == REFUSED


def test_a_command_may_say_that_trying_again_helps() -> None:
    """sysexits(3): EX_TEMPFAIL, such as of a helper that cannot reach its server."""
    assert why_not(shell("exit 75")).lead == TRY_AGAIN


def test_a_command_that_is_missing_is_named() -> None:
    """C7: with the system's reason."""
    assert why_not(Secret("command", ("/no/such/pass", "show"))).what == (
        "cannot run the password command /no/such/pass: No such file or directory"
    )


@pytest.mark.row("T8")
@pytest.mark.parametrize("how", ["it prints nothing", "it prints and stays", "its child prints and stays"])
def test_a_command_that_hangs_is_killed_with_all_its_children(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C1: the whole process group, at the deadline."""
    monkeypatch.setattr(helper, "SECONDS", 0.5)
    os.mkfifo(tmp_path / "alive")
    alive = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    try:
        child = f"(exec 9>{tmp_path}/alive; exec sleep 1000)"
        script = {
            "it prints nothing": f"{child} & wait",
            "it prints and stays": f"exec 9>{tmp_path}/alive; echo s3cret; exec >&-; sleep 1000",
            "its child prints and stays": f"(exec 9>{tmp_path}/alive; echo s3cret; sleep 1000) & wait",
        }[how]
        failure = why_not(shell(script))
        assert "took longer than 0.5 s" in failure.what
        assert failure.lead == TRY_AGAIN
        poll = select.poll()
        poll.register(alive, 0)
        assert poll.poll(5000), "somebody still holds the fifo"
    finally:
        os.close(alive)


@pytest.mark.row("T8")
def test_a_command_that_has_ended_is_not_waited_for_though_its_child_has_the_pipe(tmp_path: Path) -> None:
    """muawrap.toml(5), SECRETS: gpg and pass leave agents behind, which stay."""
    left = shell(f"sleep 1000 & echo $! >{tmp_path}/pid; echo s3cret")
    try:
        assert password(left) == "s3cret"
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    failing = shell(f"sleep 1000 & echo $! >{tmp_path}/pid; echo s3cret; exit 3")
    try:
        assert why_not(failing).what == "the password command /bin/sh failed with exit status 3"
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_all_that_a_command_has_printed_is_there_when_it_has_ended(tmp_path: Path) -> None:
    """C1: to the last octet, whoever holds the pipe."""
    script = f"sleep 1000 & echo $! >{tmp_path}/pid; head -c 60000 /dev/zero | tr '\\0' x"
    try:
        assert password(shell(script)) == "x" * 60000
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


@pytest.mark.row("T8")
@pytest.mark.parametrize(("seconds", "limit"), [(0.2, "0.2"), (0.12345, "0.123"), (-1, "0"), (1e9, "0.5")])
def test_who_cannot_wait_so_long_says_for_how_long(seconds: float, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """muawrap.toml(5), timeouts.total: a command has what is left of it, and the line names that."""
    monkeypatch.setattr(helper, "SECONDS", 0.5)
    with pytest.raises(Failure) as caught:
        secrets.password(Auth("alice", (shell("sleep 1000"),)), (), seconds)
    assert caught.value.what == f"the password command /bin/sh took longer than {limit} s"
    with pytest.raises(Failure) as caught:
        secrets.token(Auth("alice", token=(shell("sleep 1000"),)), (), seconds)
    assert caught.value.what == f"the token command /bin/sh took longer than {limit} s"


# -- the keyring


@pytest.fixture
def keyring_program(program: Program) -> Program:
    """The program, which finds the packages of this Python."""
    need_module("keyring")
    need_module("keyrings.alt")
    return program


def keyring_environment(program: Program, backend: str = "keyrings.alt.file.PlaintextKeyring") -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": str(program.folder),
        "XDG_DATA_HOME": str(program.folder / "data"),
        "XDG_CONFIG_HOME": str(program.folder / "config"),
        "PYTHON_KEYRING_BACKEND": backend,
    }


def use_keyring(program: Program, server: Server, places: str = '{ keyring = "muawrap" }') -> None:
    program.configure(
        f'{Program.smart_hosts(server)}from = "me@client.example"\n'
        f'[auth]\nuser = "alice"\nallow_plaintext = true\npassword = {places}\n'
    )


def test_the_password_comes_from_the_keyring(keyring_program: Program) -> None:
    """C1: a real back end, asked by the program as installed."""
    environment = keyring_environment(keyring_program)
    store = "import keyring; keyring.set_password('muawrap', 'alice', 's3cret')"
    subprocess.run([sys.executable, "-c", store], env=environment, check=True, timeout=60)
    with Server(users={"alice": "s3cret"}) as server:
        use_keyring(keyring_program, server)
        result = keyring_program.run("you@example.net", stdin=b"hello\n", env=environment)
        assert (result.status, result.err) == (0, b"")
        [session] = server.finished()
        assert session.authenticated == "alice"
        assert len(session.accepted) == 1


@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        (
            "keyrings.alt.file.PlaintextKeyring",
            "no password for alice: looked in the keyring (service muawrap); DBUS_SESSION_BUS_ADDRESS is not set",
        ),
        ("keyring.backends.fail.Keyring", "there is no keyring here, for DBUS_SESSION_BUS_ADDRESS is not set"),
        ("no.such.backend", "the keyring cannot be used: ModuleNotFoundError"),
    ],
)
def test_a_keyring_without_the_password_is_a_failure_before_any_connection(
    keyring_program: Program, backend: str, reason: str
) -> None:
    """C7: one line, and nobody was called."""
    with Server(users={"alice": "s3cret"}) as server:
        use_keyring(keyring_program, server)
        environment = keyring_environment(keyring_program, backend)
        result = keyring_program.run("you@example.net", stdin=b"hello\n", env=environment)
        assert result.status == 1
        assert result.sentence.startswith("sendmail: not sent, refused: ")
        assert reason in result.sentence
        assert result.sentence.endswith(f"(cron and ssh have no session and no keyring: {OTHER_WAYS})")
        assert server.finished() == []


def test_a_keyring_that_was_asked_in_a_session_has_no_word_on_the_session(
    keyring_program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C7: the advice is about what is missing."""
    environment = keyring_environment(keyring_program)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere")
    failure = why_not(Secret("keyring", "muawrap"))
    assert failure.what == "no password for alice: looked in the keyring (service muawrap)"
    assert failure.advice == "auth.password says where it is"


@pytest.mark.parametrize("backend", ["keyring.backends.fail.Keyring", "keyring.backends.SecretService.Keyring"])
def test_without_a_keyring_the_next_place_is_looked_at(keyring_program: Program, backend: str) -> None:
    """muawrap.toml(5), SECRETS: the first that exists; one configuration for the desktop and for its cron."""
    secret = file(keyring_program.folder / "pw")
    with Server(users={"alice": "s3cret"}) as server:
        use_keyring(keyring_program, server, f'[{{ keyring = "muawrap" }}, {{ file = "{secret.value}" }}]')
        environment = keyring_environment(keyring_program, backend)
        result = keyring_program.run("you@example.net", stdin=b"hello\n", env=environment)
        assert (result.status, result.err) == (0, b"")
        assert [session.authenticated for session in server.finished()] == ["alice"]
        (keyring_program.folder / "pw").unlink()
        result = keyring_program.run("you@example.net", stdin=b"hello\n", env=environment)
    assert (
        f"looked in the keyring (service muawrap), then {secret.value}; DBUS_SESSION_BUS_ADDRESS is not set"
        in result.sentence
    )


def test_an_answer_of_the_keyring_that_is_no_password_is_told(keyring_program: Program) -> None:
    """RULES A3: more than any password, and no traceback."""
    environment = keyring_environment(keyring_program)
    store = f"import keyring; keyring.set_password('muawrap', 'alice', 's' * {keyrings.LIMIT})"
    subprocess.run([sys.executable, "-c", store], env=environment, check=True, timeout=60)
    with Server(users={"alice": "s3cret"}) as server:
        use_keyring(keyring_program, server)
        result = keyring_program.run("you@example.net", stdin=b"hello\n", env=environment)
        assert server.finished() == []
    assert f"the keyring answered with more than {keyrings.LIMIT} octets" in result.sentence
    assert result.sentence.endswith(f"({OTHER_WAYS})")


def test_the_keyring_has_no_more_time_than_is_left(keyring_program: Program) -> None:
    """muawrap.toml(5), timeouts.total."""
    with pytest.raises(Failure) as caught:
        secrets.password(Auth("alice", (Secret("keyring", "muawrap"),)), (), 0)
    assert caught.value.what == "the keyring did not answer within 0 s"
    assert caught.value.lead == TRY_AGAIN
