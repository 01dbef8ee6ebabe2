"""Runs of the program to which a signal comes as the import of some module has just begun."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tests.support.program import REPOSITORY

# It says what it loads once it has a message to keep.
SCRIPT = """
import importlib.abc, importlib.util, os, signal, sys
source, interrupted, program, *words = sys.argv[1:]
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None:
            sys.meta_path.insert(0, self)
            return None
        os.write(2, f"loads {name}\\n".encode())
        if name != interrupted:
            sys.meta_path.insert(0, self)
            return spec
        load = spec.loader.exec_module
        def begin(module):
            os.kill(os.getpid(), signal.SIGTERM)
            load(module)
        spec.loader.exec_module = begin
        return spec
sys.path.insert(0, source)
from muawrap import errand, sendmail
if program == "outbox":
    from muawrap.holding.waiting import outbox
keeps = errand.Errand.keeps
def then_look(*given, **named):
    keeps(*given, **named)
    sys.meta_path.insert(0, Finder())
errand.Errand.keeps = then_look
status = outbox.deliver(words) if program == "outbox" else sendmail.run([program, *words])
sendmail.report.leave(status)
"""


class Interrupted(NamedTuple):
    """One run, and what was half loaded in it: empty where no signal came."""

    module: str
    status: int
    said: str


def runs(program: str, words: Sequence[str], message: bytes) -> Iterator[Interrupted]:
    """Of "sendmail" or "outbox": a first without a signal, and then one for each module that it has loaded."""

    def run(module: str) -> Interrupted:
        script = [sys.executable, "-I", "-c", SCRIPT, str(REPOSITORY / "src"), module, program, *words]
        done = subprocess.run(script, input=message, capture_output=True, check=False, timeout=60)
        return Interrupted(module, done.returncode, done.stderr.decode())

    yield (first := run(""))
    loaded = re.findall("^loads (.+)$", first.said, re.MULTILINE)
    assert "muawrap.submission.connection" in loaded
    yield from map(run, loaded)
