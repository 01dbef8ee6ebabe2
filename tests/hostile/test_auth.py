"""Servers that want more of a password than one honest AUTH."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from muawrap.failure import REFUSED, TRY_AGAIN, Stage
from muawrap.mail import SmartHost
from muawrap.submission.deliver import deliver
from tests.submission.offering import PATIENT, failure_of, login, offer, smart_host
from tests.support.canary import CANARY
from tests.support.server import Drop, Server, Session, Silence, Then

USERS = {"alice": CANARY}
ALONE, IN_PLAIN = base64.b64encode(CANARY.encode()), base64.b64encode(b"\0alice\0" + CANARY.encode())
USERNAME, PASSWORD = "334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6"


def serving(script: dict[str, Any], *mechanisms: str) -> Server:
    return Server(script, users=USERS, mechanisms=mechanisms or ("PLAIN", "LOGIN", "CRAM-MD5"))


def clear(server: Server, *mechanisms: str) -> SmartHost:
    """A host to which AUTH may go in the clear, which these tests do not care about."""
    return smart_host(server, policy="none", auth=login(allow_plaintext=True, mechanisms=mechanisms))


def told(session: Session) -> int:
    """How often the password went out, in whatever form."""
    return sum(session.raw.count(form) for form in (CANARY.encode(), ALONE, IN_PLAIN))


ENDS_OTHERWISE: dict[str, tuple[Any, str]] = {
    "250": ("250 2.0.0 fine", TRY_AGAIN),
    "220": ("220 fine", TRY_AGAIN),
    "221": ("221 bye", TRY_AGAIN),
    "234": ("234 nearly", TRY_AGAIN),
    "354": ("354 go ahead", TRY_AGAIN),
    "335": ("335 more", TRY_AGAIN),
    "2350": ("2350 welcome", TRY_AGAIN),
    "235 and 535": ("235-2.7.0 welcome\n535 5.7.8 no", TRY_AGAIN),
    "half a 235": (Then(b"235 2.7.0 welc", Drop()), TRY_AGAIN),
    "a line of 235": (Then(b"235-2.7.0 welcome\r\n", Drop()), TRY_AGAIN),
    "421": ("421 4.3.2 bye", TRY_AGAIN),
    "454": ("454 4.7.0 no directory", TRY_AGAIN),
    "535": ("535 5.7.8 wrong", REFUSED),
    "534": ("534 5.7.9 too weak", REFUSED),
    "504": ("504 5.5.4 not this one", REFUSED),
    "500": ("500 5.5.1 what?", REFUSED),
    "closed": (Drop(), TRY_AGAIN),
}


@pytest.mark.row("T4", "T6")
@pytest.mark.parametrize(("reply", "lead"), ENDS_OTHERWISE.values(), ids=ENDS_OTHERWISE.keys())
@pytest.mark.parametrize("step", ["AUTH", "AUTH reply 1", "AUTH reply 2"])
def test_only_235_is_success_and_the_password_is_told_once_at_most(step: str, reply: Any, lead: str) -> None:
    """C1: no other mechanism, no second time, no MAIL; at every step of LOGIN, and of PLAIN."""
    with serving({step: reply}) as server:
        host = clear(server, *(["LOGIN"] if step != "AUTH" else []))
        failure = failure_of(offer(host))
        assert (failure.stage, failure.lead) == (Stage.AUTH, lead)
        [session] = server.finished()
        assert sum(command.startswith(b"AUTH") for command in session.commands) == 1
        assert told(session) == (step != "AUTH reply 1")
        assert not any(command.startswith(b"MAIL") for command in session.commands)


@pytest.mark.row("T6")
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_challenges_for_ever_are_answered_ten_times(mechanism: str) -> None:
    """C1: no mechanism asks as often; LOGIN's password goes once, however often it is asked for."""
    with serving({"AUTH": "334 ", "AUTH reply": PASSWORD}) as server:
        failure = failure_of(offer(clear(server, mechanism)))
        assert (failure.stage, failure.lead) == (Stage.AUTH, TRY_AGAIN)
        [session] = server.finished()
        assert sum(b" " not in command and command != b"QUIT" for command in session.commands) == 10
        if mechanism == "LOGIN":
            assert told(session) == 1


@pytest.mark.row("T6")
def test_a_334_after_the_last_step_is_no_success() -> None:
    """C1: the server has all there is, and wants more; then it says 250."""
    with serving(
        {"AUTH": USERNAME, "AUTH reply 1": PASSWORD, "AUTH reply 2": "334 ", "AUTH reply": "250 ok"}
    ) as server:
        assert failure_of(offer(clear(server, "LOGIN"))).stage is Stage.AUTH
        assert server.finished()[0].commands[2:5] == [base64.b64encode(b"alice"), ALONE, b""]


