"""What one trace, policy or profile allows and another does not: changes for people to judge, each with its reason and
its risk.

Rights are compared, not text. An equivalent in place of a syscall, a filter written in another way, and a path that a
pattern covers are not changes. Every change has one direction: a right that was exchanged for another is a widening and
a narrowing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from profiler.errors import InputError
from profiler.kernel import risks
from profiler.kernel.arguments import spec_for
from profiler.kernel.risks import LEVELS, Risk
from profiler.policy.covering import FileRules, covers, left
from profiler.policy.model import FileRule, InspectionRule, SignalRule, SocketRule, capability_order
from profiler.policy.reasons import programs_of, sentences
from profiler.policy.tiers import is_library_place
from profiler.policy.variables import folded, unfolded
from profiler.quoting.text import printable
from profiler.review import paths
from profiler.review.cubes import EVERYTHING, WIDTH, Cube, both
from profiler.review.equivalence import Side
from profiler.review.rights import ANYTHING_TEXT, KINDS, Allowance, Alternative, Reason, Rights, reason_of
from profiler.wording import counted, listed

SUBJECTS = (
    "default",
    "abi",
    "privileges",
    "capability",
    "syscall",
    "mount",
    "path",
    "execution",
    "network",
    "signal",
    "inspection",
    "feature",
)
"""What a change is of. ``default``: syscalls that are not named. ``abi``: all calls of one ABI. ``privileges``:
no_new_privs. ``execution``: who executes a program. ``feature``: user namespaces, io_uring."""

CHANGES = ("added", "widened", "narrowed", "removed")
GAINS = ("added", "widened")
"""More is allowed than before. Only these carry a risk."""


@dataclass(frozen=True)
class Change:
    """One right that came, grew, shrank or went.

    ``details``: what exactly is new (or gone), in words; empty: all of it. ``rest``: of what is widened, what was
    allowed before; of what is narrowed, what still is. ``equivalents``: names that came or went with it and do the
    same. ``risk`` is None unless more is allowed.
    """

    subject: str
    change: str
    name: str
    details: tuple[str, ...] = ()
    rest: tuple[str, ...] = ()
    reason: Reason = field(default_factory=Reason)
    risk: Risk | None = None
    equivalents: tuple[str, ...] = ()

    @property
    def gains(self) -> bool:
        """Whether more is allowed."""
        return self.change in GAINS


@dataclass(frozen=True)
class Diff:
    """The changes, what allows more first and the riskiest of it first. ``uncompared``: what one of the two says
    nothing of."""

    old: Rights
    new: Rights
    changes: tuple[Change, ...]
    uncompared: tuple[str, ...]
    exact: bool = False

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know of the two files."""
        return tuple(dict.fromkeys((*self.old.notes, *self.new.notes)))

    def count(self, change: str) -> int:
        """How many changes of one sort."""
        return sum(row.change == change for row in self.changes)

    @property
    def highest(self) -> Risk | None:
        """The highest risk; None when nothing more is allowed."""
        found = [row.risk for row in self.changes if row.risk is not None]
        return risks.highest(found) if found else None


FAIL_ON = ("any", "widened", "risky")
RISKY = LEVELS.index("high")


def fails(diff: Diff, fail_on: str) -> bool:
    """Whether there is a change of the sort asked for: any; one that allows more; one of risk high or above."""
    if fail_on == "any":
        return bool(diff.changes)
    gains = [row for row in diff.changes if row.gains]
    if fail_on == "widened":
        return bool(gains)
    return any(row.risk is not None and row.risk.rank >= RISKY for row in gains)


