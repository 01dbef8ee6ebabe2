"""A real Exim as the smart host: a daemon on free loopback ports, with a spool that tests can read.

    with Exim(tmp_path, users={"alice": "secret"}, tls=authority.certificate("127.0.0.1")) as exim:
        ...                                   # send something to 127.0.0.1, exim.port (or exim.tls_port)
        [arrived] = exim.messages()
        assert arrived.recipients == ["a@x.example"]

It runs as whoever runs the tests, on a configuration, a spool and logs of its own: Exim gives its privilege
away for -C, and `exim_user` tells it whom to be content with. It queues and never delivers, adds no header
and changes none; a message is read back from its two spool files. One transaction is one message, however
many recipients it has.
"""

from __future__ import annotations

import email
import email.policy
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.need import missing, need
from tests.support.unpacked import Unavailable, unpacked

if TYPE_CHECKING:
    import trustme

PATIENCE = 20.0  # seconds; how long the daemon may take to listen, and to end

MAIN = """\
exim_user = {uid}
exim_group = {gid}
admin_groups = {gid}
# Without this an Exim that is not root's would take itself for a test, and log to standard error
deliver_drop_privilege
primary_hostname = smarthost.example
spool_directory = {folder}/spool
log_file_path = {folder}/%slog
pid_file_path = {folder}/pid
notifier_socket =
exim_path = {exim}
keep_environment =
write_rejectlog = false

local_interfaces = 127.0.0.1
disable_ipv6
daemon_smtp_ports = {ports}
tls_on_connect_ports = {tls_ports}
tls_advertise_hosts = {tls_hosts}
{tls_files}
# Take everything, at any size and speed
smtp_accept_max = 0
recipients_max = 0
message_size_limit = 100M
rfc1413_query_timeout = 0s

# Keep what comes in, as it came in
queue_only
received_header_text =
return_path_remove = false
delivery_date_remove = false
envelope_to_remove = false
spool_wireformat

log_selector = +smtp_connection
acl_smtp_mail = mail
acl_smtp_rcpt = rcpt
acl_smtp_data = data
{extra}
begin acl
mail:
{authenticated}
  accept logwrite = :main: said $smtp_command
rcpt:
  warn logwrite = :main: said $smtp_command
{refused}
  accept
data:
  accept logwrite = :main: said $smtp_command
{acls}"""

TLS_FILES = """\
tls_certificate = {certificate}
tls_privatekey = {certificate}
"""

BY_NAME = "${{lookup{{$tls_in_sni}}lsearch{{{folder}/names}}{{$value}}{{{folder}/certificate.pem}}}}"

AUTHENTICATED = """\
  deny
    !authenticated = *
    message = authentication required
"""

REFUSED = """\
  deny
    recipients = {addresses}
    message = no such user here
"""

AUTHENTICATORS = """\
begin authenticators
PLAIN:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_advertise_condition = ${{if def:tls_in_cipher}}
  server_condition = ${{if eq{{$auth3}}{{${{lookup{{$auth2}}lsearch{{{folder}/users}}{{$value}}fail}}}}}}
  server_set_id = $auth2
LOGIN:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_advertise_condition = ${{if def:tls_in_cipher}}
  server_condition = ${{if eq{{$auth2}}{{${{lookup{{$auth1}}lsearch{{{folder}/users}}{{$value}}fail}}}}}}
  server_set_id = $auth1
"""


@dataclass(frozen=True)
class Arrived:
    """One message as Exim holds it, its CRLF as LF. Of what came by DATA Exim also makes a bare CR one LF."""

    sender: str  # empty: the null sender
    recipients: list[str]  # in order
    header: bytes
    body: bytes
    cipher: str  # empty: not by TLS
    authenticated: str  # the user, or empty
    protocol: str  # esmtp, esmtps, esmtpsa

    @property
    def text(self) -> bytes:
        return self.header + b"\n" + self.body

    @property
    def parsed(self) -> EmailMessage:
        return email.message_from_bytes(self.text, policy=email.policy.default)


