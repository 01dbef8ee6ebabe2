"""One connection: deadlines, losses, early words, and an end that cannot fail."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from muawrap.failure import REFUSED, TRY_AGAIN, UNCERTAIN, Failure, Stage
from muawrap.mail import Auth, Timeouts
from muawrap.submission import smarthosts
from muawrap.submission.connection import Connection
from muawrap.submission.deliver import deliver
from muawrap.submission.smarthosts import Address
from tests.submission.offering import ANY_SIZE, BIG, failure_of, login, offer, smart_host
from tests.support.need import missing
from tests.support.server import Drip, Drop, Reset, Server, Silence, Then, Wait

QUICK = 0.4
SLOW = 30.0
OVER = 3.0  # seconds; far beyond QUICK, far below SLOW and below a drip's end


def quick(stage: str) -> Timeouts:
    """Only this timeout is short, so that it must be the one that ends the dialogue."""
    return Timeouts(connect=SLOW, greeting=SLOW, command=SLOW, data=SLOW, final=SLOW)._replace(**{stage: QUICK})


STAGES = [
    ("greeting", "greeting", Stage.GREETING),
    ("EHLO", "command", Stage.EHLO),
    ("AUTH", "command", Stage.AUTH),
    ("MAIL", "command", Stage.MAIL),
    ("RCPT", "command", Stage.RCPT),
    ("DATA", "command", Stage.DATA),
    ("dot", "final", Stage.VERDICT),
]


@pytest.mark.row("S2", "S3")
@pytest.mark.parametrize("how", ["silent", "dripping octets", "dripping lines"])
@pytest.mark.parametrize(("stage", "timeout", "named"), STAGES)
def test_every_stage_has_one_deadline(stage: str, timeout: str, named: Stage, how: str) -> None:
    """C1, C3: absolute, so that a dripping server gains nothing; the stage is named."""
    action = {
        "silent": Silence(),
        "dripping octets": Drip(b"250 this will take for ever" + b"x" * 100, 0.1),
        "dripping lines": Then(*(step for _ in range(60) for step in (b"250-x\r\n", Wait(0.1)))),
    }[how]
    auth = login(allow_plaintext=True) if stage == "AUTH" else Auth()
    with Server({stage: action}, users={"alice": "s3cret"} if auth.user else None) as server:
        began = time.monotonic()
        failure = failure_of(offer(smart_host(server, timeouts=quick(timeout), auth=auth)))
        assert QUICK <= time.monotonic() - began < OVER
    assert (failure.stage, failure.what) == (named, "timed out")
    assert failure.lead == (UNCERTAIN if named is Stage.VERDICT else TRY_AGAIN)


@pytest.mark.row("S3")
def test_connecting_has_one_deadline_for_all_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """C1: three addresses that do not answer take no longer than one."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        waiting = []
        try:
            for _ in range(4):  # until the queue is full, and the kernel drops what knocks
                waiting.append(socket.socket())
                waiting[-1].setblocking(False)
                waiting[-1].connect_ex(("127.0.0.1", port))
            address = Address(socket.AF_INET, ("127.0.0.1", port))
            monkeypatch.setattr(smarthosts, "addresses", lambda host: [address] * 3)
            began = time.monotonic()
            failure = failure_of(offer(smart_host(port, timeouts=quick("connect"))))
            assert time.monotonic() - began < OVER
        finally:
            for one in waiting:
                one.close()
    assert failure.stage is Stage.CONNECT
    assert failure.what.startswith("no answer within ")


@pytest.mark.row("S2")
def test_a_server_that_does_not_read_is_not_waited_for() -> None:
    """C3: the text has its deadline too, and its end never left."""
    with Server({"text": Silence(reading=False)}, extensions=ANY_SIZE) as server:
        transaction = offer(smart_host(server, timeouts=quick("data")), text=b"x" * 70 + b"\n" + b"y" * BIG + b"\n")
        failure = failure_of(transaction)
    assert (failure.lead, failure.stage, failure.what) == (TRY_AGAIN, Stage.TEXT, "timed out")


@pytest.mark.row("S10")
@pytest.mark.parametrize("action", [Silence(reading=False), Drop(), Reset()])
def test_a_refusal_within_the_text_is_heard_although_the_server_leaves(action: Any) -> None:
    """C2: its last words are a verdict on the message."""
    with Server({"text": Then("552 5.3.4 too big", action)}, extensions=ANY_SIZE) as server, Server() as other:
        hosts = smart_host(server, timeouts=quick("data")), smart_host(other)
        failure = failure_of(offer(*hosts, text=b"y" * BIG + b"\n"))
        assert other.finished() == []
    assert failure.reply is not None
    assert (failure.stage, failure.reply.code) == (Stage.TEXT, 552)


