"""-bs and -bS as a pure dialogue: the same events and replies however the octets arrive, and nothing half said."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muawrap import keeping
from muawrap.failure import REFUSED, TRY_AGAIN, UNCERTAIN, Failure, Stage, together
from muawrap.mail import Body, Header, Invocation, Message, Reply
from muawrap.reading import answers, dialogue
from muawrap.reading import message as reading
from muawrap.reading.dialogue import Declined, Dialogue, Event, Mail, Note, Rcpt, Reset, Text

BATCHES = Path(__file__).parent / "batches"
MEBIBYTE = 1024 * 1024

Verdict = Failure | Reply | str
Judge = Callable[[Event], Verdict]


class Whole(NamedTuple):
    """A text as it was read to its end, and the line it began behind."""

    line: int
    octets: bytes


class Heard(NamedTuple):
    """What became of a dialogue."""

    events: list[Mail | Rcpt | Reset | Note | Declined | Whole]
    replies: bytes
    refused: Reply | None
    failure: str  # that of a batch, or of a text that did not end

    @property
    def codes(self) -> list[int]:
        """The code of each reply."""
        return [int(line[:3]) for line in self.replies.split(b"\r\n") if line[3:4] == b" "]

    @property
    def texts(self) -> list[bytes]:
        return [event.octets for event in self.events if isinstance(event, Whole)]

    @property
    def envelopes(self) -> list[tuple[str, list[str]]]:
        """Sender and recipients of each message begun."""
        found: list[tuple[str, list[str]]] = []
        for event in self.events:
            if isinstance(event, Mail):
                found.append((event.sender, []))
            elif isinstance(event, Rcpt):
                found[-1][1].append(event.address)
        return found

    def last(self, code: int) -> bytes:
        """The last reply, which has this code."""
        reply = self.replies.split(b"\r\n")[-2]
        assert reply.startswith(b"%d " % code), self.replies
        return reply


def taken(_: Event) -> Verdict:
    """Everything is accepted."""
    return ""


def hear(pieces: Iterable[bytes], judge: Judge = taken, *, batch: bool = False, broken: Failure | None = None) -> Heard:
    """Drive a dialogue as the program does."""
    spoken = Dialogue(batch=batch, hostname="client.example", broken=broken)
    replies = bytearray()
    events: list[Mail | Rcpt | Reset | Note | Declined | Whole] = []
    failure = ""

    def octets() -> Iterator[bytes]:
        for piece in pieces:
            replies.extend(spoken.replies())
            yield piece

    try:
        for event in spoken.events(octets()):
            verdict: Verdict
            try:
                events.append(Whole(event.line, b"".join(event)) if isinstance(event, Text) else event)
                verdict = judge(event)
            except Failure as lost:
                if batch:
                    raise
                failure, verdict = str(lost), lost
            if batch or isinstance(event, Reset):
                continue
            if isinstance(verdict, Failure):
                spoken.refuse(verdict)
            elif isinstance(verdict, Reply):
                spoken.answer(verdict)
            else:
                spoken.accept(verdict)
    except Failure as mistake:
        failure = str(mistake)
    replies += spoken.replies()
    return Heard(events, bytes(replies), spoken.refused, failure)


def heard(octets: bytes, judge: Judge = taken, *, batch: bool = False, broken: Failure | None = None) -> Heard:
    """The same for the octets as one piece, one by one, and in two halves with nothing about them."""
    half = len(octets) // 2
    pieces = [octets], [octets[at : at + 1] for at in range(len(octets))], [b"", octets[:half], b"", octets[half:], b""]
    first, *others = (hear(splitting, judge, batch=batch, broken=broken) for splitting in pieces)
    for other in others:
        assert other == first
    return first


def crlf(*lines: str) -> bytes:
    return "".join(line + "\r\n" for line in lines).encode()


BEGUN = ("EHLO me", "MAIL FROM:<a@client.example>", "RCPT TO:<b@example.net>")
WHOLE = (*BEGUN, "DATA", "Subject: hello", "", "..dot", ".")


# -- the dialogue of -bs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_a_message_from_greeting_to_quit(end: bytes) -> None:
    """E8: replies end with CRLF, whatever the caller's lines do; the text has his line ends, and its dots once."""
    done = heard(crlf(*WHOLE, "QUIT").replace(b"\r\n", end), lambda event: "queued" if isinstance(event, Text) else "")
    assert done.replies.decode().split("\r\n") == [
        "220 client.example ESMTP muawrap",
        "250-client.example",
        "250-PIPELINING",
        "250-8BITMIME",
        "250-SIZE",
        "250-SMTPUTF8",
        "250-DSN",
        "250 ENHANCEDSTATUSCODES",
        "250 2.1.0 sender ok",
        "250 2.1.5 recipient ok",
        "354 the text now, and a line with a dot",
        "250 2.0.0 queued",
        "221 2.0.0 goodbye",
        "",
    ]
    text = b"Subject: hello\r\n\r\n.dot\r\n".replace(b"\r\n", end)
    assert done.events == [Mail(2, "a@client.example"), Rcpt(3, "b@example.net"), Whole(4, text)]
    assert done.refused is None


def test_replies_are_ready_before_more_is_asked_for() -> None:
    """E8: a caller who waits is answered; commands in one piece are answered in one piece (RFC 2920)."""
    spoken = Dialogue()
    told = []

    def caller() -> Iterator[bytes]:
        for piece in crlf("EHLO me"), crlf(*BEGUN[1:], "DATA"), crlf("text", "."), crlf("QUIT"):
            told.append([line[:3] for line in spoken.replies().split(b"\r\n") if line[3:4] == b" "])
            yield piece

    for event in spoken.events(caller()):
        if isinstance(event, Text):
            assert list(event) == [b"text\r\n"]
        spoken.accept()
    assert told == [[b"220"], [b"250"], [b"250", b"250", b"354"], [b"250"]]
    assert spoken.replies() == b"221 2.0.0 goodbye\r\n"
    assert spoken.replies() == b""


