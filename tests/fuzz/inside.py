"""One target under atheris: `python -m tests.fuzz.inside TARGET`, then what libFuzzer takes."""

from __future__ import annotations

import sys

import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]

with atheris.instrument_imports(include=["muawrap"]):
    from tests.fuzz import targets

name, *options = sys.argv[1:]
again = f"{sys.executable} -m tests.fuzz.inside {name}"  # how libFuzzer calls us, by a shell, for each part of a merge
atheris.Setup([again, *options], lambda data: targets.bounded(targets.TARGETS[name], data))
atheris.Fuzz()
