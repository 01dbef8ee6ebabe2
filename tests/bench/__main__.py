"""The command line of the benchmark: measure, print, and on request write the pages in docs."""

from __future__ import annotations

import argparse
import sys

from tests.bench import peers, plan, tables, targets
from tests.bench.lab import Lab


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="muawrap beside its peers")
    parser.add_argument("--quick", action="store_true", help="fewer runs and peers; ends within two minutes")
    parser.add_argument("--write", action="store_true", help="write the page and the charts in docs")
    parser.add_argument("--offline", action="store_true", help="download no peers")
    parser.add_argument("--program", default=str(peers.REPOSITORY / "bin" / "sendmail"), help="the sendmail to measure")
    options = parser.parse_args()

    found, missing = peers.available(options.program, fetch=not options.offline)
    with Lab() as lab:
        results, curves = plan.run(lab, found, options.quick)
    checks = targets.checks(results, curves)
    report = [tables.of_targets(checks), tables.of_flights(results), tables.of_loopback(results)]
    report += [tables.of_growth(curves), tables.of_slopes(curves)]
    print("\n" + "\n".join(report))
    for trouble in tables.troubles(results):
        print(f"not counted: {trouble}")
    for name in missing:
        print(f"no peer: {name} is not installed and could not be fetched")
    if options.write:
        from tests.bench import page

        page.write(results, curves, checks, found, missing)
    sys.exit(0)


if __name__ == "__main__":
    main()
