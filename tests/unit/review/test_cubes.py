"""Cubes agree with brute force over every number of a small width."""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.review import cubes
from profiler.review.cubes import EVERYTHING, REGISTER, Budget, Cube, TooHard

BITS = 7
ALL = range(1 << BITS)

CUBES = st.tuples(st.integers(0, (1 << BITS) - 1), st.integers(0, (1 << BITS) - 1)).map(
    lambda pair: Cube(pair[0], pair[0] & pair[1])
)
UNIONS = st.lists(CUBES, max_size=6)


def numbers(union: Iterable[Cube]) -> set[int]:
    listed = list(union)
    return {number for number in ALL if any(cube.has(number) for cube in listed)}


@given(CUBES, CUBES)
def test_two_cubes(a: Cube, b: Cube) -> None:
    met = cubes.both(a, b)
    assert numbers([met] if met else []) == numbers([a]) & numbers([b])
    assert a.meets(b) == bool(numbers([a]) & numbers([b]))
    assert a.contains(b) == (numbers([b]) <= numbers([a]))
    pieces = cubes.sharp(a, b)
    assert numbers(pieces) == numbers([a]) - numbers([b])
    assert sum(len(numbers([piece])) for piece in pieces) == len(numbers(pieces)), "the pieces do not meet"
    assert all(piece.value & ~piece.mask == 0 for piece in pieces)


@given(UNIONS, UNIONS)
def test_unions(a: list[Cube], b: list[Cube]) -> None:
    assert numbers(cubes.difference(a, b)) == numbers(a) - numbers(b)
    assert cubes.includes(a, b) == (numbers(b) <= numbers(a))
    assert numbers(cubes.crossed([a, b])) == numbers(a) & numbers(b)


@given(CUBES, UNIONS)
def test_covered(cube: Cube, union: list[Cube]) -> None:
    assert cubes.covered(cube, union) == (numbers([cube]) <= numbers(union))


@given(UNIONS, st.integers(0, (1 << BITS) - 1))
def test_views(union: list[Cube], bits: int) -> None:
    seen = {number & bits for number in numbers(union)}
    assert numbers(cubes.projected(union, bits)) == {number for number in ALL if number & bits in seen}
    assert numbers(cubes.narrowed(union, bits)) == {number for number in numbers(union) if not number & bits}


NAMED: dict[str, Callable[[int, int], bool]] = {
    "EQ": operator.eq,
    "NE": operator.ne,
    "LT": operator.lt,
    "LE": operator.le,
    "GT": operator.gt,
    "GE": operator.ge,
}
U64 = st.integers(0, REGISTER) | st.sampled_from([0, 1, 38, 1 << 31, (1 << 32) - 1, 1 << 32, REGISTER - 1, REGISTER])


@given(st.sampled_from(sorted(NAMED)), st.integers(0, 5), U64, U64, st.integers(0, 63))
def test_comparisons(name: str, position: int, limit: int, number: int, bit: int) -> None:
    union = cubes.comparison(position, name, limit)
    assert len(union) <= 64
    for tried in {number, limit, limit ^ 1 << bit, min(limit + 1, REGISTER), max(limit - 1, 0)}:
        arguments = [REGISTER] * 6
        arguments[position] = tried
        assert any(cube.has(cubes.joined(arguments)) for cube in union) == NAMED[name](tried, limit)


@given(st.integers(0, 5), U64, U64, U64)
def test_masked(position: int, mask: int, wanted: int, number: int) -> None:
    arguments = [7] * 6
    arguments[position] = number
    (cube,) = cubes.comparison(position, "MASKED_EQ", mask, wanted)
    assert cube.has(cubes.joined(arguments)) == (number & mask == wanted & mask)


@given(st.integers(0, REGISTER))
def test_an_order_and_its_opposite_are_everything(limit: int) -> None:
    under, over = cubes.comparison(2, "LT", limit), cubes.comparison(2, "GE", limit)
    assert cubes.includes([*under, *over], [EVERYTHING])
    assert not cubes.crossed([under, over])
    assert not cubes.includes(under, [EVERYTHING])


def test_what_cannot_be_compared() -> None:
    for position, name, value in ((6, "EQ", 0), (-1, "EQ", 0), (0, "ALMOST", 0), (0, "EQ", 1 << 64), (0, "EQ", -1)):
        with pytest.raises(ValueError):
            cubes.comparison(position, name, value)


def test_dockers_socket_rule() -> None:
    """family < 38, == 39, > 40 on 64 bits does not include 38, unless the upper half is not 0."""
    rule = [*cubes.comparison(0, "LT", 38), *cubes.comparison(0, "EQ", 39), *cubes.comparison(0, "GT", 40)]
    assert cubes.includes(rule, cubes.masked(0, 0xFFFFFFFF, 2)), (
        "either the upper half is 0 and it is 2, or it is far above 40"
    )
    assert not cubes.includes(rule, cubes.masked(0, 0xFFFFFFFF, 38))
    assert cubes.includes(rule, cubes.difference(cubes.masked(0, 0xFFFFFFFF, 38), cubes.masked(0, REGISTER, 38)))


def test_the_budget_ends_what_has_no_end() -> None:
    source = random.Random(1)
    width = 384
    union = []
    for _ in range(1500):  # random clauses of three bits: the hard sort
        bits = source.sample(range(width // 4), 3)
        mask = sum(1 << bit for bit in bits)
        union.append(Cube(mask, mask & source.getrandbits(width)))
    with pytest.raises(TooHard):
        cubes.covered(EVERYTHING, union, Budget(5000))
    with pytest.raises(TooHard):
        cubes.difference([EVERYTHING], union, Budget(5000))
    with pytest.raises(TooHard):
        cubes.crossed([union] * 6, Budget(5000))
