"""What a caller of -bs reads: a verdict or a failure as a reply, and a reply as octets."""

from __future__ import annotations

import re
from collections.abc import Iterator

from muawrap import report
from muawrap.failure import REFUSED, TRY_AGAIN, UNCERTAIN, Failure, Stage
from muawrap.mail import Reply

WIDTH = 490  # octets of text in a line: with code, enhanced status and CRLF it takes 512 at most (RFC 5321, 4.5.3.1.5)
SENTENCE = 4096  # octets of what we say in one reply, as in one line for people

_VERDICTS = (Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.TEXT, Stage.VERDICT)
"""Where a smart host's reply is about the message."""
_ON_US = (530, 534, 535, 538)
"""Replies about our login (RFC 4954), of which the caller knows nothing, even where they come so late."""
_KINDS = {TRY_AGAIN: 4, REFUSED: 5}
# RFC 3463, 2: class "." subject "." detail
_STATUS = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: +|\Z)")


def verdict(failure: Failure) -> Reply:
    """The reply to a text that was not sent, or may have been (RULES E8): the smart host's own where it gave one."""
    own = _own(failure)
    if own is not None:
        whom = f"{failure.host} {failure.stage.answered} {failure.recipient}" if failure.stage else ""
        return Reply(own.code, (*own.lines, *([whom] if failure.recipient else ())))
    if failure.lead == UNCERTAIN:
        return Reply(554, (f"5.4.2 {UNCERTAIN}: {sentence(failure)}",))  # 4yz would have it sent again
    codes = {own.code if (own := _own(reason)) else 0 for reason in failure.reasons}
    if len(codes) == 1 and (code := codes.pop()) // 100 == _KINDS[failure.lead]:
        return Reply(code, (sentence(failure),))  # several recipients were refused in the same way
    if failure.lead == TRY_AGAIN:
        far = failure.stage is not None or failure.reasons
        return Reply(451, (f"{'4.4.1' if far else '4.3.0'} {sentence(failure)}",))
    return Reply(554, (f"5.3.0 {sentence(failure)}",))


def not_routed(failure: Failure) -> Reply:
    """The reply to a sender or recipient that cannot be (RULES E8)."""
    if failure.lead == TRY_AGAIN:
        return Reply(451, (f"4.3.0 {sentence(failure)}",))
    return Reply(550, (f"5.1.0 {sentence(failure)}",))


def _own(failure: Failure) -> Reply | None:
    """The smart host's refusal of this very message."""
    reply = failure.reply
    if reply is None or failure.stage not in _VERDICTS or reply.code in _ON_US:
        return None
    return reply if reply.kind == _KINDS.get(failure.lead) else None


def sentence(failure: Failure) -> str:
    """What went wrong, and what to do about it."""
    return (failure.sentence() + (f" ({failure.advice})" if failure.advice else ""))[:SENTENCE]


def on_the_wire(reply: Reply, status: str) -> bytes:
    """A reply in lines of printable ASCII; each has the enhanced status (RFC 2034, 4) of the line itself, or of the
    one before it, or else this one."""
    lines: list[str] = []
    for text in reply.lines or ("",):
        own = _STATUS.match(text) if status else None
        if own is not None and own[1][0] == str(reply.kind):
            status, text = own[1], text[own.end() :]
        lines += (f"{status} {part}" if status else part for part in _folded(report.printable(text)))
    marks = ["-"] * (len(lines) - 1) + [" "]
    return "".join(f"{reply.code}{mark}{line}\r\n" for mark, line in zip(marks, lines, strict=True)).encode("ascii")


def _folded(text: str) -> Iterator[str]:
    """A text in pieces that fit a line, cut at a blank where there is one."""
    while len(text) > WIDTH:
        cut = text.rfind(" ", 1, WIDTH + 1)
        cut = cut if cut > 0 else WIDTH
        yield text[:cut]
        text = text[cut:].lstrip(" ")
    yield text
