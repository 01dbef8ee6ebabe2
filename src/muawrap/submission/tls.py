"""The certificate policy: what a TLS connection to a smart host has to show."""

from __future__ import annotations

import os
import ssl

from muawrap.failure import Failure
from muawrap.mail import SmartHost

_NOT_TLS = ("wrong version number", "record layer failure", "packet length too long")
"""How OpenSSL, by version and by the first octets, says that it read something else, such as "220 ready"."""

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def context(host: SmartHost, verified: bool) -> ssl.SSLContext:
    """A client context for one smart host: subject alternative names only, never a common name (RFC 9525).

    Raises Failure where the CA file cannot be used.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = _VERSIONS[host.tls.min_version]
    made.hostname_checks_common_name = False
    if not verified:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
        return made
    if not host.tls.ca_file:
        made.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return made
    try:
        if os.path.isdir(host.tls.ca_file):
            made.load_verify_locations(capath=host.tls.ca_file)
        else:
            made.load_verify_locations(cafile=host.tls.ca_file)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        raise Failure(f"cannot use the CA file {host.tls.ca_file}: {reason}", advice="tls.ca_file names it") from error
    return made


def name_to_verify(host: SmartHost) -> str:
    """The name the certificate must be good for, as it goes into TLS. Raises ValueError where it is none.

    wrap_socket() would encode it itself, but would lose the socket where that fails.
    """
    return (host.tls.server_name or host.host).encode("idna").decode("ascii")


def explain(error: ssl.SSLError | ValueError, at_once: bool) -> tuple[str, str]:
    """What went wrong in a handshake, and the advice that goes with it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the certificate is not good: {error.verify_message}",
            "tls.ca_file names a private CA, tls.server_name another name to check",
        )
    if isinstance(error, ssl.SSLEOFError):
        return "the server closed the connection", ""
    reason = (getattr(error, "reason", None) or str(error)).replace("_", " ").lower()
    if any(sign in reason for sign in _NOT_TLS):
        if at_once:
            return "the server does not speak TLS at once", "submission:// is for servers that want STARTTLS (port 587)"
        return "what the server sent is not TLS", ""
    return f"TLS failed: {reason}", ""