def test_helo_will_do_and_so_will_neither() -> None:
    """E8: callers by hand do not bother."""
    assert heard(crlf("helo me")).last(250) == b"250 client.example"
    assert heard(crlf(*WHOLE[1:])).texts == [b"Subject: hello\r\n\r\n.dot\r\n"]


def test_a_failure_at_the_start_is_the_greeting() -> None:
    """E8: 554, and nothing is obeyed but QUIT (RFC 5321, 3.1); a caller who does not listen is given up."""
    broken = Failure("no smart host is configured in /etc/x", advice="set smart_hosts")
    done = heard(crlf(*WHOLE[:4], "QUIT"), broken=broken)
    assert done.replies.startswith(b"554 no smart host is configured in /etc/x (set smart_hosts)\r\n503 5.5.1 ")
    assert done.codes == [554, 503, 503, 503, 503, 221]
    assert done.events == []
    assert heard(crlf(*WHOLE[:4], *["text"] * 100), broken=broken).codes == [554, *[503] * 19, 421]


def test_several_messages_and_the_dialogue_goes_on_after_one_that_failed() -> None:
    """E8: each has its own verdict."""

    def judge(event: Event) -> Verdict:
        return Failure("full", lead=TRY_AGAIN) if isinstance(event, Text) and event.line == 4 else ""

    done = heard(crlf(*WHOLE, *WHOLE[1:], "QUIT"), judge)
    assert done.codes == [220, 250, 250, 250, 354, 451, 250, 250, 354, 250, 221]
    assert done.refused == Reply(451, ("4.3.0 full",))


def test_a_reset_after_a_refused_text_says_why() -> None:
    """E8: alpine shows its user the reply to RSET, and no other."""

    def judge(event: Event) -> Verdict:
        return Reply(421, ("4.7.0 come back", "later")) if isinstance(event, Text) else ""

    done = heard(crlf(*WHOLE, "RSET", "RSET", *BEGUN[1:], "RSET", "QUIT"), judge)
    assert done.replies.split(b"\r\n").count(b"250 2.0.0 after 451 4.7.0 come back") == 2
    assert done.replies.endswith(b"\r\n250 2.0.0 forgotten\r\n221 2.0.0 goodbye\r\n")


def test_a_recipient_that_is_refused_spoils_the_message_until_rset_or_mail() -> None:
    """E8, B2: 550 and the sentence, then DATA gets 554, and nothing goes to a part of the recipients."""

    def judge(event: Event) -> Verdict:
        return Failure("root -> nobody is a name of this host") if event == Rcpt(4, "nobody") else ""

    refused = (*BEGUN, "RCPT TO:<nobody>")
    done = heard(crlf(*refused, "RCPT TO:<c@example.net>", "DATA", "DATA"), judge)
    assert b"\r\n550 5.1.0 root -> nobody is a name of this host\r\n250 2.1.5 " in done.replies
    assert done.codes[-4:] == [550, 250, 554, 554]
    assert done.refused == Reply(550, ("5.1.0 root -> nobody is a name of this host",))
    assert heard(crlf(*refused, "DATA", "RSET", *WHOLE[1:]), judge).codes[-6:] == [554, 250, 250, 250, 354, 250]
    assert heard(crlf(*refused, "DATA", *WHOLE[1:]), judge).codes[-5:] == [554, 250, 250, 354, 250]
    assert heard(crlf(*refused, "DATA", *WHOLE[1:]), judge).refused is not None  # a message was not sent


def test_a_sender_that_is_refused_begins_no_message() -> None:
    """E8: what follows in the same flight is refused, and counts as no mistake."""
    done = heard(crlf(*BEGUN, *BEGUN[2:] * 30, "DATA"), lambda _: Failure("may not"))
    assert done.codes == [220, 250, 550, *[503] * 32]
    assert done.events == [Mail(2, "a@client.example")]


@pytest.mark.parametrize(
    "spoiler", ["RCPT TO:<b@@c>", "RCPT TO:<b@c\x00>", "RCPT TO:<b@c> X=1", "RCTP TO:<b@c>", "RCPT TO:" + "b" * 5000]
)
def test_what_may_have_been_one_more_recipient_spoils_the_message(spoiler: str) -> None:
    """B2, E8: who names one that is not understood does not want the others to have the mail alone."""
    done = heard(crlf(*BEGUN, spoiler, "DATA"))
    assert done.codes[-2] in (500, 501, 555)
    assert done.codes[-1] == 554
    assert done.refused is not None
    assert done.refused.code == done.codes[-2]


def test_resets_are_told_where_a_message_was_begun() -> None:
    """E8: RSET, EHLO and HELO forget it (RFC 5321, 4.1.4); MAIL within it is refused."""
    done = heard(crlf("RSET", *BEGUN, "RSET", *BEGUN, *BEGUN, "HELO me", "DATA"))
    assert [event.line for event in done.events if isinstance(event, Reset)] == [5, 9, 12]
    assert done.codes[-1] == 503
    assert heard(crlf(*BEGUN, BEGUN[1])).last(503) == b"503 5.5.1 MAIL was given already"


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("NOOP", "250 2.0.0"),
        ("noop with words", "250 2.0.0"),
        ("HELP", "214 2.0.0"),
        ("HELP MAIL", "214 2.0.0"),
        ("VRFY root", "252 2.1.5"),
        ("RSET", "250 2.0.0"),
        ("QUIT", "221 2.0.0"),
        ("QUIT ", "221 2.0.0"),
        ("EHLO", "501 5.5.4"),
        ("EXPN list", "502 5.5.1"),
        ("ETRN x.example", "502 5.5.1"),
        ("STARTTLS", "502 5.5.1"),
        ("AUTH PLAIN AGEAYg==", "502 5.5.1"),
        ("SAML FROM:<a@b>", "502 5.5.1"),
        ("BDAT 1000 LAST", "521 5.5.1"),
        ("RCPT TO:<a@b>", "503 5.5.1"),
        ("DATA", "503 5.5.1"),
        ("DATA now", "503 5.5.1"),
        ("FOO", "500 5.5.2"),
        ("", "500 5.5.2"),
        ("MAILFROM:<a@b>", "500 5.5.2"),
        ("MA\0IL FROM:<a@b>", "501 5.5.2"),
        ("MAIL FROM:<a@b>\rRCPT TO:<c@d>", "501 5.5.2"),
        ("\N{LATIN SMALL LETTER E WITH ACUTE}HLO me", "500 5.5.2"),
        ("NOOP " + "x" * (dialogue.LINE_LIMIT - 5), "250 2.0.0"),
        ("NOOP " + "x" * (dialogue.LINE_LIMIT - 4), "500 5.5.2"),
    ],
)
def test_a_command_has_its_reply(command: str, reply: str) -> None:
    """E8: bad sequences 503, unknown commands 500, what is not offered 502; and the dialogue goes on."""
    done = heard(crlf("EHLO me", command, "NOOP"))
    told = done.replies.split(b"\r\n")[8:-1]
    assert told[0].decode().startswith(reply + " ")
    closed = reply[:3] in ("221", "521")
    assert len(told) == (1 if closed else 2)
    assert done.events == []
    assert done.refused is None or command.startswith(("RCPT", "DATA", "MAIL", "MA"))


