"""Where the recorder's programs are attached, and for how long."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping

from profiler.errors import TracerError
from profiler.kernel.abi import native_abi
from profiler.kernel.arguments import recorded_names, spec_for
from profiler.kernel.syscalls import number_of
from profiler.trace.model import FILES_FEATURE
from profiler.tracers.ebpf.loader import Programs
from profiler.tracers.ebpf.reader import ABI_ORDER, NUMBERS
from profiler.tracers.ebpf.shared import constant, names
from profiler.tracers.ebpf.specs import TAILS, rows

TRACEPOINTS: Mapping[str, str] = {
    "on_fork": "sched_process_fork",
    "on_exit": "sched_process_exit",
    "on_exec": "sched_process_exec",
    "on_sys_enter": "sys_enter",
    "on_sys_exit": "sys_exit",
}
"""Programs of recorder.bpf.c and where each is attached."""
_PLACE = TRACEPOINTS["on_sys_exit"]
"""Where programs run that on_sys_exit goes on to."""
_CAPABILITY_PLACE = "cap_capable"
_BEGINNING, _END = "on_sys_enter", "on_sys_exit"
_EXECUTING, _IN_FLIGHT = "on_exec_prepared", "on_in_flight"
"""Programs that are attached while on_sys_enter is not."""

OPTIONAL_TRACEPOINTS: Mapping[str, str] = {"on_vsyscall": "emulate_vsyscall"}
"""The same for what only some kernels have: the legacy page of x86-64."""

_SETS = {
    "capget": constant("SETS_LOOK"),
    "capset": constant("SETS_CHANGE"),
    "prctl": constant("SETS_PRCTL"),
    "seccomp": constant("SETS_FILTER"),
}
"""What calls do with the capability sets or the seccomp filters of their thread."""

CAPABILITY_HOOKS = ("tracepoint", "kprobe", "lsm")
"""Ways to see capability checks, best first."""
CAPABILITY_TRACEPOINT, CAPABILITY_LSM = "on_cap_tracepoint", "on_cap_lsm"

LEARNING_SECONDS = 2.0
"""A recording learns until nothing new has come for so long."""
_LOOKED_AT_FIRST = frozenset(names("only", "ONLY_").index(word) for word in ("executable", "protected", "fcntl_lock"))
"""Conditions of calls whose arguments tell at the beginning that they use nothing (may_use in recorder.bpf.c)."""


def attach_capability_hook(programs: Programs, way: str) -> None:
    """Attach one of CAPABILITY_HOOKS. Raises TracerError when this kernel does not have it or refuses it."""
    if way == "tracepoint":
        programs.attach_tracepoint(CAPABILITY_TRACEPOINT, _CAPABILITY_PLACE)
    elif way == "kprobe":
        # The kretprobe first: a kprobe without it would leave a check half noted.
        programs.attach_kprobe("on_cap_return", "cap_capable", back=True)
        programs.attach_kprobe("on_cap_entry", "cap_capable")
    else:
        programs.attach_lsm(CAPABILITY_LSM, "capable")


def attach(programs: Programs, *, files: bool, extra: Mapping[str, str] | None = None) -> list[str]:
    """Fill its tables, load and attach the recorder, and return the features of a trace.

    ``extra``: more functions and their tracepoints, attached first. Raises TracerError.
    """
    tails = TAILS if files else ()
    found = {function: name for function, name in OPTIONAL_TRACEPOINTS.items() if programs.has_tracepoint(name)}
    tracepoints = {**(extra or {}), **found, **TRACEPOINTS}
    loaded = {**tracepoints, **{function: _PLACE for function, _ in tails}}
    if programs.has_tracepoint(_CAPABILITY_PLACE):
        loaded[CAPABILITY_TRACEPOINT] = _CAPABILITY_PLACE
    with programs.loading(loaded):
        _fill_specs(programs, files=files)
        programs.set_counter("ENTRIES", 1)
    for function, index in tails:
        programs.add_tail(function, index)
    for function, tracepoint in tracepoints.items():
        programs.attach_tracepoint(function, tracepoint)
    reasons = []
    for way in CAPABILITY_HOOKS:
        try:
            attach_capability_hook(programs, way)
        except TracerError as error:
            reasons.append(f"{way}: {error}")
        else:
            return [*([FILES_FEATURE] if files else []), f"capabilities:{way}", "results:until-first-success"]
    raise TracerError(f"capability checks cannot be seen here ({'; '.join(reasons)}); use --tracer ptrace")


def _fill_specs(programs: Programs, *, files: bool) -> None:
    """Tell the recorder which calls' arguments and uses it looks at."""
    table = programs.table("specs")
    for index, abi in enumerate(ABI_ORDER[native_abi()]):
        used = rows(abi) if files else {}
        recorded = {
            number: spec
            for name in recorded_names()
            if (number := number_of(abi, name)) is not None and (spec := spec_for(name, abi))
        }
        sets = {number: each for name, each in _SETS.items() if (number := number_of(abi, name)) is not None}
        for number in used.keys() | recorded.keys() | sets.keys():
            if number >= NUMBERS:
                continue
            row = table.Leaf()
            if number in recorded:
                spec = recorded[number]
                row.count, row.pointer = len(spec.fields), int(spec.pointer)
                for position, (argument, mask) in enumerate(zip(spec.positions, spec.masks, strict=True)):
                    row.position[position], row.mask[position] = argument, mask
            if number in used:
                used[number].fill(row)
            row.sets = sets.get(number, 0)
            row.reads = int(bool(row.count or row.sets or row.only in _LOOKED_AT_FIRST))
            table[index * NUMBERS + number] = row
    _fill_algorithms(programs)