def _placed(old: Rights, new: Rights) -> Rights:
    """``new`` with what is mounted at other places than in ``old`` taken there: a mount that moved changes no right
    below it."""
    known = {row.name: row for row in old.variables}
    moved = [row for row in new.variables if row.name in known and known[row.name].paths != row.paths]
    if not moved:
        return new
    there = [known.get(row.name, row) for row in new.variables]
    members: dict[str, Any] = {}
    for name in ("files", "needs", "transitions", "sockets", "mounts"):
        rows = getattr(new, name)
        members[name] = rows if rows is None else tuple(dict.fromkeys(unfolded(folded(rows, new.variables), there)))
    notes = tuple(
        f"{row.name} is at {', '.join(map(printable, known[row.name].paths))} in {old.source} and at"
        f" {', '.join(map(printable, row.paths))} in {new.source}; what is below is compared as if it had not moved"
        for row in moved
    )
    return replace(new, **members, notes=(*new.notes, *notes))


def compare(old: Rights, new: Rights, exact: bool = False) -> Diff:
    """The changes from ``old`` to ``new``. ``exact``: nothing stands in for anything else, and registers are compared
    whole.

    Raises InputError for two native ABIs, whose syscalls are not the same.
    """
    if old.native != new.native:
        raise InputError(
            f"cannot compare {old.source} ({old.native}) with {new.source} ({new.native}): they are for "
            "different machines"
        )
    new = new if exact else _placed(old, new)
    found: list[Change] = []
    for first, second, words in ((old, new, GAINS), (new, old, ("removed", "narrowed"))):
        found += _defaults(first, second, words)
        found += _abis(first, second, words)
        found += _syscalls(first, second, words, exact)
        found += _capabilities(first, second, words, exact)
        found += _privileges(first, second, words)
        found += _files(first, second, words, exact)
        found += _sockets(first, second, words, exact)
        found += _processes(first, second, words)
        found += _mounts(first, second, words)
        found += _features(first, second, words)
    found = [row if row.gains else replace(row, risk=None) for row in _without_echo(found)]
    return Diff(old, new, tuple(sorted(found, key=_order)), tuple(_uncompared(old, new)), exact)


def _order(row: Change) -> tuple[object, ...]:
    rank = row.risk.rank if row.risk else 0
    name: object = capability_order(row.name) if row.subject == "capability" else (0, row.name)
    return (not row.gains, -rank, SUBJECTS.index(row.subject), CHANGES.index(row.change), name, row.details)


_SECTIONS: Mapping[str, str] = {
    "capabilities": "capabilities",
    "no_new_privs": "no_new_privs",
    "files": "paths, networks, signals and mounts",
    "user_namespaces": "user namespaces and io_uring",
}


def _uncompared(old: Rights, new: Rights) -> Iterator[str]:
    for member, words in _SECTIONS.items():
        silent = [rights for rights in (old, new) if getattr(rights, member) is None]
        if len(silent) == 1:
            yield f"{words}: {silent[0].source} ({KINDS[silent[0].kind]}) says nothing of them"


# Each of the following gives what the second allows and the first does not; ``words`` are for what is new, and for what
# was there in part.
Words = tuple[str, str]


def _defaults(first: Rights, second: Rights, words: Words) -> Iterator[Change]:
    if first.default == "refuse" and second.default != "refuse":
        how = "allowed" if second.default == "allow" else "allowed and logged"
        yield Change(
            "default", words[1], "every syscall that is not named", (how,), ("refused",), risk=risks.named("everything")
        )


def _abis(first: Rights, second: Rights, words: Words) -> Iterator[Change]:
    for abi in second.abis:
        if abi in first.abis:
            continue
        names = [name for (other, name), allowed in second.syscalls.items() if other == abi and not allowed.refused]
        if second.default != "refuse":
            yield Change("abi", words[0], abi, ("every syscall that is not named",), risk=risks.named("abi"))
        elif names:
            details = (f"{counted(len(names), 'syscall')}: {listed(names, 8)}",)
            reason = second.reason("syscall", abi, names[0])
            yield Change(
                "abi", words[0], abi, details, reason=Reason(programs=reason.programs), risk=risks.named("abi")
            )


# Syscalls.


