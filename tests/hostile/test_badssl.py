"""A family of certificates as badssl.com has them, each wrong in one way: what is said of it, and that nothing else is.

Except where a row says otherwise the authority is one that we trust, so that there is one reason to refuse each.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import ssl
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from muawrap.failure import REFUSED, Stage
from muawrap.submission.deliver import deliver
from tests.submission.offering import failure_of, login, offer, smart_host
from tests.support.canary import CANARY, assert_silent
from tests.support.certificates import Issued, issue
from tests.support.server import Server

NAME = "mail.client.example"


@cache
def root() -> Issued:
    """The authority that is trusted."""
    return issue(common_name="Trusted Root", ca=True, age=100, lasts=1000)


@cache
def intermediate(**fields: Any) -> Issued:
    return issue(by=root(), common_name="Trusted Intermediate", ca=True, **fields)


@cache
def weak_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 1024)


def good(*names: str, **fields: Any) -> Issued:
    return issue(*names, by=root(), **fields)


def constrained() -> Issued:
    """An authority for other.example alone."""
    limits = x509.NameConstraints([x509.DNSName("other.example")], None)
    return issue(by=root(), common_name="Other Inc. CA", ca=True, extensions=[limits])


def behind(leaf: Issued, *others: Issued) -> Issued:
    return leaf._replace(behind=others)


def through(made: Issued, *names: str) -> Issued:
    """A certificate by an intermediate authority, and both shown."""
    return behind(issue(*names, by=made), made)


@cache
def rsa_authority() -> Issued:
    key = rsa.generate_private_key(65537, 2048)
    return issue(by=root(), common_name="Trusted RSA Authority", ca=True, key=key)


def with_sha1(made: Issued) -> Issued:
    """The same, signed with SHA-1 by the RSA authority (RFC 8017, 8.2.1): no library of today would do it."""
    key = rsa_authority().key
    assert isinstance(key, rsa.RSAPrivateKey)
    algorithm = bytes.fromhex("06092a864886f70d0101")  # 11 is sha256WithRSAEncryption, 5 is sha1WithRSAEncryption
    signed = made.certificate.tbs_certificate_bytes.replace(algorithm + b"\x0b", algorithm + b"\x05")
    digest = bytes.fromhex("3021300906052b0e03021a05000414") + hashlib.sha1(signed).digest()
    size = key.key_size // 8
    padded = b"\x00\x01" + b"\xff" * (size - 3 - len(digest)) + b"\x00" + digest
    numbers = key.private_numbers()
    signature = pow(int.from_bytes(padded, "big"), numbers.d, numbers.public_numbers.n).to_bytes(size, "big")
    der = made.der.replace(algorithm + b"\x0b", algorithm + b"\x05")[:-size] + signature
    return made._replace(certificate=x509.load_der_x509_certificate(der))


class Row(NamedTuple):
    """One certificate: how it is made, what the line says of it, and what it advises."""

    made: Callable[[], Issued]
    said: str  # a regular expression
    advised: str
    server_name: str = NAME  # "": the address is verified


MISMATCH = "use a name the certificate has, or tls.server_name"
RENEW = "its owner must renew it, unless the clock here is wrong"
SELF = "if the fingerprint is the right one, tls.fingerprint takes it; tls.ca_file names a private CA"
UNKNOWN = "tls.ca_file names a private CA, tls.fingerprint one certificate; public CAs come with ca-certificates"
PURPOSE = "the server needs a certificate for servers (extendedKeyUsage serverAuth)"
SIGNER = "its owner needs one from another authority; do not trust this one"
WEAK = "the server needs a new certificate, of today's strength"
SHA = "SHA-256 [0-9a-f]{64}"


def mismatch(told: str) -> str:
    return rf"Hostname mismatch, .*'{re.escape(NAME)}' \({re.escape(told)}\)"


def address_mismatch(told: str) -> str:
    return rf"IP address mismatch, .*'127.0.0.1' \({re.escape(told)}\)"


BAD: dict[str, Row] = {
    # the name
    "wrong.host": Row(lambda: good("mx.other.example"), mismatch("it is for mx.other.example"), MISMATCH),
    "no-subject-alternative-name": Row(
        lambda: good(common_name=NAME),
        mismatch(f"it names no host, and the common name {NAME} does not count"),
        MISMATCH,
    ),
    "common name beside another": Row(
        lambda: good("mx.other.example", common_name=NAME), mismatch("it is for mx.other.example"), MISMATCH
    ),
    "part of a label": Row(lambda: good("m*.client.example"), mismatch("it is for m*.client.example"), MISMATCH),
    "end of a label": Row(lambda: good("*l.client.example"), mismatch("it is for *l.client.example"), MISMATCH),
    "the name's own domain": Row(lambda: good("client.example"), mismatch("it is for client.example"), MISMATCH),
    "a whole top": Row(lambda: good("*.example"), mismatch("it is for *.example"), MISMATCH),
    "a whole top, one label": Row(
        lambda: good("*.example"),
        r"Hostname mismatch, .*'client.example' \(it is for \*\.example\)",
        MISMATCH,
        "client.example",
    ),
    "a star alone": Row(lambda: good("*"), mismatch("it is for *"), MISMATCH),
    "two stars": Row(lambda: good("*.*.example"), mismatch("it is for *.*.example"), MISMATCH),
    "a star in the middle": Row(lambda: good("mail.*.example"), mismatch("it is for mail.*.example"), MISMATCH),
    "a star for two labels": Row(
        lambda: good("*.client.example"),
        r"Hostname mismatch, .*'a\.mail\.client\.example' \(it is for \*\.client\.example\)",
        MISMATCH,
        "a.mail.client.example",
    ),
    "a star for none": Row(
        lambda: good("*.mail.client.example"), mismatch("it is for *.mail.client.example"), MISMATCH
    ),
    "NUL in a name": Row(
        lambda: good(f"{NAME}\0.other.example"), mismatch(f"it is for {NAME}\0.other.example"), MISMATCH
    ),
    "NUL in the common name": Row(
        lambda: good(common_name=f"{NAME}\0.other.example"),
        mismatch(f"it names no host, and the common name {NAME}\0.other.example does not count"),
        MISMATCH,
    ),
    "another address": Row(
        lambda: good("127.0.0.2"), address_mismatch("it is for 127.0.0.2"), MISMATCH, server_name=""
    ),
    "an address as a DNS name": Row(
        lambda: issue(by=root(), extensions=[x509.SubjectAlternativeName([x509.DNSName("127.0.0.1")])]),
        address_mismatch("it is for 127.0.0.1"),
        MISMATCH,
        server_name="",
    ),
    "an address as the common name": Row(
        lambda: good(common_name="127.0.0.1"),
        address_mismatch("it names no host, and the common name 127.0.0.1 does not count"),
        MISMATCH,
        server_name="",
    ),
    "a name for an address": Row(lambda: good(NAME), address_mismatch(f"it is for {NAME}"), MISMATCH, server_name=""),
    # time
    "expired": Row(lambda: good(NAME, age=30, lasts=20), r"certificate has expired \(valid until .*\)", RENEW),
    "not yet valid": Row(lambda: good(NAME, age=-3), r"certificate is not yet valid \(valid from .*\)", RENEW),
    "expired intermediate": Row(
        lambda: through(intermediate(age=30, lasts=20), NAME), r"certificate has expired \(valid until .*\)", RENEW
    ),
    # who signed
    "self-signed": Row(lambda: issue(NAME), rf"self[- ]signed certificate \({SHA}\)", SELF),
    "untrusted-root, shown": Row(
        lambda: behind(issue(NAME, by=(other := issue(common_name="Other Root", ca=True))), other),
        rf"self[- ]signed certificate in certificate chain \({SHA}\)",
        SELF,
    ),
    "untrusted-root": Row(
        lambda: issue(NAME, by=issue(common_name="Other Root", ca=True)),
        rf"unable to get local issuer certificate \({SHA}, issued by Other Root\)",
        UNKNOWN,
    ),
    "incomplete-chain": Row(
        lambda: issue(NAME, by=intermediate()),
        rf"unable to get local issuer certificate \({SHA}, issued by Trusted Intermediate\)",
        UNKNOWN,
    ),
    "same name as the root, another key": Row(
        lambda: issue(NAME, by=issue(common_name="Trusted Root", ca=True)),
        rf".* \({SHA}, issued by Trusted Root\)",
        UNKNOWN,
    ),
    "a leaf as an authority": Row(
        lambda: through(good("evil.example", common_name="evil.example"), NAME),
        rf"invalid CA certificate \({SHA}, issued by Trusted Root\)",
        SIGNER,
    ),
    "name constraints": Row(
        lambda: through(constrained(), NAME), rf"permitted subtree violation \({SHA}, issued by Trusted Root\)", SIGNER
    ),
    "name constraints, an address": Row(
        lambda: through(
            issue(
                by=root(),
                common_name="Corp CA",
                ca=True,
                extensions=[x509.NameConstraints(None, [x509.IPAddress(ipaddress.ip_network("127.0.0.0/8"))])],
            ),
            "127.0.0.1",
        ),
        rf"excluded subtree violation \({SHA}, issued by Trusted Root\)",
        SIGNER,
        server_name="",
    ),
    # what for, and how strong
    "for clients": Row(
        lambda: good(NAME, extensions=[x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])]),
        rf"(unsuitable|unsupported) certificate purpose \({SHA}\)",
        PURPOSE,
    ),
    "rsa1024": Row(lambda: good(NAME, key=weak_key()), rf"EE certificate key too weak \({SHA}\)", WEAK),
    "sha1": Row(
        lambda: behind(with_sha1(issue(NAME, by=rsa_authority())), rsa_authority()),
        rf"CA signature digest algorithm too weak \({SHA}\)",
        WEAK,
    ),
}


@pytest.mark.row("T3", "T4")
@pytest.mark.parametrize("scheme", ["submission", "submissions"])
@pytest.mark.parametrize("row", BAD.values(), ids=BAD.keys())
def test_each_bad_certificate_has_its_sentence_and_is_told_nothing(row: Row, scheme: str, tmp_path: Path) -> None:
    """C1: it is refused for good, before the password, the sender or the text."""
    named = {"server_name": row.server_name} if row.server_name else {}
    with Server(context=row.made().served(), implicit_tls=scheme == "submissions", users={"alice": CANARY}) as server:
        host = smart_host(server, scheme, ca_file=root().file(tmp_path / "ca.pem"), auth=login(), **named)
        failure = failure_of(offer(host))
        assert re.fullmatch(f"the certificate is not good: {row.said}", failure.what), failure.what
        assert (failure.stage, failure.lead, failure.advice) == (Stage.TLS, REFUSED, row.advised)
        [session] = server.finished()
    assert_silent(bytes(session.raw))
    assert not [word for word in (b"AUTH", b"MAIL", b"Hello.") if word in session.raw]


GOOD: dict[str, tuple[Callable[[], Issued], str]] = {
    "the name": (lambda: good(NAME), NAME),
    "one of several": (lambda: good("a.example", NAME, "127.0.0.9"), NAME),
    "a star": (lambda: good("*.client.example"), NAME),
    "in capitals": (lambda: good(NAME.upper()), NAME),
    "an intermediate": (lambda: through(intermediate(), NAME), NAME),
    "an intermediate with name constraints": (lambda: through(constrained(), "mx.other.example"), "mx.other.example"),
    "the address": (lambda: good("127.0.0.1"), ""),
    "for servers": (lambda: good(NAME, extensions=[x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])]), NAME),
    "an A-label": (lambda: good("xn--mll-hoa.client.example"), "xn--mll-hoa.client.example"),
    "a star for an A-label": (lambda: good("*.client.example"), "xn--mll-hoa.client.example"),
}


@pytest.mark.row("T3")
@pytest.mark.parametrize(("made", "name"), GOOD.values(), ids=GOOD.keys())
def test_a_good_one_of_the_same_making_is_taken(made: Callable[[], Issued], name: str, tmp_path: Path) -> None:
    """C1: so that the refusals above have one reason each."""
    named = {"server_name": name} if name else {}
    with Server(context=made().served(), users={"alice": CANARY}) as server:
        host = smart_host(server, "submission", ca_file=root().file(tmp_path / "ca.pem"), auth=login(), **named)
        receipt = deliver(offer(host))
    assert (receipt.tls, receipt.user) == ("TLSv1.3", "alice")


def test_a_date_that_is_none_does_not_stop_the_next_host(tmp_path: Path) -> None:
    """A3, C1: among the certificates that a server shows anything may stand; the one that is out of date is told."""
    old = intermediate(age=9)
    shown = issue(NAME, by=old, age=5, lasts=9)
    strange = bytearray(issue("junk.example").der)
    begins = strange.index(b"\x17\x0d") + 2  # a UTCTime (X.690, 8.25)
    strange[begins : begins + 13] = b"999999999999Z"
    pem = shown.pem + ssl.DER_cert_to_PEM_cert(bytes(strange)).encode() + old.pem
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (tmp_path / "shown.pem").write_bytes(pem + shown.key_pem)
    context.load_cert_chain(tmp_path / "shown.pem")
    ca_file = root().file(tmp_path / "ca.pem")
    with Server(context=context) as bad, Server() as good:
        first = smart_host(bad, "submission", ca_file=ca_file, server_name=NAME)
        assert "has expired (valid until " in failure_of(offer(first)).what
        assert deliver(offer(first, smart_host(good))).host == f"127.0.0.1:{good.port}"
