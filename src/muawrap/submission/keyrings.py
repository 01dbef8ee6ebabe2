"""The desktop's keyring, by way of the package keyring, and never for longer than somebody needs to unlock it."""

from __future__ import annotations

import json
import os
import sys

from muawrap import extras
from muawrap.failure import TRY_AGAIN, Failure
from muawrap.submission import helper

LIMIT = 1024 * 1024  # octets of an answer; a secret has at most 64 KiB, and as JSON six times that

_OTHER_WAYS = "use password = { command = ... } or { file = ... }"
_NO_BACK_END = ("NoKeyringError", "RuntimeError", "InitError")  # none was found, or the one that is configured fails
_NO_SESSION = "cron and ssh have no session and no keyring: " + _OTHER_WAYS


def has_session() -> bool:
    """Whether we are told of a session's bus, by which a desktop's keyring is asked."""
    return bool(os.environ.get("DBUS_SESSION_BUS_ADDRESS"))


def password(service: str, user: str, seconds: float = float("inf")) -> str | None:
    """The password of a user for a service, None where the keyring has none, within helper.bounded(seconds).

    Raises Failure, which is `absent` where there is no keyring.

    A locked keyring may ask by a window that nobody sees, and a back end may wait for ever inside a C library, where no
    alarm of ours ends it. So another process asks (0.1 s, most of it for loading the package), and is killed when its
    time is over.
    """
    child = os.path.join(os.path.dirname(os.path.abspath(__file__)), "keyring_child.py")
    try:
        told = json.dumps([service, user]).encode("ascii")
        status, output = helper.run([sys.executable, "-I", child], LIMIT, told, seconds)
    except TimeoutError:
        raise Failure(
            f"the keyring did not answer within {helper.bounded(seconds):.3g} s",
            lead=TRY_AGAIN,
            advice="it may be locked, and ask where nobody sees it: unlock it, or " + _OTHER_WAYS,
        ) from None
    except OSError as error:
        raise Failure(f"the keyring cannot be asked: {error.strerror}", advice=_OTHER_WAYS) from error
    except OverflowError:
        raise Failure(f"the keyring answered with more than {LIMIT} octets", advice=_OTHER_WAYS) from None
    try:
        found = json.loads(output)
    except ValueError:
        raise Failure(f"the keyring's back end ended with exit status {status}", advice=_OTHER_WAYS) from None
    if "missing" in found:
        failure = extras.missing("keyring", "the keyring", found["missing"])
        failure.absent = True
        raise failure
    if "error" in found:
        raise trouble(*found["error"])
    return None if found["password"] is None else str(found["password"])


def without_session(what: str) -> Failure:
    """That there is nothing, where no desktop's keyring could be asked, but one in a file."""
    return Failure(f"{what}; DBUS_SESSION_BUS_ADDRESS is not set", advice=_NO_SESSION)


def trouble(name: str, text: str) -> Failure:
    """What an exception of the package keyring means, by its name and text."""
    if name == "KeyringLocked":
        return Failure("the keyring is locked", lead=TRY_AGAIN, advice="unlock it, or " + _OTHER_WAYS)
    if name in _NO_BACK_END and not has_session():
        failure = Failure("there is no keyring here, for DBUS_SESSION_BUS_ADDRESS is not set", advice=_NO_SESSION)
        failure.absent = True
    else:
        failure = Failure(f"the keyring cannot be used: {name}: {text}", advice=_NO_SESSION)
        failure.absent = name == "NoKeyringError"
    return failure
