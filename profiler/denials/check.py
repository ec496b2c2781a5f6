"""Uses held against a policy: a use that the kernel let happen and that no rule of the policy grants is a denial
(policy/covering.py)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from profiler.denials.model import Denial
from profiler.denials.uses import as_apparmor, use_of
from profiler.kernel.arguments import spec_for
from profiler.policy.covering import FileRules, Resource, left
from profiler.policy.evidence import OVERRIDE, SEARCH, name_for, outcome_of, override_would_do
from profiler.policy.model import FileRule, Policy
from profiler.policy.passes import processes
from profiler.policy.passes.network import used
from profiler.policy.touched import happened
from profiler.trace.model import (
    FILE_ACCESSES,
    FILE_KINDS,
    FILES_FEATURE,
    Capability,
    File,
    Inspection,
    Mount,
    Signal,
    Socket,
    Syscall,
    Trace,
    Use,
)

BY = "policy"
"""What reports the denials found here (Denial.by)."""

_REMEMBERED = 1 << 16


def _let_happen(row: Use) -> bool:
    """Return whether the kernel allowed the use. An error of the kernel's own is an answer that no policy changes."""
    if isinstance(row, File):
        return happened(row)
    if isinstance(row, Socket):
        return used(row) and row.operation != "inherit"  # an inherited socket may never be used
    return bool(row.results.get("ok"))


def _denial_of(row: Use) -> Denial:
    """Return the use as a denial."""

    def denial(kind: str, operation: str, **details: Any) -> Denial:
        return Denial(kind, BY, False, operation=operation, count=sum(row.results.values()), **details)

    match row:
        case File():
            return denial(
                "file",
                "symlink" if row.kind == "symlink" and row.access == "make" else row.access,
                path=row.path,
                directory=row.kind == "directory" and row.path != "/",
                file_kind=None if row.kind == "unknown" else row.kind,
                access=(row.access,),
                owner={"self"} == set(row.owner) or (row.kind == "unknown" and not row.owner),
                whose=row.whose,
                existing=row.existing,
                state=row.state,
            )
        case Socket():
            return denial(
                "socket",
                row.operation,
                operations=(row.operation,),
                family=row.family,
                type=row.type,
                protocol=row.protocol,
                port=row.port,
                address=row.address,
            )
        case Signal():
            return denial("signal", "send", operations=("send",), signal=row.signal, whom=row.whom)
        case Inspection():
            return denial("inspection", row.operation, operations=(row.operation,), whom=row.whom)
        case Mount():
            return denial(
                "mount",
                row.operation,
                source=row.source,
                target=row.target,
                filesystem=row.filesystem,
                flags=row.flags,
            )


def joined(denials: Iterable[Denial]) -> list[Denial]:
    """Join the denials of one file that differ only in the access: an open for reading and writing is one use."""
    found: dict[Denial, Denial] = {}
    for denial in denials:
        key = replace(denial.key, access=(), operation=None) if denial.kind == "file" else denial
        known = found.get(key)
        if known is None:
            found[key] = denial
            continue
        words = {*known.access, *denial.access}
        found[key] = replace(
            known,
            access=tuple(word for word in FILE_ACCESSES if word in words),
            count=max(known.count, denial.count),
            first=min((time for time in (known.first, denial.first) if time is not None), default=None),
            last=max((time for time in (known.last, denial.last) if time is not None), default=None),
        )
    return list(found.values())


