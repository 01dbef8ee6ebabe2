"""Mail servers for people with an account: a real Exim, Postfix and Dovecot, with Dovecot looking after the logins.

    with exim_with_accounts(folder, authority) as server:
        ...                                   # log in at 127.0.0.1, server.ports["submission"] or ["submissions"]
        assert server.seen().logins == ["PLAIN alice@client.example"]

Exim and Postfix ask a Dovecot. The third has a submission port itself, and hands the mail on to an Exim. There EXTERNAL
is Dovecot's, too; that of Exim is its own, for it does not tell Dovecot whose certificate it was. Postfix has none.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple, Protocol

import trustme
from cryptography import x509

from tests.support.canary import CANARY
from tests.support.certificates import Authority
from tests.support.dovecot import WITHOUT_PASSWORD, DovecotLogins, DovecotSubmission
from tests.support.exim import Exim, held_port
from tests.support.postfix import OWNER, Postfix

ALICE, BOB = "alice@client.example", "bo,b=@client.example"
USERS = {ALICE: CANARY, BOB: "p\u00e4ss w\u00f6rd, ="}
BY_PASSWORD = ("SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "LOGIN", "CRAM-MD5")

DOMAIN, EXPIRED = "client.example", "expired.example"  # names for which Exim has other certificates
ADDRESS = "127.0.0.1"  # whom all certificates are for otherwise

PATIENCE = 60.0  # seconds; how long a server may take to write something down, on a machine with much else to do


class Seen(NamedTuple):
    """What a server has to say about a client."""

    messages: list[tuple[str, list[str], bytes]]  # sender, recipients, text
    logins: list[str]  # "PLAIN alice@client.example"
    refused: list[str]  # the mechanisms of logins that failed


class Server(Protocol):
    ports: Mapping[str, int]  # for each scheme
    certificate: x509.Certificate

    def forget(self) -> None:
        """Nobody has been here: for the next client."""

    def seen(self) -> Seen:
        """Once the client has gone."""


# -- Exim

DOVECOT = """\
{name}:
  driver = dovecot
  public_name = {mechanism}
  server_socket = {socket}
  server_set_id = $auth1
  server_advertise_condition = ${{if def:tls_in_cipher}}
"""

EXTERNAL = """\
EXTERNAL:
  driver = external
  public_name = EXTERNAL
  server_advertise_condition = $tls_in_certificate_verified
  server_param2 = ${certextract{subj_altname,mail,>:}{$tls_in_peercert}}
  server_condition = ${if forany{$auth2}{eq{$item}{$auth1}}}
  server_set_id = $auth1