def test_data_wants_a_recipient_and_no_words() -> None:
    """E8: 503 and 501."""
    assert heard(crlf(*BEGUN[:2], "DATA")).last(503) == b"503 5.5.1 DATA comes after RCPT"
    assert heard(crlf(*BEGUN, "DATA now")).last(501) == b"501 5.5.4 DATA takes no parameter"


@pytest.mark.parametrize(
    ("words", "mail"),
    [
        ("<a@b.example>", Mail(1, "a@b.example")),
        ("<>", Mail(1, "")),
        (" <a@b.example>", Mail(1, "a@b.example")),
        ("a@b.example", Mail(1, "a@b.example")),
        ("<root>", Mail(1, "root")),
        ("<@x.example,@y.example:a@b.example>", Mail(1, "a@b.example")),
        ('<"a b>c"@b.example> SIZE=7', Mail(1, '"a b>c"@b.example', size=7)),
        ("<a@[192.0.2.1]>", Mail(1, "a@[192.0.2.1]")),
        ("<a@b.example> SIZE=12345678901234567890", Mail(1, "a@b.example", size=12345678901234567890)),
        ("<a@b.example>  body=8bitmime  SIZE=0 ", Mail(1, "a@b.example", body="8BITMIME")),
        ("<a@b.example> RET=hdrs ENVID=a+2Bb", Mail(1, "a@b.example", returns="HDRS", envelope_id="a+2Bb")),
        ("<\xe9@b.example> SMTPUTF8", Mail(1, "\xe9@b.example", utf8=True)),
    ],
)
def test_a_sender_and_its_parameters(words: str, mail: Mail) -> None:
    """E8: as callers write it."""
    assert heard(crlf(f"MAIL FROM:{words}")).events == [mail]
    assert heard(crlf(f"mail From:{words}", "rset"), batch=True).events == [mail, Reset(2)]


@pytest.mark.parametrize(
    ("words", "rcpt"),
    [
        ("<b@c.example>", Rcpt(2, "b@c.example")),
        ("<Postmaster>", Rcpt(2, "Postmaster")),
        ("root", Rcpt(2, "root")),
        ("<\\root>", Rcpt(2, "\\root")),
        ("\\root", Rcpt(2, "\\root")),
        ("<@x.example:b@c.example>", Rcpt(2, "b@c.example")),
        ("<b@c.example> NOTIFY=success,DELAY,success", Rcpt(2, "b@c.example", notify="SUCCESS,DELAY")),
        (
            "<b@c.example> NOTIFY=NEVER ORCPT=rfc822;d+3D@c.example",
            Rcpt(2, "b@c.example", notify="NEVER", original="rfc822;d+3D@c.example"),
        ),
        ("<b@c.example> ORCPT=utf-8;\xe9@c.example", Rcpt(2, "b@c.example", original="utf-8;\xe9@c.example")),
    ],
)
def test_a_recipient_and_its_parameters(words: str, rcpt: Rcpt) -> None:
    """E8, D2: bare names too, and a backslash stops redirection."""
    assert heard(crlf("MAIL FROM:<> SMTPUTF8", f"RCPT TO:{words}")).events[1:] == [rcpt]
    assert heard(crlf("MAIL FROM:<>", f"RCPT To: {words}", "RSET"), batch=True).events[1:] == [rcpt, Reset(3)]


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("MAIL", "501 5.5.4"),
        ("MAIL FROM", "501 5.5.4"),
        ("MAIL FROM:", "501 5.5.4"),
        ("MAIL TO:<a@b>", "501 5.5.4"),
        ("MAIL FROM:<a@b", "501 5.5.4"),
        ("MAIL FROM:<a@b>SIZE=1", "501 5.5.4"),
        ("MAIL FROM:Al <a@b>", "555 5.5.4"),
        ('MAIL FROM:<"a@b>', "501 5.5.4"),
        ("MAIL FROM:<a@@b>", "501 5.1.7"),
        ("MAIL FROM:<a@b,c@d>", "501 5.1.7"),
        ("MAIL FROM:a@b,c@d", "501 5.1.7"),
        ("MAIL FROM:<<a@b>>", "501 5.5.4"),
        ("MAIL FROM:<\\a>", "501 5.1.7"),
        ("MAIL FROM:<a@b> SIZE=", "501 5.5.4"),
        ("MAIL FROM:<a@b> SIZE=1k", "501 5.5.4"),
        ("MAIL FROM:<a@b> SIZE=1 size=1", "501 5.5.4"),
        ("MAIL FROM:<a@b> BODY=BINARYMIME", "501 5.5.4"),
        ("MAIL FROM:<a@b> SMTPUTF8=yes", "501 5.5.4"),
        ("MAIL FROM:<a@b> RET=NEVER", "501 5.5.4"),
        ("MAIL FROM:<a@b> ENVID=a+2b", "501 5.5.4"),
        ("MAIL FROM:<a@b> ENVID=" + "x" * 101, "501 5.5.4"),
        ("MAIL FROM:<a@b> NOTIFY=NEVER", "555 5.5.4"),
        ("MAIL FROM:<a@b> REQUIRETLS", "555 5.5.4"),
        ("MAIL FROM:<a@b> AUTH=<>", "555 5.5.4"),
        ("MAIL FROM:<a@b> =1", "555 5.5.4"),
        ("MAIL FROM:<\xe9@b>", "553 5.6.7"),
        ("RCPT TO:<>", "501 5.1.3"),
        ("RCPT TO:<a b@c>", "501 5.1.3"),
        ("RCPT TO:<a@b> NOTIFY=NEVER,SUCCESS", "501 5.5.4"),
        ("RCPT TO:<a@b> NOTIFY=", "501 5.5.4"),
        ("RCPT TO:<a@b> ORCPT=a@b", "501 5.5.4"),
        ("RCPT TO:<a@b> ORCPT=rfc822;" + "x" * 500, "501 5.5.4"),
        ("RCPT TO:<a@b> SIZE=1", "555 5.5.4"),
        ("RCPT TO:<a@\xe9>", "553 5.6.7"),
        ("RCPT TO:<a@b> ORCPT=utf-8;\xe9", "553 5.6.7"),
    ],
)
def test_what_cannot_be_read_or_is_not_offered_is_refused(command: str, reply: str) -> None:
    """E8: nothing is guessed, and who asks for what is not offered is told."""
    before = ("MAIL FROM:<>",) if command.startswith("RCPT") else ()
    done = heard(crlf(*before, command))
    assert done.last(int(reply[:3])).decode().startswith(reply + " ")
    assert len(done.events) == len(before)
    assert done.refused is not None
    octets = crlf(*before, command).decode().encode("latin-1")  # 8 bits that are not UTF-8
    assert heard(octets).codes[-1] in (501, int(reply[:3]))


