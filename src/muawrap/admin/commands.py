"""The `muawrap` command line."""

from __future__ import annotations

import click

import muawrap


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Look after the sendmail of a machine that has no mail server."""


@main.command()
def version() -> None:
    """Print the version."""
    click.echo(f"muawrap {muawrap.__version__}")


@main.command()
def demo() -> None:
    """Send a real message to a smart host that lives for this moment, and show all of it."""
    from muawrap.admin.demo import run

    raise SystemExit(run())


@main.command()
@click.option("-C", "--config", metavar="FILE", help="This configuration instead of the one that is found.")
@click.option("-v", "--verbose", is_flag=True, help="Show the dialogues, without secrets.")
def check(config: str | None, verbose: bool) -> None:
    """Read the configuration, reach every smart host, try TLS and AUTH; nothing is sent."""
    from muawrap.admin.check import run

    raise SystemExit(run(config, verbose))
