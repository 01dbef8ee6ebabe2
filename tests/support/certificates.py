"""A certificate authority for one test run, and TLS contexts for servers it vouches for."""

from __future__ import annotations

import hashlib
import ssl
from datetime import datetime
from pathlib import Path

import trustme


class Authority:
    def __init__(self) -> None:
        self._ca = trustme.CA()

    def ca_file(self, path: Path) -> Path:
        """Its own certificate, as `tls.ca_file` wants it."""
        self._ca.cert_pem.write_to_path(path)
        return path

    def certificate(self, *names: str, not_after: datetime | None = None) -> trustme.LeafCert:
        """For these host names or addresses; with a `not_after` in the past, an expired one."""
        return self._ca.issue_cert(*names, not_after=not_after)

    def server_context(
        self,
        *names: str,
        certificate: trustme.LeafCert | None = None,
        client_certificates: bool = False,  # asked for and required
        versions: tuple[ssl.TLSVersion, ssl.TLSVersion] | None = None,  # lowest, highest
    ) -> ssl.SSLContext:
        """For a server known by these names, 127.0.0.1 unless given."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        (certificate or self.certificate(*(names or ("127.0.0.1",)))).configure_cert(context)
        if client_certificates:
            self._ca.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        if versions:
            context.minimum_version, context.maximum_version = versions
        return context

    def client_context(self) -> ssl.SSLContext:
        """Trusts this authority and nobody else."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._ca.configure_trust(context)
        return context


def fingerprint(certificate: trustme.LeafCert) -> str:
    """SHA-256 of the certificate, in lower-case hexadecimal."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode())).hexdigest()


def write_client_files(certificate: trustme.LeafCert, folder: Path) -> tuple[Path, Path]:
    """Certificate and key, as `tls.client_cert` and `tls.client_key` want them."""
    cert, key = folder / "client.pem", folder / "client.key"
    certificate.cert_chain_pems[0].write_to_path(cert)
    certificate.private_key_pem.write_to_path(key)
    key.chmod(0o600)
    return cert, key
