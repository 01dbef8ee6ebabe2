"""The programs that are compared, as one table: where each is found, and how it is told to send one message."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import packages

REPOSITORY = Path(__file__).resolve().parents[2]
MODES = ("plain", "starttls", "tls")  # in the clear; STARTTLS and AUTH; TLS at once and AUTH
SENDER = "sender@bench.example"
NOBODY = 65534  # whom Exim runs as where root runs the benchmark: it delivers nothing as root
USER, PASSWORD = "user@bench.example", "secret"


@dataclass(frozen=True)
class Job:
    """What to send: to which port, how, what, and a private folder for the peer's own files."""

    mode: str
    port: int
    recipients: tuple[str, ...]
    text: Path
    ca_file: Path
    folder: Path
    messages: int = 1  # of more than one, batch SMTP is on standard input

    @property
    def tls(self) -> bool:
        return self.mode != "plain"

    def write(self, name: str, *lines: str) -> str:
        """A file only we can read, as programs want it where a password stands in it."""
        path = self.folder / name
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        path.chmod(0o600)
        return str(path)


@dataclass(frozen=True)
class Command:
    """What to start. What is to be sent is on standard input in any case."""

    argv: list[str]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Peer:
    """A program of the table, found on this machine."""

    name: str
    path: str
    environment: dict[str, str]
    prepare: Callable[[str, Job], Command]
    modes: tuple[str, ...] = MODES
    asked: tuple[str, ...] = ("--version",)  # what makes it tell its version
    batches: bool = False  # whether one process sends several messages

    @property
    def version(self) -> str:
        """As the program tells it."""
        environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", **self.environment}
        done = subprocess.run(
            [self.path, *self.asked],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
            check=False,
        )
        found = re.search(r"\d+(\.\d+)+|\d{8}\.\d", (done.stdout + done.stderr).decode("utf-8", "replace"))
        return found[0] if found else "(version unknown)"

    def command(self, job: Job) -> Command:
        made = self.prepare(self.path, job)
        return Command(made.argv, {**self.environment, **made.environment})


def muawrap(path: str, job: Job, aliases: Path | None = None) -> Command:
    scheme = {"plain": "smtp", "starttls": "submission", "tls": "submissions"}[job.mode]
    auth = ["[auth]", f'user = "{USER}"', f'password = "{PASSWORD}"', "[tls]", f'ca_file = "{job.ca_file}"']
    config = job.write(
        "muawrap.toml",
        f'smart_hosts = ["{scheme}://127.0.0.1:{job.port}"]',
        f'log = "{job.folder}/log"',
        'hostname = "client.example"',
        *(auth if job.tls else ()),
        *(("[redirect]", f'aliases = ["{aliases}"]') if aliases else ()),
    )
    if job.messages > 1:
        return Command([path, "-C", config, "-bS"])
    return Command([path, "-C", config, "-i", "-f", SENDER, *job.recipients])


def msmtp(path: str, job: Job) -> Command:
    tls = [
        "tls on",
        f"tls_starttls {'on' if job.mode == 'starttls' else 'off'}",
        f"tls_trust_file {job.ca_file}",
        "auth plain",
        f"user {USER}",
        f"password {PASSWORD}",
    ]
    config = job.write("msmtprc", "account default", "host 127.0.0.1", f"port {job.port}", *(tls if job.tls else ()))
    return Command([path, "-C", config, "-i", "-f", SENDER, "--", *job.recipients])


EXIM = """\
mua_wrapper
exim_user = {user}
exim_group = {group}
deliver_drop_privilege
primary_hostname = client.example
spool_directory = {folder}/spool
log_file_path = {folder}/%slog
notifier_socket =
exim_path = {path}
keep_environment =
message_size_limit = 0
recipients_max = 0
untrusted_set_sender = *
local_interfaces = 127.0.0.1
disable_ipv6
begin routers
smart_host:
  driver = manualroute
  route_list = * 127.0.0.1
  self = send
  transport = smart_host
begin transports
smart_host:
  driver = smtp
  port = {port}
  max_rcpt = 0
{transport}
begin authenticators
PLAIN:
  driver = plaintext
  public_name = PLAIN
  client_send = ^{auth_user}^{password}
"""


def exim(path: str, job: Job) -> Command:
    transport = [
        "  hosts_require_tls = *" if job.mode == "starttls" else "  protocol = smtps",
        "  hosts_require_auth = *",
        f"  tls_verify_certificates = {job.ca_file}",
        "  tls_verify_hosts = *",
    ]
    owner = os.geteuid() or NOBODY
    if os.geteuid() == 0:
        os.chown(job.folder, NOBODY, NOBODY)
    text = EXIM.format(
        user=owner,
        group=os.getegid() or NOBODY,
        folder=job.folder,
        path=path,
        port=job.port,
        auth_user=USER,
        password=PASSWORD,
        transport="\n".join(transport if job.tls else ["  hosts_avoid_tls = *"]),
    )
    return Command([path, "-C", job.write("exim.conf", text), "-i", "-f", SENDER, "--", *job.recipients])


