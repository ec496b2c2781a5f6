"""From a trace to a policy: the passes, in order."""

from __future__ import annotations

from collections.abc import Callable

from profiler.errors import InputError
from profiler.kernel.abi import ABIS
from profiler.policy.evidence import gaining
from profiler.policy.launch import launch_of
from profiler.policy.model import Options, Policy, Workload
from profiler.policy.passes.arguments import arguments
from profiler.policy.passes.capabilities import capabilities
from profiler.policy.passes.companions import companions, files_by_timing
from profiler.policy.passes.equivalents import equivalents
from profiler.policy.passes.executable_reads import executable_reads
from profiler.policy.passes.failed_probes import failed_probes
from profiler.policy.passes.fallbacks import fallbacks
from profiler.policy.passes.files import files
from profiler.policy.passes.generalise import generalise
from profiler.policy.passes.mounts import mounts
from profiler.policy.passes.network import network
from profiler.policy.passes.observed import observed
from profiler.policy.passes.owners import owners
from profiler.policy.passes.processes import processes
from profiler.policy.passes.runtime_base import runtime_base
from profiler.policy.passes.variables import variables
from profiler.quoting.text import printable
from profiler.trace.collection import no_collection
from profiler.trace.model import Trace

Pass = Callable[[Policy, Trace, Options], Policy]


def passes(options: Options) -> list[Pass]:
    """The passes that these options ask for, in the order in which they run."""
    return [
        observed,
        failed_probes,
        *([equivalents] if options.equivalents else []),
        *([arguments] if options.arguments else []),
        *([companions] if options.equivalents and options.companions else []),
        runtime_base,
        fallbacks,
        capabilities,
        generalise if options.generalise else files,
        executable_reads,
        owners,
        *([files_by_timing] if options.equivalents and options.companions else []),
        processes,
        network,
        mounts,
        variables,
    ]


def _start(trace: Trace, options: Options) -> Policy:
    native = trace.meta.arch
    seen = {row.abi for row in trace.syscalls}
    for abi in sorted({native, *seen}):
        if abi not in ABIS:
            raise InputError(f"the trace is of architecture {printable(abi)!r}: profgen knows {', '.join(ABIS)}")
    meta = trace.meta
    container = meta.container
    runtime = options.runtime + (f" {options.runtime_version}" if options.runtime_version else "")
    return Policy(
        workload=Workload(
            argv=tuple(printable(word) for word in meta.argv),
            uid=meta.uid,
            incomplete=not meta.complete,
            image=None if container is None or container.image is None else printable(container.image),
            digest=None if container is None or container.digest is None else printable(container.digest),
            joined=tuple(printable(path) for path in trace.joined),
            denials_only=meta.runs == 0,
            launch=launch_of(meta),
        ),
        abis=(native, *(abi for abi in ABIS if abi in seen and abi != native)),
        no_new_privs=not gaining(trace) if options.no_new_privs is None else options.no_new_privs,
        runtime=runtime,
    )


@no_collection()
def derive(trace: Trace, options: Options) -> Policy:
    """The policy of a trace. Raises InputError for an unknown architecture or runtime, or a malformed version."""
    policy = _start(trace, options)
    for step in passes(options):
        policy = step(policy, trace, options)
    return policy