class Held:
    """Judges uses by a policy.

    ``refused``: the capabilities that calls were already refused while recording (policy/evidence.py); a repetition is
    not the policy's doing.
    """

    def __init__(self, policy: Policy, refused: Collection[tuple[str, str]] = ()) -> None:
        self._policy = policy
        self._known: dict[Denial, Denial | None] = {}
        self._refused = refused

    @cached_property
    def _files(self) -> FileRules:
        return FileRules(self._policy.files)

    @cached_property
    def _others(self) -> tuple[Resource, ...]:
        policy = self._policy
        return (*policy.sockets, *policy.signals, *policy.inspections, *policy.mounts, *policy.transitions)

    @cached_property
    def _by_apparmor(self) -> tuple[FileRules, tuple[Resource, ...]]:
        """The rules as AppArmor tells them from each other."""
        seen = [rule for one in (*self._files.all, *self._others) for rule in as_apparmor(one)]
        return FileRules(rule for rule in seen if isinstance(rule, FileRule)), tuple(seen)

    def left(self, denial: Denial) -> Denial | None:
        """Return the denial with what the policy does not allow of it; None when it allows all of it.

        What AppArmor reported is judged by what AppArmor can tell apart. Raises InputError for a path that cannot be
        encoded.
        """
        key = denial.key
        if key not in self._known:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[key] = self._left(key)
        found = self._known[key]
        return None if found is None else replace(denial, access=found.access)

    def _left(self, denial: Denial) -> Denial | None:
        if denial.kind == "capability":
            return None if self._granted(denial) else denial
        if denial.kind == "user_namespace":
            return None if self._policy.user_namespaces else denial
        if denial.kind == "io_uring":
            return None if self._policy.io_uring else denial
        use = use_of(denial)
        if use is None:
            return denial
        if denial.by == "apparmor":
            return self._as_apparmor(use, denial)
        if not isinstance(use, FileRule):
            return None if left(self._others, use) is None else denial
        rest = [self._files.left(one) for one in self._possible(use, denial)]
        least = min(rest, key=lambda one: 0 if one is None else len(one.access))
        return None if least is None else replace(denial, access=least.access)

    def _as_apparmor(self, use: Resource, denial: Denial) -> Denial | None:
        files, others = self._by_apparmor

        def granted(use: Resource) -> bool:
            return any(
                (files.left(one) if isinstance(one, FileRule) else left(others, one)) is None
                for one in as_apparmor(use)
            )

        if not isinstance(use, FileRule):
            return None if granted(use) else denial
        access = tuple(word for word in use.access if not granted(replace(use, access=(word,))))
        return replace(denial, access=access) if access else None

    def _possible(self, use: FileRule, denial: Denial) -> Iterator[FileRule]:
        """Yield what the use may have been. The kind of a file that vanished early is unknown, and so may be the file
        that a link was made to."""
        kinds = FILE_KINDS if denial.file_kind is None else [denial.file_kind]
        existing = [use.existing]
        if "link" in use.access and not use.existing:
            existing += [(name,) for rule in self._files.around(use.pattern) for name in rule.existing]
        yield from (replace(use, kinds=(kind,), existing=names) for kind in kinds for names in existing)

    def _granted(self, denial: Denial) -> bool:
        """Return whether the policy grants a capability, or another that the kernel accepts in its place."""
        needed = {row.name for row in self._policy.capabilities}
        return denial.capability in needed or (
            denial.capability == SEARCH and OVERRIDE in needed and override_would_do([denial.name or ""])
        )

    def use(self, row: Use) -> Iterator[Denial]:
        """Yield what the policy does not allow of a use that the kernel let happen. Some files below /proc/PID are also
        an inspection of the process."""
        rows: list[Use] = [row] if _let_happen(row) else []
        if isinstance(row, File) and row.whose and (operation := processes.proc_operation(row)):
            rows.append(Inspection(operation, row.whose, row.results, row.programs))
        for one in rows:
            denial = self.left(_denial_of(one))
            if denial is not None:
                yield denial

    def capability(self, check: Capability) -> Iterator[Denial]:
        """Yield, for each call, the denial of a check that decided it, was not refused while recording, and is not
        granted."""
        outcome = outcome_of(check)
        if outcome not in ("needed", "refused"):
            return
        for call, count in check.syscalls.items():
            refused = outcome == "refused"
            denial = self.left(
                Denial(
                    "capability",
                    "kernel",
                    refused,
                    operation="capable",
                    capability=check.capability,
                    name=call,
                    count=count,
                )
            )
            if denial is not None and not (refused and (check.capability, call) in self._refused):
                yield denial

    def calls(self, trace: Trace) -> Iterator[Denial]:
        """Yield the syscalls of a recording that the policy does not allow, by program, with ``refused`` False.

        A syscall that the policy answers with an error of its own is not reported.
        """
        by_name = {row.name for row in self._policy.refused}
        for row in trace.syscalls:
            name = name_for(row)
            rows: list[tuple[tuple[int, ...] | None, tuple[int, ...]]]
            if name is None:
                rows = [(None, tuple(row.programs))]
            elif name in by_name:
                continue
            else:
                rows = list(self._not_permitted(row, name))
            for registers, programs in rows:
                denial = Denial(
                    "syscall",
                    "policy",
                    False,
                    action="log",
                    abi=row.abi,
                    number=row.number,
                    name=name,
                    arguments=registers,
                    count=row.calls,
                )
                yield from by_program(denial, trace, programs)

    def _not_permitted(self, row: Syscall, name: str) -> Iterator[tuple[tuple[int, ...] | None, tuple[int, ...]]]:
        entries = [entry for entry in self._policy.syscalls if (entry.abi, entry.name) == (row.abi, name)]
        if any(not entry.rules for entry in entries):
            return
        spec = spec_for(name, row.abi)
        if spec is None or spec.pointer or row.arguments is None or row.arguments.overflow:
            yield None, tuple(row.programs)
            return
        for value, programs in row.arguments.values.items():
            registers = spec.registers(value)
            if not self._policy.permits(row.abi, name, registers):
                yield registers, tuple(sorted(programs))

    def uses(self, trace: Trace, *, enforced: bool = False) -> list[Denial]:
        """Return what a recording did that the policy does not allow, by program. Syscalls are left out, and processes
        are unknown. ``refused`` is True for refused capabilities only. ``enforced``: see kernel_features."""
        found: list[Denial] = []
        for check in trace.capabilities:
            for lacking in self.capability(check):
                found += by_program(lacking, trace, check.programs)
        found += self.kernel_features(trace, enforced=enforced)
        if FILES_FEATURE in trace.meta.features:
            found += self.executions(trace)
            sections: tuple[Sequence[Use], ...] = (
                trace.files, trace.sockets, trace.signals, trace.inspections, trace.mounts,
            )  # fmt: skip
            for row in (row for section in sections for row in section):
                for denial in self.use(row):
                    found += by_program(denial, trace, row.programs)
        return joined(found)

    def executions(self, trace: Trace) -> list[Denial]:
        """Return which programs executed which without a right to. The workload's start is not its own act, and a
        policy without executions says nothing of them."""
        found: list[Denial] = []
        for row in trace.execs if self._policy.transitions else ():
            program, by = trace.programs[row.program], None if row.by is None else trace.programs[row.by]
            if by is None or not (program.path.startswith("/") and by.path.startswith("/")):
                continue
            denial = Denial(
                "execution", BY, False, operation="exec", path=program.path, source=by.path, count=row.count
            )
            if self.left(denial) is not None and row.by is not None:
                found += by_program(denial, trace, [row.by])
        return found

    def kernel_features(self, trace: Trace, *, enforced: bool) -> list[Denial]:
        """Return the calls that made user namespaces or io_uring rings without a right to. ``enforced``: calls that the
        policy does not permit failed, and made none."""
        found: list[Denial] = []
        rows = map(self._permitted_part, trace.syscalls) if enforced else trace.syscalls
        for row in filter(None, rows):
            for kind, flag in (
                ("user_namespace", processes.makes_user_namespace(row)),
                ("io_uring", processes.makes_ring(row)),
            ):
                denial = Denial(
                    kind, BY, False, operation=kind, abi=row.abi, number=row.number, name=row.name, count=row.calls
                )
                if flag and self.left(denial) is not None:
                    found += by_program(denial, trace, row.programs)
        return found

    def _permitted_part(self, row: Syscall) -> Syscall | None:
        """Return a row of calls without those that the policy does not permit; None when it permits none."""
        name = name_for(row)
        if name is None or not any((entry.abi, entry.name) == (row.abi, name) for entry in self._policy.syscalls):
            return None
        spec = spec_for(name, row.abi)
        if spec is None or spec.pointer or row.arguments is None:
            return row
        values = {
            value: programs
            for value, programs in row.arguments.values.items()
            if self._policy.permits(row.abi, name, spec.registers(value))
        }
        return replace(row, arguments=replace(row.arguments, values=values))


def by_program(denial: Denial, trace: Trace, programs: Iterable[int]) -> Iterator[Denial]:
    """Yield the denial for each program. How the uses are shared out among several is unknown."""
    listed = sorted(set(programs))
    for index in listed:
        program = trace.programs[index]
        yield replace(
            denial,
            exe=program.interpreter or program.path,
            comm=comm_of(program.path),
            count=max(1, denial.count // len(listed)),
        )


def comm_of(path: str) -> str:
    """Return what the kernel calls a process that executes this file, unless it changes its name (PR_SET_NAME,
    prctl(2)): 15 bytes of the file's name."""
    return path.rpartition("/")[2].encode("utf-8", "surrogateescape")[:15].decode("utf-8", "surrogateescape")
