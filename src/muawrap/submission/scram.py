"""SCRAM (RFC 5802, RFC 7677): both sides prove that they know the password, and neither tells it.

With -PLUS the proof holds for this TLS connection only. The channel binding is tls-server-end-point (RFC 5929, 4), with
TLS 1.3 too. RFC 9266 makes tls-exporter the default there, but the ssl module of Python 3.10 to 3.13 cannot export
keying material (its one binding, tls-unique, does not exist in TLS 1.3). A server that knows tls-exporter only refuses
our first message, before anything has been proved; where no mechanisms are configured it is then asked once more by
SCRAM without a binding, where it offers that, as by a client that has none. The password itself never follows.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import os
import re

from muawrap.failure import Failure
from muawrap.submission import sasl
from muawrap.submission.sasl import Channel, Mechanism

FEWEST, MOST = 4096, 1_000_000
"""Iterations: RFC 7677 (4) wants 4096 at least, and more than a million (half a second) only keep us busy."""
NONCE = 18  # octets from the system: 144 bits, as 24 characters of base64

_BINDING = "tls-server-end-point"
_BASE64 = rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
_VALUE = rb"[\x21-\x2b\x2d-\x7e]+"  # printable ASCII without the comma
_SERVER_FIRST = re.compile(rb"r=(%s),s=(%s),i=([1-9][0-9]{0,9})(?:,[^\0-\x1f]*)?" % (_VALUE, _BASE64))
_SERVER_FINAL = re.compile(rb"v=(%s)(?:,.*)?" % _BASE64, re.DOTALL)
_ERROR = re.compile(rb"e=(%s)(?:,.*)?" % _VALUE, re.DOTALL)


class Scram(Mechanism):
    """One exchange. Raises Failure where the user or the password may not be used with SCRAM."""

    def __init__(
        self, name: str, user: str, password: str, channel: Channel = sasl.NOTHING_KNOWN, nonce: str = ""
    ) -> None:
        self.name = name
        self._hash = "sha256" if "SHA-256" in name else "sha1"
        self._password = _prepared(password, "password", stored=True)
        bound = name.endswith("-PLUS")
        assert not bound or channel.binding is not None
        # RFC 5802, 6: "y" lets the server notice that somebody took -PLUS from its offer.
        flag = f"p={_BINDING}" if bound else "y" if channel.unbound else "n"
        self._header = f"{flag},,".encode()
        self._bound = (channel.binding or b"") if bound else b""
        self._offered = channel.offered
        self._nonce = (nonce or sasl.encode(os.urandom(NONCE))).encode("ascii")
        escaped = _prepared(user, "user", stored=False).replace(b"=", b"=3D").replace(b",", b"=2C")
        self._first = b"n=" + escaped + b",r=" + self._nonce
        self.initial = self._header + self._first
        self._expected: bytes | None = None  # the server's signature, once our proof has left
        self._proved = False

    def answer(self, challenge: bytes) -> bytes:
        """Our final message to the server's first one, an empty response to its final one."""
        if not challenge and self._expected is None:
            return self.initial or b""  # the server did not take it with AUTH
        error = _ERROR.fullmatch(challenge)
        if error:
            self.complaint = f"the server says {error[1].decode('ascii')}"
            return b""
        if self._expected is None:
            return self._final(challenge)
        if self._proved:
            raise Failure("sent more than SCRAM has")
        final = _SERVER_FINAL.fullmatch(challenge)
        self._prove(final[1] if final else b"")
        return b""

    def accepted(self, words: str) -> None:
        """Success counts only with the server's signature, which may stand in the words of the 235, too."""
        for word in () if self._proved else words.split():
            try:
                final = _SERVER_FINAL.fullmatch(sasl.decode(word))
            except ValueError:
                continue
            if final:
                self._prove(final[1])
        if not self._proved:
            self._prove(b"")

    def _final(self, challenge: bytes) -> bytes:
        first = _SERVER_FIRST.fullmatch(challenge)
        if not first:
            raise Failure("sent what is no message of SCRAM")
        nonce, salt, iterations = first[1], binascii.a2b_base64(first[2]), int(first[3])
        if not nonce.startswith(self._nonce) or nonce == self._nonce:
            raise Failure("sent a nonce that is not made of ours: somebody may be repeating an old exchange")
        if iterations < FEWEST:
            raise Failure(f"wants SCRAM with {iterations} iterations, which does not protect a password")
        if iterations > MOST:
            raise Failure(f"wants SCRAM with {iterations} iterations, and {MOST} are the limit")
        bare = b"c=" + binascii.b2a_base64(self._header + self._bound, newline=False) + b",r=" + nonce
        message = self._first + b"," + challenge + b"," + bare
        salted = hashlib.pbkdf2_hmac(self._hash, self._password, salt, iterations)
        key = self._hmac(salted, b"Client Key")
        signature = self._hmac(hashlib.new(self._hash, key).digest(), message)
        proof = bytes(one ^ other for one, other in zip(key, signature, strict=True))
        self._expected = self._hmac(self._hmac(salted, b"Server Key"), message)
        return bare + b",p=" + binascii.b2a_base64(proof, newline=False)

    def _prove(self, signature: bytes) -> None:
        if self._expected is None or not hmac.compare_digest(binascii.a2b_base64(signature), self._expected):
            raise Failure(
                "the server could not prove that it knows the password",
                advice="it may not be the server it seems to be; nothing was sent, and the password was not told",
            )
        self._proved = True

    def _hmac(self, key: bytes, message: bytes) -> bytes:
        return hmac.digest(key, message, self._hash)

    @property
    def unproved(self) -> bool:
        """Whether the server has refused the binding, and not the password."""
        return bool(self._bound) and self._expected is None

    @property
    def advice(self) -> str:  # type: ignore[override]
        """Where it cannot be the password that is wrong."""
        if "bindings-dont-match" in self.complaint:
            return "the server knows another certificate than it shows us: somebody, or a proxy, stands between"
        if "does-support-channel-binding" in self.complaint:
            return "the server offers -PLUS, and not to us: somebody, or a proxy, stands between"
        if self._expected is not None:
            return ""
        why = "the user is unknown, or the server has no SCRAM for it"
        if self._bound:
            why += ", or knows another channel binding only"
        way = sasl.choose(self._offered, (*sasl.SCRAM, *sasl.IN_CLEAR) if self._bound else sasl.IN_CLEAR)
        return f"it refused before it saw the password: {why}" + (f'; try auth.mechanisms = ["{way}"]' if way else "")


def _prepared(text: str, what: str, stored: bool) -> bytes:
    """A user or password by SASLprep (RFC 4013), as octets; what is plain ASCII is so already."""
    if not (text.isascii() and text.isprintable()):
        from muawrap.submission import saslprep

        try:
            text = saslprep.prepared(text, stored)
        except ValueError as error:
            raise Failure(
                f"the {what} cannot be used with SCRAM: {error}",
                advice='choose another, or auth.mechanisms = ["PLAIN"] where the server offers that',
            ) from None
    return text.encode("utf-8")
