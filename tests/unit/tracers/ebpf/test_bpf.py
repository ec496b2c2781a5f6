"""Maps of the real kernel."""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.tracers.ebpf.bpf import MAP_TYPE_ARRAY, MAP_TYPE_PERCPU_ARRAY, Map, Shape
from profiler.tracers.ebpf.shared import structure

HASH, QUEUE = 1, 22
Make = Callable[[Shape], Map]


@pytest.fixture(scope="module")
def make() -> Iterator[Make]:
    made: list[Map] = []

    def one(shape: Shape) -> Map:
        try:
            made.append(Map(shape))
        except PermissionError:
            pytest.skip("no right to make maps")
        return made[-1]

    yield one
    for each in made:
        os.close(each.fd)


def test_numbers(make: Make) -> None:
    """Numbers are given and returned as ints, whatever their size in C."""
    table = make(Shape("numbers", HASH, 4, 8, 10, 0, "unsigned int", "unsigned long long"))
    table[0xFFFFFFFF] = 1 << 63
    table[2] = 5
    del table[2], table[3]
    gc.collect()
    assert table[0xFFFFFFFF] == 1 << 63
    assert (list(table), table.items(), len(table)) == ([0xFFFFFFFF], [(0xFFFFFFFF, 1 << 63)], 1)
    with pytest.raises(KeyError):
        table[2]


def test_structures(make: Make) -> None:
    key, tally = structure("contact_key"), structure("tally")
    table = make(Shape("structures", HASH, ctypes.sizeof(key), ctypes.sizeof(tally), 10, 0, "contact_key", "tally"))
    for program in (7, 8):
        table[key(program=program, whom=2)] = tally(count=program)
    assert table[key(program=8, whom=2)].count == 8
    assert sorted((each.program, each.whom, value.count) for each, value in table.items()) == [(7, 2, 7), (8, 2, 8)]
    (seven,) = [raw for raw, _ in table.entries() if table.member(raw, "program") == 7]
    table.delete(seven)
    assert [each.program for each in table] == [8]


def test_arrays(make: Make) -> None:
    array = make(Shape("array", MAP_TYPE_ARRAY, 4, 8, 3, 0, "int", "unsigned long long"))
    array[2] = 9
    assert ([array[place] for place in range(3)], len(array)) == ([0, 0, 9], 3)
    array.clear(2)
    assert array[2] == 0
    with pytest.raises(KeyError):
        array[3]
    shape = Shape("rows", MAP_TYPE_PERCPU_ARRAY, 4, ctypes.sizeof(structure("counts")), 2, 0, "int", "counts")
    rows = make(shape)
    assert len(bytes(rows[1])) % shape.value_size == 0
    assert not any(bytes(rows[1]))
    rows.clear(1)


def test_queues(make: Make) -> None:
    queue = make(Shape("queue", QUEUE, 0, 4, 2, 0, "int", "unsigned int"))
    queue.push(1)
    queue.push(2)
    with pytest.raises(OSError, match=r"too long|large"):
        queue.push(3)


@given(content=st.dictionaries(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 32) - 1), max_size=200))
def test_any_content(make: Make, content: dict[int, int]) -> None:
    table: Any = make(Shape("any", HASH, 8, 4, 200, 0, "unsigned long long", "unsigned int"))
    for key, value in content.items():
        table[key] = value
    assert dict(table.items()) == content
    assert {key: table[key] for key in content} == content
    os.close(table.fd)
    table.fd = os.open("/dev/null", os.O_RDONLY)  # closed once more at the end
