"""The certificate policy: what a TLS connection to a smart host has to show, and what we show."""

from __future__ import annotations

import os
import ssl

from muawrap.failure import Failure
from muawrap.mail import SmartHost, Tls

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def context(host: SmartHost, verified: bool) -> ssl.SSLContext:
    """A client context for one smart host: subject alternative names only, never a common name (RFC 9525).

    Where it is `verified`, check() has to follow the handshake. Raises Failure for a file that cannot be used.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = _VERSIONS[host.tls.min_version]
    made.hostname_checks_common_name = False
    made.options |= ssl.OP_NO_RENEGOTIATION  # by which TLS 1.2 could show another certificate once ours is checked
    if host.tls.client_cert:
        _show(made, host.tls)
    if not verified or host.tls.fingerprint:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
        return made
    made.check_hostname = len(_names(host)) == 1
    _trust(made, host.tls.ca_file)
    return made


def _trust(made: ssl.SSLContext, authorities: str) -> None:
    """Verify by a file or folder of authorities, "" being those of the system."""
    try:
        if not authorities:
            made.load_default_certs(ssl.Purpose.SERVER_AUTH)
        elif os.path.isdir(authorities):
            made.load_verify_locations(capath=authorities)
        else:
            made.load_verify_locations(cafile=authorities)
    except (OSError, ssl.SSLError) as error:
        what = f"cannot use the CA file {authorities}: {_reason(error)}"
        raise Failure(what, advice="tls.ca_file names it") from error


def _show(made: ssl.SSLContext, tls: Tls) -> None:
    """The client certificate, to this host and no other."""
    from muawrap.submission import certfiles

    path = tls.client_key or tls.client_cert

    def passphrase() -> str:  # without this, OpenSSL asks at the terminal
        raise certfiles.encrypted(path)

    try:
        made.load_cert_chain(tls.client_cert, tls.client_key or None, passphrase)
    except (OSError, ssl.SSLError) as error:
        what = f"cannot use the client certificate {tls.client_cert}: {_reason(error)}"
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            what = f"the client key {path} is not that of the certificate {tls.client_cert}"
        raise Failure(what, advice="tls.client_cert and tls.client_key name the two files") from error


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):  # where OpenSSL names nothing, it says "PEM lib"
        return error.reason.replace("_", " ").lower() if error.reason else "it cannot be read as PEM"
    return (error.strerror or str(error)).lower()


# -- the name -------------------------------------------------------------------------------------------------------


def _names(host: SmartHost) -> tuple[str, ...]:
    """The names of which the certificate must have one: tls.server_name, those of DNS, or that in the URL."""
    if host.tls.server_name:
        return (host.tls.server_name,)
    return host.names or (host.host,)


def name_to_ask_for(host: SmartHost) -> str:
    """The name that goes into TLS (RFC 6066, 3): the host's own where its certificate may be for that.

    Raises ValueError where it is none: wrap_socket() would encode it itself, but would lose the socket where that
    fails.
    """
    names = _names(host)
    return _a_labels(host.host if host.host in names else names[0])


def _a_labels(name: str) -> str:
    return name.encode("idna").decode("ascii")


# -- after the handshake --------------------------------------------------------------------------------------------


def check(made: ssl.SSLSocket, host: SmartHost, verified: bool) -> str:
    """What OpenSSL has left to us, and how it was verified, in a word: "" (by chain and name), pinned, unverified.

    Raises ssl.SSLCertVerificationError.
    """
    if not verified:
        return "unverified"
    if host.tls.fingerprint:
        from muawrap.submission import pins

        pins.check(made.getpeercert(binary_form=True) or b"", host.tls.fingerprint)
        return "pinned"
    names = _names(host)
    if len(names) > 1:
        from muawrap.submission import identity

        identity.check(made.getpeercert() or {}, tuple(map(_a_labels, names)))
    return ""
