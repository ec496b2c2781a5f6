"""Logs as the tests hand them over."""

from __future__ import annotations

from collections.abc import Iterable

from profiler.denials.logs.reading import Reader, Reading


def read_lines(lines: Iterable[bytes]) -> Reading:
    """What these lines hold."""
    reader = Reader()
    for number, line in enumerate(lines, start=1):
        reader.line(line, number)
    return reader.reading
