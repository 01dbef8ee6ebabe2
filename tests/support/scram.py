"""The server's side of SCRAM (RFC 5802), written for itself: it checks everything, and lies where it is told to.

    server = Server(users=USERS, mechanisms=("SCRAM-SHA-256",), exchanges=scram(lie="wrong signature"))

LIES are its names for what an impostor or a broken server would do.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass

Exchange = Generator[bytes, bytes, str | None]

LIES = (
    *("wrong signature", "no signature", "empty signature", "signature of nobody", "foreign nonce", "our nonce alone"),
    *("no nonce", "no base64 salt", "unknown extension", "garbage", "success at once", "signature twice"),
    *("too few iterations", "no iterations", "negative iterations", "too many iterations", "endless iterations"),
    "error and then success",
)
ITERATIONS = {
    "too few iterations": b"4095",
    "no iterations": b"0",
    "negative iterations": b"-4096",
    "too many iterations": b"1000001",
    "endless iterations": b"9" * 1000,
}


class Welcome(str):
    """The user, and the words of the 235."""

    words: bytes = b""


@dataclass
class Scram:
    """A server's way with one mechanism of the family."""

    name: str
    lie: str = ""
    binding: bytes | None = None  # tls-server-end-point of its certificate, for -PLUS
    known_bindings: tuple[bytes, ...] = (b"tls-server-end-point",)
    offers_plus: bool = False  # then "y" means that somebody took it from the offer
    in_success: bool = False  # the signature goes with the 235
    iterations: int = 4096
    deaf: bool = False  # to the initial response
    salt: bytes = b"0123456789abcdef"

    @property
    def hash(self) -> str:
        return "sha256" if "256" in self.name else "sha1"

    def exchange(self, users: Mapping[str, str]) -> Exchange:
        """RFC 5802, 5: client-first, server-first, client-final, server-final."""
        client_first = yield b""
        if self.deaf:
            client_first = yield b""
        flag, authzid, bare = client_first.split(b",", 2)
        name, client_nonce = (part.partition(b"=") for part in bare.split(b","))
        assert (name[0], client_nonce[0], authzid) == (b"n", b"r", b"")
        error = self._header_error(flag)
        if error:
            assert (yield b"e=" + error) == b""
            return None
        if self.lie == "success at once":
            return "alice"
        user = name[2].decode().replace("=2C", ",").replace("=3D", "=")
        nonce = client_nonce[2] + base64.b64encode(os.urandom(9))
        first = self._first(client_nonce[2], nonce)
        final = yield first
        without_proof, _, proof = final.rpartition(b",p=")
        channel, sent_nonce = (part.partition(b"=")[2] for part in without_proof.split(b","))
        bound = (self.binding or b"") if flag.startswith(b"p=") else b""
        if base64.b64decode(channel, validate=True) != flag + b",," + bound:
            assert (yield b"e=channel-bindings-dont-match") == b""
            return None
        assert sent_nonce == nonce
        password = users.get(user, "not the password")
        salted = hashlib.pbkdf2_hmac(self.hash, password.encode(), self.salt, self.iterations)
        message = bare + b"," + first + b"," + without_proof
        stored = hashlib.new(self.hash, self._hmac(salted, b"Client Key")).digest()
        signature = self._hmac(stored, message)
        key = bytes(a ^ b for a, b in zip(base64.b64decode(proof, validate=True), signature, strict=True))
        if self.lie == "error and then success":
            yield b"e=other-error"
            return user
        if hashlib.new(self.hash, key).digest() != stored or user not in users:
            assert (yield b"e=invalid-proof") == b""
            return None
        return (yield from self._proved(user, self._hmac(self._hmac(salted, b"Server Key"), message)))

    def _proved(self, user: str, signature: bytes) -> Exchange:
        lies = {
            "wrong signature": b"v=" + base64.b64encode(bytes(len(signature))),
            "empty signature": b"v=",
            "signature of nobody": b"v=" + base64.b64encode(signature[:-1]),
        }
        final = lies.get(self.lie, b"v=" + base64.b64encode(signature))
        if self.lie == "no signature":
            return user
        if self.in_success:
            welcome = Welcome(user)
            welcome.words = base64.b64encode(final)
            return welcome
        assert (yield final) == b""
        if self.lie == "signature twice":
            yield final
        return user

    def _header_error(self, flag: bytes) -> bytes:
        bound = flag.startswith(b"p=")
        assert bound == self.name.endswith("-PLUS") or flag == b"y", flag
        if bound and flag[2:] not in self.known_bindings:
            return b"unsupported-channel-binding-type"
        return b"server-does-support-channel-binding" if flag == b"y" and self.offers_plus else b""

    def _first(self, client_nonce: bytes, nonce: bytes) -> bytes:
        iterations = ITERATIONS.get(self.lie, b"%d" % self.iterations)
        salt = b"?" if self.lie == "no base64 salt" else base64.b64encode(self.salt)
        shown = {"foreign nonce": b"x" + nonce[1:], "our nonce alone": client_nonce, "no nonce": b""}
        first = b"r=" + shown.get(self.lie, nonce) + b",s=" + salt + b",i=" + iterations
        return {"unknown extension": b"m=must," + first, "garbage": b"\xff\0what"}.get(self.lie, first)

    def _hmac(self, key: bytes, message: bytes) -> bytes:
        return hmac.digest(key, message, self.hash)


NAMES = ("SCRAM-SHA-256", "SCRAM-SHA-1", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS")


def scram(**fields: object) -> dict[bytes, Callable[[Mapping[str, str]], Exchange]]:
    """The whole family, for Server(exchanges=...)."""
    return {name.encode(): Scram(name, **fields).exchange for name in NAMES}  # type: ignore[arg-type]