def test_a_command_that_is_too_long_was_one_nevertheless() -> None:
    """E8: a message that was not begun was not sent; but for NOOP nobody minds."""
    assert heard(crlf("MAIL FROM:<" + "x" * 9000)).refused is not None
    assert heard(crlf("EHLO me", "NOOP " + "x" * 5000)).refused is None


def test_more_recipients_than_there_may_be() -> None:
    """D6: the 10 001st gets 452, and the message waits for RSET."""
    flight = crlf(*BEGUN[:2], *(f"RCPT TO:<{n}@x.example>" for n in range(dialogue.RECIPIENTS + 1)), "DATA")
    done = hear([flight])
    assert done.codes[-3:] == [250, 452, 554]
    assert len(done.envelopes[0][1]) == dialogue.RECIPIENTS


def test_after_twenty_mistakes_it_is_over() -> None:
    """E8: 421; what comes then is not heard."""
    done = heard(crlf(*["FOO", "STARTTLS"] * 10, *WHOLE))
    assert done.codes == [220, *[500, 502] * 9, 500, 421]
    assert done.events == []
    assert done.refused is not None  # the caller did not hear us either, and may have had a message


@pytest.mark.parametrize("quit", [[], ["QUIT"]])
def test_a_message_in_the_place_of_commands_was_not_sent(quit: list[str]) -> None:
    """A1: dma and OpenSMTPD take one with -bs; exit 0 would tell the caller that it was sent."""
    assert heard(crlf("From: me@client.example", "Subject: hello", "", "Hello.")).refused is not None
    assert heard(crlf("EHLO me", "FOO", *quit)).refused is None


def test_bad_addresses_are_no_mistakes_and_a_message_taken_forgives_them() -> None:
    """E8: a long list has bad addresses, and a long session has its moments."""
    assert heard(crlf(*BEGUN[:2], *["RCPT TO:<b@@c>"] * 50, "RSET", *WHOLE[1:])).codes[-1] == 250
    assert heard(crlf(*[*["FOO"] * 19, *WHOLE] * 2)).codes[-1] == 250


# -- line ends ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
@pytest.mark.parametrize(
    "smuggled",
    [
        *(b"\n.\n", b"\n.\r", b"\n.\r\n", b"\n\r.\n\r"),
        *(b"\r.\n", b"\r.\r", b"\r.\r\n", b"\0.\0"),
        *(b"\r\n.\n", b"\r\n.\r", b"\r\n.\r\n"),
    ],
)
def test_only_the_line_end_of_the_commands_ends_the_text(smuggled: bytes, end: bytes, batch: bool) -> None:
    """E8: CRLF.CRLF where commands end with CRLF, LF.LF where they end with LF; no other text hides a message."""
    before = crlf(*BEGUN, "DATA").replace(b"\r\n", end)
    text = b"text" + smuggled + b"MAIL FROM:<evil@x>\nRCPT TO:<victim@x>\nDATA\nhidden" + smuggled + b"more"
    done = heard((before + text + end + b"." + end) * 2, batch=batch)
    if end + b"." + end in text:  # the end it is, and what stands behind it are commands
        assert (smuggled, end) in ((b"\n.\n", b"\n"), (b"\r\n.\n", b"\n"), (b"\r\n.\r\n", b"\r\n"))
        assert done.texts[0] == b"text" + end.rjust(len(smuggled) - 1 - len(end), b"\r")
    else:
        assert done.texts == [text.replace(end + b".", end) + end] * 2
        assert done.envelopes == [("a@client.example", ["b@example.net"])] * 2
        assert done.failure == ""


