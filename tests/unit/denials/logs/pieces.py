"""A stream for tests of reading."""

from __future__ import annotations

import io


class Pieces(io.RawIOBase):
    """A stream that returns the data in pieces, as a pipe does."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data, self._size, self._at = data, size, 0

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        piece = self._data[self._at : self._at + min(self._size, len(buffer))]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)
