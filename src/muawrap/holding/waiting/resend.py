"""A message kept for its caller, made into the transaction that sendmail would have made of it."""

from __future__ import annotations

import re
from itertools import chain

from muawrap import addresses
from muawrap.errand import Errand
from muawrap.failure import TRY_AGAIN, Failure
from muawrap.holding import clock
from muawrap.holding.held import Held
from muawrap.mail import Header, Invocation, Message, Recipient, Transaction
from muawrap.reading import message as reading
from muawrap.routing import headers
from muawrap.routing.redirect import RECIPIENTS, Expansion

DEFAULT = "default"
"""The fact `sender` of a message: nobody named it, and what the configuration says now may name another."""

_MESSAGE_ID = re.compile(r"<[!-;=?-~]+>")


def transaction(errand: Errand, held: Held) -> Transaction | None:
    """What the smart hosts are offered: routed now, its date and Message-ID those of then; all recipients, or none.

    None where everything was discarded. Raises Failure.
    """
    known = dict(held.envelope.facts)
    _is_ours(errand, known.get("login", ""))
    invocation = _invocation(held, known)
    message = _message(errand, held, invocation.gateway)
    return errand.offer(invocation, message, _expansion(errand, held), errand.facts())


def _is_ours(errand: Errand, login: str) -> None:
    """Accounts are chosen by who calls, and a file is no proof of that. Raises Failure."""
    if login and login != errand.who.login:
        raise Failure(
            f"it was kept for the user {login}, and {errand.who.login} would send it as somebody else",
            lead=TRY_AGAIN,
            advice=f"call muawrap as {login}",
        )


def _invocation(held: Held, known: dict[str, str]) -> Invocation:
    """The caller's options, as far as they are about the message."""
    envelope = held.envelope
    return Invocation(
        sender=None if known.get("sender") == DEFAULT else envelope.sender,
        full_name=known.get("name", ""),
        gateway=known.get("gateway") == "yes",
        utf8=envelope.utf8,
        returns=envelope.returns,
        envelope_id=envelope.envelope_id,
    )


def _message(errand: Errand, held: Held, gateway: bool) -> Message:
    """Its header fields, with those that sendmail would have added then, and its body. Raises Failure."""
    text = chain((held.header, b"\n"), held.body.blocks())
    message, _ = reading.taken(text, errand.settings.max_received)
    names = {header.name for header in message.headers}
    added = []
    if not gateway and "date" not in names and clock.is_sane(held.envelope.at):
        added.append(Header("date", f"Date: {headers.date(held.envelope.at)}\n".encode()))
    if not gateway and "message-id" not in names and _MESSAGE_ID.fullmatch(held.envelope.id):
        added.append(Header("message-id", f"Message-ID: {held.envelope.id}\n".encode()))
    return message._replace(headers=(*message.headers, *added))


def _expansion(errand: Errand, held: Held) -> Expansion:
    """Who gets it, each with the notifications that were asked for. Raises Failure."""
    found: dict[str, Recipient] = {}
    discarded: list[str] = []
    for addressee in held.envelope.recipients:
        expansion = errand.route([addressee.address])
        discarded += expansion.discarded
        for one in expansion.recipients:
            asked = one._replace(notify=addressee.notify, original=addressee.original)
            found.setdefault(addresses.key(one.address), asked)
    if len(found) > RECIPIENTS:
        raise Failure(f"more than {RECIPIENTS} recipients")
    return Expansion(tuple(found.values()), tuple(discarded))
