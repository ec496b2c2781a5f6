"""Which capabilities the workload needs."""

from __future__ import annotations

from dataclasses import replace

from profiler.policy.evidence import capability_outcomes, outcome_of, program_names
from profiler.policy.model import Capability, Options, Policy
from profiler.policy.reasons import joined, named
from profiler.trace.model import Trace


def _needed(name: str, trace: Trace) -> Capability:
    checks = [check for check in trace.capabilities if check.capability == name and outcome_of(check) == "needed"]
    reasons = [
        named("inferred" if check.inferred else "observed", program_names(trace, check.programs)) for check in checks
    ]
    return Capability(name, joined([reasons, [named("in", {call for check in checks for call in check.syscalls})]]))


def capabilities(policy: Policy, trace: Trace, options: Options) -> Policy:
    """Grant each capability whose strongest outcome is ``needed``."""
    outcomes = capability_outcomes(trace)
    return replace(
        policy, capabilities=tuple(_needed(name, trace) for name, outcome in outcomes.items() if outcome == "needed")
    )
