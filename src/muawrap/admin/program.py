"""The `muawrap` program: where it begins, and where `hold` keeps its word."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def main() -> None:
    """What the console script calls.

    To an MTA every status of `hold` but 0 and 75 is a bounce, and so is an end by a signal: whatever goes wrong, from
    the first import on, is 75.
    """
    holds = sys.argv[1:2] == ["hold"]
    if holds:
        for number in signal.SIGTERM, signal.SIGHUP, signal.SIGINT:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _put_off)
    try:
        from muawrap.admin.commands import group

        group(prog_name="muawrap")
    except BaseException as error:
        kept = isinstance(error, SystemExit) and error.code in (None, 0, os.EX_TEMPFAIL)
        if holds and not kept:
            os._exit(os.EX_TEMPFAIL)
        raise


def _put_off(number: int, frame: FrameType | None) -> None:
    os._exit(os.EX_TEMPFAIL)
