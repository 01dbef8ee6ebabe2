"""A connection kept over several messages: what rides with what, when it is made anew, and what ends it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from muawrap.failure import REFUSED, TRY_AGAIN, UNCERTAIN, Failure
from muawrap.mail import SmartHost, Tls, Transaction
from muawrap.submission import lookup
from muawrap.submission.line import Line
from tests.submission.offering import PATIENT, login, offer, smart_host
from tests.submission.test_dialogue import BOTH, CHUNKING, PIPELINING, verbs
from tests.support.canary import CANARY
from tests.support.certificates import Authority
from tests.support.nameserver import NameServer
from tests.support.server import Drop, Reset, Server, Silence, Then, Wait, read_script
from tests.torture.test_signals import Tell

MANY = ("one@example.net", "two@example.net")


@contextmanager
def line() -> Iterator[Line]:
    made = Line()
    try:
        yield made
    finally:
        made.close()


def send(line: Line, transactions: list[Transaction]) -> None:
    """All of them, each knowing the next one."""
    for number, transaction in enumerate(transactions):
        line.deliver(transaction, transactions[number + 1] if number + 1 < len(transactions) else None)


def numbered(server: Server, count: int, **fields: object) -> list[Transaction]:
    return [offer(smart_host(server), text=b"%d\n" % number, **fields) for number in range(count)]  # type: ignore[arg-type]


def texts(server: Server) -> list[bytes]:
    return [message.text.partition(b"\r\n\r\n")[2] for message in server.accepted]


def test_each_message_costs_one_flight_on_a_connection_that_is_kept() -> None:
    """PERFORMANCE P6: the next MAIL and RCPTs ride with the text; the first message has no text to ride with."""
    with Server(extensions=BOTH) as server, line() as kept:
        send(kept, numbered(server, 4, to=MANY))
        kept.close()
        (session,) = server.finished()
        assert texts(server) == [b"0\r\n", b"1\r\n", b"2\r\n", b"3\r\n"]
    envelope = ["MAIL", "RCPT", "RCPT"]
    assert verbs(session) == [["EHLO"], envelope, *[["BDAT", *envelope]] * 3, ["BDAT"], ["QUIT"]]


@pytest.mark.parametrize("extensions", [PIPELINING, CHUNKING, []])
def test_without_pipelining_and_chunking_nothing_rides_along(extensions: list[str]) -> None:
    """B5: RFC 2920 and RFC 3030 are both needed for it; the connection is kept all the same."""
    with Server(extensions=extensions) as server, line() as kept:
        send(kept, numbered(server, 3))
        kept.close()
        (session,) = server.finished()
        assert texts(server) == [b"0\r\n", b"1\r\n", b"2\r\n"]
    assert not any({"BDAT", "MAIL"} <= set(flight) for flight in verbs(session))


def test_tls_and_auth_happen_once(authority: Authority, tmp_path: Path) -> None:
    """PERFORMANCE P6."""
    context = authority.server_context("127.0.0.1")
    with Server(extensions=BOTH, context=context, users={"alice": CANARY}) as server, line() as kept:
        host = smart_host(server, "submission", auth=login(), ca_file=str(authority.ca_file(tmp_path / "ca.pem")))
        send(kept, [offer(host) for _ in range(5)])
        kept.close()
        (session,) = server.finished()
        assert len(server.accepted) == 5
    assert sum(command.startswith(b"AUTH") for command in session.commands) == 1


def test_another_host_is_another_connection() -> None:
    """E8: one connection while host list and account stay the same."""
    with Server(extensions=BOTH) as one, Server(extensions=BOTH) as other, line() as kept:
        send(kept, [*numbered(one, 2), *numbered(other, 2), *numbered(one, 1)])
        kept.close()
        assert [len(session.accepted) for session in one.finished()] == [2, 1]
        assert [len(session.accepted) for session in other.finished()] == [2]


@pytest.mark.parametrize("asked", [False, True], ids=["MAIL alone", "MAIL with the text before"])
@pytest.mark.parametrize("gone", [Drop(), Reset(), "421 4.4.2 too long"], ids=["FIN", "RST", "421"])
def test_a_host_that_is_gone_before_the_next_mail_is_connected_anew(gone: object, asked: bool) -> None:
    """C8: it has said nothing about this message."""
    with Server([{"MAIL 2": gone}, {}], extensions=BOTH) as server, line() as kept:  # type: ignore[dict-item]
        first, second = numbered(server, 2)
        kept.deliver(first, second if asked else None)
        kept.deliver(second)
        kept.close()
        assert [len(session.accepted) for session in server.finished()] == [1, 1]
        assert texts(server) == [b"0\r\n", b"1\r\n"]


def test_it_is_connected_anew_once() -> None:
    """C8: a host that goes away again and again is in trouble."""
    with Server([{"MAIL 2": "421 bye"}, {"MAIL": "421 bye"}], extensions=BOTH) as server, line() as kept:
        first, second = numbered(server, 2)
        kept.deliver(first)
        with pytest.raises(Failure) as caught:
            kept.deliver(second)
        assert caught.value.lead == TRY_AGAIN
        assert len(server.finished()) == 2


def test_anew_means_from_the_top_of_the_list() -> None:
    """C8, C4."""
    one = Server([{"greeting": "554 no"}, {}], extensions=BOTH)
    other = Server([{"MAIL 2": Drop()}, {}], extensions=BOTH)
    with one, other, line() as kept:
        for _ in range(2):
            receipt = kept.deliver(offer(smart_host(one), smart_host(other)))
        assert receipt.host == f"127.0.0.1:{one.port}"
        assert [len(one.accepted), len(other.accepted)] == [1, 1]


@pytest.mark.parametrize(
    ("stage", "reply", "lead"),
    [
        ("MAIL 2", "550 no", REFUSED),
        ("MAIL 2", "451 later", TRY_AGAIN),
        ("RCPT two@example.net", "550 no", REFUSED),
        ("dot 2", "554 no", REFUSED),
        ("dot 2", Drop(), UNCERTAIN),
        ("dot 2", "what?", UNCERTAIN),
    ],
)
def test_a_verdict_on_a_message_is_one_on_a_kept_connection_too(stage: str, reply: object, lead: str) -> None:
    """C2, C3: and the message after it is not begun."""
    with Server({stage: reply}, extensions=BOTH) as server, line() as kept:  # type: ignore[dict-item]
        first, second, third = numbered(server, 3)
        second = second._replace(recipients=offer(smart_host(server), to=MANY).recipients)
        kept.deliver(first, second)
        with pytest.raises(Failure) as caught:
            kept.deliver(second, third)
        assert caught.value.lead == lead
        (session,) = server.finished()
        assert texts(server) == [b"0\r\n"]
        assert b"2" not in [message.text.partition(b"\r\n\r\n")[2].strip() for message in session.messages]


def test_the_rcpts_of_the_next_message_are_no_part_of_this_verdict() -> None:
    """B2, C3: a recipient of the next message that is refused leaves this one sent."""
    with Server({"RCPT bad@example.net": "550 no"}, extensions=BOTH) as server, line() as kept:
        first, second = numbered(server, 1)[0], offer(smart_host(server), to=("bad@example.net",))
        assert kept.deliver(first, second).reply.startswith("250")
        with pytest.raises(Failure) as caught:
            kept.deliver(second)
        assert caught.value.recipient == "<bad@example.net>"
        assert texts(server) == [b"0\r\n"]


def test_what_does_not_fit_does_not_ride_along() -> None:
    """C1: the message before it is sent, and its own failure is told in its turn."""
    with Server(extensions=["PIPELINING", "CHUNKING", "SIZE 500"]) as server, line() as kept:
        small, large = offer(smart_host(server)), offer(smart_host(server), text=b"x" * 600 + b"\n")
        kept.deliver(small, large)
        with pytest.raises(Failure) as caught:
            kept.deliver(large)
        assert "500 are the limit" in str(caught.value)
        assert len(server.accepted) == 1


def test_a_text_that_has_to_be_encoded_first_does_not_ride_along() -> None:
    """F6, P6: SIZE in MAIL is of what the host gets, which takes seven bits only."""
    with Server(extensions=["PIPELINING", "CHUNKING", "SIZE 10000"]) as server, line() as kept:
        eight_bit = [offer(smart_host(server), text="gr\xfc\xdfe\n".encode()) for _ in range(2)]
        plain = [offer(smart_host(server), text=b"plain\n") for _ in range(2)]
        send(kept, [*plain, *eight_bit, plain[0]])
        kept.close()
        (session,) = server.finished()
        assert texts(server) == [b"plain\r\n"] * 2 + [b"gr=C3=BC=C3=9Fe\r\n"] * 2 + [b"plain\r\n"]
        for message in server.accepted:
            assert message.mail_parameters == b"SIZE=%d" % len(message.text)
    envelope, riding = ["MAIL", "RCPT"], ["BDAT", "MAIL", "RCPT"]
    assert verbs(session)[2:] == [riding, ["BDAT"], envelope, ["BDAT"], envelope, riding, ["BDAT"], ["QUIT"]]


# -- a server that says more than it was asked (RELIABILITY S10)


@pytest.mark.row("S10")
def test_a_reply_too_many_behind_the_next_envelope_makes_the_verdict_doubtful() -> None:
    """C3: who says too much may mean something else by each of them."""
    with Server({"dot": b"250 ok\r\n" * 4, "MAIL 2": Silence()}, extensions=BOTH) as server, line() as kept:
        first, second = numbered(server, 2)
        with pytest.raises(Failure) as caught:
            kept.deliver(first, second)
        assert caught.value.lead == UNCERTAIN
        assert "which nobody asked for" in str(caught.value)
        assert len(server.messages) == 1


@pytest.mark.row("S10")
@pytest.mark.parametrize("true", ["554 no", "451 later"])
def test_a_verdict_that_was_none_is_found_out_where_the_true_one_refuses_the_next_sender(true: str) -> None:
    """C3: every reply stands for the command before; the goodbye that is asked for then comes one too late."""
    with Server({"dot": f"250 ok\n{true}"}, extensions=BOTH) as server, line() as kept:
        first, second = numbered(server, 2)
        with pytest.raises(Failure) as caught:
            kept.deliver(first, second)
        assert caught.value.lead == UNCERTAIN
        (session,) = server.finished()
    assert session.commands[-1] == b"QUIT"
    assert session.commands.count(b"QUIT") == 1


@pytest.mark.parametrize(
    "script",
    [
        {"MAIL 2": "550 no"},
        {"MAIL 2": "550 no", "QUIT": Drop()},
        {"MAIL 2": "421 bye"},
        {"RCPT 2": "451 later"},
        {"RCPT 2": "451 later", "QUIT": "421 bye"},
        {"MAIL 2": Drop()},
        {"MAIL 2": Reset()},
        {"RCPT 2": "what?"},
    ],
)
def test_whatever_else_becomes_of_the_next_envelope_a_message_accepted_is_sent(script: dict[str, object]) -> None:
    """A5: a refusal, a loss or nonsense behind the verdict, as long as it is not one reply too many."""
    with Server(script, extensions=BOTH) as server, line() as kept:  # type: ignore[arg-type]
        first = offer(smart_host(server))
        assert kept.deliver(first, offer(smart_host(server), to=MANY)).reply.startswith("250")
        assert len(server.accepted) == 1


def test_what_was_asked_for_another_message_is_not_taken_for_this_one() -> None:
    """C8: the envelope that rode along is given up with its connection."""
    with Server(extensions=BOTH) as server, line() as kept:
        first, second, third = numbered(server, 3)
        kept.deliver(first, second)
        kept.deliver(third)
        kept.close()
        assert texts(server) == [b"0\r\n", b"2\r\n"]
        assert len(server.finished()) == 2


# -- trouble with a host that had been good (RULES C)


@pytest.mark.parametrize("asked", [False, True], ids=["MAIL alone", "MAIL with the text before"])
@pytest.mark.parametrize("trouble", [Drop(), Reset(), "what?", "354 what"])
def test_trouble_after_mail_moves_on_to_the_next_host(trouble: object, asked: bool) -> None:
    """C3, C4: on a kept connection as on any other, and each host once."""
    one = Server({"RCPT two@example.net": trouble}, extensions=BOTH)  # type: ignore[dict-item]
    other = Server(extensions=BOTH)
    with one, other, line() as kept:
        first, second = (offer(smart_host(one), smart_host(other), to=(to,)) for to in MANY)
        kept.deliver(first, second if asked else None)
        receipt = kept.deliver(second)
        assert [len(server.accepted) for server in (one, other)] == [1, 1]
        assert len(one.sessions) == 1
        assert f"127.0.0.1:{one.port}" in receipt.degraded[0]


@pytest.mark.parametrize("tempfail", ["next-host", "final"])
def test_what_one_host_refuses_for_now_another_may_take(tempfail: str) -> None:
    """C2: with tempfail = "next-host"; else it is final."""
    one, other = Server({"RCPT two@example.net": "450 later"}, extensions=BOTH), Server(extensions=BOTH)
    with one, other, line() as kept:
        first, second = (offer(smart_host(one), smart_host(other), to=(to,)) for to in MANY)
        kept.deliver(first)
        if tempfail == "next-host":
            kept.deliver(second._replace(tempfail=tempfail))
        else:
            with pytest.raises(Failure, match="450 later"):
                kept.deliver(second)
        assert [len(server.accepted) for server in (one, other)] == [1, int(tempfail == "next-host")]


def test_the_last_hosts_trouble_is_told_as_it_is() -> None:
    """C7: no other host is left."""
    with Server({"RCPT two@example.net": Drop()}, extensions=BOTH) as server, line() as kept:
        first, second = (offer(smart_host(server), to=(to,)) for to in MANY)
        kept.deliver(first)
        with pytest.raises(Failure) as caught:
            kept.deliver(second)
        assert str(caught.value).startswith(f"127.0.0.1:{server.port}: lost the connection")
        assert caught.value.lead == TRY_AGAIN
        assert len(server.sessions) == 1


@pytest.mark.parametrize("words", ["451 4.4.2 idle", "554 5.4.2 idle", "250 what"])
def test_what_a_host_says_unasked_between_messages_is_no_verdict(words: str) -> None:
    """C8: it is left, and connected anew."""
    taken, said = threading.Event(), threading.Event()
    script = {"dot": Then("250 taken", Wait(taken), words, Tell(said))}
    with Server([script, {}], extensions=PIPELINING) as server, line() as kept:
        first, second = numbered(server, 2)
        kept.deliver(first)
        taken.set()
        assert said.wait(10)
        kept.deliver(second)
        assert [message.text[-3:] for message in server.messages] == [b"0\r\n", b"1\r\n"]
        assert len(server.sessions) == 2


# -- going on over refusals ------------------------------------------------------------------------------------------


def outcomes(kept: Line, transactions: list[Transaction]) -> list[str]:
    """What becomes of each, every one knowing the next: its lead, or "sent" and how many do not get it."""
    found = []
    for number, transaction in enumerate(transactions):
        try:
            receipt = kept.deliver(transaction, transactions[number + 1] if number + 1 < len(transactions) else None)
            found.append(f"sent {len(receipt.refused)}")
        except Failure as failure:
            found.append(failure.lead)
    return found


@pytest.mark.parametrize("extensions", [BOTH, PIPELINING, CHUNKING, []], ids=["both", "pipelining", "chunking", "none"])
@pytest.mark.parametrize(
    ("stage", "reply", "lead"),
    [
        ("MAIL 2", "450 4.1.8 not now", TRY_AGAIN),
        ("MAIL 2", "550 5.1.8 never", REFUSED),
        ("RCPT 2", "451 4.2.0 not now", TRY_AGAIN),
        ("dot 2", "452 4.3.1 no room", TRY_AGAIN),
        ("dot 2", "554 5.6.0 never", REFUSED),
    ],
)
def test_a_refused_message_is_no_reason_to_leave(extensions: list[str], stage: str, reply: str, lead: str) -> None:
    """INTERMITTENT 6.4: after a refusal of one message RSET, and the next goes over the same connection."""
    script = {stage: reply, "RCPT": "250 2.1.5 ok"}
    if stage.startswith("RCPT"):
        script = {"RCPT two@example.net": reply}
    with Server(script, extensions=extensions) as server:
        kept = Line(goes_on=True)
        first, _, third = numbered(server, 3)
        second = offer(smart_host(server), to=("two@example.net",), text=b"1\n")
        assert outcomes(kept, [first, second, third]) == ["sent 0", lead, "sent 0"]
        kept.close()
        (session,) = server.finished()
        assert texts(server) == [b"0\r\n", b"2\r\n"]
    assert session.commands.count(b"RSET") == 1
    assert session.commands[-1] == b"QUIT"


def test_after_the_last_message_there_is_no_reset() -> None:
    """INTERMITTENT 6.4: RSET is for a message that follows."""
    with Server({"dot": "554 5.6.0 never"}, extensions=BOTH) as server:
        kept = Line(goes_on=True)
        assert outcomes(kept, numbered(server, 1)) == [REFUSED]
        kept.close()
        (session,) = server.finished()
    assert b"RSET" not in session.commands


@pytest.mark.parametrize("trouble", ["421 4.3.2 leaving", Drop()], ids=["421", "FIN"])
def test_a_host_that_leaves_is_connected_anew_for_the_next_message(trouble: object) -> None:
    """INTERMITTENT 6.4: that was no refusal of a message."""
    with Server([{"dot": trouble}, {}], extensions=BOTH) as server:  # type: ignore[dict-item]
        kept = Line(goes_on=True)
        found = outcomes(kept, numbered(server, 2))
        kept.close()
        assert len(server.finished()) == 2
    assert found == [TRY_AGAIN if isinstance(trouble, str) else UNCERTAIN, "sent 0"]


def test_a_reset_that_is_refused_costs_a_connection_and_no_message() -> None:
    """INTERMITTENT 6.4: RFC 5321 knows no refusal of RSET; a host in such a state is left."""
    with Server([{"dot": "554 5.6.0 never", "RSET": "500 what"}, {}], extensions=BOTH) as server:
        kept = Line(goes_on=True)
        assert outcomes(kept, numbered(server, 2)) == [REFUSED, "sent 0"]
        kept.close()
        assert [len(session.accepted) for session in server.finished()] == [0, 1]


def test_a_message_that_is_too_large_costs_not_even_a_reset() -> None:
    """INTERMITTENT 6.4, RFC 1870: SIZE says so before MAIL."""
    with Server(extensions=["PIPELINING", "CHUNKING", "SIZE 1000"]) as server:
        kept = Line(goes_on=True)
        large = offer(smart_host(server), text=b"x\n" * 2000)
        first, last = numbered(server, 2)
        assert outcomes(kept, [first, large, last]) == ["sent 0", REFUSED, "sent 0"]
        kept.close()
        (session,) = server.finished()
    assert len(session.accepted) == 2


# -- partial transactions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extensions", [BOTH, PIPELINING, CHUNKING, []], ids=["both", "pipelining", "chunking", "none"])
def test_those_who_are_accepted_get_a_partial_transaction(extensions: list[str]) -> None:
    """INTERMITTENT 6.4: an outcome for each recipient; who will get it is told before the end of the text leaves."""
    told: list[tuple[str, ...]] = []
    script = {"RCPT b@example.net": "550 5.1.1 who", "RCPT c@example.net": "451 4.2.0 not now"}
    with Server(script, extensions=extensions) as server:
        kept = Line(goes_on=True)
        message = offer(
            smart_host(server),
            to=("a@example.net", "b@example.net", "c@example.net", "d@example.net"),
            partial=True,
            before_end=lambda accepted: told.append(tuple(one.address for one in accepted)),
        )
        following = offer(smart_host(server), to=("b@example.net",), partial=True)
        receipt = kept.deliver(message, following)
        with pytest.raises(Failure) as caught:
            kept.deliver(following)
        kept.close()
        (session,) = server.finished()
    assert [(one.recipient, one.lead) for one in receipt.refused if isinstance(one, Failure)] == [
        ("<b@example.net>", REFUSED),
        ("<c@example.net>", TRY_AGAIN),
    ]
    assert told == [("a@example.net", "d@example.net")]
    (message_received,) = session.accepted
    assert message_received.recipients == [b"a@example.net", b"d@example.net"]
    assert caught.value.recipient == "<b@example.net>"


def test_a_server_that_leaves_in_the_middle_of_the_recipients_gets_no_text() -> None:
    """INTERMITTENT 6.4: a 421 is the host's trouble, whoever was accepted before it."""
    with Server({"RCPT 2": "421 4.3.2 leaving"}, extensions=BOTH) as server:
        kept = Line(goes_on=True)
        with pytest.raises(Failure) as caught:
            kept.deliver(offer(smart_host(server), to=(*MANY, "three@example.net"), partial=True))
        kept.close()
        assert server.accepted == []
    assert caught.value.reply is not None
    assert caught.value.reply.code == 421


