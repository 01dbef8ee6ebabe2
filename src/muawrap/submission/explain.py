"""TLS that failed, in words: what is wrong with a certificate, and which scheme the server wants."""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable
from typing import NamedTuple

from muawrap.submission import pins
from muawrap.submission.certificate import Certificate, chain, fingerprint, issuer, names, part


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
    lasts: bool = False  # until somebody does something about it


class Trouble(NamedTuple):
    """What went wrong, the advice that goes with it, and whether it will be the same the next time."""

    what: str
    advice: str = ""
    lasts: bool = False


def handshake(error: ssl.SSLError | ValueError, sock: socket.socket | None, at_once: bool) -> Trouble:
    """What went wrong in a handshake on this socket, still open."""
    if isinstance(error, ssl.SSLCertVerificationError):
        flaw = next((flaw for flaw in FLAWS if error.verify_code in flaw.codes), FLAWS[-1])
        shown = chain(sock)
        facts = flaw.facts(shown) if shown else ""
        words = str(error.verify_message).rstrip(".")
        return Trouble(f"the certificate is not good: {words}{facts and f' ({facts})'}", flaw.advice, lasts=True)
    if isinstance(error, ssl.SSLEOFError):
        return Trouble("the server closed the connection")
    reason = (getattr(error, "reason", None) or str(error)).replace("_", " ").lower()
    for sign in SIGNS:
        if sign.at_once in (None, at_once) and any(word in reason for word in sign.words):
            return Trouble(sign.what or f"TLS failed: {reason}", sign.advice, sign.lasts)
    # Of the rest, a name that no certificate could have lasts.
    return Trouble(f"TLS failed: {reason}", lasts=not isinstance(error, ssl.SSLError))


# -- facts about what the server showed, its own certificate first ---------------------------------------------------


def _names(shown: list[Certificate]) -> str:
    found = names(shown[0])
    if found:
        return f"it is for {found}"
    common = part(shown[0], "subject", "commonName")
    return "it names no host" + (f", and the common name {common} does not count" if common else "")


def _dates(shown: list[Certificate]) -> str:
    """From when to when the one that is out of date is valid; it need not be the server's own."""
    now = time.time()
    clock = f"the clock here says {time.strftime('%Y-%m-%d', time.gmtime(now))}"
    for certificate in shown:
        try:
            begins, ends = (ssl.cert_time_to_seconds(certificate[key]) for key in ("notBefore", "notAfter"))
        except ValueError:  # what a stranger calls a date
            continue
        if not begins <= now <= ends:
            word, moment = ("until", ends) if now > ends else ("from", begins)
            return f"valid {word} {time.strftime('%Y-%m-%d', time.gmtime(moment))}, and {clock}"
    return clock


def _fingerprint(shown: list[Certificate]) -> str:
    return f"SHA-256 {fingerprint(shown[0])}"


def _fingerprints(shown: list[Certificate]) -> str:
    return "SHA-256 " + ", of its public key ".join(pins.fingerprints(shown[0]["der"]))


def _issuer(shown: list[Certificate]) -> str:
    """Of the last certificate the server showed, which nobody here can vouch for."""
    by = issuer(shown[-1])
    return _fingerprint(shown) + (f", issued by {by}" if by else "")


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
        (18, 19),
        _fingerprint,
        "The certificate, or the authority the server shows with it, vouches for itself alone.",
        "if the fingerprint is the right one, tls.fingerprint takes it; tls.ca_file names a private CA",
    ),
    Flaw(
        (2, 20, 21),
        _issuer,
        "This machine does not know the authority, or the server leaves out a certificate between the two.",
        "tls.ca_file names a private CA, tls.fingerprint one certificate; public CAs come with ca-certificates",
    ),
    Flaw(
        (50,),
        _fingerprints,
        "It has none of the fingerprints in tls.fingerprint, neither its own nor that of its public key.",
        "somebody may stand in between; if the server has a new certificate, put its fingerprint into tls.fingerprint",
    ),
    Flaw(
        (26,),
        _fingerprint,
        "The certificate is not for servers, but for clients, or for signing mail.",
        "the server needs a certificate for servers (extendedKeyUsage serverAuth)",
    ),
    Flaw(
        (24, 25, 32, 47, 48, 49, 51, 52, 53, 79),
        _issuer,
        "Whoever signed it may not sign certificates, or none for this name (name constraints).",
        "its owner needs one from another authority; do not trust this one",
    ),
    Flaw(
        (66, 67, 68),
        _fingerprint,
        "A key or a signature is too weak: RSA of less than 2048 bits, or SHA-1.",
        "the server needs a new certificate, of today's strength",
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
        ("alert certificate required",),
        None,
        "the server wants a client certificate",
        "It takes nobody without one.",
        "tls.client_cert names it",
        lasts=True,
    ),
    Sign(
        (
            "alert unknown ca",
            "alert bad certificate",
            "alert certificate expired",
            "alert certificate revoked",
            "alert certificate unknown",
            "alert unsupported certificate",
            "alert access denied",
            "alert decrypt error",
        ),
        None,
        "",
        "The server does not take the client certificate that we show it.",
        "tls.client_cert names it: the server's owner must know it, or who issued it",
        lasts=True,
    ),
    Sign(
        ("alert handshake failure",),
        None,
        "",
        "Server and client have no cipher in common, or the server wants a client certificate.",
        "tls.client_cert names a client certificate, where the server wants one",
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
