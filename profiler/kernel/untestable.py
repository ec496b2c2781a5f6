"""Read untestable.yaml: the syscalls that a test cannot prove unneeded."""

from __future__ import annotations

from functools import cache

from profiler.kernel.data import load


@cache
def untestable() -> dict[str, str]:
    """Return, by syscall name, what goes wrong without it."""
    return {str(name): str(text) for name, text in load("untestable.yaml").items()}
