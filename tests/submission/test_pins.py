"""Certificates known by their fingerprint, read from DER, and what a pinned connection takes and refuses."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from muawrap.failure import REFUSED, Stage
from muawrap.mail import SmartHost, Tls
from muawrap.submission import pins, tls
from muawrap.submission.deliver import deliver
from tests.submission.offering import failure_of, login, offer, smart_host
from tests.support.canary import CANARY, assert_silent
from tests.support.certificates import Issued, issue
from tests.support.program import Program
from tests.support.server import Server

KEY = ec.generate_private_key(ec.SECP256R1())
PINNED = issue("127.0.0.1", key=KEY)
RENEWED = issue("127.0.0.1", key=KEY)
OTHER = issue("127.0.0.1")
USERS = {"alice": CANARY}

# -- the fingerprints


@pytest.mark.row("T3 pinning")
@pytest.mark.parametrize(
    "made",
    [
        PINNED,
        issue("mail.example", "127.0.0.1", common_name="x" * 64),
        issue(key=ec.generate_private_key(ec.SECP521R1())),
        issue(*(f"{number}.example.org" for number in range(9000)), key=KEY),  # lengths of three octets
        issue(key=rsa.generate_private_key(65537, 2048)),
    ],
)
def test_both_fingerprints_are_those_that_others_compute(made: Issued) -> None:
    """RFC 5280, 4.1: the cryptography package reads and writes the same."""
    assert pins.fingerprints(made.der) == made.pins


@pytest.mark.row("T3 pinning")
def test_a_certificate_cut_short_has_no_public_key() -> None:
    """RELIABILITY: what a stranger sends is read within its bounds."""
    for end in range(len(PINNED.der)):
        with pytest.raises(ValueError, match=r" at |more than"):
            pins.public_key(PINNED.der[:end])
    with pytest.raises(ValueError, match="more than a certificate"):
        pins.public_key(PINNED.der + b"\0")


def element(identifier: int, *contents: bytes, length: bytes | None = None) -> bytes:
    octets = b"".join(contents)
    return bytes([identifier]) + (bytes([len(octets)]) if length is None else length) + octets


SPKI = element(0x30, b"the key")
BEFORE = [element(0x02, b"\x05"), *[element(0x30, bytes([number])) for number in range(4)]]


def test_a_certificate_of_version_1_has_a_public_key_too() -> None:
    """RFC 5280, 4.1: [0] is left out where the version is the first one."""
    assert pins.public_key(element(0x30, element(0x30, *BEFORE, SPKI), b"and so on")) == SPKI


@pytest.mark.parametrize(
    "der",
    [
        element(0x30, element(0x30, *BEFORE, SPKI), length=b"\x80"),  # indefinite
        element(0x30, element(0x30, *BEFORE, SPKI), length=b"\x81\x1d"),  # longer than need be
        element(0x30, element(0x30, *BEFORE, SPKI), length=b"\x82\x00\x1d"),
        element(0x30, element(0x30, *BEFORE, SPKI), length=b"\x85\0\0\0\0\x1d"),
        element(0x30, element(0x30, *BEFORE, SPKI), length=b"\xff"),
        element(0x30, element(0x30, *BEFORE, element(0x30, b"the key", length=b"\x08")), b"\0\0"),  # beyond its frame
        element(0x30, element(0x30, *BEFORE[1:], SPKI)),  # without a serial number
        element(0x30, element(0x30, *BEFORE)),  # without a key
        element(0x31, element(0x30, *BEFORE, SPKI)),
        b"",
        b"\x30",
    ],
)
def test_what_is_not_der_has_no_public_key(der: bytes) -> None:
    """X.690, 10.1: and its own SHA-256 is all there is."""
    with pytest.raises(ValueError, match=" at "):
        pins.public_key(der)
    assert len(pins.fingerprints(der)) == 1


@given(st.data())
def test_a_damaged_certificate_has_some_key_or_none(data: st.DataObject) -> None:
    """RELIABILITY: bad input never yields another exception, and no octet from outside."""
    der = bytearray(PINNED.der)
    for at in data.draw(st.lists(st.integers(0, 120), min_size=1, max_size=4)):
        der[at] = data.draw(st.integers(0, 255))
    try:
        found = pins.public_key(bytes(der))
    except ValueError:
        return
    assert found in bytes(der)


# -- the connection


def pinned(server: Server, made: Issued, which: int = 0, scheme: str = "submission", **fields: Any) -> SmartHost:
    fields.setdefault("auth", login())
    return smart_host(server, scheme, fingerprint=(made.pins[which],), **fields)


@pytest.mark.row("T3 pinning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("scheme", ["submission", "submissions"])
@pytest.mark.parametrize("which", [0, 1], ids=["certificate", "public key"])
def test_a_pinned_certificate_counts_as_verified(which: int, scheme: str, version: ssl.TLSVersion) -> None:
    """C1: no authority knows it, and AUTH is allowed; the log says how."""
    with Server(context=PINNED.served(version), implicit_tls=scheme == "submissions", users=USERS) as server:
        receipt = deliver(offer(pinned(server, PINNED, which, scheme)))
    assert (receipt.tls, receipt.user) == (f"{version.name.replace('_', '.')} pinned", "alice")


@pytest.mark.row("T3 pinning", "T4")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("scheme", ["submission", "submissions"])
def test_another_certificate_is_refused_and_told_nothing(scheme: str, version: ssl.TLSVersion, tmp_path: Path) -> None:
    """C1: even where its authority is trusted and its name is right; the sentence has what could be pinned."""
    root = issue(ca=True)
    shown = issue("127.0.0.1", by=root)
    with Server(context=shown.served(version), implicit_tls=scheme == "submissions", users=USERS) as server:
        host = pinned(server, PINNED, scheme=scheme, ca_file=root.file(tmp_path / "ca.pem"))
        failure = failure_of(offer(host))
        [session] = server.finished()
    assert (failure.stage, failure.lead) == (Stage.TLS, REFUSED)
    whole, key = shown.pins
    assert failure.what == (
        f"the certificate is not good: it is not the one of tls.fingerprint (SHA-256 {whole}, of its public key {key})"
    )
    assert "tls.fingerprint" in failure.advice
    assert_silent(bytes(session.raw))
    assert session.commands == ([b"EHLO client.example", b"STARTTLS"] if scheme == "submission" else [])


@pytest.mark.row("T3 pinning")
def test_a_pinned_key_outlives_its_certificate() -> None:
    """C1: RFC 7469, 2.4, has the reasons."""
    with Server(context=RENEWED.served(), users=USERS) as server:
        assert deliver(offer(pinned(server, PINNED, 1))).tls == "TLSv1.3 pinned"
        assert "tls.fingerprint" in failure_of(offer(pinned(server, PINNED, 0))).what


@pytest.mark.row("T3 pinning")
def test_one_of_several_is_enough() -> None:
    """C1: the next certificate can be named before it is there."""
    with Server(context=PINNED.served(), users=USERS) as server:
        host = smart_host(server, "submission", fingerprint=(OTHER.pins[0], PINNED.pins[1]), auth=login())
        assert deliver(offer(host)).tls == "TLSv1.3 pinned"


@pytest.mark.row("T3 pinning")
def test_a_certificate_further_up_does_not_count() -> None:
    """C1: it is the server's own that is pinned; whoever else has one from that authority is somebody else."""
    root = issue(ca=True)
    shown = issue("127.0.0.1", by=root)._replace(behind=(root,))
    with Server(context=shown.served(), users=USERS) as server:
        assert "tls.fingerprint" in failure_of(offer(pinned(server, root))).what


