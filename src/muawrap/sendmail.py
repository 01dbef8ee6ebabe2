"""The whole story on one page: read, route, submit, report."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import NoReturn

import muawrap
from muawrap import config, environment, report, signals
from muawrap.errand import Errand, Later
from muawrap.failure import Failure, unexpected
from muawrap.mail import Invocation, Receipt, Transaction
from muawrap.reading import descriptors, options, recipients
from muawrap.reading import message as reading
from muawrap.submission import smarthosts
from muawrap.submission.opening import Opening

USAGE = "usage: sendmail [-ti] [-f sender] [-F name] [-C file] [-v] [recipient ...] < message; see sendmail(8)\n"


def main() -> NoReturn:
    """What bin/sendmail calls: run, and end with the exit status."""
    report.leave(run(sys.argv))


def run(argv: list[str], later: Later | None = None) -> int:
    """One call of the program; the exit status (RULES A1).

    `later` takes a message that cannot be sent now, for another program than sendmail: see Errand.keeps().
    """
    descriptors.fill()
    facts = report.Facts()
    invocation = Invocation(mode=options.expected_mode(argv))
    unread = True
    signals.watch(lambda failure: report.leave(report.failure(failure, facts)))
    try:
        invocation = options.parse(argv)
        if invocation.mode in ANSWERS:
            return report.answer(ANSWERS[invocation.mode])
        _refuse_what_cannot_be(invocation)

        settings = config.load(invocation.config, os.environ)
        facts.follow(settings)
        errand = Errand(settings)
        if invocation.mode == "verify":
            return report.answer(_verify(invocation, errand))
        if invocation.mode in ("smtp", "batch"):
            from muawrap import session

            return (session.answered if invocation.mode == "smtp" else session.batch)(invocation, errand)

        unread = False
        text, written = reading.read(0, invocation.dot_ends and settings.dot_ends_message, settings.max_received)
        facts.message_id = text.message_id
        named = recipients.named(invocation, written, settings.extract_addresses_remove_arguments)
        errand.keeps(invocation, named, text, facts, later)
        offer = errand.offer(invocation, text, errand.route(named), facts)
        receipt = _submit(offer, report.trace if invocation.verbose else None) if offer else Receipt()
    except Exception as error:
        return _fail(unexpected(error), facts, invocation, unread)
    status = report.success(receipt, facts)
    signals.then(lambda: report.leave(status))
    _hear_out(invocation, unread=False)
    return status


ANSWERS = {
    "queue": "Mail queue is empty\n",
    "run": "",
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
    if environment.FETCHED in os.environ:  # each message would be sent to where it has come from
        raise Failure(
            "muawrap atrn hands fetched mail to this program, which would send it back",
            advice="mta in muawrap.toml names the mail system of this machine",
            status=os.EX_CONFIG,
        )
    if invocation.mode in ("deliver", "smtp", "batch") and descriptors.is_internet_socket(0):
        raise Failure("standard input is an internet socket: this program runs no daemon, not under inetd either")


def _submit(offer: Transaction, trace: Callable[[str, str], None] | None) -> Receipt:
    """Hand the message over. Raises Failure."""
    # The first connection is begun before the dialogue is loaded, so that the network works meanwhile.
    first = offer.ways[0].host
    opening = None if smarthosts.is_discovered(first) else Opening(first)
    from muawrap.submission.deliver import deliver

    return deliver(offer, trace, opening)


def _verify(invocation: Invocation, errand: Errand) -> str:
    """Route the addresses and tell the trails; nobody is contacted (RULES E9). Raises Failure."""
    expansion = errand.route(recipients.of_arguments(invocation.recipients))
    errand.agree(invocation, expansion)
    lines = dict.fromkeys([*(recipient.story for recipient in expansion.recipients), *expansion.discarded])
    return "".join(f"{report.printable(line)}\n" for line in lines)


def _fail(failure: Failure, facts: report.Facts, invocation: Invocation, unread: bool) -> int:
    """Report a failure once the caller has been read to the end, so that it reads our status (RULES A6)."""
    if invocation.mode == "smtp":
        from muawrap import session

        session.broken(failure)
    if invocation.mode != "deliver":
        return report.failure(failure, facts, logged=False)
    signals.stop_on(failure)
    _hear_out(invocation, unread)
    signals.decided()
    return report.failure(failure, facts)


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
