"""TLS by policy and scheme, against servers that have it, have it wrong, or have it not."""

from __future__ import annotations

import ssl
import time
from pathlib import Path
from typing import Any

import pytest

from muawrap.failure import REFUSED, TRY_AGAIN, Failure, Stage
from muawrap.mail import Receipt
from muawrap.submission import certificate, smarthosts
from muawrap.submission.connection import Connection
from muawrap.submission.deliver import deliver
from muawrap.submission.opening import Opening
from muawrap.submission.ready import ready
from tests.submission.offering import ANY_SIZE, BIG, Heard, failure_of, login, offer, smart_host
from tests.support.canary import CANARY
from tests.support.certificates import Authority, issue
from tests.support.lmtp_server import LmtpServer
from tests.support.program import Program
from tests.support.server import Action, Drop, Raw, Reset, Script, Server, Silence, Then, Wait

PINNED = "tls.fingerprint wants TLS, whatever tls.policy says"
BROKEN: Script = {"handshake": Heard(Raw(b"this is not TLS\r\n"))}


@pytest.fixture
def ca_file(authority: Authority, tmp_path: Path) -> Path:
    return authority.ca_file(tmp_path / "ca.pem")


def test_another_name_can_be_verified(authority: Authority, ca_file: Path) -> None:
    """C1: tls.server_name is the name the certificate must be good for."""
    with Server(context=authority.server_context("mail.example")) as server:
        host = smart_host(server, "submission", ca_file=ca_file)
        assert "mismatch" in failure_of(offer(host)).what
        assert deliver(offer(smart_host(server, "submission", ca_file=ca_file, server_name="mail.example"))).host


@pytest.mark.parametrize(
    "written", ["2001:DB8::1", "[2001:db8:0:0::1]", "[IPv6:2001:db8::1]", "[192.0.2.1]", "192.0.2.1"]
)
def test_an_address_can_be_verified_in_place_of_a_name(written: str, authority: Authority, program: Program) -> None:
    """muawrap.toml(5), server_name: an address of the certificate, however it is written; and no other."""
    with (
        Server(context=authority.server_context("2001:db8::1", "192.0.2.1")) as good,
        Server(context=authority.server_context("2001:db8::2", "192.0.2.2")) as bad,
    ):
        for server, status in (good, 0), (bad, 1):
            program.configure(
                f'smart_hosts = ["submission://127.0.0.1:{server.port}"]\nfrom = "me@client.example"\n'
                f'[tls]\nca_file = "{authority.ca_file(program.folder / "ca.pem")}"\nserver_name = "{written}"\n'
            )
            done = program.run("you@example.net", stdin=b"\nx\n")
            assert done.status == status, done.err
        assert "mismatch" in done.sentence


@pytest.mark.row("T3")
def test_an_old_version_is_refused(authority: Authority, ca_file: Path) -> None:
    """C1: tls.min_version."""
    versions = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2)
    with Server(context=authority.server_context(versions=versions)) as server:
        assert deliver(offer(smart_host(server, "submission", ca_file=ca_file))).tls == "TLSv1.2"
        failure = failure_of(offer(smart_host(server, "submission", ca_file=ca_file, min_version="1.3")))
        assert failure.stage is Stage.TLS


@pytest.mark.parametrize("script", [{}, {"STARTTLS": "454 4.7.0 not now"}], ids=["not offered", "refused"])
@pytest.mark.parametrize(
    ("scheme", "fields", "advice"),
    [
        ("submission", {}, "submissions:// is TLS at once; tls.policy decides"),
        ("smtp", {"fingerprint": ("0" * 64,)}, "submissions:// is TLS at once; " + PINNED),
        ("submission", {"fingerprint": ("0" * 64,)}, "submissions:// is TLS at once; " + PINNED),
    ],
)
def test_a_server_without_tls_is_told_with_the_key_that_wants_it(
    script: Script, scheme: str, fields: dict[str, Any], advice: str, authority: Authority
) -> None:
    """A3: with a fingerprint tls.policy decides nothing."""
    with Server(script, context=authority.server_context() if script else None) as server:
        failure = failure_of(offer(smart_host(server, scheme, **fields)))
        assert (failure.stage, failure.advice) == (Stage.STARTTLS, advice)


# -- which scheme to use


def test_a_server_without_tls_at_once_says_which_scheme_to_use() -> None:
    """A3: a sentence one can act on."""
    with Server() as server:
        failure = failure_of(offer(smart_host(server, "submissions")))
        assert failure.sentence() == (
            f"127.0.0.1:{server.port}: the server does not speak TLS at once while setting up TLS"
        )
        assert "submission://" in failure.advice


