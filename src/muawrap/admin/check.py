"""`muawrap check`: the configuration read, every smart host reached, TLS and AUTH tried, nothing sent."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import click

from muawrap import report
from muawrap.admin import endpoints, findings, machine, trial
from muawrap.admin.screen import told
from muawrap.admin.trial import Finding
from muawrap.config import Config, load
from muawrap.failure import Failure

Show = Callable[[list[str]], None]


@click.command()
@click.option("-C", "--config", metavar="FILE", help="This configuration instead of the one that is found.")
@click.option("-v", "--verbose", is_flag=True, help="Show the dialogues on standard error, without secrets.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(config: str | None, verbose: bool, as_json: bool) -> None:
    """Read the configuration, reach every smart host, try TLS and AUTH; nothing is sent.

    Entries of srv:// and mx:// are looked up in DNS, and every host found there is tried. The exit status is 0 where
    all is good. A host is given the time that its timeouts give it.
    """
    raise SystemExit(run(config, verbose, as_json))


def run(given: str | None, verbose: bool, as_json: bool = False) -> int:
    """Check everything and print it as it is found; 0 where a message could be sent by every smart host."""
    try:
        config = load(given, os.environ)
        aliases = machine.aliases(config)
    except Failure as failure:
        click.echo(told(failure), err=True)
        if as_json:
            _print({"good": False, "error": str(failure), "advice": failure.advice or None})
        return 1
    show: Show = _nothing if as_json else _lines
    senders = machine.senders(config)
    show(findings.labelled("configuration", config.source))
    show(findings.labelled("sends as", senders.trouble or " or ".join(f"<{one}>" for one in senders.addresses)))
    for file in aliases:
        show(findings.labelled("aliases", f"{file.path}: {len(file.entries)} names"))
        for complaint in machine.complaints(file):
            show(findings.labelled("", complaint))
    folders = list(machine.folders(config))
    for folder in folders:
        show(findings.folder(folder))
    found = _tried(config, verbose, show)
    is_good = bool(senders.addresses and found)
    is_good = is_good and all(folder.is_good for folder in folders) and all(one.is_good for one in found)
    if as_json:
        _print(
            {
                "good": is_good,
                "configuration": config.source,
                "senders": senders.addresses,
                "sender_error": senders.trouble or None,
                "aliases": [
                    {"path": file.path, "names": len(file.entries), "complaints": machine.complaints(file)}
                    for file in aliases
                ],
                "folders": [findings.folder_object(folder) for folder in folders],
                "endpoints": [findings.as_object(one) for one in found],
            }
        )
    return 0 if is_good else 1


def _tried(config: Config, verbose: bool, show: Show) -> list[Finding]:
    """Every endpoint, one after the other, each shown when it has been tried, and a table at the end."""
    found = []
    for entry in endpoints.entries(config):
        for endpoint in endpoints.expanded(entry):
            show(findings.heading(endpoint))
            found.append(trial.tried(endpoint, config.hostname, report.trace if verbose else None))
            show(findings.block(found[-1]))
    show(["", *(findings.summary(found) if found else ["no smart host is configured: set smart_hosts"])])
    return found


def _lines(lines: list[str]) -> None:
    for line in lines:
        click.echo(line)


def _nothing(lines: list[str]) -> None:
    pass


def _print(value: dict[str, Any]) -> None:
    click.echo(json.dumps(value))
