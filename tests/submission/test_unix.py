"""A unix socket as the smart host: no network, no TLS, and the sentences name its path."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from muawrap.failure import REFUSED, TRY_AGAIN, Stage
from muawrap.mail import SmartHost, Tls
from muawrap.submission import smarthosts
from muawrap.submission.deliver import deliver
from muawrap.submission.dial import Dial
from tests.submission.offering import PATIENT, failure_of, login, offer
from tests.support.lmtp_server import LmtpServer, UnixServer
from tests.support.program import Program
from tests.support.server import Server, Silence
from tests.support.user import NOBODY, acting_as, public_folder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "socket"


def local(path: Path, scheme: str = "smtp", **fields: Any) -> SmartHost:
    fields.setdefault("timeouts", PATIENT)
    return SmartHost(f"{scheme}+unix://{path}", scheme, str(path), 0, tls=Tls("none"), **fields)


@pytest.mark.parametrize(
    "extensions", [("PIPELINING", "CHUNKING", "8BITMIME"), ("PIPELINING",), ("CHUNKING",), ("8BITMIME",)]
)
@pytest.mark.parametrize("size", [10, 3_000_000])
def test_a_message_goes_over_a_socket(path: Path, extensions: tuple[str, ...], size: int) -> None:
    """B1: all of it, however large; the verdict is believed without what only TCP can tell."""
    with UnixServer(path, extensions=extensions) as server:
        receipt = deliver(offer(local(path), text=b"x" * size + b"\n"))
        (session,) = server.finished()
    assert (receipt.host, receipt.tls) == (str(path), "none")
    assert session.messages[0].text.endswith(b"x" * size + b"\r\n")
    assert session.commands[-1] == b"QUIT"


def test_lmtp_goes_over_a_socket(path: Path) -> None:
    with LmtpServer({"dot b@x.example": "552 full"}, path=path) as server:
        failure = failure_of(offer(local(path, "lmtp"), to=("a@x.example", "b@x.example")))
        server.finished()
    sentence = f"{path} did not take the message for all: sent to <a@x.example>; refused for <b@x.example>: 552 full"
    assert failure.sentence() == sentence


def test_a_login_goes_in_the_clear(path: Path) -> None:
    """DESIGN: nobody listens between us and a socket of this machine."""
    with UnixServer(path, users={"alice": "s3cret"}) as server:
        assert deliver(offer(local(path, auth=login("s3cret", allow_plaintext=True)))).user == "alice"
        assert server.finished()[0].authenticated == "alice"


def test_without_a_name_we_are_localhost(path: Path) -> None:
    """RFC 5321, 4.1.3: a socket has no address to be named by."""
    with UnixServer(path) as server:
        deliver(offer(local(path), hostname=""))
        assert server.finished()[0].commands[0] == b"EHLO localhost"


def test_a_surplus_reply_is_noticed(path: Path) -> None:
    """C3: as on the network."""
    with UnixServer(path, {"dot": "250 yes\n250 yes"}):
        assert "which nobody asked for" in failure_of(offer(local(path))).what


def test_nothing_is_looked_up_and_a_silent_server_not_called_twice(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DESIGN: no network; a second connection that begins TLS is for ports only."""

    def addresses(host: SmartHost) -> list[smarthosts.Address]:
        raise AssertionError(host)

    monkeypatch.setattr(smarthosts, "addresses", addresses)
    monkeypatch.setattr("muawrap.submission.connection.SILENCE", 0.05)
    with UnixServer(path, {"greeting": Silence()}) as server:
        failure = failure_of(offer(local(path, timeouts=PATIENT._replace(greeting=0.3))))
        assert (failure.stage, failure.what, failure.advice) == (Stage.GREETING, "timed out", "")
        assert len(server.finished()) == 1


# -- what is no server


def test_there_is_no_such_socket(path: Path) -> None:
    """A3: the sentence names the path."""
    failure = failure_of(offer(local(path)))
    assert failure.sentence() == f"{path}: there is no such socket while connecting"
    assert (failure.lead, failure.stage) == (TRY_AGAIN, Stage.CONNECT)
    assert "is the server running" in failure.advice


