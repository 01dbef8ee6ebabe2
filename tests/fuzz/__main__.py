"""The targets under atheris, one after the other: `make fuzz TIME=60`."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.targets import TARGETS

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
REPOSITORY = HERE.parents[1]
HANGS = 60  # seconds on the clock; what an input really takes, targets.bounded() knows better
SMALL = 16 * 1024  # octets of new inputs kept for one target after one run, and
FEW = 15  # how many they may be: what is in the corpus is replayed by every test run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--time", type=int, default=60, help="seconds for each target (60)")
    parser.add_argument("--runs", type=int, default=-1, help="inputs for each target, however long that takes")
    parser.add_argument("target", nargs="*", help=f"of {', '.join(TARGETS)}; all of them where none is named")
    given = parser.parse_args()
    unknown = set(given.target) - set(TARGETS)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    failed = [name for name in given.target or TARGETS if not fuzz(name, given.runs, given.time)]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


def fuzz(name: str, runs: int, seconds: int) -> bool:
    """Run one target; new inputs that reach what none did go into its corpus, one that fails is left in crashes/."""
    crashes = HERE / "crashes"
    crashes.mkdir(exist_ok=True)
    before = set(crashes.iterdir())
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder)
        print(f"== {name}", flush=True)
        limits = [f"-runs={runs}"] if runs >= 0 else [f"-max_total_time={seconds}"]
        ran = inside(
            name,
            *limits,
            f"-max_len={TARGETS[name].length}",
            f"-timeout={HANGS}",
            "-rss_limit_mb=0",
            f"-dict={HERE / 'words' / name}.dict",
            f"-artifact_prefix={crashes / name}-",
            "-print_final_stats=1",
            "-verbosity=0",
            str(found),
            str(CORPUS / name),
        )
        merged = keep(name, found)
    new = sorted(set(crashes.iterdir()) - before)
    for crash in new:
        print(f"{crash.relative_to(REPOSITORY)}: {crash.read_bytes()!r}")
    return ran and merged and not new


def keep(name: str, found: Path) -> bool:
    """Merge what was found into the corpus: the smallest inputs that reach further, and not too many of them."""
    here = CORPUS / name
    before = set(here.iterdir())
    merged = inside(name, "-merge=1", "-use_counters=0", "-verbosity=0", str(here), str(found))
    room = SMALL
    new = sorted(set(here.iterdir()) - before, key=lambda file: file.stat().st_size)
    for number, file in enumerate(new):
        room -= file.stat().st_size
        if room < 0 or number >= FEW:
            file.unlink()
        else:
            print(f"new: {file.relative_to(REPOSITORY)}")
    return merged


def inside(*arguments: str) -> bool:
    """Whether libFuzzer found nothing wrong; it never comes back, so it gets a process of its own."""
    done = subprocess.run([sys.executable, "-m", "tests.fuzz.inside", *arguments], cwd=REPOSITORY, check=False)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
