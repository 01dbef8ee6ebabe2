"""The files that TLS is going to need, looked at before anybody is called: authorities, client certificate, key."""

from __future__ import annotations

import os
import re

from muawrap import trust
from muawrap.failure import Failure
from muawrap.mail import Tls

CA_LIMIT = 16 * 1024 * 1024  # octets; a bundle of all authorities there are has less than one million
LIMIT = 1024 * 1024  # octets of a client certificate with its chain, or of a key

_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+")
_ENCRYPTED = (b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"Proc-Type: 4,ENCRYPTED")


def check(tls: Tls) -> None:
    """Raises Failure for a file of `tls` that cannot be used; what OpenSSL alone can tell is left to it."""
    if tls.ca_file and tls.verify and not tls.fingerprint:
        reason = _fault_of_authorities(tls.ca_file)
        if reason:
            raise Failure(f"cannot use the CA file {tls.ca_file}: {reason}", advice="tls.ca_file names it")
    if tls.client_cert:
        _check_client(tls.client_cert, tls.client_key)


def _fault_of_authorities(path: str) -> str:
    """Why nothing can be trusted by a file, or by a folder as openssl-rehash(1) makes it; "" where something can."""
    try:
        if os.path.isdir(path):
            with os.scandir(path) as entries:
                found = any(_HASHED.fullmatch(entry.name) for entry in entries)
            return "" if found else "no certificate in this folder has its hash for a name (openssl rehash gives them)"
        if os.path.exists(path) and not os.path.isfile(path):  # a fifo would hold us up
            return "it is not a regular file"
        with open(path, "rb") as file:
            return "" if b"-----BEGIN " in file.read(CA_LIMIT) else "it holds no certificate"
    except OSError as error:
        return (error.strerror or str(error)).lower()


def _check_client(cert: str, key: str) -> None:
    """Both files are there, trusted, and what they should be; a key is a secret, as a password is."""
    contents = _read(cert)
    if b"-----BEGIN CERTIFICATE-----" not in contents.octets:
        raise Failure(f"there is no certificate in {cert}", advice="tls.client_cert names a file in PEM")
    path = key or cert
    contents = _read(path)
    if b"PRIVATE KEY-----" not in contents.octets:
        raise Failure(f"there is no private key in {path}", advice="tls.client_key names a file in PEM that has it")
    if any(mark in contents.octets for mark in _ENCRYPTED):
        raise encrypted(path)
    trust.must_be_secret(contents, path, "client key")


def _read(path: str) -> trust.Contents:
    try:
        return trust.read(path, limit=LIMIT)
    except OSError as error:
        raise Failure(f"there is no file {path}", advice="tls.client_cert or tls.client_key names it") from error


def encrypted(path: str) -> Failure:
    """The failure for a key that wants a passphrase: nothing may ask for one here."""
    return Failure(
        f"the client key {path} is encrypted",
        advice=f"nobody can be asked for its passphrase: openssl pkey -in {path} makes one without",
    )
