"""ATRN (RFC 2645), the customer's side: a provider asked for our mail, which comes over the very same connection.

For machines with a changing address or behind NAT, where the provider could not call back as ETRN wants it. It needs
a login, and listens on port 366 (INTERMITTENT 1.4).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from muawrap import report
from muawrap.config import Config
from muawrap.failure import REFUSED, Failure, Stage
from muawrap.holding import mta
from muawrap.holding.asking import servers
from muawrap.holding.asking.servers import Server
from muawrap.holding.asking.turned import IDLE, Tally, Turned
from muawrap.mail import Reply
from muawrap.submission.connection import Connection, Trace

PORT = 366  # odmr (RFC 2645, 7)
NONE_WAITS = 453
_LOGIN = "the provider wants a login: set auth in a [hold.NAME], with the mechanism it offers"
REFUSALS: dict[int, tuple[int, str]] = {
    450: (os.EX_TEMPFAIL, "try again later, or for other domains"),
    451: (os.EX_TEMPFAIL, "try again later"),
    500: (os.EX_UNAVAILABLE, "the provider has no ATRN, or not here: muawrap etrn asks by ETRN"),
    501: (os.EX_DATAERR, "the domains are named one by one, as the provider knows them"),
    502: (os.EX_UNAVAILABLE, "the provider has no ATRN, or not here: muawrap etrn asks by ETRN"),
    **dict.fromkeys((530, 534, 535, 538, 550), (os.EX_NOPERM, _LOGIN)),
}
"""The exit status and the advice for each refusal (RFC 2645, 5.2.1); others go by their first digit."""
_KINDS = {4: os.EX_TEMPFAIL, 5: os.EX_UNAVAILABLE}


class Fetched(NamedTuple):
    """How it went."""

    tally: Tally
    reply: str  # to ATRN
    none_waited: bool  # the reply said so, or no message was begun

    @property
    def status(self) -> int:
        """Of sysexits.h: what stays at the provider can be fetched later, what was refused cannot."""
        if self.tally.left:
            return os.EX_TEMPFAIL
        return os.EX_UNAVAILABLE if self.tally.refused else os.EX_OK


def domains(server: Server, given: Sequence[str]) -> Sequence[str]:
    """The domains to ask for: those given, else those of the table; none: all that the login is for. Raises Failure."""
    found = given or server.domains
    for domain in found:
        if not re.fullmatch(r"[!-+\--~]{1,255}", domain):  # printable, and no comma
            raise Failure(
                f'cannot ask for "{domain[:255]}": it is no domain',
                advice="a domain has letters, digits, dashes and dots, at most 255 of them",
                status=os.EX_DATAERR,
            )
    return found


def fetch(
    settings: Config,
    server: Server,
    wanted: Sequence[str],
    *,
    trouble: Callable[[Failure], None],
    trace: Trace | None = None,
    seconds: float = mta.SECONDS,
    idle: float = IDLE,
) -> Fetched:
    """Ask for the mail of these domains and hand it to `mta`, each message before it is acknowledged. Raises Failure.

    `trouble` is told of each message that was not taken, and why the connection broke where messages had come by then.
    """
    mta.must_not_be_us(settings.mta)
    facts = report.Facts()
    facts.follow(settings)
    try:
        connection = servers.reached(server, settings, trace)
        try:
            reply = _asked(connection, wanted)
            _log(facts, server, wanted, ("reply", str(reply)))
            if reply.code == NONE_WAITS:
                return Fetched(Tally(), str(reply), True)
            sock, begun = connection.turned()
        finally:
            connection.leave()
    except Failure as failure:
        _log(facts, server, wanted, ("error", str(failure)))
        raise
    host = str(connection.smart_host)
    with sock:
        turned = Turned(sock, begun, host, settings, trouble=trouble, trace=trace, seconds=seconds, idle=idle)
        try:
            turned.run()
        except Failure as failure:
            _log(facts, server, wanted, ("error", str(failure)))
            trouble(failure)
            return Fetched(turned.tally._replace(left=max(1, turned.tally.left)), str(reply), False)
    return Fetched(turned.tally, str(reply), not turned.began)


def _log(facts: report.Facts, server: Server, wanted: Sequence[str], outcome: tuple[str, str]) -> None:
    fields = [("server", server.name), ("domains", ",".join(wanted)), outcome]
    report.event("atrn", facts, fields, error=outcome[0] == "error")


def _asked(connection: Connection, wanted: Sequence[str]) -> Reply:
    """The reply to ATRN where it is one to go on with: 250, or that there is no mail. Raises Failure."""
    if not connection.capabilities.offers("ATRN"):
        connection.stage = Stage.OFFER
        offered = " ".join(connection.capabilities.keywords) or "nothing"
        advice = "the port for ATRN is 366; where ETRN is offered, use muawrap etrn"
        failure = connection.failure(f"the server does not offer ATRN, but {offered}", lead=REFUSED, advice=advice)
        failure.status = os.EX_UNAVAILABLE
        raise failure
    connection.stage = Stage.ATRN
    reply = connection.command(f"ATRN {','.join(wanted)}".rstrip())
    if reply.code in (250, NONE_WAITS):
        return reply
    status, advice = REFUSALS.get(reply.code, (_KINDS.get(reply.kind, os.EX_TEMPFAIL), ""))
    failure = connection.refused(reply)
    failure.advice = failure.advice or advice
    failure.status = status
    raise failure
