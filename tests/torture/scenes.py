"""What is tortured: scenes as data, and the stage with its servers on which one is played."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from trustme import LeafCert

from tests.support.canary import CANARY
from tests.support.certificates import Authority, fingerprint
from tests.support.lmtp_server import LmtpServer
from tests.support.nameserver import NameServer
from tests.support.program import REPOSITORY
from tests.support.scram import scram
from tests.support.server import Listener, Server, closed_port
from tests.support.socks_server import SocksServer
from tests.torture.link import Link
from tests.torture.tally import Run, faults, faults_of_answers, faults_of_batch, faults_of_parts

MESSAGE = (
    b"From: me@client.example\nTo: you@example.net\nDate: Sat, 21 Nov 2026 10:00:00 +0000\n"
    b"Message-ID: <1@client.example>\nSubject: hello\n\nHello.\n.\n..\nBye.\n"
)
DOMAIN = "client.example"  # of hosts that have a name
PROGRAM = str(REPOSITORY / "bin" / "sendmail")
SCHEMES = {"clear": "smtp", "STARTTLS": "submission", "TLS": "submissions"}
RECIPIENTS = ("a@example.net", "b@example.net", "c@example.net")
SECONDS = 30  # a stage may take; nothing here is silent, so that who waits as long has a bug


@dataclass(frozen=True)
class Host:
    """One smart host: how it is reached, and what it offers."""

    secure: Literal["clear", "STARTTLS", "TLS"] = "clear"
    extensions: tuple[str, ...] = ("PIPELINING", "8BITMIME", "SIZE 10000000")
    verdicts: tuple[tuple[str, str], ...] | None = None  # LMTP: the recipients who do not get it, and the replies
    way: Literal["address", "srv", "SOCKS5", "unix"] = "address"  # srv: behind a dead target; unix: the first host only
    login: bool = False  # by SCRAM, with TLS by SCRAM-PLUS
    pinned: bool = False  # by its certificate, which nobody else vouches for

    def chunking(self) -> Host:
        return replace(self, extensions=(*self.extensions, "CHUNKING"))

    def entry(self, where: str, pin: str) -> str:
        """As it stands in smart_hosts; `where` is what follows the scheme of its URL."""
        scheme = "lmtp" if self.verdicts is not None else SCHEMES[self.secure]
        keys = [f'url = "{self.way if self.way == "srv" else scheme}{"+unix" * (self.way == "unix")}://{where}"']
        if self.pinned:
            keys.append(f'tls = {{ fingerprint = "{pin}" }}')
        elif self.secure == "clear":
            keys.append('tls = { policy = "none" }')
        if self.login:
            plaintext = str(self.secure == "clear").lower()
            keys.append(f'auth = {{ user = "alice", password = "{CANARY}", allow_plaintext = {plaintext} }}')
        return ", ".join(keys)


@dataclass(frozen=True)
class Scene:
    """One call of the program. A copy is a message that a server took to its end; a whole one has this text."""

    name: str
    hosts: tuple[Host, ...]
    argv: tuple[str, ...] = ("-i", "you@example.net")
    stdin: bytes = MESSAGE
    more: str = ""  # of the configuration

    @property
    def plain(self) -> bool:
        """Whether all hosts are at an address, and anybody's."""
        return all(host.way == "address" and not (host.login or host.pinned) for host in self.hosts)

    @property
    def text(self) -> bytes:
        return self.stdin.replace(b"\n", b"\r\n")

    def faults(
        self, run: Run, copies: Sequence[bytes], *, end_left: bool | None = None, heard: bool = False
    ) -> set[str]:
        """Where the promise was broken (RULES A1 to A3, C3)."""
        return faults(run, copies, self.text, end_left=end_left, heard=heard)


@dataclass(frozen=True)
class Parted(Scene):
    """One call over LMTP. A copy is what was delivered to one recipient, whose name stands before the text."""

    argv: tuple[str, ...] = ("-i", *RECIPIENTS)

    def faults(
        self, run: Run, copies: Sequence[bytes], *, end_left: bool | None = None, heard: bool = False
    ) -> set[str]:
        refused = {name for name, _ in self.hosts[0].verdicts or ()}
        return faults_of_parts(run, copies, self.text, RECIPIENTS, end_left=end_left, heard=heard, refused=refused)


@dataclass(frozen=True)
class Session(Scene):
    """One call with -bs or -bS, and several messages."""

    messages: int = 1

    @property
    def texts(self) -> list[bytes]:
        return [_numbered(number).replace(b"\n", b"\r\n") for number in range(1, self.messages + 1)]

    def faults(
        self, run: Run, copies: Sequence[bytes], *, end_left: bool | None = None, heard: bool = False
    ) -> set[str]:
        judge = faults_of_answers if self.argv == ("-bs",) else faults_of_batch
        return judge(run, copies, self.texts)


