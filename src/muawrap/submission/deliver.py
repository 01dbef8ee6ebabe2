"""Each smart host in turn, until one gives a verdict: a Receipt, or the Failure that ended it."""

from __future__ import annotations

import time
from collections.abc import Callable

from muawrap.failure import REFUSED, TRY_AGAIN, UNCERTAIN, Failure, Stage
from muawrap.mail import Receipt, Transaction, Way
from muawrap.submission import transact
from muawrap.submission.connection import Connection, Trace
from muawrap.submission.opening import Opening
from muawrap.submission.ready import ready

BEFORE_MAIL = (Stage.CONNECT, Stage.GREETING, Stage.EHLO, Stage.STARTTLS, Stage.TLS, Stage.AUTH, Stage.OFFER)
"""Stages whose troubles are the host's own, never a verdict on the message (RULES C1)."""


Hand = Callable[[Connection, Transaction, Way], Receipt]
"""What hands a message over a connection that is ready, and sees to the connection."""


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
    tried: tuple[Failure, ...] = (),
) -> Receipt:
    """Hand the message to the first smart host that takes it (RULES C). Raises Failure.

    `opening` is that of the first smart host, where it has been made already; `tried` is why hosts before it did not
    take the message.
    """
    failures = list(tried)
    for way in transaction.ways:
        try:
            connection = ready(opening or Opening(way.host), transaction.hostname, trace)
            receipt = hand(connection, transaction, way)
            return receipt._replace(degraded=tuple(map(str, failures)))
        except Failure as failure:
            if is_final(failure, transaction.tempfail):
                failure.degraded = tuple(map(str, failures))
                raise
            failures.append(failure)
            opening = None
            if trace is not None and way is not transaction.ways[-1]:
                trace("---", str(failure))  # the last one is told by whoever reports
    if transaction.dial_delay and all(failure.stage is Stage.CONNECT for failure in failures):
        # The line may still be coming up: once more, and never after a connection (RULES C6).
        time.sleep(transaction.dial_delay)
        return deliver(transaction._replace(dial_delay=0), trace, hand=hand)
    raise _summary(failures)


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
