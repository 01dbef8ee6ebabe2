"""Replies people meet, and the advice they get: one table, tried row by row and through whole dialogues."""

from __future__ import annotations

import re
import sys

import pytest

from muawrap import schema
from muawrap.failure import REFUSED, TRY_AGAIN, Stage
from muawrap.mail import Reply
from muawrap.submission import advice
from tests.submission.offering import failure_of, login, offer, smart_host
from tests.support.certificates import Authority
from tests.support.server import Server

APPLICATION = "application password"


def reply(text: str) -> Reply:
    """A reply from its lines: "535-5.7.8 no" or "535 5.7.8 no"."""
    lines = text.split("\n")
    return Reply(int(lines[0][:3]), tuple(line[4:] for line in lines))


# -- the table


@pytest.mark.parametrize("row", advice.ROWS, ids=lambda row: row.examples[0][:30])
def test_an_example_meets_its_own_row_first(row: advice.Row) -> None:
    """A3: no row stands in the shadow of another, wherever it may be said."""
    stages = row.stages or (Stage.GREETING, Stage.MAIL, Stage.RCPT, Stage.VERDICT)  # others have rows of their own
    for said, stage in ((reply(example), stage) for example in row.examples for stage in stages):
        assert next(other for other in advice.ROWS if other.matches(stage, said)) is row


@pytest.mark.parametrize("row", advice.ROWS, ids=lambda row: row.examples[0][:30])
def test_advice_is_one_short_clause(row: advice.Row) -> None:
    """A3: it stands in brackets on the one line there is."""
    assert re.fullmatch(r"[ -~]{20,110}", row.advice)
    assert not row.advice.endswith(".")
    assert row.advice[0].islower()
    assert row.cause.endswith(".")


def test_the_keys_that_are_named_exist() -> None:
    """muawrap.toml(5) knows what the advice speaks of."""
    tables = {"auth": schema.AUTH, "tls": schema.TLS}
    named = [key for row in advice.ROWS for key in re.findall(r"\b(auth|tls)\.(\w+)", row.advice)]
    assert named
    assert not [key for key in named if key[1] not in tables[key[0]]]
    words = {word for row in advice.ROWS for word in re.findall(r"\b(?:set|in) ([a-z]+_?[a-z]*) to\b", row.advice)}
    assert words == {"hostname", "from"}
    assert words <= set(schema.TOP)


@pytest.mark.parametrize(
    ("stage", "said", "words"),
    [
        (
            Stage.AUTH,
            "535-5.7.8 Username and Password not accepted.\n535 5.7.8  https://support.google.com/ - gsmtp",
            "Gmail takes no other",
        ),
        (Stage.AUTH, "534-5.7.9 Application-specific password required.\n534 5.7.9 - gsmtp", APPLICATION),
        (Stage.AUTH, "534-5.7.14 <https://accounts.google.com/signin> Please log in via your web browser", APPLICATION),
        (
            Stage.AUTH,
            "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox.",
            "administrator must enable",
        ),
        (
            Stage.AUTH,
            "535 5.7.139 Authentication unsuccessful, user is locked by your organization's security defaults policy.",
            "ask the administrator",
        ),
        (Stage.AUTH, "535 5.7.3 Authentication unsuccessful", "auth.user and auth.password"),
        (Stage.AUTH, "535 Incorrect authentication data", "auth.user and auth.password"),
        (Stage.AUTH, "530 5.7.0 Must issue a STARTTLS command first", "submission://"),
        (Stage.AUTH, "454 4.7.0 Temporary authentication failure: Connection lost", "wait"),
        (Stage.MAIL, "530 5.7.0 Must issue a STARTTLS command first. gsmtp", "submission://"),
        (Stage.MAIL, "530-5.7.0 Authentication Required. For more information, go to", "set auth.user"),
        (Stage.MAIL, "550 5.7.60 SMTP; Client does not have permissions to send as this sender", "set from"),
        (Stage.VERDICT, "554 5.2.252 SendAsDenied; a@example.org not allowed to send as b@example.org", "set from"),
        (Stage.RCPT, "553 5.7.1 <b@example.org>: Sender address rejected: not owned by user a", "set from"),
        (Stage.RCPT, "553 5.7.1 <b@example.org>: Sender address rejected: not logged in", "set auth.user"),
        (Stage.RCPT, "454 4.7.1 <you@example.net>: Relay access denied", "set auth.user"),
        (Stage.RCPT, "550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain", "set auth.user"),
        (
            Stage.RCPT,
            "450 4.2.0 <you@example.net>: Recipient address rejected: Greylisted, see http://x",
            "greylisting",
        ),
        (Stage.RCPT, "451 4.7.1 Try again later", "few minutes"),
        (Stage.RCPT, "550-5.1.1 The email account that you tried to reach does not exist.", "sendmail -bv"),
        (Stage.RCPT, "550 5.1.10 RESOLVER.ADR.RecipientNotFound; not found", "sendmail -bv"),
        (Stage.RCPT, "452 4.2.2 Mailbox full", "make room"),
        (Stage.VERDICT, "552 5.3.4 Error: message file too big", "higher limit"),
        (Stage.VERDICT, "552 5.2.2 <you@example.net>: quota exceeded", "make room"),
        (Stage.GREETING, "421 4.7.0 Too many connections from your host", "send less"),
        (Stage.GREETING, "554 no SMTP service here", "block"),
        (Stage.EHLO, "550 5.7.1 Invalid HELO name", "hostname"),
        (Stage.RCPT, "450 4.7.1 <laptop>: Helo command rejected: Host not found", "hostname"),
    ],
)
def test_what_providers_say_is_understood(stage: Stage, said: str, words: str) -> None:
    """A3: as Gmail, Exchange Online, Postfix and Exim word it."""
    assert words in advice.for_reply(stage, reply(said))


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        (Stage.MAIL, "250 2.1.0 ok"),
        (Stage.VERDICT, "550 5.7.1 no"),
        (Stage.VERDICT, "554 transaction failed"),
        (Stage.RCPT, "450 busy"),
        (Stage.RCPT, "550 5.1.15 no"),  # which is not 5.1.1
        (Stage.RCPT, "550 client 192.5.2.2 says no"),  # which is not 5.2.2
        (Stage.EHLO, "502 5.5.1 not implemented"),
        (Stage.GREETING, "421 bye"),
    ],
)
def test_no_advice_is_better_than_a_wrong_one(stage: Stage, said: str) -> None:
    """A3."""
    assert advice.for_reply(stage, reply(said)) == ""


