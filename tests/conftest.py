"""Fixtures that every test may ask for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import server
from tests.support.certificates import Authority
from tests.support.program import Program


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """The program in a throw-away installation."""
    return Program(tmp_path)


@pytest.fixture(scope="session")
def authority() -> Authority:
    """The certificate authority of this run."""
    return Authority()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A loopback port on which nothing listens."""
    with server.closed_port() as port:
        yield port
