"""Envelope and text in one flight over a narrow link: replies come while the text is still leaving (RULES B6)."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from muawrap.failure import REFUSED, TRY_AGAIN
from muawrap.mail import Body
from muawrap.submission.connection import Connection
from muawrap.submission.deliver import deliver
from muawrap.submission.transact import ONE_FLIGHT
from tests.submission.offering import failure_of, offer, smart_host
from tests.support.server import Reset, Script, Server, Then

NARROW = 4096  # octets of buffer on either side: most of the text waits until the server reads
TEXT = b"x" * 63 + b"\n"
LENGTH = ONE_FLIGHT // 80  # lines; almost all that goes into one flight


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our kernel takes in little at once."""
    connect = Connection.connect

    def narrowed(connection: Connection, *arguments: Any, **named: Any) -> tuple[int, bytes]:
        done = connect(connection, *arguments, **named)
        assert connection.sock is not None
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NARROW)
        return done

    monkeypatch.setattr(Connection, "connect", narrowed)


def narrow_server(script: Script) -> Server:
    server = Server(script, extensions=["PIPELINING", "CHUNKING"])
    server._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW)
    return server


@pytest.mark.row("L9", "S10")
@pytest.mark.parametrize("lines", [16, LENGTH])
def test_answers_to_the_envelope_may_come_before_all_of_the_text_has_left(lines: int) -> None:
    """B6: they were asked for, and are no early words; the message arrives whole."""
    with narrow_server({}) as server:
        assert deliver(offer(smart_host(server), body=Body(TEXT * lines))).reply == "250 2.0.0 taken"
        [session] = server.finished()
    [message] = session.accepted
    assert not message.dotted
    assert message.data.endswith(b"\r\n\r\n" + (TEXT[:-1] + b"\r\n") * lines)
    assert session.raw.count(b"MAIL FROM") == session.raw.count(b"BDAT") == 1


@pytest.mark.row("S4", "S8")
@pytest.mark.parametrize(
    ("reply", "lead"), [("550 5.1.1 no such user", REFUSED), ("450 4.2.1 grey list", TRY_AGAIN)], ids=["550", "450"]
)
@pytest.mark.parametrize("lines", [16, LENGTH])
def test_a_recipient_refused_and_then_a_loss_is_not_sent(lines: int, reply: str, lead: str) -> None:
    """B6: even where the loss comes while the text is still leaving."""
    with narrow_server({"RCPT": Then(reply, Reset())}) as server:
        failure = failure_of(offer(smart_host(server), body=Body(TEXT * lines)))
        assert failure.lead == lead
        assert reply in str(failure)
        server.finished()
        assert server.messages == []
