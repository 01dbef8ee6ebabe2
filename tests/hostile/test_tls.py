"""Servers, and people between, that want a password or a message without proving who they are."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from muawrap.failure import REFUSED, TRY_AGAIN, UNCERTAIN, Stage
from muawrap.submission.deliver import deliver
from tests.submission.offering import failure_of, login, offer, smart_host
from tests.support.canary import CANARY, assert_silent
from tests.support.certificates import Authority
from tests.support.program import Program
from tests.support.server import Drop, Reset, Server, Session, Then

NAME = "mail.client.example"
USERS = {"alice": CANARY}


def certified(*names: str, age: int = 0, common_name: str = "") -> tuple[bytes, bytes]:
    """A self-signed certificate that a client can be told to trust, as no decent authority would issue it; its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name or "somebody")])
    now = datetime.now(timezone.utc) - timedelta(days=age)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([general_name(name) for name in names]), False)
    made = builder.sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def context(folder: Path, certificate: bytes, key: bytes) -> tuple[ssl.SSLContext, Path]:
    """The context of a server that has it, and the file by which a client trusts it."""
    file = folder / "certificate.pem"
    file.write_bytes(certificate + key)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(file)
    trusted = folder / "trusted.pem"
    trusted.write_bytes(certificate)
    return made, trusted


def nothing_told(session: Session) -> None:
    """Neither the password in any form, nor the message, nor for whom it is."""
    assert_silent(bytes(session.raw))
    assert not [word for word in (b"AUTH", b"MAIL", b"Hello.") if word in session.raw]


GOOD_FOR_SOMEBODY_ELSE: dict[str, Callable[[], tuple[bytes, bytes]]] = {
    "another name": lambda: certified("mail.other.example"),
    "the common name alone": lambda: certified(common_name=NAME),
    "the common name beside another name": lambda: certified("mail.other.example", common_name=NAME),
    "a NUL behind the name": lambda: certified(f"{NAME}\0.other.example"),
    "a NUL behind the common name": lambda: certified(common_name=f"{NAME}\0.other.example"),
    "a star alone": lambda: certified("*"),
    "a star for a whole top": lambda: certified("*.example"),
    "a star within the name": lambda: certified("mail.*.example"),
    "a star in part of a label": lambda: certified("m*.client.example"),
    "two stars": lambda: certified("*.*.example"),
    "a star for no label": lambda: certified("*.mail.client.example"),
    "the name below it": lambda: certified("client.example"),
    "our name as the end of another": lambda: certified(f"x{NAME}"),
    "expired": lambda: certified(NAME, age=10),
}


@pytest.mark.row("T3", "T4")
@pytest.mark.parametrize("scheme", ["submission", "submissions"])
@pytest.mark.parametrize("made", GOOD_FOR_SOMEBODY_ELSE.values(), ids=GOOD_FOR_SOMEBODY_ELSE.keys())
def test_a_certificate_for_somebody_else_is_refused_and_told_nothing(
    made: Callable[[], tuple[bytes, bytes]], scheme: str, tmp_path: Path
) -> None:
    """C1: although whoever issued it is trusted."""
    served, trusted = context(tmp_path, *made())
    with Server(context=served, implicit_tls=scheme == "submissions", users=USERS) as server:
        host = smart_host(server, scheme, ca_file=trusted, server_name=NAME, auth=login())
        failure = failure_of(offer(host))
        assert (failure.stage, failure.lead) == (Stage.TLS, REFUSED)
        assert "mismatch" in failure.what or "expired" in failure.what
        [session] = server.finished()
        nothing_told(session)


@pytest.mark.row("T3")
@pytest.mark.parametrize("name", [NAME, "*.client.example", NAME.upper()])
def test_a_certificate_for_the_name_is_taken(name: str, tmp_path: Path) -> None:
    """C1: the same making, so that the refusals above have one reason each."""
    served, trusted = context(tmp_path, *certified(name))
    with Server(context=served) as server:
        assert deliver(offer(smart_host(server, "submission", ca_file=trusted, server_name=NAME))).tls == "TLSv1.3"


@pytest.mark.row("T3")
def test_a_star_is_not_for_an_address(tmp_path: Path) -> None:
    """C1: an address is verified as an address."""
    served, trusted = context(tmp_path, *certified("*.0.0.1", "127.0.0.2", common_name="127.0.0.1"))
    with Server(context=served, users=USERS) as server:
        failure = failure_of(offer(smart_host(server, "submission", ca_file=trusted, auth=login())))
        assert (failure.stage, failure.lead) == (Stage.TLS, REFUSED)
        nothing_told(server.finished()[0])


