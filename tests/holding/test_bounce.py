"""Who loses a message is told of by a report that programs can read, too, and that never goes round (RFC 3464)."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage
from pathlib import Path

import pytest

from muawrap.holding.held import Addressee, Envelope, Held
from muawrap.holding.shipping import bounce
from muawrap.holding.shipping.bounce import Loss
from muawrap.mail import Body, Reply
from tests.support.server import Server
from tests.support.shipping import Host, host
from tests.support.spool import AT

REFUSED = Loss(Addressee("a@x.example"), "mx:25 refused it: 550 no", "[::1]:25", Reply(550, ("5.1.1 no", "such user")))
EXPIRED = Loss(
    Addressee("b@x.example"), "mx.example:25: connection refused while connecting", "mx.example:25", None, True
)
HEADER = b"Subject: hello\nX: \xe4\n"


def report(*losses: Loss, returns: str = "", sender: str = "me@client.example", now: float = AT + 7200) -> EmailMessage:
    """The report as a program reads it."""
    envelope = Envelope(sender, tuple(loss.addressee for loss in losses), AT, returns=returns, envelope_id="Q+2BQ")
    text = b"".join(bounce.report_text("own.example", Held(envelope, HEADER, Body(b"Hello.\n")), losses, AT, now))
    found = email.message_from_bytes(text, policy=email.policy.default)
    assert isinstance(found, EmailMessage)
    return found


def parts(message: EmailMessage) -> list[EmailMessage]:
    return [part for part in message.iter_parts() if isinstance(part, EmailMessage)]


def fields(message: EmailMessage) -> list[dict[str, str]]:
    """Of the second part: the fields of the message, then those of each recipient."""
    return [dict(block.items()) for block in parts(message)[1].get_payload()]  # type: ignore[union-attr]


def test_it_is_a_delivery_status_notification() -> None:
    """RFC 3464, RFC 3834: three parts, and marked so that nobody answers it."""
    message = report(REFUSED, EXPIRED)
    assert message["From"] == "Mail Delivery System <MAILER-DAEMON@own.example>"
    assert message["To"] == "me@client.example"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["Message-ID"] is not None
    assert message["Date"].datetime.timestamp() == AT + 7200
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert [part.get_content_type() for part in parts(message)] == [
        "text/plain",
        "message/delivery-status",
        "text/rfc822-headers",
    ]
    assert message.defects == []


def test_it_says_in_plain_words_what_happened() -> None:
    """INTERMITTENT 6.5: to whom, after how long, with the last reply."""
    words = parts(report(REFUSED, EXPIRED))[0].get_content()
    assert "This is the mail system of own.example." in words
    assert "  <a@x.example>\n    It was refused, 2 hours after it came:\n    mx:25 refused it: 550 no\n" in words
    assert "  <b@x.example>\n    It could not be delivered in 2 hours; the last try:\n" in words
    assert "connection refused while connecting" in words
    assert "The header of your message is below." in words


def test_a_program_reads_who_and_why() -> None:
    """RFC 3464, 2: one block for the message, one for each recipient."""
    about, first, second = fields(report(REFUSED, EXPIRED))
    assert about["Reporting-MTA"] == "dns; own.example"
    assert about["Original-Envelope-Id"] == "Q+Q"
    assert first["Final-Recipient"] == "rfc822; a@x.example"
    assert (first["Action"], first["Status"]) == ("failed", "5.1.1")
    assert first["Remote-MTA"] == "dns; ::1"
    assert first["Diagnostic-Code"] == "smtp; 550 5.1.1 no such user"
    assert (second["Status"], second["Remote-MTA"]) == ("4.4.7", "dns; mx.example")
    assert "Diagnostic-Code" not in second


def test_the_original_recipient_is_told_decoded() -> None:
    """RFC 3461, 6.3: ORCPT as it was before it was xtext."""
    loss = REFUSED._replace(addressee=Addressee("a@x.example", original="rfc822;b+2Bc@y.example"))
    assert fields(report(loss))[1]["Original-Recipient"] == "rfc822; b+c@y.example"


def test_addresses_beyond_ascii_are_written_in_ascii() -> None:
    """RFC 6533, 3: utf-8-addr-xtext."""
    [_, one] = fields(report(REFUSED._replace(addressee=Addressee("\u00e4@x.example"))))
    assert one["Final-Recipient"] == "utf-8; \\x{E4}@x.example"


@pytest.mark.parametrize(("returns", "whole"), [("", False), ("HDRS", False), ("FULL", True), ("full", True)])
def test_what_comes_back_is_the_header_unless_the_sender_wants_all(returns: str, whole: bool) -> None:
    """RFC 3461, 4.3: RET."""
    last = parts(report(REFUSED, returns=returns))[2]
    assert last.get_content_type() == ("message/rfc822" if whole else "text/rfc822-headers")
    assert ("Hello." in last.as_string()) == whole
    assert "Subject: hello" in last.as_string()


def test_no_words_of_a_host_break_out() -> None:
    """RULES A3: a reply is one line, printable, and not endless."""
    evil = "x\r\n--boundary\n\x1b[2J\u2028" + "y" * 5000
    loss = Loss(Addressee("a\nb@x.example"), evil, f"{evil}:25", Reply(550, (evil,)))
    text = b"".join(bounce.report_text("own.example", Held(Envelope("me@x", ()), b"A: b\n", Body()), [loss], AT, AT))
    assert max(map(len, text.split(b"\n"))) < 998
    assert b"\r" not in text
    assert b"\x1b" not in text
    assert b"\n--boundary" not in text
    assert fields(report(loss))[1]["Action"] == "failed"


@pytest.mark.parametrize(
    ("sender", "notify", "told"),
    [
        ("me@x", "", True),
        ("me@x", "FAILURE", True),
        ("me@x", "SUCCESS,FAILURE,DELAY", True),
        ("me@x", "NEVER", False),
        ("me@x", "SUCCESS", False),
        ("", "", False),
        ("", "FAILURE", False),
    ],
)
def test_who_is_told(sender: str, notify: str, told: bool) -> None:
    """INTERMITTENT 6.5, RFC 3461, 4.1: never the null sender, nor where NOTIFY does not ask for it."""
    loss = REFUSED._replace(addressee=Addressee("a@x.example", notify))
    assert bounce.told(Envelope(sender, (loss.addressee,)), [loss]) == ([loss] if told else [])


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "less than a minute"), (59, "less than a minute"), (60, "1 minute"), (7199, "1 hour"), (432_000, "5 days")],
)
def test_a_time_in_words(seconds: float, words: str) -> None:
    """INTERMITTENT 6.5: after how long."""
    assert bounce.after(seconds) == words


# -- handed over


@pytest.fixture
def refusing(tmp_path: Path) -> Host:
    """A message of which one recipient is refused, and one who does not want to hear of that; it has been shipped."""
    with Server({"RCPT no@x.example": "550 5.1.1 no", "RCPT quiet@x.example": "550 5.1.1 no"}) as server:
        made = host(tmp_path, server)
        made.put("one", "you@x.example", "no@x.example", Addressee("quiet@x.example", "NEVER"))
        assert made.ship().sent == 1
    return made


def test_the_mail_system_gets_it_from_the_null_sender(refusing: Host) -> None:
    """INTERMITTENT 6.5: mta -i -f <> -- SENDER, with nothing of our environment."""
    [told] = refusing.bounces()
    arguments, *rest = told.split("\n")
    environment, _, text = "\n".join(rest).partition("\n\n")
    assert arguments == "-i -f <> -- me@client.example"
    assert {line.partition("=")[0] for line in environment.splitlines()} <= {
        "PATH",
        "LC_ALL",
        "PWD",
        "_",
        "SHLVL",
        "OLDPWD",
    }
    assert "Final-Recipient: rfc822; no@x.example" in text
    assert "quiet" not in text
    assert "Subject: one" in text
    assert refusing.events("bounced")


def test_a_refused_message_is_in_the_archive_once_its_sender_was_told(refusing: Host) -> None:
    """INTERMITTENT 6.0: archived after the program returned 0."""
    [why] = refusing.aside("archive").values()
    assert why["recipients"] == ["no@x.example", "quiet@x.example"]
    assert why["outcome"] == "refused"
    assert refusing.aside("failed") == {}


@pytest.mark.row("H11")
@pytest.mark.parametrize("status", [1, 75, 69])
def test_while_nobody_takes_the_report_the_message_stays(tmp_path: Path, status: int) -> None:
    """INTERMITTENT 6.0: told and archived later, when it works; it is tried at the next run."""
    with Server({"RCPT no@x.example": "550 5.1.1 no"}) as server:
        made = host(tmp_path, server)
        made.put("one", "you@x.example", "no@x.example")
        made.mta_ends_with(status)
        tally = made.ship()
        assert (tally.sent, tally.refused, tally.kept) == (1, 0, 1)
        assert tally.failure is not None
        assert f"ended with status {status}" in tally.failure.sentence()
        assert made.waiting() == {"one": ("no@x.example",)}
        assert made.aside("archive") == {}
        assert made.events("not-bounced")
        made.mta_ends_with(0)
        tally = made.ship(now=True)
        assert (tally.refused, tally.kept) == (1, 0)
    assert len(made.bounces()) == 1
    assert list(made.aside("archive")) == ["one"]


@pytest.mark.row("H11")
@pytest.mark.parametrize(("sender", "notify"), [("", ""), ("me@client.example", "NEVER")])
def test_what_cannot_be_told_is_kept_for_a_human(tmp_path: Path, sender: str, notify: str) -> None:
    """INTERMITTENT 6.0: a bounce of a bounce is none; the message is in failed/."""
    with Server({"RCPT": "550 5.1.1 no"}) as server:
        made = host(tmp_path, server)
        made.put("one", Addressee("no@x.example", notify), sender=sender)
        assert made.ship().refused == 1
    assert made.bounces() == []
    assert list(made.aside("failed")) == ["one"]


def test_batch_smtp_is_written_where_the_mail_system_reads_that(tmp_path: Path) -> None:
    """INTERMITTENT 6.5: where the last word of mta is -bS."""
    with Server({"RCPT": "550 5.1.1 no"}) as server:
        made = host(tmp_path, server)
        made.file.write_text(made.file.read_text().replace('/mta"]', '/mta", "-bS"]'))
        made.config = made.config._replace(mta=(*made.config.mta, "-bS"))
        made.put("one", "no@x.example")
        assert made.ship().refused == 1
    [told] = made.bounces()
    assert told.startswith("-bS\n")
    assert "\n\nMAIL FROM:<>\nRCPT TO:<me@client.example>\nDATA\nFrom: Mail Delivery System" in told
    assert told.endswith("--\n.\n")


def test_a_message_may_be_thrown_away_where_that_is_written_out(tmp_path: Path) -> None:
    """INTERMITTENT 6.5: discard; the log tells."""
    with Server({"RCPT no@x.example": "550 5.1.1 no"}) as server:
        made = host(tmp_path, server, 'on_refuse = "discard"')
        made.put("one", "no@x.example")
        made.put("two", "no@x.example", "you@x.example")
        tally = made.ship()
        assert (tally.refused, tally.sent, tally.kept) == (2, 1, 0)
    assert made.aside("failed") == made.aside("archive") == {}
    assert made.bounces() == []
    assert len(made.events("refused")) == 2
