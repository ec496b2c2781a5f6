"""The Policy: what is allowed and why, independent of any container system.

Every class is frozen. ``because`` holds the reasons of an entry (profiler/policy/reasons.py); an entry that a person
wrote may have none. Evidence (counts, times, paths that were only looked for) stays in the trace. ``policy.yaml``
(profiler/policy/document.py) is the same shape as a file; docs/policy.md describes it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from profiler.kernel.arguments import INT
from profiler.kernel.capabilities import number_of
from profiler.kernel.multiplexers import IMPLIED, IMPLIED_ABI, implied
from profiler.policy.reasons import Reasons
from profiler.trace.model import ContainerMount

SCHEMA = "profgen.policy/1"

SECTIONS = ("observed", "equivalent", "companion", "base")
"""Why a syscall is allowed: it was seen; it stands in for one that was; it is harmless and comes by timing; the
container runtime needs it."""

OUTCOMES = ("needed", "refused", "missing", "child_namespace", "checked")
"""What became of a capability or a path in a recording, the strongest first. ``needed``: it settled a call or was used,
and is granted. ``refused``: the kernel refused it. ``missing``: the path was never there. ``child_namespace``: the
capability was used only in a user namespace that the workload made. ``checked``: the check settled nothing."""

RULE_BUDGET = 64
"""Argument rules for one syscall; past it a filter is widened (profiler/policy/passes/arguments.py)."""


GENERALISE_THRESHOLD = 10
"""Names of a directory, used alike, before one rule stands for them (profiler/policy/passes/generalise.py)."""


def strongest(outcomes: Iterable[str]) -> str:
    """Return the outcome that decides when one thing had several."""
    return min(outcomes, key=OUTCOMES.index)


def capability_order(name: str) -> tuple[int, str]:
    """Sort key: the kernel's order, unknown ones last."""
    number = number_of(name)
    return (1000 if number is None else number, name)


@dataclass(frozen=True, order=True)
class Condition:
    """True when ``argument[position] & mask == value``. Arguments are unsigned 64-bit registers (seccomp(2))."""

    field: str
    position: int
    mask: int
    value: int

    def holds(self, arguments: Sequence[int]) -> bool:
        """Whether it holds for the six registers of a call."""
        return arguments[self.position] & self.mask == self.value


@dataclass(frozen=True, order=True)
class Rule:
    """Conditions that must all hold, on different argument positions, in order of their positions."""

    conditions: tuple[Condition, ...]

    def holds(self, arguments: Sequence[int]) -> bool:
        """Whether all conditions hold for the six registers of a call."""
        return all(condition.holds(arguments) for condition in self.conditions)


@dataclass(frozen=True)
class Allowed:
    """A syscall that may be called: with any arguments when ``rules`` is empty, else when one of the rules holds.

    ``stands_for`` names the observed syscalls that an ``equivalent`` stands in for (empty: always added).
    """

    section: str
    abi: str
    name: str
    because: Reasons = ()
    rules: tuple[Rule, ...] = ()
    stands_for: tuple[str, ...] = ()

    @property
    def never_succeeded(self) -> bool:
        """Whether it was seen, and only ever failed."""
        return any(reason.kind == "failed" for reason in self.because)

    def permits(self, arguments: Sequence[int]) -> bool:
        """Whether this entry allows a call with these six registers."""
        return not self.rules or any(rule.holds(arguments) for rule in self.rules)


@dataclass(frozen=True)
class Refused:
    """A syscall answered with an error of its own instead of the profile's default. ``errno`` is a name."""

    name: str
    errno: str
    because: Reasons = ()


@dataclass(frozen=True)
class Unknown:
    """A syscall number without a name: it cannot be written in a profile that works by names."""

    abi: str
    number: int
    because: Reasons = ()


@dataclass(frozen=True)
class Capability:
    """A capability that the workload needs."""

    name: str
    because: Reasons = ()


@dataclass(frozen=True)
class FileRule:
    """Uses of one path, or of all paths that fit a pattern (profiler/policy/patterns.py says how it is written).

    ``access`` holds words of FILE_ACCESSES (profiler/trace/model.py), in that order, without ``look``. ``owner``: only
    for files that the process itself owns (its fsuid). ``programs``: patterns of the paths of the programs that use it,
    as in Transition; empty: any. ``whose``: of paths below /proc/{pid}.
    """

    pattern: str
    access: tuple[str, ...]
    kinds: tuple[str, ...] = ("file",)
    because: Reasons = ()
    owner: bool = False
    programs: tuple[str, ...] = ()
    existing: tuple[str, ...] = ()
    """Of ``link``: patterns of the files that got another name."""
    states: tuple[str, ...] = ("linked",)
    """FILE_STATES of the trace."""
    whose: tuple[str, ...] = ()


