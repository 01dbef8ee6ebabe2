"""A connection kept over several messages, and made anew where it has gone stale (RULES C8)."""

from __future__ import annotations

from muawrap.failure import REFUSED, UNCERTAIN, Failure, Stage
from muawrap.mail import Receipt, SmartHost, Transaction, Way
from muawrap.submission import transact
from muawrap.submission.connection import GOODBYE, Connection, Trace
from muawrap.submission.deliver import Expansions, deliver, expanded, is_final


class Line:
    """Messages for the same hosts go over one connection; close() is its end.

    `goes_on`: over a host's refusal of one message, too, which is no reason to leave it.
    """

    def __init__(self, trace: Trace | None = None, goes_on: bool = False) -> None:
        self._trace = trace
        self._goes_on = goes_on
        self._refused = False  # the latest message, so that RSET comes before the next one
        self._connection: Connection | None = None
        self._hosts: tuple[tuple[SmartHost, ...], str] | None = None  # and our name for them
        self._expansions: Expansions = {}  # what DNS said of them, for as long as the connection is kept
        self._following: Transaction | None = None
        self._heard: tuple[Transaction, transact.Next] | None = None  # whose MAIL and RCPT have left, and the replies

    def deliver(self, transaction: Transaction, following: Transaction | None = None) -> Receipt:
        """Hand a message over as `deliver.deliver` does. Raises Failure.

        `following` is the next one, where it is known: its MAIL and RCPT ride with this text, so that each message
        costs one round trip. Their replies are waited for, because they confirm the verdict on this one. After a
        Failure they are forgotten, and the connection is closed, or reset where it goes on.
        """
        self._following = following
        self._reset()
        if self._hosts != _hosts(transaction) or (self._heard is not None and self._heard[0] is not transaction):
            self.close()
        self._hosts = _hosts(transaction)
        connection = self._connection
        if connection is None:
            return self._anew(transaction)
        heard = self._heard[1] if self._heard is not None else None
        known = expanded(transaction, self._expansions)
        way = _way(connection, known)
        try:
            connection.begin_again()
            return self._hand(connection, known, way, fresh=False, heard=heard)
        except Failure as failure:
            if _is_stale(failure):
                return self._anew(transaction)
            if is_final(failure, transaction.tempfail):
                raise
            number = known.ways.index(way) + 1  # the next host, as ever (RULES C3)
            if number == len(known.ways):
                raise
            tried = (failure,)
            return deliver(known, self._trace, hand=self._hand, number=number, tried=tried, expansions=self._expansions)

    def _anew(self, transaction: Transaction) -> Receipt:
        """Over a new connection, from the top of the list. Raises Failure."""
        self._expansions = {}
        return deliver(transaction, self._trace, hand=self._hand, expansions=self._expansions)

    def close(self) -> None:
        """Take leave of the host."""
        if self._connection is not None:
            self._connection.leave()
        self._connection = self._heard = None

    def _reset(self) -> None:
        """Where the message before was refused, have the host forget it."""
        if self._connection is not None and self._refused:
            try:
                self._connection.reset()
            except Failure:
                self.close()
        self._refused = False

    def _hand(
        self,
        connection: Connection,
        transaction: Transaction,
        way: Way,
        fresh: bool = True,
        heard: transact.Next | None = None,
    ) -> Receipt:
        if self._connection is not connection:
            self.close()  # a host that has just refused this message, so that the next one has its turn
        self._connection = self._heard = None  # until this has gone well
        try:
            ahead = self._ahead(connection)
            receipt = transact.hand_over(connection, transaction, way, fresh, heard, ahead)
            if ahead and self._following is not None:
                heard = transact.heard_ahead(connection, self._following, receipt.reply, self._goes_on)
                self._heard = (self._following, heard) if heard is not None else None
        except BaseException as error:
            if self._goes_on and isinstance(error, Failure) and is_refusal(error):
                self._connection, self._refused = connection, True
            else:
                connection.leave()
            raise
        self._connection = connection
        return receipt

    def _ahead(self, connection: Connection) -> transact.Lines:
        """MAIL and RCPT of the next message, where it goes the same way and the host takes them in one flight."""
        offers = connection.capabilities.offers
        if self._following is None or _hosts(self._following) != self._hosts:
            return ()
        if connection.is_lmtp:
            return ()  # its verdict is several replies, and nothing shows where the next message's begin
        if not (offers("PIPELINING") and offers("CHUNKING")) or transact.is_too_wide(connection, self._following):
            return ()
        following = expanded(self._following, self._expansions)
        way = _way(connection, following)
        try:
            transact.fits(connection, following, way)
        except Failure:
            return ()  # it will be told when its turn comes
        return transact.envelope(connection, following, way)


def _hosts(transaction: Transaction) -> tuple[tuple[SmartHost, ...], str]:
    return tuple(way.host for way in transaction.ways), transaction.hostname


def _way(connection: Connection, transaction: Transaction) -> Way:
    return next(way for way in transaction.ways if way.host == connection.smart_host)


def _is_stale(failure: Failure) -> bool:
    """Whether the host has gone since the last message: it has said nothing about this one (RULES C8)."""
    if failure.stage is Stage.MAIL:
        return failure.reply is None or failure.reply.code == 421
    return failure.stage is Stage.OFFER and not is_refusal(failure)  # whatever it said, it was not asked


def is_refusal(failure: Failure) -> bool:
    """Whether a host said no to this message, or cannot take such a one, and would listen to another."""
    if failure.reasons:
        return all(map(is_refusal, failure.reasons))
    if failure.stage is Stage.OFFER:
        return failure.reply is None and failure.lead == REFUSED  # too large, or addresses beyond ASCII
    if failure.stage not in (Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.VERDICT) or failure.lead == UNCERTAIN:
        return False
    return failure.reply is not None and failure.reply.kind in (4, 5) and failure.reply.code not in GOODBYE
