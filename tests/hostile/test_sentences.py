"""The one line, held against the page that explains it; TLS and files in trouble say what is the matter with them."""

from __future__ import annotations

import errno
import os
import re
import ssl
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import trustme

from muawrap import config, trust
from muawrap.failure import REFUSED, Failure, Stage
from muawrap.mail import SmartHost
from muawrap.submission import connection, explain
from muawrap.submission.connection import Connection
from muawrap.submission.deliver import deliver
from muawrap.submission.dial import Dial
from tests.submission.offering import PATIENT, failure_of, login, offer, smart_host
from tests.support.certificates import Authority, fingerprint
from tests.support.program import REPOSITORY, Program
from tests.support.sentences import Module, sentences
from tests.support.server import Server, Silence, Then, Wait
from tests.support.user import NOBODY, WWW_DATA, acting_as, public_folder

# -- docs/failures.md


def page() -> list[tuple[str, set[str], str | None]]:
    """The rows of all tables: sentence, advice, and what it means, None in a table without that column."""
    found = []
    for line in (REPOSITORY / "docs" / "failures.md").read_text(encoding="ascii").splitlines():
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and cells[0].startswith("`"):
            sentence, advice, *meaning = cells
            found.append((sentence[1:-1], set(re.findall(r"`(.+?)`", advice)), meaning[0] if meaning else None))
    return found


def test_every_sentence_stands_on_the_page_with_its_advice_and_no_other() -> None:
    """A3: whoever has a line can look it up. A new Failure, or a new wording, wants a row in docs/failures.md."""
    rows = page()
    told = {sentence: advice for sentence, advice, _ in rows}
    assert len(told) == len(rows)
    said = sentences()
    assert {sentence: said[sentence] for sentence in said.keys() - told.keys()} == {}, "docs/failures.md misses these"
    assert told.keys() - said.keys() == set(), "nobody says these any more"
    assert {one for one in told if told[one] != said[one]} == set(), "the advice differs"


def test_every_sentence_is_explained() -> None:
    """A3: one or more whole sentences, but for the values of keys and the syntax of addresses."""
    meanings = [meaning for _, _, meaning in page() if meaning is not None]
    assert len(meanings) > 100
    assert [meaning for meaning in meanings if not re.fullmatch(r"[A-Z`].*[.?]", meaning)] == []


def test_a_new_failure_would_be_noticed(tmp_path: Path) -> None:
    """The reader of the source finds what is said by literals, names, choices and helpers."""
    source = tmp_path / "new.py"
    source.write_text(
        "def _of(path):\n    return f'no {path}'\n"
        "def f(self, x):\n"
        "    what = f'bad {x}' if x else 'empty'\n"
        "    raise Failure(what, advice='do ' + 'it')\n"
        "    raise self.failure(_of(x))\n"
        "    raise Failure(str(x))\n"
    )
    assert set(Module(source, tmp_path).failures()) == {("bad ...", "do it"), ("empty", "do it"), ("no ...", "")}


# -- certificates


@pytest.fixture
def ca_file(authority: Authority, tmp_path: Path) -> Path:
    return authority.ca_file(tmp_path / "ca.pem")


def refusal(
    authority: Authority, certificate: trustme.LeafCert, ca_file: Path, scheme: str, **fields: Any
) -> tuple[Failure, int]:
    """The failure at a server with this certificate, and how many connections it took."""
    context = authority.server_context(certificate=certificate)
    with Server(context=context, implicit_tls=scheme == "submissions", users={"alice": "s3cret"}) as server:
        failure = failure_of(offer(smart_host(server, scheme, ca_file=ca_file, auth=login(), **fields)))
        sessions = server.finished()
        assert not [line for session in sessions for line in session.commands if line.startswith((b"AUTH", b"MAIL"))]
    assert (failure.stage, failure.lead) == (Stage.TLS, REFUSED)
    return failure, len(sessions)


