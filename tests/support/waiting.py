"""Wait for a condition, not for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from tests.support.project import DEADLINE

T = TypeVar("T")


def eventually(condition: Callable[[], T], what: str = "the condition", seconds: float = DEADLINE) -> T:
    """Wait until the condition is true, and return what it said."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"{what} was not met within {seconds} s")
