"""Three-way merge of policies: what changed in either since a common base, entry by entry and member by member.

What a reviewer added stays, and what a reviewer took out stays out. Reasons are those of the new policy, and the
reviewer's own. Where both changed one thing in two ways, ours is kept and a Conflict says so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from profiler.errors import InputError
from profiler.kernel.abi import ABIS
from profiler.policy import reasons
from profiler.policy.changes import EVIDENCE, KEYS, rights_of
from profiler.policy.covering import FileRules
from profiler.policy.merge import as_written, at_places, together
from profiler.policy.model import SECTIONS, FileRule, Policy, Variable, Workload
from profiler.quoting.text import printable
from profiler.trace.model import FILE_ACCESSES, FILE_KINDS, FILE_STATES, SOCKET_OPERATIONS, WHOM, row_order


@dataclass(frozen=True)
class Conflict:
    """``where``: the place in policy.yaml; ``what`` each of the two did."""

    where: str
    what: str


@dataclass(frozen=True)
class Merged:
    """The policy, and what could not be settled."""

    policy: Policy
    conflicts: tuple[Conflict, ...]


class _Clash(Exception):
    """Both changed one thing in two ways; ``str()`` says what."""


_ORDERS: dict[str, Sequence[str]] = {
    "access": FILE_ACCESSES,
    "kinds": FILE_KINDS,
    "states": FILE_STATES,
    "whose": WHOM,
    "operations": SOCKET_OPERATIONS,
}
_SETS = frozenset({*_ORDERS, "rules", "existing", "programs", "stands_for"})
_EMPTY_IS_ANY = frozenset({"rules", "existing", "whose"})
_MUST_HOLD = frozenset({"access", "operations", "states", "kinds"})
_TABLES = frozenset({"ports", "addresses"})
_NEWER = frozenset({"stands_for", "kinds", "programs"})
"""Evidence that is taken over as a whole, unless a reviewer changed it."""


def _set(base: Iterable[Any], ours: Iterable[Any], theirs: Iterable[Any]) -> set[Any]:
    b, o, t = set(base), set(ours), set(theirs)
    return (o & t) | (o - b) | (t - b)


def _member(name: str, base: Any, ours: Any, theirs: Any) -> Any:
    """One member of an entry. Raises _Clash."""
    if name == "because":
        return reasons.three_way(base, ours, theirs)
    if ours in (base, theirs) or (name in _NEWER and theirs == base):
        return theirs if ours == base else ours
    if theirs == base:
        return ours
    if name in _TABLES:
        tables = [dict(table) for table in (base, ours, theirs)]
        merged = {word: _set(*(table.get(word, ()) for table in tables)) for word in SOCKET_OPERATIONS}
        return tuple((word, tuple(sorted(values))) for word, values in merged.items() if values)
    if name not in _SETS or (name in _EMPTY_IS_ANY and not (ours and theirs)):
        raise _Clash(f"{_text(base)} became {_text(ours)} in yours and {_text(theirs)} in the new one")
    found = _set(base, ours, theirs)
    if not found and name in (_EMPTY_IS_ANY | _MUST_HOLD):
        raise _Clash("what each of the two left was taken out of the other")
    if name == "rules":
        return together(found)[0]
    return tuple(word for word in _ORDERS[name] if word in found) if name in _ORDERS else tuple(sorted(found))


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return f"{len(value)} entries" if value and not isinstance(value[0], str) else ", ".join(value) or "anything"
    return str(value).lower() if isinstance(value, bool) else str(value)


class _Merge:
    def __init__(self, base: Policy, ours: Policy, theirs: Policy) -> None:
        self.base, self.ours, self.theirs = base, ours, theirs
        self.conflicts: list[Conflict] = []

    def clash(self, where: str, what: str) -> None:
        self.conflicts.append(Conflict(printable(where), printable(what)))

    def value(self, name: str, base: Any, ours: Any, theirs: Any, where: str) -> Any:
        """One value; ours, and a conflict, where both changed it."""
        try:
            return _member(name, base, ours, theirs)
        except _Clash as clash:
            self.clash(where, f"{clash}; yours is kept")
            return ours

    def row(self, base: Any, ours: Any, theirs: Any, where: str) -> Any:
        """One entry that both have."""
        members = {}
        for field in dataclasses.fields(ours):
            mine, other = getattr(ours, field.name), getattr(theirs, field.name)
            if base is None:
                members[field.name] = self.both_added(field.name, mine, other, where)
            else:
                members[field.name] = self.value(
                    field.name, getattr(base, field.name), mine, other, f"{where}.{field.name}"
                )
        return replace(ours, **members)

    def both_added(self, name: str, ours: Any, theirs: Any, where: str) -> Any:
        """Of an entry that came into both: what either has."""
        if name == "rules" and not (ours and theirs):
            return ()
        empty: Any = () if isinstance(ours, tuple) else theirs if name in EVIDENCE else None
        return self.value(name, empty, ours, theirs, f"{where}.{name}")

    def rows(self, section: str, label: Callable[[Any], str]) -> tuple[Any, ...]:
        """The entries of one section, those of ours first."""
        key = KEYS[section]
        b, o, t = (
            {key(row): row for row in getattr(policy, section)} for policy in (self.base, self.ours, self.theirs)
        )
        made = []
        for where in dict.fromkeys((*o, *t)):
            base, ours, theirs = b.get(where), o.get(where), t.get(where)
            row = self.one(base, ours, theirs, label(ours or theirs))
            if row is not None:
                made.append(row)
        return tuple(made)

    def one(self, base: Any, ours: Any, theirs: Any, where: str) -> Any:
        """What becomes of one entry; None: it is not in the merged policy."""
        if ours is not None and theirs is not None:
            return self.row(base, ours, theirs, where)
        if ours is None:
            if base is not None and rights_of(base) != rights_of(theirs):
                self.clash(where, "you took it out, and the new one allows it otherwise than before; it stays out")
            return theirs if base is None else None
        if base is None:
            return ours
        own = {reason.key for reason in ours.because} - {reason.key for reason in base.because}
        if rights_of(base) == rights_of(ours) and not own:
            return None
        if not own:
            self.clash(where, "you changed it, and the new one does not have it; yours is kept")
        return ours

    def policy(self) -> Policy:
        base, ours, theirs = self.base, self.ours, self.theirs
        abi = ours.abis[0]

        def call(row: Any) -> str:
            return row.name if row.abi == abi else f"{row.abi}:{row.name}"

        syscalls = self.rows("syscalls", lambda row: f"syscalls.{row.section}.{call(row)}")
        refused = self.rows("refused", lambda row: f"refused.{row.name}")
        syscalls, refused = self.settled(syscalls, refused)
        unknown = self.rows("unknown", lambda row: f"unknown.{row.abi}:{row.number}")
        capabilities = self.rows("capabilities", lambda row: f"capabilities.{row.name}")
        seen = {row.abi for row in (*syscalls, *unknown)} | _set(base.abis, ours.abis, theirs.abis)
        merged = replace(
            ours,
            workload=self.workload(),
            abis=(abi, *(name for name in ABIS if name in seen and name != abi)),
            no_new_privs=self.value(
                "no_new_privs", base.no_new_privs, ours.no_new_privs, theirs.no_new_privs, "no_new_privs"
            ),
            runtime=self.value("runtime", base.runtime, ours.runtime, theirs.runtime, "runtime"),
            syscalls=tuple(sorted(syscalls, key=lambda row: (SECTIONS.index(row.section), row.abi, row.name))),
            refused=tuple(sorted(refused, key=lambda row: row.name)),
            unknown=unknown,
            capabilities=capabilities,
            user_namespaces=self.feature("user_namespaces"),
            io_uring=self.feature("io_uring"),
        )
        return self.uses(merged)

    def workload(self) -> Workload:
        """Theirs, but for what was changed by hand."""
        base, ours, theirs = self.base.workload, self.ours.workload, self.theirs.workload
        names = [
            field.name for field in dataclasses.fields(Workload) if field.name not in ("incomplete", "denials_only")
        ]
        changed = {name: getattr(ours, name) for name in names if getattr(ours, name) != getattr(base, name)}
        return replace(theirs, **changed)

    def feature(self, name: str) -> reasons.Reasons:
        """Reasons for something that is allowed when there are any."""
        base, ours, theirs = (getattr(policy, name) for policy in (self.base, self.ours, self.theirs))
        if ours and theirs:
            return reasons.three_way(base, ours, theirs)
        merged: reasons.Reasons = theirs if bool(ours) == bool(base) else ours
        return merged

    def settled(self, syscalls: tuple[Any, ...], refused: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """No name both allowed and refused: as ours has it."""
        twice = {row.name for row in syscalls} & {row.name for row in refused}
        for name in sorted(twice):
            allowed = any(row.name == name for row in self.ours.syscalls)
            self.clash(
                f"refused.{name}",
                f"it is allowed in one and refused in the other; {'allowed' if allowed else 'refused'}, as in yours",
            )
            if allowed:
                refused = tuple(row for row in refused if row.name != name)
            else:
                syscalls = tuple(row for row in syscalls if row.name != name)
        return syscalls, refused

    def uses(self, merged: Policy) -> Policy:
        """The sections on files and what follows. When the new policy says nothing of them, ours stay."""
        names = ("files", "transitions", "sockets", "signals", "inspections", "mounts")
        if not self.theirs.has_files or not self.ours.has_files:
            source = self.ours if self.ours.has_files else self.theirs
            if self.ours.has_files and self.base.has_files:
                self.clash("files", "the new policy says nothing of files; yours are kept")
            kept: dict[str, Any] = {name: getattr(source, name) for name in names}
            return replace(merged, has_files=source.has_files, **kept) if source.has_files else merged
        files = self.rows("files", lambda row: f"files.{row.pattern}")
        return replace(
            merged,
            has_files=True,
            files=self.without_granted(files),
            transitions=self.sorted("transitions", "executions"),
            sockets=self.sorted("sockets", "network"),
            signals=self.sorted("signals", "signals"),
            inspections=self.sorted("inspections", "inspections"),
            mounts=self.sorted("mounts", "mounts"),
        )

    def sorted(self, section: str, title: str) -> tuple[Any, ...]:
        key = KEYS[section]

        def label(row: Any) -> str:
            return f"{title} ({' '.join(str(word) for word in key(row) if word)})"

        return tuple(sorted(self.rows(section, label), key=lambda row: row_order(key(row))))

    def without_granted(self, files: Sequence[FileRule]) -> tuple[FileRule, ...]:
        """Without new rules for paths that a pattern of the reviewer's grants already."""
        old = {row.pattern for row in self.base.files}
        mine = {row.pattern for row in self.ours.files}
        own = FileRules(row for row in self.ours.files if row.pattern not in old)
        kept = [row for row in files if row.pattern in mine or own.left(row) is not None]
        return tuple(sorted(kept, key=lambda row: row.pattern))


