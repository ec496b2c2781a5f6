"""A seccomp profile as runtimes load it: the rules of each syscall, one for each name of an entry.

The terms and the shapes are those of the library that runtimes merge profiles with (sigs.k8s.io/security-profiles-
merger, seccomp/doc.go). It relies on rules only where libseccomp compiles them to what they say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from errno import EPERM
from typing import NamedTuple

STRICTEST = ("KILL_PROCESS", "KILL_THREAD", "TRAP", "ERRNO", "NOTIFY", "TRACE", "LOG", "ALLOW")
"""Actions, the most restrictive first (KEP-6061, Profile Merging)."""
WITH_ERRNO = frozenset({"ERRNO", "TRACE"})
"""Actions that give a number to the caller."""
_LOWER = 0xFFFFFFFF
_RANGES = frozenset({"LT", "LE", "GT", "GE"})
_COMPLEMENTS = {"EQ": "NE", "NE": "EQ", "LT": "GE", "GE": "LT", "LE": "GT", "GT": "LE"}


class Comparison(NamedTuple):
    """A condition on one argument. ``operator``: as in OCI, without SCMP_CMP_; of MASKED_EQ ``value`` is the mask."""

    position: int
    value: int
    two: int
    operator: str


@dataclass(frozen=True)
class Answer:
    """What a call gets: an action without SCMP_ACT_ (KILL_THREAD for KILL), and the errno where it counts."""

    action: str
    errno: int | None = None

    @property
    def allows(self) -> bool:
        """Whether the call happens."""
        return self.action in ("ALLOW", "LOG")


@dataclass(frozen=True)
class Clause:
    """One rule of one syscall: the answer when all tests hold, always when there are none."""

    answer: Answer
    tests: tuple[Comparison, ...] = ()


@dataclass(frozen=True)
class Entry:
    """One member of ``syscalls``."""

    names: tuple[str, ...]
    answer: Answer
    tests: tuple[Comparison, ...] = ()


@dataclass(frozen=True)
class Filter:
    """A profile's rules. ``calls``: the clauses of each name; a call without any gets the default."""

    default: Answer
    calls: Mapping[str, tuple[Clause, ...]]


def answer(action: str, errno: int | None) -> Answer:
    """Return the answer for an action as a profile writes it, with or without SCMP_ACT_."""
    word = action.removeprefix("SCMP_ACT_")
    word = "KILL_THREAD" if word == "KILL" else word
    return Answer(word, (EPERM if errno is None else errno) if word in WITH_ERRNO else None)


def as_evaluated(test: Comparison) -> Comparison:
    """Return a condition without what libseccomp does not look at."""
    return test._replace(two=test.two & test.value if test.operator == "MASKED_EQ" else 0)


def expanded(entry: Entry) -> tuple[Clause, ...]:
    """Return the clauses of an entry: one for each test when an argument comes twice, as runc reads it. Tests that
    always hold are left out."""
    tests = sorted(as_evaluated(test) for test in entry.tests)
    groups = [[test] for test in tests] if len({test.position for test in tests}) < len(tests) else [tests]
    return tuple(
        Clause(entry.answer, tuple(one for one in group if one.operator != "MASKED_EQ" or one.value))
        for group in groups
    )


def filter_of(default: Answer, entries: Iterable[Entry]) -> Filter:
    """Return what a runtime loads: entries with the default's answer are left out, and an unconditional clause hides
    the others of its call."""
    found: dict[str, dict[Clause, None]] = {}
    for entry in entries:
        if entry.answer != default:
            clauses = expanded(entry)
            for name in entry.names:
                found.setdefault(name, {}).update(dict.fromkeys(clauses))
    calls = {}
    for name, every in found.items():
        always = next((clause for clause in every if not clause.tests), None)
        calls[name] = (always,) if always else tuple(every)
    return Filter(default, calls)


def dependable(clauses: Sequence[Clause]) -> bool:
    """Return whether libseccomp compiles these conditional clauses of one call to what they say (the library's "safe
    shapes")."""
    if len(clauses) < 2:
        return True
    if any(len(clause.tests) != 1 for clause in clauses):
        return False
    tests = [clause.tests[0] for clause in clauses]
    lower = {test.value & _LOWER for test in tests}
    equalities = all(test.operator == "EQ" for test in tests) and len({test.position for test in tests}) == 1
    if equalities and len(lower) == len(tests):
        return True
    if len(tests) == 2 and tests[1] == complement(tests[0]):
        return True
    indexes = [test.position for test in tests]
    wide = {test.position for test in tests if test.operator in _RANGES and test.value > _LOWER}
    return len({clause.answer for clause in clauses}) == 1 and not any(indexes.count(index) > 1 for index in wide)


def complement(test: Comparison) -> Comparison | None:
    """Return the condition that holds where this one does not; None when one cannot say it."""
    other = _COMPLEMENTS.get(test.operator)
    return test._replace(operator=other) if other else None


def holds(test: Comparison, value: int) -> bool:
    """Return whether a condition holds for the value of its argument."""
    if test.operator == "MASKED_EQ":
        return value & test.value == test.two
    return {
        "EQ": value == test.value,
        "NE": value != test.value,
        "LT": value < test.value,
        "LE": value <= test.value,
        "GT": value > test.value,
        "GE": value >= test.value,
    }[test.operator]


# The intersection.


def _looser(left: Answer, right: Answer) -> Answer:
    return right if STRICTEST.index(right.action) > STRICTEST.index(left.action) else left


