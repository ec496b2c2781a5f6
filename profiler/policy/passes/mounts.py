"""Changes of the mount tree."""

from __future__ import annotations

from dataclasses import replace

from profiler.policy.evidence import program_names
from profiler.policy.model import MountRule, Options, Policy
from profiler.policy.patterns import literal
from profiler.policy.places import pattern_for
from profiler.policy.reasons import named
from profiler.policy.touched import base_pattern
from profiler.trace.model import Trace

_TARGET_WORDS = ("make", "list", "read")
"""Accesses by which a mount point may stand in the file rules."""


def _place(policy: Policy, path: str) -> str:
    """Return the pattern of a file rule that fits a path, or else the path's own with {pid} for a process."""
    found = pattern_for(policy, path, _TARGET_WORDS)
    return base_pattern(path) if found == literal(path) else found


def mounts(policy: Policy, trace: Trace, options: Options) -> Policy:
    """One rule for each change that succeeded; targets and sources are patterns."""
    if not trace.has_files:
        return policy
    found: dict[tuple[str, str | None, str | None, str | None, tuple[str, ...]], set[int]] = {}
    for row in trace.mounts:
        if not row.results.get("ok"):
            continue
        target = None if row.target is None else _place(policy, row.target)
        source = row.source
        if source is not None:
            source = _place(policy, source) if source.startswith("/") else literal(source)
        filesystem = None if row.filesystem is None else literal(row.filesystem)
        key = (row.operation, source, target, filesystem, tuple(sorted(set(row.flags))))
        found.setdefault(key, set()).update(row.programs)
    rules = [
        MountRule(*key, because=(named("observed", program_names(trace, programs)),)) for key, programs in found.items()
    ]

    def order(rule: MountRule) -> tuple[object, ...]:
        return (
            rule.operation,
            rule.target or "",
            rule.source or "",
            rule.filesystem or "",
            rule.flags,
            rule.target is None,
            rule.source is None,
        )

    return replace(policy, mounts=tuple(sorted(rules, key=order)))
