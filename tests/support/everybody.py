"""The `muawrap` program where every account of the machine may run it, as the mail servers of a front do.

    muawrap = everybody(folder, config=folder / "muawrap.toml")
    subprocess.run([muawrap, "held"], user="mail")

`config` is what it takes for /etc/muawrap/muawrap.toml, without any option or variable: a mail server calls it with
neither. The interpreter of the tests may stand in a home, and what it has installed as well: so sources and click are
copied, and the system's Python runs them. With CLOCK in its environment time stands still for it at that moment, in
seconds since the epoch; its timeouts run by another clock.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from tests.support.program import REPOSITORY, python_of_everybody

CLOCK = "CLOCK_OF_THE_TEST"
START = """\
#!{python} -IS
import os, sys, time
moment = os.environ.pop({clock!r}, "")
if moment:
    time.time = lambda: float(moment)
sys.path.insert(0, {library!r})
from muawrap import config
config.SYSTEM_FILE = {config!r}
from muawrap.admin.program import main
main()
"""


def everybody(folder: Path, config: Path) -> Path:
    """The program, in bin below `folder`, which everybody can reach."""
    library = folder / "library"
    for source in (REPOSITORY / "src" / "muawrap", Path(click.__file__).parent):
        # With what has been compiled: it is started often, and cannot write there. Not what is just being written.
        shutil.copytree(source, library / source.name, ignore=shutil.ignore_patterns("*.pyc.*"))
    program = folder / "bin" / "muawrap"
    program.parent.mkdir(exist_ok=True)
    start = START.format(python=python_of_everybody(), clock=CLOCK, library=str(library), config=str(config))
    program.write_text(start)
    for path in (folder, library, *library.rglob("*"), program.parent, program):
        path.chmod(0o755 if path.is_dir() or path == program else 0o644)
    return program
