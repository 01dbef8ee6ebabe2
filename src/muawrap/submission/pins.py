"""A certificate known by its SHA-256, or by that of its public key: neither chain nor name count then."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Collection

APPLICATION_VERIFICATION = 50  # X509_V_ERR_APPLICATION_VERIFICATION of OpenSSL, which leaves the check to us

_INTEGER, _SEQUENCE, _VERSION = 0x02, 0x30, 0xA0  # identifiers (X.690, 8.1.2); the version of a certificate is [0]


def check(der: bytes, pinned: Collection[str]) -> None:
    """Raises ssl.SSLCertVerificationError for a certificate that is none of those pinned, in lower-case hexadecimal."""
    if not set(fingerprints(der)) & set(pinned):
        error = ssl.SSLCertVerificationError("not pinned")
        error.verify_code = APPLICATION_VERIFICATION
        error.verify_message = "it is not the one of tls.fingerprint"
        raise error


def fingerprints(der: bytes) -> tuple[str, ...]:
    """SHA-256 of a certificate in DER and of its SubjectPublicKeyInfo; of what is no certificate the first only.

    The second one is what `openssl x509 -pubkey -noout | openssl pkey -pubin -outform der | sha256sum` prints. It
    stays when a certificate is renewed with the same key.
    """
    whole = hashlib.sha256(der).hexdigest()
    try:
        return whole, hashlib.sha256(public_key(der)).hexdigest()
    except ValueError:
        return (whole,)


def public_key(der: bytes) -> bytes:
    """The SubjectPublicKeyInfo of a certificate (RFC 5280, 4.1), as DER with its head. Raises ValueError."""
    certificate, end = element(der, 0, len(der), _SEQUENCE)
    if end != len(der):
        raise ValueError("more than a certificate")
    at, end = element(der, certificate, end, _SEQUENCE)  # tbsCertificate
    if der[at : at + 1] == bytes([_VERSION]):
        _, at = element(der, at, end, _VERSION)
    for identifier in (_INTEGER, _SEQUENCE, _SEQUENCE, _SEQUENCE, _SEQUENCE):
        _, at = element(der, at, end, identifier)  # serialNumber, signature, issuer, validity, subject
    _, after = element(der, at, end, _SEQUENCE)
    return der[at:after]


def element(der: bytes, at: int, end: int, identifier: int) -> tuple[int, int]:
    """Where the contents of the element at `at` begin and end; it must not reach beyond `end`. Raises ValueError."""
    head = der[at : min(at + 2, end)]
    if len(head) < 2 or head[0] != identifier:
        raise ValueError(f"no element {identifier:#04x} at {at}")
    begin, length = at + 2, head[1]
    if length >= 0x80:  # the long form (X.690, 8.1.3.5); the indefinite one, without octets, is not DER
        octets = der[begin : min(begin + (length & 0x7F), end)]
        if not 1 <= length & 0x7F == len(octets) <= 4 or octets[0] == 0 or (len(octets) == 1 and octets[0] < 0x80):
            raise ValueError(f"a length that is not DER at {at}")
        begin, length = begin + len(octets), int.from_bytes(octets, "big")
    if begin + length > end:
        raise ValueError(f"an element that ends too late at {at}")
    return begin, begin + length
