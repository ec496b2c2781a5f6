"""What libseccomp makes of a profile's rules: the arguments that the kernel lets through, by ABI.

A filter is not always what the profile seems to say (libseccomp 2.5.0 to 2.6.1, src/db.c and src/syscalls.c; checked
against the compiled programs by tests/unit/review/test_compiled.py):

- Rules of one syscall are alternatives. A rule without conditions overrides those with conditions, and the first of
  several such rules applies.
- Where rules with different actions hold for the same arguments, the order of the compiled comparisons decides. The
  more permissive reading is taken.
- A 32-bit ABI compares the lower halves only. A condition on bits of the upper half alone is left out.
- Rules that compare by order (NE, LT, LE, GT, GE) are compiled exactly when there is one rule, or when all rules test
  the same single argument against values of 32 bits. Other sets are joined wrongly: they let other calls through than
  the profile says, fewer or more. They are read as if they let everything through.
- For i386, each rule for a socket or IPC call adds one for socketcall or ipc (profiler.kernel.multiplexers.implied).
- In a small profile, a rule for a call that i386 has only through a multiplexer can make libseccomp leave out the load
  of the syscall's number (src/gen_bpf.c:_gen_bpf_syscalls skips the call that should load it). Then no rule for i386
  applies. Larger profiles have a binary tree, which loads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from profiler.kernel.abi import ABIS
from profiler.kernel.arguments import INT
from profiler.kernel.multiplexers import IMPLIED_ABI, implied
from profiler.kernel.syscalls import known_names, number_of
from profiler.review.cubes import (
    ARGUMENTS,
    EVERYTHING,
    WIDTH,
    Budget,
    Cubes,
    TooHard,
    crossed,
    difference,
    narrowed,
    projected,
)
from profiler.review.rights import ANYTHING, ANYTHING_TEXT, REFUSED, Allowance, Alternative, Test, in_words

COMPLEMENT_STEPS = 300_000
"""The steps to compute what is left when something is refused: many cubes, but only once for each name."""

TREE_RULES = 32
"""runc and crun ask for a binary tree when a profile has more rules than this, counted by name."""

_EQUALITIES = frozenset({"EQ", "MASKED_EQ"})
_UPPER = sum((INT << WIDTH // 2) << WIDTH * position for position in range(ARGUMENTS))
_UNCLEAR = Allowance((Alternative((EVERYTHING,), ANYTHING_TEXT),), exact=False)


@dataclass(frozen=True)
class Stated:
    """One rule for one syscall: whether it allows the call, and conditions that must all hold, on different
    arguments."""

    allows: bool
    tests: tuple[Test, ...]


CubesOf = Callable[[tuple[Test, ...]], Cubes | None]
"""Conditions to their cubes; None if there are too many."""


def allowances(
    rules: Mapping[str, Sequence[Stated]], abis: Sequence[str], default: str, small: bool, cubes_of: CubesOf
) -> dict[tuple[str, str], Allowance]:
    """Return what is allowed of each syscall, by (ABI, name).

    ``rules`` are those of each name, in the order of the file. ``abis`` starts with the native one. ``default`` is as
    in Rights. ``small``: the profile has at most TREE_RULES rules.
    """
    found = {}
    for abi in abis:
        void = default != "refuse" and small and abi == IMPLIED_ABI and bool(voiding(rules))
        for name, stated in on_abi(rules, abi, abi == abis[0]).items():
            found[abi, name] = _UNCLEAR if void else _allowance(name, abi, stated, default, cubes_of)
    return found


def voiding(names: Iterable[str]) -> list[str]:
    """Return the names for which a small profile can lose all its rules for i386."""
    return [name for name in names if implied(name) is not None and number_of(IMPLIED_ABI, name) is None]


def on_abi(rules: Mapping[str, Sequence[Stated]], abi: str, native: bool) -> dict[str, tuple[Stated, ...]]:
    """Return the rules that one ABI has, as it compares them, with those that libseccomp adds."""
    found = {
        name: list(stated)
        for name, stated in rules.items()
        if number_of(abi, name) is not None or (native and name not in known_names())
    }
    for name, stated in rules.items() if abi == IMPLIED_ABI else ():
        if (made := implied(name)) is not None:
            first = Test(0, "EQ", made[1])
            others = (tuple(test for test in one.tests if test.position) for one in stated)
            added = (Stated(one.allows, (first, *tests)) for one, tests in zip(stated, others, strict=True))
            found.setdefault(made[0], []).extend(added)
    return {name: tuple(_compared(one, abi) for one in stated) for name, stated in found.items()}


def _compared(rule: Stated, abi: str) -> Stated:
    """Return the rule without conditions that always hold on this ABI."""
    kept = tuple(_lower(test) if ABIS[abi].bits == 32 else test for test in rule.tests)
    return replace(rule, tests=tuple(test for test in kept if test.operator != "MASKED_EQ" or test.value))


def _lower(test: Test) -> Test:
    return test if too_wide(test) or test.operator != "MASKED_EQ" else replace(test, value=test.value & INT)


def too_wide(test: Test) -> bool:
    """Return whether a condition depends on bits that a 32-bit ABI does not compare."""
    return (test.value & test.value_two if test.operator == "MASKED_EQ" else test.value) > INT


def joined_wrongly(stated: Iterable[Stated], abi: str) -> bool:
    """Return whether libseccomp makes something else of these rules for one syscall."""
    rules = [rule.tests for rule in stated if rule.tests]
    if ABIS[abi].bits == 32 and any(too_wide(test) for tests in rules for test in tests):
        return True
    if len(set(rules)) < 2 or all(test.operator in _EQUALITIES for tests in rules for test in tests):
        return False
    alone = all(len(tests) == 1 for tests in rules) and len({tests[0].position for tests in rules}) == 1
    return not alone or any(too_wide(test) for tests in rules for test in tests)


def _allowance(name: str, abi: str, stated: Sequence[Stated], default: str, cubes_of: CubesOf) -> Allowance:
    for rule in stated:
        if not rule.tests:
            return ANYTHING if rule.allows else REFUSED
    allowing = [rule.tests for rule in stated if rule.allows]
    refusing = [rule.tests for rule in stated if not rule.allows]
    if not allowing and default == "refuse":
        return REFUSED
    if not refusing and default != "refuse":
        return ANYTHING
    if joined_wrongly(stated, abi):
        return _UNCLEAR

    def cubes(tests: tuple[Test, ...]) -> Cubes | None:
        whole = cubes_of(tests)
        # The registers of x32 have 64 bits, of which the filter sees 32.
        return whole if abi != "x32" or whole is None else projected(narrowed(whole, _UPPER), ~_UPPER)

    allowed = [(tests, cubes(tests)) for tests in allowing]
    refused = [(tests, cubes(tests)) for tests in refusing]
    exact = all(found is not None for _, found in (*allowed, *refused))
    exact = exact and not _overlap(allowed, refused)
    alternatives = [
        Alternative(found or (EVERYTHING,), in_words(name, abi, tests)) for tests, found in allowed if found != ()
    ]
    if default != "refuse":
        text = "anything but " + "; ".join(dict.fromkeys(in_words(name, abi, tests) for tests, _ in refused))
        try:
            # What is refused but cannot be expressed is left out: then more counts as allowed than is.
            budget = Budget(COMPLEMENT_STEPS)
            rest = difference([EVERYTHING], [cube for _, found in refused for cube in found or ()], budget)
        except TooHard:
            rest, exact = (EVERYTHING,), False
        alternatives.append(Alternative(rest, text))
    return Allowance(tuple(dict.fromkeys(alternatives)), exact)


Found = Sequence[tuple[tuple[Test, ...], Cubes | None]]


def _overlap(allowed: Found, refused: Found) -> bool:
    """Return whether rules that allow and rules that refuse hold for the same arguments, as far as can be known."""
    some, others = ([cube for _, cubes in found for cube in cubes or ()] for found in (allowed, refused))
    try:
        return bool(crossed([some, others])) if others else False
    except TooHard:
        return True
