"""Each smart host in turn: what is final, what moves on, and what is told."""

from __future__ import annotations

import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from muawrap.failure import REFUSED, TRY_AGAIN, UNCERTAIN, Failure, Stage
from muawrap.mail import Body, Recipient, Secret, SmartHost
from muawrap.submission import smarthosts
from muawrap.submission.connection import Connection
from muawrap.submission.deliver import deliver
from muawrap.submission.smarthosts import Address
from tests.submission.offering import failure_of, login, offer, recipient, smart_host
from tests.support.certificates import Authority
from tests.support.server import Action, Channel, Drop, Reset, Server, Then

# -- what moves on, and what does not (C1, C2, C3)

BEFORE_MAIL = ["greeting", "EHLO", "AUTH"]
AFTER_MAIL = ["MAIL", "RCPT", "DATA"]
LOSSES: dict[str, Any] = {
    "lost": Drop(),
    "reset": Reset(),
    "cut off": Then(b"250 hal", Drop()),
    "garbage": "what?",
    "mixed": "250-yes\n550 no",
    "wrong class": "333 go on",
    "NUL": b"250 \0\r\n",
    "endless": b"250 " + b"x" * 5000,
}


def two(script: dict[str, Any], **fields: Any) -> tuple[Server, Server]:
    users = {"alice": "s3cret"}
    return Server(script, users=users, mechanisms=("PLAIN",), **fields), Server(users=users)


@pytest.mark.row("S7")
@pytest.mark.parametrize("reply", ["421 bye", "450 later", "550 no", "554-no\n554 never"])
@pytest.mark.parametrize("stage", BEFORE_MAIL)
def test_before_mail_a_refusal_is_the_hosts_own(stage: str, reply: str) -> None:
    """C1: the next host gets the message, and the log the reason."""
    first, second = two({stage: reply})
    with first, second:
        auth = login(allow_plaintext=True)
        receipt = deliver(offer(smart_host(first, auth=auth), smart_host(second, auth=auth)))
        assert receipt.host == f"127.0.0.1:{second.port}"
        [reason] = receipt.degraded
        assert reply.split("\n")[0].replace("-", " ") in reason
        assert f"127.0.0.1:{first.port}" in reason


@pytest.mark.row("S4", "S7", "S9")
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
@pytest.mark.parametrize("stage", BEFORE_MAIL + AFTER_MAIL)
def test_before_the_dot_a_loss_moves_on(stage: str, loss: Any) -> None:
    """C1, C3: a lost connection, a malformed or a wrong-class reply is no verdict."""
    first, second = two({stage: loss})
    with first, second:
        auth = login(allow_plaintext=True)
        receipt = deliver(offer(smart_host(first, auth=auth), smart_host(second, auth=auth)))
        assert receipt.host == f"127.0.0.1:{second.port}"
        assert len(receipt.degraded) == 1
        first.finished()
        assert first.accepted == []
        assert len(second.accepted) == 1


@pytest.mark.row("S7")
@pytest.mark.parametrize("tempfail", ["final", "next-host"])
@pytest.mark.parametrize("reply", ["421 bye", "451 later", "550 no", "554-no\n554 never"])
@pytest.mark.parametrize("stage", AFTER_MAIL)
def test_after_mail_a_refusal_is_a_verdict(stage: str, reply: str, tempfail: str) -> None:
    """C2: 4yz and 5yz alike, unless tempfail lets a complete 4yz move on."""
    first, second = two({stage: reply})
    with first, second:
        transaction = offer(smart_host(first), smart_host(second), tempfail=tempfail)
        if tempfail == "next-host" and reply.startswith("4"):
            assert len(deliver(transaction).degraded) == 1
            return
        failure = failure_of(transaction)
        assert failure.lead == (TRY_AGAIN if reply.startswith("4") else REFUSED)
        assert failure.reply is not None
        assert str(failure.reply.code) == reply[:3]
        assert second.finished() == []
        assert first.finished()[0].commands[-1] == b"QUIT"


