"""What a server showed of itself, in words: whom its certificate is for, who issued it, how long it is good."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from muawrap.mail import SmartHost
from muawrap.submission import pins

DAY = 24 * 60 * 60
NAMED = 3  # names of a certificate that are told; some have a hundred
NAME_LIMIT = 64  # characters of one; a label has at most 63

Certificate = Mapping[str, Any]
"""As SSLSocket.getpeercert() gives it, with the whole certificate under "der"."""


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


def issuer(certificate: Certificate) -> str:
    """Who issued it, as people know them: the organization, else the common name; "" where neither is told."""
    parts = (part(certificate, "issuer", name) for name in ("organizationName", "commonName"))
    return next(filter(None, parts), "")


def days_left(certificate: Certificate, now: float | None = None) -> int:
    """Whole days for which it is still good; negative where it has expired."""
    ends = ssl.cert_time_to_seconds(certificate["notAfter"])
    return int((ends - (time.time() if now is None else now)) // DAY)


def fingerprint(certificate: Certificate) -> str:
    """SHA-256 of the whole, in lower-case hexadecimal."""
    return pins.fingerprints(certificate["der"])[0]


def root(sock: ssl.SSLSocket) -> str:
    """The authority that a verified chain ends in; "" where that cannot be had (see chain())."""
    try:
        last = sock._sslobj.get_verified_chain()[-1].get_info()  # type: ignore[attr-defined]
    except Exception:
        return ""
    return next(filter(None, (part(last, "subject", name) for name in ("commonName", "organizationName"))), "")


def _cut(name: str) -> str:
    return name if len(name) <= NAME_LIMIT else name[:NAME_LIMIT] + "..."


# -- of a connection ------------------------------------------------------------------------------------------------


class Facts(NamedTuple):
    """TLS as it was reached, for people to read."""

    version: str  # TLSv1.3
    cipher: str  # TLS_AES_256_GCM_SHA384
    subject: str  # names of the certificate, up to three
    issuer: str
    days_left: int | None  # negative: expired; None: nobody can tell
    how: str  # verified by "chain to NAME", "pinned" or "unverified"
    fingerprint: str  # SHA-256 of the certificate, hexadecimal


def facts(made: object, host: SmartHost, verified: bool) -> Facts | None:
    """The facts of `connection.sock`, given `connection.smart_host` and `connection.verified`; None without TLS."""
    if not isinstance(made, ssl.SSLSocket):
        return None
    shown = chain(made)
    how = "unverified"
    if verified:
        how = "pinned" if host.tls.fingerprint else f"chain to {root(made)}"
    days = None
    if shown:
        with contextlib.suppress(ValueError):  # what a stranger calls a date
            days = days_left(shown[0])
    cipher = made.cipher()
    return Facts(
        made.version() or "",
        cipher[0] if cipher else "",
        names(shown[0]) if shown else "",
        issuer(shown[0]) if shown else "",
        days,
        how,
        fingerprint(shown[0]) if shown else "",
    )
