"""Harmless calls that come by timing: another run of the same workload makes them, though this one did not."""

from __future__ import annotations

from dataclasses import replace

from profiler.kernel.arguments import CLONE_THREAD
from profiler.kernel.companions import companion_files
from profiler.kernel.companions import companions as known
from profiler.policy.model import Allowed, FileRule, Options, Policy
from profiler.policy.reasons import said
from profiler.trace.model import Trace


def companions(policy: Policy, trace: Trace, options: Options) -> Policy:
    """Add the companions of what was observed, per ABI. One that is refused (a dropped probe) stays refused."""
    refused = {row.name for row in policy.refused}
    added: list[Allowed] = []
    for abi in policy.abis:
        allowed = {row.name for row in policy.syscalls if row.abi == abi}
        observed = {row.name for row in policy.syscalls if row.abi == abi and row.section == "observed"}
        if "clone" in allowed:
            observed.add("clone")  # clone3 may be refused by now (passes/arguments.py)
        added += [
            Allowed("companion", abi, name, (said("companion", why),))
            for name, why in sorted(known(abi, observed).items())
            if name not in allowed and name not in refused
        ]
    return replace(policy, syscalls=policy.syscalls + tuple(added))


def files_by_timing(policy: Policy, trace: Trace, options: Options) -> Policy:
    """Add the files that programs with threads read, where the recording watched files."""
    if not policy.has_files or not _has_threads(trace):
        return policy
    added = [
        FileRule(path, ("read",), because=(said("companion", why),))
        for path, why in companion_files().items()
        if not any(rule.pattern == path for rule in policy.files)
    ]
    return (
        replace(policy, files=tuple(sorted((*policy.files, *added), key=lambda rule: rule.pattern)))
        if added
        else policy
    )


def _has_threads(trace: Trace) -> bool:
    """Tell whether the workload had threads. A lock (futex) does not tell: a thread waits for it only by timing."""
    clones = [row.arguments for row in trace.syscalls if row.name in ("clone", "clone3") and row.arguments]
    if any(
        seen.overflow or any(flags & CLONE_THREAD for value in seen.values for flags in value[:1]) for seen in clones
    ):
        return True
    # The threads of a workload that was joined may be older than the recording.
    return bool(trace.joined) and any(row.name in ("futex", "futex_time64") for row in trace.syscalls)
