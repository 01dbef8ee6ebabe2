"""Each smart host in turn, until one gives a verdict: a Receipt, or the Failure that ended it."""

from __future__ import annotations

import time
from collections.abc import Callable

from muawrap.failure import REFUSED, TRY_AGAIN, UNCERTAIN, Failure, Stage
from muawrap.mail import Receipt, SmartHost, Transaction, Way
from muawrap.submission import smarthosts, transact
from muawrap.submission.connection import Connection, Trace
from muawrap.submission.opening import Opening
from muawrap.submission.ready import ready

BEFORE_MAIL = (
    *(Stage.CONNECT, Stage.GREETING, Stage.EHLO, Stage.LHLO),
    *(Stage.STARTTLS, Stage.TLS, Stage.AUTH, Stage.OFFER),
)
"""Stages whose troubles are the host's own, never a verdict on the message (RULES C1)."""


Hand = Callable[[Connection, Transaction, Way], Receipt]
"""What hands a message over a connection that is ready, and sees to the connection."""

Expansions = dict[SmartHost, tuple[SmartHost, ...]]
"""Of each srv:// and mx:// entry that DNS has been asked for, the endpoints."""


def _once(connection: Connection, transaction: Transaction, way: Way) -> Receipt:
    """One message over a connection of its own. Raises Failure."""
    try:
        return transact.hand_over(connection, transaction, way)
    finally:
        connection.leave()


def deliver(
    transaction: Transaction,
    trace: Trace | None = None,
    opening: Opening | None = None,
    hand: Hand = _once,
    number: int = 0,
    tried: tuple[Failure, ...] = (),
    expansions: Expansions | None = None,
) -> Receipt:
    """Hand the message to the first smart host that takes it (RULES C). Raises Failure.

    `opening` is that of the first smart host, where it has been made already; `tried` is why hosts other than those
    from `number` on did not take the message. DNS is asked for a srv:// or mx:// entry when its turn has come:
    `expansions` learns the answer, and from then on the endpoints stand in the transaction in place of the entry.
    """
    failures = list(tried)
    at_hand: list[Failure] = []  # those of hosts that no line has to be raised for
    as_given = transaction
    known = opening.known if opening is not None else {}  # of their secrets
    expansions = {} if expansions is None else expansions
    while number < len(transaction.ways):
        way = transaction.ways[number]
        try:
            if smarthosts.is_discovered(way.host):
                failures += _discover(way.host, expansions, trace)
                transaction = expanded(transaction, expansions)
                continue
            connection = ready(opening or Opening(way.host, known=known), transaction.hostname, trace)
            receipt = hand(connection, transaction, way)
            return receipt._replace(degraded=tuple(map(str, failures)))
        except Failure as failure:
            if is_final(failure, transaction.tempfail):
                failure.degraded = tuple(map(str, failures))
                raise
            failures.append(failure)
            if not way.host.dials:
                at_hand.append(failure)
            opening = None
            if trace is not None and way is not transaction.ways[-1]:
                trace("---", str(failure))  # the last one is told by whoever reports
        number += 1
    dialled = tuple(way for way in as_given.ways if way.host.dials)
    if transaction.dial_delay and dialled and all(failure.stage is Stage.CONNECT for failure in failures):
        # The line may still be coming up: once more, and never after a connection (RULES C6).
        time.sleep(transaction.dial_delay)
        expansions.clear()
        again = as_given._replace(ways=dialled, dial_delay=0)
        return deliver(again, trace, hand=hand, tried=tuple(at_hand), expansions=expansions)
    raise _summary(failures)


def _discover(entry: SmartHost, expansions: Expansions, trace: Trace | None) -> tuple[Failure, ...]:
    """Ask DNS for an entry; why a part of the answer is missing. Raises Failure where there is no endpoint."""
    from muawrap.submission import discovery

    if trace is not None:
        trace("---", f"asking DNS for {entry.url}")
    found = discovery.find(entry)
    if trace is not None:
        for line in (*(endpoint.record for endpoint in found.endpoints), *map(str, found.failures)):
            trace("---", line)
    expansions[entry] = tuple(endpoint.host for endpoint in found.endpoints)
    return found.failures


def expanded(transaction: Transaction, expansions: Expansions) -> Transaction:
    """The transaction with endpoints in place of the entries they belong to, each endpoint once (RULES C4)."""
    if not expansions:
        return transaction
    ways: list[Way] = []
    found: list[SmartHost] = []
    for way in transaction.ways:
        endpoints = expansions.get(way.host)
        if endpoints is None:
            ways += [] if any(smarthosts.covers(known, way.host) for known in found) else [way]
            continue
        for host in endpoints:
            if not any(smarthosts.covers(known.host, host) for known in ways):
                ways.append(way._replace(host=host))
                found.append(host)
    return transaction._replace(ways=tuple(ways))


def is_final(failure: Failure, tempfail: str) -> bool:
    """Whether no other host may be tried: a verdict on the message, or an end of message that is on its way."""
    if failure.lead == UNCERTAIN or failure.stage is Stage.VERDICT:
        return True
    if failure.stage is None:  # this machine's own trouble, which no other host mends
        return True
    if failure.stage in BEFORE_MAIL or failure.reply is None or failure.reply.kind not in (4, 5):
        return False
    return not (tempfail == "next-host" and failure.reply.kind == 4)


def _summary(failures: list[Failure]) -> Failure:
    """Each host's own reason, in order (RULES C7). What may pass at one host may pass."""
    if len(failures) == 1:
        return failures[0]
    lead = TRY_AGAIN if any(failure.lead == TRY_AGAIN for failure in failures) else REFUSED
    advice = next((failure.advice for failure in failures if failure.advice and failure.lead == lead), "")
    return Failure("no smart host took the message", lead=lead, reasons=tuple(failures), advice=advice)
