"""What is tortured: scenes as data, and the stage with its servers on which one is played."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.support.certificates import Authority
from tests.support.server import Server
from tests.torture.link import Link
from tests.torture.tally import Run, faults, faults_of_answers, faults_of_batch

MESSAGE = (
    b"From: me@client.example\nTo: you@example.net\nDate: Sat, 21 Nov 2026 10:00:00 +0000\n"
    b"Message-ID: <1@client.example>\nSubject: hello\n\nHello.\n.\n..\nBye.\n"
)
SCHEMES = {"clear": "smtp", "STARTTLS": "submission", "TLS": "submissions"}
SECONDS = 30  # a stage may take; nothing here is silent, so that who waits as long has a bug


@dataclass(frozen=True)
class Host:
    """One smart host: how it is reached, and what it offers."""

    secure: Literal["clear", "STARTTLS", "TLS"] = "clear"
    extensions: tuple[str, ...] = ("PIPELINING", "8BITMIME", "SIZE 10000000")

    def chunking(self) -> Host:
        return Host(self.secure, (*self.extensions, "CHUNKING"))


@dataclass(frozen=True)
class Scene:
    """One call of the program. A copy is a message that a server took to its end; a whole one has this text."""

    name: str
    hosts: tuple[Host, ...]
    argv: tuple[str, ...] = ("-i", "you@example.net")
    stdin: bytes = MESSAGE
    more: str = ""  # of the configuration

    @property
    def text(self) -> bytes:
        return self.stdin.replace(b"\n", b"\r\n")

    def faults(
        self, run: Run, copies: Sequence[bytes], *, end_left: bool | None = None, heard: bool = False
    ) -> set[str]:
        """Where the promise was broken (RULES A1 to A3, C3)."""
        return faults(run, copies, self.text, end_left=end_left, heard=heard)


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
)


@dataclass
class Stage:
    """A scene set up: servers that take everything, a link in front of the first, a configuration."""

    scene: Scene
    servers: list[Server]
    link: Link
    config: Path

    @property
    def argv(self) -> list[str]:
        return ["-C", str(self.config), *self.scene.argv]

    def copies(self) -> list[bytes]:
        """What has been taken since this was asked last."""
        self.link.finished()
        found = [message for server in self.servers for session in server.finished() for message in session.messages]
        for listener in (self.link, *self.servers):
            listener.sessions.clear()
        return [message.text for message in found if message.complete]


@contextlib.contextmanager
def staged(scene: Scene, folder: Path) -> Iterator[Stage]:
    """Set a scene up below a folder of its own."""
    authority = Authority()
    ca_file = authority.ca_file(folder / "ca.pem")
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(_server(host, authority)) for host in scene.hosts]
        link = stack.enter_context(Link(servers[0].port))
        ports = [link.port, *(server.port for server in servers[1:])]
        hosts = zip(scene.hosts, ports, strict=True)
        config = folder / "muawrap.toml"
        config.write_text(
            f"""smart_hosts = [{", ".join(f'"{SCHEMES[host.secure]}://127.0.0.1:{port}"' for host, port in hosts)}]
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
        config.chmod(0o600)
        yield Stage(scene, servers, link, config)


def _server(host: Host, authority: Authority) -> Server:
    context: ssl.SSLContext | None = None if host.secure == "clear" else authority.server_context()
    return Server(extensions=host.extensions, context=context, implicit_tls=host.secure == "TLS")
