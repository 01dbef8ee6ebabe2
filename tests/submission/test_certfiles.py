"""The files of TLS: authorities, and the certificate by which a server knows us."""

from __future__ import annotations

import os
import select
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muawrap.failure import REFUSED, TRY_AGAIN, Failure, Stage
from muawrap.submission import tls
from muawrap.submission.connection import Connection
from muawrap.submission.deliver import deliver
from tests.submission.offering import failure_of, login, offer, smart_host
from tests.support.canary import CANARY
from tests.support.certificates import Issued, issue
from tests.support.lmtp_server import LmtpServer
from tests.support.need import missing, need
from tests.support.server import Server
from tests.support.user import NOBODY, acting_as, public_folder

ROOT = issue(common_name="Trusted Root", ca=True)
SHOWN = issue("127.0.0.1", by=ROOT)
USERS = {"alice": CANARY}

# -- authorities


def hashed(folder: Path, *made: Issued) -> Path:
    """A folder of certificates as OpenSSL looks them up."""
    folder.mkdir()
    for number, one in enumerate(made):
        one.file(folder / f"{number}.pem")
    subprocess.run([need("openssl"), "rehash", folder], check=True)
    return folder


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("form", ["file", "bundle", "folder"])
def test_authorities_stand_in_a_file_or_a_folder(form: str, version: ssl.TLSVersion, tmp_path: Path) -> None:
    """C1: by any of the three the same certificate is good, and one of another authority is not."""
    other = issue(common_name="Another Root", ca=True)
    ca_file = {
        "file": lambda: ROOT.file(tmp_path / "ca.pem"),
        "bundle": lambda: other._replace(behind=(ROOT,)).file(tmp_path / "ca.pem"),
        "folder": lambda: hashed(tmp_path / "certs", other, ROOT),
    }[form]()
    with Server(context=SHOWN.served(version)) as server:
        assert deliver(offer(smart_host(server, "submission", ca_file=ca_file))).tls.startswith("TLSv1.")
    unknown = issue("127.0.0.1", by=issue(common_name="A Third Root", ca=True))
    with Server(context=unknown.served(version)) as server:
        failure = failure_of(offer(smart_host(server, "submission", ca_file=ca_file)))
        assert "unable to get local issuer certificate" in failure.what


def test_an_expired_authority_vouches_for_nobody(tmp_path: Path) -> None:
    """C1: its certificate is not shown by the server, so that the line has the clock's date alone."""
    root = issue(ca=True, age=9)
    with Server(context=issue("127.0.0.1", by=root).served()) as server:
        failure = failure_of(offer(smart_host(server, "submission", ca_file=root.file(tmp_path / "ca.pem"))))
    assert "certificate has expired (the clock here says 2" in failure.what


def write(path: Path, octets: bytes) -> None:
    path.write_bytes(octets)


def folder(path: Path) -> Path:
    """In place of what is there."""
    path.unlink(missing_ok=True)
    path.mkdir()
    return path


def fifo(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


NO_AUTHORITIES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "no such file or directory"),
    "empty": (lambda path: write(path, b""), "it holds no certificate"),
    "junk": (lambda path: write(path, os.urandom(100)), "it holds no certificate"),
    "DER": (lambda path: write(path, ROOT.der), "it holds no certificate"),
    "fifo": (fifo, "it is not a regular file"),
    "empty folder": (folder, "no certificate in this folder has its hash for a name (openssl rehash gives them)"),
    "folder without hashes": (
        lambda path: ROOT.file(folder(path) / "ca.pem"),
        "no certificate in this folder has its hash for a name (openssl rehash gives them)",
    ),
}


BROKEN = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


def test_what_only_looks_like_pem_is_said_to_be_none(tmp_path: Path) -> None:
    """A3: OpenSSL names no reason then; in words that a person has a use for."""
    (tmp_path / "ca.pem").write_bytes(BROKEN)
    client = tmp_path / "me.pem"
    client.write_bytes(BROKEN + SHOWN.key_pem)
    client.chmod(0o600)
    with Server(context=SHOWN.served()) as server:
        failure = failure_of(offer(smart_host(server, "submission", ca_file=tmp_path / "ca.pem")))
        assert failure.what == f"cannot use the CA file {tmp_path}/ca.pem: it cannot be read as PEM"
        failure = failure_of(offer(smart_host(server, "submission", client_cert=client)))
        assert failure.what == f"cannot use the client certificate {client}: it cannot be read as PEM"


