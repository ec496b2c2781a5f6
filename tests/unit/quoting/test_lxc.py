"""Values of LXC's configuration."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.quoting.lxc import Inexpressible, field, unescaped, value


class Entry(ctypes.Structure):
    """struct mntent."""

    _fields_ = [(name, ctypes.c_char_p) for name in ("source", "place", "kind", "options")]


def getmntent(line: bytes, path: Path) -> bytes:
    """The second field of a line, read by the C library as LXC does."""
    libc = ctypes.CDLL(None)
    libc.setmntent.restype = ctypes.c_void_p
    libc.getmntent.restype = ctypes.POINTER(Entry)
    path.write_bytes(line)
    stream = ctypes.c_void_p(libc.setmntent(bytes(path), b"r"))
    try:
        entry = libc.getmntent(stream)
        place: bytes = entry.contents.place
        return place
    finally:
        libc.endmntent(stream)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_the_library_reads_the_same(text: str) -> None:
    path = Path(f"/tmp/profgen-fstab-{os.getpid()}")
    try:
        written = field(text)
    except Inexpressible:
        assert {"\r", "\0"} & set(text)
        return
    try:
        read = getmntent(f"tmpfs {written} tmpfs rw 0 0\n".encode(), path)
    finally:
        path.unlink(missing_ok=True)
    assert read == text.encode()
    assert unescaped(written) == text
    assert value(f"tmpfs {written} tmpfs") == f"tmpfs {written} tmpfs"


@pytest.mark.parametrize("text", ["a\nb", "a\rb", " a", "a\t", "'a'", '"'])
def test_what_a_value_cannot_be(text: str) -> None:
    with pytest.raises(Inexpressible):
        value(text)
