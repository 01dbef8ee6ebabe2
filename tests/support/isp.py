"""A provider: a real Exim told by etc/exim/holding.conf as it is shipped, `muawrap` beside it, and its spool.

    with isp({"a.example": "cheshire"}, {"cheshire": f"smtp://127.0.0.1:{sink.port}"}) as provider:
        provider.send("me@client.example", ["al@a.example"])    # by SMTP, to provider.port
        provider.logged("Completed")
        provider.muawrap("ship", "cheshire")
        provider.mailbox                                        # what has come back to client.example

Only paths and the user are others than in the file. It runs as whoever runs the tests, or as nobody where that is root,
for whom no Exim delivers.
"""

from __future__ import annotations

import os
import pwd
import re
import smtplib
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.everybody import everybody
from tests.support.exim import PATIENCE, end, held_port
from tests.support.exim_front import Front
from tests.support.need import need
from tests.support.program import REPOSITORY
from tests.support.user import NOBODY, public_folder

SNIPPET = REPOSITORY / "etc" / "exim" / "holding.conf"
SENDERS = "client.example"
"""The domain whose mail is delivered here, to one mailbox: that of those who send."""
CONFIG = """\
exim_user = {uid}
exim_group = {gid}
admin_groups = {gid}
trusted_users = {user}
deliver_drop_privilege
primary_hostname = mx.isp.example
spool_directory = {folder}/exim
log_file_path = {folder}/exim/%slog
pid_file_path = {folder}/exim/pid
notifier_socket =
exim_path = {exim}
keep_environment =
write_rejectlog = false
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
disable_ipv6
smtp_accept_max = 0
smtp_reserve_hosts = *
rfc1413_query_timeout = 0s
acl_smtp_rcpt = accept
{main}
begin acl
{acl}
begin routers
{routers}
senders:
  driver = accept
  domains = {senders}
  transport = mailbox
begin transports
{transports}
mailbox:
  driver = appendfile
  file = {folder}/exim/mailbox
begin retry
* * F,1h,1m
"""