def test_a_refusal_by_the_second_host_comes_with_the_first_ones_reason() -> None:
    """A5, C7: the sentence is the verdict's; the log tells both."""
    with Server({"greeting": "554 go away"}) as first, Server({"dot": "550 5.7.1 no"}) as second:
        failure = failure_of(offer(smart_host(first), smart_host(second)))
    assert failure.sentence() == f"127.0.0.1:{second.port} refused the message: 550 5.7.1 no"
    [reason] = failure.degraded
    assert "554 go away" in reason


@pytest.mark.row("S5", "S7")
@pytest.mark.parametrize("tempfail", ["final", "next-host"])
@pytest.mark.parametrize(
    ("verdict", "lead"),
    [
        ("421 bye", TRY_AGAIN),
        ("452 full", TRY_AGAIN),
        ("550 spam", REFUSED),
        ("354 go on", UNCERTAIN),
        *[(loss, UNCERTAIN) for loss in LOSSES.values()],
    ],
)
def test_after_the_dot_no_other_host_is_tried(verdict: Any, lead: str, tempfail: str) -> None:
    """C3: a complete 4yz or 5yz is not sent; anything else may have been."""
    first, second = two({"dot": verdict})
    with first, second:
        failure = failure_of(offer(smart_host(first), smart_host(second), tempfail=tempfail, dial_delay=0.01))
        assert (failure.lead, failure.stage) == (lead, Stage.VERDICT)
        assert ("look whether it arrived" in failure.advice) == (lead == UNCERTAIN)
        assert second.finished() == []


@pytest.mark.parametrize("verdict", ["250 taken", "250", "251 forwarded", "299-odd\n299 but fine"])
def test_any_complete_2yz_to_the_dot_is_sent(verdict: str) -> None:
    """A1, C3: the second and third digit are the server's affair."""
    with Server({"dot": verdict}) as server:
        assert deliver(offer(smart_host(server))).reply == verdict.replace("\n299", "").replace("-", " ")


@pytest.mark.row("S6")
def test_trouble_after_the_verdict_changes_nothing() -> None:
    """A5: neither a reset nor a failure to close."""
    with Server({"dot": Then("250 taken", Reset())}) as server:
        assert deliver(offer(smart_host(server))).reply == "250 taken"


# -- interruptions


class Interrupt(Action):
    """Ctrl-C for the client, then silence."""

    def perform(self, channel: Channel) -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


# The first one may come while the new socket is nobody's yet; the program itself ends there and then (muawrap.signals).
EARLY = pytest.param("greeting", marks=pytest.mark.filterwarnings("ignore:Exception ignored in. <socket"))


@pytest.mark.row("L3")
@pytest.mark.parametrize("stage", [EARLY, "EHLO", "AUTH", "RCPT", "DATA"])
def test_an_interruption_before_the_dot_ends_it_at_once(stage: str) -> None:
    """C3: nothing was sent, and no socket stays open."""
    with Server({stage: Then(Interrupt(), Drop())}, users={"alice": "s3cret"}) as server:
        with pytest.raises(KeyboardInterrupt):
            deliver(offer(smart_host(server, auth=login(allow_plaintext=True))))
        server.finished()
        assert server.accepted == []


@pytest.mark.row("L3")
def test_an_interruption_after_the_dot_is_uncertain() -> None:
    """C3: Ctrl-C does not make it "not sent"."""
    with Server({"dot": Then(Interrupt(), Drop())}) as server:
        failure = failure_of(offer(smart_host(server)))
        assert (failure.lead, failure.stage, failure.what) == (UNCERTAIN, Stage.VERDICT, "interrupted")


