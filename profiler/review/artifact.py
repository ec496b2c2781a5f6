"""Whether a runtime takes a profile as an OCI artifact, and what its own default profile leaves of it.

A runtime refuses an artifact that breaks a rule of profiler/registry/rules.py. One that it takes is intersected with
its baseline: a call that the baseline refuses is lost, without an error when the container starts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from profiler.errors import InputError
from profiler.kernel.abi import native_abi
from profiler.quoting.text import printable
from profiler.registry.clauses import (
    Answer,
    Clause,
    Comparison,
    Entry,
    Filter,
    answer,
    dependable,
    filter_of,
    intersection,
)
from profiler.registry.rules import RULES as REFUSED
from profiler.registry.rules import broken, loaded
from profiler.registry.shaping import shaped
from profiler.review import rights
from profiler.review.findings import Finding, Report, Rule, at_least, by_level, located
from profiler.review.foreign import Source
from profiler.review.rights import Rights
from profiler.review.sources import machine
from profiler.wording import listed

FORMATS = ("kep-6061",)
"""What a profile can be checked for."""

RULES: Mapping[str, Rule] = {
    **{name: Rule("error", title) for name, title in REFUSED.items()},
    "artifact-merge": Rule(
        "error", "rules of a syscall that a runtime cannot merge with its baseline: it refuses the call"
    ),
    "artifact-alternatives": Rule(
        "warning", "two conditions on one argument in one entry: runtimes allow the call when either holds"
    ),
    "artifact-baseline": Rule("warning", "syscalls that the baseline refuses, so they are lost"),
    "artifact-narrowed": Rule("note", "syscalls that the baseline allows with some arguments alone"),
}
_SHOWN = 12


def report(source: Source, baseline: Source | None, fail_on: str = "warning") -> Report:
    """Return the findings on a profile, or on what ``profgen push`` makes of a policy.

    ``baseline``: the profile that it is merged with, None for no merge. Raises InputError for anything else.
    """
    data = _profile(source)
    found: list[Finding] = []
    for problem in broken(data):
        fix = "see docs/artifact.md" if problem.rule != "artifact-json" else "write a profile of the OCI specification"
        found.append(Finding(problem.rule, "error", problem.where, problem.what, fix, problem.names))
    if not found:
        profile = json.loads(data)
        ours = loaded(profile)
        found += [*_unmergeable(ours), *_alternatives(profile)]
        if baseline is not None:
            capabilities = frozenset(source.policy.needed()) if source.policy is not None else None
            found += _left(ours, baseline.rights(machine(source), capabilities), baseline.name)
    findings = located(by_level(found), source.content)
    named = {"for": "kep-6061", "baseline": None if baseline is None else baseline.name}
    return Report("lint", source.name, RULES, findings, failing=at_least(fail_on), data=named)


def _profile(source: Source) -> bytes:
    """Return the bytes of the profile that would be pushed."""
    if source.kind == "policy" and source.policy is not None:
        from profiler.targets.seccomp import profile

        made, _ = shaped(profile(source.policy, "errno"))
        return json.dumps(made).encode()
    if source.kind != "seccomp" or not source.content:
        raise InputError(f"{source.name} is neither a policy nor a seccomp profile, which an artifact could hold")
    return source.content


def _unmergeable(ours: Filter) -> Iterator[Finding]:
    names = tuple(sorted(name for name, clauses in ours.calls.items() if clauses[0].tests and not dependable(clauses)))
    if names:
        what = f"{_listed(names)}: several rules with more than one condition each: the merge refuses the call"
        fix = "test one argument in each rule, or generate the profile with -t oci-artifact"
        yield Finding("artifact-merge", "error", "syscalls", what, fix, names)


def _alternatives(profile: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield entries with two conditions on one argument. The rules of the merge do not refuse them: each condition
    becomes a rule of its own, as in runc and crun."""
    for number, row in enumerate(profile.get("syscalls") or ()):
        indexes = [test.get("index") or 0 for test in row.get("args") or ()]
        names = tuple(sorted(row["names"]))
        for index in sorted({index for index in indexes if indexes.count(index) > 1}):
            what = f"{_listed(names)}: the conditions on argument {index} are alternatives, not both required"
            fix = "use one condition for each argument: SCMP_CMP_MASKED_EQ, or an entry for each value"
            yield Finding("artifact-alternatives", "warning", f"syscalls[{number}]", what, fix, names)


def _left(ours: Filter, baseline: Rights, name: str) -> Iterator[Finding]:
    """Yield what the merge with a baseline takes away."""
    if baseline.written is None:
        raise InputError(f"{name} is not a seccomp profile, which a runtime merges an artifact with")
    theirs = _filter(baseline)
    merged = intersection(theirs, ours)
    lost: dict[str, list[str]] = {"refused": [], "merge": [], "some": []}
    narrowed: dict[str, list[str]] = {}
    for call in ours.calls:
        wanted = _allowing(ours, call)
        left = _allowing(merged, call)
        if not wanted or wanted <= left:
            continue
        allowed = _allowing(theirs, call)
        if left and any(not clause.tests for clause in wanted):
            words = "; ".join(_words(call, clause) for clause in sorted(left, key=lambda one: one.tests))
            narrowed.setdefault(words, []).append(call)
        elif not allowed:
            lost["refused"].append(call)
        elif dependable(ours.calls[call]):
            lost["some" if left else "merge"].append(call)
    if lost["refused"]:
        what = f"{_listed(lost['refused'])}: {name} refuses them"
        fix = "give the node a baseline that allows them, or the container the capability that opens them there"
        yield Finding("artifact-baseline", "warning", "syscalls", what, fix, tuple(sorted(lost["refused"])))
    if lost["some"]:
        what = f"{_listed(lost['some'])}: {name} refuses some of the arguments that the profile allows"
        yield Finding("artifact-baseline", "warning", "syscalls", what, "", tuple(sorted(lost["some"])))
    if lost["merge"]:
        what = f"{_listed(lost['merge'])}: the rules cannot be merged with those of {name}, so the call is refused"
        fix = "allow it without conditions (those of the baseline still hold), or change the baseline"
        yield Finding("artifact-merge", "error", "syscalls", what, fix, tuple(sorted(lost["merge"])))
    for words, calls in narrowed.items():
        what = f"{_listed(calls)}: {name} allows {words}"
        yield Finding("artifact-narrowed", "note", "syscalls", what, "", tuple(sorted(calls)))


def _filter(baseline: Rights) -> Filter:
    """Return what runtimes load of a profile that was read."""
    assert baseline.written is not None
    written = baseline.written
    entries = (
        Entry(row.names, answer(row.action, row.errno), tuple(map(_test, row.tests)))
        for row in written.rows
        if row.applies
    )
    return filter_of(answer(written.default, written.default_errno), entries)


def _test(test: rights.Test) -> Comparison:
    return Comparison(test.position, test.value, test.value_two, test.operator)


def _allowing(profile: Filter, call: str) -> frozenset[Clause]:
    """Return the clauses by which a call is allowed; one without conditions when the default allows it."""
    clauses = profile.calls.get(call, (Clause(profile.default),))
    return frozenset(Clause(Answer("ALLOW"), clause.tests) for clause in clauses if clause.answer.allows)


def _words(call: str, clause: Clause) -> str:
    tests = [rights.Test(one.position, one.operator, one.value, one.two) for one in clause.tests]
    return rights.in_words(call, native_abi(), tests)


def _listed(names: Iterable[str]) -> str:
    return listed([printable(name) for name in sorted(names)], _SHOWN)
