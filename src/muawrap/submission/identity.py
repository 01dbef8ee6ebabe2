"""Whether a certificate is for one of several names, by RFC 9525: Python's ssl compares with one name only."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

HOSTNAME_MISMATCH = 62  # X509_V_ERR_HOSTNAME_MISMATCH of OpenSSL, as it says itself of a single name

_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")


def check(certificate: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raises ssl.SSLCertVerificationError for a certificate, as getpeercert() gives it, that is for none of the names.

    It says nothing about who issued the certificate, which OpenSSL has verified.
    """
    presented = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]
    if not any(matches(one, name) for one in presented for name in names):
        error = ssl.SSLCertVerificationError("no name matches")
        error.verify_code = HOSTNAME_MISMATCH
        error.verify_message = f"Hostname mismatch, certificate is not valid for '{' or '.join(names)}'"
        raise error


def matches(presented: str, name: str) -> bool:
    """Whether a DNS name of a certificate is for a host name in A-labels (RFC 9525, 6.3).

    A star stands for the whole leftmost label and for one label, never within "xn--" or another part of one, and two
    labels at least must follow it, as OpenSSL has it. What looks like an address is no name (RFC 9525, 6.5).
    """
    if not (presented.isascii() and name.isascii()):
        return False
    presented, name = presented.lower(), name.lower()
    if not _NAME.fullmatch(name) or name.rpartition(".")[2].isdigit():
        return False
    if not presented.startswith("*."):
        return presented == name
    rest = presented[2:]
    return rest.count(".") >= 1 and rest == name.partition(".")[2]
