"""Words that many messages share: why a system call failed, counts, times, and lists that are cut short."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence

UNKNOWN = "(unknown)"
"""Stands in traces and policies for a program whose file is not known."""


def cause(error: OSError | int) -> str:
    """Return why a system call failed, in lower case: ``permission denied``. An int is an errno."""
    return (os.strerror(error) if isinstance(error, int) else error.strerror or str(error)).lower()


def grouped(number: int) -> str:
    """Return a number with its digits in groups of three: ``1 204``."""
    return f"{number:,}".replace(",", " ")


def size(number: int) -> str:
    """Return a number of bytes: ``830 B``, ``12.3 kB``, ``1.2 MB``."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= factor:
            return f"{number / factor:.1f} {unit}"
    return f"{number} B"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return ``1 call``, ``1 204 calls``. ``plural``: when it is not the noun with an s."""
    return f"{grouped(number)} {noun if number == 1 else plural or noun + 's'}"


_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def duration(seconds: float) -> str:
    """Return a time for people: ``72ms``, ``0.1s``, ``12.3s``, ``2m 5s``, ``1h 4m``. Options take it back."""
    if 0 < seconds < 0.1:
        return f"{max(1, round(seconds * 1000))}ms"
    if (tenths := round(seconds, 1)) < 60:
        return f"{tenths:g}s"
    left = round(seconds)
    parts: list[str] = []
    for unit, size in _UNITS:
        number, left = divmod(left, size)
        if number or parts:
            parts.append(f"{number}{unit}")
    return " ".join(part for part in parts[:2] if part[:-1] != "0")


def shortened(items: Sequence[str], most: int) -> list[str]:
    """Return the first ``most`` items and ``and 3 more``; all of them when only one more would be left out."""
    if len(items) <= most + 1:
        return list(items)
    return [*items[:most], f"and {grouped(len(items) - most)} more"]


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean X?)``, or nothing when no known word is close."""
    return alternatives(difflib.get_close_matches(word[:100], list(known), n=1))


def alternatives(names: Sequence[str]) -> str:
    """Return `` (did you mean A, B or C?)``, or nothing without names."""
    *others, last = names or ("",)
    return f" (did you mean {', '.join(others)}{' or ' if others else ''}{last}?)" if last else ""


def listed(items: Sequence[str], most: int) -> str:
    """Return ``a, b and 3 more``: the items as one phrase, shortened as by :func:`shortened`."""
    shown = shortened(items, most)
    return ", ".join(shown) if len(shown) == len(items) else f"{', '.join(shown[:-1])} {shown[-1]}"
