"""AUTH: by which mechanism, over what, and what counts as success."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from muawrap.failure import REFUSED, TRY_AGAIN, Stage
from muawrap.mail import Auth, Secret, SmartHost
from muawrap.submission import sasl
from muawrap.submission.deliver import deliver
from tests.submission.offering import failure_of, login, offer, smart_host
from tests.support.canary import assert_silent
from tests.support.certificates import Authority, write_client_files
from tests.support.server import Server, Then

USERS = {"alice": "s3cret"}


def clear(server: Server, password: str = "s3cret", **fields: Any) -> SmartHost:
    """A host where AUTH in the clear is allowed, which most of these tests do not care about."""
    return smart_host(server, policy="none", auth=login(password, allow_plaintext=True, **fields))


def auth_commands(server: Server) -> list[bytes]:
    [session] = server.finished()
    return [command for command in session.commands if command.startswith(b"AUTH")]


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"])
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
        (("CRAM-MD5",), (), "the server offers AUTH CRAM-MD5, but not SCRAM-SHA-256, SCRAM-SHA-1, PLAIN or LOGIN"),
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


@pytest.mark.parametrize(
    ("password", "mechanism"),
    [("login", "LOGIN"), ("auth", "PLAIN"), ("256", "SCRAM-SHA-256"), ("scram", "SCRAM-SHA-1")],
)
def test_a_password_that_is_a_word_of_smtp_hides_nothing_that_is_offered(password: str, mechanism: str) -> None:
    """C1: what must not be told is looked for in all that a server says, but changes nothing that is done."""
    with Server(users={"alice": password}, mechanisms=(mechanism,)) as server:
        assert deliver(offer(clear(server, password))).user == "alice"


@pytest.mark.parametrize("scheme", ["submission", "submissions"])
def test_external_is_not_tried_without_a_certificate(scheme: str, authority: Authority, tmp_path: Path) -> None:
    """C1: the next of those listed is; it would be refused for what we have not shown."""
    context = authority.server_context()
    offered = ("EXTERNAL", "PLAIN")
    with Server(users=USERS, mechanisms=offered, context=context, implicit_tls=scheme == "submissions") as server:
        auth = login("s3cret", mechanisms=offered)
        ca_file = authority.ca_file(tmp_path / "ca.pem")
        assert deliver(offer(smart_host(server, scheme, ca_file=ca_file, auth=auth))).user == "alice"
        [command] = auth_commands(server)
    assert command.startswith(b"AUTH PLAIN ")


def test_a_password_is_hidden_among_what_is_offered() -> None:
    """RELIABILITY: also beside words that are none."""
    with Server({"EHLO": "250-server\r\n250-X-LOGIN s3cret login\r\n250 AUTH S3CRET GSSAPI\r\n"}) as server:
        told: list[str] = []
        failure = failure_of(offer(clear(server)), lambda mark, line: told.append(line))
    assert failure.what.startswith("the server offers AUTH *** GSSAPI, but not SCRAM-SHA-256, ")
    assert "s3cret" not in "".join(told).lower()


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
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256"])
def test_no_trace_tells_a_secret(mechanism: str) -> None:
    """C7: nor its base64, whatever the mechanism."""
    told: list[str] = []
    with Server(users=USERS, mechanisms=(mechanism,)) as server:
        deliver(offer(clear(server, mechanisms=(mechanism,))), lambda mark, line: told.append(f"{mark} {line}"))
        [session] = server.finished()
        whole = "\n".join(told)
        assert "***" in whole
        for answer in filter(None, session.commands[2:-4]):  # up to MAIL, RCPT, DATA and QUIT
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


# -- tokens


def by_token(server: Server, token: str = "s3cret", **fields: Any) -> SmartHost:
    auth = Auth("alice", token=(Secret("literal", token),), allow_plaintext=True, **fields)
    return smart_host(server, policy="none", auth=auth)


@pytest.mark.parametrize("mechanism", ["OAUTHBEARER", "XOAUTH2"])
@pytest.mark.parametrize("length", [6, 3000, 11_000])
def test_a_token_goes_with_auth_or_is_asked_for(mechanism: str, length: int) -> None:
    """RFC 7628; a token longer than an AUTH line waits for the challenge (RFC 4954, 4)."""
    token = "s3cret" + "x" * (length - 6)
    with Server(users={"alice": token}, mechanisms=("PLAIN", "LOGIN", mechanism)) as server:
        assert deliver(offer(by_token(server, token))).user == "alice"
        [session] = server.finished()
        assert session.authenticated == "alice"
        [command] = auth_commands(server)
        assert command.startswith(f"AUTH {mechanism}".encode())
        assert (b" " in command[5:]) == (length < 9000)


@pytest.mark.row("T4", "T7")
@pytest.mark.parametrize(("mechanism", "end"), [("OAUTHBEARER", b"AQ=="), ("XOAUTH2", b"")])
def test_a_token_that_is_refused_is_told_with_the_servers_complaint(mechanism: str, end: bytes) -> None:
    """RFC 7628, 3.2.3: the exchange is ended; the sentence has status and scope, and the advice is not of passwords."""
    told: list[str] = []
    with Server(users={"alice": "other"}, mechanisms=(mechanism, "PLAIN")) as server:
        failure = failure_of(offer(by_token(server)), lambda mark, line: told.append(line))
        [session] = server.finished()
    assert session.commands[2:] == [end, b"QUIT"]
    assert failure.lead == REFUSED
    assert failure.sentence().endswith(
        "answered AUTH with 535 5.7.8 wrong (the server says status invalid_token, scope https://mail.example/)"
    )
    assert failure.advice.startswith("look at auth.user and auth.token: ")
    assert_silent("\n".join(told).encode())
    assert f"AUTH {mechanism} ***" in told


@pytest.mark.row("T7")
@pytest.mark.parametrize("mechanism", ["OAUTHBEARER", "XOAUTH2"])
def test_a_token_that_a_server_repeats_is_masked(mechanism: str) -> None:
    """C7: in its JSON, in base64 of whatever it stands in, and in the reply; before anything is cut."""
    json = b'{"status":"s3cret","scope":"' + b"x" * 170 + b's3cret"}'
    shown = base64.b64encode(b"user=alice\x01auth=Bearer s3cret\x01\x01").decode()
    script: dict[str, Any] = {
        "AUTH": b"334 " + base64.b64encode(json) + b"\r\n",
        "AUTH reply": f"535 you said {shown} and s3cret",
    }
    told: list[str] = []
    with Server(script, users=USERS, mechanisms=(mechanism,)) as server:
        failure = failure_of(offer(by_token(server)), lambda mark, line: told.append(line))
    assert_silent(failure.sentence().encode(), "\n".join(told).encode())
    assert "the server says status ***, scope xxx" in failure.sentence()
    assert "s3c" not in failure.sentence()


def test_a_token_is_had_only_where_it_is_used(tmp_path: Path) -> None:
    """DESIGN 2: its command may take a while; without another way to log in it runs before the connection."""
    ran = tmp_path / "ran"
    token = (Secret("command", ("/bin/sh", "-c", f"touch {ran}; echo s3cret")),)
    auth = Auth("alice", (Secret("literal", "s3cret"),), (), True, token)
    with Server(users=USERS, mechanisms=("XOAUTH2", "PLAIN")) as server:
        host = smart_host(server, policy="none", auth=auth)
        assert deliver(offer(host)).user == "alice"
        assert not ran.exists()
        assert deliver(offer(host._replace(auth=auth._replace(mechanisms=("XOAUTH2", "PLAIN"))))).user == "alice"
        assert ran.exists()
        commands = [line for session in server.finished() for line in session.commands if line.startswith(b"AUTH")]
        assert [command.split()[1] for command in commands] == [b"PLAIN", b"XOAUTH2"]
    broken = (Secret("command", ("/bin/false",)),)
    with Server(users=USERS, mechanisms=("XOAUTH2", "PLAIN")) as server:
        failure = failure_of(offer(smart_host(server, auth=Auth("alice", (), (), True, broken))))
        assert failure.what == "the token command /bin/false failed with exit status 1"
        assert server.finished() == []
        host = smart_host(server, policy="none", auth=auth._replace(mechanisms=("XOAUTH2",), token=broken))
        failure = failure_of(offer(host))
        assert (failure.stage, failure.what) == (Stage.AUTH, "the token command /bin/false failed with exit status 1")
        assert auth_commands_of_all(server) == []


def auth_commands_of_all(server: Server) -> list[bytes]:
    return [line for session in server.finished() for line in session.commands if line.startswith(b"AUTH")]


@pytest.mark.row("T4")
@pytest.mark.parametrize("offered", [("PLAIN", "LOGIN"), ("EXTERNAL",)])
def test_a_token_is_no_password(offered: tuple[str, ...]) -> None:
    """C1: it goes by the mechanisms that are made for it, and by no other."""
    with Server(users=USERS, mechanisms=offered) as server:
        failure = failure_of(offer(by_token(server)))
        assert failure.what == f"the server offers AUTH {' '.join(offered)}, but not OAUTHBEARER or XOAUTH2"
        assert failure.advice == "it takes no token: auth.password says where a password is"
        assert auth_commands(server) == []


def test_a_server_that_takes_tokens_only_says_so() -> None:
    """C1: as Exchange Online does where it takes no passwords any more."""
    with Server(users=USERS, mechanisms=("XOAUTH2",)) as server:
        failure = failure_of(offer(clear(server)))
        assert failure.advice == "it wants a token (OAuth2): auth.token says where that is"


# -- certificates


def by_certificate(server: Server, authority: Authority, folder: Path, user: str = "", **fields: Any) -> SmartHost:
    """A host to which we show a certificate; an empty user is whomever that is for."""
    cert, key = write_client_files(authority.certificate("alice@client.example"), folder)
    made = smart_host(
        server,
        "submission",
        ca_file=authority.ca_file(folder / "ca.pem"),
        auth=Auth(user, mechanisms=("EXTERNAL",)),
        **fields,
    )
    return made._replace(tls=made.tls._replace(client_cert=str(cert), client_key=str(key)))


def external(server: list[Server]) -> Any:
    """Who is known by the certificate: alice."""

    def exchange(users: Any) -> Any:
        act_as = yield b""
        known = b"alice@client.example" in (server[0].sessions[-1].client_certificate or b"")
        return "alice" if known and act_as in (b"", b"alice") else None

    return {b"EXTERNAL": exchange}


@pytest.mark.parametrize(("user", "initial"), [("", b"="), ("alice", b"YWxpY2U=")])
def test_a_certificate_is_enough(user: str, initial: bytes, authority: Authority, tmp_path: Path) -> None:
    """RFC 4422, appendix A: without a password, and without a user where the certificate names it."""
    servers: list[Server] = []
    context = authority.server_context("127.0.0.1", client_certificates=True)
    with Server(users=USERS, mechanisms=("PLAIN", "EXTERNAL"), exchanges=external(servers), context=context) as server:
        servers.append(server)
        receipt = deliver(offer(by_certificate(server, authority, tmp_path, user)))
        assert receipt.user == user
        assert server.finished()[0].authenticated == "alice"
        assert auth_commands(server) == [b"AUTH EXTERNAL " + initial]


def test_a_certificate_that_the_server_does_not_know_is_told_so(authority: Authority, tmp_path: Path) -> None:
    """A3: the advice is about certificates."""
    context = authority.server_context("127.0.0.1", client_certificates=True)
    with Server({"AUTH": "535 5.7.8 who?"}, users=USERS, mechanisms=("EXTERNAL",), context=context) as server:
        failure = failure_of(offer(by_certificate(server, authority, tmp_path, "bob")))
    assert failure.advice == "does the server know the certificate of tls.client_cert, and as which user?"


@pytest.mark.row("T4")
@pytest.mark.parametrize("policy", ["none", "if-offered"])
def test_external_goes_over_verified_tls_only(policy: str, authority: Authority, tmp_path: Path) -> None:
    """C1: whoever stands between could say it as well; allow_plaintext is for passwords."""
    with Server(users=USERS, mechanisms=("EXTERNAL",)) as server:
        host = by_certificate(server, authority, tmp_path, policy=policy)
        failure = failure_of(offer(host._replace(auth=host.auth._replace(allow_plaintext=True))))
        assert failure.what == "the connection is not protected (TLS: none)"
        assert auth_commands(server) == []


def test_external_is_not_offered() -> None:
    """C1: a client certificate alone is a login too, which the server has to take."""
    with Server(users=USERS) as server:
        auth = Auth("", (), ("EXTERNAL",), True)
        failure = failure_of(offer(smart_host(server, policy="none", client_cert="/client.pem", auth=auth)))
        assert failure.what == "the server offers AUTH PLAIN LOGIN, but not EXTERNAL"
