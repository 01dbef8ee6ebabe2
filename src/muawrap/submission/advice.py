"""What to do about a smart host that says no: replies people meet, and the advice that goes with each."""

from __future__ import annotations

import re
from typing import NamedTuple

from muawrap.failure import Stage
from muawrap.mail import Reply


class Row(NamedTuple):
    """One kind of reply. sendmail(8) shows every row under REPLIES, with its examples, cause and advice."""

    stages: tuple[Stage, ...]  # where it is said; empty: anywhere
    codes: tuple[str, ...]  # what the code begins with; "5" is every 5yz
    signs: tuple[str, ...]  # one of these stands in the reply, without case; empty: whatever it says
    cause: str
    advice: str
    examples: tuple[str, ...]  # as servers say it

    def matches(self, stage: Stage, reply: Reply) -> bool:
        if (self.stages and stage not in self.stages) or not str(reply.code).startswith(self.codes):
            return False
        return not self.signs or re.search(_any_of(self.signs), str(reply), re.IGNORECASE) is not None


def for_reply(stage: Stage, reply: Reply) -> str:
    """The advice for a reply, "" where we know none. The first row that matches decides."""
    return next((row.advice for row in ROWS if row.matches(stage, reply)), "")


def _any_of(signs: tuple[str, ...]) -> str:
    """As an expression in which 5.7.1 is neither a part of 5.7.14 nor of an address."""
    return rf"(?<![0-9.])(?:{'|'.join(map(re.escape, signs))})(?![0-9])"


_AUTH = (Stage.AUTH,)
_MESSAGE = (Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.TEXT, Stage.VERDICT)
_BUSY = (
    "too many",
    "too much",
    "throttl",
    "rate limit",
    "unusual rate",
    "sending rate",
    "server busy",
    "4.7.0",
    "4.7.28",
)

