"""How what is held becomes what is offered to a host, and what the caller wishes of the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from muawrap import report, schema
from muawrap.config import Config
from muawrap.failure import Failure
from muawrap.holding.held import Held
from muawrap.holding.settings import Keeper
from muawrap.holding.shipping import settling
from muawrap.holding.shipping.settling import Tell
from muawrap.holding.store.scan import Entry
from muawrap.holding.store.spool import Spool
from muawrap.mail import Recipient, SmartHost, Transaction, Way, endpoint
from muawrap.schema import Bad

Made = Callable[[Held], Transaction | None]
"""How a held message becomes a transaction, None where nobody is to get it and that is well.

With `partial` its recipients are those of the envelope, each by its address; without, all of them stand for all.
`before_end` is set here. Raises Failure: "try again" keeps the message, "refused" gives it up. Raises Enough.
"""


class Enough(Exception):
    """Nothing more is to go in this run."""


class Road(NamedTuple):
    """What differs between a host and the outbox."""

    made: Made
    entries: Callable[[Spool], Iterator[Entry]] = Spool.entries
    tell: Tell | None = None  # told of what was refused, expired or parked
    opened: Callable[[Keeper, report.Facts, bool], Spool] = Spool
    several: bool = False  # messages go to different hosts: one that is down does not stop the others
    tidies: bool = False  # no timer calls `expire` for this folder: the run tidies it


class Wishes(NamedTuple):
    """What the caller asks for."""

    now: bool = False  # the host is known to be up: do not wait for its next try, nor for that of a message
    limit: int = 0  # messages; 0: all
    seconds: float = 0  # begin none after so long; 0: at any time


def to_host(config: Config, keeper: Keeper, address: SmartHost | None = None) -> Road:
    """The road to a held host, or to another address of it: everything goes as it is held."""
    hosts = keeper.hosts if address is None else (address,)

    def made(held: Held) -> Transaction:
        envelope = held.envelope
        addresses = {one.address: one for one in envelope.recipients}
        return Transaction(
            ways=tuple(Way(host, envelope.sender, held.header) for host in hosts),
            recipients=tuple(
                Recipient(one.address, (one.address,), f"<{one.address}>", one.original, one.notify)
                for one in addresses.values()
            ),
            body=held.body,
            message_id=settling.message_id(held),
            hostname=config.hostname,
            utf8=envelope.utf8 or not all(map(str.isascii, (envelope.sender, *addresses))),
            returns=envelope.returns,
            envelope_id=envelope.envelope_id,
            dial_delay=config.dial_delay,
            partial=True,
        )

    return Road(made)


def address_of(keeper: Keeper, text: str) -> SmartHost:
    """The first host of the table at another address, ADDR or ADDR:PORT; its certificate is still asked for its name.

    Raises Failure where the table does not say that whoever calls may say so: mail would go to anybody who asks for it,
    which is what ETRN was made to prevent (RFC 1985, 2).
    """
    if not keeper.trust_caller:
        raise Failure(
            f"the mail of {keeper.name} goes to no other address: whoever could name one would get all of it",
            advice=f"[hold.{keeper.name}] with trust_caller = true allows it, where only those call whom you trust",
        )
    host = keeper.hosts[0]
    bare = f"[{text}]" if text.count(":") > 1 and not text.startswith("[") else text
    try:
        given = schema.smart_host(f"{host.scheme}://{bare}")
    except Bad as error:
        raise Failure(f"--to {error}", advice="write ADDR or ADDR:PORT") from error
    port = given.port if bare.rpartition("]")[2].count(":") == 1 else host.port
    url = f"{host.scheme}://{endpoint(given.host, port)}"
    tls = host.tls._replace(server_name=host.tls.server_name or host.host)
    return host._replace(url=url, host=given.host, port=port, tls=tls)