@dataclass
class Isp(Front):
    """A provider that has been set up, and runs."""

    port: int
    daemon: subprocess.Popen[bytes] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    """Of `muawrap`, where it is not Exim that calls it."""

    @property
    def as_its_user(self) -> dict[str, object]:
        """How subprocess becomes the user of the mail server."""
        if self.uid == os.geteuid():
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    @property
    def gid(self) -> int:
        return self.uid if self.uid != os.geteuid() else os.getegid()

    @property
    def config(self) -> Path:
        return self.folder / "muawrap.toml"

    @property
    def mailbox(self) -> str:
        """What has been delivered to those who send."""
        path = self.folder / "exim" / "mailbox"
        return path.read_text() if path.exists() else ""

    def start(self) -> None:
        with (self.folder / "output").open("ab") as output:
            self.daemon = subprocess.Popen(
                [self.exim, "-C", str(self.folder / "exim.conf"), "-bdf"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
                cwd=self.folder,
                start_new_session=True,
                **self.as_its_user,  # type: ignore[call-overload]
            )
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                smtplib.SMTP("127.0.0.1", self.port, timeout=PATIENCE).quit()
                return
            except OSError:
                if self.daemon.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise RuntimeError(
                        f"Exim does not run:\n{(self.folder / 'output').read_text()}{self.log}"
                    ) from None
                time.sleep(0.02)  # between two polls of a port

    def stop(self) -> None:
        daemon, self.daemon = self.daemon, None
        if daemon is not None:
            end(daemon)

    def send(self, sender: str, recipients: Sequence[str], text: bytes = b"Subject: hi\r\n\r\nhello\r\n") -> None:
        """A message comes in by SMTP."""
        with smtplib.SMTP("127.0.0.1", self.port, timeout=PATIENCE) as client:
            assert client.sendmail(sender, recipients, text) == {}

    def ask(self, *commands: bytes) -> list[bytes]:
        """What it says to each of them, behind EHLO, in one session."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as sock, sock.makefile("rb") as heard:
            replies = []
            for command in (b"", b"EHLO client.example", *commands, b"QUIT"):
                if command:
                    sock.sendall(command + b"\r\n")
                reply = heard.readline()
                while reply[3:4] == b"-":
                    reply = heard.readline()
                replies.append(reply.rstrip())
            return replies[2:-1]

    def logged(self, pattern: str, count: int = 1, ours: bool = False) -> list[str]:
        """What the log (Exim's, or ours) says of this, as soon as it has said it so many times."""
        deadline = time.monotonic() + PATIENCE
        while len(found := re.findall(pattern, self.muawrap_log if ours else self.log)) < count:
            assert time.monotonic() < deadline, f"{pattern}:\n{self.log}{self.muawrap_log}"
            time.sleep(0.005)  # between two looks at a file
        return found

    def muawrap(self, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """As the user of the mail server, with an empty environment but for `environment`."""
        done: subprocess.CompletedProcess[bytes] = subprocess.run(  # type: ignore[call-overload]
            [self.folder / "bin" / "muawrap", *words],
            input=stdin,
            capture_output=True,
            env=self.environment,
            check=False,
            timeout=60,
            **self.as_its_user,
        )
        return done


def parts(snippet: str) -> dict[str, str]:
    """The text for each section of an Exim configuration, "" for the main one."""
    first, *others = re.split(r"^begin (\w+)\n", snippet, flags=re.MULTILINE)
    return {"": first, **dict(zip(others[::2], others[1::2], strict=True))}


@contextmanager
def isp(
    hosts: Mapping[str, str],
    to: Mapping[str, str],
    *,
    transport: str = "hold_file",
    keys: str = "",
    changes: Mapping[str, str] | None = None,
) -> Iterator[Isp]:
    """Set up and running: `hosts` are domains and the host of each, `to` hosts and the URL of each.

    `transport` is the one to use of the two in the snippet; `keys` stand in the table of each host, `changes` are made
    to the snippet.
    """
    exim = need("exim4")
    uid = os.geteuid() or NOBODY
    user = pwd.getpwuid(uid).pw_name
    held = held_port()
    with held, public_folder() as folder:
        port = held.getsockname()[1]
        made = Isp(folder, exim, uid, port)
        program = everybody(folder, made.config)
        snippet = SNIPPET.read_text()
        for there, here in {
            **(changes or {}),
            "/etc/muawrap/hosts": f"{folder}/hosts",
            "/var/spool/muawrap": str(made.spool),
            "/usr/local/bin/muawrap": str(program),
            "Debian-exim": user,
            "transport = hold_file": f"transport = {transport}",
        }.items():
            assert there in snippet, there
            snippet = snippet.replace(there, here)
        part = parts(snippet)
        text = CONFIG.format(
            uid=uid,
            gid=made.gid,
            user=user,
            folder=folder,
            exim=exim,
            port=port,
            senders=SENDERS,
            main=part[""],
            acl=part["acl"],
            routers=part["routers"],
            transports=part["transports"],
        )
        tables = [
            f'[hold.{host}]\nto = "{url}"\ndomains = {[one for one in hosts if hosts[one] == host]}\n{keys}'
            for host, url in to.items()
        ]
        config = (
            f'smart_hosts = ["smtp://127.0.0.1:{port}"]\nspool = "{made.spool}"\nlog = "{folder}/log"\n'
            f'hostname = "mx.isp.example"\nmta = ["{exim}", "-C", "{folder}/exim.conf"]\n{"".join(tables)}'
        )
        files = {"exim.conf": text, "muawrap.toml": config, "hosts": "".join(f"{one}: {hosts[one]}\n" for one in hosts)}
        for name, content in files.items():
            (folder / name).write_text(content)
            (folder / name).chmod(0o644)
        for path in (folder / "exim", made.spool):
            path.mkdir(mode=0o700)
            os.chown(path, uid, made.gid)
        os.chown(folder, uid, made.gid)
        made.start()
        try:
            yield made
        finally:
            made.stop()