UNFINISHED: dict[str, dict[str, Any]] = {
    "silent after the user": {"AUTH reply": Silence()},
    "no reply after the user": {"AUTH reply": b"what?\r\n"},
    "endless": {"AUTH reply": PASSWORD},
}


@pytest.mark.row("T6")
@pytest.mark.parametrize("script", UNFINISHED.values(), ids=UNFINISHED.keys())
def test_where_an_answer_is_awaited_no_command_is_said(script: dict[str, Any]) -> None:
    """RFC 4954, 4: a QUIT would be one more answer, and good base64 at that: another wrong password."""
    with serving(script, "LOGIN") as server:
        hurried = clear(server)._replace(timeouts=PATIENT._replace(command=0.3))
        assert failure_of(offer(hurried)).stage is Stage.AUTH
        [session] = server.finished()
        assert b"AUTH LOGIN" in session.raw
        assert b"QUIT" not in session.raw


NO_BASE64 = [
    b"334 Username:",
    b"334 =",
    b"334 QUI",
    b"334 QQ=A",
    b"334 QUJD\tQUJD",
    b"334 \xff",
    b"334 QUJD!",
    b"334 A",
]


@pytest.mark.row("T6")
@pytest.mark.parametrize("challenge", NO_BASE64)
@pytest.mark.parametrize(("mechanism", "step"), [("LOGIN", "AUTH"), ("LOGIN", "AUTH reply 1"), ("CRAM-MD5", "AUTH")])
def test_what_is_no_base64_is_cancelled_before_the_password(mechanism: str, step: str, challenge: bytes) -> None:
    """C1: by "*" alone (RFC 4954, 4), at the first step and at the second."""
    with serving({step: challenge + b"\r\n"}) as server:
        failure = failure_of(offer(clear(server, mechanism)))
        assert failure.what == "sent a challenge that is no base64"
        [session] = server.finished()
        assert b"*" in session.commands
        assert session.commands[session.commands.index(b"*") + 1 :] in ([], [b"QUIT"])
        assert told(session) == 0


@pytest.mark.row("T6", "S1")
@pytest.mark.parametrize(
    "challenge", [b"334 " + b"QUJD" * 2000 + b"\r\n", b"334-QUJD\r\n" * 200, b"334 " + b"QUJD" * 100_000]
)
def test_a_challenge_without_end_ends(challenge: bytes) -> None:
    """C1: a line has 4096 octets at most, and nothing is said to it."""
    with serving({"AUTH": Then(challenge, Drop())}) as server:
        failure = failure_of(offer(clear(server, "LOGIN")))
        assert failure.stage is Stage.AUTH
        assert "longer than" in failure.what
        assert told(server.finished()[0]) == 0


@pytest.mark.row("T6", "S10")
@pytest.mark.parametrize(
    ("step", "reply"),
    [
        ("AUTH", f"{USERNAME}\r\n{PASSWORD}\r\n"),
        ("AUTH", f"{USERNAME}\r\n235 2.7.0 welcome\r\n"),
        ("AUTH reply 1", f"{PASSWORD}\r\n235 2.7.0 welcome\r\n"),
        ("AUTH reply 2", "235 2.7.0 welcome\r\n250 2.1.0 fine\r\n"),
    ],
)
def test_an_answer_before_the_question_ends_the_exchange(step: str, reply: str) -> None:
    """C3: what waits before we speak would be taken for the answer to what we say."""
    with serving({step: reply.encode()}) as server, serving({}) as other:
        failure = failure_of(offer(clear(server, "LOGIN")))
        assert failure.lead == TRY_AGAIN
        assert not any(command.startswith(b"MAIL") for command in server.finished()[0].commands)
        assert told(server.sessions[0]) == (step == "AUTH reply 2")
        assert len(deliver(offer(clear(server, "LOGIN"), clear(other, "LOGIN"))).degraded) == 1


@pytest.mark.row("T4")
@pytest.mark.parametrize("offered", [("CRAM-MD5",), ("LOGIN",), ("XOAUTH2", "NTLM"), ("PLAINER",), ("SCRAM-SHA-256",)])
def test_a_server_does_not_choose_another_mechanism(offered: tuple[str, ...]) -> None:
    """C1: what is configured is used, or nothing."""
    with serving({}, *offered) as server:
        failure = failure_of(offer(clear(server, "PLAIN")))
        assert (failure.stage, failure.lead) == (Stage.AUTH, REFUSED)
        [session] = server.finished()
        assert not any(command.startswith(b"AUTH") for command in session.commands)
        assert told(session) == 0