def _variables(base: Policy, ours: Policy, theirs: Policy) -> tuple[Variable, ...]:
    """Those of any, as rules may use them, at the paths of ours, and with what changed from ``base`` to ``theirs``."""
    if not theirs.has_files or not ours.has_files:
        return (ours if ours.has_files else theirs).variables
    b, o, t = ({row.name: row for row in policy.variables} for policy in (base, ours, theirs))
    made = []
    for name in sorted({*b, *o, *t}):
        mine, other = o.get(name) or t.get(name) or b[name], t.get(name) or o.get(name) or b[name]
        old = b.get(name, Variable(name, (), ()))
        paths = tuple(sorted(_set(old.paths, mine.paths, other.paths))) or mine.paths
        made.append(Variable(name, paths, reasons.three_way(old.because, mine.because, other.because)))
    return tuple(made)


def three_way(base: Policy, ours: Policy, theirs: Policy) -> Merged:
    """``ours`` with what changed from ``base`` to ``theirs``. Raises InputError for two native ABIs."""
    natives = sorted({policy.abis[0] for policy in (base, ours, theirs)})
    if len(natives) > 1:
        raise InputError(f"cannot merge policies of different architectures ({', '.join(natives)})")
    merge = _Merge(*as_written((base, ours, theirs), whole=False))
    policy = replace(merge.policy(), variables=_variables(base, ours, theirs))
    return Merged(at_places(policy), tuple(merge.conflicts))