def test_nothing_is_sent_that_cannot_be_written_down_first() -> None:
    """INTERMITTENT 6.4, journal: what is told before the end of the text may object, and then no end leaves."""

    def full(accepted: tuple[object, ...]) -> None:
        raise Failure("no room", lead=TRY_AGAIN)

    with Server(extensions=BOTH) as server:
        kept = Line(goes_on=True)
        with pytest.raises(Failure, match="no room"):
            kept.deliver(offer(smart_host(server), before_end=full))
        kept.close()
        server.finished()
        assert [message.complete for session in server.sessions for message in session.messages] in ([], [False])


def test_a_message_for_some_is_offered_once_more_where_its_envelope_rode_ahead() -> None:
    """INTERMITTENT 6.4: what proves the verdict before (RULES C3) makes the host forget the envelope behind it."""
    with Server({"RCPT two@example.net": "550 5.1.1 who"}, extensions=BOTH) as server:
        kept = Line(goes_on=True)
        first, second, third = (offer(smart_host(server), to=to, partial=True) for to in (MANY[:1], MANY, MANY[:1]))
        assert outcomes(kept, [first, second, third]) == ["sent 0", "sent 1", "sent 0"]
        kept.close()
        (session,) = server.finished()
    assert [message.recipients for message in session.accepted] == [[b"one@example.net"]] * 3
    assert sum(command.startswith(b"EHLO") for command in session.commands) == 2


