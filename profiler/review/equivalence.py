"""Decide whether one set of rights covers another, apart from differences without effect.

The comparison is exact, register by register. By default two differences do not count:

- A syscall or value that substitutes for another (profiler/kernel/equivalents.yaml), as far as the filters on both
  allow it.
- The upper half of an argument that the kernel takes as an int (profiler/kernel/arguments.yaml). Programs leave it 0,
  so a filter on 64 bits allows them the same as one on 32. Both views must agree: the calls with an upper half of 0,
  and what the kernel sees of any call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache

from profiler.kernel.abi import ABIS
from profiler.kernel.arguments import INT, NAMESPACE_FLAGS, spec_for
from profiler.kernel.equivalents import same_values, stand_ins
from profiler.review.cubes import (
    ARGUMENTS,
    EVERYTHING,
    REGISTER,
    WIDTH,
    Cube,
    Cubes,
    TooHard,
    includes,
    masked,
    narrowed,
    projected,
)
from profiler.review.rights import Allowance, Alternative

ALL = (1 << WIDTH * ARGUMENTS) - 1
_NO_NAMESPACES = masked(0, NAMESPACE_FLAGS, 0)
_FORKS = frozenset({"fork", "vfork"})


@cache
def seen_bits(abi: str, name: str) -> int:
    """Return the bits of the six arguments that the kernel looks at: all but the upper halves of ints."""
    spec = spec_for(name, abi)
    if abi in ABIS and ABIS[abi].bits == 32 and abi != "x32":
        return sum(INT << WIDTH * position for position in range(ARGUMENTS))
    kept = ALL
    if spec is not None and not spec.pointer:
        for position, mask in zip(spec.positions, spec.masks, strict=True):
            if mask <= INT:
                kept &= ~(REGISTER << WIDTH * position) | INT << WIDTH * position
    return kept


def views(abi: str, name: str, exact: bool) -> Iterator[tuple[int, int]]:
    """Return the views of a syscall: bits that must be 0, and bits that are kept. All views must agree."""
    kept = ALL if exact else seen_bits(abi, name)
    if kept == ALL:
        yield 0, ALL
    else:
        yield ALL & ~kept, ALL
        yield 0, kept


def seen_through(cubes: Iterable[Cube], view: tuple[int, int]) -> Cubes:
    """Return the set as one view shows it."""
    zero, kept = view
    if zero:
        cubes = narrowed(cubes, zero)
    return tuple(cubes) if kept == ALL else projected(cubes, kept)


class Side:
    """One side of a comparison: what it allows, to find out whether it covers something. ``add`` extends it."""

    def __init__(self, syscalls: Mapping[tuple[str, str], Allowance], default: bool, exact: bool) -> None:
        self.exact = exact
        self.default = default
        self.allowed = dict(syscalls)
        self.names: dict[str, set[str]] = {}
        for (abi, name), allowance in syscalls.items():
            if not allowance.refused:
                self.names.setdefault(abi, set()).add(name)

    def add(self, abi: str, name: str, allowance: Allowance) -> None:
        """Allow this as well."""
        before = self.allowed.get((abi, name), Allowance())
        self.allowed[abi, name] = Allowance(
            (*before.alternatives, *allowance.alternatives), before.exact and allowance.exact
        )
        self.names.setdefault(abi, set()).add(name)

    def own(self, abi: str, name: str) -> Cubes:
        """Return what is allowed under exactly this name."""
        found = self.allowed.get((abi, name))
        if found is None:
            return (EVERYTHING,) if self.default else ()
        # What is not known to be allowed covers nothing.
        return found.cubes if found.exact else ()

    def covering(self, abi: str, name: str) -> Cubes:
        """Return what is allowed under this name, or by a call that substitutes for it."""
        own = self.own(abi, name)
        if self.exact or self.default or EVERYTHING in own:
            return own
        return tuple(dict.fromkeys((*own, *self._others(abi, name))))

    def origins(self, abi: str, name: str) -> frozenset[str]:
        """Return the allowed names that this one may substitute for; empty also if this one is always added."""
        names = self.names.get(abi, set())
        found = set(stand_ins(abi, names - {name}).get(name, (frozenset(), ""))[0])
        if name == "clone" and "clone3" in names:
            found.add("clone3")
        return frozenset(found)

    def _others(self, abi: str, name: str) -> Iterator[Cube]:
        names = self.names.get(abi, set()) - {name}
        if not names:
            return
        found = stand_ins(abi, names)
        if name == "clone" and EVERYTHING in self.own(abi, "clone3"):
            yield EVERYTHING
        if name not in found:
            return
        origins = found[name][0]
        if not origins:
            yield EVERYTHING
        for origin in sorted(origins):
            yield from self._carried(abi, origin, name)

    def _carried(self, abi: str, origin: str, name: str) -> Iterator[Cube]:
        """Return what is allowed of ``origin``, as arguments of ``name``."""
        cubes = self.own(abi, origin)
        ours, theirs = spec_for(name, abi), spec_for(origin, abi)
        if name == "clone" and origin in _FORKS:
            if EVERYTHING in cubes:
                yield from _NO_NAMESPACES
        elif name in _FORKS and origin == "clone":
            if narrowed(cubes, NAMESPACE_FLAGS):
                yield EVERYTHING
        elif EVERYTHING in cubes and ((ours is None) == (theirs is None)):
            yield EVERYTHING
        elif ours is not None and theirs is not None and ours.fields == theirs.fields:
            for cube in cubes:
                moved = _moved(cube, dict(zip(theirs.positions, ours.positions, strict=True)))
                if moved is not None:
                    yield moved

    def covers(self, abi: str, name: str, alternative: Alternative) -> bool:
        """Return whether all of the alternative is already allowed. False if that cannot be determined."""
        outer = self.covering(abi, name)
        if not outer:
            return not alternative.cubes
        try:
            for view in views(abi, name, self.exact):
                if not includes(seen_through(outer, view), seen_through(alternative.cubes, view)):
                    return not self.exact and self._covers_value(abi, name, alternative, outer)
        except TooHard:
            return False
        return True

    def _covers_value(self, abi: str, name: str, alternative: Alternative, outer: Cubes) -> bool:
        """Return whether the alternative is one value, and another that substitutes for it is allowed."""
        spec = spec_for(name, abi)
        if spec is None or len(spec.fields) != 1 or len(alternative.cubes) != 1:
            return False
        cube, position = alternative.cubes[0], spec.positions[0]
        mask, value = cube.mask >> WIDTH * position, cube.value >> WIDTH * position
        if cube.mask != mask << WIDTH * position or mask not in (spec.compared[0], INT, REGISTER):
            return False
        same, _ = same_values(name, spec.fields[0], value)
        return any(includes(outer, masked(position, mask, other)) for other in same - {value})


def _moved(cube: Cube, positions: Mapping[int, int]) -> Cube | None:
    """Return the cube with its arguments at other positions; None if it fixes an argument that has no place there."""
    mask = value = 0
    for position in range(ARGUMENTS):
        part = cube.mask >> WIDTH * position & REGISTER
        if part:
            if position not in positions:
                return None
            shift = WIDTH * positions[position]
            mask |= part << shift
            value |= (cube.value >> WIDTH * position & REGISTER) << shift
    return Cube(mask, value)
