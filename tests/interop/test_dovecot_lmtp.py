"""muawrap hands its messages to a real Dovecot by LMTP, and to a real SOCKS5 proxy."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.dovecot_lmtp import DovecotLmtp
from tests.support.exim import end, held_port
from tests.support.msmtp import Msmtp
from tests.support.need import missing
from tests.support.program import Program, Result
from tests.support.server import Server
from tests.support.socks_server import SocksServer
from tests.support.unpacked import Unavailable, unpacked
from tests.support.user import public_folder

A, B, FULL, NOBODY = "a@x.example", "b@x.example", "full@x.example", "nobody@x.example"
MESSAGE = (
    b"Message-ID: <1@client.example>\nFrom: me@client.example\nDate: Sat, 21 Nov 2026 10:00:00 +0000\n\n.\nHello.\n"
)
ARRIVED = MESSAGE.partition(b"Message-ID:")[2]


@pytest.fixture(scope="module")
def running() -> Iterator[DovecotLmtp]:
    with public_folder() as folder, DovecotLmtp(folder, {A: "", B: "", FULL: "1K"}) as dovecot:
        yield dovecot


@pytest.fixture
def dovecot(running: DovecotLmtp) -> DovecotLmtp:
    running.forget()
    return running


WAYS = {
    "port": ("lmtp://127.0.0.1:{port}", ""),
    "socket": ("lmtp+unix://{path}", ""),
    "port, DATA": ("lmtp://127.0.0.1:{port}", ', ignore_extensions = ["CHUNKING"]'),
    "socket, a command at a time": ("lmtp+unix://{path}", ', ignore_extensions = ["CHUNKING", "PIPELINING"]'),
}


@pytest.fixture(params=list(WAYS.values()), ids=list(WAYS))
def sending(program: Program, dovecot: DovecotLmtp, request: pytest.FixtureRequest) -> Program:
    """By each way there is, with a folder for what is not sent."""
    url, more = request.param
    url = url.format(port=dovecot.port, path=dovecot.path)
    (program.folder / "kept").mkdir(mode=0o700)
    program.configure(
        f'smart_hosts = [{{ url = "{url}", tls = {{ policy = "none" }}{more} }}]\n'
        f'from = "me@client.example"\nkeep_failed = "{program.folder / "kept"}"\n'
    )
    return program


def send(program: Program, *to: str, stdin: bytes = MESSAGE) -> Result:
    return program.run("-i", *to, stdin=stdin)


def kept(program: Program) -> list[str]:
    return sorted(
        recipient
        for path in (program.folder / "kept").rglob("*")
        if path.is_file()
        for recipient in re.findall(r"RCPT TO:<(.*)>", path.read_text())
    )


def test_everybody_gets_it(sending: Program, dovecot: DovecotLmtp) -> None:
    """A1, A2, F1: octet by octet, a lone dot too."""
    done = send(sending, A, B)
    assert (done.status, done.out, done.err) == (0, b"", b"")
    assert dovecot.mails(A) == dovecot.mails(B) == [ARRIVED]
    assert re.search(r' reply="250 2\.0\.0 <a@x\.example> \S+ Saved; 2\.0\.0 <b@x\.example> \S+ Saved"', sending.log)


def test_an_unknown_recipient_stops_it_for_all(sending: Program, dovecot: DovecotLmtp) -> None:
    """B2."""
    done = send(sending, A, NOBODY, B)
    assert f"refused the recipient <{NOBODY}>: 550 5.1.1" in done.sentence
    assert done.sentence.startswith("sendmail: not sent, refused: ")
    assert dovecot.mails(A) == dovecot.mails(B) == []
    assert kept(sending) == sorted([A, NOBODY, B])


def test_who_is_over_quota_is_told_from_who_has_it(sending: Program, dovecot: DovecotLmtp) -> None:
    """RFC 2033, 4.2: after the dot; the copy is for that one only, so that sending it makes no second of the others."""
    large = MESSAGE + b"x" * 70 + b"\n" + b"y\n" * 2000
    done = send(sending, A, FULL, B, stdin=large)
    assert done.status == 1
    assert re.match(
        rf"sendmail: not sent, refused: \S+ did not take the message for all: sent to <{A}>, <{B}>;"
        rf" (?:not now|refused) for <{FULL}>: [45]52 [45]\.2\.2 <{FULL}> Quota exceeded",
        done.sentence,
    )
    assert dovecot.mails(A) == dovecot.mails(B) == [large.partition(b"Message-ID:")[2]]
    assert dovecot.mails(FULL) == []
    assert kept(sending) == [FULL]


def test_a_batch_goes_over_one_connection(sending: Program, dovecot: DovecotLmtp) -> None:
    """E8."""
    before = dovecot.log.count("Connect from")
    one = f"MAIL FROM:<me@client.example>\nRCPT TO:<{A}>\nRCPT TO:<{B}>\nDATA\n".encode()
    done = sending.run("-bS", stdin=(one + MESSAGE.replace(b"\n.", b"\n..") + b".\n") * 3)
    assert (done.status, done.err) == (0, b"")
    assert len(dovecot.mails(A)) == len(dovecot.mails(B)) == 3
    assert dovecot.log.count("Connect from") == before + 1


# -- beside msmtp


def msmtp(folder: Path, settings: str, *to: str, stdin: bytes = MESSAGE) -> subprocess.CompletedProcess[bytes]:
    """The same message by msmtp."""
    file = folder / "msmtprc"
    file.write_text(f"account default\nfrom me@client.example\nauth off\ntls off\n{settings}")
    file.chmod(0o600)
    return Msmtp().run(folder, "-C", str(file), "--", *to, message=stdin)


@pytest.mark.parametrize("to", [(A,), (A, B), (NOBODY,), (A, NOBODY), (FULL,), (A, FULL)])
@pytest.mark.parametrize("way", ["port", "socket"])
def test_msmtp_and_we_agree_over_lmtp(program: Program, dovecot: DovecotLmtp, to: tuple[str, ...], way: str) -> None:
    """The same server, the same recipients: who has it, and whether the caller is told of a failure."""
    program.configure(
        f'smart_hosts = [{{ url = "{WAYS[way][0].format(port=dovecot.port, path=dovecot.path)}",'
        ' tls = { policy = "none" } }]\nfrom = "me@client.example"\n'
    )
    stdin = MESSAGE + b"y\n" * 2000
    ours = send(program, *to, stdin=stdin)
    had = {user: dovecot.mails(user) for user in (A, B, FULL)}
    dovecot.forget()
    where = f"host 127.0.0.1\nport {dovecot.port}\n" if way == "port" else f"host x\nport 24\nsocket {dovecot.path}\n"
    theirs = msmtp(program.folder, f"protocol lmtp\n{where}", *to, stdin=stdin)
    assert {user: dovecot.mails(user) for user in had} == had, theirs.stderr
    assert bool(theirs.returncode) == bool(ours.status), theirs.stderr


def test_msmtp_and_we_agree_through_a_proxy(program: Program, closed_port: int) -> None:
    """The proxy is asked for the same, and a host that nobody reaches is a failure of both."""
    with Server() as server, SocksServer({"smtp.nowhere.example": server.port}) as proxy:
        by = f"host smtp.nowhere.example\nport 25\nproxy_host 127.0.0.1\nproxy_port {proxy.port}\n"
        program.configure(
            'smart_hosts = [{ url = "smtp://smtp.nowhere.example",'
            f' proxy = "socks5://127.0.0.1:{proxy.port}" }}]\nfrom = "me@client.example"\n'
        )
        outcomes = []
        for port in server.port, closed_port:
            proxy.names["smtp.nowhere.example"] = port
            ours = send(program, A)
            theirs = msmtp(program.folder, by, A)
            outcomes.append((ours.status, bool(theirs.returncode)))
        assert outcomes == [(0, False), (1, True)]
        assert proxy.asked == ["smtp.nowhere.example:25"] * 4
        first, second = server.accepted
        assert (first.sender, first.recipients, first.text) == (second.sender, second.recipients, second.text)


# -- a real proxy


@pytest.fixture
def microsocks() -> Iterator[int]:
    """Its port; it asks for alice and her password."""
    path = Path("/usr/bin/microsocks")
    if not path.exists():
        try:
            path = unpacked("microsocks").folder / "usr/bin/microsocks"
        except Unavailable as error:
            missing(str(error))
    with held_port() as held:
        port: int = held.getsockname()[1]
    daemon = subprocess.Popen(
        [path, "-i", "127.0.0.1", "-p", str(port), "-u", "alice", "-P", "w0nder"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 5).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        yield port
    finally:
        end(daemon)


def test_a_message_goes_by_a_real_proxy(program: Program, microsocks: int, closed_port: int) -> None:
    """SOCKS5 with a login; a port where nobody listens is the host's trouble, a wrong password the proxy's."""

    def by(login: str, port: int, name: str = "127.0.0.1") -> Result:
        program.configure(
            f'smart_hosts = [{{ url = "smtp://{name}:{port}", proxy = "socks5://{login}@127.0.0.1:{microsocks}" }}]\n'
            'from = "me@client.example"\n'
        )
        return program.run("you@example.net", stdin=MESSAGE)

    with Server() as server:
        for name in "127.0.0.1", "localhost":  # which the proxy finds in /etc/hosts
            assert by("alice:w0nder", server.port, name).status == 0
        assert [len(session.messages) for session in server.finished()] == [1, 1]
        wrong = by("alice:w1nter", server.port)
    proxy = f"the proxy 127.0.0.1:{microsocks}"
    assert f"127.0.0.1:{server.port}: {proxy} refused the login while connecting" in wrong.sentence
    refused = by("alice:w0nder", closed_port)
    assert f"127.0.0.1:{closed_port}: {proxy} made no connection: connection refused" in refused.sentence
