"""Rights: what a trace needs, or what a policy or a profile allows, in one shape for all of them.

A trace is read as the policy it would give with nothing added: no equivalents or companions, no runtime's own calls
(profiler/policy/derive.py). Its raw rows would not do: which values of an argument make a difference, what clone stands
in for, which capability was needed rather than asked for, all that is settled by the passes, and two recordings of one
application differ before them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from profiler.kernel.arguments import INT, NAMESPACE_FLAGS, render, spec_for
from profiler.policy.caveats import caveats
from profiler.policy.derive import derive
from profiler.policy.evidence import Coverage, needed_at_a_check
from profiler.policy.model import (
    FileRule,
    InspectionRule,
    MountRule,
    Options,
    Policy,
    Rule,
    SignalRule,
    SocketRule,
    Transition,
    Variable,
)
from profiler.policy.passes.files import files as literal_files
from profiler.policy.passes.variables import variables
from profiler.policy.reasons import Reasons, joined, programs_of, sentences
from profiler.review.cubes import EVERYTHING, REGISTER, Cubes, crossed, masked
from profiler.trace.caveats import lost
from profiler.trace.model import Trace

KINDS: Mapping[str, str] = {
    "trace": "trace",
    "policy": "policy",
    "seccomp": "seccomp profile",
    "oci": "OCI configuration",
    "spo": "SeccompProfile",
}
"""What can be read, and the word for people."""


ANYTHING_TEXT = "any arguments"


@dataclass(frozen=True)
class Alternative:
    """Arguments that are allowed, as cubes and in words."""

    cubes: Cubes
    text: str


@dataclass(frozen=True)
class Allowance:
    """For one syscall: allowed when an alternative holds; refused when there are none.

    ``exact`` is False where the alternatives would be too many to write down; they then hold more than is allowed.
    """

    alternatives: tuple[Alternative, ...] = ()
    exact: bool = True

    @cached_property
    def cubes(self) -> Cubes:
        """All alternatives in one."""
        return tuple(dict.fromkeys(cube for alternative in self.alternatives for cube in alternative.cubes))

    @property
    def refused(self) -> bool:
        """Whether no arguments at all are allowed."""
        return not any(alternative.cubes for alternative in self.alternatives)

    @property
    def unconditional(self) -> bool:
        """Whether any arguments are allowed, as the file says it (not by adding up alternatives)."""
        return EVERYTHING in self.cubes

    @property
    def texts(self) -> tuple[str, ...]:
        """The alternatives in words."""
        return tuple(dict.fromkeys(alternative.text for alternative in self.alternatives))


REFUSED = Allowance()
ANYTHING = Allowance((Alternative((EVERYTHING,), ANYTHING_TEXT),))


@dataclass(frozen=True)
class Reason:
    """Why something is allowed, and the programs that used it (names or paths, as the file has them)."""

    because: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Test:
    """One condition as a profile writes it: ``operator`` is one of cubes.OPERATORS; of MASKED_EQ ``value`` is the
    mask."""

    position: int
    operator: str
    value: int
    value_two: int = 0

    @property
    def pinned(self) -> int | None:
        """The value, when the condition leaves one only, in the lower half at least."""
        if self.operator == "EQ":
            return self.value
        return self.value_two & self.value if self.operator == "MASKED_EQ" and self.value & 0xF else None


@dataclass(frozen=True)
class Row:
    """One rule of a seccomp profile as it is written. ``action`` is without SCMP_ACT_ (KILL_THREAD for KILL); ``errno``
    is None when it gives none, which means EPERM. ``applies``: Docker's conditions let it count on this machine.
    ``conditional``: it has such conditions."""

    where: str
    names: tuple[str, ...]
    action: str
    errno: int | None
    tests: tuple[Test, ...]
    applies: bool = True
    conditional: bool = False

    @property
    def allows(self) -> bool:
        """Whether the call is let through."""
        return self.action in ("ALLOW", "LOG", "NOTIFY")


@dataclass(frozen=True)
class Problem:
    """What a reader of a profile noticed, for lint: a finding of ``rule`` (profiler/review/lint.py)."""

    rule: str
    where: str
    what: str
    fix: str


@dataclass(frozen=True)
class Written:
    """A seccomp profile as it is written. ``architectures`` is empty when it lists none. ``arch_map``: it has one of
    Docker's."""

    default: str
    default_errno: int
    architectures: tuple[str, ...]
    arch_map: bool
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Manifest:
    """What a SeccompProfile says next to its rules: its name, that of its base profile (empty without one), and in how
    many recordings each syscall was seen."""

    name: str
    base: str
    coverage: Coverage | None


