"""From denials to the least additions to a policy: each with its evidence, the dangerous ones only when asked for by
name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

from profiler.denials import propose_calls as calls
from profiler.denials import propose_uses as uses
from profiler.denials.additions import Proposal, State, Unanswered, reasons_of
from profiler.denials.model import Denial
from profiler.policy.model import Policy

_HANDLERS: dict[str, Callable[[State, Sequence[Denial]], None]] = {
    "syscall": calls.syscalls,
    "capability": calls.capabilities,
    "file": uses.files,
    "socket": uses.sockets,
    "signal": uses.signals,
    "inspection": uses.inspections,
    "mount": uses.mounts,
    "execution": uses.executions,
    "user_namespace": uses.user_namespaces,
    "io_uring": uses.io_uring,
    "other": uses.others,
}
"""By kind of Denial."""


def propose(policy: Policy, denials: Sequence[Denial], allow: Collection[str] = ()) -> Proposal:
    """The least that has to be added for these denials to end. ``allow``: items that are added although they are
    dangerous."""
    state = State(policy)
    for kind, handler in _HANDLERS.items():
        rows = [denial for denial in denials if denial.kind == kind]
        if rows:
            handler(state, rows)
    added, refused = [], []
    files = {rule.pattern: rule for rule in policy.files}
    for case in state.cases:
        reasons = reasons_of(case.addition.denials)
        if not {danger.item for danger in case.addition.dangers} <= set(allow):
            refused.append(case.addition)
            continue
        added.append(case.addition)
        if case.rule is not None:
            files[case.pattern] = case.rule(files.get(case.pattern), reasons)
        if case.change is not None:
            policy = case.change(policy, reasons)
    policy = replace(policy, files=tuple(files.values()))
    items = {danger.item for case in state.cases for danger in case.addition.dangers}
    unused = tuple(item for item in dict.fromkeys(allow) if item not in items)
    return Proposal(policy, tuple(added), tuple(refused), _summed(state.unanswered), unused)


def _summed(rows: Iterable[Unanswered]) -> tuple[Unanswered, ...]:
    found: dict[tuple[str, str], int] = {}
    for row in rows:
        found[row.what, row.why] = found.get((row.what, row.why), 0) + row.count
    return tuple(Unanswered(what, why, times) for (what, why), times in found.items())
