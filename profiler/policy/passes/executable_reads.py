"""READ_IMPLIES_EXEC: whatever is mapped for reading becomes executable (do_mmap in mm/mmap.c), and security modules ask
for that right.

Whether the flag outlives execve(2) depends on the architecture and on the program: x86-64 clears it for 64-bit programs
(set_personality_64bit in arch/x86/kernel/process_64.c), and keeps it for 32-bit ones.
"""

from __future__ import annotations

from dataclasses import replace

from profiler.kernel.arguments import implies_exec
from profiler.policy.evidence import name_for
from profiler.policy.model import Options, Policy
from profiler.policy.reasons import said
from profiler.trace.model import FILE_ACCESSES, Trace

_BECAUSE = said("widened", "map: READ_IMPLIES_EXEC was asked for, and a mapping for reading becomes executable")


def executable_reads(policy: Policy, trace: Trace, options: Options) -> Policy:
    """Allow to map executable what is read, when the workload asked for that."""
    if not _asked(trace):
        return policy
    files = tuple(
        replace(
            rule,
            access=tuple(word for word in FILE_ACCESSES if word in {*rule.access, "map"}),
            because=(*rule.because, _BECAUSE),
        )
        if "read" in rule.access and "map" not in rule.access and "file" in rule.kinds
        else rule
        for rule in policy.files
    )
    return replace(policy, files=files)


def _asked(trace: Trace) -> bool:
    return any(
        implies_exec(value[0])
        for row in trace.syscalls
        if name_for(row) == "personality" and row.arguments is not None
        for value in row.arguments.values
    )
