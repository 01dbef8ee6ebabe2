"""Optional packages, found although the program starts without the site directories."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from muawrap.failure import Failure


def load(name: str, reason: str, package: str = "") -> ModuleType:
    """Import a module that not every delivery needs; `reason` says what needs it, and `package` where it is from.

    bin/sendmail runs Python with -S, so the site directories are added here, the first time they are needed.
    Raises Failure where the package is not installed, or broken in whatever way.
    """
    try:
        try:
            return importlib.import_module(name)
        except ImportError:
            import site

            site.main()
        return importlib.import_module(name)
    except Exception as error:
        raise missing(package or name, reason, error) from error


def missing(package: str, reason: str, why: object) -> Failure:
    """The failure for a package that is not there, or broken, and what needs it."""
    return Failure(
        f"{reason} needs the Python package {package}, which cannot be loaded ({why})",
        advice=f"install it: apt install python3-{package}, or {sys.executable} -m pip install {package}",
    )
