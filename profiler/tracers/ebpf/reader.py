"""Reading the maps of recorder.bpf.c: counts while it runs, everything at the end or at any time, into a Recording."""

from __future__ import annotations

import ctypes
import os
import posixpath
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass, replace
from typing import Any

from profiler.kernel.abi import SUB_ABIS, native_abi
from profiler.kernel.arguments import recorded_names, spec_for
from profiler.kernel.capabilities import is_advisory, is_audited
from profiler.kernel.capabilities import name_of as capability_name
from profiler.kernel.errno import name_of as error_name
from profiler.kernel.syscalls import number_of
from profiler.tracers.ebpf.loader import Programs
from profiler.tracers.ebpf.shared import constant, names, structure
from profiler.tracers.host import absolute
from profiler.tracers.paths import View, below
from profiler.tracers.recording import Recording, Row
from profiler.tracers.watcher import Refused
from profiler.wording import UNKNOWN

STATS = names("stat", "LOST_")
"""The ways to lose something, in the order of their counters."""
STAT_LIVE, STAT_LAST_NEW = constant("STAT_LIVE"), constant("STAT_LAST_NEW")
ABI_ORDER = {native: (native, *others) for native, others in SUB_ABIS.items()}
"""For each native ABI, the ABIs in the order of ``enum abi``."""
ABIS, NUMBERS = constant("ABIS"), constant("NUMBERS")
STARTING, SHARED = constant("PROGRAM_STARTING"), constant("PROGRAM_SHARED")
BY_ENTERED = constant("BY_ENTERED")

_LOST_EVENTS = constant("LOST_EVENTS")
_ACCESS_CALLS = frozenset({"access", "faccessat", "faccessat2"})
_VALUES_MAX_IN_KERNEL = constant("ABI_VALUES_MAX")

_REFUSED_OTHERS = constant("REFUSED_OTHERS")
_AUDITED = {constant("AUDITED_NO"): False, constant("AUDITED_YES"): True}

_KEYED_BY_PROGRAM = (
    "others", "results", "arguments", "checks", "execs", "uses", "sockets", "contacts", "refused", "refused_sorts",
)  # fmt: skip
_KEYED_BY_SESSION = ("files", "members")

SYMBOLS_HIDDEN = "the kernel hides the names of its functions"
SYMBOLS_FIX = "sysctl kernel.kptr_restrict=1, and CAP_SYSLOG"


def symbols_readable() -> bool:
    """Whether /proc/kallsyms shows addresses to us (kernel.kptr_restrict, proc_sys_kernel(5))."""
    with open("/proc/kallsyms") as file:
        # Per-processor symbols may truly be at 0, functions are not.
        return any(int(line[:16], 16) != 0 for line in file if line[17:18] in "tT")


_Event = structure("event")


@dataclass(frozen=True)
class Executed:
    """A program as its first exec reported it.

    ``path``, ``interpreter``: as the program's own root shows them. ``binary``: the file that runs, in its mount
    namespace; ``name``: what was given to execve(2), of a script, which started from the directory ``cwd`` of the mount
    namespace.
    """

    path: str
    interpreter: str | None
    argv0: str | None
    binary: str = ""
    state: str = "linked"
    own: bool = False
    fsuid: int = 0
    name: str | None = None
    cwd: str = "/"
    view: View | None = None
    local: bool = True
    """Whether its path leads to the same file for profgen."""
    loader: tuple[str, bool] | None = None
    """The loader's path and whether it is the user's own; an empty path for a static program; None where the kernel
    does not tell."""
    generation: int = 0
    """Of the session at that time (Reader.generation)."""


def session_of(data: int) -> int:
    """The session of a struct event at an address."""
    return int(_Event.from_address(data).session)