def _syscalls(first: Rights, second: Rights, words: Words, exact: bool) -> list[Change]:
    side = Side(first.syscalls, first.default != "refuse", exact)
    candidates: list[tuple[str, str, Allowance, tuple[Alternative, ...]]] = []
    keys = dict.fromkeys((*second.syscalls, *first.syscalls))
    for abi, name in keys:
        if abi not in first.abis or abi not in second.abis:
            continue
        before, after = first.allowance(abi, name), second.allowance(abi, name)
        if before == after or (words[0] not in GAINS and not (before.exact and after.exact)):
            continue  # what cannot be found out counts as more, never as less
        gained = tuple(row for row in after.alternatives if not side.covers(abi, name, row))
        if gained:
            candidates.append((abi, name, before, gained))
    grown = Side(first.syscalls, first.default != "refuse", exact)
    found: dict[tuple[str, str], Change] = {}
    for abi, name, before, gained in candidates:
        if not exact and all(grown.covers(abi, name, row) for row in gained):
            origin = next((key for key in found if key[0] == abi and key[1] in grown.origins(abi, name)), None)
            if origin is not None:
                found[origin] = replace(found[origin], equivalents=(*found[origin].equivalents, name))
                continue
        label = name if abi == second.native else f"{abi}:{name}"
        details = tuple(dict.fromkeys(row.text for row in gained))
        if before.refused and details == (ANYTHING_TEXT,) and spec_for(name, abi) is None:
            details = ()
        found[abi, name] = Change(
            "syscall",
            words[0] if before.refused else words[1],
            label,
            details,
            () if before.refused else before.texts,
            second.reason("syscall", abi, name),
            _syscall_risk(side, abi, name, gained),
        )
        grown.add(abi, name, Allowance(gained))
    return list(found.values())


def _syscall_risk(side: Side, abi: str, name: str, gained: Sequence[Alternative]) -> Risk:
    """The highest of the rows that fit something newly allowed."""
    if name.startswith("syscall_"):
        return risks.named("unknown_syscall")
    found = []
    for row in risks.syscall_risks(name):
        if not row.alternatives or any(_newly(side, abi, name, gained, tests) for tests in row.alternatives):
            found.append(row.risk)
    return risks.highest(found)


def _newly(
    side: Side, abi: str, name: str, gained: Iterable[Alternative], tests: Iterable[tuple[int, int, int]]
) -> bool:
    """Whether calls for which the tests hold are among what was gained, and were not allowed before."""
    wanted = EVERYTHING
    for position, mask, value in tests:
        wanted = Cube(wanted.mask | mask << WIDTH * position, wanted.value | (value & mask) << WIDTH * position)
    for row in gained:
        met = tuple(cube for one in row.cubes if (cube := both(one, wanted)) is not None)
        if met and not side.covers(abi, name, Alternative(met, row.text)):
            return True
    return False


def _capabilities(first: Rights, second: Rights, words: Words, exact: bool) -> Iterator[Change]:
    if first.capabilities is None or second.capabilities is None:
        return
    held = first.capabilities | (frozenset() if exact else first.shadowed)
    for name in sorted(second.capabilities - held):
        yield Change(
            "capability", words[0], name, reason=second.reason("capability", name), risk=risks.capability_risk(name)
        )


def _privileges(first: Rights, second: Rights, words: Words) -> Iterator[Change]:
    if first.no_new_privs is True and second.no_new_privs is False:
        yield Change("privileges", words[1], "no_new_privs", ("off",), ("on",), risk=risks.named("no_new_privs"))


# Paths.


_LIBC_LOADS = re.compile(r"libgcc_s\.so\.[^/]*|libnss_[a-z]+\.so\.[^/]*|ISO8859-1\.so|gconv-modules(\.cache)?")
"""Files that libc loads by itself, or not, as it happens: the unwinder when the first thread ends (glibc,
misc/unwind-link.c), name services, character sets. Whoever may load libraries from a system directory gains nothing by
them."""


