"""The command line of the torture: run all of it, or a part, and print one table."""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from tests.torture import calls, crowd, cuts, holding, memory, outbox, ship, suites, texts
from tests.torture.tally import Tally, table

PARTS = {
    "cuts": cuts.jobs,
    "calls": calls.jobs,
    "memory": memory.jobs,
    "crowd": crowd.jobs,
    "texts": texts.jobs,
    "hold": holding.jobs,
    "outbox": outbox.jobs,
    "ship": ship.jobs,
    "suites": suites.jobs,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description="a delivery, broken at every place")
    parser.add_argument("--sample", action="store_true", help="some of the runs of each part")
    parser.add_argument("--only", choices=sorted(PARTS), help="one part")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="so many at a time")
    options = parser.parse_args()

    tallies: dict[str, Tally] = {}
    begun = time.monotonic()
    for part in [options.only] if options.only else PARTS:
        # One part after the other: a crowd and a limit on memory are for a machine that does nothing else.
        with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
            for done in as_completed([pool.submit(run, *arguments) for run, arguments in PARTS[part](options.sample)]):
                tally = done.result()
                tallies.setdefault(tally.part, Tally(tally.part)).merge(tally)
                print(f"{time.monotonic() - begun:.0f} s: {tally.runs} runs, {tally.part}", file=sys.stderr)
                print("".join(f"BAD: {fault}\n" for fault in tally.told), end="", file=sys.stderr)
    all_of_them = Tally("all")
    for tally in tallies.values():
        all_of_them.merge(tally)
    print(table([*sorted(tallies.values(), key=lambda tally: tally.part), all_of_them]))
    for note in (note for tally in tallies.values() for note in tally.notes):
        print(note)
    sys.exit(0 if all(tally.good for tally in tallies.values()) else 1)


if __name__ == "__main__":
    main()
