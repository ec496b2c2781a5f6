"""Read fallbacks.yaml: the syscalls that programs can do without if the kernel answers ENOSYS."""

from __future__ import annotations

from functools import cache

from profiler.kernel.data import load


@cache
def fallbacks() -> dict[str, str]:
    """Return, by syscall name, which program falls back and to what."""
    return {str(name): str(row["why"]) for name, row in load("fallbacks.yaml").items()}
