"""Which rules hold for the user's own files only: those where it tells something of the workload, not of the
installation."""

from __future__ import annotations

from dataclasses import replace

from profiler.policy.model import FileRule, Options, Policy
from profiler.policy.patterns import is_literal
from profiler.policy.tiers import tier_of
from profiler.trace.model import Trace


def kept(rule: FileRule) -> bool:
    """In places where everybody writes, in home directories and below /proc/PID; elsewhere for patterns, where data
    lies."""
    if rule.pattern.startswith(("{home}", "/root/", "/home/", "/proc/{pid}")):
        return True
    tier, _ = tier_of(rule.pattern)
    return tier == "temporary" or (tier == "data" and not is_literal(rule.pattern))


def owners(policy: Policy, trace: Trace, options: Options) -> Policy:
    """Take ``owner`` from the rules where another installation may give the file to another user."""
    return replace(policy, files=tuple(replace(rule, owner=rule.owner and kept(rule)) for rule in policy.files))