@pytest.mark.parametrize("scheme", ["smtp", "submission"])
@pytest.mark.parametrize(("make", "reason"), NO_AUTHORITIES.values(), ids=NO_AUTHORITIES.keys())
def test_authorities_that_are_none_fail_before_anybody_is_called(
    make: Callable[[Path], object], reason: str, scheme: str, tmp_path: Path
) -> None:
    """B3: nothing touches the network until everything local has succeeded."""
    make(tmp_path / "ca")
    with Server() as server:
        failure = failure_of(offer(smart_host(server, scheme, ca_file=tmp_path / "ca")))
        assert failure.what == f"cannot use the CA file {tmp_path / 'ca'}: {reason}"
        assert (failure.stage, failure.advice) == (Stage.TLS, "tls.ca_file names it")
        assert failure.host == f"127.0.0.1:{server.port}"
        assert server.finished() == []


@pytest.mark.parametrize(
    "octets", [b"-----BEGIN CERTIFICATE-----\nno base64\n", b"-----BEGIN PRIVATE KEY-----\n", ROOT.pem[:200]]
)
def test_authorities_that_openssl_cannot_read_are_named(octets: bytes, tmp_path: Path) -> None:
    """A3: with OpenSSL's own words, and nothing is said to the server."""
    write(tmp_path / "ca", octets)
    with Server(context=SHOWN.served()) as server:
        failure = failure_of(offer(smart_host(server, "submission", ca_file=tmp_path / "ca")))
        assert failure.what.startswith(f"cannot use the CA file {tmp_path / 'ca'}: ")
        assert (failure.stage, failure.advice) == (Stage.TLS, "tls.ca_file names it")
        assert not [session for session in server.finished() if session.commands]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_authorities_that_may_not_be_read_are_named(kind: str) -> None:
    """A3: rather than a certificate that nobody seems to know."""
    if os.getuid() != 0:
        missing("root, to act as another user")
    with public_folder() as folder, Server(context=SHOWN.served()) as server:
        path = folder / "ca"
        hashed(path, ROOT) if kind == "folder" else ROOT.file(path)
        path.chmod(0)
        with acting_as(NOBODY):
            failure = failure_of(offer(smart_host(server, "submission", ca_file=path)))
        assert failure.what == f"cannot use the CA file {path}: permission denied"
        path.chmod(0o700)


# -- the client certificate

CLIENTS = issue(common_name="Clients Root", ca=True)
CLIENT = issue(by=CLIENTS, common_name="alice")


def client_files(folder: Path, made: Issued = CLIENT) -> dict[str, Any]:
    key = folder / "client.key"
    write(key, made.key_pem)
    key.chmod(0o600)
    return {"client_cert": made.file(folder / "client.pem"), "client_key": key}


VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
SCHEMES = pytest.mark.parametrize("scheme", ["submission", "submissions"])


@VERSIONS
@SCHEMES
@pytest.mark.parametrize("how", ["two files", "one file", "pinned", "if-offered"])
def test_a_client_certificate_is_shown(how: str, scheme: str, version: ssl.TLSVersion, tmp_path: Path) -> None:
    """C1: to a server that takes nobody without one."""
    if how == "one file":
        fields: dict[str, Any] = {"client_cert": CLIENT.file(tmp_path / "client.pem", key=True)}
    else:
        fields = client_files(tmp_path)
    if how == "pinned":
        fields["fingerprint"] = (SHOWN.pins[0],)
    else:
        fields["ca_file"] = ROOT.file(tmp_path / "ca.pem")
    if how == "if-offered":
        fields["policy"] = "if-offered"
    context = SHOWN.served(version, clients=CLIENTS)
    with Server(context=context, implicit_tls=scheme == "submissions") as server:
        assert deliver(offer(smart_host(server, scheme, **fields))).tls.startswith(version.name.replace("_", "."))
        [session] = server.finished()
        assert session.client_certificate == CLIENT.der


def test_a_client_certificate_goes_to_its_own_host_only(tmp_path: Path) -> None:
    """RELIABILITY: what is set for one host is no business of the next one, which may ask for it, too."""
    asking = SHOWN.served(clients=CLIENTS)
    asking.verify_mode = ssl.CERT_OPTIONAL
    ca_file = ROOT.file(tmp_path / "ca.pem")
    with Server({"EHLO 2": "421 full"}, context=asking) as first, Server(context=asking) as second:
        hosts = [
            smart_host(first, "submission", ca_file=ca_file, **client_files(tmp_path)),
            smart_host(second, "submission", ca_file=ca_file),
        ]
        assert deliver(offer(*hosts)).degraded
        assert first.finished()[0].client_certificate == CLIENT.der
        assert second.finished()[0].client_certificate is None


