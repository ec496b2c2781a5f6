"""Wait for facts: a state in /proc, a file, a line. Time decides only that something hangs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import pytest

HANG_SECONDS = 180.0
"""A step that takes longer hangs. It is generous because the tests must also pass on a busy machine."""

T = TypeVar("T")


def eventually(holds: Callable[[], object], seconds: float = HANG_SECONDS) -> bool:
    """Return whether the condition came to hold within the time."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def until(holds: Callable[[], T], what: str) -> T:
    """Wait until the condition holds, and return its value; fail the test, naming the condition, when it never does."""
    end = time.monotonic() + HANG_SECONDS
    while not (value := holds()):
        if time.monotonic() > end:
            pytest.fail(f"this did not happen: {what}")
        time.sleep(0.01)
    return value