def ssmtp(path: str, job: Job) -> Command:
    tls = [
        "UseTLS=YES",
        f"UseSTARTTLS={'YES' if job.mode == 'starttls' else 'NO'}",
        f"TLS_CA_File={job.ca_file}",
        f"AuthUser={USER}",
        f"AuthPass={PASSWORD}",
    ]
    config = job.write(
        "ssmtp.conf",
        f"mailhub=127.0.0.1:{job.port}",
        "hostname=client.example",
        "FromLineOverride=YES",
        *(tls if job.tls else ()),
    )
    return Command([path, f"-C{config}", "-i", f"-f{SENDER}", *job.recipients])


def esmtp(path: str, job: Job) -> Command:
    tls = ["starttls = required", f'username = "{USER}"', f'password = "{PASSWORD}"']
    config = job.write("esmtprc", f"hostname = 127.0.0.1:{job.port}", *(tls if job.tls else ("starttls = disabled",)))
    trust = job.folder / ".authenticate"  # where libesmtp looks for its authorities
    trust.mkdir(mode=0o700, exist_ok=True)
    (trust / "ca.pem").write_bytes(job.ca_file.read_bytes())
    (trust / "ca.pem").chmod(0o600)
    return Command([path, "-C", config, "-i", "-f", SENDER, *job.recipients])


def curl(path: str, job: Job) -> Command:
    scheme = "smtps" if job.mode == "tls" else "smtp"
    tls = [
        "ssl-reqd",
        f'cacert = "{job.ca_file}"',
        f'user = "{USER}:{PASSWORD}"',
        'login-options = "AUTH=PLAIN"',
        "sasl-ir",
    ]
    config = job.write(
        "curlrc",
        f'url = "{scheme}://127.0.0.1:{job.port}/client.example"',
        f'upload-file = "{job.text}"',
        "crlf",
        "silent",
        "show-error",
        f'mail-from = "{SENDER}"',
        *(f'mail-rcpt = "{recipient}"' for recipient in job.recipients),
        *(tls if job.tls else ()),
    )
    return Command([path, "-q", "-K", config])


def swaks(path: str, job: Job) -> Command:
    tls = ["--auth", "PLAIN", "--auth-user", USER, "--auth-password", PASSWORD]
    tls += ["--tls-on-connect" if job.mode == "tls" else "--tls", "--tls-verify", "--tls-ca-path", str(job.ca_file)]
    argv = ["--server", "127.0.0.1", "--port", str(job.port), "--ehlo", "client.example", "--silent", "3"]
    argv += ["--from", SENDER, "--to", ",".join(job.recipients), "--data", f"@{job.text}", *(tls if job.tls else ())]
    return Command([path, *argv])


BARE = """\
import smtplib, ssl, sys
mode, port, ca_file, user, password, sender, *recipients = sys.argv[1:]
text = sys.stdin.read()
if mode == "tls":
    smtp = smtplib.SMTP_SSL("127.0.0.1", int(port), context=ssl.create_default_context(cafile=ca_file))
else:
    smtp = smtplib.SMTP("127.0.0.1", int(port))
if mode == "starttls":
    smtp.starttls(context=ssl.create_default_context(cafile=ca_file))
if mode != "plain":
    smtp.login(user, password)
smtp.sendmail(sender, recipients, text)
smtp.quit()"""


def bare(path: str, job: Job) -> Command:
    script = job.write("bare.py", BARE)
    options = [job.mode, str(job.port), str(job.ca_file), USER, PASSWORD, SENDER]
    return Command([path, script, *options, *job.recipients])


TABLE: tuple[tuple[str, str, tuple[str, ...], Callable[[str, Job], Command], tuple[str, ...]], ...] = (
    # name, Debian package, names of the program, how it is told, how it tells its version
    ("Exim", "exim4-daemon-light", ("exim4", "exim"), exim, ("-bV",)),
    ("msmtp", "msmtp", ("msmtp",), msmtp, ("--version",)),
    ("ssmtp", "ssmtp", ("ssmtp",), ssmtp, ("-V",)),
    ("esmtp", "esmtp", ("esmtp",), esmtp, ("-h",)),
    ("curl", "curl", ("curl",), curl, ("-V",)),
    ("swaks", "swaks", ("swaks",), swaks, ("--version",)),
)
SMTPLIB = "smtplib"
NAMES = ("muawrap", *(row[0] for row in TABLE), SMTPLIB)


def available(program: str, fetch: bool = True) -> tuple[list[Peer], list[str]]:
    """Ours first, then every peer that can be had here; and the names of those that cannot."""
    found, missing = [Peer("muawrap", program, {}, muawrap, asked=("-bV",), batches=True)], []
    for name, package, names, prepare, asked in TABLE:
        place = packages.find(package, names, fetch)
        if place is None:
            missing.append(name)
        else:
            found.append(Peer(name, *place, prepare, modes(name, bool(place[1])), asked))
    found.append(Peer(SMTPLIB, os.path.realpath(sys.executable), {}, bare))
    return found, missing


def modes(name: str, unpacked: bool) -> tuple[str, ...]:
    """What a peer can do: esmtp knows no TLS at once, and finds its AUTH mechanisms only where it is installed."""
    if name != "esmtp":
        return MODES
    return ("plain",) if unpacked else ("plain", "starttls")
