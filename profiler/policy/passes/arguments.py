"""Argument filters from the values that were seen.

clone3 keeps its flags behind a pointer, where no filter can look. Unless a namespace or a cgroup was asked for through
it, it is answered ENOSYS and clone, which every libc falls back to, is allowed with the same flags.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from profiler.kernel.arguments import CLONE3_NAMESPACE_FLAGS, CLONE_INTO_CGROUP, render, spec_for
from profiler.kernel.equivalents import same_values
from profiler.policy.argument_rules import TooWide, is_widened, rules_for
from profiler.policy.evidence import name_for
from profiler.policy.model import Allowed, Options, Policy, Refused
from profiler.policy.reasons import Reason, joined, said
from profiler.trace.model import Arguments, Trace

Seen = dict[tuple[str, str], Arguments]

_NO_FLAGS = frozenset({"fork", "vfork"})


def _seen(trace: Trace) -> Seen:
    """Recorded arguments by (ABI, name); those that another version of profgen recorded otherwise are left out."""
    seen: Seen = {}
    for row in trace.syscalls:
        name = name_for(row)
        spec = spec_for(name, row.abi) if name else None
        if name and spec and row.arguments and row.arguments.fields == spec.fields:
            seen[row.abi, name] = row.arguments
    return seen


def _values(seen: Seen, abi: str, names: Iterable[str]) -> list[tuple[int, ...]] | None:
    """Values of several calls together; None when those of one were too many or were not recorded."""
    values: list[tuple[int, ...]] = []
    for name in names:
        if name in _NO_FLAGS:
            values.append((0,))
            continue
        arguments = seen.get((abi, name))
        if arguments is None or arguments.overflow or not arguments.values:
            return None
        values.extend(arguments.values)
    return values


def _filtered(entry: Allowed, values: list[tuple[int, ...]] | None, missing: str) -> Allowed:
    spec = spec_for(entry.name, entry.abi)
    if spec is None:
        return entry
    try:
        if values is None:
            raise TooWide(missing)
        rules = rules_for(spec, values)
    except TooWide as error:
        return replace(entry, because=(*entry.because, said("widened", f"any arguments: {error}")))
    because = entry.because
    if len(spec.fields) > 1 and is_widened(spec, rules) and spec.fields[0] != "domain":
        left = sorted({condition.field for rule in rules for condition in rule.conditions})
        because = (*because, said("widened", f"too many values: only {', '.join(left)} is compared"))
    return replace(entry, rules=rules, because=because)


def _with_stand_ins(entry: Allowed, values: list[tuple[int, ...]]) -> tuple[Allowed, list[tuple[int, ...]]]:
    """The values with those that stand in for one of them elsewhere, and the entry with the reasons."""
    spec = spec_for(entry.name, entry.abi)
    if spec is None or len(spec.fields) != 1:
        return entry, values
    known = {row[0] for row in values}
    added: dict[int, Reason] = {}
    for value in sorted(known):
        same, why = same_values(entry.name, spec.fields[0], value)
        for other in sorted(same - known):
            names = [render(entry.name, spec.fields[0], number) for number in (other, value)]
            added.setdefault(other, said("equivalent", f"{names[0]} for {names[1]} ({why})"))
    return replace(entry, because=(*entry.because, *added.values())), [*values, *((value,) for value in added)]


def _without_clone3(policy: Policy, seen: Seen) -> Policy:
    """Answer clone3 with ENOSYS where clone can do the same, and allow clone there."""
    entries = list(policy.syscalls)
    refusals: list[str] = []
    stays: dict[int, Allowed] = {}
    for index, entry in enumerate(entries):
        if entry.name != "clone3" or entry.section != "observed":
            continue
        arguments = seen.get((entry.abi, "clone3"))
        values = None if arguments is None or arguments.overflow else [row[0] for row in arguments.values]
        if not values:
            why = "its flags were not recorded"
        elif any(value & CLONE3_NAMESPACE_FLAGS for value in values):
            why = "a namespace was made through it"
        elif any(value & CLONE_INTO_CGROUP for value in values):
            why = "a process was put into a cgroup through it"
        else:
            refusals.append(entry.abi)
            continue
        stays[index] = replace(
            entry, because=(*entry.because, said("widened", f"any flags, which cannot be filtered: {why}"))
        )
    if stays or not refusals:
        # A profile works by name for all ABIs at once: one ABI that needs clone3 keeps it for all.
        return replace(policy, syscalls=tuple(stays.get(index, entry) for index, entry in enumerate(entries)))
    reasons = joined(entry.because for entry in entries if entry.name == "clone3")
    stands_in = said("equivalent", "for clone3, whose flags cannot be filtered")
    kept = [entry for entry in entries if entry.name != "clone3"]
    for abi in refusals:
        if not any(entry.abi == abi and entry.name == "clone" for entry in kept):
            kept.append(Allowed("equivalent", abi, "clone", (stands_in,), stands_for=("clone3",)))
        else:
            kept = [
                replace(
                    entry,
                    because=(*entry.because, stands_in),
                    stands_for=(*entry.stands_for, "clone3"),
                )
                if entry.abi == abi and entry.name == "clone"
                else entry
                for entry in kept
            ]
    because = said("fallback", "its flags cannot be filtered, and libc falls back to clone")
    refused = Refused("clone3", "ENOSYS", (*reasons, because))
    return replace(policy, syscalls=tuple(kept), refused=(*policy.refused, refused))


def arguments(policy: Policy, trace: Trace, options: Options) -> Policy:
    """Give observed and equivalent entries the rules that the values seen call for."""
    seen = _seen(trace)
    policy = _without_clone3(policy, seen)
    entries = []
    for entry in policy.syscalls:
        if entry.section == "base" or entry.name == "clone3" or spec_for(entry.name, entry.abi) is None:
            entries.append(entry)
            continue
        own = (entry.name,) if entry.section == "observed" else ()
        origins = [name for name in entry.stands_for if name in _NO_FLAGS or spec_for(name, entry.abi) is not None]
        values = _values(seen, entry.abi, (*own, *origins))
        found = seen.get((entry.abi, entry.name))
        if options.equivalents and values is not None:
            entry, values = _with_stand_ins(entry, values)
        missing = (
            "too many different values were seen" if found and found.overflow else "no argument values were recorded"
        )
        entries.append(_filtered(entry, values, missing))
    return replace(policy, syscalls=tuple(entries))
