"""Sent, not sent, or nobody knows: each said exactly when it is true, however the message leaves and over whatever."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from muawrap.failure import REFUSED, TRY_AGAIN, UNCERTAIN, Failure, Stage
from muawrap.mail import SmartHost, Timeouts
from muawrap.submission.connection import Connection
from muawrap.submission.deliver import deliver
from tests.submission.offering import PATIENT, failure_of, offer, smart_host
from tests.support.certificates import Authority
from tests.support.program import Program
from tests.support.server import Action, Channel, Drop, Reset, Server, Silence, Then, Wait

SENT = "sent"
SHORT = 0.25  # seconds; for the one stage at which a server is silent
LONG = 8 * 1024 * 1024  # octets; more than the kernel takes for a server that reads late

CHANNELS = ["smtp", "submission", "submissions"]


class Manner(NamedTuple):
    """One of the ways a message leaves, by what the server offers."""

    extensions: tuple[str, ...]
    recipients: tuple[str, ...] = ("you@example.net",)
    by_data: bool = False
    one_flight: bool = False  # envelope and text (RULES B6)


MANNERS = {
    "DATA": Manner((), by_data=True),
    "DATA after a flight": Manner(("PIPELINING",), by_data=True),
    "BDAT": Manner(("CHUNKING",)),
    "BDAT after a flight": Manner(("PIPELINING", "CHUNKING"), ("you@example.net", "me@example.net")),
    "one flight": Manner(("PIPELINING", "CHUNKING"), one_flight=True),
}


class Place:
    """Servers of one channel, and the smart hosts they are."""

    def __init__(self, scheme: str, authority: Authority, ca_file: Path) -> None:
        self.scheme = scheme
        self.ca_file = ca_file
        self.context = None if scheme == "smtp" else authority.server_context()

    def server(self, script: Mapping[str, Action | str | bytes], manner: Manner, **fields: Any) -> Server:
        return Server(
            script,
            extensions=manner.extensions,
            context=self.context,
            implicit_tls=self.scheme == "submissions",
            **fields,
        )

    def host(self, server: Server, timeouts: Timeouts = PATIENT, **fields: Any) -> SmartHost:
        return smart_host(server, self.scheme, ca_file=self.ca_file, timeouts=timeouts, **fields)


@pytest.fixture(scope="session")
def ca_file(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return authority.ca_file(tmp_path_factory.mktemp("ca") / "ca.pem")


@pytest.fixture(params=CHANNELS)
def place(request: pytest.FixtureRequest, authority: Authority, ca_file: Path) -> Place:
    return Place(request.param, authority, ca_file)


def outcome(place: Place, server: Server, manner: Manner, timeouts: Timeouts = PATIENT, **fields: Any) -> str:
    """SENT, or the lead of the failure."""
    try:
        deliver(offer(place.host(server, timeouts), to=manner.recipients, **fields))
    except Failure as failure:
        return failure.lead
    return SENT


# -- the truth table

AFTER_THE_END: dict[str, tuple[Any, str]] = {
    "taken": ("250 2.0.0 taken", SENT),
    "taken, in lines": ("250-2.0.0 taken\n250 2.0.0 as 1a2b", SENT),
    "taken, LF alone": (b"250 2.0.0 taken\n", SENT),
    "forwarded": ("251 2.0.0 forwarded", SENT),
    "421": ("421 4.3.2 bye", TRY_AGAIN),
    "452": ("452-4.2.2 full\n452 4.2.2 later", TRY_AGAIN),
    "550": ("550 5.7.1 spam", REFUSED),
    "554": (Then("554 5.6.0 never", Reset()), REFUSED),
    "closed": (Drop(), UNCERTAIN),
    "reset": (Reset(), UNCERTAIN),
    "half a line": (Then(b"250 2.0.0 tak", Drop()), UNCERTAIN),
    "a line without its LF": (Then(b"250 2.0.0 taken\r", Drop()), UNCERTAIN),
    "half a reply": (Then(b"250-2.0.0 taken\r\n", Drop()), UNCERTAIN),
    "half a refusal": (Then(b"550-5.7.1 spam\r\n", Drop()), UNCERTAIN),
    "mixed": ("250-2.0.0 taken\n550 5.7.1 refused", UNCERTAIN),
    "garbage": ("taken", UNCERTAIN),
    "NUL": (b"250 2.0.0 tak\0en\r\n", UNCERTAIN),
    "four digits": ("2500 taken", UNCERTAIN),
    "3yz": ("354 go on", UNCERTAIN),
    "1yz": ("150 wait", UNCERTAIN),
    "endless": (b"250 " + b"x" * 5000, UNCERTAIN),
}


@pytest.mark.row("S4", "S5", "S9", "T9")
@pytest.mark.parametrize("manner", MANNERS.values(), ids=MANNERS.keys())
@pytest.mark.parametrize(("verdict", "lead"), AFTER_THE_END.values(), ids=AFTER_THE_END.keys())
def test_after_the_end_of_the_message_the_verdict_alone_counts(
    verdict: Any, lead: str, manner: Manner, place: Place
) -> None:
    """C3, A1: a complete 2yz is sent, a complete 4yz or 5yz is not, and anything else is uncertain."""
    with place.server({"dot": verdict}, manner) as server:
        assert outcome(place, server, manner) == lead
        server.finished()
        assert [message.complete for message in server.messages] == [True]
        assert lead == UNCERTAIN or len(server.accepted) == (lead == SENT)


@pytest.mark.row("S3", "S5")
@pytest.mark.parametrize("manner", MANNERS.values(), ids=MANNERS.keys())
def test_silence_after_the_end_of_the_message_is_uncertain(manner: Manner, place: Place) -> None:
    """C3: the time for the verdict is the longest, and it ends."""
    with place.server({"dot": Silence()}, manner) as server:
        assert outcome(place, server, manner, PATIENT._replace(final=SHORT)) == UNCERTAIN


BEFORE_THE_END: dict[str, tuple[str, Any, str, str]] = {
    # stage, what the server does, the lead, and the lead where all has left in one flight
    "sender refused": ("MAIL", "550 5.7.1 not you", REFUSED, REFUSED),
    "sender refused for now": ("MAIL", "451 4.3.0 later", TRY_AGAIN, TRY_AGAIN),
    "recipient refused": ("RCPT 1", "550 5.1.1 unknown", REFUSED, REFUSED),
    "recipient refused for now": ("RCPT 1", "450 4.2.1 greylisted", TRY_AGAIN, TRY_AGAIN),
    "refused, then closed": ("RCPT 1", Then("550 5.1.1 unknown", Drop()), REFUSED, REFUSED),
    "closed at MAIL": ("MAIL", Drop(), TRY_AGAIN, UNCERTAIN),
    "reset at MAIL": ("MAIL", Reset(), TRY_AGAIN, UNCERTAIN),
    "garbage at MAIL": ("MAIL", "fine", TRY_AGAIN, UNCERTAIN),
    "354 at MAIL": ("MAIL", "354 go ahead", TRY_AGAIN, UNCERTAIN),
    "closed at RCPT": ("RCPT 1", Drop(), TRY_AGAIN, UNCERTAIN),
    "mixed at RCPT": ("RCPT 1", "250-yes\n550 no", TRY_AGAIN, UNCERTAIN),
    "half a refusal at RCPT": ("RCPT 1", Then(b"550-5.1.1 unk", Drop()), TRY_AGAIN, UNCERTAIN),
}


@pytest.mark.row("S4", "S8", "S9")
@pytest.mark.parametrize("manner", MANNERS.values(), ids=MANNERS.keys())
@pytest.mark.parametrize(("stage", "action", "lead", "committed"), BEFORE_THE_END.values(), ids=BEFORE_THE_END.keys())
def test_before_the_end_of_the_message_nothing_has_been_sent(
    stage: str, action: Any, lead: str, committed: str, manner: Manner, place: Place
) -> None:
    """C2, C3, B6: unless all of it left in one flight; then only a complete refusal says so."""
    with place.server({stage: action}, manner) as server:
        assert outcome(place, server, manner) == (committed if manner.one_flight else lead)
        server.finished()
        assert server.accepted == []
        assert manner.one_flight or not any(message.complete for message in server.messages)


@pytest.mark.row("S10")
@pytest.mark.parametrize(
    ("reply", "lead"),
    [("552 5.3.4 too much", REFUSED), ("452 4.3.1 no room", TRY_AGAIN), ("250 2.0.0 taken", TRY_AGAIN)],
)
@pytest.mark.parametrize("then", [Then(), Drop(), Reset()], ids=["reads", "FIN", "RST"])
@pytest.mark.parametrize("manner", [MANNERS["DATA"], MANNERS["BDAT"]], ids=["DATA", "BDAT"])
def test_an_answer_in_the_middle_of_the_text_ends_it(
    manner: Manner, then: Action, reply: str, lead: str, place: Place
) -> None:
    """C3: 4yz and 5yz are a refusal, a 2yz is a broken rule; and the end of the message never leaves."""
    with place.server({"text": Then(reply, then)}, manner, keep_data=False) as server:
        text = b"x" * LONG + b"\n"
        assert outcome(place, server, manner, text=text) == lead
        assert not any(message.complete for message in server.messages)


@pytest.mark.row("S10")
def test_a_large_text_is_not_sent_to_its_end_where_it_has_been_refused(place: Place) -> None:
    """C3: the server that reads on gets a part of it."""
    manner = MANNERS["DATA"]
    with place.server({"text": "552 5.3.4 too much"}, manner, keep_data=False) as server:
        assert outcome(place, server, manner, text=b"x" * 3 * LONG + b"\n") == REFUSED
        server.finished()
        assert server.messages[0].size < 2 * LONG


WITH_A_PAUSE = {name: manner for name, manner in MANNERS.items() if not manner.one_flight}


@pytest.mark.row("S10")
@pytest.mark.parametrize("manner", WITH_A_PAUSE.values(), ids=WITH_A_PAUSE.keys())
@pytest.mark.parametrize(
    ("more", "lead"),
    [("552 5.3.4 no", REFUSED), ("452-4.3.1 no\r\n452 4.3.1 room", TRY_AGAIN), ("250 2.0.0 taken", TRY_AGAIN)],
)
def test_an_answer_that_waits_before_a_small_text_is_heard(manner: Manner, more: str, lead: str, place: Place) -> None:
    """C3: it stands behind the last reply before the text, in the same segment."""
    stage, reply = ("DATA", "354 go ahead") if manner.by_data else (f"RCPT {len(manner.recipients)}", "250 2.1.5 fine")
    with place.server({stage: f"{reply}\r\n{more}\r\n".encode()}, manner) as server:
        assert outcome(place, server, manner) == lead
        server.finished()
        assert not any(message.complete for message in server.messages)


# -- a reply too many (S10): whatever stands behind the verdict's 250 has been sent by a server that is out of step


@pytest.mark.row("S10")
@pytest.mark.parametrize("manner", MANNERS.values(), ids=MANNERS.keys())
@pytest.mark.parametrize("stage", ["greeting", "EHLO", "MAIL", "RCPT", "DATA"])
def test_one_reply_too_many_never_makes_success_of_a_refusal(stage: str, manner: Manner, place: Place) -> None:
    """A1, B6: the last of the replies is the verdict on the message, and here it says no."""
    reply = {"greeting": "220 ready", "EHLO": "", "DATA": "354 go ahead"}.get(stage, "250 2.1.5 fine")
    offers = (*manner.extensions, *(["STARTTLS"] if place.scheme == "submission" else []))
    words = "\r\n".join(["250-server.example", *(f"250-{one}" for one in offers), "250 DSN"])
    wire = f"{reply or words}\r\n250 2.1.5 fine\r\n".encode()
    with place.server({f"{stage} 1": wire, "dot": "550 5.7.1 refused"}, manner) as server:
        assert outcome(place, server, manner) != SENT


@pytest.mark.row("S10")
@pytest.mark.parametrize("verdict", ["550 5.7.1 refused", "452 4.2.2 full", "250 2.0.0 taken"])
def test_replies_that_come_together_are_counted(verdict: str, place: Place) -> None:
    """B6, C3: MAIL, RCPT, a reply too many, and the verdict; without enhanced codes, which would tell them apart."""
    manner = MANNERS["one flight"]
    script = {"MAIL": Then(b"250 sender fine\r\n250 fine\r\n250 fine\r\n" + verdict.encode() + b"\r\n", Silence())}
    with place.server(script, manner) as server:
        assert outcome(place, server, manner) == UNCERTAIN


@pytest.mark.row("S10")
@pytest.mark.parametrize("replies", ["550 no\r\n250 fine\r\n250 taken\r\n", "250 fine\r\n550 no\r\n250 taken\r\n"])
def test_a_refusal_of_the_envelope_and_then_an_acceptance_is_uncertain(replies: str, place: Place) -> None:
    """B6: the reply at the place of the verdict says that the message was taken."""
    manner = MANNERS["one flight"]
    with place.server({"MAIL": Then(replies.encode(), Silence())}, manner) as server:
        assert outcome(place, server, manner) == UNCERTAIN


@pytest.mark.row("S10")
@pytest.mark.parametrize("manner", [MANNERS["BDAT after a flight"], MANNERS["one flight"]], ids=["after", "with"])
def test_the_answer_to_a_recipient_is_no_verdict(manner: Manner, place: Place) -> None:
    """B6: its enhanced status says what it is about (RFC 3463, 3.2), however late the true verdict is."""
    left = threading.Event()
    script: dict[str, Any] = {
        "RCPT 1": b"250 2.1.5 fine\r\n250 2.1.5 fine\r\n",
        "dot": Then(Wait(left), "550 5.7.1 refused"),
    }
    with place.server(script, manner) as server:
        try:
            assert outcome(place, server, manner) != SENT
        finally:
            left.set()


@pytest.mark.row("S10")
@pytest.mark.xfail(strict=True, reason="only the answer to QUIT could tell these apart, and it is not waited for (B5)")
def test_a_reply_too_many_and_a_late_verdict_are_told_apart() -> None:
    """B6: what is left of the window: no enhanced codes, and a true verdict that is later than the other replies."""
    left = threading.Event()
    script: dict[str, Any] = {
        "MAIL": b"250 fine\r\n250 fine\r\n",
        "RCPT": "250 fine",
        "dot": Then(Wait(left), "550 refused"),
    }
    with Server(script, extensions=MANNERS["one flight"].extensions) as server:
        transaction = offer(smart_host(server))
        with pytest.raises(Failure):
            deliver(transaction, lambda mark, line: left.set() if line == "QUIT" else None)


BEHIND_THE_VERDICT: dict[str, tuple[Any, str]] = {
    "a refusal": (b"250 taken\r\n550 refused\r\n", UNCERTAIN),
    "the rest of a text that ended early": (b"250 taken\r\n500 what?\r\n500 what?\r\n", UNCERTAIN),
    "the same again": (b"250 taken\r\n250 taken\r\n", UNCERTAIN),
    "in two pieces": (Then(b"250 taken\r\n55", Wait(0.1), b"0 refused\r\n"), UNCERTAIN),
    "an acceptance after a refusal": (b"550 refused\r\n250 taken\r\n", UNCERTAIN),
    "two refusals": (b"550 refused\r\n503 nothing to do\r\n", REFUSED),
    "221": (b"250 taken\r\n221 bye\r\n", SENT),
    "421": (b"250 taken\r\n421 bye\r\n", SENT),
    "garbage": (b"250 taken\r\n\xff\0bye\r\n", SENT),
    "half a line": (Then(b"250 taken\r\n55", Drop()), SENT),
    "FIN": (Then(b"250 taken\r\n", Drop()), SENT),
    "RST": (Then(b"250 taken\r\n", Reset()), SENT),
    "silence": (Then(b"250 taken\r\n", Silence(reading=False)), SENT),
}


@pytest.mark.row("S6", "S10", "T9")
@pytest.mark.parametrize("manner", [MANNERS["DATA"], MANNERS["one flight"]], ids=["DATA", "one flight"])
@pytest.mark.parametrize(("wire", "lead"), BEHIND_THE_VERDICT.values(), ids=BEHIND_THE_VERDICT.keys())
def test_what_stands_behind_the_verdict(wire: Any, lead: str, manner: Manner, place: Place) -> None:
    """A5, C3: a goodbye, noise and a loss change nothing; a reply that nobody asked for shows that nobody knows."""
    with place.server({"dot": wire}, manner) as server:
        assert outcome(place, server, manner) == lead


@pytest.mark.row("S6")
@pytest.mark.parametrize("answer", ["554 5.5.1 no", "what?", Drop(), Reset(), Silence(), Silence(reading=False)])
def test_the_answer_to_quit_changes_nothing(answer: Any, place: Place) -> None:
    """A5: it is not waited for."""
    with place.server({"QUIT": answer}, MANNERS["DATA"]) as server:
        began = time.monotonic()
        assert outcome(place, server, MANNERS["DATA"], Timeouts(*[600.0] * 5)) == SENT
        assert time.monotonic() - began < 60  # far below any time-out


@pytest.mark.row("S10")
@pytest.mark.parametrize("manner", [MANNERS["DATA"], MANNERS["BDAT"]], ids=["DATA", "BDAT"])
def test_a_verdict_before_the_server_has_the_whole_text_is_none(
    manner: Manner, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A1, C3: the end of the text is in our kernel, and the server has not even got it."""
    handed_over = threading.Event()
    real = Connection.verdict

    def verdict(connection: Connection, *arguments: Any, **named: Any) -> Any:
        handed_over.set()
        return real(connection, *arguments, **named)

    monkeypatch.setattr(Connection, "verdict", verdict)
    script = {"text": Then(Wait(handed_over), "250 2.0.0 taken", Silence(reading=False))}
    with place.server(script, manner) as server:
        server._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # what it takes in without reading
        failure = failure_of(offer(place.host(server), text=b"x" * 64 * 1024 + b"\n"))
    assert (failure.lead, failure.stage) == (UNCERTAIN, Stage.VERDICT)
    assert failure.what == 'sent "250 2.0.0 taken" before it had the whole text,'


@pytest.mark.row("S5", "S10", "L3")
def test_signals_between_the_replies_to_one_flight_are_heard(program: Program) -> None:
    """A3, B6: what the envelope is answered is no verdict yet; the second signal ends it."""
    told: list[subprocess.Popen[bytes]] = []
    ready = threading.Event()

    class Signals(Action):
        def perform(self, channel: Channel) -> None:
            assert ready.wait(20)
            while told[0].poll() is None:
                told[0].send_signal(signal.SIGTERM)
                channel.wait(0.02)

    with Server({"dot": Then(Signals(), Silence())}, extensions=MANNERS["one flight"].extensions) as server:
        program.configure(f'{program.smart_hosts(server)}from = "me@client.example"\n[timeouts]\nfinal = 15\n')
        with subprocess.Popen(
            [program.named("sendmail"), "-C", program.config, "you@example.net"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            told.append(process)
            ready.set()
            _, said = process.communicate(b"Subject: hello\n\nHello.\n", timeout=60)
    assert process.returncode == 1
    assert said.startswith(b"sendmail: may have been sent: ")
    assert b"interrupted by a signal" in said
