"""A certificate authority for one test run, and TLS contexts for servers it vouches for."""

from __future__ import annotations

import hashlib
import ipaddress
import ssl
import tempfile
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID


class Authority:
    def __init__(self) -> None:
        self._ca = trustme.CA()

    def ca_file(self, path: Path) -> Path:
        """Its own certificate, as `tls.ca_file` wants it."""
        self._ca.cert_pem.write_to_path(path)
        return path

    def certificate(
        self, *names: str, not_after: datetime | None = None, common_name: str | None = None
    ) -> trustme.LeafCert:
        """For these host names or addresses; with a `not_after` in the past, an expired one."""
        return self._ca.issue_cert(*names, not_after=not_after, common_name=common_name)

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


# -- certificates as no decent authority would issue them ---------------------------------------------------------

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Issued(NamedTuple):
    """A certificate with its key, and those to be shown behind it."""

    certificate: x509.Certificate
    key: Key
    behind: tuple[Issued, ...] = ()

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> bytes:
        """Itself and what stands behind it."""
        shown = (self, *self.behind)
        return b"".join(one.certificate.public_bytes(serialization.Encoding.PEM) for one in shown)

    @property
    def key_pem(self) -> bytes:
        return self.encrypted_key()

    def encrypted_key(self, passphrase: bytes = b"", traditional: bool = False) -> bytes:
        """The key in PEM; without a passphrase as it is."""
        form = serialization.PrivateFormat.TraditionalOpenSSL if traditional else serialization.PrivateFormat.PKCS8
        how = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
        return self.key.private_bytes(serialization.Encoding.PEM, form, how)

    @property
    def pins(self) -> tuple[str, str]:
        """SHA-256 of the certificate and of its public key, in hexadecimal, as another implementation has them."""
        spki = self.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return self.certificate.fingerprint(hashes.SHA256()).hex(), hashlib.sha256(spki).hexdigest()

    def file(self, path: Path, key: bool = False) -> Path:
        """The certificates, and the key where that is wanted, in a file of one's own."""
        path.write_bytes(self.pem + (self.key_pem if key else b""))
        path.chmod(0o600)
        return path

    def served(self, *versions: ssl.TLSVersion, clients: Issued | None = None) -> ssl.SSLContext:
        """The context of a server that shows it, whatever it is; `clients` vouches for those it takes alone."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.set_ciphers("DEFAULT:@SECLEVEL=0")
        with tempfile.NamedTemporaryFile() as file:
            file.write(self.pem + self.key_pem)
            file.flush()
            made.load_cert_chain(file.name)
        if versions:
            made.minimum_version, made.maximum_version = versions[0], versions[-1]
        if clients is not None:
            made.verify_mode = ssl.CERT_REQUIRED
            made.load_verify_locations(cadata=clients.pem.decode())
        return made


def issue(
    *names: str,
    by: Issued | None = None,  # None: by itself
    common_name: str = "somebody",
    ca: bool = False,
    key: Key | None = None,
    age: int = 1,  # days since it began
    lasts: int = 2,  # days
    extensions: Iterable[x509.ExtensionType] = (),
) -> Issued:
    """A certificate for these host names and addresses, with whatever is asked for."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    begins = datetime.now(timezone.utc) - timedelta(days=age)
    signer = by.key if by is not None else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by is not None else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=lasts))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(map(general_name, names))), critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return Issued(builder.sign(signer, hashes.SHA256()), key)


def general_name(name: str) -> x509.GeneralName:
    """An address as an address, everything else as a DNS name."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
