"""Read the entries of a layer from a tar archive, compressed or not, without unpacking it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from typing import Any, BinaryIO, Self, cast

from profiler.errors import InputError
from profiler.images.files import HardLink, Node
from profiler.kernel.file_capabilities import FileCapabilities, parse_file_capabilities

DECOMPRESSED_MAX = 16 << 30
"""Bytes of one image that are decompressed."""
ENTRIES_MAX = 2_000_000
"""Entries of one image."""
HEADER_MAX = 4 << 20
"""Bytes that the headers of one entry may have: names and extended attributes."""

_CHUNK = 1 << 20
_ERRORS = "surrogateescape"
_CAPABILITY = "SCHILY.xattr.security.capability"
"""The header with an extended attribute (star(5); GNU tar, Go's archive/tar, bsdtar)."""
_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


class Budget:
    """What may still be read of one image."""

    def __init__(self) -> None:
        self._bytes, self._entries = DECOMPRESSED_MAX, ENTRIES_MAX

    def decompressed(self, number: int) -> None:
        """Take bytes. Raises InputError when there are none left."""
        self._bytes -= number
        if self._bytes < 0:
            raise InputError(f"more than {DECOMPRESSED_MAX >> 30} GiB when it is decompressed")

    def entry(self) -> None:
        """Take an entry. Raises InputError when there are none left."""
        self._entries -= 1
        if self._entries < 0:
            raise InputError(f"more than {ENTRIES_MAX} files")


class _Forward(io.RawIOBase):
    """A stream that tarfile can read forward, with a bound for the headers of one entry."""

    def __init__(self, stream: BinaryIO, budget: Budget | None) -> None:
        self._stream = stream
        self._budget = budget
        """None for a stream that can be sought without reading."""
        self._at = stream.tell()
        self.headers = 0

    def read(self, size: int = -1) -> bytes:
        self.headers += size
        if size < 0 or self.headers > HEADER_MAX:
            raise tarfile.ReadError("the headers of an entry are too long")
        return self._take(size)

    def _take(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._at += len(data)
        if self._budget is not None:
            self._budget.decompressed(len(data))
        return data

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET:
            raise tarfile.ReadError("the archive is not read from its start")
        if self._budget is None:
            self._at = self._stream.seek(offset)
        elif offset < self._at:
            raise tarfile.ReadError("the archive is not read forward")
        while self._at < offset and self._take(min(_CHUNK, offset - self._at)):
            pass
        return self._at


def compression(stream: BinaryIO) -> str | None:
    """Return how a file is compressed, None when it is not."""
    start = stream.read(6)
    stream.seek(0)
    return next((word for magic, word in _MAGIC.items() if start.startswith(magic)), None)


def plain(stream: BinaryIO) -> BinaryIO:
    """Return what a compressed file holds. Raises InputError for zstd, which Python cannot read yet."""
    kind = compression(stream)
    if kind == "gzip":
        import gzip

        return cast(BinaryIO, gzip.GzipFile(fileobj=stream))
    if kind == "bzip2":
        import bz2

        return cast(BinaryIO, bz2.BZ2File(stream))
    if kind == "xz":
        import lzma

        return cast(BinaryIO, lzma.LZMAFile(stream))
    if kind == "zstd":
        raise InputError(
            "compressed with zstd, which profgen does not read: save the image with docker save, or copy it with "
            "skopeo copy --dest-compress-format gzip"
        )
    return stream


class _Strict(tarfile.TarInfo):
    """A header. One that is damaged is an error: tarfile would end the archive there, as if nothing followed."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            return super().frombuf(buf, encoding, errors)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(f"a header is damaged ({error})") from error


def members(stream: BinaryIO, budget: Budget) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar archive. Raises InputError for what is not one."""
    is_plain = compression(stream) is None
    try:
        forward = _Forward(plain(stream), None if is_plain else budget)
        archive: Any  # its list of members is not in the stubs
        with tarfile.open(fileobj=forward, mode="r:", tarinfo=_Strict, encoding="utf-8", errors=_ERRORS) as archive:
            for member in archive:
                archive.members = []  # tarfile would keep all of them
                budget.entry()
                yield member
                forward.headers = 0
    except InputError:
        raise
    except Exception as error:  # tarfile and the decompressors raise many kinds for a broken archive
        raise InputError(f"not a tar archive that can be read: {str(error)[:120] or type(error).__name__}") from error


def entries(stream: BinaryIO, budget: Budget) -> Iterator[tuple[str, Node | HardLink]]:
    """Yield the entries of a layer. Raises InputError."""
    for member in members(stream, budget):
        if member.islnk():
            yield member.name, HardLink(member.linkname, member.mode & 0o7777, _capabilities(member))
        elif member.issym():
            yield member.name, Node("symlink", 0o777, member.uid, member.gid, member.linkname)
        elif member.isdir():
            yield member.name, Node("directory", member.mode & 0o7777, member.uid, member.gid)
        elif member.isfile():
            yield member.name, Node("file", member.mode & 0o7777, member.uid, member.gid, "", _capabilities(member))
        else:
            kind = "device" if member.ischr() or member.isblk() else "other"
            yield member.name, Node(kind, member.mode & 0o7777, member.uid, member.gid)  # type: ignore[arg-type]


def _capabilities(member: tarfile.TarInfo) -> FileCapabilities | None:
    text = member.pax_headers.get(_CAPABILITY)
    try:
        # A header is text to tarfile; what is not UTF-8 in it became lone surrogates.
        return None if text is None else parse_file_capabilities(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return None