REFUSALS: dict[str, tuple[Issued | None, str, str]] = {
    # what is shown -> words in TLS 1.3, and advice
    "none": (None, "the server wants a client certificate", "tls.client_cert names it"),
    "of an unknown authority": (
        issue(common_name="alice"),
        "TLS failed: tlsv1 alert unknown ca",
        "tls.client_cert names it: the server's owner must know it, or who issued it",
    ),
    "expired": (
        issue(by=CLIENTS, age=9),
        "TLS failed: sslv3 alert certificate expired",
        "tls.client_cert names it: the server's owner must know it, or who issued it",
    ),
}


@VERSIONS
@SCHEMES
@pytest.mark.parametrize(("shown", "words", "advice"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_client_certificate_that_is_refused_is_named(
    shown: Issued | None, words: str, advice: str, scheme: str, version: ssl.TLSVersion, tmp_path: Path
) -> None:
    """A3: in TLS 1.3 the refusal comes when our handshake is over (RFC 8446, 4.4.2.4), and is one of TLS."""
    context = SHOWN.served(version, clients=CLIENTS)
    with Server(context=context, implicit_tls=scheme == "submissions", users=USERS) as server:
        files = client_files(tmp_path, shown) if shown else {}
        host = smart_host(server, scheme, ca_file=ROOT.file(tmp_path / "ca.pem"), auth=login(), **files)
        failure = failure_of(offer(host))
        [session] = server.finished()
    early = shown is None and version is ssl.TLSVersion.TLSv1_2
    assert (failure.stage, failure.lead) == (Stage.TLS, TRY_AGAIN if early else REFUSED)
    if early:
        words, advice = "alert handshake failure", "tls.client_cert names a client certificate, where the server wants"
    assert words.removeprefix("TLS failed: sslv3 ") in failure.what
    assert failure.advice.startswith(advice)
    assert b"AUTH" not in session.raw


def test_a_client_certificate_that_an_lmtp_server_refuses_is_named(tmp_path: Path) -> None:
    """A3: where it is LHLO that is answered by the refusal."""
    context = SHOWN.served(ssl.TLSVersion.TLSv1_3, clients=CLIENTS)
    with LmtpServer(context=context) as server:
        failure = failure_of(offer(smart_host(server, "lmtp", ca_file=ROOT.file(tmp_path / "ca.pem"))))
    assert (failure.stage, failure.lead) == (Stage.TLS, REFUSED)
    assert failure.what == "the server wants a client certificate"


def test_a_refusal_is_heard_where_the_connection_breaks_under_our_words(tmp_path: Path) -> None:
    """A3: the server has sent it, and reads no more."""
    context = SHOWN.served(ssl.TLSVersion.TLSv1_3, clients=CLIENTS)
    with Server(context=context, implicit_tls=True) as server:
        connection = Connection(smart_host(server, "submissions", ca_file=ROOT.file(tmp_path / "ca")), "client.example")
        connection.connect()
        connection.handshake()
        server.finished()
        connection.stage = Stage.EHLO
        assert connection.sock is not None
        broken = select.poll()
        broken.register(connection.sock, 0)  # POLLERR and POLLHUP are always told

        def talk() -> None:
            while True:  # the kernel may take the first words
                connection.say("EHLO client.example")
                assert broken.poll(5000)

        with pytest.raises(Failure, match="the server wants a client certificate") as caught:
            talk()
        connection.close()
    assert caught.value.stage is Stage.TLS


@VERSIONS
def test_a_refused_client_certificate_is_a_handshake_that_failed(version: ssl.TLSVersion, tmp_path: Path) -> None:
    """C1: so that if-offered goes on in the clear, by either version of TLS."""
    with Server(context=SHOWN.served(version, clients=CLIENTS)) as server:
        host = smart_host(server, "smtp", ca_file=ROOT.file(tmp_path / "ca.pem"))
        assert deliver(offer(host)).tls == "none"
        assert len(server.finished()) == 2


def spoilt(**changes: Callable[[Path], object]) -> Callable[[Path], dict[str, Any]]:
    """Both files, after something has been done to one or the other, or to both."""

    def made(folder: Path) -> dict[str, Any]:
        files = client_files(folder)
        for which, change in changes.items():
            change(files[which])
        return files

    return made


def everybody_may_read(path: Path) -> None:
    path.chmod(0o644)
    if os.getuid() == 0:
        os.chown(path, NOBODY, -1)


def replaced(*octets: bytes) -> Callable[[Path], object]:
    return lambda path: write(path, b"".join(octets))


def alone(folder: Path) -> dict[str, Any]:
    return {"client_cert": CLIENT.file(folder / "client.pem")}


BAD_FILES: dict[str, tuple[Callable[[Path], dict[str, Any]], str, str]] = {
    "no certificate": (spoilt(client_cert=Path.unlink), "there is no file {cert}", "name"),
    "no key": (spoilt(client_key=Path.unlink), "there is no file {key}", "name"),
    "DER": (spoilt(client_cert=replaced(CLIENT.der)), "there is no certificate in {cert}", "PEM"),
    "key for certificate": (spoilt(client_cert=replaced(CLIENT.key_pem)), "there is no certificate in {cert}", "PEM"),
    "certificate for key": (spoilt(client_key=replaced(CLIENT.pem)), "there is no private key in {key}", "PEM"),
    "certificate alone": (alone, "there is no private key in {cert}", "tls.client_key"),
    "encrypted": (
        spoilt(client_key=replaced(CLIENT.encrypted_key(b"open"))),
        "the client key {key} is encrypted",
        "openssl pkey -in {key}",
    ),
    "encrypted, the old form": (
        spoilt(client_key=replaced(CLIENT.encrypted_key(b"open", traditional=True))),
        "the client key {key} is encrypted",
        "openssl pkey -in {key}",
    ),
    "another's key": (
        spoilt(client_key=replaced(SHOWN.key_pem)),
        "the client key {key} is not that of the certificate {cert}",
        "tls.client_cert and tls.client_key",
    ),
    "damaged": (
        spoilt(client_cert=replaced(CLIENT.pem[:100], CLIENT.pem[110:])),
        "cannot use the client certificate {cert}: ",
        "tls.client_cert",
    ),
    "readable by everybody": (
        spoilt(client_key=everybody_may_read),
        "the client key {key} is readable by everybody",
        "chmod 600 {key}",
    ),
    "writable by the group": (
        spoilt(client_key=lambda path: path.chmod(0o660)),
        "the client key {key} is writable by others",
        "chmod go-w {key}",
    ),
    "writable by everybody": (
        spoilt(client_cert=lambda path: path.chmod(0o666)),
        "{cert} is writable by others",
        "chmod go-w {cert}",
    ),
    "a folder": (spoilt(client_key=folder), "{key} is not a regular file", ""),
    "a fifo": (spoilt(client_cert=fifo), "{cert} is not a regular file", ""),
    "without end": (
        spoilt(client_key=lambda path: os.truncate(path, 2 * 1024 * 1024)),
        "{key} is larger than 1048576 octets",
        "",
    ),
}
LATE = ("another's key", "damaged")  # what OpenSSL alone can tell, which is loaded while the connection is under way


@pytest.mark.parametrize("policy", ["required", "if-offered"])
@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_client_certificate_that_cannot_be_used_is_named(kind: str, policy: str, tmp_path: Path) -> None:
    """A3, B3: before anything is said to the host, and before it is called where that can be."""
    make, said, advised = BAD_FILES[kind]
    files = make(tmp_path)
    known = {"cert": tmp_path / "client.pem", "key": tmp_path / "client.key"}
    with Server(context=SHOWN.served()) as server:
        failure = failure_of(offer(smart_host(server, "submission", policy=policy, **files)))
        assert failure.what.startswith(said.format(**known))
        assert advised.format(**known) in failure.advice
        assert (failure.stage, failure.lead) == (Stage.TLS, REFUSED)
        assert not [session for session in server.finished() if session.commands or kind not in LATE]


def test_a_key_that_root_owns_may_be_read_by_others(tmp_path: Path) -> None:
    """RELIABILITY: containers are given their secrets so, as with password files."""
    if os.getuid() != 0:
        missing("root, to own a file as root")
    files = client_files(tmp_path)
    files["client_key"].chmod(0o444)
    with Server(context=SHOWN.served(clients=CLIENTS)) as server:
        assert deliver(offer(smart_host(server, "submission", ca_file=ROOT.file(tmp_path / "ca"), **files))).host


def test_openssl_never_asks_for_a_passphrase(tmp_path: Path) -> None:
    """A3: it would do so at the terminal, wherever the message comes from; even where the file changes meanwhile."""
    files = spoilt(client_key=replaced(CLIENT.encrypted_key(b"open")))(tmp_path)
    with pytest.raises(Failure, match="is encrypted"):
        tls.context(smart_host(1, "submission", **files), verified=True)
