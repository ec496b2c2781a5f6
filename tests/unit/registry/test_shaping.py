"""Rules that survive the merge with a default profile."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from inputs import examples
from unit.policy.making import call, rows, trace

from profiler.kernel.data import load
from profiler.policy.derive import derive
from profiler.policy.model import Options
from profiler.registry.clauses import Answer, Clause, intersection
from profiler.registry.rules import broken, entries, loaded
from profiler.registry.shaping import shaped
from profiler.review.diff import GAINS, compare
from profiler.review.sources import from_bytes
from profiler.targets.seccomp import profile

REFUSE = Answer("ERRNO", 1)


def docker() -> Any:
    """The rules of Docker's default profile that hold for any container."""
    made = load("docker_default.yaml")["profile"]
    return loaded(
        {
            "defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [row for row in made["syscalls"] if not {"includes", "excludes"} & row.keys()],
        }
    )


def made(*seen: Any) -> dict[str, Any]:
    return profile(derive(trace(*seen), Options(runtime="none", equivalents=False, companions=False)), "errno")


def rules(profile: dict[str, Any], name: str) -> list[Any]:
    return [entry.tests for entry in entries(profile) if name in entry.names]


def test_nothing_to_do() -> None:
    plain = made(call("read"), call("prctl", [(15,)]))
    assert shaped(plain) == (plain, ())


def test_sockets_get_the_conditions_of_the_runtime_alone() -> None:
    """Docker's, containerd's and CRI-O's profiles have conditions on the family, which cannot be joined with ours."""
    given_ = made(call("socket", [(2, 1, 0), (1, 1, 0)]), call("read"))
    new, widened = shaped(given_)
    assert widened == ("socket",)
    assert rules(new, "socket") == [()]
    left = intersection(docker(), loaded(new))
    assert {clause.tests[0].operator for clause in left.calls["socket"]} == {"LT", "EQ", "GT"}
    assert intersection(docker(), loaded(given_)).calls.get("socket", ()) == ()


def test_what_cannot_be_told_apart_by_one_argument_is_by_another() -> None:
    """mmap with two pairs of protection and flags: the merge would refuse it."""
    given_ = made(call("read"))
    pairs = [(1, 0), (2, 1), (3, 1)]
    given_["syscalls"].append({"names": ["openat2"], "action": "SCMP_ACT_ALLOW", "args": _tests((1, 7))})
    for a, b in pairs:
        given_["syscalls"].append({"names": ["splice"], "action": "SCMP_ACT_ALLOW", "args": _tests((1, a), (2, b))})
    new, widened = shaped(given_)
    assert widened == ("splice",)
    assert sorted(tests[0].two for tests in rules(new, "splice")) == [1, 2, 3]
    assert len(intersection(docker(), loaded(new)).calls["splice"]) == 3


def _tests(*values: tuple[int, int]) -> list[dict[str, Any]]:
    mask = 0xFFFFFFFF
    return [{"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"} for index, value in values]


@given(rows())
@settings(max_examples=examples(40), deadline=None)
def test_it_only_allows_more_and_all_of_it_survives(seen: list[Any]) -> None:
    policy = derive(trace(*seen), Options())
    given_ = profile(policy, "errno")
    new, widened = shaped(given_)
    data = json.dumps(new).encode()
    assert broken(data) == ()
    changes = compare(
        from_bytes(json.dumps(given_).encode(), "old").rights("x86_64", None),
        from_bytes(data, "new").rights("x86_64", None),
        exact=True,
    ).changes
    assert {change.change for change in changes} <= set(GAINS)
    assert shaped(new) == (new, ())
    ours, theirs = loaded(new), docker()
    left = intersection(theirs, ours)
    for name, clauses in ours.calls.items():
        known = theirs.calls.get(name, ())
        if clauses[0].answer.allows and known and known[0].answer.allows:
            expected = clauses if clauses[0].tests else known
            assert {clause.tests for clause in left.calls.get(name, ())} == {clause.tests for clause in expected}, name
    assert all(left.calls.get(name, (Clause(REFUSE),))[0].answer for name in widened)
