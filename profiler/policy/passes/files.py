"""What was done with which path: one rule for each path as it was seen."""

from __future__ import annotations

from dataclasses import replace

from profiler.policy.model import Options, Policy
from profiler.policy.touched import rules, touched
from profiler.trace.model import Trace


def files(policy: Policy, trace: Trace, options: Options) -> Policy:
    """Add a rule for each path that was used. Raises InputError for a path that no file can have."""
    if not trace.has_files:
        return policy
    paths = touched(trace)
    return replace(policy, has_files=True, files=rules(paths, {path: row.base for path, row in paths.items()}))
