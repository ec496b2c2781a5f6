"""Additions for what seccomp refused, and for capabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from profiler.denials import dangers
from profiler.denials.additions import Addition, Case, Danger, State, because, grouped
from profiler.denials.model import Denial
from profiler.kernel.abi import ABIS
from profiler.kernel.arguments import spec_for
from profiler.kernel.capabilities import number_of as capability_number
from profiler.policy.argument_rules import TooWide, rules_for
from profiler.policy.evidence import OVERRIDE, SEARCH
from profiler.policy.model import Allowed, Capability, Policy, Rule
from profiler.policy.reasons import Reasons, joined, said

_RECORD_AGAIN = "record or verify that path of the workload, which tells the arguments, and merge"


def syscalls(state: State, denials: Sequence[Denial]) -> None:
    policy = state.policy
    native = policy.abis[0]
    refused = {row.name: row.errno for row in policy.refused}
    for rows in grouped(denials, lambda denial: (denial.abi, denial.number, denial.name)):
        abi, name = rows[0].abi or "", rows[0].name
        label = rows[0].label if abi != native or name is None else name
        what = f"syscall {label}"
        if abi not in ABIS:
            state.leave(what, f"profgen does not know the ABI {abi}", rows)
            continue
        if name is None:
            state.leave(what, "it has no name, and profiles work by names", rows)
            continue
        if name in refused:
            state.leave(what, f"answered {refused[name]} on purpose: the policy lists it under `refused`", rows)
            continue
        entries = [entry for entry in policy.syscalls if (entry.abi, entry.name) == (abi, name)]
        known = [row for row in rows if row.arguments is not None]
        if any(not entry.rules for entry in entries):
            state.leave(
                what,
                "the policy allows it: the profile in force was made from another, or another filter refused it",
                rows,
            )
            continue
        if known and len(known) == len(rows):
            known = [row for row in known if row.arguments and not policy.permits(abi, name, row.arguments)]
            if not known:
                state.leave(
                    what, "the policy allows it with these arguments: the profile in force was made from another", rows
                )
                continue
            rows = known
        _syscall(state, abi, name, label, rows, bool(entries))


def _rules(abi: str, name: str, denials: Sequence[Denial]) -> tuple[Rule, ...]:
    """Rules for the arguments of these denials. Raises TooWide when there can be none."""
    spec = spec_for(name, abi)
    if spec is None:
        raise TooWide("it has no arguments that are filtered")
    values = []
    for denial in denials:
        if denial.arguments is None:
            raise TooWide("the log does not tell which were refused")
        values.append(tuple(denial.arguments[at] & mask for at, mask in zip(spec.positions, spec.masks, strict=True)))
    return rules_for(spec, values)


def _syscall(state: State, abi: str, name: str, label: str, rows: Sequence[Denial], filtered: bool) -> None:
    new_abi = abi not in state.policy.abis
    assumed: Reasons = ()
    found: list[Danger] = (
        [Danger(f"abi:{abi}", f"the policy has no calls of {abi}: {dangers.of_abi()}")] if new_abi else []
    )
    notes: list[str] = []
    choices: list[str] = []
    try:
        rules = _rules(abi, name, rows)
        what = f"allow {label} with the arguments that were refused"
    except TooWide as error:
        rules = ()
        what = f"allow {label}"
        spec = spec_for(name, abi)
        if filtered:
            what += " with any arguments"
            found.append(
                Danger(label, f"the policy allows it with some arguments only, and {error}: this would allow any")
            )
            choices.append(_RECORD_AGAIN)
        elif spec is not None and spec.compares == ("namespaces",) and not spec.pointer:
            # For a thread or a process: what all but container runtimes and sandboxes call it for.
            rules = rules_for(spec, [(0,)])
            assumed = (said("assumed", "no new namespaces: the arguments that were denied are not known"),)
            what += " without new namespaces"
            notes.append(
                "without new namespaces: the record has no arguments; if it is refused again, it wants one, "
                "and is dangerous"
            )
        elif spec is not None:
            notes.append("with any arguments: the kernel's record of a refused call has none")
    known = [row.arguments for row in rows if row.arguments is not None]
    arguments: list[tuple[int, ...] | None] = list(known) if rules else [None]
    for one in arguments:
        risk = dangers.of_syscall(name, one)
        found += [Danger(label, why) for why in (*risk.always, *risk.sometimes)]
        if risk.warnings:
            notes.append(f"dangerous with some arguments: {'; '.join(risk.warnings)}")
        if risk.sometimes and _RECORD_AGAIN not in choices:
            choices.append(_RECORD_AGAIN)

    def change(policy: Policy, reasons: Reasons) -> Policy:
        if not rules:
            notes: Reasons = ()
            if spec_for(name, abi) is not None:
                notes = (said("widened", "any arguments: those that were denied are not known"),)
            rest = tuple(entry for entry in policy.syscalls if (entry.abi, entry.name) != (abi, name))
            old = [entry.because for entry in policy.syscalls if (entry.abi, entry.name) == (abi, name)]
            entry = Allowed("observed", abi, name, joined([*old, reasons, notes]))
            policy = replace(policy, syscalls=(*rest, entry))
        else:
            policy = _with_rules(policy, abi, name, rules, (*reasons, *assumed))
        return policy if abi in policy.abis else replace(policy, abis=(*policy.abis, abi))

    addition = Addition(
        "syscalls.observed",
        label,
        what,
        because(rows),
        tuple(rows),
        tuple(dict.fromkeys(notes)),
        tuple(dict.fromkeys(found)),
        tuple(choices),
    )
    state.cases.append(Case(addition, change))


def _with_rules(policy: Policy, abi: str, name: str, rules: tuple[Rule, ...], reasons: Reasons) -> Policy:
    entries = list(policy.syscalls)
    for index, entry in enumerate(entries):
        if (entry.abi, entry.name, entry.section) == (abi, name, "observed"):
            entries[index] = replace(
                entry, rules=tuple(sorted({*entry.rules, *rules})), because=joined([entry.because, reasons])
            )
            return replace(policy, syscalls=tuple(entries))
    return replace(policy, syscalls=(*entries, Allowed("observed", abi, name, reasons, rules=rules)))


# --- capabilities


def capabilities(state: State, denials: Sequence[Denial]) -> None:
    needed = {row.name for row in state.policy.capabilities}
    asked = {denial.capability for denial in denials}
    for rows in grouped(denials, lambda denial: (denial.capability,)):
        name = rows[0].capability or ""
        if name in needed:
            state.leave(
                name,
                "the policy grants it: the profile in force was made from another, or the process does not hold it",
                rows,
            )
            continue
        if capability_number(name) is None:
            state.leave(name, "profgen does not know this capability", rows)
            continue
        if name == SEARCH and (OVERRIDE in needed or OVERRIDE in asked):
            state.leave(name, f"asked for first; {OVERRIDE}, which allows the same, is granted or proposed", rows)
            continue

        def change(policy: Policy, reasons: Reasons, name: str = name) -> Policy:
            return replace(policy, capabilities=(*policy.capabilities, Capability(name, reasons)))

        found = tuple(Danger(name, why) for why in dangers.of_capability(name))
        state.cases.append(
            Case(
                Addition("capabilities", name, f"grant {name}", because(rows), tuple(rows), dangers=found),
                change,
            )
        )
