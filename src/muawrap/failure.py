"""The one exception of the program: a stage, a subject and an SMTP reply as one sentence."""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import Enum

from muawrap.mail import Reply, Shares

TRY_AGAIN = "not sent, try again"
REFUSED = "not sent, refused"
UNCERTAIN = "may have been sent"

NAMED = 10
"""How many failures of one kind a sentence names before it says "and N more" (RULES A7)."""


class Stage(Enum):
    """Where a dialogue stood: what we were doing, and how the host's reply to it is introduced."""

    CONNECT = ("connecting", "")
    GREETING = ("waiting for the greeting", "greeted us with")
    EHLO = ("saying EHLO", "answered EHLO with")
    LHLO = ("saying LHLO", "answered LHLO with")
    STARTTLS = ("asking for TLS", "answered STARTTLS with")
    TLS = ("setting up TLS", "")
    AUTH = ("authenticating", "answered AUTH with")
    OFFER = ("", "left with")  # what the host offers is looked at
    MAIL = ("naming the sender", "refused the sender:")
    RCPT = ("naming the recipients", "refused the recipient")
    DATA = ("announcing the text", "answered DATA with")
    TEXT = ("sending the text", "interrupted the text with")
    VERDICT = ("waiting for the verdict on the message", "refused the message:")
    ETRN = ("asking for our mail", "refused ETRN for")
    ATRN = ("asking for our mail", "refused ATRN:")

    def __init__(self, doing: str, answered: str) -> None:
        self.doing = doing  # "lost connection while naming the sender"
        self.answered = answered  # "smtp.example.org:25 greeted us with 421 busy"


class Failure(Exception):
    """Why a message was not sent, or may not have been: fields for the program, one sentence for people.

    lead      one of TRY_AGAIN, REFUSED, UNCERTAIN (RULES A3)
    what      the fact in words; with a reply it may be empty, for then the reply is the fact
    stage     where the dialogue stood; None for what happened before any host was contacted
    host      "name:port" of the smart host, recipient "<address>" where one is to blame
    reply     the host's own reply, whole
    advice    what to do about it
    reasons   the failures this one sums up, in order
    status    that of sysexits.h, where stage and reply do not tell it; 0: they do
    degraded  why the hosts before this one did not take the message, for the log
    shares    who has it and who has not, where recipients differ in that; None: nobody has it, or nobody knows of any
    absent    whether a place of a password is not here at all, and the next may be looked at
    """

    def __init__(
        self,
        what: str = "",
        *,
        lead: str = REFUSED,
        stage: Stage | None = None,
        host: str = "",
        recipient: str = "",
        reply: Reply | None = None,
        advice: str = "",
        reasons: tuple[Failure, ...] = (),
        status: int = 0,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.lead = lead
        self.stage = stage
        self.host = host
        self.recipient = recipient
        self.reply = reply
        self.advice = advice
        self.reasons = reasons
        self.status = status
        self.degraded: tuple[str, ...] = ()
        self.shares: Shares | None = None
        self.absent = False

    def sentence(self, named: int = NAMED) -> str:
        """The failure without lead and advice; of several reasons at most `named` are told."""
        if self.reasons:
            told = [reason.sentence(named) for reason in self.reasons[:named]]
            if len(self.reasons) > named:
                told.append(f"and {len(self.reasons) - named} more")
            return (f"{self.what}: " if self.what else "") + "; ".join(told)
        if self.stage is None:
            return self.what
        if self.reply is not None:
            recipient = f"{self.recipient}:" if self.recipient else ""
            parts = [self.host, self.stage.answered, recipient, str(self.reply)]
            return " ".join(filter(None, parts)) + (f" ({self.what})" if self.what else "")
        doing = f" while {self.stage.doing}" if self.stage.doing else ""
        return (f"{self.host}: " if self.host else "") + self.what + doing

    def __str__(self) -> str:
        return self.sentence()


def unreadable(error: OSError) -> Failure:
    """The Failure for a message that was spooled and does not come back."""
    what = f"the message, kept in a file while it is sent, cannot be read again: {error.strerror}"
    return Failure(what, lead=TRY_AGAIN, advice="look at the disk of TMPDIR, /var/tmp or /tmp")


def unexpected(error: Exception) -> Failure:
    """A Failure as it is; whatever else went wrong as one."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, MemoryError):
        return Failure("out of memory", lead=TRY_AGAIN)
    return Failure(internal(error), advice="please report this", status=os.EX_UNAVAILABLE)


def internal(error: BaseException) -> str:
    """What nobody expected, in words."""
    return f"internal error: {type(error).__name__}: {error}"


def together(failures: Sequence[Failure]) -> Failure:
    """Several failures as one (RULES A7); one that is final outweighs those that are not."""
    if len(failures) == 1:
        return failures[0]
    passing = all(failure.lead == TRY_AGAIN for failure in failures)
    advice = {failure.advice for failure in failures}
    return Failure(
        lead=TRY_AGAIN if passing else REFUSED,
        reasons=tuple(failures),
        advice=advice.pop() if len(advice) == 1 else "",
    )