@pytest.mark.row("T3")
@pytest.mark.parametrize("scheme", ["submission", "submissions"])
@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("mx.example",), "(it is for mx.example)"),
        (("a.example", "*.b.example", "192.0.2.1"), "(it is for a.example, *.b.example, 192.0.2.1)"),
        (tuple(f"{n}.example" for n in range(5)), "(it is for 0.example, 1.example, 2.example and 2 more)"),
        ((f"{'x' * 63}.{'y' * 63}.example",), f"(it is for {'x' * 63}....)"),
    ],
)
def test_a_wrong_name_is_told_with_the_names_the_certificate_has(
    names: tuple[str, ...], told: str, scheme: str, authority: Authority, ca_file: Path
) -> None:
    """A3: up to three of them, in TLS 1.3 where the certificate is encrypted too; and without a second connection."""
    failure, connections = refusal(authority, authority.certificate(*names), ca_file, scheme)
    assert "mismatch" in failure.what
    assert failure.what.endswith(told)
    assert failure.advice == "use a name the certificate has, or tls.server_name"
    assert connections == 1


@pytest.mark.row("T3")
def test_a_common_name_does_not_count_and_is_told(tmp_path: Path) -> None:
    """A3: RFC 9525, 6.3; old appliances have certificates with nothing else."""
    names = _self_made(tmp_path, subject="127.0.0.1", alternatives=False)
    with Server(context=names.context) as server:
        failure = failure_of(offer(smart_host(server, "submission", ca_file=names.file)))
    assert "mismatch" in failure.what
    assert failure.what.endswith("(it names no host, and the common name 127.0.0.1 does not count)")


