"""Everything that was seen is allowed; a number without a name is kept apart."""

from __future__ import annotations

from dataclasses import replace

from profiler.policy.evidence import name_for, program_names
from profiler.policy.model import Allowed, Options, Policy, Unknown
from profiler.policy.reasons import named
from profiler.trace.model import Trace


def observed(policy: Policy, trace: Trace, options: Options) -> Policy:
    """Add an entry for each row of the trace."""
    entries: list[Allowed] = []
    unknown: list[Unknown] = []
    for row in trace.syscalls:
        name = name_for(row)
        because = (named("observed", program_names(trace, row.programs)),)
        if name is None:
            unknown.append(Unknown(row.abi, row.number, because))
        else:
            entries.append(Allowed("observed", row.abi, name, because))
    return replace(policy, syscalls=policy.syscalls + tuple(entries), unknown=policy.unknown + tuple(unknown))
