"""What processes do with processes: who executes whom, signals, looks at others; user namespaces and io_uring."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from profiler.policy.evidence import name_for, program_names
from profiler.policy.model import InspectionRule, Options, Policy, SignalRule, Transition
from profiler.policy.places import pattern_for
from profiler.policy.reasons import Reason, Reasons, joined, named, said
from profiler.trace.model import WHOM, File, Syscall, Trace

CLONE_NEWUSER = 0x10000000
"""include/uapi/linux/sched.h"""

NAMESPACE_CALLS = ("clone", "clone3", "unshare", "setns")

READ_LIKE_TRACING = frozenset(
    {
        "arch_status", "auxv", "cwd", "environ", "exe", "fd", "fdinfo", "io", "map_files", "maps", "ns", "numa_maps",
        "pagemap", "patch_state", "root", "smaps", "smaps_rollup", "timers", "wchan",
    }
)  # fmt: skip
"""Files below /proc/PID that the kernel gives only to those who may read the process with ptrace(2): PTRACE_MODE_READ
in fs/proc/base.c, fd.c, namespaces.c and task_mmu.c, proc(5). A process always may for itself."""

TRACED = frozenset({"mem", "personality", "stack", "syscall"})
"""Those for which it must be allowed to attach: PTRACE_MODE_ATTACH (fs/proc/base.c, mem_open and lock_trace)."""


def _order(whom: str) -> int:
    return WHOM.index(whom) if whom in WHOM else len(WHOM)


def transitions(policy: Policy, trace: Trace) -> tuple[Transition, ...]:
    """Return who executes which program; the same pair of patterns once."""
    known = range(len(trace.programs))
    found: dict[tuple[str, str | None], set[str]] = {}
    for row in trace.execs:
        if row.program in known and (row.by is None or row.by in known):
            by = None if row.by is None else pattern_for(policy, trace.programs[row.by].path, {"execute"})
            pair = (pattern_for(policy, trace.programs[row.program].path, {"execute"}), by)
            found.setdefault(pair, set()).update(row.gained)
    pairs = sorted(found, key=lambda pair: (pair[0], pair[1] is not None, pair[1] or ""))
    return tuple(Transition(*pair, (named("gained", found[pair]),) if found[pair] else ()) for pair in pairs)


_ENDED = said("companion", "the process had ended already")


def signals(trace: Trace, companions: bool = False) -> tuple[SignalRule, ...]:
    """Return the signals that were delivered. ``companions``: also those to processes of the workload that had ended
    already, which is a matter of timing."""
    rows = [
        SignalRule(row.signal, row.whom, (named("observed", program_names(trace, row.programs)), *late))
        for row in trace.signals
        for late in [() if row.results.get("ok") else (_ENDED,)]
        if not late or (companions and row.whom == "workload" and "ESRCH" in row.results)
    ]
    return tuple(sorted(rows, key=lambda row: (_order(row.whom), row.whom, row.signal)))


def proc_operation(row: File) -> str | None:
    """``read`` or ``trace`` for a use of a file below another's /proc/PID that needs as much as ptrace(2); None for any
    other."""
    if row.whose in (None, "self") or not row.results.get("ok"):
        return None
    parts = row.path.split("/")
    start = next((index for index, part in enumerate(parts) if part.isascii() and part.isdigit()), len(parts))
    rest = parts[start + 1 :]
    if len(rest) > 2 and rest[0] == "task":
        rest = rest[2:]
    name = rest[0] if rest else ""
    return "trace" if name in TRACED else "read" if name in READ_LIKE_TRACING else None


def _place(path: str) -> str:
    """Return the name of a file below /proc/PID, without the numbers of descriptors."""
    name = path.rpartition("/")[2]
    return f"/proc/PID/{'fd' if name.isdigit() else name}"


def inspections(trace: Trace) -> tuple[InspectionRule, ...]:
    """Return which other processes were traced or read, by ptrace(2) and its like or through /proc."""
    found: dict[tuple[str, str], list[Reason]] = {}
    for row in trace.inspections:
        if row.results.get("ok"):
            by = named("observed", program_names(trace, row.programs))
            found.setdefault((row.operation, row.whom), []).append(by)
    for file in trace.files:
        operation = proc_operation(file)
        if operation and file.whose:
            by, through = named("observed", program_names(trace, file.programs)), named("through", [_place(file.path)])
            found.setdefault((operation, file.whose), []).extend((by, through))
    made = [InspectionRule(operation, whom, joined([why])) for (operation, whom), why in found.items()]
    return tuple(sorted(made, key=lambda row: (row.operation, _order(row.whom), row.whom)))


def _failed(row: Syscall) -> bool:
    return not row.results.ok and bool(row.results.errors)


def _why(rows: Iterable[Syscall], trace: Trace) -> Reasons:
    """Return the programs behind these calls, and the calls; empty without any."""
    listed = list(rows)
    if not listed:
        return ()
    names = (str(name_for(row)) if row.abi == trace.meta.arch else f"{row.abi}:{name_for(row)}" for row in listed)
    return (named("observed", program_names(trace, (at for row in listed for at in row.programs))), named("in", names))


def makes_user_namespace(row: Syscall) -> bool:
    """Whether a call may have made or joined a user namespace. Too many values to list may hold any flag."""
    if name_for(row) not in NAMESPACE_CALLS or _failed(row) or row.arguments is None:
        return False
    return row.arguments.overflow or any(value and value[0] & CLONE_NEWUSER for value in row.arguments.values)


def makes_ring(row: Syscall) -> bool:
    """Whether a call made an io_uring."""
    return name_for(row) == "io_uring_setup" and not _failed(row)


def user_namespaces(trace: Trace) -> Reasons:
    """Return why user namespaces may be made or joined; empty when none was asked for."""
    return _why(filter(makes_user_namespace, trace.syscalls), trace)


def io_uring(trace: Trace) -> Reasons:
    """Return why io_uring may be used; empty when no ring was made."""
    return _why(filter(makes_ring, trace.syscalls), trace)


def processes(policy: Policy, trace: Trace, options: Options) -> Policy:
    """User namespaces and io_uring follow from syscalls; the rest needs a recording that watched files."""
    policy = replace(policy, user_namespaces=user_namespaces(trace), io_uring=io_uring(trace))
    if not trace.has_files:
        return policy
    return replace(
        policy,
        transitions=transitions(policy, trace),
        signals=signals(trace, options.equivalents and options.companions),
        inspections=inspections(trace),
    )
