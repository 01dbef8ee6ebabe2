"""The keyring, a command, a file, netrc, systemd, the environment: wherever a secret is, the secret."""

# Annotations are values here: a NamedTuple compiles those that are texts, one by one, while every delivery waits.

import contextlib
import os
from typing import NamedTuple

from muawrap import trust
from muawrap.failure import REFUSED, TRY_AGAIN, Failure
from muawrap.mail import Auth, Secret

LIMIT = 64 * 1024  # octets of output or file; a password is one line

_BY_TOKEN = ("OAUTHBEARER", "XOAUTH2")
_WITHOUT_PASSWORD = ("EXTERNAL", *_BY_TOKEN)


class Asked(NamedTuple):
    """What is looked for."""

    what: str  # password or token, as in auth
    user: str
    hosts: tuple[str, ...] = ()  # the names of the smart host, for netrc
    seconds: float = float("inf")  # that can be waited for a command or the keyring, which have their own limit, too


class Found(NamedTuple):
    """A secret, and the place it was in, which may be told."""

    place: str
    secret: str

    def __repr__(self) -> str:
        return f"Found({self.place!r}, ...)"


def needs_password(auth: Auth) -> bool:
    """Whether a mechanism that may be used wants a password."""
    listed = auth.mechanisms
    return bool(auth.password) and (not listed or any(name not in _WITHOUT_PASSWORD for name in listed))


def needs_token(auth: Auth) -> bool:
    """Whether a mechanism that may be used wants a token: beside a password, only where it is listed."""
    listed = auth.mechanisms
    return bool(auth.token) and (any(name in _BY_TOKEN for name in listed) if listed else not auth.password)


def password(auth: Auth, hosts: tuple[str, ...] = (), seconds: float = float("inf")) -> str:
    """The password from the first place of auth.password that has one. Raises Failure."""
    return find(auth.password, Asked("password", auth.user, hosts, seconds)).secret


def token(auth: Auth, hosts: tuple[str, ...] = (), seconds: float = float("inf")) -> str:
    """The token from the first place of auth.token that has one. Raises Failure."""
    return find(auth.token, Asked("token", auth.user, hosts, seconds)).secret


def find(secrets: tuple[Secret, ...], asked: Asked) -> Found:
    """The first that exists, and its first line. Raises Failure."""
    no_core()
    for number, secret in enumerate(secrets, 1):
        try:
            found = _FORMS[secret.form](secret, asked)
        except Failure as failure:
            if failure.absent and number < len(secrets):
                continue
            raise
        if found is not None:
            line = found.split("\n")[0].removesuffix("\r")
            if not line or "\0" in line:
                raise Failure(f"the {asked.what} from {place(secret)} is {'not text' if line else 'empty'}")
            return Found(place(secret), line)
    what = f"no {asked.what} for {asked.user}: looked in {', then '.join(place(secret) for secret in secrets)}"
    if any(secret.form == "keyring" for secret in secrets):
        from muawrap.submission import keyrings

        if not keyrings.has_session():  # then a back end without any, such as a file, has been asked
            raise keyrings.without_session(what)
    raise Failure(what, advice=f"auth.{asked.what} says where it is")


def no_core() -> None:
    """From now on a crash leaves no image of us, where the system lets us say so; a password would be in it.

    The limit is one octet, not none: that also stops an image that is piped to a handler (core(5)), which a limit of
    none does not. PR_SET_DUMPABLE would do more, but Python can only say it by ctypes, which every delivery would pay.
    """
    import resource

    with contextlib.suppress(OSError, ValueError):  # whoever has been forbidden all of it may not ask for one octet
        resource.setrlimit(resource.RLIMIT_CORE, (1, 1))


def place(secret: Secret) -> str:
    """Where a secret is, in words that do not tell it."""
    if secret.form == "literal":
        return "the configuration"
    value = secret.value if isinstance(secret.value, str) else secret.value[0]  # arguments may tell too much
    return {
        "keyring": f"the keyring (service {value})",
        "command": f"the command {value}",
        "file": value,
        "netrc": f"the netrc file {value}",
        "credential": f"the systemd credential {value}",
        "env": f"the environment variable {value}",
    }[secret.form]


