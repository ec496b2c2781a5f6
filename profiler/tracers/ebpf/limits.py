"""Sizes of the kernel's stores."""

from __future__ import annotations

from collections.abc import Mapping

from profiler.errors import InputError
from profiler.tracers.ebpf.shared import constant
from profiler.wording import suggestion

DEFAULT_LIMITS: Mapping[str, int] = {
    "tasks": 32768,
    "programs": 256,
    "syscalls": 4096,
    "results": 16384,
    "arguments": 65536,
    "capabilities": 16384,
    "stacks": 4096,
    "execs": 8192,
    "events": 1024,
    "files": 262144,
    "sockets": 4096,
    "processes": 4096,
    "paths": 1024,
    "sessions": 1,
    "denials": 4096,
}
"""In entries; ``events`` and ``paths`` in pages of 4 KiB, a power of two."""

WATCH_LIMITS: Mapping[str, int] = {"sessions": 256, "programs": 2048}
"""Where a Watcher's stores are larger than those of a single recording."""

RINGS = ("events", "paths")
"""Limits that are the sizes of rings, which have the same names."""

STORES: Mapping[str, str] = {
    "tasks": "live",
    "syscalls": "others",
    "results": "results",
    "arguments": "arguments",
    "capabilities": "checks",
    "stacks": "stacks",
    "execs": "execs",
    "files": "uses",
    "sockets": "sockets",
    "processes": "contacts",
    "denials": "refused",
}
"""Limits that are the sizes of hash maps, and the maps."""


def limit_for(loss: str) -> str | None:
    """Return the limit of the store that was full, by a class of losses; None for a loss of another kind.

    A path is also lost if it cannot be known, whatever the size of its ring: those that found no room are ``names``.
    """
    if loss == "paths" or loss not in DEFAULT_LIMITS:
        return "paths" if loss == "names" else None
    return loss


def limits_with(given: Mapping[str, int], defaults: Mapping[str, int] = DEFAULT_LIMITS) -> dict[str, int]:
    """Return the default limits, changed by those given.

    Raises InputError for an unknown name, and for a size that the kernel cannot have.
    """
    limits = dict(defaults)
    for name, size in given.items():
        if name not in limits:
            raise InputError(f"no limit is named {name!a}{suggestion(name, limits)}; there are: {', '.join(limits)}")
        if name in RINGS and size & (size - 1):
            raise InputError(f"the limit {name} is in pages and must be a power of two")
        # The first program numbers have a meaning of their own.
        limits[name] = max(size, constant("PROGRAM_FIRST") + 1) if name == "programs" else size
    return limits