@pytest.mark.parametrize(("first", "second"), [("\r\n", "\n"), ("\n", "\r\n")])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_command_with_another_line_end_is_the_end(at: int, first: str, second: str) -> None:
    """E8: no line end gets into an address, and nobody waits for the end of a text that cannot come."""
    lines = [*(line + first for line in BEGUN[:at]), "RCPT TO:<x@y>" + second, "DATA" + first]
    done = heard("".join(lines).encode())
    assert done.last(521).startswith(b"521 5.5.2 a line ends with ")
    assert len(done.events) == at - 1
    assert heard("".join(lines).encode(), batch=True).failure.startswith(f"line {at + 1}: a line ends with ")


def test_a_line_end_within_an_address_brings_no_recipient() -> None:
    """E8, E4: injection through a recipient by a caller whose lines end with CRLF."""
    done = heard(crlf(*BEGUN, "RCPT TO:<c@d>\nRCPT TO:<evil@x>", "DATA"))
    assert done.envelopes == [("a@client.example", ["b@example.net"])]
    assert done.codes[-1] == 521


@pytest.mark.parametrize("refused", [[*BEGUN, "RCPT TO:<b@@c>"], BEGUN[:2], ["MAIL FROM:<@>"]])
@pytest.mark.parametrize("text", ["Subject: x", "", "Hello you,", "x\0"])
def test_a_text_sent_without_looking_is_not_taken_for_commands(text: str, refused: list[str]) -> None:
    """E8: DATA was refused and the text came; what stands in it may be anybody's."""
    done = heard(crlf(*refused, "DATA", text, "RSET", *WHOLE))
    assert done.last(521) == b"521 5.5.1 a text came, and DATA had been refused"
    assert done.texts == []


def test_a_caller_who_goes_on_after_data_was_refused_is_heard() -> None:
    """E8: once a command came there is no text to be feared; a mistake is a mistake then."""
    assert heard(crlf("DATA", "NOOP", "FOO", *WHOLE)).codes == [220, 503, 250, 500, 250, 250, 250, 354, 250]
    assert heard(crlf("DATA", "RSET", "FOO", *WHOLE)).codes == [220, 503, 250, 500, 250, 250, 250, 354, 250]


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (b".\n", b""),
        (b"\n.\n", b"\n"),
        (b"..\n.\n", b".\n"),
        (b"...\n.x\n..\n.\n", b"..\nx\n.\n"),
        (b"x\n.y\n\n.\n", b"x\ny\n\n"),
        (b"\r\n.\r\n\r\n.\n", b"\r\n\r\n\r\n"),
        (b"a\0b\xff\n.\n", b"a\0b\xff\n"),
    ],
)
def test_dots_are_undoubled_and_all_else_stays(sent: bytes, text: bytes) -> None:
    """E8: RFC 5321, 4.5.2."""
    before = crlf(*BEGUN, "DATA").replace(b"\r\n", b"\n")
    done = heard(before + sent + b"NOOP\n")
    assert done.texts == [text]
    assert done.codes[-2:] == [250, 250]
    if b"\r" not in sent:
        assert heard(crlf(*BEGUN, "DATA") + sent.replace(b"\n", b"\r\n")).texts == [text.replace(b"\n", b"\r\n")]


# -- unfinished, hostile and large ----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_the_input_may_end_at_any_octet_and_no_part_of_a_message_is_one(end: bytes) -> None:
    """E8: a text is whole once its last dot and line end are there; before that it is a Failure, never a text."""
    octets = crlf(*WHOLE).replace(b"\r\n", end)
    data, last = octets.index(b"DATA" + end) + 4 + len(end), len(octets)
    assert len(hear([octets]).texts) == len(hear([octets], batch=True).texts) == 1
    for stop in range(last):
        done = hear([octets[:stop]])
        assert done.texts == []
        assert (done.failure != "") == (stop >= data)
        assert (done.refused is not None) == (stop >= data)
        batch = hear([octets[:stop]], batch=True)
        assert batch.texts == []
        assert batch.failure.endswith(": the input ends in the middle of a message") or stop in (0, 7 + len(end))


def test_an_unfinished_text_is_never_accepted() -> None:
    """A1, E8: not even by a driver that does not read it."""
    spoken = Dialogue()
    for event in spoken.events([crlf(*BEGUN, "DATA", "text")]):
        if isinstance(event, Text):
            with pytest.raises(Failure, match="middle of a message"):
                spoken.accept()
            break
        spoken.accept()
    assert spoken.replies().endswith(b"\r\n354 the text now, and a line with a dot\r\n")


def test_the_reply_to_a_text_read_in_part_waits_for_its_end() -> None:
    """E8: a header that cannot be is refused when the caller has said all, and what is left of it is no command."""
    spoken = Dialogue()
    pieces = iter([crlf(*BEGUN, "DATA", "one"), crlf("two", "MAIL FROM:<x@y>"), crlf(".", "NOOP")])
    told: list[bytes] = []

    def caller() -> Iterator[bytes]:
        for piece in pieces:
            told.append(spoken.replies())
            yield piece

    for event in spoken.events(caller()):
        if isinstance(event, Text):
            assert next(event) == b"one"
            spoken.refuse(Failure("more than 1 header fields"))
        else:
            spoken.accept()
    assert told[1].endswith(b"354 the text now, and a line with a dot\r\n")
    assert told[2] == b""
    assert spoken.replies() == b"554 5.3.0 more than 1 header fields\r\n250 2.0.0 nothing done\r\n"


def test_a_text_that_did_not_end_says_so_as_often_as_it_is_asked() -> None:
    """E8: and its line is the last one there is."""
    spoken = Dialogue(batch=True)
    *_, text = islice(spoken.events([crlf(*BEGUN, "DATA", "text")]), 3)
    assert isinstance(text, Text)
    assert next(text) == b"text"
    for _ in "12":
        with pytest.raises(Failure, match=r"^line 5: the input ends in the middle of a message$"):
            next(text)
    assert not text.complete


def test_every_event_is_answered_once() -> None:
    """DESIGN: a driver that forgets an answer, or gives two, is wrong."""
    spoken = Dialogue()
    events = spoken.events([crlf(*BEGUN)])
    with pytest.raises(RuntimeError):
        spoken.accept()
    next(events)
    spoken.accept()
    with pytest.raises(RuntimeError):
        spoken.accept()
    next(events)
    with pytest.raises(RuntimeError):
        next(events)


