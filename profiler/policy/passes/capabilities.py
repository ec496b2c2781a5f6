"""Which capabilities the workload needs, and what became of the others it was asked for."""

from __future__ import annotations

from dataclasses import replace

from profiler.policy.model import Capability, Options, Policy
from profiler.policy.passes.observed import count, seen_in
from profiler.quoting.text import printable
from profiler.trace.model import Capability as Check
from profiler.trace.model import Trace

SEARCH, OVERRIDE = "CAP_DAC_READ_SEARCH", "CAP_DAC_OVERRIDE"
COVERED = f"{OVERRIDE}, needed as well, allows the same"

SYSCALLS_NAMED = 4
PROGRAMS_NAMED = 3


def use_of(check: Check) -> str:
    """Needed: granted, against the namespace the workload started in, where the answer changes the outcome.

    Whether the kernel would have audited a refusal plays no part: some silent checks refuse.
    """
    if check.namespace == "child":
        return "child_namespace"
    if not check.decisive:
        return "checked"
    return "needed" if check.verdict == "granted" else "refused"


def _because(check: Check, trace: Trace) -> str:
    calls = sorted(check.syscalls.items(), key=lambda item: (-item[1], item[0]))
    text = ", ".join(name for name, _ in calls[:SYSCALLS_NAMED])
    if len(calls) > SYSCALLS_NAMED:
        text += f" and {len(calls) - SYSCALLS_NAMED} more"
    names = sorted(
        {printable(trace.programs[index].name) for index in check.programs if 0 <= index < len(trace.programs)}
    )
    who = ", ".join(names[:PROGRAMS_NAMED]) + (
        f" and {len(names) - PROGRAMS_NAMED} more" if len(names) > PROGRAMS_NAMED else ""
    )
    verb = "inferred" if check.inferred else "checked"
    outcome = "" if check.verdict == "granted" else ", refused"
    times = f"{count(check.count)} time{'' if check.count == 1 else 's'}"
    return f"{verb} {times} in {text or 'no syscall'} by {who or 'an unknown program'}{outcome}"


def capabilities(policy: Policy, trace: Trace, options: Options) -> Policy:
    """One entry per capability, with its strongest use; reasons of all the checks behind that use."""
    order = ("needed", "refused", "child_namespace", "checked")
    found: dict[str, dict[str, list[Check]]] = {}
    for check in trace.capabilities:
        found.setdefault(check.capability, {}).setdefault(use_of(check), []).append(check)
    rows = []
    for name in sorted(found):
        use = next(word for word in order if word in found[name])
        checks = found[name][use]
        reasons = tuple(dict.fromkeys(_because(check, trace) for check in checks))
        inferred = all(check.inferred for check in checks)
        rows.append(Capability(name, use, reasons, inferred, seen_in(trace, (check.runs for check in checks))))
    search = found.get(SEARCH, {}).get("needed", [])
    if OVERRIDE in found and "needed" in found[OVERRIDE] and all(map(_covered, search)):
        rows = [
            replace(row, use="checked", because=(*row.because, COVERED)) if row.name == SEARCH and search else row
            for row in rows
        ]
    return replace(policy, capabilities=tuple(rows))


def _covered(check: Check) -> bool:
    """Whether CAP_DAC_OVERRIDE would have done: fs/namei.c generic_permission asks for it next. open_by_handle_at(2)
    does not."""
    return not any(call.rpartition(":")[2] == "open_by_handle_at" for call in check.syscalls)
