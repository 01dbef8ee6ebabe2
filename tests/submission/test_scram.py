"""SCRAM: the vectors of its RFCs, a second implementation, what is hashed and bound, and servers that lie."""

from __future__ import annotations

import base64
import hashlib
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
import scramp  # type: ignore[import-untyped]
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from muawrap.failure import REFUSED, Failure, Stage
from muawrap.mail import SmartHost
from muawrap.submission import binding, saslprep, scram
from muawrap.submission.deliver import deliver
from muawrap.submission.sasl import Channel
from muawrap.submission.scram import FEWEST, MOST, Scram
from tests.submission.offering import failure_of, login, offer, smart_host
from tests.support.certificates import Authority
from tests.support.need import need_module
from tests.support.scram import LIES, NAMES
from tests.support.scram import scram as serving
from tests.support.server import Server

USERS = {"alice": "s3cret"}
UNSEEN = "it refused before it saw the password: the user is unknown, or the server has no SCRAM for it"
OTHER_BINDING = ", or knows another channel binding only"


def clear(server: Server, **fields: Any) -> SmartHost:
    return smart_host(server, policy="none", auth=login(allow_plaintext=True, **fields))


# -- pure


VECTORS = {
    "RFC 5802, 5": (
        "SCRAM-SHA-1",
        "fyko+d2lbbFgONRv9qkxdawL",
        b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
        b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
        b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
    ),
    "RFC 7677, 3": (
        "SCRAM-SHA-256",
        "rOprNGfwEbeRWgbNEkqO",
        b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    ),
}


@pytest.mark.parametrize(("name", "nonce", "first", "challenge", "final", "proof"), VECTORS.values(), ids=VECTORS)
def test_the_vectors_of_the_rfcs(
    name: str, nonce: str, first: bytes, challenge: bytes, final: bytes, proof: bytes
) -> None:
    """RFC 5802, 5; RFC 7677, 3."""
    made = Scram(name, "user", "pencil", nonce=nonce)
    assert made.initial == first
    assert made.answer(challenge) == final
    assert made.answer(proof) == b""
    made.accepted("2.7.0 welcome")


TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn", "Co")), min_size=1, max_size=12)
SMALL = st.text("aZ9=, \xe9\u2168\u00aa\u00ad\u0627", min_size=1, max_size=8)


@settings(max_examples=60)
@given(name=st.sampled_from(NAMES), user=TEXT | SMALL, password=TEXT | SMALL, bound=st.binary(min_size=1, max_size=64))
def test_a_second_implementation_agrees(name: str, user: str, password: str, bound: bytes) -> None:
    """RFC 5802: against scramp's server, which checks our proof and proves itself; "=", "," and SASLprep included."""
    need_module("scramp")
    channel = ("tls-server-end-point", bound)
    mechanism = scramp.ScramMechanism(name)
    try:
        made = Scram(name, user, password, Channel(binding=bound))
        saslprep.prepared(user, stored=True)  # as scramp has it
    except (Failure, ValueError):
        return  # what SASLprep does not take; test_what_saslprep_makes_of_it has those
    known = mechanism.make_auth_info(saslprep.prepared(password, stored=True), iteration_count=4096)
    prepared = saslprep.prepared(user, stored=False)
    server = mechanism.make_server(
        {prepared: known}.__getitem__, channel_binding=channel if name.endswith("-PLUS") else None
    )
    assert made.initial is not None
    server.set_client_first(made.initial.decode())
    server.set_client_final(made.answer(server.get_server_first().encode()).decode())
    assert made.answer(server.get_server_final().encode()) == b""
    made.accepted("")


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
        ("\u06271\u0628", "\u06271\u0628"),
        ("pa\u0308sswo\u0308rd", "p\xe4ssw\xf6rd"),
        ("\U0001f600", None),
        ("\u0007", None),
        ("\u0627\u0031", None),
        ("\u0627a\u0627", None),
        ("a\ud800", None),
        ("\ufffd", None),
        ("\u200e", None),
        ("\ue000", None),
        ("\u00ad", None),
    ],
)
def test_what_saslprep_makes_of_it(text: str, made: str | None) -> None:
    """RFC 4013, 3: its examples, and one of each kind that is prohibited."""
    if made is not None:
        assert saslprep.prepared(text, stored=True) == made
        return
    with pytest.raises(ValueError, match=r"it |nothing|what "):
        saslprep.prepared(text, stored=True)
    with pytest.raises(Failure, match="the password cannot be used with SCRAM: ") as caught:
        Scram("SCRAM-SHA-256", "alice", f"{text}")
    assert "PLAIN" in caught.value.advice


