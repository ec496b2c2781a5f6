"""The entries of a policy that may turn out not to be needed, and the policy without some of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

from profiler.kernel.fallbacks import fallbacks
from profiler.kernel.untestable import untestable
from profiler.policy.document import rule_text
from profiler.policy.model import (
    Allowed,
    Capability,
    FileRule,
    InspectionRule,
    MountRule,
    Policy,
    Refused,
    SignalRule,
    SocketRule,
)
from profiler.policy.reasons import Reasons, said
from profiler.quoting.json import as_json
from profiler.targets.seccomp import profile

KINDS = ("capabilities", "syscalls", "files")
"""What can be minimised. ``files``: rules for files, sockets, signals, other processes and mounts."""

Row = Allowed | Capability | FileRule | SocketRule | SignalRule | InspectionRule | MountRule
_Row = TypeVar("_Row", bound=Row)


@dataclass(frozen=True, order=True)
class Entry:
    """One thing that a policy allows, as small as it can be taken away. ``section`` and ``item`` say where it is in
    policy.yaml (``syscalls.observed``, ``socket``). ``part``: one of its argument rules, or one access of a file;
    empty: the whole.
    """

    section: str
    item: str
    part: str = ""

    @property
    def label(self) -> str:
        """``socket {domain: AF_INET}``. A stranger's text may be in it: print it through quoting."""
        return f"{self.item} {self.part}" if self.part else self.item


@dataclass(frozen=True)
class Choice:
    """Which entries may go. ``kinds``: of KINDS. ``equivalents``: stand-ins too; if not, one goes with the last call it
    stands for. ``reviewers``: those that a reviewer wrote too. ``untestable``: calls too whose loss a test does not
    show (profiler/kernel/untestable.yaml).
    """

    kinds: frozenset[str] = frozenset(KINDS)
    equivalents: bool = True
    reviewers: bool = False
    untestable: bool = False


def is_reviewers(because: Reasons) -> bool:
    """Whether a reviewer wrote one of these reasons."""
    return any(reason.by == "user" for reason in because)


def entries_of(policy: Policy, row: Row) -> list[Entry]:
    """The entries of one row of the policy."""
    if isinstance(row, Allowed):
        item = row.name if row.abi == policy.abis[0] else f"{row.abi}:{row.name}"
        parts = [rule_text(row.name, row.abi, rule) for rule in row.rules] or [""]
        return [Entry(f"syscalls.{row.section}", item, part) for part in parts]
    if isinstance(row, Capability):
        return [Entry("capabilities", row.name)]
    if isinstance(row, FileRule):
        return [Entry("files", row.pattern, word) for word in row.access]
    if isinstance(row, SocketRule):
        return [Entry("network", f"{row.family} {row.type} {row.protocol}")]
    if isinstance(row, SignalRule):
        return [Entry("signals", f"{row.signal} to {row.whom}")]
    if isinstance(row, InspectionRule):
        return [Entry("inspections", f"{row.operation} of {row.whom}")]
    members = (row.operation, row.source, row.target, row.filesystem, *row.flags)
    return [Entry("mounts", " ".join(member or "-" for member in members))]


def kept_anyway(policy: Policy, choice: Choice) -> list[tuple[Entry, str]]:
    """The entries of the kinds that were chosen that may not go, each with the reason."""
    everything = {entry for group in _groups(policy, choice) for entry in group}
    rows = _rows(policy)
    found = [
        (entry, why)
        for row in rows
        for entry in entries_of(policy, row)
        if (why := _protected(policy, row, entry, choice)) is not None
    ]
    return [(entry, why) for entry, why in found if entry in everything]


def _rows(policy: Policy) -> tuple[Row, ...]:
    uses: tuple[Row, ...] = (*policy.sockets, *policy.signals, *policy.inspections, *policy.mounts)
    return (*policy.capabilities, *policy.syscalls, *policy.files, *uses)


def _protected(policy: Policy, row: Row, entry: Entry, choice: Choice) -> str | None:
    """Why an entry may not go, None when it may."""
    if not choice.reviewers and is_reviewers(row.because):
        return "a reviewer wrote it"
    if (
        isinstance(row, FileRule)
        and entry.part == "execute"
        and any(each.program == row.pattern and each.by is None for each in policy.transitions)
    ):
        return (
            "the workload's first program: a container's runtime executes it under the profile, a run "
            "without one does not"
        )
    if not isinstance(row, Allowed) or choice.untestable or row.name not in untestable():
        return None
    # One that nobody saw has no such claim.
    seen = row.section == "equivalent" or any(reason.by == "recording" for reason in row.because)
    return f"no test shows its want: {untestable()[row.name]}" if seen else None


def candidates(policy: Policy, choice: Choice) -> list[list[Entry]]:
    """The entries that may go, in groups: those of one group are as likely to be spare as each other, the likeliest
    come first."""
    kept = {
        entry
        for row in _rows(policy)
        for entry in entries_of(policy, row)
        if _protected(policy, row, entry, choice) is not None
    }
    groups = [[entry for entry in group if entry not in kept] for group in _groups(policy, choice)]
    return [group for group in groups if group]


