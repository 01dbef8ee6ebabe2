"""The whole story on one page: read, route, submit, report."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import muawrap
from muawrap import config, report, signals
from muawrap.failure import TRY_AGAIN, Failure
from muawrap.mail import Body, Invocation, Message, Receipt
from muawrap.reading import descriptors, options, recipients
from muawrap.reading import message as reading
from muawrap.routing import redirect, transaction
from muawrap.routing.aliases import Aliases
from muawrap.routing.forward import Forwards, include
from muawrap.routing.redirect import Expansion
from muawrap.submission.opening import Opening

USAGE = "usage: sendmail [-ti] [-f sender] [-F name] [-C file] [-v] [recipient ...] < message; see sendmail(8)\n"


def main() -> NoReturn:
    """What bin/sendmail calls: run, and end with the exit status."""
    report.leave(run(sys.argv))


def run(argv: list[str]) -> int:
    """One call of the program; the exit status is 0 or 1 (RULES A1)."""
    descriptors.fill()
    facts = report.Facts()
    invocation = Invocation(mode="deliver" if options.takes_message(argv) else "refused")
    unread = True
    signals.watch(lambda failure: report.leave(report.failure(failure, facts)))
    try:
        invocation = options.parse(argv)
        if invocation.mode in ANSWERS:
            return report.answer(ANSWERS[invocation.mode])
        _refuse_what_cannot_be(invocation)

        settings = config.load(invocation.config, os.environ)
        facts.log = settings.log
        if invocation.mode == "verify":
            return report.answer(_verify(invocation, settings))

        unread = False
        text, written = reading.read(0, invocation.dot_ends and settings.dot_ends_message, settings.max_received)
        facts.message_id = text.message_id
        who = transaction.caller()
        named = recipients.named(invocation, written, settings.extract_addresses_remove_arguments)
        if settings.keep_failed:
            facts.keep = lambda failure: _keep(failure, facts, invocation, settings, text, named, who)
        expansion = _route(named, settings, who)
        facts.recipients = tuple(recipient.shown for recipient in expansion.recipients)
        facts.notes = [("discarded", trail) for trail in expansion.discarded]
        receipt = _submit(invocation, settings, text, expansion, who, facts)
    except Failure as failure:
        return _fail(failure, facts, invocation, unread)
    except MemoryError:
        return _fail(Failure("out of memory", lead=TRY_AGAIN), facts, invocation, unread)
    except Exception as error:
        what = f"internal error: {type(error).__name__}: {error}"
        return _fail(Failure(what, advice="please report this"), facts, invocation, unread)
    status = report.success(receipt, facts)
    signals.then(lambda: report.leave(status))
    _hear_out(invocation, unread=False)
    return status


ANSWERS = {
    "queue": "Mail queue is empty\n",
    "nothing": "",
    "version": f"muawrap {muawrap.__version__}\n",
    "help": USAGE,
}
"""What the modes say that neither take a message nor read a configuration (RULES E5)."""


def _refuse_what_cannot_be(invocation: Invocation) -> None:
    if invocation.mode == "refused":
        raise Failure(invocation.refusal)
    if os.getuid() != os.geteuid() or os.getgid() != os.getegid():
        raise Failure("started set-uid or set-gid, and it needs no such right", advice="chmod ug-s")
    if invocation.mode == "deliver" and descriptors.is_internet_socket(0):
        raise Failure("standard input is an internet socket: this program runs no daemon, not under inetd either")


def _route(addresses: list[str], settings: config.Config, who: transaction.Caller) -> Expansion:
    """Who gets the message. Raises Failure."""
    world = redirect.World(
        aliases=Aliases(settings.aliases, settings.aliases_may_be_missing),
        forward=Forwards(settings.forward),
        include=include,
        host_local=settings.host_local,
        local_domains=frozenset(settings.local_domains),
        admin=settings.admin,
        qualify_domain=settings.qualify_domain,
        sees=lambda user: os.getuid() == 0 or user == who.login,
    )
    return redirect.expand(addresses, world)


def _submit(
    invocation: Invocation,
    settings: config.Config,
    text: Message,
    expansion: Expansion,
    who: transaction.Caller,
    facts: report.Facts,
) -> Receipt:
    """Hand the message over, unless everything was discarded. Raises Failure."""
    if not expansion.recipients:
        return Receipt()
    offer = transaction.build(invocation, settings, text, expansion.recipients, who)
    facts.message_id, facts.sender = offer.message_id, offer.ways[0].sender

    # The first connection is begun before the dialogue is loaded, so that the network works meanwhile.
    opening = Opening(offer.ways[0].host)
    from muawrap.submission.deliver import deliver

    return deliver(offer, report.trace if invocation.verbose else None, opening)


def _verify(invocation: Invocation, settings: config.Config) -> str:
    """Route the addresses and tell the trails; nobody is contacted (RULES E9). Raises Failure."""
    who = transaction.caller()
    expansion = _route(recipients.of_arguments(invocation.recipients), settings, who)
    if expansion.recipients:
        transaction.build(invocation, settings, Message((), Body()), expansion.recipients, who)
    lines = dict.fromkeys([*(recipient.story for recipient in expansion.recipients), *expansion.discarded])
    return "".join(f"{report.printable(line)}\n" for line in lines)


def _fail(failure: Failure, facts: report.Facts, invocation: Invocation, unread: bool) -> int:
    """Report a failure once the caller has been read to the end, so that it reads our status (RULES A6)."""
    if invocation.mode != "deliver":
        return report.failure(failure, None)
    signals.stop_on(failure)
    _hear_out(invocation, unread)
    signals.decided()
    return report.failure(failure, facts)


def _keep(
    failure: Failure,
    facts: report.Facts,
    invocation: Invocation,
    settings: config.Config,
    text: Message,
    named: list[str],
    who: transaction.Caller,
) -> str:
    """Write a copy of a message that was not sent, for an owner who asked for it; its path. Raises Failure."""
    from muawrap import keeping

    sender = facts.sender
    if sender is None:  # it failed before anybody asked
        sender = transaction.login_at(who, settings.qualify_domain if "." in settings.qualify_domain else "")
    given = keeping.Given(invocation, named, text, sender)
    return keeping.keep(settings.keep_failed, given, failure, facts.message_id)


def _hear_out(invocation: Invocation, unread: bool) -> None:
    """Read what the caller still writes; a terminal's next line is not ours to take (RULES A6). This cannot fail."""
    try:
        if os.isatty(0) or descriptors.is_internet_socket(0):
            return
        if unread:
            reading.skip(0, invocation.dot_ends)
        reading.drain(0)
    except Exception:
        pass  # out of memory, at worst; the outcome stands already (RULES A5)
