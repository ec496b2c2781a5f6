"""Represent sets of syscall arguments as unions of bit cubes, which compare exactly.

The six arguments of a call are one number of 384 bits, argument 0 lowest. A cube fixes some of the bits: it holds every
number ``x`` with ``x & mask == value``. Each comparison that seccomp knows (libseccomp's SCMP_CMP_*,
seccomp_rule_add(3)) is a union of at most 64 cubes. So a rule is a union of cubes, and so is what a profile allows for
one syscall.

Containment and difference of such unions are exact, and expensive only in the worst case: every operation counts its
steps and raises TooHard when the budget is spent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

ARGUMENTS = 6
WIDTH = 64
"""The bits of one argument in struct seccomp_data (linux/seccomp.h), on 32-bit ABIs too."""

REGISTER = (1 << WIDTH) - 1
BUDGET = 20_000
"""The steps before an operation gives up: far more than any real profile takes, and well below a second."""


class TooHard(Exception):
    """The budget is spent, and the result is unknown."""


class Cube(NamedTuple):
    """All numbers ``x`` with ``x & mask == value``; ``value`` has no bit outside ``mask``."""

    mask: int
    value: int

    def has(self, number: int) -> bool:
        """Return whether the cube contains ``number``."""
        return number & self.mask == self.value

    def meets(self, other: Cube) -> bool:
        """Return whether the two cubes have a number in common."""
        return not (self.value ^ other.value) & self.mask & other.mask

    def contains(self, other: Cube) -> bool:
        """Return whether every number of ``other`` is in this cube."""
        return not self.mask & ~other.mask and other.value & self.mask == self.value


EVERYTHING = Cube(0, 0)
Cubes = tuple[Cube, ...]


@dataclass
class Budget:
    """The steps that are left. Several operations may share one budget."""

    left: int = field(default=BUDGET)

    def take(self, steps: int = 1) -> None:
        """Spend steps. Raises TooHard if there are not enough."""
        self.left -= steps
        if self.left < 0:
            raise TooHard


def joined(arguments: Sequence[int]) -> int:
    """Return the registers of a call as one number. Missing ones count as 0."""
    return sum((argument & REGISTER) << (WIDTH * position) for position, argument in enumerate(arguments))


def both(a: Cube, b: Cube) -> Cube | None:
    """Return the numbers in both cubes; None if there are none."""
    return Cube(a.mask | b.mask, a.value | b.value) if a.meets(b) else None


def crossed(factors: Iterable[Sequence[Cube]], budget: Budget | None = None) -> Cubes:
    """Return the numbers that are in every one of the unions. Raises TooHard."""
    budget = budget or Budget()
    found: list[Cube] = [EVERYTHING]
    for union in factors:
        budget.take(len(found) * len(union))
        found = [cube for a in found for b in union if (cube := both(a, b)) is not None]
    return tuple(found)


def sharp(a: Cube, b: Cube) -> list[Cube]:
    """Return ``a`` without ``b``, as cubes that do not overlap."""
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
    """Return what is in ``a`` and not in ``b``. Raises TooHard."""
    budget = budget or Budget()
    left = list(a)
    for cube in b:
        budget.take(len(left))
        left = [piece for one in left for piece in sharp(one, cube)]
    return tuple(left)


def covered(cube: Cube, union: Iterable[Cube], budget: Budget | None = None) -> bool:
    """Return whether the union contains every number of ``cube``. Raises TooHard."""
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
        # Choose the cube that leaves the fewest pieces.
        best = min(range(len(meeting)), key=lambda index: (meeting[index].mask & ~one.mask).bit_count())
        rest = meeting[:best] + meeting[best + 1 :]
        work.extend((piece, rest) for piece in sharp(one, meeting[best]))
    return True


def includes(outer: Iterable[Cube], inner: Iterable[Cube], budget: Budget | None = None) -> bool:
    """Return whether ``outer`` contains every number of ``inner``. Raises TooHard."""
    budget = budget or Budget()
    others = tuple(outer)
    return all(covered(cube, others, budget) for cube in inner)


def projected(cubes: Iterable[Cube], kept: int) -> Cubes:
    """Return the set restricted to the bits of ``kept``: each number that agrees there with one of the set."""
    return tuple(dict.fromkeys(Cube(cube.mask & kept, cube.value & kept) for cube in cubes))


def narrowed(cubes: Iterable[Cube], zero: int) -> Cubes:
    """Return the numbers of the set in which every bit of ``zero`` is 0."""
    return crossed([tuple(cubes), (Cube(zero, 0),)])


def _at(position: int, mask: int, value: int) -> Cube:
    if not 0 <= position < ARGUMENTS:
        raise ValueError(f"argument {position}: a syscall has {ARGUMENTS}")
    return Cube(mask << (WIDTH * position), value << (WIDTH * position))


def masked(position: int, mask: int, value: int) -> Cubes:
    """Return ``argument & mask == value & mask`` (SCMP_CMP_MASKED_EQ). Raises ValueError for an impossible position."""
    return (_at(position, mask & REGISTER, value & mask & REGISTER),)


def below(position: int, limit: int) -> Cubes:
    """Return ``argument < limit``, for a limit from 0 to 2**64: one cube for each bit that is set in it."""
    if limit > REGISTER:
        return (EVERYTHING,)
    return tuple(
        _at(position, REGISTER >> bit << bit, (limit >> bit ^ 1) << bit)
        for bit in reversed(range(WIDTH))
        if limit >> bit & 1
    )


def above(position: int, limit: int) -> Cubes:
    """Return ``argument > limit``, for a limit from -1 to 2**64 - 1: one cube for each bit that is not set in it."""
    if limit < 0:
        return (EVERYTHING,)
    return tuple(
        _at(position, REGISTER >> bit << bit, (limit >> bit ^ 1) << bit)
        for bit in reversed(range(WIDTH))
        if not limit >> bit & 1
    )


OPERATORS = ("EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ")
"""libseccomp's comparisons without SCMP_CMP_; all are unsigned and on 64 bits."""


def comparison(position: int, operator: str, value: int, value_two: int = 0) -> Cubes:
    """Return one condition of a rule. For MASKED_EQ ``value`` is the mask and ``value_two`` the wanted value.

    Raises ValueError for an unknown operator or position, and for a value that is not an unsigned 64-bit number.
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
