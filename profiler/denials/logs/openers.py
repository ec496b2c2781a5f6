"""Make plain UTF-8 lines of a log, whatever it is compressed with or encoded in. Nothing is read ahead of the need."""

from __future__ import annotations

import bz2
import codecs
import io
import lzma
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from profiler.denials.logs.scan import Raw
from profiler.errors import InputError
from profiler.run import reading

HEAD = 4096
"""The bytes that tell what a file is. The mark of a tar archive ends at 262; the rest tells how lines begin."""
PIECE = 1 << 16
LAYERS = 3
"""How often a log may be compressed."""
MEMORY = 128 << 20
"""What xz may use; its own levels need up to 65 MiB to decompress (xz(1))."""
PROGRAM_SECONDS = 600.0

_PROGRAMS = {b"\x28\xb5\x2f\xfd": ("zstd", "-dcq"), b"\x04\x22\x4d\x18": ("lz4", "-dcq")}
"""By the first bytes of a file: what decompresses it where Python does not."""

_ARCHIVES = ((0, b"PK\x03\x04", "zip"), (0, b"7z\xbc\xaf\x27\x1c", "7z"), (257, b"ustar", "tar"))

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class Head(io.RawIOBase):
    """A stream whose first bytes are known before it is read: ``head``. ``bytes``: how many were read."""

    def __init__(self, stream: Raw, size: int = HEAD) -> None:
        self._stream = stream
        self.bytes = 0
        self.head = self._rest = b""
        while len(self._rest) < size and (piece := _piece(stream, size - len(self._rest))):
            self._rest += piece
        self.head = self._rest

    def drop(self, start: bytes) -> None:
        """Leave these bytes out if the stream starts with them. Call it before reading."""
        self.head = self._rest = self.head.removeprefix(start)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._rest:
            count = min(len(self._rest), len(buffer))
            buffer[:count] = self._rest[:count]
            self._rest = self._rest[count:]
        else:
            count = self._stream.readinto(buffer) or 0
        self.bytes += count
        return count


class _Converted(io.RawIOBase):
    """A stream of what a generator of bytes yields."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = piece
        count = min(len(self._rest), len(buffer))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


class _Decompressor(Protocol):
    """What bz2 and lzma offer, and _Gzip."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Gzip:
    """zlib's decompressor with the methods of bz2's."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


_DECOMPRESSORS: dict[bytes, Callable[[], _Decompressor]] = {
    b"\x1f\x8b": _Gzip,
    b"\xfd7zXZ\0": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY),
    b"BZh": bz2.BZ2Decompressor,
}


@contextmanager
def opened(stream: Raw) -> Iterator[Head]:
    """Give the stream as plain text in UTF-8. Raises InputError for what is not a log, and OSError."""
    with _decompressed(Head(stream), LAYERS) as plain:
        plain.drop(codecs.BOM_UTF8)
        encoding = _encoding(plain.head)
        yield plain if encoding is None else Head(_Converted(_decoded(plain, encoding)))


@contextmanager
def _decompressed(stream: Head, layers: int) -> Iterator[Head]:
    head = stream.head
    for at, magic, name in _ARCHIVES:
        if head[at:].startswith(magic):
            raise InputError(f"it is a {name} archive; unpack it first")
    for magic, make in _DECOMPRESSORS.items():
        if head.startswith(magic) and layers:
            with _decompressed(Head(_Converted(_unpacked(stream, make))), layers - 1) as inner:
                yield inner
            return
    for magic, words in _PROGRAMS.items():
        if head.startswith(magic) and layers:
            if shutil.which(words[0]) is None:
                raise InputError(f"{words[0]} decompresses it and is not installed; fix: apt install {words[0]}")
            with (
                reading(words, PROGRAM_SECONDS, data=_pieces(stream)) as output,
                _decompressed(Head(output), layers - 1) as inner,
            ):
                yield inner
            return
    yield stream


def _piece(stream: Raw, size: int) -> bytes:
    buffer = bytearray(size)
    count = stream.readinto(memoryview(buffer))
    return bytes(buffer[: count or 0])


def _pieces(stream: Raw) -> Iterator[bytes]:
    while piece := _piece(stream, PIECE):
        yield piece


def _unpacked(stream: Raw, make: Callable[[], _Decompressor]) -> Iterator[bytes]:
    """Yield what the stream contains. Several compressed files after one another are one (gzip(1), xz(1))."""
    inner, rest = make(), b""
    try:
        while True:
            if inner.eof:
                inner, rest = make(), inner.unused_data.lstrip(b"\0")  # some writers pad with zeros
                if not rest and not (rest := _piece(stream, PIECE).lstrip(b"\0")):
                    return
            elif inner.needs_input:
                rest = _piece(stream, PIECE)
            ended = inner.needs_input and not rest
            piece, rest = inner.decompress(rest, PIECE), b""
            if piece:
                yield piece
            elif ended and not inner.eof:
                raise InputError("the compressed data end early")
    except (zlib.error, lzma.LZMAError, OSError, EOFError) as error:
        raise InputError(f"the compressed data are damaged ({error})") from error


def _encoding(head: bytes) -> str | None:
    """Return the encoding of a text that is not plain UTF-8, by its byte order mark or by its zero bytes."""
    for mark, name in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return name
    pairs = head[: len(head) // 2 * 2]
    if len(pairs) >= 16:
        if not pairs[1::2].strip(b"\0") and b"\0" not in pairs[0::2]:
            return "utf-16-le"
        if not pairs[0::2].strip(b"\0") and b"\0" not in pairs[1::2]:
            return "utf-16-be"
    return None


def _decoded(stream: Raw, encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    for piece in _pieces(stream):
        yield decoder.decode(piece).encode("utf-8", "replace")
    yield decoder.decode(b"", final=True).encode("utf-8", "replace")
