"""Octets that come and go in the smallest pieces, and calls that have to be made again."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from muawrap.mail import Body
from muawrap.submission.deliver import deliver
from muawrap.submission.dial import Dial
from tests.submission.offering import HEADER, offer, smart_host
from tests.support.certificates import Authority
from tests.support.need import need
from tests.support.server import Server
from tests.torture import calls
from tests.torture.link import Link
from tests.torture.scenes import CLEAR, TLS, Host, Scene, staged

TEXT = b"".join(b".%d\n" % number for number in range(8_000))
SMALLEST = 1  # of a buffer, for which the kernel takes the least it can do with
HOSTS = [CLEAR, CLEAR.chunking(), TLS, TLS.chunking()]


def name(host: Host) -> str:
    return f"{host.secure}, {'BDAT' if 'CHUNKING' in host.extensions else 'DATA'}"


@pytest.fixture
def narrow_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own sockets have next to no room either: they take a part of what they are given."""
    connected = Dial.connected

    def narrowed(dial: Dial) -> socket.socket:
        made = connected(dial)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALLEST)
        return made

    monkeypatch.setattr(Dial, "connected", narrowed)


@contextlib.contextmanager
def narrow(host: Host, context: ssl.SSLContext | None, piece: int) -> Iterator[tuple[Server, Link]]:
    """A server behind a link that has next to no room, and passes on so many octets at a time."""
    with (
        Server(extensions=host.extensions, context=context, implicit_tls=context is not None) as server,
        Link(server.port, piece, SMALLEST) as link,
    ):
        yield server, link


@pytest.mark.row("L9")
@pytest.mark.usefixtures("narrow_sender")
@pytest.mark.parametrize("host", HOSTS, ids=name)
@pytest.mark.parametrize("piece", [1, 1000])
def test_the_narrowest_way_brings_the_same_octets(host: Host, piece: int, authority: Authority, tmp_path: Path) -> None:
    """F1, A1: every send takes a part of what it was given, and replies come octet by octet."""
    text = TEXT[: 4_000 if piece == 1 else len(TEXT)].rpartition(b"\n")[0] + b"\n"
    clear = host.secure == "clear"
    secure: dict[str, Any] = {"scheme": "submissions", "ca_file": authority.ca_file(tmp_path / "ca.pem")}
    with narrow(host, None if clear else authority.server_context(), piece) as (server, link):
        deliver(offer(smart_host(link, **({} if clear else secure)), body=Body(text)))
        server.finished()
        [message] = server.accepted
    assert message.text == (HEADER + b"\n" + text).replace(b"\n", b"\r\n")


@pytest.mark.row("L9")
@pytest.mark.parametrize("error", ["EINTR", "EAGAIN"])
@pytest.mark.parametrize("host", [CLEAR, TLS], ids=name)
def test_a_call_that_has_to_be_made_again_is(host: Host, error: str, tmp_path: Path) -> None:
    """F1, A1: every second one is interrupted, or finds that it would have to wait."""
    need("strace")
    scene = Scene("again", (host,), stdin=calls.PLAIN.stdin + TEXT)
    # In the clear a reply is asked for with recvfrom and the text given to sendto; OpenSSL reads and writes.
    names = {"clear": "sendto,recvfrom", "TLS": "write"}[host.secure]
    names += ",poll" if error == "EINTR" else ""
    with staged(scene, tmp_path) as stage:
        ran, lines = calls.strace(stage, "-e", f"trace={names}", "-e", f"inject={names}:error={error}:when=1+2")
        assert (ran.status, ran.out, ran.err) == (0, b"", b"")
        [copy] = stage.copies()
    assert copy == scene.text
    assert sum("(INJECTED)" in line for line in lines) >= 4