def stricter(left: Answer, right: Answer) -> Answer:
    """Return the more restrictive answer, the left one of two with the same action."""
    return right if STRICTEST.index(right.action) < STRICTEST.index(left.action) else left


def intersection(baseline: Filter, artifact: Filter) -> Filter:
    """Return what a runtime makes of an artifact and its baseline: a call is allowed only where both allow it, and
    where that cannot be written as rules that libseccomp compiles exactly, it gets the more restrictive answer.

    Left out: what the library does about ABIs of 32 bits, and its limits of work.
    """
    default = stricter(baseline.default, artifact.default)
    calls = {}
    for name in sorted({*baseline.calls, *artifact.calls}):
        clauses = _merged(_settled(baseline, name), _settled(artifact, name), default)
        if clauses:
            calls[name] = clauses
    return Filter(default, calls)


class _Side(NamedTuple):
    fallback: Answer
    """Where no conditional clause holds."""
    conditional: tuple[Clause, ...]


def _settled(profile: Filter, name: str) -> _Side:
    clauses = profile.calls.get(name, ())
    if len(clauses) == 1 and not clauses[0].tests:
        return _Side(clauses[0].answer, ())
    if dependable(clauses):
        return _Side(profile.default, clauses)
    return _Side(_strictest(profile.default, clauses), ())


def _strictest(fallback: Answer, clauses: Iterable[Clause]) -> Answer:
    for clause in clauses:
        fallback = stricter(fallback, clause.answer)
    return fallback


def _merged(left: _Side, right: _Side, default: Answer) -> tuple[Clause, ...]:
    """Return the clauses of one call."""
    fallback = stricter(left.fallback, right.fallback)
    found = [*_lowered(left, right), *_lowered(right, left)]
    for one in left.conditional:
        for other in right.conditional:
            tests = _joined(one.tests, other.tests)
            if tests is not None:
                found.append(Clause(stricter(one.answer, other.answer), tests))
    answers: dict[tuple[Comparison, ...], Answer] = {}
    for clause in found:
        answers[clause.tests] = _looser(answers.get(clause.tests, clause.answer), clause.answer)
    every = [Clause(answer, tests) for tests, answer in answers.items() if answer != fallback]
    kept = [clause for clause in every if not any(_hidden_by(clause, other) for other in every)]
    if fallback.action == default.action and any(clause.answer.action != default.action for clause in kept):
        # Only the errno differs: the default's stands for it.
        kept = [clause for clause in kept if clause.answer.action != default.action]
    elif fallback != default:
        return _mixed(fallback, kept, default)
    if not kept or dependable(kept):
        return tuple(sorted(kept, key=lambda clause: clause.tests))
    return _unless(default, _strictest(default, kept))


def _mixed(fallback: Answer, kept: list[Clause], default: Answer) -> tuple[Clause, ...]:
    """Return clauses next to an answer for all other arguments, which hides them in a runtime: a single condition
    becomes two that complete each other; more of them become one answer."""
    kept = [clause for clause in kept if clause.answer.action != fallback.action]
    if len(kept) == 1 and len(kept[0].tests) == 1 and (other := complement(kept[0].tests[0])) is not None:
        return (kept[0], Clause(fallback, (other,)))
    return _unless(default, _strictest(fallback, kept))


def _unless(default: Answer, found: Answer) -> tuple[Clause, ...]:
    return () if found == default else (Clause(found),)


def _hidden_by(clause: Clause, other: Clause) -> bool:
    """Return whether another clause holds wherever this one does, with an answer that is as loose."""
    return set(other.tests) < set(clause.tests) and stricter(other.answer, clause.answer) == clause.answer


def _lowered(side: _Side, other: _Side) -> list[Clause]:
    """Return one side's clauses with what the other side may answer where they hold."""
    found = []
    for clause in side.conditional:
        made, covered = clause.answer, False
        for against in other.conditional:
            if not _disjoint(clause.tests, against.tests):
                made = stricter(made, against.answer)
                covered = covered or set(against.tests) <= set(clause.tests)
        found.append(replace(clause, answer=made if covered else stricter(made, other.fallback)))
    return found


def _joined(left: Sequence[Comparison], right: Sequence[Comparison]) -> tuple[Comparison, ...] | None:
    """Return the tests that hold where both do; None when they never do, or when one argument would get two."""
    ours, theirs = {test.position: test for test in left}, {test.position: test for test in right}
    if _disjoint(left, right) or any(theirs.get(index, test) != test for index, test in ours.items()):
        return None
    return tuple(sorted({**ours, **theirs}.values()))


def _disjoint(left: Sequence[Comparison], right: Sequence[Comparison]) -> bool:
    return any(a.position == b.position and _never_both(a, b) for a in left for b in right)


def _never_both(a: Comparison, b: Comparison) -> bool:
    if a.operator == "EQ":
        return not holds(b, a.value)
    if b.operator == "EQ":
        return not holds(a, b.value)
    first, second = _interval(a), _interval(b)
    return bool(first and second and (first[1] < second[0] or second[1] < first[0]))


def _interval(test: Comparison) -> tuple[int, int] | None:
    low, high = {
        "LT": (0, test.value - 1),
        "LE": (0, test.value),
        "GT": (test.value + 1, (1 << 64) - 1),
        "GE": (test.value, (1 << 64) - 1),
    }.get(test.operator, (1, 0))
    return (low, high) if low <= high else None
