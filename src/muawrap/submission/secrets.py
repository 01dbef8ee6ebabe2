"""The keyring, a command, a file, the environment: wherever the password is, the password."""

from __future__ import annotations

import contextlib
import os
import select
import time

from muawrap import extras, trust
from muawrap.failure import TRY_AGAIN, Failure
from muawrap.mail import Auth, Secret

LIMIT = 64 * 1024  # octets of output or file; a password is one line
COMMAND_SECONDS = 30  # long enough to type a passphrase
KILLED_SECONDS = 1  # for a killed command to be gone


def password(auth: Auth) -> str:
    """The password from the first place of auth.password that has one. Raises Failure."""
    _no_core()
    for secret in auth.password:
        found = _FORMS[secret.form](secret, auth.user)
        if found is not None:
            line = found.split("\n")[0].removesuffix("\r")
            if not line or "\0" in line:
                raise Failure(f"the password from {_place(secret)} is {'not text' if line else 'empty'}")
            return line
    raise Failure(
        f"no password for {auth.user}: looked in {', then '.join(_place(secret) for secret in auth.password)}",
        advice="auth.password says where it is",
    )


def _no_core() -> None:
    """From now on a crash leaves no image of us, where the system lets us say so; a password would be in it.

    The limit is one octet, not none: that also stops an image that is piped to a handler (core(5)), which a limit of
    none does not. PR_SET_DUMPABLE would do more, but Python can only say it by ctypes, which every delivery would pay.
    """
    import resource

    with contextlib.suppress(OSError, ValueError):  # whoever has been forbidden all of it may not ask for one octet
        resource.setrlimit(resource.RLIMIT_CORE, (1, 1))


def _place(secret: Secret) -> str:
    """Where a secret is, in words that do not tell it."""
    if secret.form == "literal":
        return "the configuration"
    value = secret.value if isinstance(secret.value, str) else secret.value[0]  # arguments may tell too much
    return {
        "keyring": f"the keyring (service {value})",
        "command": f"the command {value}",
        "file": value,
        "env": f"the environment variable {value}",
    }[secret.form]


def _literal(secret: Secret, user: str) -> str | None:
    return str(secret.value)


def _environment(secret: Secret, user: str) -> str | None:
    return os.environ.get(str(secret.value))


def _file(secret: Secret, user: str) -> str | None:
    path = str(secret.value)
    try:
        contents = trust.read(path, limit=LIMIT)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if contents.mode & 0o022:
        raise Failure(f"the password file {path} is writable by others", advice=f"chmod go-w {path}")
    if contents.mode & 0o004 and contents.owner != 0:
        raise Failure(f"the password file {path} is readable by everybody", advice=f"chmod 600 {path}")
    return contents.text


def _keyring(secret: Secret, user: str) -> str | None:
    try:
        keyring = extras.load("keyring", "auth.password from the keyring")
        found: str | None = keyring.get_password(str(secret.value), user)
    except Failure:
        raise
    except Exception as error:  # every back end has exceptions of its own
        raise Failure(
            f"the keyring cannot be read: {type(error).__name__}: {error}",
            advice="cron and ssh have no session and no keyring: use password = { command = ... } or { file = ... }",
        ) from error
    return found


def _command(secret: Secret, user: str) -> str | None:
    """What a command prints: no shell, no standard input, no terminal; a helper asks by a window or by gpg-agent."""
    import signal
    import subprocess

    words = list(secret.value) if not isinstance(secret.value, str) else [secret.value]
    try:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
    except OSError as error:
        raise Failure(f"cannot run the password command {words[0]}: {error.strerror}") from error
    assert process.stdout is not None
    deadline = time.monotonic() + COMMAND_SECONDS
    late = Failure(f"the password command {words[0]} took longer than {COMMAND_SECONDS} s", lead=TRY_AGAIN)
    output = b""
    try:
        with process.stdout as pipe:
            while True:
                if not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
                    raise late
                part = os.read(pipe.fileno(), LIMIT)
                if not part:
                    break
                output += part
                if len(output) > LIMIT:
                    raise Failure(f"the password command {words[0]} printed more than {LIMIT} octets")
        try:
            status = process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise late from None
    except BaseException:
        # The whole group, and before wait() frees its number. What sudo made root's is not ours to kill or wait for.
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(KILLED_SECONDS)
        raise
    if status:
        ended = f"exit status {status}" if status > 0 else f"signal {-status}"
        raise Failure(f"the password command {words[0]} failed with {ended}", advice="run it by hand")
    return output.decode("utf-8", "surrogateescape")


_FORMS = {"literal": _literal, "keyring": _keyring, "command": _command, "file": _file, "env": _environment}
