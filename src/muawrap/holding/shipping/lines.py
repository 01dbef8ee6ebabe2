"""One connection kept for each list of smart hosts, whichever order their messages come in."""

from __future__ import annotations

from muawrap.mail import Receipt, SmartHost, Transaction
from muawrap.submission.connection import Trace
from muawrap.submission.line import Line

Hosts = tuple[SmartHost, ...]


class Lines:
    """As a Line that goes on over refusals, for messages that need not go the same way; close() ends all of them."""

    def __init__(self, trace: Trace | None = None) -> None:
        self._trace = trace
        self._lines: dict[Hosts, Line] = {}

    def deliver(self, transaction: Transaction, following: Transaction | None = None) -> Receipt:
        """Hand a message over; `following` rides with it where it goes to the same hosts. Raises Failure."""
        line = self._lines.setdefault(hosts_of(transaction), Line(self._trace, goes_on=True))
        together = following is not None and hosts_of(following) == hosts_of(transaction)
        return line.deliver(transaction, following if together else None)

    def close(self) -> None:
        """Take leave of all hosts."""
        for line in self._lines.values():
            line.close()
        self._lines.clear()


def hosts_of(transaction: Transaction) -> Hosts:
    """Where a message is offered, in order."""
    return tuple(way.host for way in transaction.ways)


def way_of(hosts: Hosts) -> str:
    """The list of hosts in one line, for a record."""
    return " ".join(map(str, hosts))
