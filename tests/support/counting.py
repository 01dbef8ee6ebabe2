"""Calls counted: what a promise about cost is proved with, on any machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Counted:
    """A function that counts how often it is called."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return self.function(*args, **kwargs)
