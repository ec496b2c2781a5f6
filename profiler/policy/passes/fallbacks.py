"""Calls that are not allowed, but whose callers do without them when told ENOSYS."""

from __future__ import annotations

from dataclasses import replace

from profiler.kernel.fallbacks import fallbacks as known
from profiler.kernel.syscalls import number_of
from profiler.policy.model import Options, Policy, Refused
from profiler.policy.reasons import said
from profiler.trace.model import Trace


def fallbacks(policy: Policy, trace: Trace, options: Options) -> Policy:
    """Refuse them with ENOSYS instead of the profile's default error."""
    taken = {entry.name for entry in policy.syscalls} | {row.name for row in policy.refused}
    added = [
        Refused(name, "ENOSYS", (said("fallback", text),))
        for name, text in known().items()
        if name not in taken and any(number_of(abi, name) is not None for abi in policy.abis)
    ]
    return replace(policy, refused=tuple(sorted((*policy.refused, *added), key=lambda row: row.name)))
