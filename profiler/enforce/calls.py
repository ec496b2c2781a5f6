"""Which refused calls count as different."""

from __future__ import annotations

from collections.abc import Sequence

from profiler.kernel.arguments import spec_for


def filtered(name: str | None, abi: str, registers: Sequence[int]) -> tuple[int, ...]:
    """Return the registers of a call that a filter looks at; calls that are equal in them are one denial."""
    spec = None if name is None else spec_for(name, abi)
    if spec is None or spec.pointer:
        return ()
    return tuple(registers[at] & mask for at, mask in zip(spec.positions, spec.masks, strict=True))