def test_a_surplus_reply_is_found_where_the_connection_goes_on() -> None:
    """RULES C3: a 2yz that was meant for something else is no verdict; EHLO's answer can be no other."""
    twice = Then("250 2.0.0 taken", "554 5.6.0 no, I was wrong")
    with Server([{"dot": twice, "MAIL 2": "450 4.1.8 later"}, {}], extensions=BOTH) as server:
        kept = Line(goes_on=True)
        assert outcomes(kept, numbered(server, 2)) == [UNCERTAIN, "sent 0"]
        kept.close()


# -- hosts that DNS has named

SERVICE = "_submission._tcp.client.example"


@contextmanager
def named(monkeypatch: pytest.MonkeyPatch, *ports: int) -> Iterator[tuple[NameServer, SmartHost]]:
    """An srv:// entry for these ports of this machine, in this order, and the name server that knows them."""
    records = [f"SRV {number} 0 {port} localhost." for number, port in enumerate(ports)]
    with NameServer({SERVICE: records}) as names:
        monkeypatch.setattr(lookup, "resolver", lambda _: names.resolver())
        yield names, SmartHost("srv://client.example", "srv", "client.example", 0, tls=Tls("none"), timeouts=PATIENT)


def test_dns_is_asked_once_for_all_messages_of_a_connection(monkeypatch: pytest.MonkeyPatch, closed_port: int) -> None:
    """C4, E8, PERFORMANCE P6: the next MAIL rides with the text, and a dead target costs the first message only."""
    with Server(extensions=BOTH) as server, named(monkeypatch, closed_port, server.port) as (names, entry):
        with line() as kept:
            hosts = (entry, smart_host(closed_port))
            receipts = []
            transactions = [offer(*hosts, text=b"%d\n" % number) for number in range(3)]
            for number, transaction in enumerate(transactions):
                receipts.append(kept.deliver(transaction, dict(enumerate(transactions)).get(number + 1)))
        (session,) = server.finished()
    assert texts(server) == [b"0\r\n", b"1\r\n", b"2\r\n"]
    assert verbs(session) == [
        ["EHLO"],
        ["MAIL", "RCPT"],
        ["BDAT", "MAIL", "RCPT"],
        ["BDAT", "MAIL", "RCPT"],
        ["BDAT"],
        ["QUIT"],
    ]
    assert names.asked[f"{SERVICE} SRV"] == 1
    assert [len(receipt.degraded) for receipt in receipts] == [1, 0, 0]
    assert {receipt.host for receipt in receipts} == {f"localhost:{server.port} (by srv://client.example)"}


