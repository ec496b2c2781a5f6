"""Collect what a tracer sees, and convert it to a Trace."""

from __future__ import annotations

import json
import time
import traceback
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from profiler.kernel.arguments import spec_for
from profiler.kernel.syscalls import name_of
from profiler.trace.collection import no_collection
from profiler.trace.merge import CHAINS_MAX
from profiler.trace.model import (
    ARGUMENT_VALUES_MAX,
    Arguments,
    Capability,
    Exec,
    File,
    FileKey,
    Inspection,
    Meta,
    Mount,
    MountKey,
    Program,
    Results,
    Signal,
    Socket,
    SocketKey,
    Syscall,
    Trace,
    Use,
    row_order,
)

"""Stands for a program whose identity was lost; the loss is counted."""


@dataclass(slots=True)
class Row:
    """The calls of one (program, ABI, number)."""

    calls: int = 0
    ok: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    first: float = 0.0
    last: float = 0.0


@dataclass(slots=True)
class _Check:
    count: int = 0
    first: float = 0.0
    last: float = 0.0
    programs: set[int] = field(default_factory=set)
    syscalls: Counter[str] = field(default_factory=Counter)
    chains: set[tuple[str, ...]] = field(default_factory=set)


@dataclass(slots=True)
class _Use:
    """The sums of a file, socket, signal, inspection or mount; everything else about it is its key."""

    first: float = 0.0
    last: float = 0.0
    results: dict[str, int] = field(default_factory=dict)
    programs: set[int] = field(default_factory=set)
    owner: set[str] = field(default_factory=set)


CapabilityKey = tuple[str, str, str, bool | None, bool, bool]
"""capability, namespace, verdict, audited, decisive, inferred"""

USES_BYTES_MAX = 128 << 20
"""The limit on the text of all rows of files, sockets and mounts, so that the trace stays below what profgen reads
again (READ_LIMIT_BYTES in profiler/trace/store.py).

This is about 400 000 rows of files; each takes about 1 KiB of memory during the recording.
"""

_ROW_BYTES = 250
"""The size of a row in a trace without its names, rounded up."""

_Key = TypeVar("_Key", bound=tuple[object, ...])


def row_of(
    what: str,
    key: tuple[Any, ...],
    results: Mapping[str, int],
    programs: frozenset[int] = frozenset(),
    *,
    owner: frozenset[str] = frozenset(),
    first: float = 0.0,
    last: float = 0.0,
) -> Use:
    """Return a use as a row of a trace. ``what``: file, socket, signal, inspection or mount, which ``key`` is of."""
    if what == "file":
        path, access, kind, state, existing, whose = key
        return File(path, access, kind, state, results, owner, programs, first, last, existing, whose)
    if what == "socket":
        family, sort, protocol, operation, port, address = key
        return Socket(family, sort, protocol, operation, port, address, results, programs, first, last)
    if what == "mount":
        operation, source, target, filesystem, flags = key
        return Mount(operation, source, target, filesystem, flags, results, programs)
    about, whom = key
    return (Signal if what == "signal" else Inspection)(about, whom, results, programs)


class Seen(NamedTuple):
    """Something that a recording has seen.

    ``kind``: program, syscall, capability, file, socket, signal, inspection or mount. ``key``: the path and interpreter
    of a program, the ABI and number of a syscall, a CapabilityKey, or the key of a use. ``first``: seconds from the
    start. ``programs``: indexes of the programs that did it. ``uses``: how often.
    """

    kind: str
    key: tuple[Any, ...]
    first: float
    programs: Collection[int]
    uses: int