def cut(octets: bytes, at: list[int]) -> list[bytes]:
    """The octets in pieces cut at these places."""
    places = sorted({0, len(octets), *(place % (len(octets) + 1) for place in at)})
    return [octets[begin:end] for begin, end in pairwise(places)]


_LINE = st.sampled_from(
    [
        *(line.encode() for line in WHOLE),
        b"..",
        b"QUIT",
        b"RSET",
        b"NOOP x",
        b"",
        b"x",
        b"RCPT TO:<no@@no>",
        b"\r",
        b".",
    ]
)
_SAID = st.builds(
    lambda lines, end: b"".join(line + end for line in lines),
    st.lists(st.one_of(_LINE, st.binary(max_size=12)), max_size=25),
    st.sampled_from([b"\r\n", b"\n"]),
)


@given(_SAID, st.lists(st.integers(0, 1000), max_size=12), st.booleans())
def test_pieces_make_no_difference(said: bytes, at: list[int], batch: bool) -> None:
    """E8: whatever is said, and wherever it is cut."""
    assert hear(cut(said, at), batch=batch) == hear([said], batch=batch)


@given(st.one_of(_SAID, st.binary(max_size=300)), st.booleans())
def test_whatever_comes_is_answered_in_lines_of_printable_ascii(said: bytes, batch: bool) -> None:
    """E8: no octets raise anything but Failure, and no reply has more than 512 octets or an odd end."""
    no = Failure("no\r\n250 yes \xe9" * 60)
    done = hear([said], lambda event: no if isinstance(event, Rcpt) else "", batch=batch)
    assert done.replies == b"" if batch else done.replies.endswith(b"\r\n")
    for line in done.replies.split(b"\r\n")[:-1]:
        assert len(line) <= 510
        assert line.isascii()
        assert line.decode().isprintable()


@given(st.lists(st.binary(max_size=40)), st.sampled_from([b"\r\n", b"\n"]), st.booleans())
def test_a_text_comes_back_as_it_was(lines: list[bytes], end: bytes, batch: bool) -> None:
    """E8: whatever lines a caller sends with their dots doubled."""
    text = b"".join(line.replace(b"\n", b"") + end for line in lines)
    sent = (end + text).replace(end + b".", end + b"..")[len(end) :]
    done = heard(crlf(*BEGUN, "DATA").replace(b"\r\n", end) + sent + b"." + end, batch=batch)
    assert done.texts == [text]


def peak(run: Callable[[], object]) -> int:
    """The most octets Python held at once meanwhile."""
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("batch", [False, True])
def test_a_line_without_end_takes_no_memory(batch: bool) -> None:
    """E8: 500, and all of it is skipped; a text is as little kept as a command."""
    block = b"x" * 65536

    def endless() -> Iterator[bytes]:
        yield crlf(*BEGUN)
        for _ in range(512):
            yield block
        yield crlf("", "NOOP")

    done: list[Heard] = []
    assert peak(lambda: done.append(hear(endless(), batch=batch))) < MEBIBYTE
    if batch:
        assert done[0].failure == f"line 4: a line longer than {dialogue.LINE_LIMIT} octets"
    else:
        assert done[0].codes == [220, 250, 250, 250, 500, 250]


@pytest.mark.parametrize("line", [b"x" * 65536, b"..\r\n" * 16384, b"x" * 65534 + b"\r\n"])
def test_a_large_text_passes_in_blocks(line: bytes) -> None:
    """E8: 32 MiB of it, or 1 GiB; none of it is held."""

    def large() -> Iterator[bytes]:
        yield crlf(*BEGUN, "DATA")
        for _ in range(512):
            yield line
        yield crlf("", ".")

    size = 0

    def read() -> None:
        nonlocal size
        spoken = Dialogue()
        for event in spoken.events(large()):
            for block in event if isinstance(event, Text) else ():
                size += len(block)
            spoken.accept()

    assert peak(read) < MEBIBYTE
    assert size == len(line.replace(b"..", b".")) * 512 + 2


# -- batches --------------------------------------------------------------------------------------------------------


def test_a_batch_is_many_messages_and_no_reply() -> None:
    """E8: -bS; no HELO or several, blank lines and idle commands mean nothing, QUIT is optional."""
    message = crlf(*WHOLE[1:])
    done = heard(
        crlf("", "NOOP muawrap at=1") + message + crlf("", " ", "VRFY x", "HELO x", "EHLO") + message, batch=True
    )
    assert done.replies == b""
    assert done.texts == [b"Subject: hello\r\n\r\n.dot\r\n"] * 2
    assert [event.line for event in done.events] == [3, 4, 5, 15, 16, 17]
    assert done.failure == ""
    assert heard(message + b"QUIT", batch=True).failure == ""
    assert heard(message + crlf("QUIT", "FOO"), batch=True).failure == ""
    assert heard(b"", batch=True).failure == ""
    assert heard(crlf(*BEGUN, "NOOP id=1", "", *WHOLE[3:]), batch=True).texts == done.texts[:1]


def test_blank_lines_do_not_fix_the_line_end() -> None:
    """E8: the first command does."""
    assert heard(b"\n" + crlf(*WHOLE) + b"\n", batch=True).failure == ""