def test_nobody_listens(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    failure = failure_of(offer(local(path)))
    assert (failure.what, failure.lead) == ("nobody listens there", TRY_AGAIN)


def test_a_file_is_no_socket(path: Path) -> None:
    path.write_text("")
    failure = failure_of(offer(local(path)))
    assert (failure.what, failure.lead) == ("it is no stream socket", REFUSED)


def test_a_socket_of_another_kind_is_none(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        failure = failure_of(offer(local(path)))
    assert (failure.what, failure.lead) == ("it is no stream socket", REFUSED)


@pytest.mark.parametrize(
    ("beyond", "what"),
    [("file/socket", "something on the way there is no folder"), ("loop", "its symbolic links go round in circles")],
)
def test_a_path_that_leads_nowhere_is_for_a_person_to_mend(beyond: str, what: str, tmp_path: Path) -> None:
    """A3: no later try could do better."""
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    failure = failure_of(offer(local(tmp_path / beyond)))
    assert failure.sentence() == f"{tmp_path / beyond}: {what} while connecting"
    assert (failure.lead, failure.advice) == (REFUSED, "the URL must name the socket of a server")


def test_a_path_that_the_kernel_does_not_take(tmp_path: Path) -> None:
    """A3: a hundred letters may be two hundred octets."""
    failure = failure_of(offer(local(tmp_path / ("\u00e4" * 60))))
    assert failure.stage is Stage.CONNECT
    assert "path too long" in failure.what


def test_a_socket_we_may_not_use() -> None:
    with public_folder() as folder, socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
        server.listen()
        (folder / "socket").chmod(0o600)
        with acting_as(NOBODY):
            failure = failure_of(offer(local(folder / "socket")))
    assert (failure.what, failure.lead) == ("permission denied", REFUSED)


@pytest.fixture
def full(path: Path) -> Iterator[socket.socket]:
    """A server that takes nobody: its queue is full, which connect(2) says by EAGAIN."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(0)
        with socket.socket(socket.AF_UNIX) as waiting:
            waiting.connect(str(path))
            yield server


def test_a_full_queue_is_waited_for_as_long_as_a_connection_may_take(path: Path, full: socket.socket) -> None:
    """S3: bounded."""
    begun = time.monotonic()
    failure = failure_of(offer(local(path, timeouts=PATIENT._replace(connect=0.3))))
    assert 0.3 <= time.monotonic() - begun < 3
    assert (failure.what, failure.lead) == ("its queue is full, and that for 0.3 s", TRY_AGAIN)


def test_a_place_in_the_queue_is_taken(path: Path, full: socket.socket) -> None:
    """S3: as soon as there is one."""
    under_way = Dial(local(path))
    full.accept()[0].close()
    under_way.connected().close()


def test_a_dead_socket_gives_the_next_host_its_turn(path: Path) -> None:
    """C1."""
    with Server() as server:
        network = SmartHost("", "smtp", "127.0.0.1", server.port, timeouts=PATIENT)
        receipt = deliver(offer(local(path), network))
    assert receipt.degraded == (f"{path}: there is no such socket while connecting",)


# -- from outside


def test_a_url_names_the_socket(program: Program) -> None:
    """A1, muawrap.toml(5): smtp+unix:// with no other key."""
    path = program.folder / "s@host.sock"
    with UnixServer(path) as server:
        program.configure(
            f'smart_hosts = ["smtp+unix://{path}"]\nfrom = "me@client.example"\nhostname = "me.example"\n'
        )
        done = program.run("-v", "you@example.net", stdin=b"Subject: x\n\nx\n")
        assert [message.accepted for message in server.messages] == [True]
    assert done.status == 0
    assert done.err.decode().splitlines()[0] == f"--- connecting to {path}"
    assert f" host={path} " in program.log
    os.unlink(path)
    assert program.run("you@example.net", stdin=b"\nx\n").sentence.startswith(
        f"sendmail: not sent, try again: {path}: there is no such socket while connecting"
    )