def test_a_user_may_hold_what_is_newer_than_the_tables() -> None:
    """RFC 5802, 5.1: the user is a query, the password a stored string (RFC 3454, 7)."""
    made = Scram("SCRAM-SHA-1", "\U0001f600", "pw", nonce="x")
    assert made.initial == "n,,n=\U0001f600,r=x".encode()


def test_a_password_that_is_no_utf8_is_told_so() -> None:
    """RFC 5802, 2.2: SCRAM hashes UTF-8, and a Latin-1 file holds none."""
    with pytest.raises(Failure, match="octets that are no UTF-8"):
        Scram("SCRAM-SHA-1", "alice", b"p\xe9".decode("utf-8", "surrogateescape"))


def test_nonces_are_never_the_same() -> None:
    """RFC 5802, 5.1: 144 random bits."""
    assert len({Scram("SCRAM-SHA-1", "a", "b").initial for _ in range(100)}) == 100


# -- the certificate


def signed(key: Any, algorithm: Any, **more: Any) -> bytes:
    """A certificate in DER, signed in this way."""
    from datetime import datetime, timezone

    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(1)
    builder = builder.not_valid_before(datetime(2026, 1, 1, tzinfo=timezone.utc))
    builder = builder.not_valid_after(datetime(2036, 1, 1, tzinfo=timezone.utc))
    made = builder.public_key(key.public_key()).sign(key, algorithm, **more)
    return made.public_bytes(serialization.Encoding.DER)


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize(
    ("algorithm", "name"),
    [
        (hashes.SHA224(), "sha224"),
        (hashes.SHA256(), "sha256"),
        (hashes.SHA384(), "sha384"),
        (hashes.SHA512(), "sha512"),
    ],
)
def test_the_binding_uses_the_hash_of_the_signature(algorithm: Any, name: str, rsa_key: rsa.RSAPrivateKey) -> None:
    """RFC 5929, 4.1: for RSA, RSASSA-PSS and ECDSA."""
    pss = padding.PSS(padding.MGF1(algorithm), padding.PSS.DIGEST_LENGTH)
    for der in (
        signed(rsa_key, algorithm),
        signed(rsa_key, algorithm, rsa_padding=pss),
        signed(ec.generate_private_key(ec.SECP256R1()), algorithm),
    ):
        assert binding.end_point(der) == hashlib.new(name, der).digest()


@pytest.mark.parametrize("oid", ["2a864886f70d010104", "2a864886f70d010105"])
def test_md5_and_sha1_become_sha256(oid: str, rsa_key: rsa.RSAPrivateKey) -> None:
    """RFC 5929, 4.1: nobody issues those any more, so the OID is put into a certificate."""
    der = signed(rsa_key, hashes.SHA256()).replace(bytes.fromhex("2a864886f70d01010b"), bytes.fromhex(oid))
    assert binding.end_point(der) == hashlib.sha256(der).digest()