@dataclass(frozen=True)
class Transition:
    """``program`` (a path pattern) is executed by ``by`` (a path pattern; None: the workload's start)."""

    program: str
    by: str | None
    because: Reasons = ()


@dataclass(frozen=True)
class SocketRule:
    """Sockets of one sort. ``addresses``: of unix sockets, patterns of paths or ``@name`` of the abstract namespace
    (written as patterns).

    ``ports`` maps bind, connect and send to the ports seen, sorted; empty where there were none.
    """

    family: str
    type: str
    protocol: int
    operations: tuple[str, ...]
    because: Reasons = ()
    ports: tuple[tuple[str, tuple[int, ...]], ...] = ()
    addresses: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Operation to addresses."""


@dataclass(frozen=True)
class SignalRule:
    """A signal that is sent. ``signal`` and ``whom`` as in the trace."""

    signal: str
    whom: str
    because: Reasons = ()


@dataclass(frozen=True)
class InspectionRule:
    """Another process is traced (``trace``, ``traceme``) or read (``read``)."""

    operation: str
    whom: str
    because: Reasons = ()


@dataclass(frozen=True)
class MountRule:
    """A change of the mount tree, as in the trace; ``source``, ``target`` and ``filesystem`` are written as
    patterns."""

    operation: str
    source: str | None
    target: str | None
    filesystem: str | None
    flags: tuple[str, ...]
    because: Reasons = ()


@dataclass(frozen=True)
class Variable:
    """A name for where something of the deployment is mounted: a volume, a directory of the host. ``paths``: absolute,
    sorted, not ``/``; any of them may be the place.

    Rules name paths as they are. Only their text is written with variables, as ``{@name}/x``
    (profiler/policy/variables.py).
    """

    name: str
    paths: tuple[str, ...]
    because: Reasons = ()


@dataclass(frozen=True)
class Launch:
    """How the workload was started, for launchers: nothing in it is a right. None or empty: not known, or not needed.

    ``engine``: docker, podman, nerdctl, ctr, kubernetes or systemd. ``pod``: NAMESPACE/WORKLOAD in Kubernetes, and
    ``container`` the name of the container in its pods. ``unit``: the unit of systemd. ``user`` is as given to the
    engine, ``network`` host or none. ``gid``: the group that the workload had, where ``user`` has no number of it.
    ``tasks``: a limit of threads and processes that are alive at once.
    ``command``: the workload's argv, where its words cannot be printed on one line. ``ports``: ``80/tcp``, as the
    container exposes them. ``read_only``: the root of the container could not be written.
    """

    engine: str | None = None
    pod: str | None = None
    container: str | None = None
    user: str | None = None
    directory: str | None = None
    network: str | None = None
    command: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    mounts: tuple[ContainerMount, ...] = ()
    read_only: bool = False
    gid: int | None = None
    tasks: int | None = None
    unit: str | None = None


@dataclass(frozen=True)
class Workload:
    """What the policy was made from. ``incomplete``: a recording lost something. ``denials_only``: no recording is
    behind it, only denials. ``image`` names the container image
    that it ran in, ``digest`` its content, where they are known. ``joined``: programs that ran already when the
    recording began.
    """

    argv: tuple[str, ...]
    uid: int
    incomplete: bool = False
    image: str | None = None
    digest: str | None = None
    joined: tuple[str, ...] = ()
    denials_only: bool = False
    launch: Launch = Launch()

    @property
    def title(self) -> str:
        """The program's name, and the image's; empty when neither is known."""
        return " in ".join(word for word in (os.path.basename(self.argv[0]) if self.argv else "", self._image) if word)

    @property
    def _image(self) -> str:
        """The image's name, which releases share: without registry, tag and digest."""
        return re.sub(r"[@:].*", "", (self.image or "").rsplit("/", 1)[-1])

    def is_other(self, workload: Workload) -> bool:
        """Whether the image is another one or, where one of them has none, the program is. Releases are alike."""
        if self._image and workload._image:
            return self._image != workload._image
        programs = {os.path.basename(each.argv[0]) for each in (self, workload) if each.argv}
        return len(programs) > 1


