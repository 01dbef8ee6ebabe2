"""The outbox: a message is sent at once as sendmail does, and kept where it may be sent later.

It is kept as the caller gave it, before aliases (RULES A4), and with what makes it leave as the same caller's later on:

    login    who called                         name     -F, where it was given
    sender   "default" where there was no -f    gateway  yes, with -G
    outcome  the lead of the failure            error    its sentence

Sender, recipients, the time, the Message-ID, DSN and SMTPUTF8 have their place in the envelope.
"""

from __future__ import annotations

import os

from muawrap import addresses, keeping, report, sendmail
from muawrap.errand import Errand
from muawrap.failure import Failure
from muawrap.holding import clock, settings
from muawrap.holding.formats import batchsmtp
from muawrap.holding.held import Addressee, Envelope, Held
from muawrap.holding.store.spool import Spool, fresh_name
from muawrap.holding.waiting.resend import DEFAULT
from muawrap.reading import options


def deliver(words: list[str]) -> int:
    """What `muawrap outbox` does with a message; `words` are sendmail's options and recipients. The exit status."""
    argv = ["sendmail", *words]
    mode = options.expected_mode(argv)
    try:
        mode = options.parse(argv).mode
    except Failure:
        pass  # it is told below
    if mode in ("smtp", "batch"):
        return _no_session(mode)
    return sendmail.run(argv, keep)


def _no_session(mode: str) -> int:
    """-bs and -bS: each message has an answer of its own, and none is "not yet"."""
    failure = Failure(
        f"muawrap outbox takes one message on standard input, and no SMTP ({'-bs' if mode == 'smtp' else '-bS'})",
        advice="sendmail -bs and sendmail -bS take it, and keep nothing",
        status=os.EX_USAGE,
    )
    if mode == "smtp":
        from muawrap import session

        session.broken(failure)
    return report.failure(failure, report.Facts(), logged=False)


def keep(errand: Errand, given: keeping.Given, failure: Failure, message_id: str) -> str:
    """Put a message that cannot be sent now into the outbox, on disk; the name of its file. Raises Failure."""
    held, name = made(errand, given, failure, message_id), fresh_name()
    with Spool(settings.outbox(errand.settings), errand.facts()) as spool:
        spool.put(batchsmtp.write(held), name)
    return name


def made(errand: Errand, given: keeping.Given, failure: Failure, message_id: str) -> Held:
    """The message as it is kept. Raises Failure where its sender is no address."""
    asked, now = given.invocation, clock.now()
    sender = keeping.sender(given)
    facts = (
        ("outcome", failure.lead),
        ("login", errand.who.login),
        ("sender", DEFAULT if asked.sender is None else ""),
        ("name", asked.full_name),
        ("gateway", "yes" if asked.gateway else ""),
        ("error", failure.sentence()),
    )
    envelope = Envelope(
        sender,
        tuple(Addressee(one, asked.notify) for one in given.recipients),
        now,
        message_id or _message_id(sender, now),
        utf8=asked.utf8,
        returns=asked.returns,
        envelope_id=asked.envelope_id,
        facts=tuple((name, value) for name, value in facts if value),
    )
    return Held(envelope, b"".join(field.octets for field in given.message.headers), given.message.body)


def _message_id(sender: str, now: float) -> str:
    """One for a message that has none, so that it has the same however often it is tried (RFC 5322, 3.6.4)."""
    domain = addresses.split(sender)[1] if sender else ""
    return f"<{int(now)}.{os.urandom(8).hex()}@{domain or 'localhost'}>"
