"""The pattern that a policy's file rules give to a path, for rules of other sorts that name it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import lru_cache

from profiler.policy.model import FileRule, Policy
from profiler.policy.patterns import is_literal, literal, matches


@lru_cache(maxsize=4)
def _by_access(files: tuple[FileRule, ...]) -> tuple[frozenset[str], dict[str, list[str]]]:
    literals: set[str] = set()
    classed: dict[str, list[str]] = {}
    for rule in files:
        if rule.use != "needed":
            continue
        if is_literal(rule.pattern):
            literals.add(rule.pattern)
            continue
        for word in rule.access:
            classed.setdefault(word, []).append(rule.pattern)
    return frozenset(literals), classed


def pattern_for(policy: Policy, path: str, accesses: Collection[str]) -> str:
    """The pattern of the needed file rule with one of these accesses that fits the path; its own literal one where none
    does. Raises InputError for a path that no file can have."""
    literals, classed = _by_access(policy.files)
    exact = literal(path)
    if exact in literals:
        return exact
    candidates: Iterable[str] = (pattern for word in sorted(accesses) for pattern in classed.get(word, ()))
    return next((pattern for pattern in candidates if matches(pattern, path)), exact)
