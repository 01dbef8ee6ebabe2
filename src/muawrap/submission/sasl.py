"""SASL mechanisms: which one is chosen, and the answers of the simple ones to a server's challenges; pure."""

# Annotations are values here: a NamedTuple compiles those that are texts, one by one, while every delivery waits.

import base64
import hmac
import re
from collections.abc import Iterator
from typing import NamedTuple

from muawrap.mail import Auth

SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-1")
IN_CLEAR = ("PLAIN", "LOGIN")  # over verified TLS they are equal, and PLAIN is the standard
BY_PASSWORD = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", *SCRAM, *IN_CLEAR)
"""What is tried unasked, strongest first."""
BY_TOKEN = ("OAUTHBEARER", "XOAUTH2")
BY_CERTIFICATE = ("EXTERNAL",)

CHALLENGES = 10  # no mechanism asks as often
_TELLING = 4  # characters of base64 that are worth hiding; fewer stand in any text


class Mechanism:
    """One mechanism with its credentials.

    name       as in AUTH
    initial    the initial response; None: it waits for a challenge
    complaint  what the server said against us in a challenge, for the sentence
    unproved   bound to the connection, and nothing has been proved yet: a refusal is about the binding
    advice     instead of advice about passwords
    """

    name = ""
    initial: bytes | None = None
    complaint = ""
    advice = ""

    @property
    def unproved(self) -> bool:
        """See above."""
        return False

    def answer(self, challenge: bytes) -> bytes:
        """The response to a challenge. Raises Failure, without stage and host, where there must be none."""
        return self.initial or b""

    def accepted(self, words: str) -> None:
        """The server said 235 with these words. Raises Failure, without stage and host, where that is not enough."""


class Channel(NamedTuple):
    """What some mechanisms want to know of the connection."""

    host: str = ""
    port: int = 0
    binding: bytes | None = None  # tls-server-end-point (RFC 5929, 4); None: nothing to bind to
    unbound: bool = False  # binding was wanted, and the server offers no -PLUS
    offered: tuple[str, ...] = ()  # the server's mechanisms, for advice


NOTHING_KNOWN = Channel()


def wanted(auth: Auth, binds: bool, shows: bool = True) -> tuple[str, ...]:
    """The mechanisms that may be used, best first: those listed, or by what is given; with what each needs at hand.

    `binds`: there is a channel to bind to. `shows`: there is a certificate, or a socket that knows whose we are.
    """
    by_default = BY_PASSWORD if auth.password else BY_TOKEN if auth.token else BY_CERTIFICATE
    return tuple(
        name
        for name in auth.mechanisms or by_default
        if (binds or not name.endswith("-PLUS"))
        and (shows if name in BY_CERTIFICATE else auth.token if name in BY_TOKEN else auth.password)
    )


def choose(offered: tuple[str, ...], wanted: tuple[str, ...]) -> str:
    """The first wanted mechanism that is offered, "" where none is."""
    return next((name for name in wanted if name in offered), "")


def mechanism(name: str, user: str, password: str) -> Mechanism:
    """One of the simple ones, ready to run; SCRAM and those with tokens have pages of their own."""
    kinds = {"PLAIN": Plain, "LOGIN": Login, "CRAM-MD5": CramMd5, "EXTERNAL": External}
    return kinds[name](octets(user), octets(password))


def forms(user: str, secret: str) -> tuple[str, ...]:
    """The forms in which a server could repeat a secret: as PLAIN has it, in hexadecimal, as it is, and in base64.

    In base64 it looks different by the two octets or fewer that stand before it in its group of three.
    """
    said = octets(secret)
    found = [encode(b"\0" + octets(user) + b"\0" + said), encode(said)]
    for before in range(3):
        own = slice(-(-before * 8 // 6), (before + len(said)) * 8 // 6)  # the characters that depend on it alone
        found.append(encode(b"\0" * before + said)[own])
    told = [form for form in found if len(form) >= _TELLING]
    return tuple(dict.fromkeys((*told, said.hex(), said.decode("utf-8", "backslashreplace"))))


def octets(text: str) -> bytes:
    """What is no UTF-8, such as a password in Latin-1, goes as it is."""
    return text.encode("utf-8", "surrogateescape")


def encode(octets: bytes) -> str:
    """A response in base64; an initial one that is empty is written "=" instead (RFC 4954, 4)."""
    return base64.b64encode(octets).decode("ascii")


def decode(text: str) -> bytes:
    """A challenge. Raises ValueError where it is no base64 (RFC 4648, 4; Pythons differ in what they forgive)."""
    octets = text.strip()
    if not re.fullmatch(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?", octets):
        raise ValueError("no base64")
    return base64.b64decode(octets)


class Plain(Mechanism):
    """RFC 4616."""

    name = "PLAIN"

    def __init__(self, user: bytes, password: bytes) -> None:
        self.initial = b"\0" + user + b"\0" + password


class Login(Mechanism):
    """draft-murchison-sasl-login: the user, then the password, whatever the prompts say."""

    name = "LOGIN"

    def __init__(self, user: bytes, password: bytes) -> None:
        self._answers: Iterator[bytes] = iter((user, password))

    def answer(self, challenge: bytes) -> bytes:
        return next(self._answers, b"")


class CramMd5(Mechanism):
    """RFC 2195."""

    name = "CRAM-MD5"

    def __init__(self, user: bytes, password: bytes) -> None:
        self._user, self._password = user, password

    def answer(self, challenge: bytes) -> bytes:
        return self._user + b" " + hmac.new(self._password, challenge, "md5").hexdigest().encode("ascii")


class External(Mechanism):
    """RFC 4422, appendix A: who we are has been shown by the certificate; the user is whom we want to act as."""

    name = "EXTERNAL"
    advice = "does the server know the certificate of tls.client_cert, and as which user?"

    def __init__(self, user: bytes, secret: bytes) -> None:
        self.initial = user
