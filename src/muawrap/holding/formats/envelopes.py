"""An envelope that can be written down, in whichever format: one that would be read back as the same."""

from __future__ import annotations

import re

from muawrap import addresses
from muawrap.failure import Failure
from muawrap.holding.formats import mailboxes
from muawrap.holding.held import Envelope
from muawrap.reading import commands
from muawrap.reading.dialogue import RECIPIENTS

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def writable(envelope: Envelope) -> Envelope:
    """The same, its addresses as muawrap.holding.formats.mailboxes reads them: quoted only where they must be.

    Raises Failure where there is no recipient or too many, or something that is no address.
    """
    recipients = envelope.recipients
    if not 0 < len(recipients) <= RECIPIENTS:
        raise Failure(f"{len(recipients)} recipients, and a message has 1 to {RECIPIENTS}")
    return envelope._replace(
        sender=_mailbox(envelope.sender, null=True),
        recipients=tuple(one._replace(address=_mailbox(one.address, null=False)) for one in recipients),
    )


def _mailbox(address: str, null: bool) -> str:
    if _CONTROL.search(address):
        raise Failure(f"a control character in {addresses.excerpt(address)}")
    try:
        return mailboxes.path(f"<{address}>", null)
    except commands.Refused as refused:
        raise Failure(refused.text) from refused