@dataclass(frozen=True)
class Rights:
    """What is needed or allowed. Members that are None: the file says nothing of them, so nothing can be said of a
    change.

    ``source`` is the name for people, ``kind`` one of KINDS, ``native`` the ABI of the machine it is for. ``abis``, the
    native one first, are those whose calls reach the rules at all; calls of others are refused. ``syscalls`` is keyed
    by (ABI, name), in the order of the file; ``default`` holds for the rest: ``refuse``, ``allow``, or ``log``, which
    allows it and says so in the audit log. ``reasons`` is keyed by ("syscall", ABI, name) or ("capability", name).
    ``shadowed``: capabilities that were needed too, but that another one that is granted covers. ``files`` are rules
    that may be patterns; ``needs`` the literal ones behind them, where they are known (traces).
    """

    source: str
    kind: str
    native: str
    abis: tuple[str, ...]
    default: str
    syscalls: Mapping[tuple[str, str], Allowance]
    capabilities: frozenset[str] | None = None
    reasons: Mapping[tuple[str, ...], Reason] = field(default_factory=dict)
    shadowed: frozenset[str] = frozenset()
    no_new_privs: bool | None = None
    files: tuple[FileRule, ...] | None = None
    needs: tuple[FileRule, ...] | None = None
    transitions: tuple[Transition, ...] | None = None
    sockets: tuple[SocketRule, ...] | None = None
    signals: tuple[SignalRule, ...] | None = None
    inspections: tuple[InspectionRule, ...] | None = None
    mounts: tuple[MountRule, ...] | None = None
    variables: tuple[Variable, ...] = ()
    """Where volumes and directories of the host are mounted."""
    user_namespaces: tuple[str, ...] | None = None
    io_uring: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    """What the reader of a comparison should know of this file."""
    written: Written | None = None
    """Of a seccomp profile: itself."""
    problems: tuple[Problem, ...] = ()
    """What lint should say of the file."""
    manifest: Manifest | None = None
    """Of a SeccompProfile: what it says next to its rules."""

    def allowance(self, abi: str, name: str) -> Allowance:
        """What is allowed of a call."""
        if abi not in self.abis:
            return REFUSED
        found = self.syscalls.get((abi, name))
        if found is not None:
            return found
        return REFUSED if self.default == "refuse" else ANYTHING

    def reason(self, *key: str) -> Reason:
        """Why it is allowed; empty where the file does not say."""
        return self.reasons.get(key, Reason())


# Conditions in words.

_WORDS = {"EQ": "{}", "NE": "not {}", "LT": "below {}", "LE": "up to {}", "GT": "above {}", "GE": "from {}"}


def tests_of(rule: Rule) -> tuple[Test, ...]:
    """The conditions of a policy's rule."""
    return tuple(
        Test(condition.position, "MASKED_EQ", condition.mask, condition.value) for condition in rule.conditions
    )


def in_words(name: str, abi: str, tests: Sequence[Test]) -> str:
    """``domain AF_INET, type SOCK_STREAM``: conditions that must all hold."""
    spec = spec_for(name, abi)
    positions = spec.positions if spec and not spec.pointer else ()
    pinned = {test.position: test.pinned for test in tests}
    first = pinned.get(positions[0]) if positions else None
    context = () if first is None else (first,)
    parts = []
    for test in tests:
        if spec and test.position in positions:
            index = positions.index(test.position)
            parts.append(
                _test_text(test, name, spec.fields[index], spec.compared[index], spec.compares[index], context)
            )
        else:
            parts.append(_test_text(test, name, f"argument {test.position}", REGISTER, "exact", ()))
    return ", ".join(parts) or ANYTHING_TEXT


def _test_text(test: Test, name: str, label: str, full: int, compare: str, context: Sequence[int]) -> str:
    def value(number: int) -> str:
        return render(name, label, number, context)

    if test.operator != "MASKED_EQ":
        return f"{label} {_WORDS[test.operator].format(value(test.value))}"
    mask, wanted = test.value, test.value_two & test.value
    if compare == "subset" and wanted == 0 and mask & full == full:
        return f"no {label}"
    if mask in (full, INT, REGISTER):
        return f"{label} {value(wanted)}"
    if wanted == 0:
        if mask == NAMESPACE_FLAGS and compare in ("namespaces", "subset"):
            return f"{label} without new namespaces"
        if compare == "subset" and mask & ~full == 0:
            return f"{label} only {value(full & ~mask)}"
        return f"{label} without {value(mask)}"
    return f"{label} & {mask:#x} = {wanted:#x}"