@pytest.mark.row("T3", "T4")
@pytest.mark.parametrize("scheme", ["submission", "submissions"])
@pytest.mark.parametrize("ca_file", ["the machine's", "another's"])
def test_a_self_signed_certificate_is_refused(ca_file: str, scheme: str, authority: Authority, tmp_path: Path) -> None:
    """C1: by whoever is trusted otherwise."""
    served, _ = context(tmp_path, *certified("127.0.0.1"))
    known: dict[str, Any] = {"ca_file": authority.ca_file(tmp_path / "other.pem")} if ca_file != "the machine's" else {}
    with Server(context=served, implicit_tls=scheme == "submissions", users=USERS) as server:
        failure = failure_of(offer(smart_host(server, scheme, auth=login(), **known)))
        assert (failure.stage, failure.lead) == (Stage.TLS, REFUSED)
        assert "self-signed" in failure.what.replace("self signed", "self-signed")
        nothing_told(server.finished()[0])


@pytest.mark.row("T3")
@pytest.mark.parametrize("scheme", ["submission", "submissions"])
def test_a_leaf_cannot_vouch_for_others(scheme: str, tmp_path: Path) -> None:
    """C1: whoever has one certificate of a trusted authority must not make more of it."""
    root_key, leaf_key, forged_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    now = datetime.now(timezone.utc)

    def issue(
        name: str, key: ec.EllipticCurvePrivateKey, issuer: str, by: ec.EllipticCurvePrivateKey, ca: bool = False
    ) -> bytes:
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(by, hashes.SHA256())
        )
        return made.public_bytes(serialization.Encoding.PEM)

    root = issue("root.example", root_key, "root.example", root_key, ca=True)
    leaf = issue("evil.example", leaf_key, "root.example", root_key)
    forged = issue(NAME, forged_key, "evil.example", leaf_key)
    key = forged_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    served, trusted = context(tmp_path, forged + leaf, key)
    trusted.write_bytes(root)
    with Server(context=served, implicit_tls=scheme == "submissions", users=USERS) as server:
        host = smart_host(server, scheme, ca_file=trusted, server_name=NAME, auth=login())
        failure = failure_of(offer(host))
        assert (failure.stage, failure.lead) == (Stage.TLS, REFUSED)
        nothing_told(server.finished()[0])


@pytest.mark.row("T3")
def test_tls_below_1_2_is_refused(authority: Authority, tmp_path: Path) -> None:
    """C1: whatever the server would like."""
    served = authority.server_context()
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        served.minimum_version, served.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    served.set_ciphers("ALL:@SECLEVEL=0")
    with Server(context=served, users=USERS) as server:
        ca_file = authority.ca_file(tmp_path / "ca.pem")
        failure = failure_of(offer(smart_host(server, "submission", ca_file=ca_file, auth=login())))
        assert failure.stage is Stage.TLS
        nothing_told(server.finished()[0])


# -- STARTTLS


@pytest.mark.row("T1")
@pytest.mark.parametrize(
    "more",
    [
        b"250-server.example\r\n250 AUTH PLAIN\r\n",  # the answer to an EHLO that has not been said
        b"235 2.7.0 welcome\r\n250 fine\r\n250 fine\r\n354 go\r\n250 taken\r\n",  # a whole dialogue
        b"\x16\x03\x03\x00\x02\x00\x00",  # what looks like TLS
    ],
)
def test_words_put_in_before_tls_are_never_read_within_it(more: bytes, authority: Authority, tmp_path: Path) -> None:
    """C1: CVE-2011-0411 and CVE-2021-38371."""
    ca_file = authority.ca_file(tmp_path / "ca.pem")
    with Server({"STARTTLS": b"220 go ahead\r\n" + more}, context=authority.server_context(), users=USERS) as server:
        failure = failure_of(offer(smart_host(server, "submission", ca_file=ca_file, auth=login())))
        assert (failure.stage, failure.lead) == (Stage.STARTTLS, TRY_AGAIN)
        assert "more than the reply to STARTTLS" in failure.what
        [session] = server.finished()
        assert not session.tls
        nothing_told(session)


@pytest.mark.row("T1")
@pytest.mark.parametrize("reply", [b"220-go\r\n220 ahead\r\n", b"220 go ahead\n"])
def test_a_220_in_another_form_is_a_220(reply: bytes, authority: Authority, tmp_path: Path) -> None:
    """C1: neither its lines nor its line end are "more"."""
    with Server({"STARTTLS": reply}, context=authority.server_context()) as server:
        host = smart_host(server, "submission", ca_file=authority.ca_file(tmp_path / "ca.pem"))
        assert deliver(offer(host)).tls == "TLSv1.3"


