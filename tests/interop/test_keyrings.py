"""Real keyrings: gnome-keyring on a session bus of its own, the file of keyrings.alt, and none at all."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from muawrap.failure import TRY_AGAIN, Failure
from muawrap.submission import helper, keyrings
from tests.support.canary import CANARY, assert_silent
from tests.support.keyring import Desktop, Prompter, without_session
from tests.support.need import need_module
from tests.support.program import REPOSITORY, Program
from tests.support.server import Server

MESSAGE = b"Subject: hello\n\nHello.\n"
OTHER_WAYS = "use password = { command = ... } or { file = ... }"


@pytest.fixture(scope="module")
def desktop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desktop]:
    with Desktop(tmp_path_factory.mktemp("desktop")) as made:
        yield made


def muawrap(*words: str, env: dict[str, str], told: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """`muawrap password` of this checkout."""
    start = [sys.executable, "-c", "from muawrap.admin.program import main; main()", "password"]
    env = {**env, "PYTHONPATH": str(REPOSITORY / "src"), "LANG": "C.UTF-8"}
    done = subprocess.run([*start, *words], input=told, capture_output=True, env=env, check=False)
    assert_silent(done.stdout, done.stderr)
    return done


def configure(program: Program, server: Server, user: str = "al@example.org") -> str:
    program.configure(
        f'{program.smart_hosts(server)}from = "me@client.example"\n'
        f'[auth]\nuser = "{user}"\npassword = {{ keyring = "muawrap" }}\nallow_plaintext = true\n'
    )
    return str(program.config)


def back_ends(desktop: Desktop, folder: Path) -> dict[str, dict[str, str]]:
    need_module("keyrings.alt")
    file = {
        **without_session(folder),
        "XDG_DATA_HOME": str(folder / "data"),
        "PYTHON_KEYRING_BACKEND": "keyrings.alt.file.PlaintextKeyring",
    }
    return {"secret service": desktop.environment, "file": file}


@pytest.mark.parametrize("back_end", ["secret service", "file"])
def test_a_password_is_put_in_found_used_and_taken_out(back_end: str, desktop: Desktop, program: Program) -> None:
    """muawrap(1), password; DESIGN 2: the whole life of a password, by both programs."""
    env = back_ends(desktop, program.folder)[back_end]
    user = f"al@{back_end.replace(' ', '.')}.example"
    with Server(users={user: CANARY}) as server:
        config = configure(program, server, user)
        done = muawrap("set", "-C", config, env=env, told=CANARY.encode() + b"\nand more\n")
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.decode() == f"the password of {user} is now in the keyring (service muawrap)\n"
        done = muawrap("test", "-C", config, env=env)
        assert done.stdout.decode().startswith(f"password of {user}: found in the keyring (service muawrap), 0.")
        sent = program.run("you@example.net", stdin=MESSAGE, env=env)
        assert (sent.status, sent.err) == (0, b"")
        assert [session.authenticated for session in server.finished()] == [user]
        done = muawrap("delete", "-C", config, env=env)
        assert (done.returncode, done.stderr) == (0, b"")
        done = muawrap("delete", "-C", config, env=env)
        assert done.returncode == 1
        assert done.stderr.decode() == f"muawrap: there is no password of {user} in the keyring (service muawrap)\n"
        failed = program.run("you@example.net", stdin=MESSAGE, env=env)
    assert f"no password for {user}: looked in the keyring (service muawrap)" in failed.sentence


@pytest.mark.parametrize("password", ["p\xe4ss w\xf6rd\U0001f600", '"\\{}', "x" * 10_000])
def test_a_password_is_whatever_text(password: str, desktop: Desktop) -> None:
    """DESIGN 2: nothing is lost between the keyring and us."""
    import json

    entry = ["--user", "any", "--service", "text"]
    done = muawrap("set", *entry, env=desktop.environment, told=password.encode())
    assert done.returncode == 0, done.stderr
    child = Path(keyrings.__file__).with_name("keyring_child.py")
    told = json.dumps(["text", "any"]).encode()
    done = subprocess.run(
        [sys.executable, "-I", child], input=told, env=desktop.environment, capture_output=True, check=True
    )
    assert json.loads(done.stdout) == {"password": password}


def test_a_locked_keyring_says_so(tmp_path: Path, program: Program) -> None:
    """RULES A3: a login without password, as over ssh, leaves it locked, and there is nobody to ask."""
    with Desktop(tmp_path):
        pass  # makes the keyring
    with Desktop(tmp_path, unlocked=False) as desktop, Server(users={"al@example.org": "x"}) as server:
        configure(program, server)
        done = program.run("you@example.net", stdin=MESSAGE, env=desktop.environment)
        assert server.sessions == []
    assert "not sent, try again: " in done.sentence
    assert "the keyring is locked while authenticating" in done.sentence
    assert done.sentence.endswith(f"(unlock it, or {OTHER_WAYS})")


def test_a_prompt_that_nobody_sees_does_not_hold_us_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RELIABILITY L8: the keyring waits for its prompter, and we for as long as somebody might type."""
    with Desktop(tmp_path):
        pass
    monkeypatch.setattr(helper, "SECONDS", 1.5)
    with Desktop(tmp_path, unlocked=False) as desktop, Prompter(desktop):
        for name, value in desktop.environment.items():
            monkeypatch.setenv(name, value)
        begin = time.monotonic()
        with pytest.raises(Failure) as caught:
            keyrings.password("muawrap", "al")
    assert 1.5 <= time.monotonic() - begin < 5
    assert caught.value.lead == TRY_AGAIN
    assert caught.value.what == "the keyring did not answer within 1.5 s"
    assert caught.value.advice == f"it may be locked, and ask where nobody sees it: unlock it, or {OTHER_WAYS}"


def test_under_cron_there_is_no_keyring_and_the_line_names_the_ways_out(program: Program) -> None:
    """RULES A3: no session bus, and therefore no keyring; one line, and nobody was called."""
    env = {**without_session(program.folder), "PYTHON_KEYRING_BACKEND": "keyring.backends.SecretService.Keyring"}
    with Server(users={"al@example.org": "x"}) as server:
        config = configure(program, server)
        done = program.run("you@example.net", stdin=MESSAGE, env=env)
        assert server.sessions == []
    assert "there is no keyring here, for DBUS_SESSION_BUS_ADDRESS is not set" in done.sentence
    assert f"cron and ssh have no session and no keyring: {OTHER_WAYS}" in done.sentence
    for what in "set", "test":
        done_too = muawrap(what, "-C", config, env=env, told=b"pw\n")
        assert done_too.returncode == 1
        assert b"DBUS_SESSION_BUS_ADDRESS is not set" in done_too.stderr
