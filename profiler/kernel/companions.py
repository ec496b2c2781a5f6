"""Read companions.yaml: harmless calls that come by timing, and why."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from profiler.kernel.data import load
from profiler.kernel.syscalls import number_of


def companions(abi: str, names: Iterable[str]) -> dict[str, str]:
    """Return the harmless calls that may come with ``names``, seen under ``abi``: name to the reason.

    Leaves out ``names`` themselves and names that the ABI does not have.
    """
    seen = frozenset(names)
    return {
        name: str(row["reason"])
        for row in load("companions.yaml")["companions"]
        if "seen" not in row or not seen.isdisjoint(row["seen"])
        for name in row["add"]
        if name not in seen and number_of(abi, name) is not None
    }


@cache
def companion_files() -> dict[str, str]:
    """Return the files that programs with threads read by timing: path to the reason."""
    return {row["read"]: row["reason"] for row in load("companions.yaml")["files"]}


@cache
def harmless() -> frozenset[str]:
    """Return all calls that a policy may allow as companions."""
    return frozenset(name for row in load("companions.yaml")["companions"] for name in row["add"])
