"""The commands of `muawrap` as a table, each loaded when it is asked for."""

from __future__ import annotations

import importlib

import click

COMMANDS = {
    "check": "Read the configuration, reach every smart host, try TLS and AUTH; nothing is sent.",
    "password": "Put a password into the keyring, take it out, or see whether it is found.",
    "demo": "Send a real message to a smart host that lives for this moment, and show all of it.",
    "version": "Print the version.",
    "outbox": "Take a message as sendmail does; keep it where it cannot be sent now.",
    "ship": "Send what is held for a host, or what waits in the outbox, over one connection.",
    "held": "Show what is held, for how long, and when it is tried next.",
    "expire": "Give up what has been held for too long.",
    "hold": "Hold a message for a host that is not always there; an MTA calls it.",
    "etrn": "Ask a server to send what it holds for us (RFC 1985).",
    "atrn": "Fetch what a server holds for us over the same connection (RFC 2645).",
    "retry": "Try retry rules: which one matches, and what times it gives.",
}
"""Each command is `command` in the module of its name below muawrap.admin."""


class Commands(click.Group):
    """Commands that are loaded when they are asked for: hold runs once for each message."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, in the order of help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One of them, None where there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = importlib.import_module(f"muawrap.admin.{cmd_name}").command
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in the help, without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def group() -> None:
    """Look after the sendmail of a machine that has no mail server."""