def _fill_algorithms(programs: Programs) -> None:
    """Tell the recorder which congestion controls anybody may choose (tcp(7)), by the first eight bytes."""
    with contextlib.suppress(OSError), open("/proc/sys/net/ipv4/tcp_allowed_congestion_control", "rb") as file:
        for index, name in enumerate(file.read().split()[: constant("ALGORITHMS")]):
            programs.table("algorithms")[index] = int.from_bytes(name[:8], "little")


class Spare:
    """The program that is attached only while a recording learns, because it costs every process of the machine.

    With files it is the one at every call's beginning: the registers hold a call's number and arguments until its end,
    so the other program can do its work. It stays where that does not suffice (_end_suffices), and for threads that
    note_unusual in common.h describes. Without files it is the one at every call's end, which only results need.
    """

    def __init__(self, programs: Programs, *, files: bool, always: bool = False) -> None:
        """Both programs are attached now. ``always``: both are needed until the end."""
        self._programs = programs
        self._function = _BEGINNING if files else _END
        self._always = always
        self._entries = 1
        self.missed = 0
        """Runs that the kernel skipped before the program was detached."""
        self.failed = False
        """Whether the kernel refused to attach it again: results are lost."""

    def follow(self, newest: int) -> None:
        """Attach or detach the program. ``newest``: when something new was seen, on the monotonic clock in ns."""
        if self._always or self.failed:
            return
        learning = time.monotonic_ns() - newest < LEARNING_SECONDS * 1e9
        attached = self._programs.attached(self._function)
        if self._function == _BEGINNING:
            # What is new does not need it. It is here from the start because most filters are installed at a start.
            unusual = bool(self._programs.counter("UNUSUAL"))
            learning = unusual or (attached and learning)
        if learning and not attached:
            self._attach()
        elif attached and not learning:
            self._detach()

    def _attach(self) -> None:
        try:
            self._programs.attach_tracepoint(self._function, TRACEPOINTS[self._function])
        except TracerError:
            self.failed = True  # the workload runs on
            return
        if self._function == _BEGINNING:
            self._entries += 1
            self._programs.set_counter("ENTRIES", self._entries)

    def _detach(self) -> None:
        if self._function == _BEGINNING:
            if not _end_suffices(self._programs):
                self._always = True
                return
            self._programs.set_counter("ENTRIES", 0)
        self.missed += self._programs.missed(self._function)
        self._programs.detach(self._function)

    def count_in_flight(self) -> None:
        """Count the calls in which threads wait now, if only their ends would be seen."""
        if self._programs.attached(_END) and not self._programs.attached(_BEGINNING):
            if not self._programs.attached(_IN_FLIGHT):
                self._programs.attach_iterator(_IN_FLIGHT, "task")
            self._programs.iterate(_IN_FLIGHT)


def _end_suffices(programs: Programs) -> bool:
    """Whether on_sys_exit can do without on_sys_enter on this kernel: the registers are known, capset(2) is seen before
    it changes anything (by its check, which the LSM hook does not see), and so is a call that executes a program,
    before it gives up its registers. Has the kernel run _EXECUTING from now on."""
    if native_abi() != "x86_64" or programs.attached(CAPABILITY_LSM):
        return False
    if programs.attached(_EXECUTING):
        return True
    hooks = (programs.attach_tracepoint, "sched_prepare_exec"), (programs.attach_kprobe, "begin_new_exec")
    for attach_to, place in hooks:  # Linux 6.10; before
        with contextlib.suppress(TracerError):
            attach_to(_EXECUTING, place)
            return True
    return False