@pytest.mark.row("S4", "S7")
@pytest.mark.parametrize("action", [Drop(), Reset(), Then(b"552 half a", Drop()), Then("250 fine", Reset()), Then("x")])
def test_a_loss_within_the_text_moves_on(action: Any) -> None:
    """C3: the end of the message had not been handed over."""
    with Server({"text": action}, extensions=ANY_SIZE) as server, Server(extensions=ANY_SIZE) as other:
        hosts = smart_host(server, timeouts=quick("data")), smart_host(other)
        receipt = deliver(offer(*hosts, text=b"y" * BIG + b"\n"))
        assert receipt.host == f"127.0.0.1:{other.port}"
        server.finished()
        assert not any(message.complete for message in server.messages)
        assert other.accepted[0].size > BIG


def test_a_whole_message_goes_through_a_slow_reader() -> None:
    """B1: partial sends lose nothing."""
    text = b"".join(b".%d some text\n" % number for number in range(400_000))
    with Server({"text": Wait(0.3)}) as server:
        deliver(offer(smart_host(server), text=text))
        assert server.accepted[0].text.partition(b"\r\n\r\n")[2] == text.replace(b"\n", b"\r\n")


# -- timeouts.total


@pytest.mark.row("S2")
def test_the_total_covers_everything_until_the_dot() -> None:
    """C1: each stage in time, all together not."""
    drips = {stage: Wait(0.3) for stage in ("greeting", "EHLO", "MAIL", "RCPT", "DATA")}
    timeouts = quick("greeting")._replace(greeting=SLOW, total=0.8)
    with Server(drips) as server:
        began = time.monotonic()
        failure = failure_of(offer(smart_host(server, timeouts=timeouts)))
        assert time.monotonic() - began < OVER
    assert (failure.lead, failure.what) == (TRY_AGAIN, "timed out")
    assert failure.stage in (Stage.EHLO, Stage.MAIL, Stage.RCPT)


def test_the_total_ends_with_the_dot() -> None:
    """A1: a verdict that is on its way is waited for."""
    with Server({"dot": Wait(1.7)}) as server:
        timeouts = quick("greeting")._replace(greeting=SLOW, total=1.5)
        assert deliver(offer(smart_host(server, timeouts=timeouts))).reply == "250 2.0.0 taken"


def test_a_total_that_is_over_keeps_the_dot_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """C3: what has not been committed has not been sent."""
    with Server({"DATA": Then(b"354 go ahead\r\n")}) as server:
        transaction = offer(smart_host(server, timeouts=quick("greeting")._replace(greeting=SLOW, total=SLOW)))
        end: list[float] = []

        def over(connection: Connection) -> None:
            end.append(connection._end)
            connection._end = 0

        monkeypatch.setattr(Connection, "hush", lambda self: over(self) if self.stage is Stage.TEXT else None)
        failure = failure_of(transaction)
        assert (failure.lead, failure.stage, failure.what) == (TRY_AGAIN, Stage.TEXT, "timed out")
        assert end[0] < float("inf")
        server.finished()
        assert not server.messages[0].complete


# -- early words


@pytest.mark.row("S10")
@pytest.mark.parametrize(
    ("stage", "reply", "before"),
    [
        ("greeting", b"220 hello\r\n250 and more\r\n", Stage.EHLO),
        ("EHLO", b"250 hello\r\n250 and more\r\n", Stage.OFFER),
        ("EHLO", b"250 hello\r\n421 bye\r\n", Stage.OFFER),
        ("EHLO", b"250 hello\r\n550 bye\r\n", Stage.OFFER),
        ("MAIL", b"250 fine\r\n250 and more\r\n", Stage.DATA),  # taken for the answer to RCPT, but no further
        ("RCPT", b"250 fine\r\n354 go ahead\r\n250 taken\r\n", Stage.DATA),
        ("DATA", b"354 go ahead\r\n250 taken\r\n", Stage.TEXT),
        ("DATA", b"354 go ahead\r\ngarbage\r\n", Stage.TEXT),
    ],
)
def test_an_answer_before_the_question_is_a_broken_host(stage: str, reply: bytes, before: Stage) -> None:
    """C3: it would be taken for the answer to what comes next; the next host gets the message."""
    with Server({stage: reply}) as server, Server() as other:
        failure = failure_of(offer(smart_host(server)))
        assert failure.stage is before
        assert len(deliver(offer(smart_host(server), smart_host(other))).degraded) == 1
        server.finished()
        assert not any(message.complete for message in server.messages)


