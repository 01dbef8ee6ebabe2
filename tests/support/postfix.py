"""A real Postfix as the smart host: a daemon on a free loopback port, with a hold queue that tests can read.

    with Postfix(tmp_path, without=["CHUNKING"], refuse_recipients=["b@x.example"]) as postfix:
        ...                                   # send something to 127.0.0.1, postfix.port
        [arrived] = postfix.messages()
        assert arrived.recipients == ["a@x.example"]
        [session] = postfix.sessions()
        assert session["rcpt"] == 1

Debian's packages of Postfix and Exim exclude each other, so this one is unpacked in a cache folder and never
installed (tests/support/unpacked.py). It needs root: Postfix starts as nobody else. Its configuration, queue, log
and daemons are its own, it runs as accounts that every Debian has, and nothing outside `folder` changes. It
delivers nothing: all mail is held. It changes no message but for one Received field in front, which is taken off
again. It refuses a bare LF on the wire, BDAT where CHUNKING is not offered, and what follows DATA in one flight; it
does not mind commands in one flight where PIPELINING is not offered.
"""

from __future__ import annotations

import email
import email.policy
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Collection
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

from tests.support.exim import end, held_port
from tests.support.need import missing
from tests.support.unpacked import Unavailable, unpacked

PATIENCE = 20.0  # seconds; how long the daemon may take to listen, to log, and to end

OWNER, GROUP = "daemon", "mail"  # any but root, nobody and each other's; `postfix` and `postdrop` are not there

MAIN = """\
compatibility_level = 3.6
daemon_directory = {postfix}/usr/lib/postfix/sbin
command_directory = {postfix}/usr/sbin
shlib_directory = {postfix}/usr/lib/postfix
meta_directory = {folder}/etc
queue_directory = {folder}/queue
# Within the queue, where the daemons stand: of the way there, temporary folders are closed to its owner
data_directory = data
mail_owner = {owner}
setgid_group = {group}
import_environment = MAIL_CONFIG POSTLOG_SERVICE {{ LD_LIBRARY_PATH={library_path} }}
maillog_file = {folder}/log
maillog_file_prefixes = {folder}

myhostname = smarthost.example
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
mydestination =
# Nothing is looked up, in the DNS or in a table of this machine
smtpd_peername_lookup = no
disable_dns_lookups = yes
local_recipient_maps =
alias_maps =
alias_database =
smtpd_reject_unlisted_recipient = no

smtpd_discard_ehlo_keywords = {without}
# Take everything, at any size and speed
smtpd_client_connection_count_limit = 0
smtpd_recipient_limit = 100000
smtpd_error_sleep_time = 0
smtpd_hard_error_limit = 100000
in_flow_delay = 0
message_size_limit = 104857600
header_size_limit = 104857600
queue_minfree = 0
# ... but not what is against the protocol
smtpd_forbid_bare_newline = reject
smtpd_forbid_bare_newline_exclusions =
smtpd_forbid_unauth_pipelining = yes

smtpd_relay_restrictions = {permitted}, reject
smtpd_recipient_restrictions = {refused} {permitted}, reject
# Keep what comes in, as it came in
smtpd_data_restrictions = {kept}
local_header_rewrite_clients =
message_drop_headers =
cleanup_replace_stray_cr_lf = no
enable_long_queue_ids = yes
smtpd_client_port_logging = yes
{extra}"""

MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
rewrite unix - - n - - trivial-rewrite
cleanup unix n - n - 0 cleanup
postlog unix-dgram n - n - 1 postlogd
"""

KEPT = "reject_unauth_pipelining, check_client_access static:HOLD"
REFUSED = "check_recipient_access inline:{{ {} }},"

# conf/postfix-files in its source names them; `data` is ours
QUEUES = ["active", "bounce", "corrupt", "data", "defer", "deferred", "flush", "hold", "incoming", "private"]
QUEUES += ["saved", "trace"]


@dataclass(frozen=True)
class Arrived:
    """One message as Postfix holds it, its CRLF as LF. A bare CR stays one."""

    sender: str  # empty: the null sender
    recipients: list[str]  # in order
    header: bytes
    body: bytes

    @property
    def text(self) -> bytes:
        return self.header + b"\n" + self.body

    @property
    def parsed(self) -> EmailMessage:
        return email.message_from_bytes(self.text, policy=email.policy.default)


class Postfix:
    def __init__(
        self,
        folder: Path,
        *,
        without: Collection[str] = (),  # EHLO keywords it does not offer
        refuse_recipients: Collection[str] = (),  # 550 at RCPT
        permitted: str = "permit_mynetworks",  # who may send
        delivers: bool = False,  # what comes in, which is held otherwise
        # No name twice: each daemon would warn of it, postlogd too, whose log may be full by then: it waits for itself
        extra: str = "",  # lines for its main.cf
        services: str = "",  # lines for its master.cf
    ) -> None:
        if os.geteuid() != 0:
            missing("root, to run Postfix")
        try:
            package = unpacked("postfix")
        except Unavailable as error:
            missing(str(error))
        self._package = package.folder
        self._environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LD_LIBRARY_PATH": package.library_path}
        number = sum(1 for _ in folder.glob("postfix*")) + 1
        self.folder = folder / f"postfix{number}"
        # Bound but never listening: the port stays ours while the daemon is stopped, and refuses whoever connects.
        self._held = held_port()
        self.port: int = self._held.getsockname()[1]
        self._daemon: subprocess.Popen[bytes] | None = None
        self._own_ports: set[int] = set()  # from which we connected ourselves
        self._make_queue()
        self._configure(without, refuse_recipients, permitted, "" if delivers else KEPT, extra, services)

    def _make_queue(self) -> None:
        queue = self.folder / "queue"
        for name in ("pid", "public", "maildrop", *QUEUES):
            (queue / name).mkdir(parents=True, mode=0o700)
            if name != "pid":
                shutil.chown(queue / name, OWNER)
        for name, mode in (("public", 0o710), ("maildrop", 0o730)):
            shutil.chown(queue / name, group=GROUP)
            (queue / name).chmod(mode)
        for folder in (self.folder, queue, queue / "pid"):
            folder.chmod(0o755)

    def _configure(
        self,
        without: Collection[str],
        refuse_recipients: Collection[str],
        permitted: str,
        kept: str,
        extra: str,
        services: str,
    ) -> None:
        refused = " ".join(f"{{ {address} = 550 no such user here }}" for address in refuse_recipients)
        main = MAIN.format(
            postfix=self._package,
            folder=self.folder,
            owner=OWNER,
            group=GROUP,
            library_path=self._environment["LD_LIBRARY_PATH"],
            without=", ".join(without),
            refused=REFUSED.format(refused) if refused else "",
            permitted=permitted,
            kept=kept,
            extra=extra,
        )
        (self.folder / "etc").mkdir()
        for name, text in (("main.cf", main), ("master.cf", MASTER.format(port=self.port) + services)):
            (self.folder / "etc" / name).write_text(text)
            os.utime(self.folder / "etc" / name, (0, 0))  # Postfix waits two seconds for a new file to be complete

    # -- the daemon

    def __enter__(self) -> Postfix:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
        self._held.close()

    def start(self) -> None:
        with (self.folder / "output").open("ab") as output:
            self._daemon = subprocess.Popen(
                [self._package / "usr/lib/postfix/sbin/master", "-d", "-c", self.folder / "etc"],
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
                raise RuntimeError(f"Postfix does not run:\n{(self.folder / 'output').read_text()}{self.log}")

    def stop(self) -> None:
        """From now on connections are refused. `start` takes the same port again."""
        daemon, self._daemon = self._daemon, None
        if daemon is not None:
            end(daemon)

    def _answers(self) -> bool:
        """Whether it greets; given a moment to get there."""
        try:
            return self._converse().startswith(b"220 ")
        except OSError:
            time.sleep(0.02)  # between two polls of a port
            return False

    def _converse(self, command: bytes = b"") -> bytes:
        """All that it says to this command and QUIT."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as sock:
            self._own_ports.add(sock.getsockname()[1])
            with sock.makefile("rb") as replies:
                heard = replies.readline()
                if command:
                    sock.sendall(command)
                    line = b"250-"
                    while line[3:4] == b"-":
                        line = replies.readline()
                        heard += line
                sock.sendall(b"QUIT\r\n")
                return heard + replies.read()

    # -- what came

    @property
    def offers(self) -> set[str]:
        """The keywords of its reply to EHLO."""
        return set(
            re.findall(r"^250[- ]([A-Z0-9]+)", self._converse(b"EHLO client.example\r\n").decode(), re.MULTILINE)
        )

    @property
    def log(self) -> str:
        """As far as it has been written; it comes by way of a daemon of its own."""
        log = self.folder / "log"
        return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""

    def sessions(self) -> list[dict[str, int]]:
        """For each connection, in the order in which they ended: how often each command came, in lower case."""
        self._settle()
        found = re.findall(r" disconnect from \S+:(\d+)(.*)", self.log)
        return [
            {name: int(count) for name, count in re.findall(r"(\w+)=(?:\d+/)?(\d+)", counts)}
            for port, counts in found
            if int(port) not in self._own_ports
        ]

    def _settle(self) -> None:
        """Wait until every session has ended and the log is whole: what comes last in it is a connection of our own."""
        before = set(self._own_ports)
        self._converse()
        [mark] = self._own_ports - before
        deadline = time.monotonic() + PATIENCE
        while True:
            log = self.log
            ended = re.findall(r" disconnect from \S+:(\d+)", log)
            if str(mark) in ended and len(ended) == len(re.findall(r" connect from \S+:\d+", log)):
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"a session with Postfix does not end:\n{log}")
            time.sleep(0.005)  # between two looks at a file

    def messages(self) -> list[Arrived]:
        """In the order in which they came."""
        return [self._read(path) for path in sorted((self.folder / "queue" / "hold").iterdir())]

    def _read(self, path: Path) -> Arrived:
        envelope = self._postcat("-e", path).decode()
        [sender] = re.findall(r"^sender: (.*)$", envelope, re.MULTILINE)
        text = self._postcat("-hb", path)
        received = re.match(rb"Received: from .*\n(?:[ \t].*\n)+", text)
        if received is None:
            raise ValueError(f"{path}: it does not begin with the Received field of Postfix: {text[:80]!r}")
        header, blank, body = text[received.end() - 1 :].partition(b"\n\n")  # from its line end: there may be no other
        return Arrived(
            sender=sender,
            recipients=re.findall(r"^recipient: (.*)$", envelope, re.MULTILINE),
            header=(header + blank[:1])[1:],
            body=body,
        )

    def _postcat(self, part: str, path: Path) -> bytes:
        command = [str(self._package / "usr/sbin/postcat"), "-c", str(self.folder / "etc"), part, str(path)]
        return subprocess.run(command, env=self._environment, capture_output=True, check=True).stdout

    def forget(self) -> None:
        """Nothing has come yet: for the next test. A stopped daemon runs again."""
        if self._daemon is None:
            self.start()
        self._settle()
        for file in (self.folder / "queue" / "hold").iterdir():
            file.unlink()
        self._own_ports.clear()
        (self.folder / "log").write_bytes(b"")  # whoever has it open appends