@pytest.mark.row("T3")
@pytest.mark.parametrize("versions", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_expired_certificate_is_told_with_the_date(
    versions: ssl.TLSVersion, authority: Authority, ca_file: Path
) -> None:
    """A3: since when, and what the clock here says, for it may be the clock that is wrong."""
    certificate = authority.certificate("127.0.0.1", not_after=datetime(2020, 2, 3, tzinfo=timezone.utc))
    context = authority.server_context(certificate=certificate, versions=(versions, versions))
    with Server(context=context) as server:
        failure = failure_of(offer(smart_host(server, "submission", ca_file=ca_file)))
    assert re.search(
        r"certificate has expired \(valid until 2020-02-03, and the clock here says 2\d\d\d-\d\d-\d\d\)$", failure.what
    )
    assert failure.advice == "its owner must renew it, unless the clock here is wrong"


@pytest.mark.row("T3")
def test_a_certificate_that_is_not_yet_valid_is_told_with_the_date(tmp_path: Path) -> None:
    """A3: a machine without a battery for its clock begins in 1970."""
    begins = datetime.now(timezone.utc) + timedelta(days=400)
    made = _self_made(tmp_path, begins=begins)
    with Server(context=made.context) as server:
        failure = failure_of(offer(smart_host(server, "submission", ca_file=made.file)))
    assert f"not yet valid (valid from {begins:%Y-%m-%d}, and the clock here says " in failure.what


@pytest.mark.row("T3")
def test_a_self_signed_certificate_is_told_with_its_fingerprint(tmp_path: Path, ca_file: Path) -> None:
    """A3: what can be compared with the server's own, and then trusted by tls.ca_file."""
    made = _self_made(tmp_path)
    with Server(context=made.context) as server:
        failure = failure_of(offer(smart_host(server, "submission", ca_file=ca_file)))
        assert re.search(r"self[- ]signed certificate \(SHA-256 [0-9a-f]{64}\)$", failure.what)
        assert made.fingerprint in failure.what
        assert "tls.fingerprint" in failure.advice
        assert deliver(offer(smart_host(server, "submission", ca_file=made.file))).tls == "TLSv1.3"


@pytest.mark.row("T3")
def test_an_unknown_authority_is_told_with_the_fingerprint(authority: Authority, tmp_path: Path) -> None:
    """A3: that of the server's own certificate."""
    certificate = authority.certificate("127.0.0.1")
    failure, _ = refusal(authority, certificate, Authority().ca_file(tmp_path / "other.pem"), "submission")
    assert f"unable to get local issuer certificate (SHA-256 {fingerprint(certificate)}, issued by " in failure.what


@pytest.mark.row("T3", "I9")
def test_a_hostile_name_in_a_certificate_stays_on_the_line(program: Program, tmp_path: Path) -> None:
    """A3: printable ASCII, whatever somebody put into a certificate."""
    made = _self_made(tmp_path, subject="evil\x1b[2J\nsendmail: sent\u202e", alternatives=False)
    with Server(context=made.context) as server:
        program.configure(
            f'smart_hosts = ["submission://127.0.0.1:{server.port}"]\nfrom = "me@client.example"\n'
            f'[tls]\nca_file = "{made.file}"\n'
        )
        done = program.run("you@example.net", stdin=b"Subject: hello\n\n")
    assert done.status == 1
    assert r"the common name evil\x1b[2J\nsendmail: sent\u202e does not count" in done.sentence


class _SelfMade:
    def __init__(self, file: Path, context: ssl.SSLContext, fingerprint: str) -> None:
        self.file, self.context, self.fingerprint = file, context, fingerprint


def _self_made(
    folder: Path, *, subject: str = "mail.example", alternatives: bool = True, begins: datetime | None = None
) -> _SelfMade:
    """A self-signed certificate, which trustme does not make: for 127.0.0.1, or with a common name only."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)])
    begins = begins or datetime(2020, 1, 1, tzinfo=timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=36500))
    )
    if alternatives:
        import ipaddress

        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    file = folder / "self.pem"
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file = folder / "self.key"
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key_file)
    return _SelfMade(file, context, certificate.fingerprint(hashes.SHA256()).hex())


def test_without_a_certificate_to_read_the_sentence_still_stands() -> None:
    """A3: an OpenSSL that keeps nothing, or a socket that is gone."""
    error = ssl.SSLCertVerificationError("no")
    error.verify_code, error.verify_message = 62, "Hostname mismatch, certificate is not valid for 'x'."
    what, advice, _ = explain.handshake(error, None, at_once=True)
    assert what == "the certificate is not good: Hostname mismatch, certificate is not valid for 'x'"
    assert "tls.server_name" in advice


# -- which scheme


def patient(host: SmartHost, **seconds: float) -> SmartHost:
    return host._replace(timeouts=PATIENT._replace(**seconds))


@pytest.mark.row("S3")
@pytest.mark.parametrize("scheme", ["smtp", "submission"])
def test_a_server_that_waits_for_tls_is_noticed_long_before_the_timeout(
    scheme: str, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A3: the sentence says which scheme to use; nothing but a hello goes over the second connection."""
    monkeypatch.setattr(connection, "SILENCE", 0.2)
    with Server(context=authority.server_context(), implicit_tls=True) as server:
        failure = failure_of(offer(patient(smart_host(server, scheme), greeting=20)))
        assert (failure.stage, failure.lead) == (Stage.GREETING, REFUSED)
        assert failure.what == "the server waits for TLS at once"
        assert "submissions://" in failure.advice
        sessions = server.finished()
        assert [session.commands for session in sessions] == [[], []]


@pytest.mark.row("S3")
def test_a_slow_greeting_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """C1: a tarpit is no failure; the second connection says no word of SMTP, and the message goes over the first."""
    monkeypatch.setattr(connection, "SILENCE", 0.1)
    connected = threading.Event()
    first = {"greeting": Then(Wait(connected), "220 at last")}
    second = {"connect": _Sets(connected), "greeting": Silence()}
    with Server([first, second]) as server:
        assert deliver(offer(patient(smart_host(server), greeting=20, connect=60))).reply.startswith("250")
        sessions = server.finished()
        assert [len(session.accepted) for session in sessions] == [1, 0]
        assert sessions[1].commands == []


@pytest.mark.row("S3")
def test_the_look_ends_as_soon_as_the_first_connection_speaks() -> None:
    """C1: a greeting that comes meanwhile is not kept waiting."""
    with Server([{}, {"greeting": Silence()}]) as server:
        with Dial(smart_host(server)).connected() as first:
            begun = time.monotonic()
            assert not explain.speaks_tls(first, 60)
            assert time.monotonic() - begun < 30
        assert len(server.finished()) == 2


class _Sets(Wait):
    """Nothing, but others are told."""

    def perform(self, channel: Any) -> None:
        assert isinstance(self.until, threading.Event)
        self.until.set()


@pytest.mark.row("S3")
@pytest.mark.parametrize("fields", [{"port": 25}, {"timeouts": PATIENT._replace(greeting=0.3)}])
def test_no_second_connection_where_none_is_due(fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """C1: not on port 25, where who speaks first is held for a spammer; not where the greeting has less time anyway."""
    monkeypatch.setattr(connection, "SILENCE", 0.3 if "timeouts" in fields else 0.05)
    with Server({"greeting": Silence()}) as server:
        host = patient(smart_host(server), greeting=0.3)
        made = Connection(host._replace(**fields), "client.example")
        made.sock = Dial(host).connected()
        with pytest.raises(Failure, match="timed out") as caught:
            made.greeting()
        made.close()
        assert "submissions://" in caught.value.advice
        assert len(server.finished()) == 1


def test_a_server_that_is_silent_to_tls_too_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """S3: the greeting's own deadline holds, the look included."""
    monkeypatch.setattr(connection, "SILENCE", 0.1)
    with Server({"greeting": Silence()}) as server:
        failure = failure_of(offer(patient(smart_host(server), greeting=0.5)))
        assert (failure.what, failure.stage) == ("timed out", Stage.GREETING)
        assert len(server.finished()) == 2


def test_a_silent_handshake_says_that_it_may_be_the_scheme(authority: Authority) -> None:
    """A3: the reverse, where the server waits too."""
    with Server({"handshake": Silence()}, context=authority.server_context(), implicit_tls=True) as server:
        failure = failure_of(offer(patient(smart_host(server, "submissions"), connect=0.3)))
        assert (failure.what, failure.stage) == ("timed out", Stage.TLS)
        assert "submission://" in failure.advice


# -- files that cannot be read


@pytest.mark.row("L5")
def test_an_unreadable_configuration_says_who_may_not_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A3: cron and web servers run as users of their own."""
    with public_folder() as folder:
        file = folder / "muawrap.toml"
        file.write_text('smart_hosts = ["smtp://127.0.0.1"]\n')
        file.chmod(0o600)
        monkeypatch.setattr(config, "SYSTEM_FILE", str(file))
        with acting_as(WWW_DATA), pytest.raises(Failure) as caught:
            config.load(None, {})
    assert caught.value.what == f"configuration: cannot read {file}: Permission denied"
    assert caught.value.advice == "www-data may not read it: look at its owner and modes"


def test_the_folder_that_stands_in_the_way_is_named() -> None:
    """A3: the outermost one."""
    with public_folder() as folder:
        inner = folder / "closed" / "open"
        inner.mkdir(parents=True)
        (inner / "file").write_text("")
        (folder / "closed").chmod(0o700)
        with acting_as(NOBODY), pytest.raises(Failure) as caught:
            trust.read(str(inner / "file"), limit=10)
    assert caught.value.advice == f"nobody may not enter {folder}/closed"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_what_the_modes_allow_and_the_kernel_does_not_is_a_security_module(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A3: AppArmor refuses open() only; modes and access(2) look well."""
    file = tmp_path / "file"
    file.write_text("")

    def refuse(*_: object) -> int:
        raise PermissionError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(Failure) as caught:
        trust.read(str(file), limit=10)
    monkeypatch.undo()
    assert "AppArmor or SELinux" in caught.value.advice
    assert "dmesg" in caught.value.advice