@pytest.mark.row("T3 pinning")
def test_each_connection_is_looked_at() -> None:
    """C1: a certificate that was right an hour ago says nothing about this connection."""
    with Server([{}, {}], context=PINNED.served(), users=USERS) as server:
        assert deliver(offer(pinned(server, PINNED))).tls == "TLSv1.3 pinned"
        server.context = OTHER.served()
        assert "tls.fingerprint" in failure_of(offer(pinned(server, PINNED))).what


@pytest.mark.row("T3 pinning")
def test_no_certificate_comes_after_the_one_that_was_looked_at() -> None:
    """C1: TLS 1.2 could negotiate anew (RFC 5246, 7.4.1.1)."""
    host = SmartHost("submission://127.0.0.1", "submission", "127.0.0.1", 587, tls=Tls("required"))
    for secure in True, False:
        assert tls.context(host, secure).options & ssl.OP_NO_RENEGOTIATION


@pytest.mark.row("T2", "T3 pinning")
@pytest.mark.parametrize("script", [{"STARTTLS": "454 not now"}, {"EHLO": "250 server.example"}])
def test_whoever_pins_wants_tls(script: Any) -> None:
    """C1: if-offered, which smtp:// has by default, would be no pin at all."""
    with Server(script, context=PINNED.served()) as server:
        host = smart_host(server, "smtp", fingerprint=(PINNED.pins[0],), policy="if-offered")
        assert failure_of(offer(host)).stage is Stage.STARTTLS
        assert not server.messages


@pytest.mark.row("T3 pinning")
def test_the_authorities_play_no_part(tmp_path: Path) -> None:
    """C1: nor does the file with their certificates."""
    with Server(context=PINNED.served(), users=USERS) as server:
        host = pinned(server, PINNED, ca_file=tmp_path / "missing.pem", server_name="somebody.else.example")
        assert deliver(offer(host)).tls == "TLSv1.3 pinned"


@pytest.mark.row("T3 pinning")
def test_what_the_line_shows_can_be_pinned(program: Program) -> None:
    """A3: from the first failure to a connection that is verified, as a person goes about it."""
    with Server(context=PINNED.served()) as server:
        hosts = program.smart_hosts(f"submission://127.0.0.1:{server.port}")
        rest = f'from = "me@client.example"\nlog = "{program.log_file}"\n[tls]\n'
        program.configure(hosts + rest)
        refused = program.run("you@example.net", stdin=b"Subject: hello\n\n")
        assert refused.status == 1
        found = re.search("SHA-256 ([0-9a-f]{64})", refused.sentence)
        assert found
        fingerprint = ":".join(re.findall("..", found[1].upper()))  # as openssl x509 -fingerprint prints it
        program.configure(hosts + rest + f'fingerprint = "SHA256:{fingerprint}"\n')
        assert program.run("you@example.net", stdin=b"Subject: hello\n\n").status == 0
        assert 'tls="TLSv1.3 pinned"' in program.log.splitlines()[-1]
        assert len(server.accepted) == 1
