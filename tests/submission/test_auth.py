"""AUTH: by which mechanism, over what, and what counts as success."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from muawrap.failure import REFUSED, TRY_AGAIN, Stage
from muawrap.mail import SmartHost
from muawrap.submission import sasl
from muawrap.submission.deliver import deliver
from tests.submission.offering import failure_of, login, offer, smart_host
from tests.support.certificates import Authority
from tests.support.server import Server, Then

USERS = {"alice": "s3cret"}


def clear(server: Server, password: str = "s3cret", **fields: Any) -> SmartHost:
    """A host where AUTH in the clear is allowed, which most of these tests do not care about."""
    return smart_host(server, policy="none", auth=login(password, allow_plaintext=True, **fields))


def auth_commands(server: Server) -> list[bytes]:
    [session] = server.finished()
    return [command for command in session.commands if command.startswith(b"AUTH")]


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_every_mechanism_that_is_listed_works(mechanism: str) -> None:
    """C1: against a server that checks."""
    with Server(users=USERS, mechanisms=(mechanism,)) as server:
        assert deliver(offer(clear(server, mechanisms=(mechanism,)))).user == "alice"
        [session] = server.finished()
        assert session.authenticated == "alice"
        assert len(session.accepted) == 1


@pytest.mark.parametrize(
    ("offered", "listed", "used"),
    [
        (("LOGIN", "PLAIN"), (), b"AUTH PLAIN"),
        (("CRAM-MD5", "LOGIN"), (), b"AUTH LOGIN"),
        (("PLAIN", "CRAM-MD5"), ("CRAM-MD5", "PLAIN"), b"AUTH CRAM-MD5"),
    ],
)
def test_one_mechanism_is_used(offered: tuple[str, ...], listed: tuple[str, ...], used: bytes) -> None:
    """C1: the strongest offered of those by default, or the first listed."""
    with Server(users=USERS, mechanisms=offered) as server:
        deliver(offer(clear(server, mechanisms=listed)))
        [command] = auth_commands(server)
        assert command.startswith(used)


@pytest.mark.row("T4")
@pytest.mark.parametrize(
    ("offered", "listed", "words"),
    [
        (("CRAM-MD5",), (), "the server offers AUTH CRAM-MD5, but not PLAIN or LOGIN"),
        (("PLAIN",), ("CRAM-MD5",), "the server offers AUTH PLAIN, but not CRAM-MD5"),
        (None, (), "the server offers no AUTH"),
    ],
)
def test_a_mechanism_that_is_not_wanted_is_not_used(
    offered: tuple[str, ...] | None, listed: tuple[str, ...], words: str
) -> None:
    """C1: a set user makes AUTH mandatory, and nothing weaker than wanted is tried."""
    with Server(users=USERS if offered else None, mechanisms=offered or ()) as server:
        failure = failure_of(offer(clear(server, mechanisms=listed)))
        assert (failure.stage, failure.lead) == (Stage.AUTH, REFUSED)
        assert failure.what == words
        assert auth_commands(server) == []


@pytest.mark.row("T4", "T6")
@pytest.mark.parametrize(
    ("reply", "lead"),
    [
        ("535 5.7.8 wrong", REFUSED),
        ("530 5.7.0 no", REFUSED),
        ("454 4.7.0 later", TRY_AGAIN),
        ("421 4.3.2 bye", TRY_AGAIN),
        ("250 2.0.0 fine", TRY_AGAIN),
        ("220 fine", TRY_AGAIN),
        ("503 5.5.1 already authenticated", REFUSED),
        ("354 go ahead", TRY_AGAIN),
        ("235-welcome\n250 welcome", TRY_AGAIN),
    ],
)
@pytest.mark.parametrize("stage", ["AUTH", "AUTH reply"])
def test_only_235_is_success_and_nothing_else_is_tried(stage: str, reply: str, lead: str) -> None:
    """C1: AUTH refused is that host's failure; the password is not offered by a second mechanism."""
    mechanisms = ("PLAIN",) if stage == "AUTH" else ("LOGIN",)
    with (
        Server({stage: reply}, users=USERS, mechanisms=(*mechanisms, "CRAM-MD5")) as server,
        Server(users=USERS) as other,
    ):
        failure = failure_of(offer(clear(server, mechanisms=(*mechanisms, "CRAM-MD5"))))
        assert (failure.stage, failure.lead) == (Stage.AUTH, lead)
        assert ("auth.password" in failure.advice) == (lead == REFUSED)
        assert len(auth_commands(server)) == 1
        assert server.messages == []
        assert len(deliver(offer(clear(server), clear(other))).degraded) == 1