@pytest.mark.row("L2")
@pytest.mark.parametrize(("error", "lead"), [(MemoryError(), UNCERTAIN), (RuntimeError("bug"), UNCERTAIN)])
def test_a_bug_after_the_dot_is_uncertain(error: Exception, lead: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """C3: whatever goes wrong with us, the message is out."""
    real = Connection.reply

    def fails(connection: Connection, seconds: float | None = None) -> Any:
        if connection.committed:
            raise error
        return real(connection, seconds)

    monkeypatch.setattr(Connection, "reply", fails)
    with Server() as server:
        assert failure_of(offer(smart_host(server))).lead == lead


# -- one transaction


def test_one_mail_all_recipients_one_text() -> None:
    """B1: hundreds are not split."""
    to = tuple(f"user{number}@example.net" for number in range(300))
    with Server() as server:
        deliver(offer(smart_host(server), to=to))
        [session] = server.finished()
        [message] = session.accepted
        assert message.recipients == [one.encode() for one in to]
        assert message.sender == b"me@client.example"


@pytest.mark.row("S8")
def test_all_refused_recipients_are_named_and_nothing_is_sent() -> None:
    """B2, A7: one refused, all fail; a refusal for good outweighs one for now."""
    script = {"RCPT 2": "450 busy", "RCPT 4": "550 unknown"}
    to = ("one@example.net", "two@example.net", "three@example.net", "four@example.net", "five@example.net")
    with Server(script) as server:
        failure = failure_of(offer(smart_host(server), to=to, tempfail="next-host"))
        assert (failure.lead, failure.stage) == (REFUSED, Stage.RCPT)
        named = [(reason.recipient, str(reason.reply)) for reason in failure.reasons]
        assert named == [("<two@example.net>", "450 busy"), ("<four@example.net>", "550 unknown")]
        assert failure.sentence().count(f"127.0.0.1:{server.port}") == 2
        [session] = server.finished()
        assert session.commands[-2:] == [b"RCPT TO:<five@example.net>", b"QUIT"]


@pytest.mark.parametrize("then", [Drop(), "garbage", "354 go"])
def test_a_loss_after_a_refused_recipient_changes_no_verdict(then: Any) -> None:
    """B2: the message had been refused already."""
    with Server({"RCPT 1": "550 unknown", "RCPT 2": then}) as first, Server() as second:
        to = ("one@example.net", "two@example.net")
        failure = failure_of(offer(smart_host(first), smart_host(second), to=to))
        assert failure.lead == REFUSED
        assert failure.recipient == "<one@example.net>"
        assert second.finished() == []


def test_a_421_to_a_recipient_ends_the_naming() -> None:
    """B2: the server is leaving."""
    with Server({"RCPT 1": "421 bye"}, extensions=["8BITMIME"]) as server:
        failure_of(offer(smart_host(server), to=("one@example.net", "two@example.net")))
        commands = server.finished()[0].commands
        assert [command for command in commands if command.startswith(b"RCPT")] == [b"RCPT TO:<one@example.net>"]


# -- what a host offers


@pytest.mark.row("S11")
def test_parameters_are_given_where_they_are_offered() -> None:
    """F6: SIZE, BODY, SMTPUTF8, RET, ENVID, NOTIFY and ORCPT; each only to a host that knows it."""
    everything = ("SIZE", "8BITMIME", "SMTPUTF8", "DSN")
    fields: dict[str, Any] = {"notify": "FAILURE", "returns": "HDRS", "envelope_id": "x+3D", "text": b"caf\xc3\xa9\n"}
    with Server(extensions=everything) as knowing, Server(extensions=()) as plain:
        deliver(offer(smart_host(knowing), to=("jos\xe9@example.net",), utf8=True, **fields))
        [message] = knowing.accepted
        size = len(message.text)
        assert message.mail_parameters == f"SIZE={size} BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x+3D".encode()
        assert message.recipients == ["jos\xe9@example.net".encode()]
        assert message.rcpt_parameters == [b"NOTIFY=FAILURE"]

        known = recipient("a@example.net")._replace(original="rfc822;root@client.example")
        deliver(offer(smart_host(knowing), to=(known, known._replace(notify="NEVER")), **fields))
        original = b" ORCPT=rfc822;root@client.example"
        assert knowing.accepted[-1].rcpt_parameters == [b"NOTIFY=FAILURE" + original, b"NOTIFY=NEVER" + original]
        assert knowing.accepted[-1].mail_parameters.endswith(b" BODY=8BITMIME RET=HDRS ENVID=x+3D")

        deliver(offer(smart_host(plain), **fields))
        [message] = plain.accepted
        assert (message.mail_parameters, message.rcpt_parameters) == (b"", [b""])


@pytest.mark.row("S11")
def test_a_message_that_is_too_large_goes_to_the_next_host() -> None:
    """C1: before MAIL; the exact size still fits."""
    with Server(extensions=("SIZE 1000",)) as small, Server(extensions=("SIZE 2000",)) as large:
        hosts = smart_host(small), smart_host(large)
        receipt = deliver(offer(*hosts, text=b"x" * 1000 + b"\n"))
        assert "1000 are the limit" in receipt.degraded[0]
        assert not any(command.startswith(b"MAIL") for command in small.finished()[0].commands)
        spare = 1000 - deliver(offer(smart_host(small), text=b"\n")).size
        assert deliver(offer(smart_host(small), text=b"x" * spare + b"\n")).size == 1000
        assert failure_of(offer(smart_host(small), text=b"x" * spare + b"x\n")).lead == REFUSED


def test_addresses_beyond_ascii_need_smtputf8() -> None:
    """C1, F7: or the next host."""
    with Server() as plain, Server(extensions=("SMTPUTF8",)) as knowing:
        to = ("jos\xe9@example.net",)
        assert "SMTPUTF8" in failure_of(offer(smart_host(plain), to=to, utf8=True)).what
        assert len(deliver(offer(smart_host(plain), smart_host(knowing), to=to, utf8=True)).degraded) == 1
        assert not any(command.startswith(b"MAIL") for command in plain.finished()[0].commands)


# -- several hosts


@pytest.mark.row("S7")
def test_all_hosts_are_tried_in_order_and_each_reason_is_told(closed_port: int) -> None:
    """C4, C7: no limit on their number; one that may pass makes it "try again"."""
    servers = [Server({"greeting": f"554 host {number} says no"}) for number in range(9)]
    for server in servers:
        server.__enter__()
    try:
        hosts = [smart_host(server) for server in servers]
        failure = failure_of(offer(*hosts))
        assert failure.lead == REFUSED
        sentence = failure.sentence()
        places = [sentence.index(f"host {number} says no") for number in range(9)]
        assert places == sorted(places)
        assert failure_of(offer(*hosts, smart_host(closed_port))).lead == TRY_AGAIN
    finally:
        for server in servers:
            server.close()


def test_a_password_that_cannot_be_had_is_that_hosts_failure(tmp_path: Path) -> None:
    """C1: the next host may need none, and the first is not even called."""
    with Server() as first, Server() as second:
        lost = login()._replace(password=(Secret("file", str(tmp_path / "none")),))
        receipt = deliver(offer(smart_host(first, auth=lost), smart_host(second)))
        assert receipt.degraded[0].startswith(f"127.0.0.1:{first.port}: no password for alice")
        assert first.finished() == []


def test_a_wrong_certificate_moves_on(authority: Authority, tmp_path: Path) -> None:
    """C1: TLS not verified where required."""
    with Server(context=authority.server_context("other.example")) as first, Server() as second:
        ca_file = authority.ca_file(tmp_path / "ca.pem")
        hosts = smart_host(first, "submission", ca_file=ca_file), smart_host(second)
        assert "not good" in deliver(offer(*hosts)).degraded[0]


# -- dial_delay


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were slept, without sleeping."""
    found: list[float] = []
    monkeypatch.setattr(time, "sleep", found.append)
    return found


def test_a_line_that_comes_up_is_waited_for_once(slept: list[float], closed_port: int) -> None:
    """C6: sleep once, then the whole list once more."""
    failure = failure_of(offer(smart_host(closed_port), smart_host(closed_port), dial_delay=7))
    assert slept == [7]
    assert len(failure.reasons) == 2


def test_after_the_delay_the_message_is_sent(slept: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """C6: a temporary name failure included."""
    real = smarthosts.addresses

    def addresses(host: Any) -> list[Address]:
        if not slept:
            raise Failure("temporary failure in name resolution", lead=TRY_AGAIN, stage=Stage.CONNECT, host=str(host))
        return real(host)

    monkeypatch.setattr(smarthosts, "addresses", addresses)
    with Server() as server:
        assert deliver(offer(smart_host(server), dial_delay=7)).host
    assert slept == [7]


@pytest.mark.parametrize("stage", ["greeting", "EHLO", "MAIL"])
def test_after_a_connection_nothing_is_waited_for(stage: str, slept: list[float], closed_port: int) -> None:
    """C6: the line was up."""
    with Server({stage: Drop()}) as server:
        failure_of(offer(smart_host(server), smart_host(closed_port), dial_delay=7))
        failure_of(offer(smart_host(closed_port), smart_host(server), dial_delay=7))
        assert len(server.finished()) == 2
    assert slept == []


@pytest.mark.parametrize("number", [0, 1])
def test_a_host_at_hand_has_no_second_attempt(number: int, monkeypatch: pytest.MonkeyPatch, closed_port: int) -> None:
    """C6, INTERMITTENT 4: no line is raised for it; its reason is told all the same (C7)."""
    with socket.socket() as at_hand:
        at_hand.bind(("127.0.0.1", 0))
        port = at_hand.getsockname()[1]
        monkeypatch.setattr(time, "sleep", lambda seconds: at_hand.listen())  # a second attempt would be seen
        hosts = [smart_host(closed_port)]
        hosts.insert(number, smart_host(port, dials=False))
        failure = failure_of(offer(*hosts, dial_delay=7))
        assert sorted(reason.host for reason in failure.reasons) == sorted(map(str, hosts))
        at_hand.setblocking(False)
        with pytest.raises(BlockingIOError):
            at_hand.accept()


def test_the_message_goes_over_the_line_that_came_up(monkeypatch: pytest.MonkeyPatch, closed_port: int) -> None:
    """C6: and the log has the reason of the host at hand."""
    with Server() as server:
        line = smart_host(server, address="127.0.0.2")  # where nobody listens
        monkeypatch.setattr(time, "sleep", lambda seconds: monkeypatch.setattr(smarthosts, "addresses", up))
        real = smarthosts.addresses

        def up(host: SmartHost) -> list[Address]:
            return real(host._replace(host="127.0.0.1") if host == line else host)

        receipt = deliver(offer(smart_host(closed_port, dials=False), line, dial_delay=7))
        [reason] = receipt.degraded
        assert reason.startswith(f"127.0.0.1:{closed_port}: connection refused")


def test_where_no_host_is_dialled_nothing_is_waited_for(slept: list[float], closed_port: int) -> None:
    """C6, INTERMITTENT 4: hosts of our own network are there or not."""
    failure_of(offer(smart_host(closed_port, dials=False), dial_delay=7))
    assert slept == []


def test_without_dial_delay_nothing_is_waited_for(slept: list[float], closed_port: int) -> None:
    """C6: it is off unless set."""
    failure_of(offer(smart_host(closed_port)))
    assert slept == []


# -- what is told

HIDDEN = Recipient("Secret.Box@hidden.example", ("alice",), "alice (by alice's .forward)")


@pytest.mark.parametrize(
    "script",
    [
        {"RCPT": "550 5.1.1 <secret.box@HIDDEN.example>: no Secret.Box at hidden.example"},
        {"RCPT": "550 5.1.1 no secret.box here"},
        {"RCPT": "what about secret.box@hidden.example?"},
        {"DATA": "451 4.7.1 secret.box@hidden.example is greylisted"},
        {"dot": "550 5.1.1 secret.box@hidden.example: over quota"},
        {"dot": "250 2.0.0 taken for <Secret.Box@hidden.example>"},
    ],
)
def test_what_stands_in_somebody_elses_forward_is_never_told(script: dict[str, str]) -> None:
    """D5: neither in the sentence, nor in the receipt, nor in what -v shows."""
    told: list[str] = []
    with Server(script) as server:
        transaction = offer(smart_host(server), to=("you@example.net", HIDDEN), notify="NEVER")
        try:
            told.append(deliver(transaction, lambda mark, line: told.append(line)).reply)
        except Failure as failure:
            told.append(failure.sentence())
            for reason in (failure, *failure.reasons):
                told.append(f"{reason.recipient} {reason.reply} {reason.what}")
    whole = "\n".join(told).lower()
    assert "***" in whole
    assert "secret" not in whole
    assert "hidden.example" not in whole
    assert "rcpt to:<you@example.net>" in whole


def test_a_hidden_recipient_is_named_by_how_it_was_reached() -> None:
    """D5: "(by alice's .forward)"; and the server hears the address."""
    told: list[str] = []
    with Server({f"RCPT {HIDDEN.address}": "550 5.1.1 <secret.box@hidden.example> unknown"}) as server:
        failure = failure_of(offer(smart_host(server), to=(HIDDEN,)), lambda mark, line: told.append(line))
        assert (failure.recipient, str(failure.reply)) == ("alice (by alice's .forward)", "550 5.1.1 <***> unknown")
        assert "RCPT TO:alice (by alice's .forward)" in told
        assert b"RCPT TO:<Secret.Box@hidden.example>" in server.finished()[0].commands


def test_what_the_caller_knows_is_told() -> None:
    """D5: a part that another recipient has too is no secret."""
    neighbour = recipient("you@hidden.example")
    with Server({"RCPT 1": "550 you@hidden.example unknown"}) as server:
        failure = failure_of(offer(smart_host(server), to=(neighbour, HIDDEN)))
        assert "550 you@hidden.example unknown" in failure.sentence()


def test_the_trace_tells_the_dialogue() -> None:
    """A3: what -v shows, without the text."""
    told: list[str] = []
    with Server(extensions=()) as server:
        deliver(offer(smart_host(server)), lambda mark, line: told.append(f"{mark} {line}"))
    assert told == [
        f"--- connecting to 127.0.0.1:{server.port}",
        f"--- connected to 127.0.0.1:{server.port}",
        "<<< 220 server.example ESMTP",
        ">>> EHLO client.example",
        "<<< 250 server.example",
        ">>> MAIL FROM:<me@client.example>",
        "<<< 250 2.1.0 go on",
        ">>> RCPT TO:<you@example.net>",
        "<<< 250 2.1.5 go on",
        ">>> DATA",
        "<<< 354 go ahead",
        ">>> [72 octets of text]",
        "<<< 250 2.0.0 taken",
        ">>> QUIT",
    ]


def test_a_wrong_answer_is_quoted_with_the_stage() -> None:
    """A3: one sentence that names stage, host and reply."""
    with Server({"MAIL": "354 go ahead"}) as server:
        assert failure_of(offer(smart_host(server))).sentence() == (
            f'127.0.0.1:{server.port}: sent "354 go ahead", which is no answer, while naming the sender'
        )


def test_a_body_that_cannot_be_read_is_not_sent() -> None:
    """A1, A3: the dot stays here, and no other host is asked for what this machine has lost."""

    class Broken(Body):
        def blocks(self, begin: int = 0, end: int | None = None) -> Any:
            yield b"begun\n"
            raise OSError(5, "Input/output error")

    with Server() as server, Server() as other:
        failure = failure_of(offer(smart_host(server), smart_host(other), body=Broken(b"begun\nand lost\n")))
        assert failure.lead == TRY_AGAIN
        assert "cannot be read again: Input/output error" in failure.sentence()
        server.finished()
        assert not server.messages[0].complete
        assert other.sessions == []


@pytest.mark.row("L6")
def test_many_senders_at_once_share_nothing() -> None:
    """A1: no state outlives its message."""
    outcomes: list[str] = []
    with Server() as server:

        def send() -> None:
            outcomes.append(deliver(offer(smart_host(server))).reply)

        threads = [threading.Thread(target=send) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert outcomes == ["250 2.0.0 taken"] * 20
        assert len(server.finished()) == 20
        assert socket.getdefaulttimeout() is None
