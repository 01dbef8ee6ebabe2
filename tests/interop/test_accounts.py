"""An account at a real mail server: muawrap and msmtp log in by each mechanism, or do not, and both agree."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support import accounts, own_dns
from tests.support.accounts import ADDRESS, ALICE, BOB, BY_PASSWORD, DOMAIN, EXPIRED, USERS, Seen, Server
from tests.support.certificates import Authority, write_client_files
from tests.support.dovecot import token
from tests.support.msmtp import Msmtp
from tests.support.nameserver import NameServer
from tests.support.program import Program, Result
from tests.support.user import public_folder

ME, YOU = "me@client.example", "you@example.net"
MESSAGE = (
    f"From: {ME}\nTo: {YOU}\nDate: Sat, 21 Nov 2026 10:00:00 +0000\nMessage-ID: <1@client.example>\nSubject: hi\n\n"
    ".\n..\nGr\u00fc\u00dfe\n"
).encode()

SENT, NOT_LET_IN, NOT_TRUSTED = "sent", "not let in", "the server is not trusted"
UNTRIED = ", and not even tried"

MALLORY = "mallory@client.example"  # who has a certificate as good as that of ALICE


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Path:
    """Two authorities, ours and another, and what they have issued to clients: a folder for each."""
    folder = tmp_path_factory.mktemp("certificates")
    issuers = {"ours": authority, "other": Authority()}
    for name, issuer in issuers.items():
        issuer.ca_file(folder / f"{name}.pem")
    for name, issuer, user in (
        ("alice", issuers["ours"], ALICE),
        ("mallory", issuers["ours"], MALLORY),
        ("stranger", issuers["other"], ALICE),
    ):
        (folder / name).mkdir()
        write_client_files(issuer.certificate(user, common_name=user), folder / name)
    return folder


@pytest.fixture(scope="module")
def exim(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Server]:
    with accounts.exim_with_accounts(tmp_path_factory.mktemp("exim"), authority) as server:
        yield server


@pytest.fixture(scope="module")
def postfix(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Server]:
    with accounts.postfix_with_accounts(tmp_path_factory.mktemp("postfix"), authority) as server:
        yield server


@pytest.fixture(scope="module")
def dovecot(authority: Authority) -> Iterator[Server]:
    with public_folder() as folder, accounts.dovecot_with_accounts(folder, authority) as server:
        yield server


@pytest.fixture(scope="module")
def msmtp() -> Msmtp:
    return Msmtp()


# -- one account, told to both programs


class Account(NamedTuple):
    """Where to log in, as whom, how, and what makes the server trusted."""

    mechanism: str
    scheme: str
    user: str = ALICE
    password: str = USERS[ALICE]
    token: str = ""
    authority: str = "ours"  # who is trusted
    name: str = ADDRESS  # of the certificate
    pin: str = ""
    shows: str = ""  # a certificate of the client


def pins(server: Server) -> dict[str, str]:
    """SHA-256 of its certificate and of its public key, and another one."""
    key = server.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return {
        "certificate": server.certificate.fingerprint(hashes.SHA256()).hex(),
        "public key": hashlib.sha256(key).hexdigest(),
        "another": "00" * 32,
    }


def for_muawrap(account: Account, server: Server, certificates: Path) -> str:
    auth = {"user": account.user, "password": account.password, "token": account.token}
    tls = {"ca_file": str(certificates / f"{account.authority}.pem")}
    if account.name != ADDRESS:
        tls["server_name"] = account.name
    if account.pin:
        tls["fingerprint"] = pins(server)[account.pin]
    if account.shows:
        tls["client_cert"] = str(certificates / account.shows / "client.pem")
        tls["client_key"] = str(certificates / account.shows / "client.key")
    lines = [f'smart_hosts = ["{account.scheme}://{ADDRESS}:{server.ports[account.scheme]}"]', f'from = "{ME}"']
    lines += ["[auth]", f'mechanisms = ["{account.mechanism}"]']
    lines += [f'{key} = "{value}"' for key, value in auth.items() if value]
    lines += ["[tls]", *(f'{key} = "{value}"' for key, value in tls.items())]
    return "\n".join(lines) + "\n"


def for_msmtp(account: Account, server: Server, certificates: Path) -> dict[str, object]:
    found: dict[str, object] = {
        "host": ADDRESS,
        "port": server.ports[account.scheme],
        "tls": "on",
        "tls_starttls": "on" if account.scheme == "submission" else "off",
        "auth": account.mechanism.lower(),
        "user": account.user,
    }
    if account.password or account.token:
        found["password"] = account.password or account.token
    if account.name != ADDRESS:
        found["tls_host_override"] = account.name
    if account.pin:
        found["tls_fingerprint"] = ":".join(re.findall("..", pins(server)[account.pin].upper()))
    else:
        found["tls_trust_file"] = certificates / f"{account.authority}.pem"
    if account.shows:
        found["tls_cert_file"] = certificates / account.shows / "client.pem"
        found["tls_key_file"] = certificates / account.shows / "client.key"
    return found


def by_muawrap(program: Program, account: Account, server: Server, certificates: Path) -> tuple[str, Seen]:
    """What became of MESSAGE, and what the server saw."""
    server.forget()
    program.configure(for_muawrap(account, server, certificates))
    done = program.run("-i", YOU, stdin=MESSAGE)
    if done.status == 0:
        assert done.out + done.err == b""
        return SENT, server.seen()
    said = done.sentence
    if re.match("sendmail: not sent, refused: .* (?:while authenticating|answered AUTH with 535) ", said):
        return NOT_LET_IN, server.seen()
    if re.match("sendmail: not sent, refused: .* the certificate is not good: .* while setting up TLS ", said):
        return NOT_TRUSTED, server.seen()
    return said, server.seen()


def by_msmtp(msmtp: Msmtp, folder: Path, account: Account, server: Server, certificates: Path) -> tuple[str, Seen]:
    """The same, of msmtp."""
    server.forget()
    done = msmtp.send(folder, for_msmtp(account, server, certificates), ME, YOU, MESSAGE)
    said = done.stderr.decode()
    if done.returncode == 0:
        return SENT, server.seen()
    if "authentication failed" in said or "does not support authentication method" in said:
        return NOT_LET_IN, server.seen()
    return NOT_TRUSTED if "TLS certificate verification failed" in said else said, server.seen()


def expected(account: Account, outcome: str) -> tuple[str, Seen]:
    """A server that is not trusted hears of no login, and one that does not offer it, neither."""
    if outcome == SENT:
        return SENT, Seen([(ME, [YOU], MESSAGE)], [f"{account.mechanism} {account.user}"], [])
    return outcome.removesuffix(UNTRIED), Seen([], [], [account.mechanism] if outcome == NOT_LET_IN else [])


# -- the rows

WRONG = {"password": "wrong"}
BAD = {
    "unknown authority": {"authority": "other"},
    "another name": {"name": "other.example"},
    "expired": {"name": EXPIRED},
    "another one pinned": {"pin": "another"},
}
MSMTP_CANNOT = {"public key pinned": "it knows a certificate by its own fingerprint only"}


class Row(NamedTuple):
    account: Account
    outcome: str
    what: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.account.mechanism, self.account.scheme, self.what)))


def rows() -> Iterator[Row]:
    for scheme in "submission", "submissions":
        for mechanism in BY_PASSWORD:
            yield Row(Account(mechanism, scheme), SENT)
        for mechanism in BY_PASSWORD if scheme == "submission" else BY_PASSWORD[:1]:
            yield Row(Account(mechanism, scheme)._replace(**WRONG), NOT_LET_IN, "wrong password")
        for what in BAD if scheme == "submission" else ["unknown authority", "another one pinned"]:
            yield Row(Account("PLAIN", scheme)._replace(**BAD[what]), NOT_TRUSTED, what)
        pinned = Account("PLAIN", scheme, authority="other")
        yield Row(pinned._replace(pin="certificate"), SENT, "certificate pinned")
        yield Row(pinned._replace(pin="public key"), SENT, "public key pinned")
        external = Account("EXTERNAL", scheme, password="", shows="alice")
        yield Row(external, SENT)
        yield Row(external._replace(shows="mallory"), NOT_LET_IN, "by another's certificate")
        yield Row(external._replace(shows="stranger"), NOT_LET_IN + UNTRIED, "by a stranger's certificate")


def rows_of_postfix() -> Iterator[Row]:
    for mechanism in BY_PASSWORD:
        yield Row(Account(mechanism, "submission", BOB, USERS[BOB]), SENT, "as bob")
    for mechanism in "SCRAM-SHA-256", "CRAM-MD5":
        yield Row(Account(mechanism, "submission")._replace(**WRONG), NOT_LET_IN, "wrong password")
    yield Row(Account("SCRAM-SHA-256", "submissions"), SENT)


def rows_of_dovecot() -> Iterator[Row]:
    external = Account("EXTERNAL", "submissions", password="", shows="alice")
    yield Row(external, SENT)
    yield Row(external._replace(scheme="submission"), SENT)
    yield Row(external._replace(shows="mallory"), NOT_LET_IN, "by another's certificate")
    yield Row(external._replace(shows="stranger"), NOT_LET_IN, "by a stranger's certificate")
    for mechanism, scheme in ("OAUTHBEARER", "submission"), ("XOAUTH2", "submissions"):
        by_token = Account(mechanism, scheme, password="")
        yield Row(by_token._replace(token=token(ALICE)), SENT)
        yield Row(by_token._replace(token=token(ALICE, -1)), NOT_LET_IN, "by an expired token")
    by_password = Account("SCRAM-SHA-256", "submission")
    yield Row(by_password, SENT)
    yield Row(by_password._replace(**WRONG), NOT_LET_IN, "wrong password")


def agree(row: Row, server: Server, program: Program, msmtp: Msmtp, certificates: Path) -> None:
    wanted = expected(row.account, row.outcome)
    assert by_muawrap(program, row.account, server, certificates) == wanted
    if row.what not in MSMTP_CANNOT:
        assert by_msmtp(msmtp, program.folder, row.account, server, certificates) == wanted


@pytest.mark.row("T3", "T3 pinning", "T4")
@pytest.mark.parametrize("row", list(rows()), ids=str)
def test_exim_lets_both_in_or_neither(
    row: Row, exim: Server, program: Program, msmtp: Msmtp, certificates: Path
) -> None:
    """C1, A1 to A3: by the mechanism that is listed, as whom, and the same octets; a refusal is one attempt."""
    agree(row, exim, program, msmtp, certificates)


@pytest.mark.parametrize("row", list(rows_of_postfix()), ids=str)
def test_postfix_lets_both_in_or_neither(
    row: Row, postfix: Server, program: Program, msmtp: Msmtp, certificates: Path
) -> None:
    """C1, RFC 4616, RFC 5802: also where user and password are not plain words."""
    agree(row, postfix, program, msmtp, certificates)


@pytest.mark.parametrize("row", list(rows_of_dovecot()), ids=str)
def test_dovecot_lets_both_in_or_neither(
    row: Row, dovecot: Server, program: Program, msmtp: Msmtp, certificates: Path
) -> None:
    """C1, RFC 4422, appendix A, RFC 7628: a certificate or a token says who it is, and it is nobody else."""
    agree(row, dovecot, program, msmtp, certificates)


def test_a_certificate_alone_says_who_it_is(dovecot: Server, program: Program, certificates: Path) -> None:
    """RFC 4422, appendix A; RFC 4954, 4: without a user the initial response is empty, which is written "="."""
    nobody = Account("EXTERNAL", "submission", user="", password="", shows="alice")
    wanted = expected(nobody._replace(user=ALICE), SENT)
    assert by_muawrap(program, nobody, dovecot, certificates) == wanted


# -- by DNS

DEAD, MAIL = "dead.host.example", "mail.host.example"


def told_by_dns(domain: str, certificates: Path) -> str:
    auth = f'[auth]\nuser = "{ALICE}"\npassword = "{USERS[ALICE]}"\n'
    tls = f'[tls]\nca_file = "{certificates / "ours.pem"}"\n'
    return f'smart_hosts = ["srv://{domain}"]\nfrom = "{ME}"\n{auth}{tls}'


@pytest.mark.row("T3")
def test_a_domain_is_enough(exim: Server, program: Program, msmtp: Msmtp, certificates: Path, closed_port: int) -> None:
    """RFC 6186, A1, A2, A5, C1: the first target is dead, the second shows the user's domain, and SCRAM is chosen.

    A domain that points at the same server, which has no certificate for it, hears of no login.
    """
    address, port = own_dns.own_address(), exim.ports["submissions"]
    first, second = f"SRV 0 0 {closed_port} {DEAD}.", f"SRV 1 0 {port} {MAIL}."
    zones = {
        f"_submissions._tcp.{DOMAIN}": [first, second],
        "_submissions._tcp.other.example": [second],
        DEAD: [f"A {ADDRESS}"],
        MAIL: [f"A {ADDRESS}"],
    }
    here = own_dns.resolving(program.folder, f"nameserver {address}\n")
    with NameServer(zones, address, 53):
        exim.forget()
        program.configure(told_by_dns(DOMAIN, certificates))
        assert program.run("-i", YOU, stdin=MESSAGE, before=here) == Result(0, b"", b"")
        assert exim.seen() == Seen([(ME, [YOU], MESSAGE)], [f"SCRAM-SHA-256 {ALICE}"], [])
        assert f'host="{MAIL}:{port} (by srv://{DOMAIN})"' in program.log
        assert f"{DEAD}:{closed_port} (by srv://{DOMAIN}): connection refused" in program.log

        exim.forget()
        program.configure(told_by_dns("other.example", certificates))
        refused = program.run("-i", YOU, stdin=MESSAGE, before=here)
        assert "the certificate is not good: Hostname mismatch" in refused.sentence
        assert exim.seen() == Seen([], [], [])

        # msmtp asks DNS only for this, and then knows the best target only
        told = msmtp.run(program.folder, "--configure", ALICE, before=here)
        assert f"\nhost {DEAD}\nport {closed_port}\ntls on\ntls_starttls off\n" in told.stdout.decode()
