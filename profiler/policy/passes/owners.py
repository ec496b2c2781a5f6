"""Which rules hold for the user's own files only: those where it tells something of the workload, not of the
installation."""

from __future__ import annotations

from dataclasses import replace

from profiler.policy.model import Options, Policy
from profiler.policy.tiers import owner_tells
from profiler.trace.model import Trace


def owners(policy: Policy, trace: Trace, options: Options) -> Policy:
    """Take ``owner`` from the rules where another installation may give the file to another user."""
    return replace(
        policy, files=tuple(replace(rule, owner=rule.owner and owner_tells(rule.pattern)) for rule in policy.files)
    )