@pytest.mark.parametrize(
    ("lines", "failure"),
    [
        (["FOO"], "line 9: unknown command 'FOO'"),
        (["MAIL FROM:<@>"], "line 9: cannot read the address '<@>': no domain after \"@\""),
        (["RCPT TO:<a@b>"], "line 9: RCPT comes after MAIL"),
        (["MAIL FROM:<>", "DATA"], "line 10: DATA comes after RCPT"),
        (["MAIL FROM:<>", "MAIL FROM:<>"], "line 10: MAIL was given already"),
        (["MAIL FROM:<>", "QUIT"], "line 10: QUIT in the middle of a message"),
        (["MAIL FROM:<> XYZ=1"], "line 9: MAIL has no parameter 'XYZ=1' here"),
        (["STARTTLS"], "line 9: TLS was not offered"),
        (["BDAT 5"], "line 9: CHUNKING was not offered"),
        (["MAIL FROM:<>"], "line 9: the input ends in the middle of a message"),
        ([*WHOLE[1:], "", *WHOLE[1:-1]], "line 22: the input ends in the middle of a message"),
    ],
)
def test_the_first_mistake_ends_a_batch_and_its_line_is_told(lines: list[str], failure: str) -> None:
    """E8: counted over the lines of texts, too; what came before has been handed over."""
    done = heard(crlf(*WHOLE, *lines), batch=True)
    assert done.failure == failure
    assert done.texts[0] == b"Subject: hello\r\n\r\n.dot\r\n"


def test_the_end_of_a_batch_within_a_line_is_no_end() -> None:
    """E8: a file that was cut off says so."""
    assert (
        heard(crlf(*WHOLE) + b"MAIL FROM:<a@", batch=True).failure
        == "line 9: the input ends in the middle of a message"
    )


def test_a_batch_may_be_read_ahead_up_to_the_next_text() -> None:
    """E8, P6: the next envelope is there before the message before it has its verdict."""
    events = Dialogue(batch=True).events([crlf(*WHOLE), crlf(*WHOLE)])
    kinds = []
    first = b""
    for event in events:
        kinds.append(type(event).__name__)
        if isinstance(event, Text):
            if first:
                break
            first = b"".join(event)
    assert kinds == ["Mail", "Rcpt", "Text", "Mail", "Rcpt", "Text"]
    assert isinstance(event, Text)
    assert not event.complete
    assert b"".join(event) == first
    assert event.complete


def test_ten_thousand_messages_in_constant_memory() -> None:
    """E8: one after the other, in pieces that know nothing of messages."""
    message = crlf(*WHOLE[1:-1], "x" * 900, ".")
    pieces = [message * 10] * 200

    def read() -> int:
        return sum(len(b"".join(event)) for event in Dialogue(batch=True).events(pieces) if isinstance(event, Text))

    assert read() == 2000 * (24 + 902)
    assert peak(read) < 256 * 1024


@pytest.mark.parametrize("name", ["lf", "crlf", "fields"])
def test_what_exim_holds_is_read(name: str) -> None:
    """E8: files of Exim's appendfile transport, use_bsmtp: LF, CRLF, and with the fields of a delivery."""
    octets = (BATCHES / name).read_bytes()
    done = heard(octets, batch=True)
    assert done.failure == ""
    ((sender, recipients),) = done.envelopes
    assert sender == "Alice.Mixed@Send.Example"
    assert [one.partition(".held")[0].rpartition("@")[0] for one in recipients] == [
        "Bob",
        "pre-Carol" if name == "fields" else "Carol",
        '"quoted local"',
        "a/b",
        "bob",
        "x=y+tag",
        "Second.Dom",
    ]
    (text,) = done.texts
    assert b"\nFrom here on, a From_ line in the body." in text
    assert b"\n.leading dot" in text
    assert b"\n..two dots" in text
    assert text.replace(b"\r", b"").endswith(b"\n\nlast line without newline\n")
    null = heard((BATCHES / f"{name}-null-sender").read_bytes(), batch=True)
    assert [(sender, [one.partition("@")[0] for one in to]) for sender, to in null.envelopes] == [("", ["postmaster"])]


def test_what_exim_takes_as_a_batch_is_read() -> None:
    """E8: twenty messages that exim -bS took, the same two ten times over."""
    done = heard((BATCHES / "input-all").read_bytes(), batch=True)
    assert done.failure == ""
    assert [sender for sender, _ in done.envelopes] == ["Alice.Mixed@Send.Example", ""] * 10
    assert {len(text) for text in done.texts[::2]} == {len(done.texts[0])}
    assert set(done.texts[1::2]) == {b"From: MAILER-DAEMON@x.example\nSubject: bounce\n\nhi\n"}


@pytest.mark.parametrize("body", [b"", b"text\n", b".\n..\n\n.x\n\xff\0\n", b"From me\n" * 1000])
def test_what_we_keep_is_read_back(body: bytes) -> None:
    """E8, A4: a file of keep_failed is a batch, with the envelope as it was given and the same text."""
    message = Message((Header("subject", b"Subject: hello\n"), Header("to", b"To: you\n there\n")), Body(body))
    invocation = Invocation(sender="J\xf6rg <j\xf6rg@x.example>")
    kept = keeping.Given(invocation, ["\\root", '"a b"@x.example', "b\xe9@x.example"], message, "")
    octets = b"".join(keeping.batch(kept, 'NOOP muawrap outcome="not sent, refused" error="unknown command"'))
    done = heard(octets + octets, batch=True)
    assert done.failure == ""
    assert done.envelopes == [("j\xf6rg@x.example", ["\\root", '"a b"@x.example', "b\xe9@x.example"])] * 2
    headers, again = reading._spool(reading.crlf_as_lf(iter(done.texts[:1])))
    assert headers == message.headers
    assert b"".join(again.blocks()) == body


# -- verdicts -------------------------------------------------------------------------------------------------------


def at_host(stage: Stage, code: int, *lines: str, lead: str = "", recipient: str = "") -> Failure:
    """A reply of a smart host as a Failure."""
    lead = lead or (TRY_AGAIN if code < 500 else REFUSED)
    return Failure(lead=lead, stage=stage, host="mx.example:25", recipient=recipient, reply=Reply(code, lines))


LATER = at_host(Stage.RCPT, 450, "4.2.1 later", recipient="<a@b>")
UNKNOWN = at_host(Stage.RCPT, 550, "5.1.1 unknown", recipient="<a@b>")