def test_a_server_that_waits_for_tls_says_which_scheme_to_use(authority: Authority) -> None:
    """A3: both wait for the other to begin."""
    with Server(context=authority.server_context(), implicit_tls=True) as server:
        host = smart_host(server, "submission")
        host = host._replace(timeouts=host.timeouts._replace(greeting=0.3))
        failure = failure_of(offer(host))
        assert failure.stage is Stage.GREETING
        assert "submissions://" in failure.advice


@pytest.mark.parametrize("seconds", [0.05, 5])
def test_a_silent_lmtp_server_is_not_sent_to_submissions(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A3: no scheme is LMTP with TLS at once, so that nothing is asked by a second connection either."""
    monkeypatch.setattr("muawrap.submission.connection.SILENCE", seconds)
    with LmtpServer({"greeting": Silence()}) as server:
        host = smart_host(server, "lmtp")
        failure = failure_of(offer(host._replace(timeouts=host.timeouts._replace(greeting=0.3))))
        assert (failure.stage, failure.what, failure.advice) == (Stage.GREETING, "timed out", "")
        assert len(server.finished()) == 1


# -- STARTTLS


@pytest.mark.row("T1")
@pytest.mark.parametrize("more", [b"250 somebody else's words\r\n", b"2", b"\0", b"\r\n"])
@pytest.mark.parametrize("policy", ["required", "if-offered"])
def test_more_than_the_reply_to_starttls_is_refused(
    more: bytes, policy: str, authority: Authority, ca_file: Path
) -> None:
    """C1: words put in before TLS must not be read as said within it; the next host gets the message."""
    with (
        Server({"STARTTLS": b"220 go ahead\r\n" + more}, context=authority.server_context()) as injected,
        Server(context=authority.server_context()) as other,
    ):
        hosts = [smart_host(server, policy=policy, ca_file=ca_file) for server in (injected, other)]
        receipt = deliver(offer(*hosts))
        assert "more than the reply to STARTTLS" in receipt.degraded[0]
        [session] = injected.finished()
        assert session.commands[:2] == [b"EHLO client.example", b"STARTTLS"]
        assert not session.messages
        assert len(other.accepted) == 1


@pytest.mark.row("T1")
def test_capabilities_told_in_the_clear_are_forgotten(authority: Authority, ca_file: Path) -> None:
    """C1: RFC 3207, 4.2: what was said before TLS could be anybody's."""
    clear = "250-server.example\n250-STARTTLS\n250-SIZE 10\n250-DSN\n250 AUTH CRAM-MD5"
    script = {"EHLO 1": clear, "EHLO 2": "250-server.example\n250 AUTH PLAIN"}
    context = authority.server_context()
    with Server(script, context=context, users={"alice": "s3cret"}) as server:
        host = smart_host(server, "submission", ca_file=ca_file, auth=login())
        receipt = deliver(offer(host, notify="NEVER", returns="HDRS"))
        assert receipt.user == "alice"
        [message] = server.accepted
        assert (message.mail_parameters, message.rcpt_parameters) == (b"", [b""])
        [session] = server.finished()
        assert [command[:4] for command in session.commands[:3]] == [b"EHLO", b"STAR", b"EHLO"]


@pytest.mark.row("T2")
@pytest.mark.parametrize("reply", ["454 not now", "501 no", "220-go\n221 go", "250 fine", "garbage"])
def test_a_refused_starttls_is_the_hosts_failure_where_tls_is_required(
    reply: str, authority: Authority, ca_file: Path
) -> None:
    """C1: no way around it."""
    with Server({"STARTTLS": reply}, context=authority.server_context()) as server:
        failure = failure_of(offer(smart_host(server, "submission", ca_file=ca_file)))
        assert failure.stage is Stage.STARTTLS
        assert failure.lead == (REFUSED if reply.startswith("501") else TRY_AGAIN)
        assert server.messages == []


@pytest.mark.parametrize("reply", ["454 not now", "501 no"])
def test_a_refused_starttls_goes_on_in_the_clear_where_tls_is_optional(
    reply: str, authority: Authority, ca_file: Path
) -> None:
    """C1: offered and refused is not offered."""
    with Server({"STARTTLS": reply}, context=authority.server_context()) as server:
        assert deliver(offer(smart_host(server, ca_file=ca_file))).tls == "none"
        assert len(server.finished()) == 1


def test_a_421_to_starttls_is_the_hosts_failure(authority: Authority) -> None:
    """C1: a server that leaves will not take MAIL either."""
    with Server({"STARTTLS": Then("421 bye", Drop())}, context=authority.server_context()) as server:
        failure = failure_of(offer(smart_host(server)))
        assert (failure.stage, failure.reply and failure.reply.code) == (Stage.STARTTLS, 421)


@pytest.mark.row("S3")
@pytest.mark.parametrize("scheme", ["submission", "submissions"])
def test_a_handshake_has_one_deadline(scheme: str, authority: Authority) -> None:
    """C1: timeouts.connect covers it."""
    server = Server({"handshake": Silence()}, context=authority.server_context(), implicit_tls=scheme == "submissions")
    with server:
        host = smart_host(server, scheme)
        host = host._replace(timeouts=host.timeouts._replace(connect=0.4))
        failure = failure_of(offer(host))
        assert (failure.stage, failure.what, failure.lead) == (Stage.TLS, "timed out", TRY_AGAIN)


def test_a_connection_that_is_gone_is_no_handshake(authority: Authority) -> None:
    """C1: Python skips the handshake of a socket that was reset; nothing must then pass for TLS."""
    with Server({"NOOP": Reset()}, context=authority.server_context()) as server:
        connection = Connection(smart_host(server), "client.example")
        connection.connect()
        connection.say("NOOP")
        server.finished()
        with pytest.raises(Failure, match="lost the connection") as caught:
            connection.handshake()
        assert (caught.value.stage, connection.verified, connection.tls_name) == (Stage.TLS, False, "none")
        assert connection.sock is None


def test_a_name_that_no_certificate_could_have_is_a_refusal(authority: Authority) -> None:
    """C7: one sentence, no traceback."""
    with Server(context=authority.server_context()) as server:
        failure = failure_of(offer(smart_host(server, "submission", server_name=".")))
        assert (failure.stage, failure.lead) == (Stage.TLS, REFUSED)


def test_no_command_follows_a_broken_handshake(authority: Authority, ca_file: Path) -> None:
    """C1: QUIT would go out in the clear, into somebody's half of TLS."""
    with Server(BROKEN, context=authority.server_context()) as server:
        failure_of(offer(smart_host(server, "submission", ca_file=ca_file)))
        [session] = server.finished()
        assert b"QUIT" not in session.raw


# -- the dialogue within TLS


@pytest.mark.parametrize("scheme", ["submission", "submissions"])
def test_a_large_message_arrives_whole_within_tls(scheme: str, authority: Authority, ca_file: Path) -> None:
    """B1: many records, one message."""
    text = b"".join(b".%d some text\n" % number for number in range(100_000))
    with Server(context=authority.server_context(), implicit_tls=scheme == "submissions") as server:
        deliver(offer(smart_host(server, scheme, ca_file=ca_file), text=text))
        [message] = server.accepted
        assert message.text.partition(b"\r\n\r\n")[2] == text.replace(b"\n", b"\r\n")


@pytest.mark.row("T9")
@pytest.mark.parametrize("action", [Drop(), Reset(), Then(b"250 tak", Drop()), Then(b"250-taken\r\n", Reset())])
def test_a_verdict_cut_off_within_tls_is_uncertain(action: Any, authority: Authority, ca_file: Path) -> None:
    """C3: an end without close_notify is no verdict."""
    with Server({"dot": action}, context=authority.server_context()) as server:
        failure = failure_of(offer(smart_host(server, "submission", ca_file=ca_file)))
        assert (failure.lead, failure.stage) == ("may have been sent", Stage.VERDICT)


@pytest.mark.row("S10")
def test_a_reply_that_waits_before_the_dot_is_seen_within_tls(authority: Authority, ca_file: Path) -> None:
    """C3: decrypted or not yet, it is read before the end of the message leaves."""
    for reply in (b"354 go ahead\r\n552 changed my mind\r\n", b"354 go ahead\r\n552-changed\r\n552 my mind\r\n"):
        with Server({"DATA": reply}, context=authority.server_context()) as server:
            failure = failure_of(offer(smart_host(server, "submission", ca_file=ca_file)))
            assert (failure.lead, failure.stage) == (REFUSED, Stage.TEXT)
            [session] = server.finished()
            assert not session.raw.endswith(b"\r\n.\r\n")


@pytest.mark.parametrize("action", [Drop(), Reset(), Silence(reading=False)])
def test_last_words_within_tls_are_heard(action: Action, authority: Authority, ca_file: Path) -> None:
    """C2: a server that refuses a large text and leaves has given its verdict."""
    script: Script = {"text": Then("552 5.3.4 too big", action)}
    with Server(script, context=authority.server_context(), extensions=ANY_SIZE) as server:
        host = smart_host(server, "submission", ca_file=ca_file)
        host = host._replace(timeouts=host.timeouts._replace(data=0.5))
        failure = failure_of(offer(host, text=b"y" * BIG + b"\n"))
        assert (failure.lead, failure.stage) == (REFUSED, Stage.TEXT)


def test_session_tickets_are_no_reply(authority: Authority, ca_file: Path) -> None:
    """C3: octets of TLS's own make the socket readable, and nothing is waiting."""
    with Server({"DATA": Then(Wait(0.05), "354 go")}, context=authority.server_context()) as server:
        assert deliver(offer(smart_host(server, "submission", ca_file=ca_file))).reply == "250 2.0.0 taken"


def test_a_receipt_says_what_was_reached() -> None:
    """A1: the log tells host, TLS, user, size and words."""
    with Server() as server:
        receipt = deliver(offer(smart_host(server)))
        assert isinstance(receipt, Receipt)
        assert receipt.host == f"127.0.0.1:{server.port}"
        assert (receipt.tls, receipt.user, receipt.degraded) == ("none", "", ())
        assert receipt.size == len(server.accepted[0].text)


def test_a_failed_reconnect_tells_what_failed_before_it(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    """C6: the host had been connected, so that no second round is due, and TLS was the trouble."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    with Server(BROKEN, context=authority.server_context()) as server:
        host = smart_host(server)
        real = smarthosts.addresses
        ports = iter([server.port, closed_port])
        monkeypatch.setattr(smarthosts, "addresses", lambda host: real(host._replace(port=next(ports))))
        failure = failure_of(offer(host, dial_delay=1))
        assert failure.stage is Stage.TLS
        assert isinstance(failure.__cause__, Failure)
        assert slept == []


# -- verify = false


@pytest.mark.parametrize("scheme", ["submission", "submissions"])
def test_where_any_certificate_will_do_every_line_says_so(scheme: str, program: Program) -> None:
    """C1: encrypted, and no more than that; the line of a failure says it as the log does."""
    context = issue("other.example", age=9).served()
    with Server([{}, {"MAIL": "550 no"}], context=context, implicit_tls=scheme == "submissions") as server:
        program.configure(
            program.smart_hosts(f"{scheme}://127.0.0.1:{server.port}")
            + f'from = "me@client.example"\nlog = "{program.log_file}"\n[tls]\nverify = false\n'
        )
        assert program.run("you@example.net", stdin=b"Subject: hello\n\n").status == 0
        assert program.run("you@example.net", stdin=b"Subject: hello\n\n").status == 1
        sent, failed = program.log.splitlines()
    assert f'host="127.0.0.1:{server.port} (verify = false)" tls="TLSv1.3 unverified"' in sent
    assert f"127.0.0.1:{server.port} (verify = false) refused the sender: 550 no" in failed


@pytest.mark.row("T4")
@pytest.mark.parametrize("allowed", [False, True])
@pytest.mark.parametrize("policy", ["required", "if-offered"])
def test_a_password_needs_more_than_any_certificate(policy: str, allowed: bool) -> None:
    """C1: whoever switches verification off has to allow AUTH in so many words."""
    with Server(context=issue("127.0.0.1").served(), users={"alice": CANARY}) as server:
        auth = login(allow_plaintext=allowed)
        transaction = offer(smart_host(server, "submission", policy=policy, verify=False, auth=auth))
        if allowed:
            receipt = deliver(transaction)
            assert (receipt.tls, receipt.user) == ("TLSv1.3 unverified", "alice")
        else:
            failure = failure_of(transaction)
            assert (failure.stage, failure.what) == (
                Stage.AUTH,
                "the connection is not protected (TLS: TLSv1.3 unverified)",
            )
            assert b"AUTH" not in server.finished()[0].raw


# -- the facts


@pytest.mark.parametrize("how", ["chain", "pin", "nothing"])
def test_the_facts_of_a_connection(how: str, tmp_path: Path) -> None:
    """A3: version, cipher, whom the certificate is for, and for how long, and what has vouched for it."""
    root = issue(common_name="Trusted Root", ca=True)
    middle = issue(by=root, common_name="Middle", ca=True)
    shown = issue("127.0.0.1", "mail.example", by=middle, lasts=31, age=1)._replace(behind=(middle,))
    fields: dict[str, Any] = {"verify": how != "nothing", "ca_file": root.file(tmp_path / "ca.pem")}
    if how == "pin":
        fields["fingerprint"] = (shown.pins[1],)
    with Server(context=shown.served(), implicit_tls=True) as server:
        connection = ready(Opening(smart_host(server, "submissions", **fields)), "client.example", None)
        facts = certificate.facts(connection.sock, connection.smart_host, connection.verified)
        connection.leave()
    assert facts is not None
    assert facts.cipher.startswith("TLS_")
    assert facts == certificate.Facts(
        "TLSv1.3",
        facts.cipher,
        "127.0.0.1, mail.example",
        "Middle",
        29,
        {"chain": "chain to Trusted Root", "pin": "pinned", "nothing": "unverified"}[how],
        shown.pins[0],
    )


def test_a_connection_in_the_clear_has_no_facts() -> None:
    """A3: None, and no guess."""
    with Server() as server:
        connection = ready(Opening(smart_host(server)), "client.example", None)
        assert certificate.facts(connection.sock, connection.smart_host, connection.verified) is None
        connection.leave()