# Narrow rows stand before wide ones: "too many recipients" is not "too many connections".
ROWS = (
    Row(
        _AUTH,
        ("535",),
        ("gsmtp", "support.google.com"),
        "Gmail takes no account password from a program.",
        "put an application password into auth.password, Gmail takes no other",
        ("535 5.7.8 Username and Password not accepted. https://support.google.com/mail/?p=BadCredentials gsmtp",),
    ),
    Row(
        _AUTH,
        ("534", "535"),
        ("5.7.9", "5.7.14", "application-specific", "app-specific", "app password", "application password"),
        "The account has two-step verification, and a password of its own for each program.",
        "put an application password into auth.password",
        ("534 5.7.9 Application-specific password required.",),
    ),
    Row(
        _AUTH,
        ("535",),
        ("SmtpClientAuthentication is disabled", "smtp_auth_disabled"),
        "Exchange Online: SMTP AUTH is switched off for the tenant or for this mailbox.",
        "its administrator must enable authenticated SMTP for auth.user",
        ("535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant.",),
    ),
    Row(
        _AUTH,
        ("535",),
        ("5.7.139",),
        "Exchange Online does not let this mailbox in by password, or the password is wrong.",
        "look at auth.user and auth.password, then ask the administrator whether passwords are allowed",
        ("535 5.7.139 Authentication unsuccessful, basic authentication is disabled.",),
    ),
    Row(
        (),
        ("530", "538", "550", "554"),
        ("starttls", "5.7.10", "5.7.11", "encryption required", "tls required", "must use tls"),
        "The server takes neither logins nor mail in the clear.",
        'use submission:// or submissions://, and not tls.policy = "none"',
        (
            "530 5.7.0 Must issue a STARTTLS command first",
            "538 5.7.11 Encryption required for requested authentication mechanism",
        ),
    ),
    Row(
        _AUTH,
        ("4",),
        ("too many", "4.7.0"),
        "Too many logins in a short time, or the server cannot check passwords at the moment.",
        "wait some minutes, each further attempt may lock the account for longer",
        ("454 4.7.0 Too many login attempts, please try again later.",),
    ),
    Row(
        _AUTH,
        ("504", "534"),
        (),
        "The mechanism is not known, or too weak for the server.",
        "auth.mechanisms names another one",
        ("504 5.7.4 Unrecognized authentication type",),
    ),
    Row(
        _AUTH,
        ("5",),
        (),
        "User and password do not fit, or the account may not log in here.",
        "look at auth.user and auth.password; many providers want an application password",
        ("535 5.7.8 Error: authentication failed:", "535 Authentication Credentials Invalid"),
    ),
    Row(
        (Stage.STARTTLS,),
        ("4", "5"),
        (),
        "The server offers TLS, but cannot do it now.",
        "submissions:// is TLS at once; tls.policy decides",
        ("454 4.7.0 TLS not available due to local problem",),
    ),
    Row(
        (Stage.EHLO, Stage.LHLO),
        ("501", "504", "550", "553"),
        (),
        "The server does not take the name this machine gives with EHLO.",
        "set hostname to a name with a dot that DNS knows",
        ("501 5.5.4 Invalid domain name", "501 Syntactically invalid EHLO argument(s)"),
    ),
    Row(
        _MESSAGE,
        ("4", "5"),
        ("helo command rejected", "ehlo command rejected", "helo name", "ehlo name", "invalid helo", "bad helo"),
        "The name this machine gave with EHLO is refused late.",
        "set hostname to a name with a dot that DNS knows",
        ("504 5.5.2 <laptop>: Helo command rejected: need fully-qualified hostname",),
    ),
    Row(
        (Stage.GREETING,),
        ("5",),
        (),
        "The server wants nothing from this machine's address: it is on a block list, or unknown to it.",
        "the server blocks this machine's address: use another smart host, with [auth]",
        ("554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked",),
    ),
    Row(
        _MESSAGE,
        ("5",),
        (
            "5.7.60",
            "5.2.252",
            "send as",
            "not owned by",
            "sender address is not allowed",
            "email address is not verified",
            "one of your addresses",
        ),
        "The account may not send as this sender.",
        "set from to an address this account may send as",
        (
            "550 5.7.60 SMTP; Client does not have permissions to send as this sender",
            "553 5.7.1 <root@laptop.example>: Sender address rejected: not owned by user al",
            "554 Message rejected: Email address is not verified.",
        ),
    ),
    Row(
        _MESSAGE,
        ("5",),
        (
            "5.7.57",
            "5.5.1 authentication",
            "authentication required",
            "authentication is required",
            "not authenticated",
            "not logged in",
            "auth required",
        ),
        "The server takes mail only after a login.",
        "set auth.user and auth.password",
        ("530 5.7.57 Client not authenticated to send mail.", "530 5.7.0 Authentication Required."),
    ),
    Row(
        _MESSAGE,
        ("530",),
        (),
        "The server takes mail only after a login.",
        "set auth.user and auth.password",
        ("530 5.7.1 Go away",),
    ),
    Row(
        _MESSAGE,
        ("4", "5"),
        ("relay access", "relaying", "relay not", "to relay", "5.7.54", "not a relay", "no relay"),
        "Without a login the server takes mail for its own domains only.",
        "set auth.user and auth.password, or have the server allow this machine's address",
        ("554 5.7.1 <you@example.net>: Relay access denied", "550 relay not permitted"),
    ),
    Row(
        _MESSAGE,
        ("4", "5"),
        ("5.1.7", "5.1.8", "4.1.8", "sender verify", "sender address rejected", "sender domain", "domain of sender"),
        "The sender's domain does not exist, or the address is none.",
        "set from, or qualify_domain, to what exists in DNS",
        ("450 4.1.8 <root@laptop.lan>: Sender address rejected: Domain not found",),
    ),
    Row(
        _MESSAGE,
        ("5",),
        ("5.7.23", "5.7.25", "5.7.26", "5.7.27", "dmarc", "spf check", "unauthenticated email"),
        "The sender's domain does not name this smart host as one of its own (SPF, DKIM, DMARC).",
        "use the smart host of the sender's domain, or set from",
        ("550 5.7.26 Unauthenticated email from example.org is not accepted due to domain's DMARC policy.",),
    ),
    Row(
        _MESSAGE,
        ("5",),
        ("blocked using", "block list", "blocklist", "blacklist", "spamhaus", "client host rejected"),
        "This machine's address is on a block list, as those of dial-up lines are.",
        "the server blocks this machine's address: use another smart host, with [auth]",
        ("554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org",),
    ),
    Row(
        _MESSAGE,
        ("4", "5"),
        ("4.5.3", "5.5.3", "too many recipients"),
        "The server takes fewer recipients in one transaction, and a message is never split.",
        "name fewer recipients in one call",
        ("452 4.5.3 Error: too many recipients",),
    ),
    Row(
        _MESSAGE,
        ("5",),
        ("5.4.5", "sending limit exceeded", "relay limit exceeded", "daily limit"),
        "The provider's limit for a day has been reached.",
        "wait until tomorrow, or use another smart host",
        ("550 5.4.5 Daily user sending limit exceeded.",),
    ),
    Row(
        _MESSAGE,
        ("4",),
        ("greylist", "graylist", "grey-list", "gray-list"),
        "Greylisting: who comes for the first time is asked to come again.",
        "send it again in a few minutes: this is greylisting",
        (
            "450 4.2.0 <you@example.net>: Recipient address rejected: Greylisted",
            "451 4.7.1 Greylisting in action, please come back later",
        ),
    ),
    Row(
        (),
        ("4",),
        _BUSY,
        "Too many connections or messages from this address or account, or the server is busy.",
        "wait some minutes, and send less at once",
        (
            "421 4.7.0 smtp.example.org Error: too many connections from 192.0.2.1",
            "421 4.7.0 Try again later, closing connection.",
            "454 Throttling failure: Maximum sending rate exceeded.",
        ),
    ),
    Row(
        _MESSAGE,
        ("450", "451"),
        ("4.7.1", "4.7.500", "try again later", "come back later"),
        "A delay by policy, as with greylisting.",
        "send it again in a few minutes",
        ("450 4.7.1 <you@example.net>: please try again later",),
    ),
    Row(
        _MESSAGE,
        ("4", "5"),
        ("5.2.2", "4.2.2", "mailbox full", "mailbox is full", "over quota", "quota exceeded"),
        "The recipient's mailbox is full.",
        "the recipient has to make room",
        ("552 5.2.2 Mailbox full", "452 4.2.2 The recipient's inbox is out of storage space."),
    ),
    Row(
        (),
        ("452",),
        ("4.3.1", "insufficient system storage"),
        "The server's disk is full.",
        "try again later, or name a second smart host in smart_hosts",
        ("452 4.3.1 Insufficient system storage",),
    ),
    Row(
        _MESSAGE,
        ("5",),
        ("5.3.4", "5.2.3", "too large", "too big", "size exceeds", "exceeds size", "size limit", "exceeds fixed"),
        "The message is larger than the server takes.",
        "send less of it, or by a smart host with a higher limit",
        ("552 5.3.4 Message size exceeds fixed limit", "552 5.2.3 Your message exceeded Google's message size limits."),
    ),
    Row(
        (Stage.RCPT, Stage.DATA, Stage.VERDICT),
        ("5",),
        ("5.1.1", "5.1.10", "user unknown", "unknown user", "no such user", "does not exist", "5.4.1"),
        "Nobody has this address.",
        "is the address right? sendmail -bv shows where it comes from",
        (
            "550 5.1.1 <yuo@example.net>: Recipient address rejected: User unknown",
            "550 5.4.1 Recipient address rejected: Access denied.",
        ),
    ),
    Row(
        (Stage.DATA, Stage.TEXT, Stage.VERDICT),
        ("5",),
        ("spam", "unsolicited", "virus", "malware", "content rejected"),
        "The text, an attachment or a link looks bad to the server.",
        "the server dislikes what the message says, not how it was sent",
        ("550 5.7.1 Our system has detected that this message is likely unsolicited mail.",),
    ),
)
"""Every reply we have advice for; sendmail(8) has the same table."""
