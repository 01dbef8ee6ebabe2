"""A provider of ATRN on the loopback (RFC 2645): it lets customers in, turns the connection and sends them their mail.

    with Provider([Mail("a@x.example", ["b@y.example"], b"Subject: hello\\r\\n\\r\\nHello.\\r\\n")]) as provider:
        ...                                   # a customer calls 127.0.0.1, provider.port
        provider.finished()
        assert provider.waiting == []

Before it turns it is a Server with AUTH; behind the 250 to ATRN it is an SMTP client, and a strict one: a reply it
does not expect ends the session as `customer: ...`. A message leaves `waiting` when the reply to its final dot is a
2yz, or a 5yz (then it is in `bounced`), and not before.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tests.support.server import Channel, Conversation, Over, Raw, Script, Server

USERS = {"alice": "wonder"}


class Mail(NamedTuple):
    """A message that waits for the customer."""

    sender: str
    recipients: Sequence[str]
    text: bytes  # lines ended by CRLF, dots as they are
    parameters: str = ""  # of MAIL


class Provider(Server):
    """The mail of one customer."""

    def __init__(
        self,
        waiting: Sequence[Mail] = (),
        script: Script | Sequence[Script] = (),
        *,
        users: Mapping[str, str] | None = None,
        context: ssl.SSLContext | None = None,
        pipelining: bool = True,
        early: bytes = b"",  # sent in one piece with the 250 to ATRN
        turned: Callable[[Customer], None] | None = None,  # instead of sending what waits
    ) -> None:
        super().__init__(
            script,
            extensions=["8BITMIME", "ATRN"],
            users=USERS if users is None else users,
            mechanisms=["CRAM-MD5"],
            context=context,
            name="provider.example",
        )
        self.waiting = list(waiting)
        self.bounced: list[Mail] = []
        self.pipelining = pipelining
        self.early = early
        self.turned = turned

    def serve(self, channel: Channel, number: int) -> None:
        script = self.scripts[min(number, len(self.scripts) - 1)]
        _Conversation(self, channel, script).lead()


class _Conversation(Conversation):
    def do_atrn(self, argument: bytes) -> None:
        provider = self.server
        assert isinstance(provider, Provider)
        if provider.users and self.session.authenticated is None:
            self.answer("ATRN", b"530 5.7.0 authentication required")
            return
        if not provider.waiting and provider.turned is None:
            self.answer("ATRN", b"453 You have no mail")
            return
        verdict, action = self.plan("ATRN", b"250 OK now reversing the connection")
        (Raw(action.wire + provider.early) if provider.early else action).perform(self.channel)
        if verdict == 2:
            customer = Customer(self.channel, provider)
            (provider.turned or Customer.send_all)(customer)
            raise Over("turned")


class Customer:
    """The other end of a turned connection, as its client sees it."""

    def __init__(self, channel: Channel, provider: Provider) -> None:
        self.channel = channel
        self.provider = provider
        self.offered: list[str] = []

    def reply(self, *expected: int) -> int:
        """The code of the next reply; it must be one of these."""
        lines: list[str] = []
        while not lines or lines[-1][3:4] == "-":
            lines.append(self.channel.read_line().decode("ascii"))
        codes = {line[:3] for line in lines}
        if len(codes) != 1 or not codes <= {str(code) for code in expected}:
            raise Over(f"customer: {lines}")
        self.offered = self.offered or [line[4:] for line in lines[1:]]
        return int(codes.pop())

    def say(self, *lines: str | bytes) -> None:
        octets = (line.encode() if isinstance(line, str) else line for line in lines)
        self.channel.send(b"".join(line + b"\r\n" for line in octets))

    def greet(self) -> None:
        """Their greeting, and our EHLO."""
        self.reply(220)
        self.say("EHLO provider.example")
        self.reply(250)

    def send(self, mail: Mail) -> int:
        """One message; the code that decided about it."""
        envelope = [f"MAIL FROM:<{mail.sender}>{mail.parameters and ' ' + mail.parameters}"]
        envelope += [f"RCPT TO:<{recipient}>" for recipient in mail.recipients]
        if self.provider.pipelining:
            self.say(*envelope, "DATA")
            codes = [self.reply(250, 354, 451, 452, 501, 503, 550, 553, 554, 555) for _ in range(len(envelope) + 1)]
        else:
            codes = []
            for line in (*envelope, "DATA"):
                self.say(line)
                codes.append(self.reply(250, 354, 451, 452, 501, 503, 550, 553, 554, 555))
        if codes[-1] != 354:
            return next(code for code in codes if code >= 400)
        dotted = b"\r\n" + mail.text
        self.channel.send(dotted.replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n")
        return self.reply(250, 451, 452, 554)

    def send_all(self) -> None:
        """Everything that waits, then QUIT."""
        self.greet()
        for mail in list(self.provider.waiting):
            code = self.send(mail)
            if code < 400 or code >= 500:
                self.provider.waiting.remove(mail)
            if code >= 500:
                self.provider.bounced.append(mail)
        self.quit()

    def quit(self) -> None:
        """QUIT, and their goodbye."""
        self.say("QUIT")
        self.reply(221)