def _groups(policy: Policy, choice: Choice) -> list[list[Entry]]:
    """All entries of the kinds that were chosen."""

    def of(rows: Iterable[Row]) -> list[Entry]:
        return list(dict.fromkeys(entry for row in rows for entry in entries_of(policy, row)))

    groups: list[list[Entry]] = []
    if "capabilities" in choice.kinds:
        groups.append(of(policy.capabilities))
    if "syscalls" in choice.kinds:
        if choice.equivalents:
            groups.append(of(policy.entries("equivalent")))
        observed = policy.entries("observed")
        groups += [of(row for row in observed if row.never_succeeded is failed) for failed in (True, False)]
    if "files" in choice.kinds and policy.has_files:
        groups.append(of(policy.files))
        groups.append(of((*policy.sockets, *policy.signals, *policy.inspections, *policy.mounts)))
    return groups


def without(policy: Policy, gone: frozenset[Entry], choice: Choice) -> Policy:
    """The policy with these entries taken away. What then is not allowed any more is refused as ``generate`` would have
    refused it."""
    syscalls = [left for row in policy.syscalls if (left := _reduced_call(policy, row, gone))]
    if not choice.equivalents:
        syscalls = _without_orphans(policy, syscalls)
    abis = {row.abi for row in policy.syscalls} - {row.abi for row in syscalls}
    names = {row.name for row in policy.syscalls} - {row.name for row in syscalls}

    def whole(rows: Iterable[_Row]) -> tuple[_Row, ...]:
        return tuple(row for row in rows if gone.isdisjoint(entries_of(policy, row)))

    return replace(
        policy,
        abis=(policy.abis[0], *(abi for abi in policy.abis[1:] if abi not in abis)),
        syscalls=tuple(syscalls),
        refused=_with_fallbacks(policy.refused, names),
        capabilities=whole(policy.capabilities),
        files=tuple(file for row in policy.files if (file := _reduced_file(policy, row, gone))),
        sockets=whole(policy.sockets),
        signals=whole(policy.signals),
        inspections=whole(policy.inspections),
        mounts=whole(policy.mounts),
    )


def _reduced_call(policy: Policy, row: Allowed, gone: frozenset[Entry]) -> Allowed | None:
    entries = entries_of(policy, row)
    if not row.rules:
        return None if entries[0] in gone else row
    # A row whose rules have all gone would allow any arguments.
    rules = tuple(rule for rule, entry in zip(row.rules, entries, strict=True) if entry not in gone)
    return replace(row, rules=rules) if rules else None


def _reduced_file(policy: Policy, row: FileRule, gone: frozenset[Entry]) -> FileRule | None:
    entries = entries_of(policy, row)
    access = tuple(entry.part for entry in entries if entry not in gone)
    return replace(row, access=access) if access else None


def _without_orphans(policy: Policy, left: list[Allowed]) -> list[Allowed]:
    """Without the stand-ins for calls that have all gone."""

    def names(rows: Iterable[Allowed]) -> set[tuple[str, str]]:
        return {(row.abi, row.name) for row in rows if row.section == "observed"}

    lost = names(policy.syscalls) - names(left)
    return [
        row
        for row in left
        if row.section != "equivalent"
        or not row.stands_for
        or not all((row.abi, name) in lost for name in row.stands_for)
    ]


def _with_fallbacks(refused: tuple[Refused, ...], names: set[str]) -> tuple[Refused, ...]:
    taken = {row.name for row in refused}
    added = [
        Refused(name, "ENOSYS", (said("fallback", text),))
        for name, text in fallbacks().items()
        if name in names - taken
    ]
    return tuple(sorted((*refused, *added), key=lambda row: row.name)) if added else refused


def without_base(policy: Policy) -> Policy:
    """The policy without what container runtimes need, for a run without any: else what an entry allows the base may
    allow as well."""
    names = {row.name for row in policy.syscalls if row.section == "base"}
    syscalls = tuple(row for row in policy.syscalls if row.section != "base")
    refused = _with_fallbacks(policy.refused, names - {row.name for row in syscalls})
    return replace(policy, syscalls=syscalls, refused=refused)


def without_files(policy: Policy) -> Policy:
    """The policy without what it says of files, sockets, signals, other processes and mounts: nobody is held to any of
    it."""
    return replace(policy, has_files=False, files=(), transitions=(), sockets=(), signals=(), inspections=(), mounts=())


def granting(policy: Policy, names: Iterable[str]) -> Policy:
    """Return the policy with these capabilities granted too."""
    known = {row.name for row in policy.capabilities}
    return replace(
        policy, capabilities=(*policy.capabilities, *(Capability(name) for name in names if name not in known))
    )


def fingerprint(policy: Policy) -> str:
    """The same for policies that allow the same, whatever their reasons: hexadecimal SHA-256."""
    uses = [
        sorted(repr(replace(row, because=(), programs=())) for row in policy.files),
        *(
            sorted(repr(replace(row, because=())) for row in rows)
            for rows in (policy.transitions, policy.sockets, policy.signals, policy.inspections, policy.mounts)
        ),
        [bool(policy.user_namespaces), bool(policy.io_uring), policy.no_new_privs],
    ]
    seccomp = profile(policy, "errno")
    answers = sorted(as_json([name, {**rule, "names": None}]) for rule in seccomp["syscalls"] for name in rule["names"])
    return hashlib.sha256(as_json([answers, seccomp["architectures"], policy.needed(), uses]).encode()).hexdigest()