# -- through the dialogue


DIALOGUES = [
    # what the server does -> lead, stage, words of the advice
    ({"greeting": "554 5.7.1 blocked"}, REFUSED, Stage.GREETING, "block"),
    ({"MAIL": "530 5.7.57 Client not authenticated to send mail."}, REFUSED, Stage.MAIL, "auth.user"),
    ({"RCPT": "451 4.7.1 Greylisting in action"}, TRY_AGAIN, Stage.RCPT, "greylisting"),
    ({"RCPT": "554 5.7.1 Relay access denied"}, REFUSED, Stage.RCPT, "auth.user"),
    ({"DATA": "554 5.7.60 may not send as this sender"}, REFUSED, Stage.DATA, "set from"),
    ({"dot": "552 5.3.4 too big"}, REFUSED, Stage.VERDICT, "higher limit"),
    ({"dot": "452 4.3.1 Insufficient system storage"}, TRY_AGAIN, Stage.VERDICT, "smart_hosts"),
]


@pytest.mark.parametrize(("script", "lead", "stage", "words"), DIALOGUES)
def test_the_failure_carries_the_advice(script: dict[str, str], lead: str, stage: Stage, words: str) -> None:
    """A3: wherever the host says it, after the end of the message too."""
    with Server(script) as server:
        failure = failure_of(offer(smart_host(server)))
        assert (failure.lead, failure.stage) == (lead, stage)
        assert words in failure.advice


def test_a_refused_login_carries_the_advice(authority: Authority) -> None:
    """A3: and a server that repeats the password in its reply does not spoil it."""
    said = "535-5.7.8 Username and Password gsmtp\n535 5.7.8 not accepted. gsmtp"
    with Server({"AUTH": said}, context=authority.server_context(), users={"alice": "gsmtp"}) as server:
        host = smart_host(server, "smtp", auth=login("gsmtp", allow_plaintext=True))
        failure = failure_of(offer(host))
        assert failure.stage is Stage.AUTH
        assert "gsmtp" not in failure.sentence()
        assert APPLICATION in failure.advice


def test_of_several_recipients_the_one_refused_for_good_gives_the_advice() -> None:
    """A7: one advice for one line."""
    with Server({"RCPT 1": "451 4.7.1 Greylisting in action", "RCPT 2": "550 5.1.1 no such user"}) as server:
        failure = failure_of(offer(smart_host(server), to=("a@example.net", "b@example.net")))
        assert "sendmail -bv" in failure.advice


def test_of_several_hosts_the_first_with_the_lead_gives_the_advice() -> None:
    """C7: one line with each host's own reason, and one advice."""
    with (
        Server({"greeting": "554 5.7.1 blocked"}) as one,
        Server({"greeting": "421 4.7.0 too many connections"}) as two,
    ):
        failure = failure_of(offer(smart_host(one), smart_host(two)))
        assert failure.lead == TRY_AGAIN
        assert failure.advice.startswith("wait some minutes")


def test_a_verdict_stands_where_its_advice_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """A5: the table is loaded late, and by then there may be no descriptor left to load it with."""
    monkeypatch.setitem(sys.modules, "muawrap.submission.advice", None)
    monkeypatch.delattr("muawrap.submission.advice")
    with Server({"dot": "550 5.1.1 no such user"}) as server:
        failure = failure_of(offer(smart_host(server)))
        assert (failure.lead, failure.stage, failure.advice) == (REFUSED, Stage.VERDICT, "")