class Maps:
    """The hash maps that a collection needs, each read once, by the number of the program that a row belongs to."""

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self._rows: dict[str, dict[int, list[tuple[Any, Any]]]] = {}
        self._entries: dict[str, dict[int, list[tuple[bytes, bytes]]]] = {}

    def entries(self, name: str, numbers: Iterable[int]) -> Iterator[tuple[bytes, bytes]]:
        """The same as bytes."""
        found = self._entries.get(name)
        if found is None:
            found = self._entries[name] = {}
            table = self._programs.table(name)
            for entry in table.entries():
                found.setdefault(table.member(entry[0], "program"), []).append(entry)
        return (entry for number in numbers for entry in found.get(number, ()))

    def rows(self, name: str, numbers: Iterable[int]) -> Iterator[tuple[Any, Any]]:
        """The rows of a map (key, value) of these programs."""
        found = self._rows.get(name)
        if found is None:
            found = self._rows[name] = {}
            for key, value in self._programs.table(name).items():
                found.setdefault(key.program, []).append((key, value))
        return (row for number in numbers for row in found.get(number, ()))


class Reader:
    """Of one session. Events bring the programs' paths; the rest is read from the maps.

    ``recording`` is what is known while it runs: programs, losses, figures. ``shared``: the number of the programs
    without room.
    """

    def __init__(self, programs: Programs, recording: Recording, session: int = 0, shared: int = SHARED) -> None:
        self.programs = programs
        self.recording = recording
        self.session = session
        self.shared = shared
        self.abis = ABI_ORDER[native_abi()]
        self.executed: dict[int, Executed] = {}
        self.on_executed: Callable[[int, Executed], None] | None = None
        self.calls: dict[tuple[int, str, int], int] = {}
        self.last_seen: dict[tuple[int, str, int], float] = {}
        self.last_counts: dict[int, bytes] = {}
        self.first = shared
        self.root: str | None = None
        """How profgen reaches the root that the session began with, if not as its own."""
        self.gone = False
        """Whether that root was gone, with the process that had it, before profgen took hold of it."""
        self.named = symbols_readable()
        self.chains: dict[int, tuple[str, ...]] = {}
        self._looked_at = self._lost = 0
        self._numbers: set[int] = {STARTING, SHARED} if session == 0 else {shared}

    def on_event(self, data: int) -> Executed:
        """A program was executed for the first time, or joined (struct event)."""
        event = _Event.from_address(data)
        root = path_of(bytes(event.root)[: event.root_length]) if event.root_length else "/"
        exe, name, argv0 = UNKNOWN, os.fsdecode(event.name), os.fsdecode(event.argv0)
        if not name:
            argv0 = _first_argument(event.tgid)
        if event.exe_length:
            exe = path_of(bytes(event.exe)[: event.exe_length])
            exe = exe[1:] if event.pseudo else exe
        inside = below(exe, root) or exe
        top = "/"
        reach = root
        if event.other_mounts:
            reach = self.root if self.root is not None and not event.foreign else f"/proc/{event.tgid}/root"
            top = reach if root == "/" else None  # type: ignore[assignment]
        state = "detached" if event.pseudo else "deleted" if event.deleted else "linked"
        executed = Executed(
            inside,
            None,
            argv0,
            exe,
            state,
            event.uid == event.fsuid,
            event.fsuid,
            view=View(event.tgid, event.tid, reach, root, top),
            local=not event.foreign and not event.other_mounts,
            generation=event.generation,
        )
        if event.script and not name.startswith("/dev/fd/"):
            directory = path_of(bytes(event.cwd)[: event.cwd_length]) if event.cwd_length else "/"
            script = absolute(below(directory, root) or directory, name)
            executed = replace(executed, path=script, interpreter=inside, name=name, cwd=directory)
        if event.loader_known:
            loader = path_of(bytes(event.loader)[: event.loader_length]) if event.loader_length else ""
            executed = replace(executed, loader=(loader, event.loader_uid == event.fsuid))
        self.executed[event.program] = executed
        self._numbers.add(event.program)
        self.recording.program(*self._identity(event.program), local=executed.local)
        if self.on_executed is not None:
            self.on_executed(event.program, executed)
        return executed

    def _identity(self, program: int) -> tuple[str, str | None, str | None]:
        known = self.executed.get(program)
        return (UNKNOWN, None, None) if known is None else (known.path, known.interpreter, known.argv0)

    def index(self, program: int, recording: Recording) -> int:
        """A recording's index of a kernel program number; the start belongs to the first program executed."""
        if program == STARTING:
            program = self.first
        return recording.program(*self._identity(program), local=recording is self.recording or self._is_local(program))

    def _is_local(self, program: int) -> bool:
        index = self.recording.program(*self._identity(program))
        return index not in self.recording.foreign

    def numbers(self) -> list[int]:
        """The program numbers of the session so far, those too whose event was lost."""
        if self.session == 0:
            return sorted(self._numbers | set(range(self._program_count())))
        table = self.programs.table("programs")
        count, lost = self._program_count(), self.stats()[_LOST_EVENTS]
        if lost != self._lost:  # numbers that are given away again are any
            self._looked_at, self._lost = 0, lost
        for number in range(self._looked_at, count):
            if number not in self._numbers and table[ctypes.c_int(number)].session == self.session:
                self._numbers.add(number)
        self._looked_at = count
        return sorted(self._numbers)

    def read_calls(self, maps: Maps | None = None) -> None:
        """Counts so far, and when each was last seen to grow: the kernel keeps no time at each call, that would cost
        too much."""
        now = round(self.recording.elapsed(), 3)
        counts = self.programs.table("counts")
        numbers = self.numbers()
        for program in numbers:
            content = bytes(counts[ctypes.c_int(program)])
            if content == self.last_counts.get(program):
                continue
            self.last_counts[program] = content
            for number, total in enumerate(_column_sums(content)):
                if total and self.calls.get((program, self.abis[0], number)) != total:
                    self.calls[program, self.abis[0], number] = total
                    self.last_seen[program, self.abis[0], number] = now
        for key, value in (maps or Maps(self.programs)).rows("others", numbers):
            place = (key.program, self.abis[key.abi], int(key.number))
            if self.calls.get(place) != value.calls:
                self.calls[place] = value.calls
                self.last_seen[place] = now

    def execs(self, maps: Maps) -> list[tuple[int, int, int]]:
        """(who, executed whom, how often), by kernel program numbers."""
        return [(key.by, key.program, value.value) for key, value in maps.rows("execs", self.numbers())]

    def _program_count(self) -> int:
        return min(self.programs.counter("NEXT_PROGRAM"), len(self.programs.table("programs")))

    def stats(self) -> Any:
        """The session's counters, an array by the indexes above."""
        return self.programs.table("sessions")[ctypes.c_int(self.session)].stats

    def generation(self) -> int:
        """A number that changes when the workload makes or moves a link, or mounts: what a text leads to may be another
        file since."""
        return int(self.programs.table("sessions")[ctypes.c_int(self.session)].generation) & 0xFFFFFFFF

    def ended(self) -> bool:
        """Whether the last task of a container or a process has ended."""
        return bool(self.programs.table("sessions")[ctypes.c_int(self.session)].ended)

    def collect(self, recording: Recording, maps: Maps | None = None) -> None:
        """Read every map into a recording: ``self.recording``, or one that stands for what was seen so far."""
        maps = maps or Maps(self.programs)
        last_new = recording.last_new
        stats = self.stats()
        executions = self.execs(maps)
        self.first = next((program for by, program, _ in executions if by == STARTING), self.shared)
        self.read_calls(maps)
        for number, name in enumerate(STATS):
            if stats[number]:
                recording.losses[name] += stats[number]
        for (program, abi, number), calls in sorted(self.calls.items()):
            self._row(recording, program, abi, number).calls += calls
        self._collect_states(recording)
        for key, value in maps.rows("others", self.numbers()):
            row = self._row(recording, key.program, self.abis[key.abi], int(key.number))
            row.ok += 1 if value.ok else 0
            row.first = self.seconds(value.first) if not row.first else min(row.first, self.seconds(value.first))
        for key, value in maps.rows("results", self.numbers()):
            row = self._row(recording, key.program, self.abis[key.abi], int(key.number))
            row.errors[error_name(key.error)] += value.value
        self._collect_values(recording, maps)
        self._collect_checks(recording, maps)
        for caller, program, count in executions:
            by = None if caller in (STARTING, BY_ENTERED) else self.index(caller, recording)
            recording.executed(self.index(program, recording), by, count, entered=caller == BY_ENTERED)
        last = stats[STAT_LAST_NEW]
        recording.last_new = max(last_new, self.seconds(last)) if last else last_new

    def _row(self, recording: Recording, program: int, abi: str, number: int) -> Row:
        key = (self.index(program, recording), abi, number)
        row = recording.rows.get(key)
        if row is None:
            row = recording.rows[key] = Row()
        row.last = max(row.last, self.last_seen.get((program, abi, number), 0.0))
        return row

    def _collect_states(self, recording: Recording) -> None:
        table = self.programs.table("programs")
        for program in self.numbers():
            state = table[ctypes.c_int(program)]
            for number in range(NUMBERS):
                word, bit = number // 64, 1 << number % 64
                if not state.seen[word] & bit:
                    continue
                row = self._row(recording, program, self.abis[0], number)
                first = self.seconds(state.first[number])
                row.first = first if not row.first else min(row.first, first)
                row.ok += 1 if state.ok[word] & bit else 0

    def _collect_values(self, recording: Recording, maps: Maps) -> None:
        overfull = self.programs.table("argument_counts")
        recorded = {
            (index, number): name
            for index, abi in enumerate(self.abis)
            for name in recorded_names()
            if (number := number_of(abi, name)) is not None and spec_for(name, abi) is not None
        }
        for key, _ in maps.rows("arguments", self.numbers()):
            name = recorded[key.abi, key.number]
            spec = spec_for(name, self.abis[key.abi])
            assert spec is not None
            recording.value(
                self.abis[key.abi], name, tuple(key.value)[: len(spec.fields)], self.index(key.program, recording)
            )
        for (index, number), name in recorded.items():
            place = (self.session * ABIS + index) * NUMBERS + number
            if number < NUMBERS and overfull[ctypes.c_int(place)].value >= _VALUES_MAX_IN_KERNEL:
                recording.values_overflowed(self.abis[index], name)

    def _collect_checks(self, recording: Recording, maps: Maps) -> None:
        rows = list(maps.rows("checks", self.numbers()))
        if not self.named and rows:
            recording.features.append("chains:none")
            recording.warnings.append(f"{SYMBOLS_HIDDEN}, so checks that settle nothing count as needed; {SYMBOLS_FIX}")
        for key, value in rows:
            name = _capability_name(key.cap)
            chain = self._chain(key.stack)
            recording.check(
                (
                    name,
                    "child" if key.child else "initial",
                    "refused" if key.refused else "granted",
                    _AUDITED.get(key.audited, is_audited(chain)),
                    self._decisive(key),
                    False,
                ),
                self.index(key.program, recording),
                self._label(key),
                count=value.count,
                first=self.seconds(value.first),
                last=self.seconds(value.last),
                chain=chain,
            )

    def refused(self) -> list[Refused]:
        """What seccomp filters refused."""
        found = []
        for key, value in Maps(self.programs).rows("refused", self.numbers()):
            path = None if key.program == self.shared else self._identity(key.program)[0]
            arguments = None if key.abi & _REFUSED_OTHERS else tuple(key.a)
            comm = os.fsdecode(value.comm)
            abi, error = self.abis[key.abi & ~_REFUSED_OTHERS], error_name(key.error)
            found.append(Refused(path, abi, key.number, arguments, error, value.pid, comm, value.count))
        return sorted(found, key=lambda row: (row.path or "", row.abi, row.number, row.error, row.arguments or ()))

    def forget(self) -> None:
        """Free everything in the kernel that is this session's. Nothing may run in it any more."""
        numbers = set(self.numbers())
        self._delete(_KEYED_BY_PROGRAM, "program", numbers)
        self._delete(_KEYED_BY_SESSION, "session", {self.session})
        counts = self.programs.table("argument_counts")
        for place in range(self.session * ABIS * NUMBERS, (self.session + 1) * ABIS * NUMBERS):
            if counts[ctypes.c_int(place)].value:
                counts.clear(ctypes.c_int(place))
        for number in numbers:
            for name in ("counts", "programs"):
                self.programs.table(name).clear(ctypes.c_int(number))
        for number in sorted(numbers):
            self.programs.table("free_programs").push(ctypes.c_uint32(number))
        self.programs.table("free_sessions").push(ctypes.c_uint32(self.session))

    def _delete(self, maps: Iterable[str], member: str, numbers: Set[int]) -> None:
        """Delete the rows whose key has one of these numbers in this member."""
        for table in [self.programs.table(name) for name in maps if self.programs.has(name)]:
            for key, _ in table.entries():
                if table.member(key, member) in numbers:
                    table.delete(key)

    def needed(self) -> int:
        """Capabilities needed so far, for the live line."""
        checks = Maps(self.programs).rows("checks", self.numbers())
        return len({key.cap for key, _ in checks if not key.refused and not key.child and self._decisive(key)})

    def _label(self, key: Any) -> str:
        return self.recording.label(self.abis[key.abi], int(key.number))

    def _decisive(self, key: Any) -> bool:
        # access(2) swaps credentials to ask for the real ids; any other swap asks for somebody else's (overlayfs).
        foreign = bool(key.overridden) and self._label(key).rpartition(":")[2] not in _ACCESS_CALLS
        return not (key.idle or foreign or is_advisory(_capability_name(key.cap), self._chain(key.stack)))

    def _chain(self, stack: int) -> tuple[str, ...]:
        """A kernel call chain by its key; empty when names are hidden, or when it found no room (then it is counted as
        lost)."""
        if stack not in self.chains:
            try:
                addresses = self.programs.table("stacks")[ctypes.c_uint64(stack)].address if self.named else ()
            except KeyError:
                addresses = ()
            self.chains[stack] = self.programs.chain(address for address in addresses if address)
        return self.chains[stack]

    def seconds(self, nanoseconds: int) -> float:
        """Time of the kernel's monotonic clock as seconds from the start of the recording."""
        return float(max(0.0, nanoseconds / 1e9 - self.recording.began))


def _first_argument(tgid: int) -> str:
    """argv[0] of a process that runs; empty when it is gone."""
    try:
        with open(f"/proc/{tgid}/cmdline", "rb") as file:
            return os.fsdecode(file.read(256).split(b"\0", 1)[0])
    except OSError:
        return ""


def _capability_name(number: int) -> str:
    return capability_name(number) or f"CAP_{number}"


def path_of(components: bytes) -> str:
    """An absolute path from NUL-ended components, leaf first, as ``walk`` in recorder.bpf.c writes them."""
    parts = [os.fsdecode(part) for part in components.split(b"\0") if part]
    return posixpath.join("/", *reversed(parts))


def _column_sums(content: bytes) -> list[int]:
    """Per-processor rows of NUMBERS counts, summed over processors."""
    words = memoryview(content).cast("Q")
    rows = [words[start : start + NUMBERS] for start in range(0, len(words), NUMBERS)]
    return list(rows[0]) if len(rows) == 1 else [sum(column) for column in zip(*rows, strict=True)]
