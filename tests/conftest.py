"""Fixtures that every test may ask for."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.support import canary, server
from tests.support.canary import assert_silent
from tests.support.certificates import Authority
from tests.support.need import missing
from tests.support.program import Program
from tests.support.user import public_folder

# How long one example takes says more of the machine than of the program.
settings.register_profile("patient", settings(), deadline=None)
settings.load_profile("patient")

# A job in the background has them ignored, and the program then minds them as little, as it should.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """The program in a throw-away installation."""
    made = Program(tmp_path)
    yield made
    assert_silent(made.logged)  # of the runs that a test has made itself, too


@pytest.fixture
def public() -> Iterator[Program]:
    """The program where everybody may run it."""
    if os.getuid() != 0:
        missing("root, to act as another user")
    with public_folder() as folder:
        made = Program(folder)
        made.for_everybody()
        yield made


@pytest.fixture(scope="session")
def authority() -> Authority:
    """The certificate authority of this run."""
    return Authority()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A loopback port on which nothing listens."""
    with server.closed_port() as port:
        yield port


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Figures that `make torture` prints (with several processes each has its own, and none is told)."""
    if canary.searched:
        terminalreporter.write_line(f"the password was looked for in {canary.searched} outputs")


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """A report goes from one process to another as UTF-8, and what a test compares may be anything but that."""
    return encodable((yield))


def encodable(told: Any) -> Any:
    """The same, with surrogates shown as escapes."""
    if isinstance(told, str):
        return told.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(told, dict):
        return {name: encodable(value) for name, value in told.items()}
    if isinstance(told, (list, tuple)):
        return type(told)(map(encodable, told))
    return told
