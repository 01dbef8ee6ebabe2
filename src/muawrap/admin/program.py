"""The `muawrap` program: where it begins, and where `hold` keeps its word."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """What the console script calls.

    To an MTA every status of `hold` but 0 and 75 is a bounce: so whatever goes wrong, from the first import on, is 75.
    """
    try:
        from muawrap.admin.commands import group

        group(prog_name="muawrap")
    except BaseException as error:
        kept = isinstance(error, SystemExit) and error.code in (None, 0, os.EX_TEMPFAIL)
        if sys.argv[1:2] == ["hold"] and not kept:
            os._exit(os.EX_TEMPFAIL)
        raise
