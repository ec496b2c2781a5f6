"""The capabilities of a file."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from profiler.kernel.capabilities import ALL
from profiler.kernel.file_capabilities import FileCapabilities, parse_file_capabilities


@given(st.integers(0, ALL), st.booleans())
def test_file_capabilities(mask: int, effective: bool) -> None:
    low, high = mask & 0xFFFFFFFF, mask >> 32
    expected = FileCapabilities(mask, effective)
    assert parse_file_capabilities(struct.pack("<5I", 0x02000000 | effective, low, 0, high, 0)) == expected
    assert parse_file_capabilities(struct.pack("<6I", 0x03000000 | effective, low, 0, high, 0, 0)) == expected
    assert parse_file_capabilities(struct.pack("<6I", 0x03000000 | effective, low, 0, high, 0, 1000)) is None
    first = parse_file_capabilities(struct.pack("<3I", 0x01000000 | effective, low, 0))
    assert first == FileCapabilities(low, effective)
    assert expected.needed == (mask if effective else 0)


@given(st.binary(max_size=32))
def test_other_attributes(data: bytes) -> None:
    found = parse_file_capabilities(data)
    assert found is None or len(data) in (12, 20, 24)
