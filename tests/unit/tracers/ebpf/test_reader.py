"""Counts as the kernel keeps them."""

from __future__ import annotations

import ctypes

from profiler.tracers.ebpf import reader


def test_column_sums() -> None:
    rows = [list(range(reader.NUMBERS)), [5] * reader.NUMBERS, [1 << 40] * reader.NUMBERS]
    for count in (1, 2, 3):
        content = b"".join(bytes((ctypes.c_uint64 * reader.NUMBERS)(*row)) for row in rows[:count])
        assert reader._column_sums(content) == [sum(column) for column in zip(*rows[:count], strict=True)]
