"""Sets of syscall arguments as unions of bit cubes, so that "does this filter allow more than that one" has an exact
answer.

The six arguments of a call are one number of 384 bits, argument 0 lowest. A cube fixes some of its bits: it holds every
number ``x`` with ``x & mask == value``. Each comparison that seccomp knows (libseccomp's SCMP_CMP_*,
seccomp_rule_add(3)) is a union of at most 64 cubes, so a rule is a union of cubes and so is what a profile allows for
one syscall.

Containment and difference of such unions are exact, and expensive only in the worst case: every operation counts its
steps, and past the budget raises TooHard.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

ARGUMENTS = 6
WIDTH = 64
"""Bits of one argument in struct seccomp_data (linux/seccomp.h), on 32-bit ABIs too."""

REGISTER = (1 << WIDTH) - 1
BUDGET = 20_000
"""Steps before an operation gives up: far more than any profile in use takes, and well below a second."""


class TooHard(Exception):
    """The budget ran out: nothing is known of the result."""


class Cube(NamedTuple):
    """All numbers ``x`` with ``x & mask == value``; ``value`` has no bit outside ``mask``."""

    mask: int
    value: int

    def has(self, number: int) -> bool:
        """Whether ``number`` is in it."""
        return number & self.mask == self.value

    def meets(self, other: Cube) -> bool:
        """Whether the two have a number in common."""
        return not (self.value ^ other.value) & self.mask & other.mask

    def contains(self, other: Cube) -> bool:
        """Whether every number of ``other`` is in this one."""
        return not self.mask & ~other.mask and other.value & self.mask == self.value


EVERYTHING = Cube(0, 0)
Cubes = tuple[Cube, ...]


@dataclass
class Budget:
    """Steps that are left. Several operations may share one."""

    left: int = field(default=BUDGET)

    def take(self, steps: int = 1) -> None:
        """Raises TooHard when there are none."""
        self.left -= steps
        if self.left < 0:
            raise TooHard


def joined(arguments: Sequence[int]) -> int:
    """The registers of a call as one number. Missing ones count as 0."""
    return sum((argument & REGISTER) << (WIDTH * position) for position, argument in enumerate(arguments))


def both(a: Cube, b: Cube) -> Cube | None:
    """The numbers in both; None when there are none."""
    return Cube(a.mask | b.mask, a.value | b.value) if a.meets(b) else None


def crossed(factors: Iterable[Sequence[Cube]], budget: Budget | None = None) -> Cubes:
    """Numbers that are in every one of the unions. Raises TooHard."""
    budget = budget or Budget()
    found: list[Cube] = [EVERYTHING]
    for union in factors:
        budget.take(len(found) * len(union))
        found = [cube for a in found for b in union if (cube := both(a, b)) is not None]
    return tuple(found)


def sharp(a: Cube, b: Cube) -> list[Cube]:
    """``a`` without ``b``, in cubes that do not meet."""
    if not a.meets(b):
        return [a]
    pieces = []
    mask, value = a
    free = b.mask & ~a.mask
    while free:
        # The highest bit first: it cuts orders (x < 38) into few pieces.
        bit = 1 << (free.bit_length() - 1)
        free ^= bit
        mask |= bit
        pieces.append(Cube(mask, value | (~b.value & bit)))
        value |= b.value & bit
    return pieces


def difference(a: Iterable[Cube], b: Iterable[Cube], budget: Budget | None = None) -> Cubes:
    """What is in ``a`` and not in ``b``. Raises TooHard."""
    budget = budget or Budget()
    left = list(a)
    for cube in b:
        budget.take(len(left))
        left = [piece for one in left for piece in sharp(one, cube)]
    return tuple(left)


def covered(cube: Cube, union: Iterable[Cube], budget: Budget | None = None) -> bool:
    """Whether every number of ``cube`` is in one of the union. Raises TooHard."""
    budget = budget or Budget()
    work: list[tuple[Cube, Sequence[Cube]]] = [(cube, tuple(union))]
    while work:
        one, others = work.pop()
        budget.take(1 + len(others))
        meeting = [other for other in others if one.meets(other)]
        if any(other.contains(one) for other in meeting):
            continue
        if not meeting:
            return False
        # The one that leaves the fewest pieces.
        best = min(range(len(meeting)), key=lambda index: (meeting[index].mask & ~one.mask).bit_count())
        rest = meeting[:best] + meeting[best + 1 :]
        work.extend((piece, rest) for piece in sharp(one, meeting[best]))
    return True


def includes(outer: Iterable[Cube], inner: Iterable[Cube], budget: Budget | None = None) -> bool:
    """Whether every number of ``inner`` is in ``outer``. Raises TooHard."""
    budget = budget or Budget()
    others = tuple(outer)
    return all(covered(cube, others, budget) for cube in inner)


def projected(cubes: Iterable[Cube], kept: int) -> Cubes:
    """The set as seen by one who looks at the bits of ``kept`` only: a number is in it when some number that agrees
    there was."""
    return tuple(dict.fromkeys(Cube(cube.mask & kept, cube.value & kept) for cube in cubes))


def narrowed(cubes: Iterable[Cube], zero: int) -> Cubes:
    """The numbers of the set in which every bit of ``zero`` is 0."""
    return crossed([tuple(cubes), (Cube(zero, 0),)])


def _at(position: int, mask: int, value: int) -> Cube:
    if not 0 <= position < ARGUMENTS:
        raise ValueError(f"argument {position}: a call has {ARGUMENTS}")
    return Cube(mask << (WIDTH * position), value << (WIDTH * position))


def masked(position: int, mask: int, value: int) -> Cubes:
    """``argument & mask == value & mask`` (SCMP_CMP_MASKED_EQ). Raises ValueError for a position that no call has."""
    return (_at(position, mask & REGISTER, value & mask & REGISTER),)


def below(position: int, limit: int) -> Cubes:
    """``argument < limit``, for a limit from 0 to 2**64: one cube for each bit that is set in it."""
    if limit > REGISTER:
        return (EVERYTHING,)
    return tuple(
        _at(position, REGISTER >> bit << bit, (limit >> bit ^ 1) << bit)
        for bit in reversed(range(WIDTH))
        if limit >> bit & 1
    )


def above(position: int, limit: int) -> Cubes:
    """``argument > limit``, for a limit from -1 to 2**64 - 1: one cube for each bit that is not set in it."""
    if limit < 0:
        return (EVERYTHING,)
    return tuple(
        _at(position, REGISTER >> bit << bit, (limit >> bit ^ 1) << bit)
        for bit in reversed(range(WIDTH))
        if not limit >> bit & 1
    )


OPERATORS = ("EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ")
"""libseccomp's comparisons without SCMP_CMP_; all unsigned and on 64 bits."""


def comparison(position: int, operator: str, value: int, value_two: int = 0) -> Cubes:
    """One condition of a rule. ``value_two`` is the wanted value of MASKED_EQ, whose ``value`` is the mask.

    Raises ValueError for another operator or position, or for a value that is no unsigned 64-bit number.
    """
    if not 0 <= value <= REGISTER or not 0 <= value_two <= REGISTER:
        raise ValueError("a value must fit in 64 bits")
    match operator:
        case "EQ":
            return masked(position, REGISTER, value)
        case "NE":
            return below(position, value) + above(position, value)
        case "LT":
            return below(position, value)
        case "LE":
            return below(position, value + 1)
        case "GT":
            return above(position, value)
        case "GE":
            return above(position, value - 1)
        case "MASKED_EQ":
            return masked(position, value, value_two)
    raise ValueError(f"unknown comparison {operator!r}: one of {', '.join(OPERATORS)}")