@pytest.mark.row("S10")
@pytest.mark.parametrize(
    ("stage", "reply", "code"),
    [
        ("MAIL", b"250 fine\r\n421 bye\r\n", 421),
        ("RCPT", b"250 fine\r\n550 no\r\n", 550),
        ("DATA", b"354 go ahead\r\n452 full\r\n", 452),
        ("DATA", b"354 go ahead\r\n552-too\r\n552 big\r\n", 552),
    ],
)
def test_a_refusal_before_the_question_is_a_refusal(stage: str, reply: bytes, code: int) -> None:
    """C3: after MAIL a complete 4yz or 5yz is a verdict, asked for or not."""
    with Server({stage: reply}) as server, Server() as other:
        failure = failure_of(offer(smart_host(server), smart_host(other)))
        assert failure.reply is not None
        assert failure.reply.code == code
        assert other.finished() == []


@pytest.mark.row("S1")
def test_a_flood_before_the_dot_ends() -> None:
    """C3: what is read without being asked for is bounded."""
    with Server({"text": Then(*[b"x" * 65536] * 200, Silence())}, extensions=ANY_SIZE) as server:
        failure = failure_of(offer(smart_host(server, timeouts=quick("data")), text=b"y" * BIG + b"\n"))
        assert failure.stage is Stage.TEXT
        assert "sent" in failure.what or "timed out" in failure.what


# -- connecting


def addresses(monkeypatch: pytest.MonkeyPatch, *found: Address) -> None:
    monkeypatch.setattr(smarthosts, "addresses", lambda host: list(found))


def test_the_first_address_that_answers_is_taken(monkeypatch: pytest.MonkeyPatch, closed_port: int) -> None:
    """C1: a family this machine does not have counts as no answer."""
    with Server() as server:
        nowhere = Address(9999, ("127.0.0.1", server.port))
        closed = Address(socket.AF_INET, ("127.0.0.1", closed_port))
        addresses(monkeypatch, nowhere, closed, Address(socket.AF_INET, ("127.0.0.1", server.port)))
        assert deliver(offer(smart_host(server))).degraded == ()


def test_all_addresses_that_fail_are_named(monkeypatch: pytest.MonkeyPatch, closed_port: int) -> None:
    """C7: each with its reason, or once where all have the same."""
    closed = Address(socket.AF_INET, ("127.0.0.1", closed_port))
    addresses(monkeypatch, Address(9999, ("127.0.0.2", closed_port)), closed)
    assert failure_of(offer(smart_host(closed_port))).sentence() == (
        f"127.0.0.1:{closed_port}: 127.0.0.2: address family not supported by protocol,"
        " 127.0.0.1: connection refused while connecting"
    )
    addresses(monkeypatch, closed, closed)
    assert failure_of(offer(smart_host(closed_port))).what == "connection refused"


@pytest.mark.row("S7")
def test_trouble_after_connecting_is_the_hosts_not_the_addresss(monkeypatch: pytest.MonkeyPatch) -> None:
    """C1: no second address of a host that has answered."""
    with Server({"greeting": "554 go away"}) as first, Server() as second:
        addresses(monkeypatch, *(Address(socket.AF_INET, ("127.0.0.1", server.port)) for server in (first, second)))
        assert failure_of(offer(smart_host(first))).stage is Stage.GREETING
        assert second.finished() == []


def test_an_ipv6_literal_is_spoken_to() -> None:
    """C4: in brackets where it is named, and in EHLO where this machine has no name."""
    try:
        server = Server(host="::1")
    except OSError:
        missing("IPv6 on the loopback")
    with server:
        receipt = deliver(offer(smart_host(server, address="::1"), hostname=""))
        assert receipt.host == f"[::1]:{server.port}"
        assert server.finished()[0].commands[0] == b"EHLO [IPv6:::1]"


def test_without_a_name_we_are_our_address() -> None:
    """C1: never DNS (RFC 5321, 4.1.3)."""
    with Server() as server:
        deliver(offer(smart_host(server), hostname=""))
        assert server.finished()[0].commands[0] == b"EHLO [127.0.0.1]"


# -- EHLO and HELO


@pytest.mark.parametrize("reply", ["500 what?", "421 no EHLO here", "550 no"])
def test_a_refused_ehlo_falls_back_to_helo(reply: str) -> None:
    """C1: where neither TLS nor AUTH is required."""
    with Server({"EHLO": reply}) as server, Server({"EHLO": reply}, users={"alice": "s3cret"}) as other:
        deliver(offer(smart_host(server)))
        assert server.finished()[0].commands[1] == b"HELO client.example"
        failure = failure_of(offer(smart_host(other, auth=login(allow_plaintext=True))))
        assert failure.stage is Stage.EHLO
        assert failure_of(offer(smart_host(other, policy="required"))).reply == failure.reply
        assert not any(command.startswith(b"HELO") for session in other.finished() for command in session.commands)


