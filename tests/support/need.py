"""What a test needs from the machine: skipped where it is missing, but failed in continuous integration."""

from __future__ import annotations

import importlib.util
import os
import shutil
from typing import NoReturn

import pytest


def need(command: str) -> str:
    """The full path of a program this test cannot do without."""
    path = shutil.which(command, path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin")
    return path if path is not None else missing(command)


def need_module(name: str) -> None:
    """A Python module this test cannot do without."""
    if importlib.util.find_spec(name) is None:
        missing(f"the Python module {name}")


def missing(what: str) -> NoReturn:
    """The test stops here: `what` is the thing it needs."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"needs {what}, which continuous integration must have", pytrace=False)
    pytest.skip(f"needs {what}")
