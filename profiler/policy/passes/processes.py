"""What processes do with processes: who executes whom, signals, looks at others; user namespaces and io_uring."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from profiler.kernel.abi import ABIS
from profiler.policy.model import InspectionRule, Options, Policy, SignalRule, Transition
from profiler.policy.passes.observed import PROGRAMS_NAMED, count, name_for, reason, seen_in
from profiler.policy.passes.places import pattern_for
from profiler.quoting.text import printable
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


def who(trace: Trace, programs: Iterable[int], uses: int) -> str:
    """``nginx, sh; 3 uses`` for reasons."""
    names = sorted({printable(trace.programs[index].name) for index in programs if 0 <= index < len(trace.programs)})
    text = ", ".join(names[:PROGRAMS_NAMED]) + (
        f" and {len(names) - PROGRAMS_NAMED} more" if len(names) > PROGRAMS_NAMED else ""
    )
    return f"{text or 'unknown program'}; {count(uses)} use{'' if uses == 1 else 's'}"


def _order(whom: str) -> int:
    return WHOM.index(whom) if whom in WHOM else len(WHOM)


def transitions(policy: Policy, trace: Trace) -> tuple[Transition, ...]:
    """Who executes whom; the same pair of patterns once."""
    found: dict[tuple[str, str | None], tuple[int, int]] = {}
    for row in trace.execs:
        if not 0 <= row.program < len(trace.programs) or (row.by is not None and not 0 <= row.by < len(trace.programs)):
            continue
        by = None if row.by is None else pattern_for(policy, trace.programs[row.by].path, {"execute"})
        key = (pattern_for(policy, trace.programs[row.program].path, {"execute"}), by)
        times, runs = found.get(key, (0, 0))
        found[key] = (times + row.count, max(runs, row.runs))
    made = []
    for (program, by), (times, runs) in found.items():
        because = (f"executed {count(times)} time{'' if times == 1 else 's'}",)
        made.append(Transition(program, by, because, seen_in(trace, [runs])))
    return tuple(sorted(made, key=lambda row: (row.program, row.by is not None, row.by or "")))


def signals(trace: Trace) -> tuple[SignalRule, ...]:
    """Signals that were delivered."""
    found: dict[tuple[str, str], tuple[set[int], int]] = {}
    runs: dict[tuple[str, str], int] = {}
    for row in trace.signals:
        if row.results.get("ok"):
            programs, uses = found.get((row.signal, row.whom), (set(), 0))
            found[row.signal, row.whom] = (programs | row.programs, uses + row.results["ok"])
            runs[row.signal, row.whom] = row.runs
    rows = [
        SignalRule(*key, (f"observed ({who(trace, *item)})",), seen_in(trace, [runs[key]]))
        for key, item in found.items()
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


def inspections(trace: Trace) -> tuple[InspectionRule, ...]:
    """Other processes traced or read, by ptrace(2) and its like or through /proc."""
    found: dict[tuple[str, str], list[tuple[frozenset[int], int, str]]] = {}
    runs: dict[tuple[str, str], list[int]] = {}
    for row in trace.inspections:
        if row.results.get("ok"):
            found.setdefault((row.operation, row.whom), []).append((row.programs, row.results["ok"], ""))
            runs.setdefault((row.operation, row.whom), []).append(row.runs)
    for file in trace.files:
        operation = proc_operation(file)
        if operation and file.whose:
            name = (
                "/proc/PID/" + file.path.rpartition("/")[2]
                if not file.path.rpartition("/")[2].isdigit()
                else "/proc/PID/fd"
            )
            found.setdefault((operation, file.whose), []).append((file.programs, file.results["ok"], name))
            runs.setdefault((operation, file.whose), []).append(file.runs)
    made = []
    for (operation, whom), rows in found.items():
        direct = [row for row in rows if not row[2]]
        files = [row for row in rows if row[2]]
        because = [f"observed ({_sum(trace, direct)})"] if direct else []
        if files:
            names = sorted({printable(row[2]) for row in files})
            text = ", ".join(names[:PROGRAMS_NAMED]) + (
                f" and {len(names) - PROGRAMS_NAMED} more" if len(names) > PROGRAMS_NAMED else ""
            )
            because.append(f"{text}: what the kernel gives to those who may trace ({_sum(trace, files)})")
        made.append(InspectionRule(operation, whom, tuple(because), seen_in(trace, runs[operation, whom])))
    return tuple(sorted(made, key=lambda row: (row.operation, _order(row.whom), row.whom)))


def _sum(trace: Trace, rows: Sequence[tuple[frozenset[int], int, str]]) -> str:
    return who(trace, {index for row in rows for index in row[0]}, sum(row[1] for row in rows))


def _failed(row: Syscall) -> bool:
    return not row.results.ok and bool(row.results.errors)


def _calls(trace: Trace, names: Sequence[str]) -> list[tuple[str, Syscall]]:
    """Rows of these calls that did not always fail, in the order of ABIs and names."""
    order = {abi: index for index, abi in enumerate(ABIS)}
    rows = [
        (name, row)
        for row in trace.syscalls
        if (name := name_for(row)) in names and name is not None and not _failed(row)
    ]
    return sorted(rows, key=lambda item: (names.index(item[0]), order.get(item[1].abi, len(order)), item[1].abi))


def _labelled(name: str, row: Syscall, trace: Trace) -> str:
    return (name if row.abi == trace.meta.arch else f"{row.abi}:{name}") + f" {reason(row, trace)}"


def user_namespaces(trace: Trace) -> tuple[str, ...]:
    """Why user namespaces may be made or joined; empty when none was asked for. Too many values to list may hold any
    flag."""
    return tuple(
        f"CLONE_NEWUSER in {_labelled(name, row, trace)}"
        + (" (any values: there were too many to list)" if row.arguments.overflow else "")
        for name, row in _calls(trace, NAMESPACE_CALLS)
        if row.arguments is not None
        and (row.arguments.overflow or any(value and value[0] & CLONE_NEWUSER for value in row.arguments.values))
    )


def io_uring(trace: Trace) -> tuple[str, ...]:
    """Why io_uring may be used; empty when no ring was made."""
    return tuple(_labelled(name, row, trace) for name, row in _calls(trace, ("io_uring_setup",)))


def processes(policy: Policy, trace: Trace, options: Options) -> Policy:
    """User namespaces and io_uring follow from syscalls; the rest needs a recording that watched files."""
    policy = replace(policy, user_namespaces=user_namespaces(trace), io_uring=io_uring(trace))
    if not trace.has_files:
        return policy
    return replace(
        policy, transitions=transitions(policy, trace), signals=signals(trace), inspections=inspections(trace)
    )
