"""Optional packages, found although the program starts without the site directories."""

from __future__ import annotations

import importlib
from types import ModuleType

from muawrap.failure import Failure


def load(name: str, reason: str) -> ModuleType:
    """Import a package that not every delivery needs; `reason` says what needs it.

    bin/sendmail runs Python with -S, so the site directories are added here, the first time they are needed.
    Raises Failure where the package is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        import site

        site.main()
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Failure(
            f"{reason} needs the Python package {name}, which cannot be loaded ({error})",
            advice=f"install it for the Python that runs this program, such as: pip install {name}",
        ) from error
