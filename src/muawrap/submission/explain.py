"""TLS in words: whom a certificate is for, what is wrong with it, and which scheme the server wants."""

from __future__ import annotations

import hashlib
import select
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

NAMED = 3  # names of a certificate that are told; some have a hundred
NAME_LIMIT = 64  # characters of one; a label has at most 63

Certificate = Mapping[str, Any]
"""As SSLSocket.getpeercert() gives it, with the whole certificate under "der"."""


class Flaw(NamedTuple):
    """One way in which a certificate is not good. sendmail(8) shows every one under TLS."""

    codes: tuple[int, ...]  # X509_V_ERR_* of OpenSSL
    facts: Callable[[list[Certificate]], str]  # about what the server showed, its own certificate first
    cause: str
    advice: str


class Sign(NamedTuple):
    """Words of OpenSSL about a handshake that failed for other reasons, and what they mean."""

    words: tuple[str, ...]
    at_once: bool | None  # only with TLS from the first octet, only with STARTTLS, or both
    what: str  # empty: the words as they are
    cause: str
    advice: str


def handshake(error: ssl.SSLError | ValueError, sock: socket.socket | None, at_once: bool) -> tuple[str, str]:
    """What went wrong in a handshake on this socket, still open, and the advice that goes with it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        flaw = next((flaw for flaw in FLAWS if error.verify_code in flaw.codes), FLAWS[-1])
        shown = chain(sock)
        facts = flaw.facts(shown) if shown else ""
        words = str(error.verify_message).rstrip(".")
        return f"the certificate is not good: {words}{facts and f' ({facts})'}", flaw.advice
    if isinstance(error, ssl.SSLEOFError):
        return "the server closed the connection", ""
    reason = (getattr(error, "reason", None) or str(error)).replace("_", " ").lower()
    for sign in SIGNS:
        if sign.at_once in (None, at_once) and any(word in reason for word in sign.words):
            return sign.what or f"TLS failed: {reason}", sign.advice
    return f"TLS failed: {reason}", ""


# -- the certificate ------------------------------------------------------------------------------------------------


def chain(sock: socket.socket | None) -> list[Certificate]:
    """The certificates of a handshake that nothing verified, or that failed on them; empty where they cannot be had.

    getpeercert() tells nothing of those. OpenSSL 3 keeps what the server showed, and the ssl module can read it; it is
    public only since Python 3.13, and there as DER only. A second connection without verification would tell as much,
    but could meet another server, and nobody asked for it.
    """
    try:
        return [
            {**certificate.get_info(), "der": certificate.public_bytes(2)}  # 2 is DER
            for certificate in sock._sslobj.get_unverified_chain()  # type: ignore[union-attr]
        ]
    except Exception:  # what a stranger sent may be anything, and it only explains
        return []


def names(certificate: Certificate) -> str:
    """The names and addresses a certificate is for, up to three of them; empty where it has none."""
    found = [name for kind, name in certificate.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return ", ".join(map(_cut, found[:NAMED])) + more


def part(certificate: Certificate, whose: str, name: str) -> str:
    """One part of the name of "subject" or "issuer"."""
    return next((_cut(value) for parts in certificate.get(whose, ()) for key, value in parts if key == name), "")


def _names(shown: list[Certificate]) -> str:
    found = names(shown[0])
    if found:
        return f"it is for {found}"
    common = part(shown[0], "subject", "commonName")
    return "it names no host" + (f", and the common name {common} does not count" if common else "")


def _cut(name: str) -> str:
    return name if len(name) <= NAME_LIMIT else name[:NAME_LIMIT] + "..."


def _dates(shown: list[Certificate]) -> str:
    """From when to when the one that is out of date is valid; it need not be the server's own."""
    now = time.time()
    clock = f"the clock here says {time.strftime('%Y-%m-%d', time.gmtime(now))}"
    for certificate in shown:
        begins, ends = (ssl.cert_time_to_seconds(certificate[key]) for key in ("notBefore", "notAfter"))
        if not begins <= now <= ends:
            word, moment = ("until", ends) if now > ends else ("from", begins)
            return f"valid {word} {time.strftime('%Y-%m-%d', time.gmtime(moment))}, and {clock}"
    return clock


def _fingerprint(shown: list[Certificate]) -> str:
    return f"SHA-256 {hashlib.sha256(shown[0]['der']).hexdigest()}"


FLAWS = (
    Flaw(
        (62, 64),
        _names,
        "The certificate is for other names than the one in the URL; the line tells up to three of them.",
        "use a name the certificate has, or tls.server_name",
    ),
    Flaw(
        (9, 10),
        _dates,
        "The certificate, or one it depends on, is out of date, or the clock of this machine is wrong.",
        "its owner must renew it, unless the clock here is wrong",
    ),
    Flaw(
        (2, 18, 19, 20, 21),
        _fingerprint,
        "The certificate is self-signed, or signed by an authority this machine does not know.",
        "if the fingerprint is the right one, tls.ca_file names the certificate or its authority",
    ),
    Flaw(
        (),
        _fingerprint,
        "OpenSSL finds another fault with it.",
        "tls.ca_file names a private CA, tls.server_name another name to check",
    ),
)
"""The last one is for everything else."""

_NOT_TLS = ("wrong version number", "record layer failure", "packet length too long")
"""How OpenSSL, by version and by the first octets, says that it read something else, such as "220 ready"."""

SIGNS = (
    Sign(
        _NOT_TLS,
        True,
        "the server does not speak TLS at once",
        "The URL says submissions://, and the server began in the clear.",
        "a server that wants STARTTLS (port 587) is submission://",
    ),
    Sign(
        _NOT_TLS,
        False,
        "what the server sent is not TLS",
        "The server said yes to STARTTLS, then went on in the clear.",
        "",
    ),
    Sign(
        ("unsupported protocol", "alert protocol version"),
        None,
        "",
        "Server and client have no version of TLS in common.",
        "tls.min_version decides; a server without TLS 1.2 is out of date",
    ),
    Sign(
        ("unrecognized name",),
        None,
        "",
        "The server has no certificate for the name in the URL.",
        "tls.server_name is the name that is asked for",
    ),
    Sign(
        ("key too small", "md too weak"),
        None,
        "",
        "The server's key or signature is too weak for this machine's OpenSSL.",
        "the server needs a new certificate",
    ),
)


# -- a server that says nothing -------------------------------------------------------------------------------------

_HANDSHAKE, _ALERT = b"\x16", b"\x15"  # the first octet of a TLS record (RFC 8446, 5.1)


def speaks_tls(silent: socket.socket, seconds: float) -> bool:
    """Whether the server at the other end of a silent connection answers a TLS hello on a second one.

    It ends as soon as the first connection is silent no more.
    """
    try:
        with socket.socket(silent.family, socket.SOCK_STREAM) as second:
            second.settimeout(seconds)
            second.connect(silent.getpeername())
            second.sendall(_hello())
            poll = select.poll()
            for one in (silent, second):
                poll.register(one, select.POLLIN)
            ready = {descriptor for descriptor, _ in poll.poll(int(seconds * 1000))}
            return ready == {second.fileno()} and second.recv(1) in (_HANDSHAKE, _ALERT)
    except OSError:
        return False


def _hello() -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    outgoing = ssl.MemoryBIO()
    try:
        context.wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()
