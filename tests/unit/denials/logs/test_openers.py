"""Logs that are compressed or encoded: in pieces, damaged, hostile. test_forms.py reads whole ones."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import resource
import tarfile
import zipfile
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from unit.denials.logs.pieces import Pieces

from profiler.denials.logs.openers import Head, opened
from profiler.errors import InputError

COMPRESSORS: list[Callable[[bytes], bytes]] = [gzip.compress, lzma.compress, bz2.compress]


def plain(data: bytes, size: int = 1 << 16) -> bytes:
    with opened(Pieces(data, size)) as stream:
        return io.BufferedReader(stream).read()


@settings(deadline=None)
@given(
    data=st.binary(max_size=20_000),
    compress=st.sampled_from(COMPRESSORS),
    parts=st.integers(1, 4),
    padding=st.integers(0, 3),
    size=st.integers(1, 70_000),
)
@example(data=b"x" * 200_000, compress=gzip.compress, parts=1, padding=0, size=100)
def test_compressed_data(data: bytes, compress: Callable[[bytes], bytes], parts: int, padding: int, size: int) -> None:
    data = b"log: " + data
    compressed = b"".join(compress(data) for _ in range(parts)) + bytes(4 * padding)
    assert plain(compressed, size) == data * parts


@settings(deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"])), size=st.integers(1, 50))
def test_encoded_text(text: str, size: int) -> None:
    for encoding in ("utf-16", "utf-32", "utf-8-sig"):
        assert plain(("log " + text).encode(encoding), size) == ("log " + text).encode()


def test_text_that_is_not_utf_8_stays() -> None:
    for data in (b"", b"x", b"\xff\xfe"[:1], b"a\0b\0", b"\xe4\n" * 20, bytes(40)):
        assert plain(data) == data


def test_the_head_does_not_take_from_the_stream() -> None:
    stream = Head(Pieces(b"abcdef", 2), 3)
    assert stream.head == b"abc"
    assert io.BufferedReader(stream).read() == b"abcdef"
    assert stream.bytes == 6


@pytest.mark.parametrize("compress", COMPRESSORS)
def test_damaged_data(compress: Callable[[bytes], bytes]) -> None:
    data = compress(bytes(range(256)) * 400)
    with pytest.raises(InputError, match="end early"):
        plain(data[:-9])
    with pytest.raises(InputError, match="damaged"):
        plain(data[:40] + bytes(40) + data[80:])


@settings(deadline=None)
@given(
    compress=st.sampled_from(COMPRESSORS),
    at=st.integers(0, 200),
    byte=st.integers(0, 255),
    end=st.integers(0, 300),
)
def test_any_damage(compress: Callable[[bytes], bytes], at: int, byte: int, end: int) -> None:
    data = bytearray(compress(bytes(range(256))))[:end]
    if at < len(data):
        data[at] = byte
    try:
        plain(bytes(data))
    except InputError:
        return


def test_archives_are_not_logs() -> None:
    archive, packed = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("log"), io.BytesIO())
    with zipfile.ZipFile(packed, "w") as zipped:
        zipped.writestr("log", "x")
    for data, name in (
        (archive.getvalue(), "tar"),
        (gzip.compress(archive.getvalue()), "tar"),
        (packed.getvalue(), "zip"),
    ):
        with pytest.raises(InputError, match=f"a {name} archive; unpack it first"):
            plain(data)


def test_a_small_file_that_is_large_when_decompressed() -> None:
    data = gzip.compress(gzip.compress(bytes(100 << 20)))
    assert len(data) < 4000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    total = 0
    with opened(io.BytesIO(data)) as stream:
        buffer = memoryview(bytearray(1 << 20))
        while got := stream.readinto(buffer):
            total += got
    assert total == 100 << 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 << 10


def test_xz_that_wants_much_memory() -> None:
    data = lzma.compress(b"x", filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 512 << 20}])
    with pytest.raises(InputError, match=r"damaged \(Memory usage limit"):
        plain(data)


def test_a_program_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(InputError, match="fix: apt install zstd"):
        plain(b"\x28\xb5\x2f\xfd and more")