@pytest.mark.parametrize(
    ("failure", "reply"),
    [
        (at_host(Stage.VERDICT, 554, "5.7.1 spam", "go away"), "554-5.7.1 spam\r\n554 5.7.1 go away\r\n"),
        (at_host(Stage.VERDICT, 552, "too large"), "552 5.0.0 too large\r\n"),
        (at_host(Stage.VERDICT, 452, "4.3.1 disk full"), "452 4.3.1 disk full\r\n"),
        (at_host(Stage.VERDICT, 451, "5.1.1 odd"), "451 4.0.0 5.1.1 odd\r\n"),
        (at_host(Stage.VERDICT, 550, ""), "550 5.0.0 \r\n"),
        (at_host(Stage.VERDICT, 550, "\x1b[2J\xe9"), "550 5.0.0 \\x1b[2J\\xe9\r\n"),
        (at_host(Stage.VERDICT, 421, "4.3.2 shutting down"), "451 4.3.2 shutting down\r\n"),
        (at_host(Stage.MAIL, 421, "bye"), "451 4.0.0 bye\r\n"),
        (at_host(Stage.MAIL, 550, "5.7.1 not you"), "550 5.7.1 not you\r\n"),
        (UNKNOWN, "550-5.1.1 unknown\r\n550 5.1.1 mx.example:25 refused the recipient <a@b>\r\n"),
        (
            together([UNKNOWN, UNKNOWN]),
            f"550 5.0.0 {UNKNOWN}; {UNKNOWN}\r\n",
        ),
        (
            together([UNKNOWN, LATER]),
            f"554 5.3.0 {UNKNOWN}; {LATER}\r\n",
        ),
        (
            Failure(reasons=(UNKNOWN, at_host(Stage.AUTH, 535, "no"))),
            f"554 5.3.0 {UNKNOWN}; mx.example:25 answered AUTH with 535 no\r\n",
        ),
        (at_host(Stage.MAIL, 530, "5.7.0 log in"), "554 5.3.0 mx.example:25 refused the sender: 530 5.7.0 log in\r\n"),
        (at_host(Stage.AUTH, 535, "5.7.8 no"), "554 5.3.0 mx.example:25 answered AUTH with 535 5.7.8 no\r\n"),
        (at_host(Stage.GREETING, 421, "busy"), "451 4.4.1 mx.example:25 greeted us with 421 busy\r\n"),
        (
            Failure("refused", stage=Stage.CONNECT, host="mx.example:25", lead=TRY_AGAIN),
            "451 4.4.1 mx.example:25: refused while connecting\r\n",
        ),
        (
            Failure("no smart host took the message", lead=TRY_AGAIN, reasons=(Failure("one"), Failure("two"))),
            "451 4.4.1 no smart host took the message: one; two\r\n",
        ),
        (Failure("no room", lead=TRY_AGAIN, advice="make some"), "451 4.3.0 no room (make some)\r\n"),
        (Failure("no password for x"), "554 5.3.0 no password for x\r\n"),
        (
            Failure("lost connection", stage=Stage.TEXT, host="mx.example:25", lead=UNCERTAIN),
            "554 5.4.2 may have been sent: mx.example:25: lost connection while sending the text\r\n",
        ),
        (
            at_host(Stage.VERDICT, 450, "x", lead=UNCERTAIN),
            "554 5.4.2 may have been sent: mx.example:25 refused the message: 450 x\r\n",
        ),
    ],
)
def test_the_reply_to_the_dot_is_the_verdict(failure: Failure, reply: str) -> None:
    """E8: the smart host's own where there is one, 421 as 451, and never 4yz for what may have been sent."""
    done = heard(crlf(*WHOLE, "NOOP"), lambda event: failure if isinstance(event, Text) else "")
    after = done.replies.decode().split("dot\r\n")[1]
    assert after == reply + "250 2.0.0 nothing done\r\n"
    assert done.refused is not None


def test_an_acceptance_is_told_in_the_smart_hosts_words() -> None:
    """E8: its own enhanced status counts."""
    for words, reply in (("2.6.0 queued as 1", b"250 2.6.0 queued as 1"), ("OK id=1", b"250 2.0.0 OK id=1")):
        verdicts = {Text: words}
        assert heard(crlf(*WHOLE), lambda event, said=verdicts: said.get(type(event), "")).last(250) == reply  # type: ignore[misc]


def test_a_recipient_that_cannot_be_looked_up_now_may_be_tried_again() -> None:
    """A3, E8: a disk that fails is no verdict on an address."""
    done = heard(crlf(*BEGUN), lambda event: Failure("I/O", lead=TRY_AGAIN) if isinstance(event, Rcpt) else "")
    assert done.last(451) == b"451 4.3.0 I/O"


def test_a_long_reply_is_folded_and_each_line_has_its_status() -> None:
    """E8: RFC 5321, 4.5.3.1.5: 512 octets; RFC 2034, 4: the status on every line."""
    words = " ".join(f"word{n}" for n in range(200))
    lines = answers.on_the_wire(Reply(550, (f"5.1.1 {words}", "end")), "5.0.0").decode().split("\r\n")[:-1]
    assert [line[:10] for line in lines] == ["550-5.1.1 "] * (len(lines) - 1) + ["550 5.1.1 "]
    assert " ".join(line[10:] for line in lines) == f"{words} end"
    assert all(len(line) <= 510 for line in lines)
    widest = answers.on_the_wire(Reply(550, ("5.123.123 " + "x" * 2000,)), "5.0.0").split(b"\r\n")
    assert max(map(len, widest)) <= 510
    (one, two) = answers.on_the_wire(Reply(250, ("x" * 600,)), "").decode().split("\r\n")[:-1]
    assert one[4:] + two[4:] == "x" * 600


def test_a_sentence_without_end_is_cut() -> None:
    """E8: what somebody wrote into an alias file is no reply of a megabyte."""
    done = heard(crlf(*BEGUN), lambda event: Failure("z" * MEBIBYTE) if isinstance(event, Rcpt) else "")
    assert done.replies.count(b"z") == answers.SENTENCE