STRIPPED = {
    "not offered": {"EHLO": "250-server.example\n250 AUTH PLAIN LOGIN"},
    "454": {"STARTTLS": "454 4.7.0 TLS not available"},
    "501": {"STARTTLS": "501 5.5.4 no"},
    "502": {"STARTTLS": "502 5.5.1 what?"},
    "250": {"STARTTLS": "250 2.0.0 fine"},
    "closed": {"STARTTLS": Drop()},
    "reset": {"STARTTLS": Reset()},
    "HELO only": {"EHLO": "502 5.5.1 what?"},
    "EHLO refused": {"EHLO": "550 5.7.1 no"},
    "EHLO refused, and closed": {"EHLO": Then("421 4.7.0 no", Drop())},
    "only the word": {"EHLO": "250-server.example\n250 XSTARTTLS"},
    "in the greeting line": {"EHLO": "250 STARTTLS"},
    "closed in the handshake": {"handshake": Drop()},
    "clear text for a handshake": {"handshake": b"250 server.example\r\n235 welcome\r\n250 fine\r\n"},
}


@pytest.mark.row("T2", "T4")
@pytest.mark.parametrize("policy", ["required", "if-offered"])
@pytest.mark.parametrize("script", STRIPPED.values(), ids=STRIPPED.keys())
def test_where_tls_is_stripped_no_password_and_no_message_go(
    script: dict[str, Any], policy: str, authority: Authority, tmp_path: Path
) -> None:
    """C1: required TLS is reached or the host has failed; and a password needs it whatever the policy says."""
    ca_file = authority.ca_file(tmp_path / "ca.pem")
    with Server(script, context=authority.server_context(), users=USERS) as server:
        auth: dict[str, Any] = {} if policy == "required" else {"auth": login()}
        failure = failure_of(offer(smart_host(server, "submission", policy=policy, ca_file=ca_file, **auth)))
        assert failure.stage in (Stage.EHLO, Stage.STARTTLS, Stage.TLS, Stage.AUTH)
        for session in server.finished():
            assert not session.tls
            nothing_told(session)


@pytest.mark.row("T1", "T4")
def test_auth_that_is_offered_in_the_clear_alone_is_not_used(authority: Authority, tmp_path: Path) -> None:
    """C1: what was offered before TLS has been forgotten."""
    script = {"EHLO 1": "250-server.example\n250-STARTTLS\n250 AUTH PLAIN", "EHLO 2": "250 server.example"}
    with Server(script, context=authority.server_context(), users=USERS) as server:
        ca_file = authority.ca_file(tmp_path / "ca.pem")
        failure = failure_of(offer(smart_host(server, "submission", ca_file=ca_file, auth=login())))
        assert (failure.stage, failure.what) == (Stage.AUTH, "the server offers no AUTH")
        [session] = server.finished()
        assert session.tls
        nothing_told(session)


# -- truncation


@pytest.mark.row("T9")
@pytest.mark.parametrize("scheme", ["submission", "submissions"])
@pytest.mark.parametrize("end", [Drop(), Reset()], ids=["FIN", "RST"])
@pytest.mark.parametrize(
    ("words", "sent"),
    [(b"", False), (b"250 2.0.0 taken", False), (b"250-2.0.0 taken\r\n", False), (b"250 2.0.0 taken\r\n", True)],
)
def test_an_end_without_close_notify_is_no_verdict_and_harms_none(
    words: bytes, sent: bool, end: Drop | Reset, scheme: str, authority: Authority, tmp_path: Path
) -> None:
    """C3, A5: only a complete reply counts, and once it is there nothing else does."""
    server = Server({"dot": Then(words, end)}, context=authority.server_context(), implicit_tls=scheme == "submissions")
    with server:
        host = smart_host(server, scheme, ca_file=authority.ca_file(tmp_path / "ca.pem"))
        if sent:
            assert deliver(offer(host)).reply == "250 2.0.0 taken"
        else:
            assert failure_of(offer(host)).lead == UNCERTAIN


# -- from outside


@pytest.mark.row("T2", "T3")
@pytest.mark.parametrize("kind", ["stripped", "somebody else's certificate"])
def test_whoever_stands_between_gets_one_line_of_failure(kind: str, program: Program, authority: Authority) -> None:
    """A3, C1: by default, without a word in the configuration about TLS."""
    served = None if kind == "stripped" else authority.server_context("mail.other.example")
    with Server(users=USERS, context=served) as server:
        program.configure(
            f'smart_hosts = ["submission://127.0.0.1:{server.port}"]\nfrom = "me@client.example"\n'
            f'[auth]\nuser = "alice"\npassword = "{CANARY}"\n'
        )
        done = program.run("you@example.net", stdin=b"Subject: hello\n\nHello.\n")
        [session] = server.finished()
    assert (done.status, done.out) == (1, b"")
    assert done.sentence.startswith("sendmail: not sent, refused: ")
    nothing_told(session)
