"""Reading the maps of recorder.bpf.c into a Recording: counts while it runs, everything at the end or at any time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass
from typing import Any

from profiler.kernel.abi import SUB_ABIS, native_abi
from profiler.kernel.arguments import recorded_names, spec_for
from profiler.kernel.capabilities import names_in
from profiler.kernel.errno import name_of as error_name
from profiler.kernel.syscalls import number_of
from profiler.trace.model import GAINED
from profiler.tracers.ebpf.checks import SYMBOLS_FIX, SYMBOLS_HIDDEN, Checks
from profiler.tracers.ebpf.executed import Event, Executed, executed_by
from profiler.tracers.ebpf.loader import Programs
from profiler.tracers.ebpf.shared import constant, names
from profiler.tracers.errands import Patient
from profiler.tracers.launch import quoted
from profiler.tracers.paths import OWN_MOUNTS, Memory, Resolver
from profiler.tracers.recording import Recording, Row
from profiler.tracers.unchecked import Claim, Sets, claim_of_ambient, claim_of_capset
from profiler.tracers.watcher import Refused
from profiler.wording import UNKNOWN

STATS = names("stat", "LOST_")
"""The ways to lose something, in the order of their counters."""
STAT_LIVE, STAT_LAST_NEW, _STAT_PEAK = constant("STAT_LIVE"), constant("STAT_LAST_NEW"), constant("STAT_PEAK")
ABI_ORDER = {native: (native, *others) for native, others in SUB_ABIS.items()}
"""For each native ABI, the ABIs in the order of ``enum abi``."""
ABIS, NUMBERS = constant("ABIS"), constant("NUMBERS")
STARTING, SHARED = constant("PROGRAM_STARTING"), constant("PROGRAM_SHARED")
BY_ENTERED = constant("BY_ENTERED")

_LOST_EVENTS, _LOST_HIDDEN = constant("LOST_EVENTS"), constant("LOST_HIDDEN")
_VALUES_MAX_IN_KERNEL = constant("ABI_VALUES_MAX")
_REFUSED_OTHERS = constant("REFUSED_OTHERS")

SUPERVISED = (
    "a seccomp filter of the workload gives calls to a supervisor (SECCOMP_RET_USER_NOTIF): those that the supervisor "
    "lets continue are in the trace, those that it answers itself are not; add these to the policy by hand"
)
"""The warning, given once."""

_KEYED_BY_PROGRAM = (
    "others", "results", "arguments", "checks", "claims", "execs", "uses", "sockets", "contacts",
    "refused", "refused_sorts",
)  # fmt: skip
_KEYED_BY_SESSION = ("files", "members")


_GAINED = {word: constant(f"GAINED_{word.upper()}") for word in GAINED}


@dataclass(frozen=True)
class Execution:
    """``by`` executed ``program`` ``count`` times, by the programs' numbers. ``gained``: of GAINED (trace/model.py).
    ``child``: in a user namespace below the one that the workload began in."""

    by: int
    program: int
    count: int
    gained: tuple[str, ...]
    child: bool


def session_of(data: int) -> int:
    """Return the session of a ``struct event`` at an address."""
    return int(Event.from_address(data).session)


class Maps:
    """The hash maps that a collection needs, each read once, by the program that a row belongs to."""

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self._rows: dict[str, dict[int, list[tuple[Any, Any]]]] = {}
        self._entries: dict[str, dict[int, list[tuple[bytes, bytes]]]] = {}

    def rows(self, name: str, numbers: Iterable[int]) -> Iterator[tuple[Any, Any]]:
        """Return the rows of a map (key, value) that belong to programs of these numbers."""
        found = self._rows.get(name)
        if found is None:
            found = self._rows[name] = {}
            for key, value in self._programs.table(name).items():
                found.setdefault(key.program, []).append((key, value))
        return (row for number in numbers for row in found.get(number, ()))

    def entries(self, name: str, numbers: Iterable[int]) -> Iterator[tuple[bytes, bytes]]:
        """Return the same rows as bytes."""
        found = self._entries.get(name)
        if found is None:
            found = self._entries[name] = {}
            table = self._programs.table(name)
            for entry in table.entries():
                found.setdefault(table.member(entry[0], "program"), []).append(entry)
        return (entry for number in numbers for entry in found.get(number, ()))


class Reader:
    """Reads one session. Events bring the programs' paths; everything else is in the maps.

    ``recording`` is what is known while it runs: programs, losses, figures. ``shared``: the number of the programs
    without room. ``confined``: the session is under a policy (Checks).
    """

    def __init__(
        self,
        programs: Programs,
        recording: Recording,
        session: int = 0,
        shared: int = SHARED,
        *,
        confined: bool = False,
    ) -> None:
        self.programs = programs
        self.recording = recording
        self.session = session
        self.shared = shared
        self.abis = ABI_ORDER[native_abi()]
        self.executed: dict[int, Executed] = {}
        self.on_executed: Callable[[int, Executed], None] | None = None
        self.calls: dict[tuple[int, str, int], int] = {}
        self.first = shared
        self.root: str | None = None
        """How profgen reaches the root that the session began with, if not as its own."""
        self.mounts = OWN_MOUNTS
        """Where profgen reads the mounts below that root."""
        self.resolver = Resolver(Memory(), Patient(self._gave_up))
        self.gone = False
        """Whether that root, and the process that had it, were gone before profgen could hold them."""
        self._checks = Checks(programs, confined)
        self._last_seen: dict[tuple[int, str, int], float] = {}
        self._last_counts: dict[int, bytes] = {}
        self._looked_at = self._lost = 0
        self._numbers: set[int] = {STARTING, SHARED} if session == 0 else {shared}

    # -- programs ------------------------------------------------------------------------------------------------------

    def on_event(self, data: int) -> Executed:
        """Take a program that was executed for the first time, or joined: a ``struct event`` at an address."""
        event = Event.from_address(data)
        executed = executed_by(event, self.root, self.mounts, self.resolver)
        self.executed[event.program] = executed
        self._numbers.add(event.program)
        self.recording.program(*self._identity(event.program), local=executed.local)
        if self.on_executed is not None:
            self.on_executed(event.program, executed)
        return executed

    def is_served(self, executed: Executed) -> bool:
        """Return whether a program's file is on a file system with a server, which is not asked for a hash."""
        view = executed.view
        return view is not None and self.resolver.mounts(view).over(executed.binary) is not None

    def _gave_up(self, mount: str) -> None:
        """Say that a server does not answer; what could not be named counts as lost."""
        line = (
            f"the server of the file system at {quoted(mount)} does not answer: names below it that need an answer are "
            "lost; record again while it works"
        )
        if line not in self.recording.warnings:
            self.recording.warnings.append(line)

    def _identity(self, program: int) -> tuple[str, str | None, str | None]:
        known = self.executed.get(program)
        return (UNKNOWN, None, None) if known is None else (known.path, known.interpreter, known.argv0)

    def index(self, program: int, recording: Recording) -> int:
        """Return a recording's index of a program's number. The start belongs to the first program executed."""
        if program == STARTING:
            program = self.first
        return recording.program(*self._identity(program), local=recording is self.recording or self._is_local(program))

    def _is_local(self, program: int) -> bool:
        index = self.recording.program(*self._identity(program))
        return index not in self.recording.foreign

    def numbers(self) -> list[int]:
        """Return the numbers of the session's programs so far, also of those whose event was lost."""
        if self.session == 0:
            return sorted(self._numbers | set(range(self._program_count())))
        table = self.programs.table("programs")
        count, lost = self._program_count(), self.stats()[_LOST_EVENTS]
        if lost != self._lost:  # the lost number may be one that was used before
            self._looked_at, self._lost = 0, lost
        for number in range(self._looked_at, count):
            if number not in self._numbers and table[number].session == self.session:
                self._numbers.add(number)
        self._looked_at = count
        return sorted(self._numbers)

    def _program_count(self) -> int:
        return min(self.programs.counter("NEXT_PROGRAM"), len(self.programs.table("programs")))

    # -- the session's row ---------------------------------------------------------------------------------------------

    def stats(self) -> Any:
        """Return the session's counters, an array by the indexes of ``enum stat``."""
        return self.programs.session(self.session).stats

    def generation(self) -> int:
        """Return a number that changes when the workload makes or moves a link, or mounts: the same text may then lead
        to another file."""
        return int(self.programs.session(self.session).generation) & 0xFFFFFFFF

    def ended(self) -> bool:
        """Whether the last thread of a container or a process has ended."""
        return bool(self.programs.session(self.session).ended)

    def seconds(self, nanoseconds: int) -> float:
        """Return a time of the kernel's monotonic clock in seconds from the start of the recording."""
        return float(max(0.0, nanoseconds / 1e9 - self.recording.began))

    # -- while it runs -------------------------------------------------------------------------------------------------

    def read_calls(self, maps: Maps | None = None) -> None:
        """Read the counts so far, and note which have grown: the kernel notes no time at each call, which would cost
        too much."""
        now = round(self.recording.elapsed(), 3)
        counts = self.programs.table("counts")
        numbers = self.numbers()
        for program in numbers:
            content = bytes(counts[program])
            if content == self._last_counts.get(program):
                continue
            self._last_counts[program] = content
            for number, total in enumerate(_column_sums(content)):
                if total:
                    self._note_calls((program, self.abis[0], number), total, now)
        for key, value in (maps or Maps(self.programs)).rows("others", numbers):
            self._note_calls((key.program, self.abis[key.abi], int(key.number)), value.calls, now)

    def _note_calls(self, place: tuple[int, str, int], calls: int, now: float) -> None:
        if self.calls.get(place) != calls:
            self.calls[place] = calls
            self._last_seen[place] = now

    def execs(self, maps: Maps) -> list[Execution]:
        """Return who executed whom."""
        return [
            Execution(
                key.by,
                key.program,
                count,
                tuple(word for word, bit in _GAINED.items() if key.gained & bit),
                bool(key.child),
            )
            for key, count in maps.rows("execs", self.numbers())
        ]

    # -- everything ----------------------------------------------------------------------------------------------------

    def collect(self, recording: Recording, maps: Maps | None = None) -> None:
        """Read every map into a recording: ``self.recording``, or one of what was seen so far."""
        maps = maps or Maps(self.programs)
        last_new = recording.last_new
        stats = self.stats()
        recording.tasks = int(stats[_STAT_PEAK])
        executions = self.execs(maps)
        self.first = next((row.program for row in executions if row.by == STARTING), self.shared)
        self.read_calls(maps)
        for number, name in enumerate(STATS):
            if stats[number]:
                recording.losses[name] += stats[number]
        if stats[_LOST_HIDDEN]:
            recording.warn(SUPERVISED)
        self._collect_calls(recording, maps)
        self._collect_values(recording, maps)
        self._collect_claims(recording, maps)
        for row in executions:
            self._collect_execution(recording, row)
        # Filling the recording counts as something new, which it is not.
        newest = stats[STAT_LAST_NEW]
        recording.last_new = max(last_new, self.seconds(newest)) if newest else last_new

    def _row(self, recording: Recording, program: int, abi: str, number: int, first: int | None = None) -> Row:
        """Return a recording's row of a call. ``first``: when it was made first, in ns."""
        key = (self.index(program, recording), abi, number)
        row = recording.rows.get(key)
        if row is None:
            row = recording.rows[key] = Row()
        row.last = max(row.last, self._last_seen.get((program, abi, number), 0.0))
        if first is not None:
            seconds = self.seconds(first)
            row.first = min(row.first, seconds) if row.first else seconds
        return row

    def _collect_calls(self, recording: Recording, maps: Maps) -> None:
        for (program, abi, number), calls in sorted(self.calls.items()):
            self._row(recording, program, abi, number).calls += calls
        self._collect_states(recording)
        for key, value in maps.rows("others", self.numbers()):
            row = self._row(recording, key.program, self.abis[key.abi], int(key.number), value.first)
            row.ok += 1 if value.ok else 0
        for key, count in maps.rows("results", self.numbers()):
            row = self._row(recording, key.program, self.abis[key.abi], int(key.number))
            row.errors[error_name(key.error)] += count

    def _collect_states(self, recording: Recording) -> None:
        table = self.programs.table("programs")
        for program in self.numbers():
            state = table[program]
            for number in range(NUMBERS):
                word, bit = number // 64, 1 << number % 64
                if state.seen[word] & bit:
                    row = self._row(recording, program, self.abis[0], number, state.first[number])
                    row.ok += 1 if state.ok[word] & bit else 0

    def _collect_values(self, recording: Recording, maps: Maps) -> None:
        counts = self.programs.table("argument_counts")
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
            if number < NUMBERS and counts[place] >= _VALUES_MAX_IN_KERNEL:
                recording.values_overflowed(self.abis[index], name)

    def collect_checks(self, recording: Recording, maps: Maps) -> None:
        """Read the capability checks. Which of them mattered depends on the uses of files, which come first."""
        rows = list(maps.rows("checks", self.numbers()))
        if not self._checks.named and rows:
            recording.features.append("chains:none")
            recording.warnings.append(f"{SYMBOLS_HIDDEN}, so checks that settle nothing count as needed; {SYMBOLS_FIX}")
        for key, value in rows:
            label, program = self._label(key), self.index(key.program, recording)
            recording.check(
                self._checks.evidence(key, label, recording.own(program)),
                program,
                label,
                count=value.count,
                first=self.seconds(value.first),
                last=self.seconds(value.last),
                chain=self._checks.chain(key.stack),
            )

    def _collect_claims(self, recording: Recording, maps: Maps) -> None:
        for key, value in maps.rows("claims", self.numbers()):
            label = self._label(key)
            asked = Sets(key.effective, key.permitted, key.inheritable)
            had = Sets(key.had_effective, key.had_permitted, key.had_inheritable)
            claim = Claim(asked.permitted)
            if label.endswith("capset"):
                claim = claim_of_capset(asked, had, key.bounding, looked=bool(key.looked))
            elif label.endswith("prctl"):
                claim = claim_of_ambient(asked.permitted, had, key.bounding)
            fails = bool(asked.permitted & ~had.permitted)
            program = self.index(key.program, recording)
            for name in names_in(claim.missing if fails else claim.needed):
                recording.needed(
                    name,
                    program,
                    label,
                    child=bool(key.child),
                    refused=fails,
                    count=value.count,
                    first=self.seconds(value.first),
                    last=self.seconds(value.last),
                )

    def _collect_execution(self, recording: Recording, row: Execution) -> None:
        program = self.index(row.program, recording)
        by = None if row.by in (STARTING, BY_ENTERED) else self.index(row.by, recording)
        recording.executed(program, by, row.count, entered=row.by == BY_ENTERED, gained=row.gained)
        known = self.executed.get(row.program)
        if known is not None and known.capabilities is not None:
            for name in names_in(known.capabilities.needed):
                recording.needed(name, program, "execve", child=row.child, count=row.count)

    def _label(self, key: Any) -> str:
        return self.recording.label(self.abis[key.abi], int(key.number))

    def refused(self) -> list[Refused]:
        """Return what seccomp filters refused."""
        found = []
        for key, value in Maps(self.programs).rows("refused", self.numbers()):
            path = None if key.program == self.shared else self._identity(key.program)[0]
            arguments = None if key.abi & _REFUSED_OTHERS else tuple(key.a)
            comm = os.fsdecode(value.comm)
            abi, error = self.abis[key.abi & ~_REFUSED_OTHERS], error_name(key.error)
            found.append(Refused(path, abi, key.number, arguments, error, value.pid, comm, value.count))
        return sorted(found, key=lambda row: (row.path or "", row.abi, row.number, row.error, row.arguments or ()))

    # -- the end -------------------------------------------------------------------------------------------------------

    def forget(self) -> None:
        """Free everything in the kernel that belongs to this session, in which nothing runs any more."""
        numbers = set(self.numbers())
        self._delete(_KEYED_BY_PROGRAM, "program", numbers)
        self._delete(_KEYED_BY_SESSION, "session", {self.session})
        counts = self.programs.table("argument_counts")
        for place in range(self.session * ABIS * NUMBERS, (self.session + 1) * ABIS * NUMBERS):
            if counts[place]:
                counts.clear(place)
        for number in numbers:
            for name in ("counts", "programs"):
                self.programs.table(name).clear(number)
        for number in sorted(numbers):
            self.programs.table("free_programs").push(number)
        self.programs.table("free_sessions").push(self.session)

    def _delete(self, maps: Iterable[str], member: str, numbers: Set[int]) -> None:
        """Delete the rows whose key has one of these numbers in this member."""
        for table in [self.programs.table(name) for name in maps if self.programs.has(name)]:
            for key, _ in table.entries():
                if table.member(key, member) in numbers:
                    table.delete(key)


def _column_sums(content: bytes) -> list[int]:
    """Return per-processor rows of NUMBERS counts, summed over processors."""
    words = memoryview(content).cast("Q")
    rows = [words[start : start + NUMBERS] for start in range(0, len(words), NUMBERS)]
    return list(rows[0]) if len(rows) == 1 else [sum(column) for column in zip(*rows, strict=True)]