@pytest.mark.row("T6")
def test_challenges_for_ever_end() -> None:
    """C1: no mechanism asks more than ten times."""
    with Server({"AUTH": "334 ", "AUTH reply": "334 bW9yZQ=="}, users=USERS) as server:
        failure = failure_of(offer(clear(server)))
        assert failure.stage is Stage.AUTH
        assert "334" in failure.sentence()
        [session] = server.finished()
        answers = [command for command in session.commands if command[:4] not in (b"EHLO", b"AUTH", b"QUIT")]
        assert len(answers) <= sasl.CHALLENGES


@pytest.mark.row("T6")
@pytest.mark.parametrize("challenge", [b"334 Username:\r\n", b"334 \xff\r\n", b"334 VXNlcm5hbWU\r\n"])
def test_a_challenge_that_is_no_base64_is_cancelled(challenge: bytes) -> None:
    """C1: with "*" (RFC 4954, 4), before a secret is told."""
    with Server({"AUTH": challenge}, users=USERS, mechanisms=("LOGIN",)) as server:
        failure = failure_of(offer(clear(server)))
        assert failure.what == "sent a challenge that is no base64"
        [session] = server.finished()
        assert session.commands[1:3] == [b"AUTH LOGIN", b"*"]
        assert base64.b64encode(b"s3cret") not in session.raw


def test_answers_after_the_last_are_empty_lines() -> None:
    """C1: "=" is for initial responses (RFC 4954, 4)."""
    more = {"AUTH reply 1": "334 ", "AUTH reply 2": "334 ", "AUTH reply 3": "334 ", "AUTH reply": "235 at last"}
    with Server({"AUTH": "334 ", **more}, users=USERS, mechanisms=("LOGIN",)) as server:
        assert deliver(offer(clear(server))).reply
        [session] = server.finished()
        assert session.commands[2:6] == [b"YWxpY2U=", b"czNjcmV0", b"", b""]


def test_a_long_password_waits_to_be_asked() -> None:
    """C1: an AUTH line has at most 12288 octets (RFC 4954, 4)."""
    password = "p" * 10_000
    with Server(users={"alice": password}) as server:
        assert deliver(offer(clear(server, password))).user == "alice"
        assert auth_commands(server) == [b"AUTH PLAIN"]


@pytest.mark.row("T4")
@pytest.mark.parametrize("policy", ["if-offered", "none"])
def test_no_auth_goes_in_the_clear(policy: str) -> None:
    """C1: unless allow_plaintext says so."""
    with Server(users=USERS) as server:
        failure = failure_of(offer(smart_host(server, policy=policy, auth=login())))
        assert failure.what == "the connection is not protected (TLS: none)"
        assert "auth.allow_plaintext" in failure.advice
        assert failure.lead == REFUSED
        assert auth_commands(server) == []


@pytest.mark.row("T3", "T4")
@pytest.mark.parametrize("scheme", ["smtp", "submission", "submissions"])
def test_no_auth_goes_over_tls_that_is_not_verified(scheme: str, authority: Authority, tmp_path: Path) -> None:
    """C1: whoever stands between has a certificate too; the sentence tells what is wrong with it."""
    context = authority.server_context("other.example")
    with Server(users=USERS, context=context, implicit_tls=scheme == "submissions") as server:
        ca_file = authority.ca_file(tmp_path / "ca.pem")
        host = smart_host(server, scheme, policy="if-offered", ca_file=ca_file, auth=login())
        failure = failure_of(offer(host))
        assert failure.stage is Stage.TLS
        assert "mismatch" in failure.what
        assert auth_commands(server) == []
        allowed = host._replace(auth=login(allow_plaintext=True))
        assert deliver(offer(allowed)).tls == "TLSv1.3 unverified"


