"""`muawrap hold`: an MTA calls it to have a message held for a host that comes and goes; 0 or 75, nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NoReturn

import click

from muawrap import report, signals
from muawrap.admin.screen import told
from muawrap.config import Config, load
from muawrap.failure import Failure, unexpected
from muawrap.holding import hold, lmtp, settings
from muawrap.holding.held import Envelope
from muawrap.holding.hold import Kept
from muawrap.holding.store.spool import Spool
from muawrap.reading import descriptors, message


class _Command(click.Command):
    """A command whose usage errors are one line and 75, too: an MTA would bounce the message over any other status."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        tell = lmtp.unable if "--lmtp" in args else _hear_out
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            failure = Failure(error.format_message().rstrip("."), advice="see muawrap hold --help")
            _leave("", failure, report.Facts(), tell)


@click.command(cls=_Command)
@click.option("-C", "--config", metavar="FILE", help="This configuration instead of the one that is found.")
@click.option("-f", "--from", "sender", metavar="SENDER", help='The envelope sender; "" is the null sender.')
@click.option("--id", "identity", default="", metavar="ID", help="What you call the message: it is held once.")
@click.option("--bsmtp", is_flag=True, help="Standard input is batch SMTP, with its own envelopes; all or nothing.")
@click.option("--lmtp", "by_lmtp", is_flag=True, help="Speak LMTP on standard input and output (RFC 2033).")
@click.argument("host")
@click.argument("recipients", nargs=-1)
def command(
    config: str | None,
    sender: str | None,
    identity: str,
    bsmtp: bool,
    by_lmtp: bool,
    host: str,
    recipients: tuple[str, ...],
) -> None:
    """Hold the message on standard input for a host that is not always there.

    HOST is a [hold.NAME] of the configuration, or one of its domains. When this returns 0 the message is on disk; any
    trouble is 75, which an MTA takes for "later". With --id, or MESSAGE_ID in the environment, a message that is given
    once more is held once; LMTP has no id, and neither counts. Exim's pipe transport also tells the sender there, as
    SENDER.
    """
    descriptors.fill()
    facts = report.Facts()
    try:
        hold.watch()
        settled = load(config, os.environ)
        facts.follow(settled)
        if sender is None and "MESSAGE_ID" in os.environ and not (bsmtp or by_lmtp):
            sender = os.environ.get("SENDER")  # Exim's pipe transport has no other way to tell it
        _agree(sender, recipients, identity, bsmtp, by_lmtp)
        with Spool(settings.keeper(settled, host), facts) as spool:
            if by_lmtp:
                _speak(spool, settled, facts)
            facts.sender, facts.recipients = sender, recipients
            source = message.blocks(0, dot_ends=False)
            named = identity or os.environ.get("MESSAGE_ID", "")
            if bsmtp:
                kept = hold.batch(spool, named, source)
            else:
                kept = hold.one(spool, sender or "", recipients, named, source)
    except Exception as error:
        signals.decided()
        _leave(host, unexpected(error), facts, lmtp.unable if by_lmtp else _hear_out)
    _log(host, kept, facts)
    report.leave(0)


def _agree(sender: str | None, recipients: tuple[str, ...], identity: str, bsmtp: bool, by_lmtp: bool) -> None:
    """Raises Failure where the envelope is given twice, or not at all, or an id that would be ignored."""
    if bsmtp and by_lmtp:
        raise Failure("--bsmtp and --lmtp exclude each other")
    if by_lmtp and identity:
        raise Failure(
            "--lmtp and --id exclude each other: a message has no id over LMTP",
            advice="leave --id out; a reply that is lost may then mean a second copy",
        )
    if bsmtp or by_lmtp:
        if sender is not None or recipients:
            raise Failure(
                f"with {'--bsmtp' if bsmtp else '--lmtp'} sender and recipients come from standard input",
                advice="leave -f and the recipients out",
            )
    elif sender is None:
        raise Failure("no sender", advice='-f names it, and -f "" is the null sender')


def _speak(spool: Spool, settled: Config, facts: report.Facts) -> NoReturn:
    """LMTP, each message with a line in the log."""

    def logged(outcome: Kept | Failure, envelope: Envelope) -> None:
        facts = report.Facts()
        facts.follow(settled)
        facts.sender, facts.recipients = envelope.sender, tuple(one.address for one in envelope.recipients)
        if isinstance(outcome, Failure):
            report.event("not-held", facts, [("host", spool.keeper.name), ("error", told(outcome))], error=True)
        else:
            _log(spool.keeper.name, outcome, facts)

    try:
        lmtp.session(spool, settled.hostname or "localhost", message.octets(0), logged)
    except Exception as error:
        signals.decided()
        # The client has heard, and waits for nothing
        _leave(spool.keeper.name, unexpected(error), facts, lambda failure: None)
    report.leave(0)


def _log(host: str, kept: Kept, facts: report.Facts) -> None:
    if kept.messages == 1:
        facts.message_id, facts.sender = kept.envelope.id, kept.envelope.sender
        facts.recipients = tuple(one.address for one in kept.envelope.recipients)
    fields = [
        ("host", host),
        ("name", kept.name),
        ("size", str(kept.size)),
        ("messages", str(kept.messages) if kept.messages > 1 else ""),
        ("again", str(kept.messages - kept.new) if kept.messages > kept.new else ""),
    ]
    report.event("held", facts, fields)


def _leave(host: str, failure: Failure, facts: report.Facts, tell: Callable[[Failure], None]) -> NoReturn:
    """One line for the MTA, which may show it to its postmaster, one for the log, and 75."""
    # First of all, since an LMTP client may kill us next
    report.event("not-held", facts, [("host", host), ("error", told(failure))], error=True)
    tell(failure)
    click.echo(f"muawrap: not held, try again: {told(failure)}", err=True)
    report.leave(os.EX_TEMPFAIL)


def _hear_out(_: Failure) -> None:
    """Read what the MTA still writes, so that it reads our status, and not SIGPIPE."""
    if not os.isatty(0):
        message.skip(0, dot_ends=False)