def _numbered(number: int) -> bytes:
    return MESSAGE.replace(b"<1@", b"<%d@" % number)


def session(mode: str, messages: int, how: str, *hosts: Host) -> Session:
    """A session with all its messages at once, as a caller writes them who waits for no reply."""
    envelope = b"MAIL FROM:<me@client.example>\nRCPT TO:<you@example.net>\nDATA\n"
    lines = b"".join(
        envelope + _numbered(number).replace(b"\n.", b"\n..") + b".\n" for number in range(1, messages + 1)
    )
    stdin = (b"EHLO me\n" + lines + b"QUIT\n").replace(b"\n", b"\r\n")
    return Session(f"{mode}, {messages} message{'s' * (messages > 1)}, {how}", hosts, (mode,), stdin, messages=messages)


CLEAR, STARTTLS, TLS = Host(), Host("STARTTLS"), Host("TLS")
SLOW = Host(extensions=("8BITMIME",))  # no PIPELINING: a command at a time
SCRAM, SCRAM_PLUS, PINNED = Host(login=True), Host("TLS", login=True), Host("TLS", pinned=True)
FOUND, FOUND_BY_TLS = Host(way="srv"), Host("TLS", way="srv", login=True)
PROXIED, LOCAL = Host(way="SOCKS5"), Host(way="unix")
LMTP = Host(verdicts=())
LOCAL_LMTP = replace(LMTP, way="unix")
CHOOSY = Host(verdicts=(("b@example.net", "552 5.2.2 over quota"),))

SCENES = (
    Scene("clear, DATA", (CLEAR,)),
    Scene("clear, DATA, two hosts", (CLEAR, CLEAR)),
    Scene("clear, BDAT", (CLEAR.chunking(),)),
    Scene("clear, BDAT, two hosts", (CLEAR.chunking(), CLEAR.chunking())),
    Scene("clear, a command at a time, two hosts", (SLOW, CLEAR)),
    Scene("STARTTLS, DATA, two hosts", (STARTTLS, CLEAR)),
    Scene("STARTTLS, BDAT", (STARTTLS.chunking(),)),
    Scene("TLS, DATA", (TLS,)),
    Scene("TLS, BDAT, two hosts", (TLS.chunking(), CLEAR)),
    Parted("LMTP, DATA, two hosts", (LMTP, LMTP)),
    Parted("LMTP, BDAT", (LMTP.chunking(),)),
    Parted("LMTP, DATA, one is refused after the dot", (CHOOSY, LMTP)),
    Parted("LMTP, BDAT, one is refused after the text", (CHOOSY.chunking(),)),
    Scene("SCRAM, DATA, two hosts", (SCRAM, CLEAR)),
    Scene("SCRAM-PLUS, TLS, BDAT, two hosts", (SCRAM_PLUS.chunking(), CLEAR)),
    Scene("pinned, DATA, two hosts", (PINNED, CLEAR)),
    Scene("srv, DATA, two hosts", (FOUND, CLEAR)),
    Scene("srv, SCRAM-PLUS, TLS, BDAT", (FOUND_BY_TLS.chunking(),)),
    Scene("SOCKS5, DATA, two hosts", (PROXIED, CLEAR)),
    Scene("SOCKS5, TLS, BDAT", (replace(PROXIED, secure="TLS").chunking(),)),
    Scene("unix socket, DATA, two hosts", (LOCAL, CLEAR)),
    Scene("unix socket, BDAT", (LOCAL.chunking(),)),
    Parted("unix socket, LMTP, DATA, two hosts", (LOCAL_LMTP, LMTP)),
)

SESSIONS = (
    session("-bs", 1, "DATA", CLEAR),
    session("-bs", 1, "BDAT", CLEAR.chunking()),
    session("-bs", 2, "DATA", CLEAR),
    session("-bs", 2, "BDAT, two hosts", CLEAR.chunking(), CLEAR),
    session("-bs", 2, "TLS", TLS.chunking()),
    session("-bS", 3, "DATA", CLEAR),
    session("-bS", 3, "BDAT", CLEAR.chunking()),
    session("-bS", 3, "BDAT, two hosts", CLEAR.chunking(), CLEAR.chunking()),
    session("-bS", 3, "TLS", TLS.chunking()),
    session("-bs", 2, "srv, BDAT, two hosts", FOUND.chunking(), CLEAR),
    session("-bS", 3, "SOCKS5, SCRAM, BDAT", replace(PROXIED, login=True).chunking()),
    session("-bS", 3, "unix socket, BDAT, two hosts", LOCAL.chunking(), CLEAR),
)


_FINDS, _RUNS = "    find_package()\n", "    from muawrap.sendmail import main\n"  # lines of bin/sendmail
_ASKS_US = """
    from muawrap.submission import lookup
    def resolver(dns):
        made = dns.Resolver(configure=False)
        made.nameservers, made.port = ["127.0.0.1"], {port}
        return made
    lookup.resolver = resolver
"""


