"""Run the callers: `python -m tests.interop.callers [--write] [NAME ...]` shows the rows, and what is wrong in them."""

from __future__ import annotations

import os
import sys
import tempfile
from datetime import date
from pathlib import Path

from tests.interop.callers import page
from tests.interop.callers.table import CALLERS
from tests.interop.callers.trial import Trial, trial


def main(words: list[str]) -> int:
    os.environ["CI"] = "true"  # a caller that is not here is an error, not a gap in the page
    names = [word for word in words if word != "--write"]
    trials: dict[str, Trial] = {}
    for caller in CALLERS:
        if not names or any(name in caller.name for name in names):
            with tempfile.TemporaryDirectory() as folder:
                trials[caller.name] = trial(caller, Path(folder))
            print(page.row(caller, trials[caller.name]), flush=True)
            for column, wrong in trials[caller.name].wrong.items():
                if wrong:
                    print(f"    {column}: {wrong}")
    if "--write" in words and not names:
        page.write(page.PAGE, trials, date.today())
    return int(any(wrong for each in trials.values() for wrong in each.wrong.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
