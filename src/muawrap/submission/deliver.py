"""Each smart host in turn, until one gives a verdict: a Receipt, or the Failure that ended it."""

from __future__ import annotations

import time

from muawrap.failure import REFUSED, TRY_AGAIN, UNCERTAIN, Failure, Stage
from muawrap.mail import Receipt, Transaction, Way
from muawrap.submission import transact, wire
from muawrap.submission.connection import Trace
from muawrap.submission.opening import Opening
from muawrap.submission.ready import ready

BEFORE_MAIL = (Stage.CONNECT, Stage.GREETING, Stage.EHLO, Stage.STARTTLS, Stage.TLS, Stage.AUTH, Stage.OFFER)
"""Stages whose troubles are the host's own, never a verdict on the message (RULES C1)."""


def deliver(transaction: Transaction, trace: Trace | None = None, opening: Opening | None = None) -> Receipt:
    """Hand the message to the first smart host that takes it (RULES C). Raises Failure.

    `opening` is that of the first smart host, where it has been made already.
    """
    failures: list[Failure] = []
    for way in transaction.ways:
        try:
            receipt = _one(transaction, way, opening or Opening(way.host), trace)
            return receipt._replace(degraded=tuple(map(str, failures)))
        except Failure as failure:
            if is_final(failure, transaction.tempfail):
                failure.degraded = tuple(map(str, failures))
                raise
            failures.append(failure)
            opening = None
    if transaction.dial_delay and all(failure.stage is Stage.CONNECT for failure in failures):
        # The line may still be coming up: once more, and never after a connection (RULES C6).
        time.sleep(transaction.dial_delay)
        return deliver(transaction._replace(dial_delay=0), trace)
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


def _one(transaction: Transaction, way: Way, opening: Opening, trace: Trace | None) -> Receipt:
    """The whole dialogue with one smart host. Raises Failure."""
    host = way.host
    connection = ready(opening, transaction.hostname, trace)
    try:
        transact.fits(connection, transaction, way)
        reply = transact.offer(connection, transaction, way)
    except Failure:
        raise
    except (Exception, KeyboardInterrupt) as error:
        if not connection.committed:
            raise
        bug = f"internal error: {type(error).__name__}: {error}"
        what = "interrupted" if isinstance(error, KeyboardInterrupt) else bug
        raise connection.failure(what) from error
    finally:
        connection.leave()
    return Receipt(
        host=str(host),
        sender=way.sender,
        tls=connection.tls_name,
        user=host.auth.user,
        size=wire.size(way.header, transaction.body),
        reply=str(reply),
        rewritten=way.rewritten,
    )