@dataclass(frozen=True)
class Policy:
    """What is allowed. ``abis`` starts with the native one and names others only when they were seen.

    ``runtime`` says in words for which container runtime the base was added.
    """

    workload: Workload
    abis: tuple[str, ...]
    no_new_privs: bool
    runtime: str
    syscalls: tuple[Allowed, ...] = ()
    refused: tuple[Refused, ...] = ()
    unknown: tuple[Unknown, ...] = ()
    capabilities: tuple[Capability, ...] = ()
    has_files: bool = False
    """Whether the recording watched files, sockets, signals, inspections and mounts: without, no rules for them can be
    written."""
    variables: tuple[Variable, ...] = ()
    """Sorted by name."""
    files: tuple[FileRule, ...] = ()
    transitions: tuple[Transition, ...] = ()
    sockets: tuple[SocketRule, ...] = ()
    signals: tuple[SignalRule, ...] = ()
    inspections: tuple[InspectionRule, ...] = ()
    mounts: tuple[MountRule, ...] = ()
    user_namespaces: Reasons = ()
    """Why user namespaces may be made; empty: they may not."""
    io_uring: Reasons = ()
    """Why io_uring may be used; empty: it may not. Its operations pass by seccomp and by what a recording sees of
    files."""

    def entries(self, section: str) -> tuple[Allowed, ...]:
        """Entries of one section, native ABI first, then by name."""
        order = {abi: index for index, abi in enumerate(self.abis)}
        rows = (entry for entry in self.syscalls if entry.section == section)
        return tuple(sorted(rows, key=lambda entry: (order.get(entry.abi, len(order)), entry.abi, entry.name)))

    def needed(self) -> tuple[str, ...]:
        """Names of the capabilities the workload needs, in the kernel's order. Numbers without a name are left out."""
        names = (row.name for row in self.capabilities if number_of(row.name) is not None)
        return tuple(sorted(names, key=capability_order))

    @property
    def programs(self) -> tuple[str, ...]:
        """Patterns of the programs in its executions, sorted."""
        return tuple(sorted({name for row in self.transitions for name in (row.program, row.by) if name is not None}))

    def permits(self, abi: str, name: str, arguments: Sequence[int]) -> bool:
        """Whether a call is allowed, as this ABI makes it, with these six registers."""
        entries = (*self.syscalls, *self.implied)
        return any(entry.abi == abi and entry.name == name and entry.permits(arguments) for entry in entries)

    @cached_property
    def implied(self) -> tuple[Allowed, ...]:
        """Entries for multiplexers that every profile of this policy allows, because libseccomp adds them
        (profiler.kernel.multiplexers.implied): only where the multiplexer is in the policy, as profiles refuse it
        otherwise."""
        filtered = {entry.name for entry in self.syscalls if entry.abi == IMPLIED_ABI and entry.name in IMPLIED}
        found = ((entry, implied(entry.name)) for entry in self.syscalls if filtered)
        return tuple(
            replace(entry, abi=IMPLIED_ABI, name=made[0], rules=_on_multiplexer(entry.rules, made[1]), stands_for=())
            for entry, made in found
            if made is not None and made[0] in filtered
        )


def _on_multiplexer(rules: tuple[Rule, ...], call: int) -> tuple[Rule, ...]:
    """Return what libseccomp makes of rules for a multiplexer of a 32-bit ABI: the call's number comes first, and only
    the lower halves of the other values are compared."""
    first = Condition("call", 0, INT, call)
    kept = (tuple(one for one in rule.conditions if one.position and one.mask & INT) for rule in rules or (Rule(()),))
    return tuple(
        Rule((first, *(replace(one, mask=one.mask & INT, value=one.value & INT) for one in conditions)))
        for conditions in kept
    )


@dataclass(frozen=True)
class Options:
    """How a trace becomes a policy (the options of ``generate``). ``runtime``: any, none, or a name;
    ``runtime_version`` is that of the OCI runtime beneath it. ``generalise_threshold``: distinct names used alike in
    one directory before one rule stands for them. ``start_up``: what programs call before their own code runs is
    allowed, for recordings that joined them later. ``no_new_privs``: None sets it unless a program gained privileges by
    its file while it was recorded.
    """

    runtime: str = "any"
    runtime_version: str | None = None
    no_new_privs: bool | None = None
    equivalents: bool = True
    companions: bool = True
    arguments: bool = True
    drop_failing: bool = False
    generalise: bool = True
    generalise_threshold: int = GENERALISE_THRESHOLD
    start_up: bool = False
