"""What stands in for an observed syscall under another libc or kernel."""

from __future__ import annotations

from dataclasses import replace

from profiler.kernel.arguments import spec_for
from profiler.kernel.equivalents import stand_ins
from profiler.policy.model import Allowed, Options, Policy
from profiler.policy.reasons import said
from profiler.trace.model import Trace


def _fits(abi: str, name: str, origins: frozenset[str]) -> bool:
    """Whether a stand-in's arguments can be filtered as narrowly as those of what it stands in for.

    One without filterable arguments fits when what it stands in for has none either; fork and vfork do clone's work
    without namespace flags.
    """
    spec = spec_for(name, abi)
    if name == "clone":
        return True
    specs = [spec_for(origin, abi) for origin in origins]
    if spec is None:
        # Also not when the same name takes its arguments elsewhere on this ABI (i386's mmap): a profile works by name.
        return not any(specs)
    return any(other is not None and other.fields == spec.fields for other in specs)


def equivalents(policy: Policy, trace: Trace, options: Options) -> Policy:
    """Add the stand-ins of what was observed, per ABI. One that was refused (a dropped probe) stays refused."""
    refused = {row.name for row in policy.refused}
    added: list[Allowed] = []
    for abi in policy.abis:
        names = {entry.name for entry in policy.syscalls if entry.abi == abi}
        for name, (origins, why) in sorted(stand_ins(abi, names).items()):
            if name in refused or not _fits(abi, name, origins):
                continue
            stands_for = tuple(sorted(origins))
            added.append(Allowed("equivalent", abi, name, (said("equivalent", why),), stands_for=stands_for))
    return replace(policy, syscalls=policy.syscalls + tuple(added))