def test_a_server_that_hangs_up_after_its_refusal_is_quoted() -> None:
    """C7: "421 too many connections" says more than a lost connection."""
    with Server({"EHLO": Then("421 too many", Drop())}) as server:
        assert "421 too many" in failure_of(offer(smart_host(server))).sentence()


@pytest.mark.parametrize("reply", ["220 hello again", "354 go ahead", "251 fine", "garbage"])
def test_a_wrong_answer_to_ehlo_is_no_reason_for_helo(reply: str) -> None:
    """C1: such a host does not know where it stands."""
    with Server({"EHLO": reply}) as server:
        assert failure_of(offer(smart_host(server))).stage is Stage.EHLO
        assert len([command for command in server.finished()[0].commands if command != b"QUIT"]) == 1


# -- commands and the end


@pytest.mark.parametrize("line", ["RCPT TO:<a>\r\nDATA", "NOOP \n", "NOOP \0", "NOOP \x7f"])
def test_a_command_holds_no_control_character(line: str) -> None:
    """B1: whatever let it through, it ends here."""
    with Server() as server:
        connection = Connection(smart_host(server), "client.example")
        connection.connect()
        connection.greeting()
        with pytest.raises(Failure, match="a control character inside a command"):
            connection.command(line)
        connection.leave()
        assert server.finished()[0].commands == [b"QUIT"]


def test_smtplib_sees_our_replies() -> None:
    """C2: what the base class asks for goes the same way."""
    with Server() as server:
        connection = Connection(smart_host(server), "client.example")
        connection.connect()
        assert connection.getreply() == (220, b"server.example ESMTP")
        assert connection.docmd("NOOP") == (250, b"2.0.0 still here")
        connection.leave()
        connection.leave()
        assert server.finished()[0].ending == "quit"


@pytest.mark.row("S6")
@pytest.mark.parametrize("action", [Drop(), Reset(), Silence(reading=False), Then("554 no", Drop())])
def test_leaving_never_waits_and_never_fails(action: Any) -> None:
    """A5: QUIT is a courtesy."""
    with Server({"QUIT": action}) as server:
        began = time.monotonic()
        assert deliver(offer(smart_host(server, timeouts=quick("greeting")._replace(greeting=SLOW)))).host
        assert time.monotonic() - began < OVER


def test_leaving_a_connection_that_was_reset_or_never_made_is_silent() -> None:
    """A5: whatever state it is in."""
    with Server({"NOOP": Reset()}) as server:
        Connection(smart_host(server), "client.example").leave()
        connection = Connection(smart_host(server), "client.example")
        connection.connect()
        connection.say("NOOP")
        server.finished()
        connection.leave()
        connection.leave()


def test_no_command_is_said_within_the_text() -> None:
    """C3: QUIT would be a line of the message."""
    with Server({"text": Then("552 no", Wait(0.5))}, extensions=ANY_SIZE) as server:
        failure_of(offer(smart_host(server), text=b"y" * BIG + b"\n"))
        [session] = server.finished()
        assert b"QUIT" not in session.raw


# -- names


@pytest.mark.parametrize(
    ("error", "lead"), [(socket.EAI_NONAME, REFUSED), (socket.EAI_AGAIN, TRY_AGAIN), (socket.EAI_FAIL, TRY_AGAIN)]
)
def test_a_name_that_does_not_exist_is_a_refusal(error: int, lead: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A3: and one that cannot be looked up now is not."""

    def gone(*_: object, **__: object) -> Any:
        raise socket.gaierror(error, "told by the resolver")

    monkeypatch.setattr(socket, "getaddrinfo", gone)
    failure = failure_of(offer(smart_host(25, address="mail.example")))
    assert (failure.lead, failure.stage) == (lead, Stage.CONNECT)
    assert failure.sentence() == "mail.example:25: told by the resolver while connecting"


@pytest.mark.parametrize("literal", ["127.0.0.1", "::1"])
def test_a_literal_is_never_looked_up(literal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """B3: DESIGN 1; the resolver is told that it has nothing to resolve."""
    asked: list[int] = []
    real = socket.getaddrinfo

    def remember(*arguments: Any, **named: Any) -> Any:
        asked.append(named["flags"])
        return real(*arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", remember)
    [address] = smarthosts.addresses(smart_host(25, address=literal))
    assert str(address) == literal
    assert asked == [socket.AI_NUMERICSERV | socket.AI_NUMERICHOST]


@pytest.mark.parametrize("name", ["a" * 64 + ".example", "1.2.3.4.5"])
def test_a_name_that_cannot_be_is_a_failure(name: str) -> None:
    """C7: one sentence, no traceback."""
    assert failure_of(offer(smart_host(25, address=name))).stage is Stage.CONNECT
