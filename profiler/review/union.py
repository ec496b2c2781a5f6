"""The union of SeccompProfiles of the Security Profiles Operator, and in how many recordings each syscall was seen.

The result allows a call with the arguments that one of the profiles allows. Its rules are theirs: an unconditional rule
stands for all others of its name. It answers a call that all of them refuse with the mildest of their actions.

A SeccompProfile has one list of calls for all of its architectures. So profiles of different architectures are refused:
the calls of one would be allowed on the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from errno import ENOSYS, EPERM
from typing import Any

from profiler.errors import InputError
from profiler.policy.evidence import COVERAGE, Coverage, annotation
from profiler.quoting.text import printable
from profiler.review.rights import Rights, Row, Test, Written
from profiler.review.seccomp import by_argument

MILD = ("ERRNO", "TRAP", "KILL_THREAD", "KILL_PROCESS")
"""Actions that refuse a call, the mildest first."""


def union(profiles: Sequence[Rights]) -> dict[str, Any]:
    """Return the union as an object with the name of the first. Raises InputError for rules that cannot be combined."""
    written = [_written(profile) for profile in profiles]
    allowed: dict[str, dict[tuple[Test, ...], None]] = {}
    refused: dict[str, list[tuple[str, int]]] = {}
    for profile, rules in zip(profiles, written, strict=True):
        for row in rules.rows:
            _add(profile.source, row, allowed, refused)
    default = min((rules.default for rules in written), key=MILD.index)
    rows = [*_allowing(allowed), *_refusing({call: rows for call, rows in refused.items() if call not in allowed})]
    _check_architectures(profiles, written)
    manifests = [profile.manifest for profile in profiles if profile.manifest is not None]
    bases = sorted({manifest.base for manifest in manifests})
    if len(bases) > 1:
        raise InputError(f"the profiles have different base profiles ({', '.join(base or 'none' for base in bases)})")
    coverage = annotation(_seen(profiles, written), allowed)
    return {
        "apiVersion": "security-profiles-operator.x-k8s.io/v1",
        "kind": "SeccompProfile",
        "metadata": {"name": manifests[0].name or "merged", "annotations": {COVERAGE: coverage}},
        "spec": {
            "defaultAction": f"SCMP_ACT_{default}",
            **({"baseProfileName": bases[0]} if bases[0] else {}),
            "architectures": [*dict.fromkeys(written[0].architectures)],
            "syscalls": rows,
        },
    }


def _written(profile: Rights) -> Written:
    written = profile.written
    if written is None or written.default not in MILD:
        raise InputError(f"{profile.source}: its default action does not refuse calls, so it allows nothing by name")
    return written


def _check_architectures(profiles: Sequence[Rights], written: Sequence[Written]) -> None:
    """Raise InputError unless all profiles are for the same architectures."""
    first = set(written[0].architectures)
    for profile, rules in zip(profiles, written, strict=True):
        if set(rules.architectures) != first:
            one, other = (
                ", ".join(sorted(printable(name)[:40] for name in names)) or "that of each node alone"
                for names in (first, set(rules.architectures))
            )
            raise InputError(
                f"{profiles[0].source} has the architectures {one}, and {profile.source} {other}: a SeccompProfile has "
                "one list of calls for all of its architectures, so the calls of one would be allowed on the other; "
                "merge the profiles of each architecture apart"
            )


def _add(
    source: str,
    row: Row,
    allowed: dict[str, dict[tuple[Test, ...], None]],
    refused: dict[str, list[tuple[str, int]]],
) -> None:
    if row.action == "ALLOW":
        for name in row.names:
            allowed.setdefault(name, {}).update(dict.fromkeys(by_argument(row.tests)))
    elif row.action in MILD and not row.tests:
        for name in row.names:
            refused.setdefault(name, []).append((row.action, EPERM if row.errno is None else row.errno))
    else:
        what = "refuses calls by their arguments" if row.tests else f"has the action {row.action}"
        raise InputError(f"{source}: {row.where} {what}, which profgen does not merge")


def _allowing(allowed: Mapping[str, Mapping[tuple[Test, ...], None]]) -> list[dict[str, Any]]:
    free = sorted(name for name, rules in allowed.items() if () in rules)
    by_rule: dict[tuple[Test, ...], list[str]] = {}
    for name in sorted(set(allowed) - set(free)):
        for rule in allowed[name]:
            by_rule.setdefault(rule, []).append(name)
    rows: list[dict[str, Any]] = [{"action": "SCMP_ACT_ALLOW", "names": free}] if free else []
    for rule, names in sorted(by_rule.items(), key=lambda item: (item[1], repr(item[0]))):
        rows.append({"action": "SCMP_ACT_ALLOW", "names": names, "args": [_argument(test) for test in rule]})
    return rows


def _argument(test: Test) -> dict[str, Any]:
    return {
        "index": test.position,
        "value": test.value,
        "valueTwo": test.value_two,
        "op": f"SCMP_CMP_{test.operator}",
    }


def _refusing(refused: Mapping[str, Sequence[tuple[str, int]]]) -> list[dict[str, Any]]:
    """Return a rule for each answer: the mildest, and ENOSYS, which lets libc fall back, before any other error."""
    by_answer: dict[tuple[str, int], list[str]] = {}
    for name, answers in sorted(refused.items()):
        action, errno = min(answers, key=lambda row: (MILD.index(row[0]), row[1] != ENOSYS, row[1]))
        by_answer.setdefault((action, errno if action == "ERRNO" else 0), []).append(name)
    return [
        {"action": f"SCMP_ACT_{action}", "names": names, **({"errnoRet": errno} if errno else {})}
        for (action, errno), names in sorted(by_answer.items())
    ]


def _seen(profiles: Sequence[Rights], written: Iterable[Written]) -> Coverage:
    """Return the sum of what the profiles say. One that says nothing is one recording, in which all its calls were
    seen."""
    total, counts = 0, dict[str, int]()
    for profile, rules in zip(profiles, written, strict=True):
        names = {name for row in rules.rows if row.action == "ALLOW" for name in row.names}
        known = profile.manifest.coverage if profile.manifest is not None else None
        seen = known or Coverage(1, dict.fromkeys(names, 1))
        total += seen.total
        for name, number in seen.syscalls.items():
            counts[name] = counts.get(name, 0) + number
    return Coverage(total, counts)


def dumps(document: Mapping[str, Any]) -> str:
    """Return an object as YAML."""
    import yaml

    return yaml.safe_dump(json.loads(json.dumps(document)), sort_keys=False, width=120)
