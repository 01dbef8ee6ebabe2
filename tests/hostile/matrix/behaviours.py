"""The smart hosts of the matrix: what each one does, and what kind of outcome that is by RULES A3 and C1 to C3."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from tests.support.nameserver import SERVFAIL
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
    way: str = "smtp"  # how it is reached: a row of places.WAYS
    lie: str = ""  # of tests/support/scram.py; the login is by SCRAM then
    password: str = ""  # the server knows, where it is not ours; the login is by SCRAM then
    records: tuple[str, ...] = ()  # SRV; {port} is its own, {closed} and {other} are nobody's
    stumbles: bool = False  # something in front of it fails, but it is reached

    @property
    def by_scram(self) -> bool:
        return bool(self.lie or self.password)


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


DEAD, GOOD = "SRV 0 0 {closed} localhost.", "SRV 2 0 {port} localhost."
DEAD_AS_WELL = DEAD.replace("closed", "other")
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
    # -- found by DNS
    Behaviour("srv NXDOMAIN", Reach.HOST, "DNS does not know", passing=False, listening=False, way="srv"),
    Behaviour("srv SERVFAIL", Reach.HOST, "SERVFAIL", listening=False, way="srv", records=(SERVFAIL,)),
    Behaviour(
        "srv, no target up", Reach.HOST, "refused.*refused", listening=False, way="srv", records=(DEAD, DEAD_AS_WELL)
    ),
    Behaviour("srv, first target dead", Reach.TAKEN, kept=1, way="srv", records=(DEAD, GOOD), stumbles=True),
    Behaviour("srv accepts", Reach.TAKEN, kept=1, way="srv", records=(GOOD,)),
    # -- LMTP
    Behaviour("LMTP accepts", Reach.TAKEN, kept=1, way="lmtp"),
    replies("dot", "452 4.2.2 over quota", Reach.VERDICT)._replace(name="LMTP dot 452", way="lmtp"),
    after_the_dot("LMTP closes after the dot", "verdict|unknown", Drop(), 0)._replace(way="lmtp"),
    # -- who it is: SCRAM, a pinned certificate, a proxy
    Behaviour("SCRAM with a lie", Reach.HOST, "could not prove", passing=False, login=True, lie="wrong signature"),
    Behaviour("SCRAM refused", Reach.HOST, "535", passing=False, login=True, password="another"),
    Behaviour("another certificate", Reach.HOST, "fingerprint", passing=False, way="pinned"),
    Behaviour("proxy refuses", Reach.HOST, "its rules forbid", {"reply": b"\5\2\0\1"}, passing=False, way="socks"),
    Behaviour("proxy accepts", Reach.TAKEN, kept=1, way="socks"),
]
OLD = next(number for number, behaviour in enumerate(BEHAVIOURS) if behaviour.way != "smtp")
"""From here on, what a plain host at an address does not need: fewer pairs of these are run with every test run."""
