"""Find the lines of a log that hold one of a few marks, in order, at any size, without examining each line."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from typing import Protocol

CHUNK = 1 << 20
"""The bytes examined at once, and so the longest line: an audit record has at most 8 970
(include/uapi/linux/audit.h)."""

LINES_COUNTED = 128 << 20
"""The bytes of a source in which lines are numbered. Counting takes as long as searching for three marks."""


class Raw(Protocol):
    """What is read: an unbuffered binary file."""

    def readinto(self, buffer: memoryview, /) -> int | None: ...


# bytes.find takes three times as long. Every libc of Linux has memmem(3). PyDLL: releasing the lock is not worth it for
# so short a call.
_memmem = ctypes.PyDLL(None).memmem
_memmem.restype = ctypes.c_void_p
_memmem.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t)


class Scanner:
    """Read one source.

    ``overlong`` counts lines longer than a chunk, which are skipped. ``uniform``: whether every line so far starts with
    one of ``starts``; True if none is given.
    """

    def __init__(self, stream: Raw, marks: Sequence[bytes], chunk: int = CHUNK, starts: Sequence[bytes] = ()) -> None:
        self._stream = stream
        self._marks, self._starts = tuple(marks), tuple(starts)
        self._size = chunk
        self.overlong = 0
        self.bytes = 0
        self.uniform = True

    def __iter__(self) -> Iterator[tuple[bytes, int | None]]:
        """Yield (line without its newline, its number from 1 or None past LINES_COUNTED). Raises OSError."""
        buffer = bytearray(self._size)
        view = memoryview(buffer)
        base = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
        filled, lines, skipping = 0, 0, False
        while True:
            got = self._stream.readinto(view[filled:])
            if not got:
                break
            end = filled + got
            whole = buffer.rfind(b"\n", filled, end) + 1
            if not whole:
                filled = end
                if filled == self._size:
                    self.overlong += not skipping
                    skipping, filled = True, 0
                continue
            begin = buffer.find(b"\n", 0, whole) + 1 if skipping else 0
            skipping = False
            self.uniform = self.uniform and self._starts_well(buffer, begin, whole)
            numbered = self.bytes < LINES_COUNTED
            counted = 0
            for start, stop in sorted(self._hits(buffer, base, begin, whole).items()):
                if numbered:
                    lines += buffer.count(10, counted, start)
                    counted = start
                yield bytes(view[start:stop]), lines + 1 if numbered else None
            if numbered:
                lines += buffer.count(10, counted, whole)
            self.bytes += whole
            filled = end - whole
            view[:filled] = view[whole:end]
        if filled and not skipping:
            # This has no newline: it may be the beginning of a record that does not yet contain its marks.
            self.bytes += filled
            self.uniform = self.uniform and (not self._starts or buffer.startswith(self._starts, 0, filled))
            yield bytes(view[:filled]), lines + 1 if self.bytes < LINES_COUNTED else None

    def _starts_well(self, buffer: bytearray, begin: int, whole: int) -> bool:
        """Return whether every line starts as it should."""
        if not self._starts or begin == whole:
            return True
        well = sum(buffer.count(b"\n" + start, begin, whole) for start in self._starts)
        return buffer.startswith(self._starts, begin, whole) and well + 1 == buffer.count(10, begin, whole)

    def _hits(self, buffer: bytearray, base: int, begin: int, whole: int) -> dict[int, int]:
        """Return the start and end of the lines with a mark. ``buffer[whole - 1]`` is a newline."""
        found: dict[int, int] = {}
        for mark in self._marks:
            at = begin
            while at < whole:
                place = _memmem(base + at, whole - at, mark, len(mark))
                if place is None:
                    break
                start = buffer.rfind(b"\n", begin, place - base) + 1 or begin
                stop = buffer.find(b"\n", place - base, whole)
                found[start] = stop
                at = stop + 1
        return found