"""

CLIENT_CERTIFICATES = """\
tls_try_verify_hosts = *
tls_verify_certificates = {ca_file}
"""


@contextmanager
def exim_with_accounts(folder: Path, authority: Authority) -> Iterator[Server]:
    """It offers each mechanism once there is TLS, and EXTERNAL to clients with a certificate of this authority."""
    socket = folder / "auth"
    sections = [
        DOVECOT.format(name=mechanism.replace("-", "_"), mechanism=mechanism, socket=socket)
        for mechanism in BY_PASSWORD
    ]
    yesterday = datetime.now(timezone.utc) - timedelta(days=1)
    shown = authority.certificate(ADDRESS)
    made = Exim(
        folder,
        tls=shown,
        other_tls={
            DOMAIN: authority.certificate(DOMAIN),
            EXPIRED: authority.certificate(EXPIRED, not_after=yesterday),
        },
        authenticators="".join(["begin authenticators\n", *sections, EXTERNAL]),
        heavy=True,
        extra=CLIENT_CERTIFICATES.format(ca_file=authority.ca_file(folder / "ca.pem")),
    )
    with DovecotLogins(folder / "dovecot", socket, USERS, BY_PASSWORD), made as exim:
        yield _EximWithAccounts(exim, shown)


class _EximWithAccounts:
    def __init__(self, exim: Exim, shown: trustme.LeafCert) -> None:
        self.exim = exim
        self.ports: Mapping[str, int] = {"submission": exim.port, "submissions": exim.tls_port}
        self.certificate = x509.load_pem_x509_certificate(shown.cert_chain_pems[0].bytes())

    def forget(self) -> None:
        self.exim.settle()
        self.exim.forget()

    def seen(self) -> Seen:
        self.exim.settle()
        return Seen(
            [(arrived.sender, arrived.recipients, arrived.text) for arrived in self.exim.messages()],
            [f"{name.replace('_', '-')} {user}" for name, user in re.findall(r" A=(\w+):(\S+)", self.exim.log)],
            [name.replace("_", "-") for name in re.findall(r" (\w+) authenticator failed ", self.exim.log)],
        )


# -- Dovecot, with an Exim behind it

RECEIVED = re.compile(rb"Received: from .*\n(?:[ \t].*\n)+")


@contextmanager
def dovecot_with_accounts(folder: Path, authority: Authority) -> Iterator[Server]:
    """It offers SCRAM-SHA-256, what takes a token (tests.support.dovecot.token), and EXTERNAL for clients with a
    certificate of this authority.

    Everybody must be able to enter the folder.
    """
    shown, pem = authority.certificate(ADDRESS), folder / "server.pem"
    shown.private_key_and_cert_chain_pem.write_to_path(pem)
    ca_file = authority.ca_file(folder / "ca.pem")
    mechanisms = ["SCRAM-SHA-256", *WITHOUT_PASSWORD]
    with (
        Exim(folder) as exim,
        DovecotSubmission(folder / "dovecot", USERS, mechanisms, pem, ca_file, exim.port) as dovecot,
    ):
        yield _DovecotWithAccounts(dovecot, exim, shown)


class _DovecotWithAccounts:
    def __init__(self, dovecot: DovecotSubmission, exim: Exim, shown: trustme.LeafCert) -> None:
        self.dovecot, self.exim = dovecot, exim
        self.ports: Mapping[str, int] = {"submission": dovecot.port, "submissions": dovecot.tls_port}
        self.certificate = x509.load_pem_x509_certificate(shown.cert_chain_pems[0].bytes())
        self._known = 0  # characters of its log

    def forget(self) -> None:
        self.exim.settle()
        self.exim.forget()
        self._known = len(self.dovecot.log)

    def seen(self) -> Seen:
        """Once there has been a login, or one that failed; it comes by way of a daemon of its own."""
        deadline = time.monotonic() + PATIENCE
        while " method=" not in (log := self.dovecot.log[self._known :]) and time.monotonic() < deadline:
            time.sleep(0.005)  # between two looks at a log
        self.exim.settle()
        refused = re.findall(r"\(auth failed, (\d+) attempts .* method=([\w-]+)", log)
        return Seen(
            [
                (arrived.sender, arrived.recipients, RECEIVED.sub(b"", arrived.text, count=1))
                for arrived in self.exim.messages()
            ],
            [f"{name} {user}" for user, name in re.findall(r" Login: user=<(.*?)>, method=([\w-]+)", log)],
            [name for count, name in refused for _ in range(int(count))],
        )


# -- Postfix

LOGINS = """\
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = private/auth
smtpd_sasl_security_options = noanonymous
smtpd_tls_security_level = may
smtpd_tls_auth_only = yes
smtpd_tls_chain_files = {folder}/server.pem
"""

SERVICES = """\
127.0.0.1:{port} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes
tlsmgr unix - - n 1000? 1 tlsmgr
"""


@contextmanager
def postfix_with_accounts(folder: Path, authority: Authority) -> Iterator[Server]:
    """It offers each mechanism but EXTERNAL, once there is TLS."""
    shown = authority.certificate(ADDRESS)
    shown.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    with held_port() as held:
        port: int = held.getsockname()[1]
        made = Postfix(
            folder,
            permitted="permit_sasl_authenticated",
            extra=LOGINS.format(folder=folder),
            services=SERVICES.format(port=port),
        )
        socket = made.folder / "queue" / "private" / "auth"
        with DovecotLogins(folder / "dovecot", socket, USERS, BY_PASSWORD, OWNER), made as postfix:
            yield _PostfixWithAccounts(postfix, port, shown)


class _PostfixWithAccounts:
    def __init__(self, postfix: Postfix, tls_port: int, shown: trustme.LeafCert) -> None:
        self.postfix = postfix
        self.ports: Mapping[str, int] = {"submission": postfix.port, "submissions": tls_port}
        self.certificate = x509.load_pem_x509_certificate(shown.cert_chain_pems[0].bytes())

    def forget(self) -> None:
        self.postfix.forget()

    def seen(self) -> Seen:
        self.postfix.sessions()  # once they have ended
        log = self.postfix.log
        return Seen(
            [(arrived.sender, arrived.recipients, arrived.text) for arrived in self.postfix.messages()],
            [" ".join(found) for found in re.findall(r" sasl_method=([\w-]+), sasl_username=(\S+)", log)],
            re.findall(r" SASL ([\w-]+) authentication failed", log),
        )
