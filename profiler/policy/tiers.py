"""Which directories may be opened as a whole, and which never (tiers.yaml)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import yaml

from profiler.policy.patterns import is_literal

TIERS = ("guarded", "kernel", "installed", "data", "temporary")
BY_DIRECTORY = frozenset({"installed", "data", "temporary"})
"""Tiers in which directory rules may come."""

_REMEMBERED = 1 << 14
"""Directories of which the tier is kept: many paths are in one."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def _data() -> Mapping[str, Sequence[str]]:
    found: dict[str, list[str]] = yaml.load(
        Path(__file__).with_name("tiers.yaml").read_text(encoding="utf-8"), Loader=_Loader
    )
    return found


@cache
def _entries() -> Mapping[str, str]:
    return {path: tier for tier in TIERS for path in _data()[tier]}


def prefixes(path: str) -> list[str]:
    """The path and the directories above it, the longest first, without ``/`` itself."""
    found = []
    while path.strip("/"):
        found.append(path)
        path = path.rpartition("/")[0]
    return found


def tier_of(path: str) -> tuple[str, str]:
    """Return the tier of a path or pattern, and the entry that says so, or an empty text. A class is not a name."""
    return _tier_of(_top(path))


@cache
def _deepest() -> int:
    return max(path.count("/") for path in (*_entries(), *_libraries())) + 1


def _top(path: str) -> str:
    """Return the beginning of a path that the tiers can tell from others."""
    return "/".join(path.split("/", _deepest())[: _deepest()])


@lru_cache(maxsize=_REMEMBERED)
def _tier_of(path: str) -> tuple[str, str]:
    entries = _entries()
    for prefix in prefixes(path):
        if prefix in entries:
            return entries[prefix], prefix
    return "guarded", ""


def owner_tells(pattern: str) -> bool:
    """Whether a rule may hold for the user's own files only: in places where everybody writes, in home directories and
    below /proc/PID; where data lies, for patterns that are not literal."""
    if pattern.startswith(("{home}", "/root/", "/home/", "/proc/{pid}")):
        return True
    tier, _ = tier_of(pattern)
    return tier == "temporary" or (tier == "data" and not is_literal(pattern))


@cache
def never_widened() -> frozenset[str]:
    """The directories of the tiers that are not widened by directory: nor is one by a rule for the directory above it,
    or for its name."""
    return frozenset(path for path, tier in _entries().items() if tier not in BY_DIRECTORY)


def is_library_place(path: str) -> bool:
    """Whether a path lies where shared libraries are."""
    return _holds_libraries(_top(path))


@lru_cache(maxsize=_REMEMBERED)
def _holds_libraries(path: str) -> bool:
    return not _libraries().isdisjoint(prefixes(path))


@cache
def _libraries() -> frozenset[str]:
    return frozenset(_data()["libraries"])
