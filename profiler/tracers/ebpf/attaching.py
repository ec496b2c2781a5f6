"""Where the recorder's programs are attached, and for how long."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping

from profiler.errors import TracerError
from profiler.kernel.abi import native_abi
from profiler.kernel.arguments import recorded_names, spec_for
from profiler.kernel.syscalls import number_of
from profiler.trace.model import FILES_FEATURE
from profiler.tracers.ebpf.loader import Programs
from profiler.tracers.ebpf.reader import ABI_ORDER, NUMBERS
from profiler.tracers.ebpf.shared import constant
from profiler.tracers.ebpf.specs import TAILS, rows

TRACEPOINTS: Mapping[str, str] = {
    "on_fork": "sched_process_fork",
    "on_exit": "sched_process_exit",
    "on_exec": "sched_process_exec",
    "on_sys_enter": "sys_enter",
    "on_sys_exit": "sys_exit",
}
"""Programs of recorder.bpf.c and where each is attached."""

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
CAPABILITY_TRACEPOINT = "on_cap_tracepoint"

LEARNING_SECONDS = 2.0
"""Results are learnt until nothing new has come for so long."""
_SHARE = 20
"""Reading the maps may take one part in so many of a processor's time."""


def attach_capability_hook(programs: Programs, way: str) -> None:
    """Attach one of CAPABILITY_HOOKS. Raises TracerError when this kernel does not have it or refuses it."""
    if way == "tracepoint":
        programs.attach_tracepoint(CAPABILITY_TRACEPOINT, "cap_capable")
    elif way == "kprobe":
        programs.attach_kprobe("on_cap_entry", "on_cap_return", "cap_capable")
    else:
        programs.attach_lsm("on_cap_lsm", "capable")


def attach(programs: Programs, *, files: bool, extra: Mapping[str, str] | None = None) -> list[str]:
    """Load and attach the recorder, and return the features of a trace.

    ``extra``: more functions and their tracepoints, attached first. Raises TracerError.
    """
    tails = TAILS if files else ()
    found = {function: name for function, name in OPTIONAL_TRACEPOINTS.items() if programs.has_tracepoint(name)}
    tracepoints = {**(extra or {}), **found, **TRACEPOINTS}
    programs.load_tracepoints({**tracepoints, **{function: "sys_exit" for function, _ in tails}})
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


def fill_specs(programs: Programs, *, files: bool) -> None:
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
            table[index * NUMBERS + number] = row
    _fill_algorithms(programs)


def _fill_algorithms(programs: Programs) -> None:
    """Tell the recorder which congestion controls anybody may choose (tcp(7)), by the first eight bytes."""
    with contextlib.suppress(OSError), open("/proc/sys/net/ipv4/tcp_allowed_congestion_control", "rb") as file:
        for index, name in enumerate(file.read().split()[: constant("ALGORITHMS")]):
            programs.table("algorithms")[index] = int.from_bytes(name[:8], "little")


class ResultHook:
    """The program at every call's end, which costs every process of the machine: attached only while results are
    learnt."""

    _FUNCTION = "on_sys_exit"

    def __init__(self, programs: Programs, *, always: bool) -> None:
        """``always``: something else than results needs the program too. It is attached now."""
        self._programs = programs
        self._always = always
        self.missed = 0
        """Runs that the kernel skipped before the program was detached."""
        self.failed = False
        """Whether the kernel refused to attach it again: results are lost."""

    def follow(self, newest: int) -> None:
        """Attach or detach the program. ``newest``: when something new was seen, on the monotonic clock in ns."""
        if self._always:
            return
        learning = time.monotonic_ns() - newest < LEARNING_SECONDS * 1e9
        attached = self._programs.attached(self._FUNCTION)
        if learning and not attached and not self.failed:
            try:
                self._programs.attach_tracepoint(self._FUNCTION, TRACEPOINTS[self._FUNCTION])
            except TracerError:
                self.failed = True  # the workload runs on
        elif attached and not learning:
            self.missed += self._programs.missed(self._FUNCTION)
            self._programs.detach(self._FUNCTION)


class Pace:
    """How often the maps are read: reading takes longer the more programs there are."""

    def __init__(self, least: float) -> None:
        """``least``: seconds between two times."""
        self._least = least
        self.next = 0.0

    def due(self) -> bool:
        """Whether it is time."""
        return time.monotonic() >= self.next

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Measure a reading, and set the time of the next one."""
        began = time.monotonic()
        yield
        self.next = began + max(self._least, _SHARE * (time.monotonic() - began))