def _literal(secret: Secret, asked: Asked) -> str | None:
    return str(secret.value)


def _environment(secret: Secret, asked: Asked) -> str | None:
    return os.environ.get(str(secret.value))


def _file(secret: Secret, asked: Asked) -> str | None:
    return _read(str(secret.value), asked.what)


def _credential(secret: Secret, asked: Asked) -> str | None:
    """As LoadCredential= of systemd gives it (systemd.exec(5)): a file of root's or of the service's user."""
    name, folder = str(secret.value), os.environ.get("CREDENTIALS_DIRECTORY", "")
    if "/" in name or name in (".", ".."):
        raise Failure(f"{name} is no name of a systemd credential", advice="it is a name without a slash")
    return _read(f"{folder}/{name}", asked.what) if folder.startswith("/") else None


def _netrc(secret: Secret, asked: Asked) -> str | None:
    path = str(secret.value)
    text = _read(path, "netrc")
    if text is None:
        return None
    from muawrap.submission import netrc

    return netrc.password(netrc.entries(text, path), asked.hosts, asked.user)


def _read(path: str, what: str) -> str | None:
    """The text of a file that holds a secret; None where there is no such file. Raises Failure.

    It is root's or our own: whoever else owns it could put another password there.
    """
    try:
        contents = trust.read(path, limit=LIMIT)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Failure as failure:
        failure.advice = _group_that_may_read(path, failure) or failure.advice
        raise
    if contents.owner not in (0, os.geteuid()):
        owner, ours = trust.name(contents.owner), trust.name(os.geteuid())
        advice = f"chown it to root or {ours}" if os.geteuid() else f"chown it to root, unless {owner} is who sends"
        raise Failure(f"the {what} file {path} belongs to {owner}", advice=advice)
    trust.must_be_secret(contents, path, f"{what} file")
    return contents.text


def _group_that_may_read(path: str, failure: Failure) -> str:
    """What one must be to read a file that several users share, as advice; "" where it is not shared."""
    if not isinstance(failure.__cause__, PermissionError):
        return ""
    with contextlib.suppress(ImportError, OSError, KeyError):  # it only explains
        import grp
        import pwd

        status = os.stat(path)
        if status.st_mode & 0o040 and status.st_gid not in (os.getegid(), *os.getgroups()):
            group, user = grp.getgrgid(status.st_gid).gr_name, pwd.getpwuid(os.geteuid()).pw_name
            return f"the group {group} may read it, and {user} is not in that group"
    return ""


def _keyring(secret: Secret, asked: Asked) -> str | None:
    from muawrap.submission import keyrings

    return keyrings.password(str(secret.value), asked.user, asked.seconds)


def _command(secret: Secret, asked: Asked) -> str | None:
    """What a command prints: no shell, no standard input, no terminal; a helper asks by a window or by gpg-agent."""
    from muawrap.submission import helper

    words = list(secret.value) if not isinstance(secret.value, str) else [secret.value]
    try:
        status, output = helper.run(words, LIMIT, seconds=asked.seconds)
    except TimeoutError:
        limit = helper.bounded(asked.seconds)
        raise Failure(f"the {asked.what} command {words[0]} took longer than {limit:.3g} s", lead=TRY_AGAIN) from None
    except OverflowError:
        raise Failure(f"the {asked.what} command {words[0]} printed more than {LIMIT} octets") from None
    except OSError as error:
        failure = Failure(f"cannot run the {asked.what} command {words[0]}: {error.strerror}")
        failure.absent = isinstance(error, (FileNotFoundError, NotADirectoryError))
        raise failure from error
    if status:
        ended = f"exit status {status}" if status > 0 else f"signal {-status}"
        lead = TRY_AGAIN if status == os.EX_TEMPFAIL else REFUSED
        what = f"the {asked.what} command {words[0]} failed with {ended}"
        raise Failure(what, lead=lead, advice="run it by hand")
    return output.decode("utf-8", "surrogateescape")


_FORMS = {
    "literal": _literal,
    "keyring": _keyring,
    "command": _command,
    "file": _file,
    "netrc": _netrc,
    "credential": _credential,
    "env": _environment,
}
