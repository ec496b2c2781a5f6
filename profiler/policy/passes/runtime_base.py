"""What the container runtime itself calls under the profile before the workload starts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from profiler.errors import InputError
from profiler.kernel.arguments import spec_for
from profiler.kernel.runtimes import Base, base_for, starts
from profiler.kernel.syscalls import number_of
from profiler.policy.argument_rules import TooWide, rules_for
from profiler.policy.model import Allowed, Options, Policy
from profiler.policy.reasons import named, said
from profiler.trace.model import Trace


def _name(base: Base) -> str:
    """Return who needs a base set: ``runc``, whatever its version; the set's own name where no runtime does."""
    return base.id.split()[0].removesuffix("'s") if base.runtimes else base.id


def _entry(abi: str, name: str, bases: list[Base], filtered: bool) -> Allowed:
    because = (named("base", map(_name, bases)),)
    spec = spec_for(name, abi)
    entry = Allowed("base", abi, name, because)
    if spec is None or not filtered or any(name not in base.arguments for base in bases):
        return entry
    try:
        return replace(entry, rules=rules_for(spec, [row for base in bases for row in base.arguments[name]]))
    except TooWide as error:
        return replace(entry, because=(*because, said("widened", f"any arguments: {error}")))


def runtime_base(policy: Policy, trace: Trace, options: Options) -> Policy:
    """Add the base sets of the chosen runtime; if asked, the start of programs."""
    try:
        bases = base_for(options.runtime, options.runtime_version, policy.no_new_privs)
    except ValueError as error:
        raise InputError(str(error)) from error
    if options.start_up:
        bases += starts()
    return with_bases(policy, bases, filtered=options.arguments)


def with_bases(policy: Policy, bases: Iterable[Base], filtered: bool = True) -> Policy:
    """Add base sets for the native ABI (runtimes are native programs), in a section of their own. ``filtered``: with
    the values of arguments.

    A name that is refused with an error of its own is allowed again here: without it no container starts.
    """
    abi = policy.abis[0]
    names: dict[str, list[Base]] = {}
    for base in bases:
        for name in base.syscalls:
            if number_of(abi, name) is not None:
                names.setdefault(name, []).append(base)
    entries = tuple(_entry(abi, name, found, filtered) for name, found in sorted(names.items()))
    refused = tuple(row for row in policy.refused if row.name not in names)
    return replace(policy, syscalls=policy.syscalls + entries, refused=refused)
