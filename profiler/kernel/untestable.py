"""Reader of untestable.yaml: syscalls that a passing test does not prove spare."""

from __future__ import annotations

from functools import cache

from profiler.kernel.data import load


@cache
def untestable() -> dict[str, str]:
    """Syscall name to what happens without it."""
    return {str(name): str(text) for name, text in load("untestable.yaml").items()}
