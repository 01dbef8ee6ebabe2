"""docs/callers.md, made from what was run."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path

from tests.interop.callers.table import CALLERS, COLUMNS, Caller
from tests.interop.callers.trial import Trial, version
from tests.support.program import REPOSITORY

PAGE = REPOSITORY / "docs" / "callers.md"

HEAD = """\
# Programs that call sendmail

{callers} callers, each tried twice: with a smart host that takes its message, and with one that refuses the recipients.
{real} of them are the programs themselves, as Debian 12 ships them in the version shown; of the others the recorded
call is repeated with a message of their kind. `python -m tests.interop.callers --write` made this page on {date} with
Python {python}; a test makes every row again and compares.

| column | `yes` means |
|---|---|
| arguments | called once with these words, which are taken, and not one octet is said |
| recipients | all of them in one transaction, and nobody else |
| sender | as the caller says, or `from` where it names none that may pass; From, Date, Message-ID are there once each |
| Bcc | neither the field nor the address is in the header; `-`: it has none |
| text | lines end with CRLF on the wire, and the text is what was written: lone and leading dots, blanks, 8-bit text |
| hears of a refusal | the program ends with 1, nothing is taken, and the caller shows it this way |

`own`: there the caller has its own way, and a note below says which. What speaks SMTP itself (Django, Mailman 3,
Grafana, Jenkins, Alertmanager, monit, Bacula) calls no sendmail.

| caller | version | arguments | recipients | sender | Bcc | text | hears of a refusal |
|---|---|---|---|---|---|---|---|
"""

ROW = re.compile(r"^\| (?P<name>[^|]+?) \| (?P<version>[^|]+?) \| `(?P<argv>.*?)` \| (?P<cells>.*) \|$", re.MULTILINE)


def render(trials: Mapping[str, Trial], today: date) -> str:
    head = HEAD.format(
        callers=len(CALLERS),
        real=sum(bool(caller.package) for caller in CALLERS),
        date=today,
        python=platform.python_version(),
    )
    return head + "".join(f"{row(caller, trials[caller.name])}\n" for caller in CALLERS) + "\n" + notes()


def row(caller: Caller, trial: Trial) -> str:
    found = (version(caller.package) or "not here") if caller.package else "recorded"
    words = trial.argv.replace("|", "\\|") or " "
    cells = [cell(caller, column, trial.wrong[column]) for column in COLUMNS[1:]]
    return f"| {caller.name} | {found} | `{words}`{mark(trial.wrong['arguments'])} | {' | '.join(cells)} |"


def mark(wrong: str) -> str:
    return " **no**" if wrong else ""


def cell(caller: Caller, column: str, wrong: str) -> str:
    """One mark; a red one is bold."""
    if wrong:
        return "**no**"
    own = column in caller.own.split()
    if column == "failure":
        return caller.heard.how + (" (own)" if own else "")
    if column == "Bcc" and not caller.hidden:
        return "-"
    return "own" if own else "yes"


def notes() -> str:
    """What is to be said of some."""
    said: dict[str, list[str]] = {}
    for caller in CALLERS:
        if caller.note:
            said.setdefault(caller.note, []).append(caller.name)
    return "## Notes\n\n" + "".join(f"- {'; '.join(names)}: {note}\n" for note, names in said.items())


def read() -> str:
    return PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""


def rows(page: str) -> dict[str, re.Match[str]]:
    return {found["name"]: found for found in ROW.finditer(page)}


def without_rows(page: str) -> str:
    """What does not come of a run: all but the rows, the date and the Python."""
    page = re.sub(r" on \d{4}-\d\d-\d\d with\nPython \d+[.]\d+[.]\d+\S*;", "", page)
    return "".join(line + "\n" for line in page.splitlines() if not ROW.match(line))


def write(path: Path, trials: Mapping[str, Trial], today: date) -> None:
    path.write_text(render(trials, today), encoding="utf-8")
