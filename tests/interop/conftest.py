"""A real Exim that several files of this folder send to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.exim import Exim


@pytest.fixture(scope="module")
def running_exim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exim]:
    """One for all tests of a file."""
    with Exim(tmp_path_factory.mktemp("exim")) as exim:
        yield exim


@pytest.fixture
def exim(running_exim: Exim) -> Exim:
    """The same, and nothing has come to it yet."""
    running_exim.forget()
    return running_exim