class Exim:
    def __init__(
        self,
        folder: Path,
        *,
        tls: trustme.LeafCert | None = None,  # offers STARTTLS, and TLS at once on `tls_port`
        other_tls: Mapping[str, trustme.LeafCert] | None = None,  # for who asks for such a name (RFC 6066, 3)
        users: Mapping[str, str] | None = None,  # name -> password: AUTH after TLS, and no mail without
        authenticators: str = "",  # instead of `users`: that section of its configuration
        heavy: bool = False,  # Debian's exim4-daemon-heavy, which knows Dovecot: unpacked where another is installed
        refuse_recipients: Collection[str] = (),  # 550 at RCPT
        extra: str = "",  # lines for the main part of its configuration
        acls: str = "",  # further access control lists, which lines of `extra` name
    ) -> None:
        self.path, self._environment = which(heavy)
        number = sum(1 for _ in folder.glob("exim*")) + 1
        self.folder = folder / f"exim{number}"
        self.folder.mkdir()
        (self.folder / "spool").mkdir(mode=0o700)
        # Bound but never listening: the ports stay ours while the daemon is stopped, and refuse whoever connects.
        self._held = [held_port(), held_port()]
        self.port, self.tls_port = (held.getsockname()[1] for held in self._held)
        self._daemon: subprocess.Popen[bytes] | None = None
        if users is not None:
            authenticators = AUTHENTICATORS.format(folder=self.folder)
        self._configure(tls, other_tls or {}, users or {}, authenticators, refuse_recipients, extra, acls)

    def _configure(
        self,
        tls: trustme.LeafCert | None,
        other_tls: Mapping[str, trustme.LeafCert],
        users: Mapping[str, str],
        authenticators: str,
        refuse_recipients: Collection[str],
        extra: str,
        acls: str,
    ) -> None:
        certificates = {"certificate": tls, **other_tls} if tls is not None else {}
        for name, certificate in certificates.items():
            pem = self.folder / f"{name}.pem"
            certificate.private_key_and_cert_chain_pem.write_to_path(pem)
            pem.chmod(0o600)
        (self.folder / "names").write_text("".join(f"{name}: {self.folder}/{name}.pem\n" for name in other_tls))
        (self.folder / "users").write_text("".join(f"{user}: {users[user]}\n" for user in users))
        shown = BY_NAME.format(folder=self.folder) if other_tls else f"{self.folder}/certificate.pem"
        text = MAIN.format(
            uid=os.geteuid(),
            gid=os.getegid(),
            folder=self.folder,
            exim=self.path,
            ports=f"{self.port} : {self.tls_port}" if tls else self.port,
            tls_ports=self.tls_port if tls else "",
            tls_hosts="*" if tls else "",
            tls_files=TLS_FILES.format(certificate=shown) if tls else "",
            authenticated=AUTHENTICATED if authenticators else "",
            refused=REFUSED.format(addresses=" : ".join(refuse_recipients)) if refuse_recipients else "",
            extra=extra,
            acls=acls,
        )
        (self.folder / "exim.conf").write_text(text + authenticators)

    # -- the daemon

    def __enter__(self) -> Exim:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
        for held in self._held:
            held.close()

    def start(self) -> None:
        with (self.folder / "output").open("ab") as output:
            self._daemon = subprocess.Popen(
                [self.path, "-C", str(self.folder / "exim.conf"), "-bdf"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment,
                cwd=self.folder,
                start_new_session=True,
            )
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"Exim does not run:\n{(self.folder / 'output').read_text()}{self._log}")

    def stop(self) -> None:
        """From now on connections are refused. `start` takes the same ports again."""
        daemon, self._daemon = self._daemon, None
        if daemon is not None:
            end(daemon)

    def _answers(self) -> bool:
        """Whether it greets; given a moment to get there."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as sock:
                greeting = sock.recv(1024)
                sock.sendall(b"QUIT\r\n")
                while sock.recv(1024):
                    pass
                return greeting.startswith(b"220 ")
        except OSError:
            time.sleep(0.02)  # between two polls of a port
            return False

    # -- what came

    @property
    def log(self) -> str:
        """The main log, and the panic log where there is one; whole, once it talks to nobody any more."""
        self.settle()
        return self._log

    @property
    def _log(self) -> str:
        """As far as it has been written."""
        logs = [self.folder / name for name in ("mainlog", "paniclog")]
        return "".join(log.read_text(encoding="utf-8", errors="replace") for log in logs if log.exists())

    @property
    def said(self) -> list[str]:
        """The client's MAIL and RCPT as they were; DATA or BDAT stands here when all of the text has come."""
        return re.findall(r" said (.*)", self.log)

    def messages(self) -> list[Arrived]:
        """In the order in which they came."""
        found = [read_spool(path) for path in (self.folder / "spool" / "input").glob("*-H")]
        return [arrived for _, arrived in sorted(found, key=lambda pair: pair[0])]

    def settle(self) -> None:
        """Wait until it talks to nobody any more, and its log is whole."""
        if self._daemon is None:
            return
        children = Path(f"/proc/{self._daemon.pid}/task/{self._daemon.pid}/children")  # one for each connection
        deadline = time.monotonic() + PATIENCE
        while children.read_text():
            if time.monotonic() > deadline:
                raise RuntimeError(f"Exim still talks to somebody:\n{self._log}")
            time.sleep(0.005)  # between two looks

    def forget(self) -> None:
        """Nothing has come yet: for the next test. A stopped daemon runs again."""
        if self._daemon is None:
            self.start()
        for file in (self.folder / "spool" / "input").glob("*"):
            file.unlink()
        (self.folder / "mainlog").write_bytes(b"")  # whoever has it open appends


