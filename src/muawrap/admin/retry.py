"""`muawrap retry`: which retry rule matches, as `exim -brt` prints it, and the tries that a rule gives."""

from __future__ import annotations

import json
import locale
import sys
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import click

from muawrap import report, trust
from muawrap.addresses import excerpt
from muawrap.admin import screen
from muawrap.failure import Failure
from muawrap.holding.rules import errors, picture, retry, schedule
from muawrap.holding.settings import RULES_LIMIT

SHOWN = 60  # tries in the table, unless asked otherwise
COUNTED = 100_000  # tries that are looked at
HEADINGS = ("try", "at", "seconds", "gap", "seconds", "next", "seconds", "")
_ONE_COMPONENT = (
    "Warning: \"{}\" contains no '@' and no '.' characters. It is being \n"
    "treated as a one-component domain, not as a local part.\n\n"
)
_NOTHING = "No retry information found\n"


class Asked(NamedTuple):
    """The options that stand before the name of the command."""

    rules: str | None
    sender: str | None


@click.group()
@click.option("--rules", metavar="FILE", help="A file of rules, an exim.conf, or - for standard input.")
@click.option("-f", "sender", metavar="SENDER", help="The sender, for rules with senders=; <> is the null sender.")
@click.pass_context
def command(context: click.Context, rules: str | None, sender: str | None) -> None:
    """Try retry rules: which one matches, and what times it gives."""
    context.obj = Asked(rules, sender)


# -- test -----------------------------------------------------------------------------------------------------------


@command.command(short_help="Print the rule that holds for a host or an address.")
@click.argument("key")
@click.argument("alternate", required=False)
@click.argument("error", required=False)
@click.pass_obj
def test(asked: Asked, key: str, alternate: str | None, error: str | None) -> None:
    """Print the rule for KEY, a host or an address, exactly as "exim -brt" does.

    ALTERNATE is the domain that the host is for: it has a dot, and what has none is an ERROR, such as refused_A.
    Without --rules the rules are F,2h,15m; G,16h,1h,1.5; F,5d,8h for everything.
    """
    try:
        domain, name = _in_turn(alternate, error)
        rules = retry.DEFAULT if asked.rules is None else retry.parse(*_text(asked.rules))
        found = rules.find(key, name, domain, _bare(asked.sender))
    except Failure as failure:
        screen.complain(failure)
        raise SystemExit(1) from failure
    for remark in rules.remarks:
        click.echo(f"muawrap: {report.printable(remark)}", err=True)
    text = "" if "@" in key or "." in key else _ONE_COMPONENT.format(key)
    text += _NOTHING if found is None else f"{found.printed()}\n"
    click.echo(text.encode("utf-8", "surrogateescape"), nl=False)


def _in_turn(alternate: str | None, error: str | None) -> tuple[str, str]:
    """A domain and the name of an error, "" where there is none: as in Exim a dot tells them apart. Raises Failure."""
    if alternate is None or "." in alternate:
        return alternate or "", error or ""
    if error is not None:
        raise Failure(f"{excerpt(alternate)} has no dot, and is no alternate", advice="put the error last")
    return "", alternate


def _text(path: str) -> tuple[str, str]:
    """The rules of a file, and how they are called. Raises Failure."""
    if path == "-":
        octets = sys.stdin.buffer.read(RULES_LIMIT + 1)
        if len(octets) > RULES_LIMIT:
            raise Failure(f"standard input is larger than {RULES_LIMIT} octets")
        return octets.decode("utf-8-sig", "surrogateescape"), "standard input"
    try:
        return trust.read(path, limit=RULES_LIMIT, shared=True).text, path
    except (FileNotFoundError, NotADirectoryError):
        raise Failure(f"there is no file of retry rules {path}") from None


def _bare(sender: str | None) -> str | None:
    if sender is not None and sender.startswith("<") and sender.endswith(">"):
        return sender[1:-1]
    return sender


# -- schedule -------------------------------------------------------------------------------------------------------