def alternative_of(name: str, abi: str, rule: Rule) -> Alternative:
    """A policy's rule."""
    cubes = crossed(masked(condition.position, condition.mask, condition.value) for condition in rule.conditions)
    return Alternative(cubes, in_words(name, abi, tests_of(rule)))


def together(parts: Iterable[Allowance]) -> Allowance:
    """Everything that one of them allows."""
    listed = list(parts)
    if any(part.unconditional for part in listed):
        return ANYTHING
    alternatives = dict.fromkeys(alternative for part in listed for alternative in part.alternatives)
    return Allowance(tuple(alternatives), all(part.exact for part in listed))


# Policies and traces.


def reason_of(because: Reasons) -> Reason:
    """Return the reasons of an entry for people."""
    return Reason(sentences(because), programs_of(because))


def of_policy(policy: Policy, source: str, kind: str = "policy") -> Rights:
    """What a policy allows."""
    parts: dict[tuple[str, str], list[Allowance]] = {}
    because: dict[tuple[str, str], list[Reasons]] = {}
    for entry in (*policy.syscalls, *policy.implied):
        key = (entry.abi, entry.name)
        allowed = (
            Allowance(tuple(alternative_of(entry.name, entry.abi, rule) for rule in entry.rules))
            if entry.rules
            else ANYTHING
        )
        parts.setdefault(key, []).append(allowed)
        because.setdefault(key, []).append(entry.because)
    reasons: dict[tuple[str, ...], Reason] = {
        ("syscall", *key): reason_of(joined(lists) if len(lists) > 1 else lists[0]) for key, lists in because.items()
    }
    reasons |= {("capability", row.name): reason_of(row.because) for row in policy.capabilities}
    notes = [f"{source}: {caveat.what}" for caveat in caveats(policy) if caveat.rule in ("denials-only", "idle")]
    if policy.workload.incomplete:
        notes.append(f"{source}: the recording behind it is incomplete")
    watched = policy.has_files
    return Rights(
        source=source,
        kind=kind,
        native=policy.abis[0],
        abis=policy.abis,
        default="refuse",
        syscalls={key: together(found) for key, found in parts.items()},
        capabilities=frozenset(row.name for row in policy.capabilities),
        reasons=reasons,
        no_new_privs=policy.no_new_privs,
        files=policy.files if watched else None,
        transitions=policy.transitions if watched else None,
        sockets=policy.sockets if watched else None,
        signals=policy.signals if watched else None,
        inspections=policy.inspections if watched else None,
        mounts=policy.mounts if watched else None,
        variables=policy.variables,
        user_namespaces=sentences(policy.user_namespaces),
        io_uring=sentences(policy.io_uring),
        notes=tuple(notes),
    )


NEEDED = Options(runtime="none", equivalents=False)
"""How a trace is read: what it needs, with nothing added."""


def of_trace(trace: Trace, source: str) -> Rights:
    """What a trace needs. Raises InputError for one that was not written by a tracer."""
    policy = derive(trace, NEEDED)
    found = of_policy(policy, source, "trace")
    syscalls = dict(found.syscalls)
    reasons = dict(found.reasons)
    for row in policy.unknown:
        key = (row.abi, f"syscall_{row.number}")
        syscalls[key] = ANYTHING
        reasons["syscall", *key] = reason_of(row.because)
    notes = []
    if not trace.meta.complete:
        notes.append(f"{source}: the recording is incomplete ({lost(trace.meta.losses)})")
    needs = None
    if policy.has_files:
        needs = variables(literal_files(policy, trace, NEEDED), trace, NEEDED).files
    # The recording's own no_new_privs is a matter of how it was made, and a trace asks for neither.
    return dataclasses.replace(
        found,
        syscalls=syscalls,
        reasons=reasons,
        needs=needs,
        shadowed=frozenset(needed_at_a_check(trace) - {row.name for row in policy.capabilities}),
        no_new_privs=None,
        notes=tuple(notes),
    )
