"""Write lists of comma-separated values, as ``--mount`` of container engines takes them (RFC 4180)."""

from __future__ import annotations

from collections.abc import Iterable

_SPECIAL = frozenset(',"\r\n')


def csv(values: Iterable[str]) -> str:
    """Return values as one record."""
    return ",".join('"' + value.replace('"', '""') + '"' if set(value) & _SPECIAL else value for value in values)


FILTERS = {"csv": csv}
