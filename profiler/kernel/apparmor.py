"""Read apparmor.yaml: which accesses to files AppArmor checks, and which of them it cannot distinguish.

Only what AppArmor enforces or reports is judged by its letters. What a policy means does not depend on them.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from profiler.kernel.data import load

LETTERS = "mrwlkx"
"""The letters of file rules, in the order in which profiles write them."""


@cache
def _table(name: str) -> dict[str, str]:
    table: dict[str, str] = load("apparmor.yaml")[name]
    return table


def letters(accesses: Iterable[str]) -> str:
    """Return the letters that a profile needs for these accesses, in the order of LETTERS."""
    found = {letter for access in accesses for letter in _table("letters").get(access, "")}
    return "".join(letter for letter in LETTERS if letter in found)


def coarse(accesses: Iterable[str]) -> tuple[str, ...]:
    """Return one access for each letter: equal for accesses that AppArmor cannot distinguish, none without a hook."""
    return tuple(_table("masks")[letter] for letter in letters(accesses))


def reported(operation: str, mask: str) -> tuple[str, ...]:
    """Return the accesses that a record of this operation and mask means."""
    if (word := _table("operations").get(operation)) is not None:
        return (word,)
    if operation == "file_lock":
        return ("lock_exclusive",) if "w" in mask else ("lock",)
    return tuple(word for letter, word in _table("masks").items() if letter in mask)


def has_one_access(operation: str) -> bool:
    """Return whether records of this operation mean one access, whatever their mask."""
    return operation in _table("operations")
