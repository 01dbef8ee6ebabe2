"""The two targets that talk: SASL, and the whole dialogue with a server that says anything at any time."""

from __future__ import annotations

import contextlib
import os
import re

from muawrap.failure import REFUSED, TRY_AGAIN, UNCERTAIN, Failure, Stage
from muawrap.mail import Auth, Body, Receipt, Recipient, Secret, SmartHost, Timeouts, Tls, Transaction, Way
from muawrap.schema import MECHANISMS
from muawrap.submission import oauth, sasl, scram, wire
from muawrap.submission.connection import Connection
from muawrap.submission.deliver import deliver
from tests.fuzz import checks
from tests.fuzz.wired import AFTER_SEND, RESET, SILENCE, Wired, WiredOpening, replies_in

_PATIENT = Timeouts(connect=5, greeting=5, command=5, data=5, final=5)
_HOST = SmartHost("smtp://192.0.2.1", "smtp", "192.0.2.1", 25, tls=Tls("none"), timeouts=_PATIENT)
_NOWHERE = _HOST._replace(url="smtp://1.2.3.4.5", host="1.2.3.4.5")  # a literal that no resolver takes
_NO_CERTIFICATES = os.path.dirname(__file__)  # a folder of authorities, of which none has to be loaded
_PASSWORDS = ("s3cret-password", "s3crét+pässwörd", "s3cret\udce9(latin)", 's3"cr\\et[.*')


