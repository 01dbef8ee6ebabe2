"""Channel binding: what ties a login to the certificate of this TLS connection (RFC 5929, 4)."""

from __future__ import annotations

import hashlib

from muawrap.submission.pins import element

_SEQUENCE, _OID, _FIRST = 0x30, 0x06, 0xA0  # identifiers (X.690, 8.1.2)
_PSS = "2a864886f70d01010a"  # id-RSASSA-PSS (RFC 4055), whose hash is among its parameters

_HASHES = {
    # of signatureAlgorithm, and of the parameters of RSASSA-PSS; MD5 and SHA-1 become SHA-256 (RFC 5929, 4.1)
    "2a864886f70d010104": "sha256",  # md5WithRSAEncryption
    "2a864886f70d010105": "sha256",  # sha1WithRSAEncryption
    "2a864886f70d01010e": "sha224",
    "2a864886f70d01010b": "sha256",
    "2a864886f70d01010c": "sha384",
    "2a864886f70d01010d": "sha512",
    "2a8648ce3d0401": "sha256",  # ecdsa-with-SHA1
    "2a8648ce3d040301": "sha224",
    "2a8648ce3d040302": "sha256",
    "2a8648ce3d040303": "sha384",
    "2a8648ce3d040304": "sha512",
    "2b0e03021a": "sha256",  # id-sha1
    "608648016503040204": "sha224",
    "608648016503040201": "sha256",
    "608648016503040202": "sha384",
    "608648016503040203": "sha512",
}


def end_point(der: bytes) -> bytes | None:
    """tls-server-end-point of a server's certificate in DER.

    None where it is not defined: the signature knows no hash of its own (Ed25519), or none that we know.
    """
    try:
        name = _HASHES.get(_algorithm(der))
    except ValueError:
        return None
    return hashlib.new(name, der).digest() if name else None


def _algorithm(der: bytes) -> str:
    """The OID that tells the hash, in hexadecimal as the certificate has it (RFC 5280, 4.1). Raises ValueError."""
    at, end = element(der, 0, len(der), _SEQUENCE)
    _, at = element(der, at, end, _SEQUENCE)  # tbsCertificate
    at, end = element(der, at, end, _SEQUENCE)  # signatureAlgorithm
    found, at = _oid(der, at, end)
    if found != _PSS:
        return found
    at, end = element(der, at, end, _SEQUENCE)
    if der[at : at + 1] != bytes([_FIRST]):
        return "2b0e03021a"  # RFC 4055, 3.1: SHA-1 by default
    at, end = element(der, at, end, _FIRST)
    at, end = element(der, at, end, _SEQUENCE)
    return _oid(der, at, end)[0]


def _oid(der: bytes, at: int, end: int) -> tuple[str, int]:
    begin, end = element(der, at, end, _OID)
    return der[begin:end].hex(), end