def _is_libcs(rule: FileRule) -> bool:
    """Whether a rule does no more than let libc load what it may or may not load."""
    directory, _, name = rule.pattern.rpartition("/")
    return (
        set(rule.access) <= {"read", "map"} and _LIBC_LOADS.fullmatch(name) is not None and is_library_place(directory)
    )


def _files(first: Rights, second: Rights, words: Words, exact: bool) -> Iterator[Change]:
    if first.files is None or second.files is None:
        return
    before, after = (FileRules((*(rights.files or ()), *(rights.needs or ()))) for rights in (first, second))
    needs = frozenset(second.needs or ())
    shown = frozenset(first.files)
    for rule in second.files:
        if not exact and _is_libcs(rule):
            continue
        left = before.left(rule, exact)
        missing = () if left is None else left.access
        # What a trace gives stands for the paths that were seen: only their uses have to be granted.
        if missing and (behind := needs.intersection((*after.of(rule.pattern), *after.inside(rule.pattern)))):
            lacking = {word for need in behind if (rest := before.left(need, exact)) for word in rest.access}
            missing = tuple(word for word in missing if word in lacking)
        if not missing:
            continue
        related = list(dict.fromkeys((*before.around(rule.pattern), *before.inside(rule.pattern))))
        was = tuple(dict.fromkeys(_rule_text(other, rule.pattern) for other in related if other in shown))
        programs = rule.programs or programs_of(rule.because)
        yield Change(
            "path",
            words[1] if related else words[0],
            rule.pattern,
            (", ".join(missing) + (" (own files only)" if rule.owner else ""),),
            was,
            Reason(sentences(rule.because), programs),
            _path_risk(rule, missing),
        )


def _rule_text(rule: FileRule, beside: str) -> str:
    text = ", ".join(rule.access) + (" (own files only)" if rule.owner else "")
    return text if rule.pattern == beside else f"{rule.pattern}: {text}"


def _path_risk(rule: FileRule, accesses: Sequence[str]) -> Risk:
    found = paths.risks_of(rule.pattern, accesses, rule.states)
    if "outside" in rule.whose:
        found.append(risks.named("other_processes"))
    return risks.highest(found)


# Networks.


def _sockets(first: Rights, second: Rights, words: Words, exact: bool) -> Iterator[Change]:
    if first.sockets is None or second.sockets is None:
        return
    for rule in second.sockets:
        key = (rule.family, rule.type, rule.protocol)
        held = [other for other in first.sockets if (other.family, other.type, other.protocol) == key]
        gained = left(held, rule, exact)
        if gained is not None:
            name = f"{rule.family} {rule.type} protocol {rule.protocol}"
            was = tuple(dict.fromkeys(text for other in held for text in _socket_texts(other)))
            reason = reason_of(rule.because)
            risk = _socket_risk(gained)
            yield Change("network", words[1] if held else words[0], name, _socket_texts(gained), was, reason, risk)


def _socket_texts(rule: SocketRule) -> tuple[str, ...]:
    ports = [(word, f"port {port}") for word, several in rule.ports for port in several]
    places = [(word, place) for word, several in rule.addresses for place in several]
    named = {word for word, _ in (*ports, *places)}
    plain = ", ".join(word for word in rule.operations if word not in named)
    return (*([plain] if plain else []), *(f"{word} {what}" for word, what in (*ports, *places)))


def _socket_risk(gained: SocketRule) -> Risk:
    found = []
    for row in risks.socket_risks():
        if (row.family, row.type, row.protocol) != (
            row.family and gained.family,
            row.type and gained.type,
            gained.protocol if row.protocol is not None else None,
        ):
            continue
        if row.ports and not any(
            port in row.ports and word in row.operations for word, several in gained.ports for port in several
        ):
            continue
        found.append(row.risk)
    for word, places in gained.addresses:
        for place in places:
            if word in ("connect", "send") and not place.startswith("@"):
                found += paths.risks_of(place, ["connect"], ["linked"])
    return risks.highest(found)