def sasl_exchange(data: bytes) -> None:
    """An octet that chooses mechanism and password, the user up to a NUL, then what a server says to AUTH."""
    how, (user, _, script) = data[0] if data else 0, data[1:].partition(b"\0")
    password = _PASSWORDS[how % 4]
    try:
        mechanism = _mechanism(how, user.decode("utf-8", "surrogateescape"), password)
    except Failure as failure:  # SASLprep, or a token that is none
        checks.tells_nothing([checks.told(failure)], password)
        return
    for text in script.decode("latin-1").split("\n"):
        with contextlib.suppress(ValueError):
            challenge = sasl.decode(text)
            assert sasl.decode(sasl.encode(challenge)) == challenge
    server = Wired(AFTER_SEND + script, mouthful=how // 12 % 8)
    told: list[str] = []
    connection = Connection(_HOST, "client.example", lambda mark, line: told.append(line))
    connection.hide(*sasl.forms(user.decode("utf-8", "surrogateescape"), password))
    try:
        connection.connect(dial=WiredOpening(_HOST, [server]).take())
        connection.auth(mechanism)
    except Failure as failure:
        told.append(checks.told(failure))
        assert failure.lead in (TRY_AGAIN, REFUSED)  # noqa: PT017
    else:
        codes = [reply.code for reply in replies_in(bytes(server.heard))]
        assert 235 in codes
        assert not mechanism.name.startswith("SCRAM-"), "who says 235 does not know the password"
        assert set(codes[: codes.index(235)]) <= {334}
        assert codes.index(235) <= sasl.CHALLENGES
    finally:
        connection.close()
        server.end()
    said = bytes(server.said)
    if said.endswith(b"\r\n"):  # else the connection broke within a line
        assert re.fullmatch(rb"AUTH [A-Z0-9-]+(?: [A-Za-z0-9+/]+=*)?\r\n(?:(?:[A-Za-z0-9+/]*=*|\*)\r\n)*", said), said
    assert said.count(b"\r\n") <= sasl.CHALLENGES + 1
    checks.tells_nothing(told, password)


def _mechanism(how: int, user: str, password: str) -> sasl.Mechanism:
    """The simple ones in three quarters of all cases, as ever, and the others in the last."""
    if how < 192:
        return sasl.mechanism(("PLAIN", "LOGIN", "CRAM-MD5")[how // 4 % 3], user, password)
    name = ("SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "OAUTHBEARER", "XOAUTH2")[how // 4 % 4]
    if name in sasl.BY_TOKEN:
        return oauth.Bearer(name, user, password)
    return scram.Scram(name, user, password, sasl.Channel(binding=b"bound"), nonce="fyko+d2lbbFgONRv9qkxdawL")


def dialogue(data: bytes) -> None:
    """Two octets that say what is to be sent and how the socket behaves, then what the server says."""
    what, how, script = (data[0], data[1], data[2:]) if len(data) > 1 else (0, 0, data)
    many, two_hosts, with_tls, with_auth, utf8, notified, next_host, large = (bool(what >> bit & 1) for bit in range(8))
    host = _HOST
    if with_auth:
        host = host._replace(auth=Auth("alice", (Secret("literal", _PASSWORDS[0]),), MECHANISMS, True))
    if with_tls:
        host = host._replace(tls=Tls("if-offered", ca_file=_NO_CERTIFICATES))
    to = ("you@example.net", "two@example.net", "three@example.net")[: 3 if many else 1]
    header = b"From: me@client.example\nTo: you@example.net\nSubject: hello\n"
    transaction = Transaction(
        ways=tuple(Way(one, "me@client.example", header) for one in ((host, _NOWHERE) if two_hosts else (host,))),
        recipients=tuple(Recipient(one, (one,), f"<{one}>") for one in to),
        body=Body(b".one\n" * (3_500 if large else 1)),
        message_id="<1@client.example>",
        hostname="client.example",
        utf8=utf8,
        notify="NEVER" if notified else "",
        returns="HDRS" if notified else "",
        tempfail="next-host" if next_host else "final",
    )
    mouthful = (how & 7) * (3000 if large else 1)
    servers = [Wired(script, mouthful, bool(how & 8)) for _ in range(3 if with_tls else 1)]
    told: list[str] = []
    outcome: Receipt | Failure
    try:
        opening = WiredOpening(host, list(servers), _PASSWORDS[0] if with_auth else "")
        outcome = deliver(transaction, lambda mark, line: told.append(line), opening)
        told.append(outcome.reply)
    except Failure as failure:
        outcome = failure
        told.append(checks.told(failure))
    finally:
        for server in servers:
            server.end()
    checks.tells_nothing(told, _PASSWORDS[0])
    talked = [server for server in servers if b"MAIL FROM" in server.said]
    assert len(talked) <= 1
    _Course(transaction, talked[0] if talked else servers[0]).bears(
        outcome, surprises=SILENCE in script or RESET in script
    )


_OPENED = rb"(?:EHLO client\.example\r\n(?:HELO client\.example\r\n)?(?:STARTTLS\r\n)?)?"
_LOGGED_IN = rb"(?:AUTH [A-Z0-9-]+(?: [A-Za-z0-9+/]+=*)?\r\n(?:(?:[A-Za-z0-9+/]*=*|\*)\r\n){0,10})?"
_MAIL = rb"MAIL FROM:<me@client\.example>(?: SIZE=[0-9]+)?(?: SMTPUTF8)?(?: RET=HDRS)?\r\n"
_RCPT = b"".join(rb"(?:RCPT TO:<%s@example\.net>(?: NOTIFY=NEVER)?\r\n)?" % name for name in (b"you", b"two", b"three"))
_QUIT = re.compile(rb"(?:^|(?<=\n))Q(?:U(?:I(?:T(?:\r\n?)?)?)?)?\Z")  # whose send is not repeated
_BROKEN = re.compile(rb"[^\n]*(?:QUIT\r\n)?\Z")  # a line within which sending failed, and a QUIT that came of it
_COMMANDS = re.compile(rb"%s%s(?:%s%s)?" % (_OPENED, _LOGGED_IN, _MAIL, _RCPT))


class _Course:
    """How a dialogue went, read from what was said and what could be heard."""

    def __init__(self, transaction: Transaction, server: Wired) -> None:
        self.transaction = transaction
        self.said, self.heard, self.offers = bytes(server.said), bytes(server.heard), server.offers
        header, body = transaction.ways[0].header, transaction.body
        dotted = b"".join(wire.with_dots(wire.text(header, body)))
        chunk = b"".join(wire.as_chunk(wire.text(header, body)))
        self.texts = {b"DATA\r\n": dotted, b"BDAT %d LAST\r\n" % len(chunk): chunk}
        self.end = self.first_offer(*(command + text for command, text in self.texts.items()))
        """Octets heard when the end of the message began to leave; -1: it never did."""

    def first_offer(self, *parts: bytes) -> int:
        """Octets heard before the first send that would have completed one of these parts; -1: there was none."""
        return next((heard for said, heard in self.offers if any(part in said for part in parts)), -1)

    def bears(self, outcome: Receipt | Failure, surprises: bool) -> None:
        """Fail where the outcome does not follow from it (RULES A1, C3); `surprises`: silence or a reset among it."""
        self.is_lawful()
        if self.end < 0:
            assert isinstance(outcome, Failure)
            assert outcome.lead != UNCERTAIN
            return
        answers = 3 if self.first_offer(b"MAIL FROM") == self.end and self.in_one_flight() else 1
        verdict = replies_in(self.heard, self.end)[:answers]
        taken = len(verdict) == answers and all(reply.kind == 2 for reply in verdict)
        if isinstance(outcome, Receipt):
            assert taken
            assert outcome.reply.startswith(str(verdict[-1].code))
            return
        assert not any(reason.stage is Stage.CONNECT for reason in outcome.reasons), "another host was tried"
        assert outcome.lead == UNCERTAIN or any(reply.kind in (4, 5) for reply in verdict)
        said, heard = self.offers[-1]
        before_quit = heard if said.endswith(b"QUIT\r\n") else len(self.heard)
        if taken and verdict[-1].end == before_quit and not surprises:
            assert b"2.1." in self.heard  # an answer about an address, one too many before the verdict

    def in_one_flight(self) -> bool:
        """Whether MAIL left together with the end of the message (RULES B6)."""
        said = next(said for said, _ in self.offers if b"MAIL FROM" in said)
        return any(command + text in said for command, text in self.texts.items())

    def is_lawful(self) -> None:
        """Fail where something was said that may not be (RULES B1, B2): in this order, once, and with leave."""
        lines = self.said
        for command, text in self.texts.items():
            before, found, behind = lines.partition(command)
            if found:
                lines = before
                self.has_leave(command)
                left = _QUIT.sub(b"", behind)
                assert text.startswith(left)
                assert left == behind or left in (b"", text), "QUIT within the text"
        lines = _BROKEN.sub(b"", lines)
        assert _COMMANDS.fullmatch(lines), lines

    def has_leave(self, command: bytes) -> None:
        """Fail where the text was announced before every recipient had been accepted."""
        heard = self.first_offer(command)
        if command.startswith(b"BDAT") and self.in_one_flight():
            return
        kinds = [reply.kind for reply in replies_in(self.heard[:heard])]
        assert kinds[-1 - len(self.transaction.recipients) :] == [2] * (1 + len(self.transaction.recipients))
        if command == b"DATA\r\n" and self.end >= 0:
            before = replies_in(self.heard[: self.end])
            assert before[-1].code == 354
            assert before[-1].end == self.end