@pytest.mark.parametrize("scheme", ["smtp", "submission", "submissions"])
def test_auth_goes_over_verified_tls(scheme: str, authority: Authority, tmp_path: Path) -> None:
    """C1: the ordinary case."""
    context = authority.server_context()
    with Server(users=USERS, context=context, implicit_tls=scheme == "submissions") as server:
        host = smart_host(server, scheme, ca_file=authority.ca_file(tmp_path / "ca.pem"), auth=login())
        receipt = deliver(offer(host))
        assert (receipt.tls, receipt.user) == ("TLSv1.3", "alice")
        assert server.finished()[0].tls


# -- what is told


@pytest.mark.row("T7")
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_no_trace_tells_a_secret(mechanism: str) -> None:
    """C7: nor its base64, whatever the mechanism."""
    told: list[str] = []
    with Server(users=USERS, mechanisms=(mechanism,)) as server:
        deliver(offer(clear(server, mechanisms=(mechanism,))), lambda mark, line: told.append(f"{mark} {line}"))
        [session] = server.finished()
        whole = "\n".join(told)
        assert "***" in whole
        for answer in session.commands[2:-4]:  # up to MAIL, RCPT, DATA and QUIT
            assert answer.decode() not in whole
        for form in ("s3cret", "czNjcmV0", "AGFsaWNlAHMzY3JldA=="):
            assert form not in whole


@pytest.mark.row("T7")
@pytest.mark.parametrize("stage", ["AUTH", "AUTH malformed", "MAIL", "dot", "dot refused"])
def test_a_secret_that_a_server_repeats_is_masked(stage: str) -> None:
    """C7: in the trace, the sentence and the receipt."""
    forms = "s3cret czNjcmV0 AGFsaWNlAHMzY3JldA== 733363726574 S3CRET"
    script: dict[str, Any] = {
        "AUTH": {"AUTH": f"535 {forms}"},
        "AUTH malformed": {"AUTH": forms},
        "MAIL": {"MAIL": f"550 {forms}"},
        "dot": {"dot": f"250-{forms}\n250 taken"},
        "dot refused": {"dot": f"550 {forms}"},
    }[stage]
    told: list[str] = []
    with Server(script, users=USERS, mechanisms=("PLAIN",)) as server:
        transaction = offer(clear(server))
        if stage == "dot":
            told.append(deliver(transaction, lambda mark, line: told.append(line)).reply)
        else:
            told.append(failure_of(transaction, lambda mark, line: told.append(line)).sentence())
    whole = "\n".join(told).lower()
    assert "***" in told[-1]
    for form in forms.lower().split():
        assert form not in whole


@pytest.mark.parametrize("password", ["p'w\\x\"", "long" * 30, "p\udce9w", "caf\xe9"])
def test_no_half_of_a_secret_is_told(password: str) -> None:
    """C7: masked before it is escaped or cut, whatever the password is made of."""
    octets = password.encode("utf-8", "surrogateescape")
    with Server({"AUTH": b"you said " + octets + b" to me\r\n"}) as server:
        server.users = {"alice": password}
        failure = failure_of(offer(clear(server, password)))
        assert failure.what == "sent what is no SMTP reply: 'you said *** to me'"


def test_the_words_after_a_refusal_are_told() -> None:
    """A3: providers say there what to do."""
    with Server({"AUTH": Then("534-5.7.9 Application-specific password\n534 5.7.9 required")}, users=USERS) as server:
        sentence = failure_of(offer(clear(server))).sentence()
        assert sentence.endswith("answered AUTH with 534 5.7.9 Application-specific password 5.7.9 required")
