"""Lines of a log that hold one of a few marks, in order, whatever its size, without looking at each line."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from typing import Protocol

CHUNK = 1 << 20
"""Bytes looked at at once, and so the longest line: a record of the audit system has at most 8 970
(include/uapi/linux/audit.h)."""

LINES_COUNTED = 128 << 20
"""Bytes of a source in which lines are numbered. Counting takes as long as looking for three marks."""


class Raw(Protocol):
    """What is read: an unbuffered binary file."""

    def readinto(self, buffer: memoryview, /) -> int | None: ...


# bytes.find takes three times as long. memmem(3) is in every libc of Linux; PyDLL: no lock is given up for so short a
# call.
_memmem = ctypes.PyDLL(None).memmem
_memmem.restype = ctypes.c_void_p
_memmem.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t)


class Scanner:
    """Reads one source. ``marks_json``: looked for too when it begins as JSON does. ``overlong`` counts lines longer
    than a chunk, which are passed over."""

    def __init__(
        self, stream: Raw, marks: Sequence[bytes], chunk: int = CHUNK, marks_json: Sequence[bytes] = ()
    ) -> None:
        self._stream = stream
        self._marks, self._marks_json = tuple(marks), tuple(marks_json)
        self._size = chunk
        self.overlong = 0
        self.bytes = 0

    def __iter__(self) -> Iterator[tuple[bytes, int | None]]:
        """(line without its end, its number from 1 or None past LINES_COUNTED). Raises OSError."""
        buffer = bytearray(self._size)
        view = memoryview(buffer)
        base = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
        filled, lines, skipping = 0, 0, False
        while True:
            got = self._stream.readinto(view[filled:])
            if not got:
                break
            if self._marks_json and bytes(view[:64]).lstrip(b" \x1e\r\n")[:1] == b"{":
                self._marks += self._marks_json
            self._marks_json = ()
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
            # Without an end, and so perhaps the beginning of a record that its marks are missing from.
            self.bytes += filled
            yield bytes(view[:filled]), lines + 1 if self.bytes < LINES_COUNTED else None

    def _hits(self, buffer: bytearray, base: int, begin: int, whole: int) -> dict[int, int]:
        """Start to end of the lines with a mark. ``buffer[whole - 1]`` is a newline."""
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