def which(heavy: bool) -> tuple[str, dict[str, str]]:
    """The program, and the environment it runs in."""
    path, environment = need("exim4"), {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    if heavy:
        asked = [path, "-C", os.devnull, "-bV"]
        told = subprocess.run(asked, env=environment, capture_output=True, check=False).stdout
        if not re.search(rb"^Authenticators:.* dovecot\b", told, re.MULTILINE):
            try:
                package = unpacked("exim4-daemon-heavy")
            except Unavailable as error:
                missing(str(error))
            path = str(package.folder / "usr/sbin/exim4")
            environment["LD_LIBRARY_PATH"] = package.library_path
    return path, environment


def held_port() -> socket.socket:
    """A free port, bound so that Exim can share it and nobody else is given it."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held


def end(daemon: subprocess.Popen[bytes]) -> None:
    """A daemon and all it has started; it is asked first."""
    if daemon.poll() is None:
        daemon.terminate()
    try:
        daemon.wait(PATIENCE)
    finally:
        end_group(daemon.pid)
        daemon.wait()


def end_group(group: int) -> None:
    """The daemon's children, one for each connection still open."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass


RECIPIENT = re.compile(r"(.+?)(?: \S* \d+,\d+ .*#3)?")  # the address, and behind it what DSN asks for
HEADER = re.compile(rb"(\d{3,})(.) ", re.DOTALL)  # length and kind; `*` has been taken out
BARE_LF = re.compile(rb"(?<!\r)\n")


def read_spool(path: Path) -> tuple[tuple[int, int], Arrived]:
    """A message from its -H and -D file, and when it came. The format is in Exim's specification, chapter 57."""
    envelope, _, rest = path.read_bytes().partition(b"\n\n")
    lines = envelope.decode().split("\n")
    sender, came = lines[2], int(lines[3].split()[0])
    options: dict[str, str] = {}
    position = 4
    while lines[position].startswith("-"):
        name, _, value = lines[position].lstrip("-").partition(" ")
        options[name] = value
        position += 1
    if lines[position] != "XX":
        raise ValueError(f"{path}: it has been delivered to somebody: {lines[position]!r}")
    count = int(lines[position + 1])
    recipients = [RECIPIENT.fullmatch(line) for line in lines[position + 2 : position + 2 + count]]

    header = b""
    while rest:
        match = HEADER.match(rest)
        if match is None:
            raise ValueError(f"{path}: no header line: {rest[:40]!r}")
        end = match.end() + int(match[1])
        if match[2] != b"*":
            header += rest[match.end() : end]
        rest = rest[end:]

    _, _, body = path.with_name(path.name.removesuffix("-H") + "-D").read_bytes().partition(b"\n")
    if "spool_file_wireformat" in options:  # came by BDAT: the very bytes
        if BARE_LF.search(body):
            raise ValueError(f"{path}: a bare LF was on the wire, or no blank line after the header")
        body = body.replace(b"\r\n", b"\n")
    arrived = Arrived(
        sender=sender.removeprefix("<").removesuffix(">"),
        recipients=[recipient[1] for recipient in recipients if recipient is not None],
        header=header,
        body=body,
        cipher=options.get("tls_cipher", ""),
        authenticated=options.get("auth_id", ""),
        protocol=options.get("received_protocol", ""),
    )
    return (came, int(options.get("received_time_usec", ".0")[1:])), arrived
