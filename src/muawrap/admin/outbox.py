"""`muawrap outbox`: sendmail's own command line, for callers who can be told of another program than sendmail."""

from __future__ import annotations

import importlib

import click

from muawrap import report
from muawrap.failure import Failure
from muawrap.holding.waiting import outbox
from muawrap.reading import options


class Words(click.Command):
    """A command that reads its words itself: all of them are sendmail's, `--` and `-h` too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Only --help, where it stands first, is ours."""
        if args[:1] == ["--help"]:
            click.echo(ctx.get_help())
            ctx.exit()
        ctx.params["words"] = list(args)
        return []

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """What stands behind the name in the help."""
        return ["[sendmail's options] [RECIPIENT]..."]


@click.command(cls=Words, add_help_option=False)
def command(words: list[str]) -> None:
    """Take a message as sendmail does; keep it where it cannot be sent now.

    For mutt, "set sendmail = 'muawrap outbox'"; for cron and devices the same. Options, configuration and failures are
    those of sendmail(8), and so is the silence of success. Where sendmail would say "not sent, try again", the message
    is kept in the outbox of the calling user, one line says so, and the exit status is 0. "muawrap ship --outbox" sends
    it. What is refused, or may have been sent, is not kept.

    -bp lists the outbox ("muawrap held --outbox"), -q ships it. -bs and -bS are refused.
    """
    asked = _asked(words)
    if asked in OTHERS:
        name, *rest = OTHERS[asked]
        other: click.Command = importlib.import_module(f"muawrap.admin.{name}").command
        config = options.parse(["sendmail", *words]).config
        other.main([*(("-C", config) if config else ()), *rest], prog_name=f"muawrap {name}")
    report.leave(outbox.deliver(words))  # nothing that comes after the verdict can change it


OTHERS = {
    "queue": ("held", "--outbox"),
    "run": ("ship", "--outbox"),
}
"""Modes of sendmail that other commands have an answer to."""


def _asked(words: list[str]) -> str:
    """The mode; what cannot be read has none, and is told as sendmail tells it."""
    try:
        return options.parse(["sendmail", *words]).mode
    except Failure:
        return ""
