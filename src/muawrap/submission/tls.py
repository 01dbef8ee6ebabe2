"""The certificate policy: what a TLS connection to a smart host has to show."""

from __future__ import annotations

import os
import ssl

from muawrap.failure import Failure
from muawrap.mail import SmartHost

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
