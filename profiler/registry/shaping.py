"""Rules in the form that survives the merge with a runtime's baseline.

A runtime intersects an artifact with its own default profile (KEP-6061). Several rules of one call with more than one
condition each cannot be merged, nor can different conditions on one argument: then the merge refuses the call
altogether. So such rules get fewer conditions here. The baseline still applies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from profiler.kernel.data import load
from profiler.registry.clauses import Answer, Clause, Comparison, Filter, filter_of, intersection
from profiler.registry.rules import entries, loaded

ALLOW = Answer("ALLOW")


def shaped(profile: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return a profile of profgen with rules that survive the merge, and the calls that it allows with more arguments
    than before."""
    calls = loaded(profile).calls
    widened: dict[str, tuple[Clause, ...]] = {}
    for name, clauses in calls.items():
        if clauses[0].tests and all(clause.answer == ALLOW for clause in clauses):
            made = next(form for form in _forms(clauses) if _survives(name, form))
            if made != clauses:
                widened[name] = made
    if not widened:
        return dict(profile), ()
    rows = [row for row in profile["syscalls"] if "args" not in row]
    rows += [
        {**row, "names": names}
        for row in profile["syscalls"]
        if "args" in row and (names := [name for name in row["names"] if name not in widened])
    ]
    rows += _rows(widened)
    return {**profile, "syscalls": rows}, tuple(sorted(widened))


def _rows(widened: Mapping[str, tuple[Clause, ...]]) -> Iterator[dict[str, Any]]:
    """Yield entries of OCI, one for each set of conditions."""
    by_tests: dict[tuple[Comparison, ...], list[str]] = {}
    for name in sorted(widened):
        for clause in widened[name]:
            by_tests.setdefault(clause.tests, []).append(name)
    for tests, names in sorted(by_tests.items()):
        row: dict[str, Any] = {"names": names, "action": "SCMP_ACT_ALLOW"}
        if tests:
            row["args"] = [
                {"index": one.position, "value": one.value, "valueTwo": one.two, "op": f"SCMP_CMP_{one.operator}"}
                for one in tests
            ]
        yield row


def _forms(clauses: tuple[Clause, ...]) -> Iterator[tuple[Clause, ...]]:
    """Yield ever wider forms of the rules of one call: as they are, with the conditions on one argument alone, and
    without any."""
    yield clauses
    shared = set.intersection(*({test.position for test in clause.tests} for clause in clauses))
    by_index = [_on_one(clauses, index) for index in sorted(shared)]
    # The most rules keep the most apart; the first argument usually says what a call is about.
    yield from sorted(by_index, key=len, reverse=True)
    yield (Clause(ALLOW),)


def _on_one(clauses: Sequence[Clause], index: int) -> tuple[Clause, ...]:
    tests = {test for clause in clauses for test in clause.tests if test.position == index}
    return tuple(Clause(ALLOW, (test,)) for test in sorted(tests))


def _survives(name: str, form: tuple[Clause, ...]) -> bool:
    """Return whether the merge leaves all of the rules, given what default profiles say of the call: as much as they
    allow of it."""
    refuse = Answer("ERRNO", 1)
    ours = Filter(refuse, {name: form})
    theirs = _filtered().get(name, (Clause(ALLOW),))
    left = intersection(Filter(refuse, {name: theirs}), ours).calls.get(name, ())
    return not form[0].tests or set(left) == set(form)


@cache
def _filtered() -> Mapping[str, tuple[Clause, ...]]:
    """Return the calls that Docker's default profile, which containerd's and CRI-O's follow, allows with some arguments
    alone in a container without further capabilities, and its rules for them."""
    profile = load("docker_default.yaml")["profile"]
    rows = [row for row in profile["syscalls"] if not (row.get("includes") or {}).keys() & {"caps", "arches"}]
    found = filter_of(Answer("ERRNO", 1), entries({"syscalls": rows}))
    return {name: clauses for name, clauses in found.calls.items() if clauses[0].tests}
