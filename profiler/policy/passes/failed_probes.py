"""Syscalls that never succeeded: tagged, or left out with the error they had."""

from __future__ import annotations

from dataclasses import replace

from profiler.kernel.errno import FIRST_INTERNAL, number_of
from profiler.policy.evidence import name_for
from profiler.policy.model import Allowed, Options, Policy, Refused
from profiler.policy.reasons import named
from profiler.trace.model import Trace

NO_FAILURE = frozenset(
    {
        "EAGAIN",
        "EALREADY",
        "EINPROGRESS",
        "EINTR",
        "ERESTARTNOHAND",
        "ERESTARTNOINTR",
        "ERESTARTSYS",
        "ERESTART_RESTARTBLOCK",
        "ETIMEDOUT",
        "EWOULDBLOCK",
    }
)
"""Errors that say "not yet" or "interrupted": the call did its work, or was waiting for it."""


def failed_probes(policy: Policy, trace: Trace, options: Options) -> Policy:
    """Give each observed call that only ever failed a reason that says so; with ``drop_failing`` refuse it.

    A refused call that had one error only keeps that error, so the program sees what it saw.
    """
    rows = {(row.abi, name_for(row)): row for row in trace.syscalls}
    entries: list[Allowed] = []
    refused: list[Refused] = []
    for entry in policy.syscalls:
        row = rows.get((entry.abi, entry.name))
        errors = row.results.errors if row and entry.section == "observed" and row.results.ok == 0 else {}
        # Results are watched for a while only; a call nobody saw the result of may have succeeded.
        if not row or not errors or sum(errors.values()) < row.calls or NO_FAILURE & errors.keys():
            entries.append(entry)
            continue
        because = (*entry.because, named("failed", errors))
        if options.drop_failing:
            only = next(iter(errors)) if len(errors) == 1 else ""
            known = 0 < (number_of(only) or 0) < FIRST_INTERNAL
            refused.append(Refused(entry.name, only if known else "EPERM", because))
        else:
            entries.append(replace(entry, because=because))
    allowed = {entry.name for entry in entries}
    kept = tuple(row for row in refused if row.name not in allowed)
    return replace(policy, syscalls=tuple(entries), refused=policy.refused + kept)