# Processes and mounts.

_Plain = TypeVar("_Plain", SignalRule, InspectionRule)


def _processes(first: Rights, second: Rights, words: Words) -> Iterator[Change]:
    yield from _plain("signal", first.signals, second.signals, words, _signal)
    yield from _plain("inspection", first.inspections, second.inspections, words, _inspection)
    if first.transitions is not None and second.transitions is not None:
        for step in second.transitions:
            if left(first.transitions, step) is not None:
                known = any(covers(other.program, step.program) for other in first.transitions)
                who = "the workload's start" if step.by is None else step.by
                reason = Reason(sentences(step.because), () if step.by is None else (step.by,))
                yield Change(
                    "execution",
                    words[1] if known else words[0],
                    step.program,
                    (f"by {who}",),
                    reason=reason,
                    risk=risks.named("default"),
                )


_WHOM: Mapping[str, str] = {
    "self": "itself",
    "workload": "others of the workload",
    "outside": "processes outside of the workload",
    "group": "its process group",
}


def _signal(rule: SignalRule) -> tuple[str, Risk]:
    name = f"SIG{rule.signal}" if rule.signal[:1].isalpha() else f"signal {rule.signal}"
    return f"{name} to {_WHOM.get(rule.whom, rule.whom)}", risks.whom_risk("signals", rule.whom)


def _inspection(rule: InspectionRule) -> tuple[str, Risk]:
    return f"{rule.operation} {_WHOM.get(rule.whom, rule.whom)}", risks.whom_risk("inspections", rule.whom)


def _plain(
    subject: str,
    first: Sequence[_Plain] | None,
    second: Sequence[_Plain] | None,
    words: Words,
    say: Callable[[_Plain], tuple[str, Risk]],
) -> Iterator[Change]:
    if first is None or second is None:
        return
    for rule in second:
        if left(first, rule) is not None:
            name, risk = say(rule)
            yield Change(subject, words[0], name, reason=reason_of(rule.because), risk=risk)


def _mounts(first: Rights, second: Rights, words: Words) -> Iterator[Change]:
    if first.mounts is None or second.mounts is None:
        return
    for rule in second.mounts:
        if left(first.mounts, rule) is not None:
            details = [f"on {rule.target}"] if rule.target is not None else []
            details += [f"type {rule.filesystem}"] if rule.filesystem else []
            details += [", ".join(rule.flags)] if rule.flags else []
            name = rule.operation + (f" {rule.source}" if rule.source is not None else "")
            reason = reason_of(rule.because)
            yield Change("mount", words[0], name, tuple(details), reason=reason, risk=risks.named("mounts"))


def _features(first: Rights, second: Rights, words: Words) -> Iterator[Change]:
    for member, name in (("user_namespaces", "user namespaces"), ("io_uring", "io_uring")):
        before, after = getattr(first, member), getattr(second, member)
        if before is not None and not before and after:
            yield Change("feature", words[0], name, reason=Reason(after), risk=risks.named(member))


_SAID_BY = {
    "user namespaces": frozenset({"clone", "clone3", "unshare", "setns"}),
    "io_uring": frozenset({"io_uring_setup"}),
}
"""Syscalls whose change says already that a feature came or went."""


def _without_echo(changes: Sequence[Change]) -> list[Change]:
    """Without executions of a program whose file rule says so already, and features that a syscall says."""
    said: dict[bool, set[str]] = {True: set(), False: set()}
    for row in changes:
        if row.subject == "path" and any(
            "execute" in detail.replace(" (own files only)", "").split(", ") for detail in row.details
        ):
            said[row.gains].add(f"execution {row.name}")
        elif row.subject == "syscall":
            name = row.name.rpartition(":")[2]
            said[row.gains] |= {f"feature {feature}" for feature, calls in _SAID_BY.items() if name in calls}
    return [row for row in changes if f"{row.subject} {row.name}" not in said[row.gains]]