def test_without_a_hash_there_is_no_binding(rsa_key: rsa.RSAPrivateKey) -> None:
    """RFC 5929, 4.1: undefined for Ed25519, and for what is no certificate."""
    assert binding.end_point(signed(ed25519.Ed25519PrivateKey.generate(), None)) is None
    der = signed(rsa_key, hashes.SHA256())
    for cut in (0, 1, 2, 5, len(der) // 2, len(der) - 1):
        assert binding.end_point(der[:cut]) is None
    assert binding.end_point(der.replace(bytes.fromhex("2a864886f70d01010b"), b"\x2a" * 9)) is None


# -- with servers


@pytest.mark.parametrize("in_success", [False, True])
@pytest.mark.parametrize("name", ["SCRAM-SHA-256", "SCRAM-SHA-1"])
def test_it_works_in_the_clear_where_that_is_allowed(name: str, in_success: bool) -> None:
    """C1: the signature in a challenge (RFC 4954, 4), or in the words of the 235."""
    offered = ("PLAIN", "LOGIN", name)
    with Server(users=USERS, mechanisms=offered, exchanges=serving(in_success=in_success)) as server:
        assert deliver(offer(clear(server))).user == "alice"
        [session] = server.finished()
    assert session.authenticated == "alice"
    assert session.commands[1].startswith(f"AUTH {name} ".encode())
    assert base64.b64decode(session.commands[1].split()[2]).startswith(b"n,,n=alice,r=")
    assert b"s3cret" not in b" ".join(base64.b64decode(word) for word in session.commands[2].split())


def test_the_signature_is_read_as_it_came() -> None:
    """C1: the words of the 235 are told without the password, but one of a letter stands in any base64."""
    users = {"alice": "d"}  # as in "dj0", which is "v="
    with Server(users=users, mechanisms=("SCRAM-SHA-256",), exchanges=serving(in_success=True)) as server:
        assert deliver(offer(smart_host(server, policy="none", auth=login("d", allow_plaintext=True)))).user == "alice"


@pytest.mark.parametrize("versions", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"])
def test_it_is_bound_to_the_certificate(
    name: str, versions: ssl.TLSVersion, authority: Authority, tmp_path: Path
) -> None:
    """RFC 5929, 4: with both versions of TLS; the strongest is used although weaker ones stand first."""
    certificate = authority.certificate("127.0.0.1")
    der = ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode())
    context = authority.server_context(certificate=certificate, versions=(versions, versions))
    exchanges = serving(binding=hashlib.sha256(der).digest(), offers_plus=True)
    offered = ("PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256", name)
    with Server(users=USERS, mechanisms=offered, exchanges=exchanges, context=context) as server:
        host = smart_host(server, "submission", ca_file=authority.ca_file(tmp_path / "ca.pem"), auth=login())
        assert deliver(offer(host)).user == "alice"
        [session] = server.finished()
    [command] = [command for command in session.commands if command.startswith(b"AUTH")]
    assert command.startswith(f"AUTH {name} ".encode())
    assert base64.b64decode(command.split()[2]).startswith(b"p=tls-server-end-point,,n=alice,r=")


def over_tls(
    authority: Authority,
    tmp_path: Path,
    offered: tuple[str, ...],
    listed: tuple[str, ...] = (),
    script: dict[str, str] | None = None,
    **fields: Any,
) -> tuple[Server, SmartHost]:
    context = authority.server_context("127.0.0.1")
    server = Server(script or {}, users=USERS, mechanisms=offered, exchanges=serving(**fields), context=context)
    ca_file = authority.ca_file(tmp_path / "ca.pem")
    return server, smart_host(server, "submission", ca_file=ca_file, auth=login(mechanisms=listed))


def test_whoever_stands_between_has_another_certificate(authority: Authority, tmp_path: Path) -> None:
    """RFC 5802, 6: the server sees that we are bound to somebody else; nothing else is tried."""
    server, host = over_tls(authority, tmp_path, NAMES, binding=b"of another certificate")
    with server:
        failure = failure_of(offer(host))
        [session] = server.finished()
    assert failure.lead == REFUSED
    assert failure.what == "the server says channel-bindings-dont-match"
    assert failure.reply is not None
    assert failure.advice.endswith("somebody, or a proxy, stands between")
    assert sum(command.startswith(b"AUTH") for command in session.commands) == 1


def test_whoever_takes_plus_from_the_offer_is_noticed(authority: Authority, tmp_path: Path) -> None:
    """RFC 5802, 6: "y" says that we could have, and the server that offered it knows that somebody has lied."""
    server, host = over_tls(authority, tmp_path, ("SCRAM-SHA-256", "PLAIN"), offers_plus=True)
    with server:
        failure = failure_of(offer(host))
    assert failure.what == "the server says server-does-support-channel-binding"
    assert failure.advice == "the server offers -PLUS, and not to us: somebody, or a proxy, stands between"
    server, host = over_tls(authority, tmp_path, ("SCRAM-SHA-256", "PLAIN"))
    with server:
        assert deliver(offer(host)).user == "alice"
        [session] = server.finished()
    [command] = [command for command in session.commands if command.startswith(b"AUTH")]
    assert base64.b64decode(command.split()[2]).startswith(b"y,,n=alice")


def test_a_list_without_plus_is_a_client_without_it(authority: Authority, tmp_path: Path) -> None:
    """RFC 5802, 6: "n", and a server that offers -PLUS takes it."""
    server, host = over_tls(authority, tmp_path, NAMES, ("SCRAM-SHA-256",), offers_plus=True)
    with server:
        assert deliver(offer(host)).user == "alice"


def test_a_server_that_binds_in_another_way_says_so(authority: Authority, tmp_path: Path) -> None:
    """RFC 9266, 3: tls-exporter, which no Python here can compute; no proof has left, and the advice helps."""
    listed = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256")
    server, host = over_tls(authority, tmp_path, NAMES, listed, known_bindings=(b"tls-exporter",), binding=b"x")
    with server:
        failure = failure_of(offer(host))
        [session] = server.finished()
    assert failure.what == "the server says unsupported-channel-binding-type"
    assert failure.advice == f'{UNSEEN}{OTHER_BINDING}; try auth.mechanisms = ["SCRAM-SHA-256"]'
    assert not any(b",p=" in base64.b64decode(answer) for answer in session.commands[4:-1])


def test_such_a_server_is_asked_without_a_binding_then(authority: Authority, tmp_path: Path) -> None:
    """C1: unless a list forbids it; the second exchange is that of a client without channel binding, and mail goes."""
    server, host = over_tls(authority, tmp_path, NAMES, known_bindings=(b"tls-exporter",), binding=b"x")
    with server:
        assert deliver(offer(host)).user == "alice"
        [session] = server.finished()
    said = [command.split() for command in session.commands if command.startswith(b"AUTH")]
    assert [words[1] for words in said] == [b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256"]
    assert base64.b64decode(said[1][2]).startswith(b"n,,n=alice")


@pytest.mark.row("T4")
@pytest.mark.parametrize(
    ("others", "way"), [(("CRAM-MD5", "LOGIN", "PLAIN"), "PLAIN"), (("LOGIN",), "LOGIN"), ((), "")]
)
@pytest.mark.parametrize("script", [{}, {"AUTH": "535 5.7.8 no"}])
def test_nothing_but_scram_follows_a_binding_that_is_refused(
    script: dict[str, str], others: tuple[str, ...], way: str, authority: Authority, tmp_path: Path
) -> None:
    """C1: the password never goes out by a weaker mechanism unasked; the advice names the list that allows it."""
    server, host = over_tls(
        authority, tmp_path, ("SCRAM-SHA-256-PLUS", *others), script=script, known_bindings=(b"tls-exporter",)
    )
    with server:
        failure = failure_of(offer(host))
        [session] = server.finished()
    assert (failure.stage, failure.lead) == (Stage.AUTH, REFUSED)
    allowing = f'; try auth.mechanisms = ["{way}"]' if way else ""
    assert failure.advice == f"{UNSEEN}{OTHER_BINDING}{allowing}"
    [command] = [command for command in session.commands if command.startswith(b"AUTH")]
    assert command.startswith(b"AUTH SCRAM-SHA-256-PLUS ")


@pytest.mark.parametrize(
    ("others", "way", "secure"),
    [
        (("LOGIN", "PLAIN"), "PLAIN", True),
        (("SCRAM-SHA-1", "CRAM-MD5"), "", True),
        (("LOGIN", "PLAIN"), "", False),  # anybody between could have said so, to be shown the password
    ],
)
def test_a_refusal_before_any_proof_is_not_about_the_password(
    others: tuple[str, ...], way: str, secure: bool, authority: Authority, tmp_path: Path
) -> None:
    """A3: Dovecot with {SHA512-CRYPT} has no SCRAM for the user, and says 535 to the first message; once, as ever."""
    context = authority.server_context("127.0.0.1") if secure else None
    with Server(
        {"AUTH": "535 5.7.8 no"}, users=USERS, mechanisms=("SCRAM-SHA-256", *others), context=context
    ) as server:
        host = smart_host(server, "submission", ca_file=authority.ca_file(tmp_path / "ca.pem"), auth=login())
        failure = failure_of(offer(host if secure else clear(server)))
        [session] = server.finished()
    allowing = f'; try auth.mechanisms = ["{way}"]' if way else ""
    assert (failure.lead, failure.advice) == (REFUSED, UNSEEN + allowing)
    assert sum(command.startswith(b"AUTH") for command in session.commands) == 1


@pytest.mark.parametrize(
    ("reply", "advice"),
    [
        ("534 5.7.9 application-specific password required", "put an application password into auth.password"),
        ("503 5.5.1 authentication not enabled", ""),
        ("554 5.7.1 your address is blocked", ""),
    ],
)
def test_a_refusal_that_is_about_something_else_keeps_its_advice(reply: str, advice: str) -> None:
    """A3: before any proof, too; only 535 says that user and secret do not fit (RFC 4954, 6)."""
    with Server({"AUTH": reply}, users=USERS, mechanisms=("SCRAM-SHA-256", "PLAIN")) as server:
        failure = failure_of(offer(clear(server)))
    assert not failure.advice.startswith(UNSEEN)
    assert advice in failure.advice


def test_a_refusal_of_the_proof_is_about_the_password() -> None:
    """A3: then user and password are what does not fit."""
    with Server(users=USERS, mechanisms=("SCRAM-SHA-256", "PLAIN"), exchanges=serving()) as server:
        failure = failure_of(offer(clear(server)._replace(auth=login("wrong", allow_plaintext=True))))
    assert failure.advice.startswith("look at auth.user and auth.password")


def test_a_wrong_password_is_no_matter_of_the_binding(authority: Authority, tmp_path: Path) -> None:
    """C1: one attempt where the binding was taken."""
    server, host = over_tls(authority, tmp_path, NAMES)
    with server:
        failure_of(offer(host._replace(auth=login("wrong"))))
        [session] = server.finished()
    assert sum(command.startswith(b"AUTH") for command in session.commands) == 1


def test_plus_is_not_used_in_the_clear() -> None:
    """C1: there is nothing to bind to."""
    with Server(users=USERS, mechanisms=NAMES, exchanges=serving()) as server:
        assert deliver(offer(clear(server))).user == "alice"
        assert server.finished()[0].commands[1].startswith(b"AUTH SCRAM-SHA-256 ")
    with Server(users=USERS, mechanisms=NAMES, exchanges=serving()) as server:
        failure = failure_of(offer(clear(server, mechanisms=("SCRAM-SHA-1-PLUS",))))
        assert failure.what == "nothing of auth.mechanisms can be used: SCRAM-SHA-1-PLUS"


def test_a_wrong_password_is_a_535_and_no_other_mechanism_is_tried() -> None:
    """RULES C1; the server's own word for it stands in the sentence."""
    with Server(users={"alice": "other"}, mechanisms=(*NAMES, "PLAIN"), exchanges=serving()) as server:
        failure = failure_of(offer(clear(server)))
        [session] = server.finished()
    assert (failure.stage, failure.lead) == (Stage.AUTH, REFUSED)
    assert failure.what == "the server says invalid-proof"
    assert "auth.password" in failure.advice
    assert sum(command.startswith(b"AUTH") for command in session.commands) == 1


def test_commas_and_equal_signs_in_a_user_are_escaped() -> None:
    """RFC 5802, 5.1: saslname."""
    user = "a=b,c=2C"
    with Server(users={user: "s3cret"}, mechanisms=("SCRAM-SHA-256",), exchanges=serving()) as server:
        auth = login(allow_plaintext=True)._replace(user=user)
        assert deliver(offer(smart_host(server, policy="none", auth=auth))).user == user


@pytest.mark.row("T5")
@pytest.mark.parametrize("name", ["SCRAM-SHA-256", "SCRAM-SHA-1"])
@pytest.mark.parametrize("lie", LIES)
def test_a_server_that_lies_gets_no_mail(lie: str, name: str) -> None:
    """RELIABILITY T5: one line, no MAIL, no second attempt, and in no time."""
    begin = time.process_time()
    with Server(users=USERS, mechanisms=(name, "PLAIN", "LOGIN"), exchanges=serving(lie=lie)) as server:
        failure = failure_of(offer(clear(server)))
        [session] = server.finished()
    assert failure.stage is Stage.AUTH
    assert failure.lead == REFUSED
    assert not any(command.startswith(b"MAIL") for command in session.commands)
    assert sum(command.startswith(b"AUTH") for command in session.commands) == 1
    assert b"s3cret" not in session.raw
    assert time.process_time() - begin < 0.5
    words = {
        "too few iterations": "wants SCRAM with 4095 iterations, which does not protect a password",
        "too many iterations": f"wants SCRAM with 1000001 iterations, and {MOST} are the limit",
        "foreign nonce": "sent a nonce that is not made of ours: somebody may be repeating an old exchange",
        "our nonce alone": "sent a nonce that is not made of ours: somebody may be repeating an old exchange",
        "signature twice": "sent more than SCRAM has",
        **dict.fromkeys(
            ("no nonce", "no base64 salt", "unknown extension", "garbage"), "sent what is no message of SCRAM"
        ),
        **dict.fromkeys(
            ("no iterations", "negative iterations", "endless iterations"), "sent what is no message of SCRAM"
        ),
    }
    assert failure.what == words.get(lie, "the server could not prove that it knows the password")


@pytest.mark.row("T5")
@pytest.mark.parametrize("iterations", [FEWEST, 100_000])
def test_iterations_within_the_bounds_are_done(iterations: int) -> None:
    """RFC 7677, 4."""
    with Server(users=USERS, mechanisms=("SCRAM-SHA-256",), exchanges=serving(iterations=iterations)) as server:
        assert deliver(offer(clear(server))).user == "alice"


def test_what_the_server_did_not_take_with_auth_is_said_again() -> None:
    """RFC 4954, 4: a server may ask for what it has been told."""
    with Server(users=USERS, mechanisms=("SCRAM-SHA-256",), exchanges=serving(deaf=True)) as server:
        assert deliver(offer(clear(server))).user == "alice"
        [session] = server.finished()
    assert session.commands[2] == session.commands[1].split()[2]


def test_the_module_stands_alone() -> None:
    """DESIGN: what only SCRAM needs is loaded by SCRAM alone, and the tables of SASLprep by what is not ASCII."""
    import subprocess
    import sys

    script = (
        "import sys; from muawrap.submission import ready, sasl; early = set(sys.modules);"
        "made = ready._mechanism('SCRAM-SHA-256', 'a', 'b', sasl.Channel()); middle = set(sys.modules);"
        "ready._mechanism('SCRAM-SHA-256', 'a', '\\xe4', sasl.Channel()); late = set(sys.modules);"
        "print([('stringprep' in names, 'muawrap.submission.scram' in names) for names in (early, middle, late)])"
    )
    source = Path(scram.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-S", "-c", script],
        env={"PYTHONPATH": str(source)},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    assert done.stdout == "[(False, False), (False, True), (True, True)]\n"
