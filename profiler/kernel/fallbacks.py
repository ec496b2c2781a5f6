"""Reader of fallbacks.yaml: calls whose absence programs survive when it is said as ENOSYS."""

from __future__ import annotations

from functools import cache

from profiler.kernel.data import load


@cache
def fallbacks() -> dict[str, str]:
    """Syscall name to what falls back, and to what."""
    return {str(name): str(text) for name, text in load("fallbacks.yaml").items()}