@dataclass
class Stage:
    """A scene set up: servers that take everything, a link in front of the first, a configuration, a name server."""

    scene: Scene
    config: Path
    names: NameServer
    link: Link = field(init=False)
    servers: list[Server] = field(default_factory=list)
    relays: list[Listener] = field(default_factory=list)  # between link and server

    @property
    def argv(self) -> list[str]:
        return ["-C", str(self.config), *self.scene.argv]

    @property
    def program(self) -> str:
        """The program; where names are asked for, the same with our name server instead of that of resolv.conf(5)."""
        if not self.asked:
            return PROGRAM
        path = self.config.with_name("asks-us")
        program = Path(PROGRAM).read_text()
        for line, instead in (
            (_FINDS, f'    sys.path.append("{REPOSITORY / "src"}")\n'),
            (_RUNS, _RUNS + _ASKS_US.format(port=self.asked)),
        ):
            assert line in program
            program = program.replace(line, instead)
        path.write_text(program)
        return str(path)

    @property
    def asked(self) -> int:
        """The port of the name server, where one is needed."""
        return self.names.port if any(host.way == "srv" for host in self.scene.hosts) else 0

    def copies(self) -> list[bytes]:
        """What has been taken since this was asked last."""
        for listener in (self.link, *self.relays):
            listener.finished()
        found: list[bytes] = []
        for server in self.servers:
            messages = [message for session in server.finished() for message in session.messages]
            if isinstance(server, LmtpServer):
                found += (b"%s %s" % delivery for delivery in server.deliveries)
                server.deliveries.clear()
            else:
                found += (message.text for message in messages if message.complete)
        for listener in (self.link, *self.relays, *self.servers):
            listener.sessions.clear()
        return found


@contextlib.contextmanager
def staged(scene: Scene, folder: Path) -> Iterator[Stage]:
    """Set a scene up below a folder of its own."""
    authority, stranger = Authority(), Authority()
    ca_file = authority.ca_file(folder / "ca.pem")
    with contextlib.ExitStack() as stack:
        stage = Stage(scene, folder / "muawrap.toml", stack.enter_context(NameServer({})))
        entries = [_added(stage, host, stranger if host.pinned else authority, stack) for host in scene.hosts]
        stage.config.write_text(
            f"""smart_hosts = [{", ".join(entries)}]
from = "me@client.example"
hostname = "client.example"
log = "{folder / "log"}"
{scene.more}
[tls]
ca_file = "{ca_file}"
[timeouts]
connect = {SECONDS}
greeting = {SECONDS}
command = {SECONDS}
data = {SECONDS}
final = {SECONDS}
"""
        )
        stage.config.chmod(0o600)
        yield stage


def _added(stage: Stage, host: Host, authority: Authority, stack: contextlib.ExitStack) -> str:
    """One more host: its server, what stands before that, and its entry in smart_hosts."""
    certificate = authority.certificate("127.0.0.1", DOMAIN)
    server = stack.enter_context(_server(host, certificate))
    stage.servers.append(server)
    port, path = server.port, None
    if host.way == "SOCKS5":
        proxy = stack.enter_context(SocksServer({DOMAIN: port}, users={b"alice": b"wonder"}))
        stage.relays.append(proxy)
        port = proxy.port
    if len(stage.servers) == 1:
        path = stage.config.with_name("local") if host.way == "unix" else None
        stage.link = stack.enter_context(Link(port, path=path))
        port = stage.link.port
    if host.way == "srv":
        service = "_submissions" if host.secure == "TLS" else "_submission"
        targets = [f"SRV 0 1 {stack.enter_context(closed_port())} localhost.", f"SRV 1 1 {port} localhost."]
        stage.names.zones.update(NameServer.read({f"{service}._tcp.{DOMAIN}": targets}))
    where = {"address": f"127.0.0.1:{port}", "unix": str(path)}.get(host.way, DOMAIN)
    proxied = f', proxy = "socks5://alice:wonder@127.0.0.1:{port}"' if host.way == "SOCKS5" else ""
    return f"{{ {host.entry(where, fingerprint(certificate))}{proxied} }}"


def _server(host: Host, certificate: LeafCert) -> Server:
    if host.verdicts is not None:
        return LmtpServer({f"dot {name}": reply for name, reply in host.verdicts}, extensions=host.extensions)
    context = None
    if host.secure != "clear":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
    return Server(
        extensions=host.extensions,
        context=context,
        implicit_tls=host.secure == "TLS",
        users={"alice": CANARY} if host.login else None,
        mechanisms=("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256") if context else ("SCRAM-SHA-256",),
        exchanges=scram(binding=bytes.fromhex(fingerprint(certificate)), offers_plus=context is not None),
    )