class Try(NamedTuple):
    """One row of the table; all but the number in seconds."""

    number: int
    at: float
    gap: float  # since the try before
    next: float
    past_cutoff: bool


@command.command("schedule", short_help="Print when a host that fails is tried.")
@click.argument("rule")
@click.option("--for", "span", metavar="TIME", default="6d", show_default=True, help="How far to look, as in 1d12h.")
@click.option("--limit", type=click.IntRange(1, COUNTED), default=SHOWN, show_default=True, help="Tries to show.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def show(asked: Asked, rule: str, span: str, limit: int, as_json: bool) -> None:
    """Print when a host is tried that fails from now on, by a RULE such as 'F,2h,15m; G,16h,1h,1.5; F,5d,8h'."""
    if asked != Asked(None, None):
        raise click.UsageError("--rules and -f are for test.")
    try:
        one, until = _only(retry.parse(rule, "the rule")), errors.seconds(span)
    except Failure as failure:
        screen.complain(failure)
        raise SystemExit(1) from failure
    tries = list(islice(_tries(one, until), COUNTED))
    if as_json:
        click.echo(json.dumps(_as_json(one, until, tries, limit), indent=2))
        return
    for line in _as_text(one, until, tries, limit):
        click.echo(line)


def _only(rules: retry.Rules) -> retry.Rule:
    found = list(rules)
    if len(found) != 1:
        raise Failure(f"a schedule is that of one rule, not of {len(found)}", advice="put its sets into quotes")
    return found[0]


def _tries(rule: retry.Rule, until: float) -> Iterator[Try]:
    """Of H, which adds something by chance, the middle."""
    before = 0.0
    for number, (at, then, past) in enumerate(schedule.tries(rule, until, lambda: 0.5), 1):
        yield Try(number, at, at - before, then, past)
        before = at


def _as_json(rule: retry.Rule, until: float, tries: list[Try], limit: int) -> dict[str, object]:
    return {
        "rule": " ".join(f"{one.printed()};" for one in rule.sets),
        "for": until,
        "cutoff": int(schedule.cutoff(rule)),
        "tries": [
            {name: value if isinstance(value, bool) else int(value) for name, value in one._asdict().items()}
            for one in tries[:limit]
        ],
        "more": len(tries[limit:]),
        "more_is_exact": len(tries) < COUNTED,
    }


def _as_text(rule: retry.Rule, until: float, tries: list[Try], limit: int) -> Iterator[str]:
    yield from screen.table([HEADINGS, *(_row(one) for one in tries[:limit])])
    complete = len(tries) < COUNTED
    if more := len(tries[limit:]):
        yield f"and {more} more" if complete else f"and {more} more at the least"
    yield ""
    span = until if complete else tries[-1].at
    yield from picture.drawn((one.at for one in tries), span, picture.BLOCKS if _takes_blocks() else picture.ASCII)
    yield ""
    yield from _remarks(rule)


def _takes_blocks() -> bool:
    """Whether the locale is one of UTF-8: Python writes that in the locale C, too."""
    encoding = sys.stdout.encoding or ""
    return encoding.lower() in ("utf-8", "utf8") and locale.setlocale(locale.LC_CTYPE) not in ("C", "POSIX")


def _row(one: Try) -> tuple[str, ...]:
    times = [cell for span in (one.at, one.gap, one.next) for cell in (errors.duration(span), str(int(span)))]
    return (str(one.number), *times, "past the last cutoff" if one.past_cutoff else "")


def _remarks(rule: retry.Rule) -> Iterator[str]:
    """What the table does not tell."""
    if not rule.sets:
        yield "There are no sets: the first failure is final."
        return
    yield f"A message that is older than {errors.duration(schedule.cutoff(rule))} has one last try, and is given up."
    for one in schedule.dead(rule):
        yield f"{one.printed()} is never used: a set before it goes on for as long."
    if any(one.letter == "H" for one in rule.sets):
        yield "H adds something by chance: what is shown is the middle."
