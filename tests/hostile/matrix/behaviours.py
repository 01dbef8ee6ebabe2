"""The smart hosts of the matrix: what each one does, and what kind of outcome that is by RULES A3 and C1 to C3."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from tests.support.server import Action, Channel, Drop, Raw, Reset, Silence, Then

SHORT = 0.3  # seconds; for the one stage at which a host is silent, so that a busy machine disturbs no other


class Reach(Enum):
    """How far the outcome at one host reaches."""

    HOST = "before MAIL: its own failure, the next host is tried (C1)"
    LINK = "after MAIL, the end of the message not handed over: a loss or a broken rule, the next host is tried (C3)"
    MESSAGE = "a complete 4yz or 5yz after MAIL: final, unless tempfail lets a 4yz move on (C2)"
    VERDICT = "a complete 4yz or 5yz to the end of the message: final, whatever tempfail says (C3)"
    OPEN = "the end of the message handed over and no complete verdict: final, nobody knows (C3)"
    TAKEN = "a complete 2yz to the end of the message (A1)"


class Behaviour(NamedTuple):
    """One row of the matrix, and one column."""

    name: str
    reach: Reach
    says: str = ""  # a pattern of what the sentence must tell of this host, beside its name and port
    script: Mapping[str, Action | str | bytes] = {}  # empty: well-behaved
    passing: bool = True  # temporary (A3): all but a 5yz and what we refuse ourselves
    kept: int = 0  # copies the server really keeps of a message whose end it has got, whatever it says
    listening: bool = True
    size: int = 100_000_000  # octets it takes
    login: bool = False  # wants AUTH
    timeouts: Mapping[str, float] = {}  # those that its silence runs into
    by_data: bool = False  # shown in the answer to DATA or within its text: never offers CHUNKING
    long: bool = False  # needs a text that the kernel cannot take in whole


def replies(stage: str, reply: str, reach: Reach, *, login: bool = False, by_data: bool = False) -> Behaviour:
    """A behaviour that is one complete 4yz or 5yz."""
    name, passing = f"{stage} {reply[:3]}", reply[0] == "4"
    return Behaviour(name, reach, reply, {stage: reply}, passing, login=login, by_data=by_data)


def after_the_dot(name: str, says: str, action: Action | bytes, kept: int, **timeouts: float) -> Behaviour:
    """A behaviour that leaves the outcome open."""
    return Behaviour(name, Reach.OPEN, says, {"dot": action}, kept=kept, timeouts=timeouts)


class ReadSome(Action):
    """Read a part of the text, then reset."""

    final = True

    def perform(self, channel: Channel) -> None:
        channel.receive(record=False)
        channel.reset()


ENDLESS = b"250-MORE\r\n" * 50_000
BEHAVIOURS = [
    # -- before MAIL
    Behaviour("refused", Reach.HOST, "refused", listening=False),
    Behaviour("closes at once", Reach.HOST, "greeting", {"connect": Drop()}),
    Behaviour("silent greeting", Reach.HOST, "greeting", {"greeting": Silence()}, timeouts={"greeting": SHORT}),
    replies("greeting", "421 4.3.2 too busy", Reach.HOST),
    replies("greeting", "554 5.7.1 go away", Reach.HOST),
    Behaviour("garbage greeting", Reach.HOST, "greeting", {"greeting": b"SSH-2.0-OpenSSH_9.2\r\n"}),
    Behaviour("endless EHLO", Reach.HOST, "EHLO", {"EHLO": ENDLESS}),
    Behaviour("SIZE too small", Reach.HOST, "1000", size=1000, passing=False),
    replies("AUTH", "454 4.7.0 no directory", Reach.HOST, login=True),
    replies("AUTH", "535 5.7.8 wrong password", Reach.HOST, login=True),
    # -- after MAIL
    replies("MAIL", "451 4.3.0 no disk", Reach.MESSAGE),
    replies("MAIL", "550 5.7.1 not you", Reach.MESSAGE),
    replies("RCPT", "450 4.2.1 grey list", Reach.MESSAGE),
    replies("RCPT", "550 5.1.1 no such user", Reach.MESSAGE),
    Behaviour("lost at RCPT", Reach.LINK, "recipient", {"RCPT": Drop()}),
    replies("DATA", "451 4.3.1 no room", Reach.MESSAGE, by_data=True),
    replies("DATA", "554 5.3.4 no text", Reach.MESSAGE, by_data=True),
    Behaviour("DATA 250", Reach.LINK, "DATA|text", {"DATA": "250 2.0.0 fine"}, by_data=True),
    Behaviour("lost in the text", Reach.LINK, "text", {"text": ReadSome()}, by_data=True, long=True),
    Behaviour(
        "early 552",
        Reach.MESSAGE,
        "552 5.3.4 too much",
        {"text": Raw(b"552 5.3.4 too much\r\n"), "dot": "552 5.3.4 too much"},
        passing=False,
        by_data=True,
    ),
    # -- after the end of the message
    Behaviour("accepts", Reach.TAKEN, kept=1),
    Behaviour("HELO only", Reach.TAKEN, script={"EHLO": "502 5.5.1 no extensions"}, kept=1),
    Behaviour("accepts and resets", Reach.TAKEN, script={"dot": Then("250 2.0.0 taken", Reset())}, kept=1),
    replies("dot", "452 4.2.2 mailbox full", Reach.VERDICT),
    replies("dot", "554 5.6.0 spam", Reach.VERDICT),
    after_the_dot("mixed verdict", "verdict", b"250-taken\r\n554 refused\r\n", 1),
    after_the_dot("silent after the dot", "verdict", Silence(), 1, final=SHORT),
    after_the_dot("closes after the dot", "verdict", Drop(), 0),
    after_the_dot("half a verdict", "verdict", Then(b"250-2.0.0 tak", Drop()), 1),
    after_the_dot("resets after the dot", "verdict", Reset(), 1),
]