class Recording:
    """What one tracer saw in one run. ``native`` is the machine's ABI."""

    def __init__(self, native: str) -> None:
        self.native = native
        self.began = time.monotonic()
        self.rows: dict[tuple[int, str, int], Row] = {}
        self.losses: Counter[str] = Counter()
        self.features: list[str] = []
        self.warnings: list[str] = []
        """Lines for the user, in addition to losses."""
        self.no_new_privs = False
        self.last_new = 0.0
        self.tasks = 0
        """The most threads of the workload that were alive at once."""
        self.capabilities_seen = 0
        self.programs: list[Program] = []
        self.foreign: set[int] = set()
        """Programs seen under another root: for profgen their paths lead to other files."""
        self.hashes: dict[int, tuple[str | None, str | None]] = {}
        """The sha256 and build-id of those programs whose file could be read anyway."""
        self._program_index: dict[tuple[str, str | None], int] = {}
        self._executions: Counter[int] = Counter()
        self._execs: Counter[tuple[int, int | None]] = Counter()
        self._entered: Counter[tuple[int, int | None]] = Counter()
        self._gained: dict[tuple[int, int | None], frozenset[str]] = {}
        self._values: dict[tuple[str, str], dict[tuple[int, ...], set[int]] | None] = {}
        self._checks: dict[CapabilityKey, _Check] = {}
        self._files: dict[FileKey, _Use] = {}
        self._paths: set[str] = set()
        self._sockets: dict[SocketKey, _Use] = {}
        self.inherited: set[tuple[str, str, int]] = set()
        """Family, type and protocol of the sockets that the first program found open, or that were its streams when it
        was joined."""
        self._signals: dict[tuple[str, str], _Use] = {}
        self._inspections: dict[tuple[str, str], _Use] = {}
        self._mounts: dict[MountKey, _Use] = {}
        self._uses: Mapping[str, dict[Any, _Use]] = {
            "file": self._files,
            "socket": self._sockets,
            "signal": self._signals,
            "inspection": self._inspections,
            "mount": self._mounts,
        }
        self._uses_bytes = 0
        self.so_far: Recording | None = None
        """What was seen so far, if this recording gets its rows only at the end and Options.looks asks for it."""

    @property
    def extent(self) -> tuple[int, ...]:
        """Return the sizes of the tables that ``seen`` goes through: nothing is new while they are the same."""
        return len(self.programs), len(self.rows), len(self._checks), *map(len, self._uses.values())

    def seen(self) -> Iterator[Seen]:
        """Yield what was seen so far; a call by several programs comes once for each.

        Another thread may add to the recording meanwhile: each table is copied in one step, which the interpreter does
        not interrupt.
        """
        rows = list(self.rows.items())
        began: dict[int, float] = {}
        for (index, _, _), row in rows:
            began[index] = min(row.first, began.get(index, row.first))
        for index, program in enumerate(list(self.programs)):
            first = began.get(index, self.last_new)
            yield Seen("program", (program.path, program.interpreter), first, (index,), self._executions[index])
        for (index, abi, number), row in rows:
            yield Seen("syscall", (abi, number), row.first, (index,), row.calls)
        for key, check in list(self._checks.items()):
            yield Seen("capability", key, check.first, check.programs, check.count)
        for what, uses in self._uses.items():
            for name, use in list(uses.items()):
                yield Seen(what, name, use.first, use.programs, sum(list(use.results.values())))

    def failed(self, what: str, error: Exception, count: int = 1) -> None:
        """Count a loss: a fault of profgen's own kept it from interpreting ``what``. Only the first is described."""
        if not self.losses["faults"]:
            place = traceback.extract_tb(error.__traceback__)[-1:]
            where = "".join(f" in {Path(frame.filename).name}, line {frame.lineno}" for frame in place)
            self.warnings.append(
                f"{what} could not be interpreted ({type(error).__name__}{where}: {error}), so the trace lacks it; "
                "please report this fault of profgen"
            )
        self.losses["faults"] += count

    def warn(self, line: str) -> None:
        """Add a line for the user, once."""
        if line not in self.warnings:
            self.warnings.append(line)

    def begin(self) -> None:
        """Start the clock: the workload is about to be released."""
        self.began = time.monotonic()

    def elapsed(self) -> float:
        """Return the seconds since the recording began."""
        return time.monotonic() - self.began

    def program(self, path: str, interpreter: str | None, argv0: str | None, *, local: bool = True) -> int:
        """Return the index of a new or known program. ``local``: profgen finds the same file under its path."""
        key = (path, interpreter)
        index = self._program_index.get(key)
        if index is None:
            index = self._program_index[key] = len(self.programs)
            self.programs.append(Program(path, interpreter, argv0))
            self.last_new = self.elapsed()
        if not local:
            self.foreign.add(index)
        return index

    def first_program(self) -> str | None:
        """Return the first word of the command line that the workload began with, None if its start was not seen."""
        began = next((self.programs[program] for program, by in self._execs if by is None), None)
        return None if began is None else began.argv0 or began.path

    def executed(
        self, program: int, by: int | None, count: int = 1, *, entered: bool = False, gained: Iterable[str] = ()
    ) -> None:
        """Count an execution of ``program`` by ``by``; see trace.model.Exec."""
        self._executions[program] += count
        self._execs[program, by] += count
        if entered:
            self._entered[program, by] += count
        self._gained[program, by] = self._gained.get((program, by), frozenset()).union(gained)

    def value(self, abi: str, name: str, value: tuple[int, ...], program: int) -> None:
        """Add an argument tuple, masked by the syscall's ArgumentSpec."""
        key = (abi, name)
        known = self._values.setdefault(key, {})
        if known is None:
            return
        programs = known.get(value)
        if programs is None:
            if len(known) >= ARGUMENT_VALUES_MAX:
                self._values[key] = None
                return
            known[value] = {program}
            self.last_new = self.elapsed()
        else:
            programs.add(program)

    def values_overflowed(self, abi: str, name: str) -> None:
        """Note that there were more values than can be kept."""
        self._values[abi, name] = None

    def check(
        self,
        key: CapabilityKey,
        program: int,
        syscall: str,
        *,
        count: int = 1,
        first: float | None = None,
        last: float | None = None,
        chain: tuple[str, ...] = (),
    ) -> None:
        """Add a capability check, seen or inferred. Times are seconds from the start; None means now."""
        now = self.elapsed()
        row = self._checks.get(key)
        if row is None:
            row = self._checks[key] = _Check(first=now if first is None else first)
            self.capabilities_seen = len({known[0] for known in self._checks})
            self.last_new = max(self.last_new, row.first)
        row.count += count
        row.first = min(row.first, now if first is None else first)
        row.last = max(row.last, now if last is None else last)
        row.programs.add(program)
        row.syscalls[syscall] += count
        if chain:
            row.chains.add(chain)

    def needed(
        self,
        capability: str,
        program: int,
        syscall: str,
        *,
        child: bool = False,
        refused: bool = False,
        count: int = 1,
        first: float | None = None,
        last: float | None = None,
    ) -> None:
        """Add a capability that a call needs without a check of the kernel (profiler/tracers/unchecked.py).

        ``child``: in a user namespace below the one that the workload began in. ``refused``: the call failed for want
        of it. Times as in ``check``.
        """
        key = (capability, "child" if child else "initial", "refused" if refused else "granted", None, True, True)
        self.check(key, program, syscall, count=count, first=first, last=last)

    def own(self, program: int) -> frozenset[str]:
        """Return the words of File.access for which a program used none but its own files."""
        owners: dict[str, bool] = {}
        for (_, access, *_rest), use in self._files.items():
            if program in use.programs:
                owners[access] = owners.get(access, True) and use.owner == {"self"}
        return frozenset(access for access, only in owners.items() if only)

    @property
    def paths_seen(self) -> int:
        """Return the number of paths under which files were recorded, or will be."""
        return len(self._paths)

    def path_seen(self, path: str) -> None:
        """Count a path whose rows are added when the recording ends."""
        self._paths.add(path)

    def file(
        self,
        path: str,
        access: str,
        kind: str,
        result: str,
        program: int,
        *,
        state: str = "linked",
        owner: Iterable[str] = (),
        existing: str | None = None,
        whose: str | None = None,
        count: int = 1,
        first: float | None = None,
        last: float | None = None,
    ) -> None:
        """Add ``count`` uses of a file. The words are those of trace.model.File; ``result`` is ``ok`` or an errno name.

        Times are seconds from the start; None means now. A file without a path is counted as lost.
        """
        key = (path, access, kind, state, existing, whose)
        self._used("file", key, (path, existing), result, program, count, first, last, owner=owner)

    def socket(
        self,
        family: str,
        type: str,
        protocol: int,
        operation: str,
        result: str,
        program: int,
        *,
        port: int | None = None,
        address: str | None = None,
        count: int = 1,
        first: float | None = None,
        last: float | None = None,
    ) -> None:
        """Add a socket operation (trace.model.Socket), seen ``count`` times; result and times as in ``file``."""
        key = (family, type, protocol, operation, port, address)
        self._used("socket", key, (address,), result, program, count, first, last)

    def signal(
        self,
        signal: str,
        whom: str,
        result: str,
        program: int,
        count: int = 1,
        first: float | None = None,
        last: float | None = None,
    ) -> None:
        """Add a signal (trace.model.Signal), sent ``count`` times; result and times as in ``file``."""
        self._used("signal", (signal, whom), (), result, program, count, first, last)

    def inspection(
        self,
        operation: str,
        whom: str,
        result: str,
        program: int,
        count: int = 1,
        first: float | None = None,
        last: float | None = None,
    ) -> None:
        """Add a process traced or read (trace.model.Inspection) ``count`` times; result and times as in ``file``."""
        self._used("inspection", (operation, whom), (), result, program, count, first, last)

    def mount(
        self,
        operation: str,
        source: str | None,
        target: str | None,
        filesystem: str | None,
        flags: tuple[str, ...],
        result: str,
        program: int,
        count: int = 1,
        first: float | None = None,
        last: float | None = None,
    ) -> None:
        """Add a change of the mount tree (trace.model.Mount), made ``count`` times, with ``flags`` in any order.

        Result and times as in ``file``.
        """
        key = (operation, source, target, filesystem, tuple(sorted(set(flags))))
        self._used("mount", key, (source, target, filesystem), result, program, count, first, last)

    def _used(
        self,
        what: str,
        key: tuple[Any, ...],
        names: tuple[str | None, ...],
        result: str,
        program: int,
        count: int,
        first: float | None,
        last: float | None,
        *,
        owner: Iterable[str] = (),
    ) -> None:
        """Add a use of any of the five kinds. ``what`` names the kind, ``names`` is the text of the row."""
        if what == "file" and not key[0]:
            self.losses["paths"] += count
            return
        uses = self._uses[what]
        use = uses.get(key)
        if use is None:
            if names and not self._has_room(*names):
                return
            if what == "file":
                self._paths.add(key[0])
            use = uses[key] = self._new_use(first, last)
        self._add(use, result, program, count, first, last)
        use.owner.update(owner)

    def _has_room(self, *names: str | None) -> bool:
        """Return whether a row with these names fits; if not, the loss is counted."""
        size = _ROW_BYTES + sum(len(json.dumps(name)) for name in names if name is not None)
        if self._uses_bytes + size > USES_BYTES_MAX:
            self.losses["uses"] += 1
            return False
        self._uses_bytes += size
        return True

    def _new_use(self, first: float | None, last: float | None) -> _Use:
        when = first if first is not None else last if last is not None else self.elapsed()
        self.last_new = max(self.last_new, when)
        return _Use(first=when, last=when)

    def _add(self, use: _Use, result: str, program: int, count: int, first: float | None, last: float | None) -> None:
        """Add one use to the sums of its row. Without ``last`` it ended now."""
        use.results[result] = use.results.get(result, 0) + count
        use.programs.add(program)
        if first is not None and first < use.first:
            use.first = first
        if last is None:
            last = self.elapsed()
        if last > use.last:
            use.last = last

    def label(self, abi: str, number: int) -> str:
        """Return the name of a syscall in progress as a capability row has it."""
        name = name_of(abi, number) or f"syscall_{number}"
        return name if abi == self.native else f"{abi}:{name}"

    @no_collection()
    def trace(self, meta: Meta, programs: Iterable[Program] | None = None) -> Trace:
        """Return the finished trace, with programs sorted and rows summed over programs.

        ``programs`` replaces the recorded ones one by one, if more became known about them.
        """
        listed = list(self.programs if programs is None else programs)
        order = sorted(range(len(listed)), key=lambda index: (listed[index].path, listed[index].interpreter or ""))
        new = {old: position for position, old in enumerate(order)}
        return Trace(
            meta=meta,
            programs=tuple(_with_executions(listed[old], self._executions[old]) for old in order),
            syscalls=tuple(self._syscalls(new)),
            capabilities=tuple(self._capabilities(new)),
            execs=tuple(
                sorted(
                    (
                        Exec(
                            new[program],
                            None if by is None else new[by],
                            count,
                            entered=self._entered[program, by],
                            gained=self._gained[program, by],
                        )
                        for (program, by), count in self._execs.items()
                    ),
                    key=lambda row: (row.program, -1 if row.by is None else row.by),
                )
            ),
            files=self._rows("file", new),
            sockets=self._rows("socket", new),
            signals=self._rows("signal", new),
            inspections=self._rows("inspection", new),
            mounts=self._rows("mount", new),
        )

    def _rows(self, what: str, new: dict[int, int]) -> tuple[Any, ...]:
        uses = self._sockets | self._inherited() if what == "socket" else self._uses[what]
        return tuple(
            row_of(
                what,
                key,
                _results(use),
                _programs(use, new),
                owner=frozenset(use.owner),
                first=round(use.first, 3),
                last=round(use.last, 3),
            )
            for key, use in _ordered(uses)
        )

    def _inherited(self) -> dict[SocketKey, _Use]:
        programs = {program for program, by in self._execs if by is None}
        if not programs:  # joined: no program was seen to start
            programs = {index for index in range(len(self.programs)) if not self._executions[index]}
        sorts = self.inherited if programs else ()
        return {(*sort, "inherit", None, None): _Use(0.0, 0.0, {"ok": 1}, programs=programs) for sort in sorts}

    def _syscalls(self, new: dict[int, int]) -> Iterable[Syscall]:
        grouped: dict[tuple[str, int], list[tuple[int, Row]]] = {}
        for (program, abi, number), row in self.rows.items():
            grouped.setdefault((abi, number), []).append((new[program], row))
        for (abi, number), rows in sorted(grouped.items()):
            name = name_of(abi, number)
            errors: Counter[str] = Counter()
            for _, row in rows:
                errors.update(row.errors)
            yield Syscall(
                abi=abi,
                number=number,
                name=name,
                calls=sum(row.calls for _, row in rows),
                results=Results(sum(row.ok for _, row in rows), dict(sorted(errors.items()))),
                first=round(min(row.first for _, row in rows), 3),
                last=round(max(row.last for _, row in rows), 3),
                programs={program: row.calls for program, row in sorted(rows, key=lambda item: item[0])},
                arguments=self._arguments(abi, name, new),
            )

    def _arguments(self, abi: str, name: str | None, new: dict[int, int]) -> Arguments | None:
        spec = spec_for(name, abi) if name is not None else None
        if name is None or spec is None or (abi, name) not in self._values:
            return None
        known = self._values[abi, name]
        if known is None:
            return Arguments(spec.fields, {}, overflow=True)
        return Arguments(
            spec.fields, {value: frozenset(new[program] for program in known[value]) for value in sorted(known)}
        )

    def _capabilities(self, new: dict[int, int]) -> Iterable[Capability]:
        for key in sorted(self._checks, key=str):
            row = self._checks[key]
            capability, namespace, verdict, audited, decisive, inferred = key
            yield Capability(
                capability=capability,
                namespace=namespace,
                verdict=verdict,
                audited=audited,
                decisive=decisive,
                inferred=inferred,
                count=row.count,
                first=round(row.first, 3),
                last=round(row.last, 3),
                programs=frozenset(new[program] for program in row.programs),
                syscalls=dict(sorted(row.syscalls.items())),
                chains=tuple(sorted(row.chains)[:CHAINS_MAX]),
            )


def _with_executions(program: Program, executions: int) -> Program:
    return Program(program.path, program.interpreter, program.argv0, program.sha256, program.build_id, executions)


def _ordered(uses: Mapping[_Key, _Use]) -> list[tuple[_Key, _Use]]:
    return sorted(uses.items(), key=lambda item: row_order(item[0]))


def _results(use: _Use) -> dict[str, int]:
    return dict(sorted(use.results.items()))


def _programs(use: _Use, new: Mapping[int, int]) -> frozenset[int]:
    return frozenset(new[program] for program in use.programs)
