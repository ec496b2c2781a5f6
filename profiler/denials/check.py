"""Uses held against a policy: a use that no rule of the policy grants is a denial (policy/covering.py)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property

from profiler.denials.model import Denial
from profiler.denials.uses import as_apparmor, use_of
from profiler.kernel.arguments import spec_for
from profiler.policy import patterns
from profiler.policy.covering import FileRules, Resource, left
from profiler.policy.evidence import OVERRIDE, SEARCH, Failures, name_for, outcome_of
from profiler.policy.model import FileRule, Policy
from profiler.policy.touched import MAKING, happened
from profiler.trace.model import FILE_KINDS, FILES_FEATURE, Syscall, Trace

BY = "policy"
"""Who speaks of denials found here (Denial.by)."""

NO_FAILURES = Failures()

_REMEMBERED = 1 << 16


class Held:
    """Rows in, denials out: without those who did it, None for what is allowed.

    ``coarse``: judge every use by what AppArmor can tell apart, for a run that imitates it and asks before the call is
    made. The kernel may then answer with an error of its own; a call that was made is judged by its result.
    ``failures``: what the recording already saw fail, without any policy.
    """

    def __init__(self, policy: Policy, failures: Failures = NO_FAILURES, coarse: bool = False) -> None:
        self._policy = policy
        self._coarse = coarse
        self._known: dict[Denial, Denial | None] = {}
        self._failures = failures

    @cached_property
    def _files(self) -> FileRules:
        return FileRules(self._policy.files)

    @cached_property
    def _others(self) -> tuple[Resource, ...]:
        policy = self._policy
        return (*policy.sockets, *policy.signals, *policy.inspections, *policy.mounts)

    @cached_property
    def _by_apparmor(self) -> tuple[FileRules, tuple[Resource, ...]]:
        """The rules as AppArmor tells them from each other."""
        seen = [rule for one in (*self._files.all, *self._others) for rule in as_apparmor(one)]
        return FileRules(rule for rule in seen if isinstance(rule, FileRule)), tuple(seen)

    def left(self, denial: Denial) -> Denial | None:
        """Return the denial with what the policy does not allow of it; None when it allows all of it.

        What AppArmor refused is judged by what AppArmor can tell apart. Raises InputError for a path that no bytes
        give.
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
            return None if self._granted(denial.capability or "") else denial
        use = use_of(denial)
        if use is None:
            return denial
        if self._coarse or denial.by == "apparmor":
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
        if denial.by != "apparmor" and denial.file_kind is None:  # AppArmor's own records say what is a directory
            use = replace(use, kinds=("unknown",))
        access = tuple(word for word in use.access if not granted(replace(use, access=(word,))))
        return replace(denial, access=access) if access else None

    def _possible(self, use: FileRule, denial: Denial) -> Iterator[FileRule]:
        """Yield what the use may have been: not known are the kind of a file that was gone before it could be looked
        at, and which file a link was made to."""
        kinds = FILE_KINDS if denial.file_kind is None else [denial.file_kind]
        existing = [use.existing]
        if "link" in use.access and not use.existing:
            existing += [(name,) for rule in self._files.around(use.pattern) for name in rule.existing]
        yield from (replace(use, kinds=(kind,), existing=names) for kind in kinds for names in existing)

    def _granted(self, capability: str) -> bool:
        """Return whether the policy grants a capability, or another that the kernel takes for it."""
        needed = {row.name for row in self._policy.capabilities}
        return capability in needed or (capability == SEARCH and OVERRIDE in needed)

    def file(
        self,
        path: str,
        accesses: Iterable[str],
        kind: str,
        owner: Iterable[str] = (),
        existing: str | None = None,
        whose: str | None = None,
        state: str = "linked",
    ) -> Denial | None:
        """Return what is not allowed of uses of one path. Words as in trace.model.File."""
        words = tuple(word for word in accesses if word != "look")
        if self._coarse and any(patterns.matches(pattern, path) for pattern in self._failures.paths):
            return None
        if self._coarse and kind == "unknown" and "create" not in words:
            words = tuple(word for word in words if word in MAKING)  # the kernel finds first that the file is missing
        if not words:
            return None
        return self.left(
            Denial(
                "file",
                BY,
                True,
                operation="symlink" if kind == "symlink" and "make" in words else words[0],
                path=path,
                directory=kind == "directory" and path != "/",
                file_kind=None if kind == "unknown" else kind,
                access=words,
                owner={"self"} == set(owner) or (kind == "unknown" and not set(owner)),
                whose=whose,
                existing=existing,
                state=state,
            )
        )

    def socket(
        self, family: str, kind: str, protocol: int, operation: str, port: int | None, address: str | None
    ) -> Denial | None:
        """One operation, words as in trace.model.Socket."""
        return self.left(
            Denial(
                "socket",
                BY,
                True,
                operation=operation,
                family=family,
                type=kind,
                protocol=protocol,
                operations=(operation,),
                port=port,
                address=address,
            )
        )

    def signal(self, signal: str, whom: str) -> Denial | None:
        """As in trace.model.Signal."""
        return self.left(Denial("signal", BY, True, operation="send", operations=("send",), signal=signal, whom=whom))

    def inspection(self, operation: str, whom: str) -> Denial | None:
        """As in trace.model.Inspection."""
        return self.left(Denial("inspection", BY, True, operation=operation, operations=(operation,), whom=whom))

    def mount(
        self, operation: str, source: str | None, target: str | None, filesystem: str | None, flags: tuple[str, ...]
    ) -> Denial | None:
        """As in trace.model.Mount."""
        return self.left(
            Denial(
                "mount", BY, True, operation=operation, source=source, target=target, filesystem=filesystem, flags=flags
            )
        )

    def capability(self, name: str, use: str) -> Denial | None:
        """``use``: one of OUTCOMES. A refusal that the recording already saw is not a denial."""
        if use not in ("needed", "refused") or (use == "refused" and name in self._failures.capabilities):
            return None
        return self.left(Denial("capability", "kernel", True, operation="capable", capability=name))

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
                )
                yield from _by_program(denial, trace, programs, row.calls)

    def _not_permitted(self, row: Syscall, name: str) -> Iterator[tuple[tuple[int, ...] | None, tuple[int, ...]]]:
        entries = [entry for entry in self._policy.syscalls if (entry.abi, entry.name) == (row.abi, name)]
        if any(not entry.rules for entry in entries):
            return
        spec = spec_for(name, row.abi)
        if spec is None or spec.pointer or row.arguments is None or row.arguments.overflow:
            yield None, tuple(row.programs)
            return
        for value, programs in row.arguments.values.items():
            registers = [0] * 6
            for position, one in zip(spec.positions, value, strict=True):
                registers[position] = one
            if not self._policy.permits(row.abi, name, registers):
                yield tuple(registers), tuple(sorted(programs))

    def uses(self, trace: Trace) -> Iterator[Denial]:
        """What a recording did that the policy does not allow, by program (``exe``; processes are not known);
        ``refused`` is False.

        Syscalls are left out, of files and the like only what succeeded counts. Capabilities: also those that were
        refused.
        """

        def told(denial: Denial | None, programs: Iterable[int], uses: int, refused: bool = False) -> Iterator[Denial]:
            if denial is not None:
                yield from _by_program(replace(denial, refused=refused), trace, programs, uses)

        for check in trace.capabilities:
            use = outcome_of(check)
            yield from told(self.capability(check.capability, use), check.programs, check.count, use == "refused")
        if FILES_FEATURE not in trace.meta.features:
            return
        grouped: dict[tuple[object, ...], list[str]] = {}
        for file in trace.files:
            if happened(file):
                key = (file.path, file.kind, file.owner, file.existing, file.whose, file.state, file.programs)
                grouped.setdefault(key, []).append(file.access)
        counts = {(file.path, file.programs): sum(file.results.values()) for file in trace.files}
        for (path, kind, owner, existing, whose, state, programs), accesses in grouped.items():
            denial = self.file(path, accesses, kind, owner, existing, whose, state)  # type: ignore[arg-type]
            yield from told(denial, programs, counts[path, programs])  # type: ignore[arg-type, index]
        for socket in trace.sockets:
            if socket.results.get("ok") and socket.operation != "inherit":  # it may never be used
                denial = self.socket(
                    socket.family, socket.type, socket.protocol, socket.operation, socket.port, socket.address
                )
                yield from told(denial, socket.programs, socket.results["ok"])
        for signal in trace.signals:
            if signal.results.get("ok"):
                yield from told(self.signal(signal.signal, signal.whom), signal.programs, signal.results["ok"])
        for look in trace.inspections:
            if look.results.get("ok"):
                yield from told(self.inspection(look.operation, look.whom), look.programs, look.results["ok"])
        for mount in trace.mounts:
            if mount.results.get("ok"):
                denial = self.mount(mount.operation, mount.source, mount.target, mount.filesystem, mount.flags)
                yield from told(denial, mount.programs, mount.results["ok"])


def _by_program(denial: Denial, trace: Trace, programs: Iterable[int], uses: int) -> Iterator[Denial]:
    """The same denial for each program; how the uses are shared out among several is not known."""
    listed = sorted(set(programs))
    for index in listed:
        program = trace.programs[index]
        yield replace(
            denial, exe=program.interpreter or program.path, comm=_comm(program.path), count=max(1, uses // len(listed))
        )


def _comm(path: str) -> str:
    """What the kernel calls a process that executes this file, unless it says otherwise (PR_SET_NAME, prctl(2)): 15
    bytes of its name."""
    return path.rpartition("/")[2].encode("utf-8", "surrogateescape")[:15].decode("utf-8", "surrogateescape")
