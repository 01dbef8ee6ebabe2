"""`muawrap version`: which version this is."""

from __future__ import annotations

import click

import muawrap


@click.command()
def command() -> None:
    """Print the version."""
    click.echo(f"muawrap {muawrap.__version__}")
