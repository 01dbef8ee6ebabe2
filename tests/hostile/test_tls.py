"""Servers, and people between, that want a password or a message without proving who they are."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from muawrap.failure import REFUSED, TRY_AGAIN, UNCERTAIN, Stage
from muawrap.submission.deliver import deliver
from tests.submission.offering import failure_of, login, offer, smart_host
from tests.support.canary import CANARY, assert_silent
from tests.support.certificates import Authority, issue
from tests.support.program import Program
from tests.support.server import Drop, Reset, Server, Session, Then

NAME = "mail.client.example"
USERS = {"alice": CANARY}


def nothing_told(session: Session) -> None:
    """Neither the password in any form, nor the message, nor for whom it is."""
    assert_silent(bytes(session.raw))
    assert not [word for word in (b"AUTH", b"MAIL", b"Hello.") if word in session.raw]


@pytest.mark.row("T3", "T4")
@pytest.mark.parametrize("scheme", ["submission", "submissions"])
@pytest.mark.parametrize("ca_file", ["the machine's", "another's"])
def test_a_self_signed_certificate_is_refused(ca_file: str, scheme: str, authority: Authority, tmp_path: Path) -> None:
    """C1: by whoever is trusted otherwise."""
    known: dict[str, Any] = {"ca_file": authority.ca_file(tmp_path / "other.pem")} if ca_file != "the machine's" else {}
    context = issue("127.0.0.1").served()
    with Server(context=context, implicit_tls=scheme == "submissions", users=USERS) as server:
        failure = failure_of(offer(smart_host(server, scheme, auth=login(), **known)))
        assert (failure.stage, failure.lead) == (Stage.TLS, REFUSED)
        assert "self-signed" in failure.what.replace("self signed", "self-signed")
        nothing_told(server.finished()[0])


@pytest.mark.row("T3")
def test_tls_below_1_2_is_refused(authority: Authority, tmp_path: Path) -> None:
    """C1: whatever the server would like."""
    served = authority.server_context()
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        served.minimum_version, served.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    served.set_ciphers("ALL:@SECLEVEL=0")
    with Server(context=served, users=USERS) as server:
        ca_file = authority.ca_file(tmp_path / "ca.pem")
        failure = failure_of(offer(smart_host(server, "submission", ca_file=ca_file, auth=login())))
        assert failure.stage is Stage.TLS
        nothing_told(server.finished()[0])


# -- STARTTLS


@pytest.mark.row("T1")
@pytest.mark.parametrize(
    "more",
    [
        b"250-server.example\r\n250 AUTH PLAIN\r\n",  # the answer to an EHLO that has not been said
        b"235 2.7.0 welcome\r\n250 fine\r\n250 fine\r\n354 go\r\n250 taken\r\n",  # a whole dialogue
        b"\x16\x03\x03\x00\x02\x00\x00",  # what looks like TLS
    ],
)
def test_words_put_in_before_tls_are_never_read_within_it(more: bytes, authority: Authority, tmp_path: Path) -> None:
    """C1: CVE-2011-0411 and CVE-2021-38371."""
    ca_file = authority.ca_file(tmp_path / "ca.pem")
    with Server({"STARTTLS": b"220 go ahead\r\n" + more}, context=authority.server_context(), users=USERS) as server:
        failure = failure_of(offer(smart_host(server, "submission", ca_file=ca_file, auth=login())))
        assert (failure.stage, failure.lead) == (Stage.STARTTLS, TRY_AGAIN)
        assert "more than the reply to STARTTLS" in failure.what
        [session] = server.finished()
        assert not session.tls
        nothing_told(session)


@pytest.mark.row("T1")
@pytest.mark.parametrize("reply", [b"220-go\r\n220 ahead\r\n", b"220 go ahead\n"])
def test_a_220_in_another_form_is_a_220(reply: bytes, authority: Authority, tmp_path: Path) -> None:
    """C1: neither its lines nor its line end are "more"."""
    with Server({"STARTTLS": reply}, context=authority.server_context()) as server:
        host = smart_host(server, "submission", ca_file=authority.ca_file(tmp_path / "ca.pem"))
        assert deliver(offer(host)).tls == "TLSv1.3"


STRIPPED = {
    "not offered": {"EHLO": "250-server.example\n250 AUTH PLAIN LOGIN"},
    "454": {"STARTTLS": "454 4.7.0 TLS not available"},
    "501": {"STARTTLS": "501 5.5.4 no"},
    "502": {"STARTTLS": "502 5.5.1 what?"},
    "250": {"STARTTLS": "250 2.0.0 fine"},
    "closed": {"STARTTLS": Drop()},
    "reset": {"STARTTLS": Reset()},
    "HELO only": {"EHLO": "502 5.5.1 what?"},
    "EHLO refused": {"EHLO": "550 5.7.1 no"},
    "EHLO refused, and closed": {"EHLO": Then("421 4.7.0 no", Drop())},
    "only the word": {"EHLO": "250-server.example\n250 XSTARTTLS"},
    "in the greeting line": {"EHLO": "250 STARTTLS"},
    "closed in the handshake": {"handshake": Drop()},
    "clear text for a handshake": {"handshake": b"250 server.example\r\n235 welcome\r\n250 fine\r\n"},
}


@pytest.mark.row("T2", "T4")
@pytest.mark.parametrize("policy", ["required", "if-offered"])
@pytest.mark.parametrize("script", STRIPPED.values(), ids=STRIPPED.keys())
def test_where_tls_is_stripped_no_password_and_no_message_go(
    script: dict[str, Any], policy: str, authority: Authority, tmp_path: Path
) -> None:
    """C1: required TLS is reached or the host has failed; and a password needs it whatever the policy says."""
    ca_file = authority.ca_file(tmp_path / "ca.pem")
    with Server(script, context=authority.server_context(), users=USERS) as server:
        auth: dict[str, Any] = {} if policy == "required" else {"auth": login()}
        failure = failure_of(offer(smart_host(server, "submission", policy=policy, ca_file=ca_file, **auth)))
        assert failure.stage in (Stage.EHLO, Stage.STARTTLS, Stage.TLS, Stage.AUTH)
        for session in server.finished():
            assert not session.tls
            nothing_told(session)


@pytest.mark.row("T1", "T4")
def test_auth_that_is_offered_in_the_clear_alone_is_not_used(authority: Authority, tmp_path: Path) -> None:
    """C1: what was offered before TLS has been forgotten."""
    script = {"EHLO 1": "250-server.example\n250-STARTTLS\n250 AUTH PLAIN", "EHLO 2": "250 server.example"}
    with Server(script, context=authority.server_context(), users=USERS) as server:
        ca_file = authority.ca_file(tmp_path / "ca.pem")
        failure = failure_of(offer(smart_host(server, "submission", ca_file=ca_file, auth=login())))
        assert (failure.stage, failure.what) == (Stage.AUTH, "the server offers no AUTH")
        [session] = server.finished()
        assert session.tls
        nothing_told(session)


# -- truncation


@pytest.mark.row("T9")
@pytest.mark.parametrize("scheme", ["submission", "submissions"])
@pytest.mark.parametrize("end", [Drop(), Reset()], ids=["FIN", "RST"])
@pytest.mark.parametrize(
    ("words", "sent"),
    [(b"", False), (b"250 2.0.0 taken", False), (b"250-2.0.0 taken\r\n", False), (b"250 2.0.0 taken\r\n", True)],
)
def test_an_end_without_close_notify_is_no_verdict_and_harms_none(
    words: bytes, sent: bool, end: Drop | Reset, scheme: str, authority: Authority, tmp_path: Path
) -> None:
    """C3, A5: only a complete reply counts, and once it is there nothing else does."""
    server = Server({"dot": Then(words, end)}, context=authority.server_context(), implicit_tls=scheme == "submissions")
    with server:
        host = smart_host(server, scheme, ca_file=authority.ca_file(tmp_path / "ca.pem"))
        if sent:
            assert deliver(offer(host)).reply == "250 2.0.0 taken"
        else:
            assert failure_of(offer(host)).lead == UNCERTAIN


# -- from outside


@pytest.mark.row("T2", "T3")
@pytest.mark.parametrize("kind", ["stripped", "somebody else's certificate"])
def test_whoever_stands_between_gets_one_line_of_failure(kind: str, program: Program, authority: Authority) -> None:
    """A3, C1: by default, without a word in the configuration about TLS."""
    served = None if kind == "stripped" else authority.server_context("mail.other.example")
    with Server(users=USERS, context=served) as server:
        program.configure(
            f'smart_hosts = ["submission://127.0.0.1:{server.port}"]\nfrom = "me@client.example"\n'
            f'[auth]\nuser = "alice"\npassword = "{CANARY}"\n'
        )
        done = program.run("you@example.net", stdin=b"Subject: hello\n\nHello.\n")
        [session] = server.finished()
    assert (done.status, done.out) == (1, b"")
    assert done.sentence.startswith("sendmail: not sent, refused: ")
    nothing_told(session)