def test_a_connection_that_is_gone_has_dns_asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """C8: from the top of the list, and that may be another one by now."""
    with Server({"MAIL 2": "421 bye"}, extensions=BOTH) as old, Server(extensions=BOTH) as new:
        with named(monkeypatch, old.port) as (names, entry), line() as kept:
            kept.deliver(offer(entry))
            names.zones.update(NameServer.read({SERVICE: [f"SRV 0 0 {new.port} localhost."]}))
            kept.deliver(offer(entry))
            kept.deliver(offer(entry))
        assert names.asked[f"{SERVICE} SRV"] == 2
        assert (len(old.accepted), len(new.accepted)) == (1, 2)


def test_the_next_endpoint_follows_one_that_fails_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    """C3, C4: and no endpoint is tried twice, by whichever entry it is found."""
    with Server(extensions=CHUNKING) as first, Server(extensions=CHUNKING) as second:
        with named(monkeypatch, first.port, second.port) as (names, entry), line() as kept:
            kept.deliver(offer(entry))
            first.scripts[0].update(read_script({"RCPT": Drop()}))
            receipt = kept.deliver(offer(entry))
            kept.deliver(offer(entry))
        assert names.asked[f"{SERVICE} SRV"] == 1
        assert [len(session.accepted) for session in first.finished()] == [1]
        assert [len(session.accepted) for session in second.finished()] == [2]
    assert receipt.host == f"localhost:{second.port} (by srv://client.example)"
    assert len(receipt.degraded) == 1
