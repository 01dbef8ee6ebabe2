"""ETRN (RFC 1985): a server asked, name by name, to send what it holds for us over a new connection to our own port.

    NAME     mail for exactly this host or domain          250 251 252 253   yes; 251: there is none
    @NAME    for that domain and everything below it       458 459           not now; not for us
    #QUEUE   of a queue that the server knows by name      500 501           it cannot read the name

The mail never comes over the connection that asks for it. What else servers answer is told by its first digit
(INTERMITTENT 1.1, 1.2).
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from muawrap import report
from muawrap.config import Config
from muawrap.failure import REFUSED, TRY_AGAIN, Failure, Stage
from muawrap.holding.asking import servers
from muawrap.holding.asking.servers import Server
from muawrap.mail import Reply, endpoint
from muawrap.submission.connection import Connection, Trace

NAME_LIMIT = 255  # octets; a domain has no more (RFC 1035, 2.3.4)
PAUSES = (2.0, 4.0, 8.0, 16.0)
"""Seconds between two looks whether our own port is open."""
LOOK = 10.0  # seconds for one look; it is this very machine
HOME = "127.0.0.1"
WORST = (os.EX_DATAERR, os.EX_NOPERM, os.EX_UNAVAILABLE, os.EX_CONFIG, os.EX_TEMPFAIL)
"""Exit statuses from the worst on; of several names the worst one counts."""
NONE_WAITS = 251


class Meaning(NamedTuple):
    """What a reply says about one name."""

    status: int  # of sysexits.h
    words: str
    advice: str = ""


_NOT_FOR_US = "the server does not know this name as ours, or wants a login: auth of the table [hold.NAME]"
_BAD_NAME = "a name is a host or domain, @DOMAIN, or #QUEUE where the server has such queues"
REPLIES = {
    250: Meaning(os.EX_OK, "the server begins to send"),
    NONE_WAITS: Meaning(os.EX_OK, "no mail waits there"),
    252: Meaning(os.EX_OK, "the server begins to send what waits there"),
    253: Meaning(os.EX_OK, "the server begins to send"),
    458: Meaning(os.EX_TEMPFAIL, "the server cannot do it now"),
    459: Meaning(os.EX_NOPERM, "not allowed", _NOT_FOR_US),
    500: Meaning(os.EX_DATAERR, "the server cannot read it", _BAD_NAME),
    501: Meaning(os.EX_DATAERR, "the server cannot read it", _BAD_NAME),
    **dict.fromkeys((530, 534, 535, 538, 550), Meaning(os.EX_NOPERM, "not allowed", _NOT_FOR_US)),
}
KINDS = {
    2: Meaning(os.EX_OK, "accepted"),
    4: Meaning(os.EX_TEMPFAIL, "the server cannot do it now"),
    5: Meaning(os.EX_UNAVAILABLE, "the server does not do it"),
}
"""Every other reply, by its first digit."""


class Answer(NamedTuple):
    """What became of one name."""

    name: str
    code: int = 0  # of the reply; 0: there was none
    text: str = ""  # of the reply, or why there was none
    meaning: str = "not asked"
    pending: int | None = None  # messages that wait there, where the server said so
    failure: Failure | None = None  # None: the server has accepted it; names not asked share one
    status: int = os.EX_OK


# -- what is asked for ----------------------------------------------------------------------------------------------


def names(settings: Config, server: Server, given: Sequence[str]) -> Sequence[str]:
    """The names to ask for: those given, else `etrn_names` or `domains` of the table, else our own. Raises Failure."""
    found = given or server.etrn_names or server.domains
    if found:
        return found
    if not settings.hostname:  # as configured, else as the kernel has it: DNS is not asked (RULES C6)
        raise Failure(
            "there is no name to ask for: this machine has none with a dot",
            advice="give NAME, or set etrn_names in [hold.NAME], or hostname",
            status=os.EX_USAGE,
        )
    return (settings.hostname,)


def unfit(name: str) -> Failure | None:
    """Why a name must not be sent; None where it may be."""
    if re.fullmatch(rf"[!-~]{{1,{NAME_LIMIT}}}", name) and name not in ("@", "#"):
        return None
    why = "it is empty" if name in ("", "@", "#") else "it is longer than 255 octets" if len(name) > NAME_LIMIT else ""
    why = why or "it holds a blank, a control character, or what is not ASCII"
    shown = name if len(name) <= NAME_LIMIT else f"{name[:40]}..."
    return Failure(f'cannot ask for "{shown}": {why}', advice=_BAD_NAME, status=os.EX_DATAERR)


# -- our own port ---------------------------------------------------------------------------------------------------


def wait_for_own_port(
    port: int, pauses: Iterable[float] = PAUSES, progress: Callable[[str], None] = lambda text: None
) -> None:
    """Wait until our own port takes a connection: the server will call back at once. Raises Failure."""
    for pause in (*pauses, None):
        try:
            socket.create_connection((HOME, port), LOOK).close()
            progress("")
            return
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
        if pause is not None:
            progress(f"nothing listens at {endpoint(HOME, port)} yet: looked again in {pause:g} s")
            time.sleep(pause)
    progress("")
    raise Failure(
        f"nothing listens at {endpoint(HOME, port)}, where the server would call back: {reason}",
        lead=TRY_AGAIN,
        advice="is the mail system of this machine running? --own-port names its port",
    )


# -- asking ---------------------------------------------------------------------------------------------------------


def ask(settings: Config, server: Server, wanted: Sequence[str], trace: Trace | None = None) -> Iterator[Answer]:
    """Ask for all names over one connection; an answer for each, and a log line."""
    facts = report.Facts()
    facts.follow(settings)
    for answer in _answers(settings, server, wanted, trace):
        fields = [("server", server.name), ("name", answer.name)]
        fields += [("reply", f"{answer.code} {answer.text}")] if answer.code else [("error", str(answer.failure))]
        report.event("etrn", facts, fields, error=answer.failure is not None)
        yield answer


def _answers(settings: Config, server: Server, wanted: Sequence[str], trace: Trace | None) -> Iterator[Answer]:
    refused = {name: why for name in wanted if (why := unfit(name)) is not None}
    if len(refused) == len(set(wanted)):
        yield from (_without(name, refused[name]) for name in wanted)
        return
    left = list(wanted)
    try:
        connection = servers.reached(server, settings, trace)
        try:
            yield from _asked(connection, server, left, refused)
        finally:
            connection.leave()
    except Failure as failure:
        yield from (_without(name, refused.get(name, failure)) for name in left)


def _asked(connection: Connection, server: Server, left: list[str], refused: dict[str, Failure]) -> Iterator[Answer]:
    """Ask for the names, which are taken from `left` as they are answered. Raises Failure."""
    _must_offer(connection, server)
    connection.stage = Stage.ETRN
    while left:
        if left[0] in refused:
            name = left.pop(0)
            yield _without(name, refused[name])
            continue
        reply = connection.command(f"ETRN {left[0]}")
        if reply.kind not in KINDS:
            raise connection.refused(reply, left[0])
        yield _answer(connection, left.pop(0), reply)
        if reply.code == 421:  # RFC 5321, 3.8: the server has closed
            raise connection.failure("the server has left")


def _must_offer(connection: Connection, server: Server) -> None:
    if connection.capabilities.offers("ETRN"):
        return
    connection.stage = Stage.OFFER
    if connection.capabilities.offers("ATRN"):
        advice = f"muawrap atrn {server.name} fetches the mail over one connection"
    else:
        advice = "it may offer it after a login only, or have ATRN on port 366: see muawrap atrn"
    offered = " ".join(connection.capabilities.keywords) or "nothing"
    failure = connection.failure(f"the server does not offer ETRN, but {offered}", lead=REFUSED, advice=advice)
    failure.status = os.EX_UNAVAILABLE
    raise failure


def _answer(connection: Connection, name: str, reply: Reply) -> Answer:
    meaning = REPLIES.get(reply.code, KINDS[reply.kind])
    text = " ".join(line.strip() for line in reply.lines)
    pending = _pending(text) if reply.code == 253 else None
    words = meaning.words if pending is None else f"{meaning.words}: {pending} waiting"
    failure = None
    if meaning.status:
        failure = connection.refused(reply, name)
        failure.advice = failure.advice or meaning.advice
        failure.status = meaning.status
    return Answer(name, reply.code, text, words, pending, failure, meaning.status)


def _pending(text: str) -> int | None:
    """n of "253 OK, n pending messages for node x started", however it is worded; None where there is no number."""
    found = re.search(r"(?<!\S)([0-9]{1,9})(?=\s+(?:pending|message))", text) or re.search(
        r"(?<!\S)([0-9]{1,9})(?!\S)", text
    )
    return int(found[1]) if found else None


def _without(name: str, failure: Failure) -> Answer:
    return Answer(name, text=str(failure), failure=failure, status=servers.status(failure))


def status(answers: Sequence[Answer], none_is: int = os.EX_OK) -> int:
    """The exit status: the worst of all; `none_is` where nothing waits under any of the names."""
    found = {answer.status for answer in answers}
    worst = next((one for one in WORST if one in found), max(found, default=os.EX_OK))
    if not worst and all(answer.code == NONE_WAITS for answer in answers):
        return none_is
    return worst
