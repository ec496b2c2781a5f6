"""Concrete paths of patterns, and what an AppArmorProfile must allow of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from unit.targets.spo.daemon import Rules

from profiler.kernel.apparmor import letters
from profiler.policy import patterns
from profiler.policy.model import Policy
from profiler.targets.base import Loss

EXAMPLES = {
    "pid": ["1", "4194304"], "tid": ["2"], "uuid": ["123e4567-e89b-12d3-a456-426614174000"], "hex": ["0af3" * 4],
    "digits": ["7", "20" * 10], "random": ["aB3_xY", "aB3_xYaB3_"], "date": ["20240102", "2024-01-02T03:04:05"],
    "version": ["1", "1.22.333.4"], "name": ["x", "a b:\u00e9"], "tree": ["x", "a/b c"],
    "home": ["/root", "/home/u"],
}  # fmt: skip


def paths(pattern: str) -> list[str]:
    """Some paths that fit the pattern: the shortest and the longest example of each class."""
    found = []
    for which in (0, -1):
        parts = []
        for token in patterns.parse(pattern):
            if isinstance(token, patterns.Class):
                sized = patterns.sized(token.name)
                parts.append("1" * sized[2 if which else 1] if sized else EXAMPLES[token.name][which])
            else:
                parts.append(token.text if isinstance(token, patterns.Literal) else token.name)
        found.append("".join(parts))
    return found


def allows_what_the_policy_does(abstract: dict[str, Any], policy: Policy, losses: Iterable[Loss]) -> None:
    """The rules that the operator makes allow every use of a file, and every program, but for what is declared as
    refused."""
    rules = Rules(abstract)
    refused = {(loss.section, loss.item) for loss in losses if loss.effect == "refused"}
    for rule in policy.files:
        if ("files", rule.pattern) in refused or rule.states == ("detached",):
            continue
        for path in paths(rule.pattern):
            is_directory = rule.kinds == ("directory",) and path != "/"
            missing = set(letters(rule.access)) - rules.allowed(path + "/" * is_directory)
            assert not missing, (rule, path, missing)
    for row in policy.transitions:
        if ("transitions", row.program) not in refused:
            for path in paths(row.program):
                assert set("rmx") <= rules.allowed(path) or ("files", row.program) in refused, row
