"""SASL mechanisms, as the answers to a server's challenges; pure."""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

BY_DEFAULT = ("PLAIN", "LOGIN")
"""What is tried unasked, strongest first: over verified TLS they are equal, and PLAIN is the standard."""

CHALLENGES = 10  # no mechanism asks as often


class Mechanism(NamedTuple):
    """One mechanism with its credentials: the initial response (None: it waits for a challenge), then answers."""

    name: str
    initial: bytes | None
    answer: Callable[[bytes], bytes]


def choose(offered: tuple[str, ...], wanted: tuple[str, ...]) -> str:
    """The first wanted mechanism that is offered, "" where none is; CRAM-MD5 only where it is asked for by name."""
    return next((name for name in wanted or BY_DEFAULT if name in offered), "")


def mechanism(name: str, user: str, password: str) -> Mechanism:
    """A mechanism ready to run."""
    return {"PLAIN": _plain, "LOGIN": _login, "CRAM-MD5": _cram_md5}[name](_octets(user), _octets(password))


def forms(user: str, password: str) -> tuple[str, ...]:
    """The forms in which a server could repeat the password: as PLAIN has it, in base64, in hexadecimal, as it is."""
    octets = _octets(password)
    response = b"\0" + _octets(user) + b"\0" + octets
    return encode(response), encode(octets), octets.hex(), octets.decode("utf-8", "backslashreplace")


def _octets(text: str) -> bytes:
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


def _plain(user: bytes, password: bytes) -> Mechanism:
    """RFC 4616."""
    response = b"\0" + user + b"\0" + password
    return Mechanism("PLAIN", response, lambda challenge: response)


def _login(user: bytes, password: bytes) -> Mechanism:
    """draft-murchison-sasl-login: the user, then the password, whatever the prompts say."""
    answers: Iterator[bytes] = iter((user, password))
    return Mechanism("LOGIN", None, lambda challenge: next(answers, b""))


def _cram_md5(user: bytes, password: bytes) -> Mechanism:
    """RFC 2195."""

    def answer(challenge: bytes) -> bytes:
        return user + b" " + hmac.new(password, challenge, "md5").hexdigest().encode("ascii")

    return Mechanism("CRAM-MD5", None, answer)
