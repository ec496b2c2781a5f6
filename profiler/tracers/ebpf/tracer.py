"""Recording with eBPF: attach, let the workload go, read the maps when its last thread has ended.

Order matters: the child is marked while it waits at its gate, so every thread it will ever have is tracked from before
the first exec (recorder.bpf.c, on_fork). Results need a program at every syscall's exit, which costs every process of
the machine; it is attached while the recording still learns and taken off when nothing new has come for a while.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import posixpath
import select
import signal
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from profiler.errors import InputError, TracerError
from profiler.kernel.abi import native_abi
from profiler.kernel.arguments import recorded_names, spec_for
from profiler.kernel.capabilities import is_advisory, is_audited
from profiler.kernel.capabilities import name_of as capability_name
from profiler.kernel.syscalls import number_of
from profiler.tracers.base import Options, Workload
from profiler.tracers.ebpf.loader import DEFAULT_LIMITS, Programs, find_bcc
from profiler.tracers.host import absolute
from profiler.tracers.launch import Child, Ended, shell_status, spawn
from profiler.tracers.recording import UNKNOWN_PROGRAM, Recording, Row
from profiler.tracers.supervisor import Supervisor, note_survivors

STATS = ("tasks", "programs", "syscalls", "arguments", "results", "capabilities", "stacks", "events", "execs", "paths")
"""Losses, in the order of ``enum stat`` in recorder.bpf.c; the facts for user space follow."""

_LIVE, _LAST_NEW, _PROGRAMS = range(len(STATS), len(STATS) + 3)
_ABIS = {"x86_64": ("x86_64", "i386", "x32"), "aarch64": ("aarch64", "arm")}
_NUMBERS = 512
_STARTING, _SHARED = 0, 1
"""Program numbers with a meaning: before the first exec, and for programs that found no room of their own."""

_ARMED = 1
_TASK_STATE_BYTES = 88
_ACCESS_CALLS = frozenset({"access", "faccessat", "faccessat2"})
_LEARNING_SECONDS = 2.0
_TICK_SECONDS = 0.1
_VALUES_MAX_IN_KERNEL = 4096

CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF = 21, 38, 39

TRACEPOINTS = (
    ("on_fork", "sched_process_fork"),
    ("on_exit", "sched_process_exit"),
    ("on_exec", "sched_process_exec"),
    ("on_sys_enter", "sys_enter"),
    ("on_sys_exit", "sys_exit"),
)
"""Programs of recorder.bpf.c and where each is attached."""

CAPABILITY_HOOKS = ("tracepoint", "kprobe", "lsm")
"""Ways to see capability checks, best first."""


def attach_capability_hook(programs: Programs, way: str) -> None:
    """Attach one of CAPABILITY_HOOKS. Raises TracerError when this kernel does not have it or refuses it."""
    if way == "tracepoint":
        programs.attach_tracepoint("on_cap_tracepoint", "cap_capable")
    elif way == "kprobe":
        programs.attach_kprobe("on_cap_entry", "on_cap_return", "cap_capable")
    else:
        programs.attach_lsm("on_cap_lsm", "capable")


SYMBOLS_HIDDEN = "the kernel hides the names of its functions"
SYMBOLS_FIX = "sysctl kernel.kptr_restrict=1, and CAP_SYSLOG"


def symbols_readable() -> bool:
    """Whether /proc/kallsyms shows addresses to us (kernel.kptr_restrict, proc_sys_kernel(5))."""
    with open("/proc/kallsyms") as file:
        # Per-processor symbols may truly be at 0, functions are not.
        return any(int(line[:16], 16) != 0 for line in file if line[17:18] in "tT")


class EbpfTracer:
    """See the module's text."""

    name = "ebpf"

    def unavailable(self) -> str | None:
        """Rights, bcc, kernel type data."""
        effective = _effective_capabilities()
        if not effective >> CAP_SYS_ADMIN & 1 and not (effective >> CAP_BPF & 1 and effective >> CAP_PERFMON & 1):
            return "it needs root, or CAP_BPF with CAP_PERFMON"
        if not os.path.exists("/sys/kernel/btf/vmlinux"):
            return "this kernel has no /sys/kernel/btf/vmlinux (CONFIG_DEBUG_INFO_BTF)"
        if find_bcc() is None:
            return "bcc is not installed; install it: apt install python3-bpfcc"
        return None

    def record(self, workload: Workload, options: Options, recording: Recording) -> int:
        """See Tracer.record."""
        reason = self.unavailable()
        if reason is not None:
            raise TracerError(f"the ebpf tracer does not work here: {reason}")
        programs = Programs(limits_with(options.limits))
        try:
            return _Run(programs, workload, options, recording).run()
        finally:
            programs.close()


def limits_with(given: Mapping[str, int]) -> dict[str, int]:
    """The default limits with those given. Raises InputError for an unknown name or a size the kernel cannot have."""
    limits = dict(DEFAULT_LIMITS)
    for name, size in given.items():
        if name not in limits:
            raise InputError(f"no limit is named {name!a}; there are: {', '.join(limits)}")
        if name == "events" and size & (size - 1):
            raise InputError("the limit events is in pages and must be a power of two")
        # two program numbers have a meaning of their own
        limits[name] = max(size, 3) if name == "programs" else size
    return limits


def _effective_capabilities() -> int:
    with open("/proc/self/status") as status:
        return next((int(line.split()[1], 16) for line in status if line.startswith("CapEff:")), 0)


class _Event(ctypes.Structure):
    """``struct event`` of recorder.bpf.c."""

    _fields_ = [
        ("program", ctypes.c_uint32),
        ("script", ctypes.c_uint32),
        ("exe_length", ctypes.c_uint32),
        ("cwd_length", ctypes.c_uint32),
        ("truncated", ctypes.c_uint32),
        ("foreign", ctypes.c_uint32),
        ("argv0", ctypes.c_char * 256),
        ("name", ctypes.c_char * 4096),
        ("exe", ctypes.c_byte * 8192),
        ("cwd", ctypes.c_byte * 8192),
    ]


@dataclass(frozen=True)
class _Executed:
    """A program as its first exec reported it."""

    path: str
    interpreter: str | None
    argv0: str | None


class _Run:
    def __init__(self, programs: Programs, workload: Workload, options: Options, recording: Recording) -> None:
        self.programs = programs
        self.workload = workload
        self.options = options
        self.recording = recording
        self.abis = _ABIS[native_abi()]
        self.executed: dict[int, _Executed] = {}
        self.calls: dict[tuple[int, str, int], int] = {}
        self.last_seen: dict[tuple[int, str, int], float] = {}
        self.last_counts: dict[int, bytes] = {}
        self.read_at = 0.0
        self.first = _SHARED
        self.named = symbols_readable()
        self.chains: dict[int, tuple[str, ...]] = {}

    def run(self) -> int:
        self._fill_specs()
        self._attach()
        ring = self.programs.table("events")
        ring.open_ring_buffer(self._on_event)
        with Supervisor(self._live, self.options.duration) as supervisor, self._guard():
            child = spawn(self.workload)
            try:
                self._arm(child)
                self.recording.begin()
                child.release()
                supervisor.start(child.pid)
                status = self._wait(child, supervisor)
            except BaseException:
                self._kill_all(child.pid)
                raise
            failure = child.exec_failure()
            self.programs.bpf.ring_buffer_consume()
            if self.programs.table("stats")[ctypes.c_int(_PROGRAMS)].value <= _SHARED + 1:
                raise failure or Ended(shell_status(status))
        # Nothing is counted after this, and what was counted is read once.
        for function, _ in TRACEPOINTS:
            self._missed(function)
        self._missed("on_cap_tracepoint")
        self._collect()
        return shell_status(status)

    # -- before ----------------------------------------------------------------------------------------------------

    def _attach(self) -> None:
        programs = self.programs
        stats = programs.table("stats")
        stats[ctypes.c_int(_PROGRAMS)] = ctypes.c_uint64(_SHARED + 1)
        for function, tracepoint in TRACEPOINTS:
            programs.attach_tracepoint(function, tracepoint)
        reasons = []
        for way in CAPABILITY_HOOKS:
            try:
                attach_capability_hook(programs, way)
            except TracerError as error:
                reasons.append(f"{way}: {error}")
            else:
                self.recording.features.append(f"capabilities:{way}")
                break
        else:
            raise TracerError(f"capability checks cannot be seen here ({'; '.join(reasons)}); use --tracer ptrace")
        self.recording.features.append("results:until-first-success")

    def _fill_specs(self) -> None:
        specs = self.programs.table("specs")
        for index, abi in enumerate(self.abis):
            for name in recorded_names():
                number, spec = number_of(abi, name), spec_for(name, abi)
                if number is None or spec is None or number >= _NUMBERS:
                    continue
                row = specs.Leaf()
                row.count, row.pointer = len(spec.fields), int(spec.pointer)
                for position, (argument, mask) in enumerate(zip(spec.positions, spec.masks, strict=True)):
                    row.position[position], row.mask[position] = argument, mask
                specs[ctypes.c_int(index * _NUMBERS + number)] = row

    def _arm(self, child: Child) -> None:
        """Mark the waiting child. A task storage is addressed by a pidfd from user space (Linux 5.11)."""
        bpf = ctypes.CDLL("libbcc_bpf.so.0", use_errno=True)
        pidfd = os.pidfd_open(child.pid)
        try:
            key = ctypes.c_int(pidfd)
            state = ctypes.create_string_buffer(struct.pack("=IIIIIII", _ARMED, _STARTING, 0, 0, 0, 0, 0xFFFFFFFF), _TASK_STATE_BYTES)
            if bpf.bpf_update_elem(self.programs.map_fd("tasks"), ctypes.byref(key), state, ctypes.c_ulonglong(0)) != 0:
                raise TracerError(f"the kernel refuses to mark the workload ({os.strerror(ctypes.get_errno()).lower()})")
        finally:
            os.close(pidfd)
        self.programs.table("live")[ctypes.c_uint(child.pid)] = ctypes.c_uint(child.pid)
        self.programs.table("stats")[ctypes.c_int(_LIVE)] = ctypes.c_uint64(1)

    # -- while it runs ---------------------------------------------------------------------------------------------

    def _wait(self, child: Child, supervisor: Supervisor) -> int:
        """Until the last watched thread has ended; returns the main process's wait status."""
        status: int | None = None
        pidfd = os.pidfd_open(child.pid)
        ring = self.programs.map_fd("events")
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        poller.register(ring, select.POLLIN)
        stats = self.programs.table("stats")
        noted_at = 0.0
        try:
            while True:
                events = dict(poller.poll(_TICK_SECONDS * 1000))
                if ring in events:
                    self.programs.bpf.ring_buffer_consume()
                if status is None and pidfd in events:
                    _, status = os.waitpid(child.pid, 0)
                    poller.unregister(pidfd)
                    supervisor.main_ended()
                live = stats[ctypes.c_int(_LIVE)].value
                if status is not None and live == 0:
                    return status
                if status is not None and not noted_at:
                    noted_at = time.monotonic()
                if noted_at and noted_at > 0 and time.monotonic() - noted_at > 0.5:
                    note_survivors(live)
                    noted_at = -1.0
                self._tick(stats)
        finally:
            os.close(pidfd)

    def _tick(self, stats: Any) -> None:
        last = stats[ctypes.c_int(_LAST_NEW)].value
        quiet = (time.monotonic_ns() - last) / 1e9 if last else 0.0
        if last:
            self.recording.last_new = max(0.0, self.recording.elapsed() - quiet)
        learning = quiet < _LEARNING_SECONDS
        if learning != self.programs.attached("on_sys_exit"):
            if learning:
                self.programs.attach_tracepoint("on_sys_exit", "sys_exit")
            else:
                self._missed("on_sys_exit")
                self.programs.detach("on_sys_exit")
        now = time.monotonic()
        if now < self.read_at:
            return
        self._read_calls()
        # Reading takes longer the more programs there are; it is to cost no more than a twentieth of a processor.
        self.read_at = now + max(0.25, 20 * (time.monotonic() - now))
        self.recording.syscalls_seen = len({(abi, number) for _, abi, number in self.calls})
        self.recording.capabilities_seen = self._needed()

    def _missed(self, function: str) -> None:
        """Count the runs of a program that the kernel skipped: what they would have seen is lost."""
        if self.programs.attached(function):
            missed = self.programs.missed(function)
            if missed:
                self.recording.losses["missed"] += missed

    def _read_calls(self) -> None:
        """Counts so far, and when each was last seen to grow: the kernel keeps no time at each call, that would cost too much."""
        now = round(self.recording.elapsed(), 3)
        counts = self.programs.table("counts")
        for program in range(self._program_count()):
            per_cpu = counts.getvalue(ctypes.c_int(program))
            content = bytes(per_cpu) if isinstance(per_cpu, ctypes.Array) else b"".join(bytes(row) for row in per_cpu)
            if content == self.last_counts.get(program):
                continue
            self.last_counts[program] = content
            for number, total in enumerate(_column_sums(content)):
                if total and self.calls.get((program, self.abis[0], number)) != total:
                    self.calls[program, self.abis[0], number] = total
                    self.last_seen[program, self.abis[0], number] = now
        for key, value in self.programs.table("others").items():
            place = (key.program, self.abis[key.abi], int(key.number))
            if self.calls.get(place) != value.calls:
                self.calls[place] = value.calls
                self.last_seen[place] = now

    def _program_count(self) -> int:
        seen: int = self.programs.table("stats")[ctypes.c_int(_PROGRAMS)].value
        return min(seen, len(self.programs.table("programs")))

    def _live(self) -> list[int]:
        return [key.value for key in self.programs.table("live")]

    def _kill_all(self, main: int) -> None:
        for pid in {*self._live(), main}:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(main, 0)

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        """A process that ends the workload if profgen is killed, which no handler of ours could do.

        It holds the maps open, so it knows every live thread even when profgen is gone.
        """
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                # Not even a copy of a program's descriptor may stay here: it would keep what profgen detaches attached.
                kept = sorted({read, self.programs.map_fd("live")})
                for low, high in zip([-1, *kept], [*kept, os.sysconf("SC_OPEN_MAX")], strict=True):
                    os.closerange(low + 1, high)
                signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP})
                os.setpgid(0, 0)
                if os.read(read, 1) == b"":
                    for _ in range(100):
                        left = self._live()
                        if not left:
                            break
                        for tid in left:
                            with contextlib.suppress(OSError):
                                os.kill(tid, signal.SIGKILL)
                        time.sleep(0.02)
            finally:
                os._exit(0)
        os.close(read)
        try:
            yield
        finally:
            with contextlib.suppress(BrokenPipeError):  # it was killed: then there is nobody to dismiss
                os.write(write, b"x")
            os.close(write)
            os.waitpid(pid, 0)

    # -- programs --------------------------------------------------------------------------------------------------

    def _on_event(self, _context: Any, data: int, _size: int) -> None:
        event = _Event.from_address(data)
        executable = path_of(bytes(event.exe)[: event.exe_length]) if event.exe_length else UNKNOWN_PROGRAM
        name = os.fsdecode(event.name)
        argv0 = os.fsdecode(event.argv0)
        script = bool(event.script) and not name.startswith("/dev/fd/")
        if script:
            directory = path_of(bytes(event.cwd)[: event.cwd_length]) if event.cwd_length else "/"
            self.executed[event.program] = _Executed(absolute(directory, name), executable, argv0)
        else:
            self.executed[event.program] = _Executed(executable, None, argv0)
        self.recording.program(*self._identity(event.program), local=not event.foreign)

    def _identity(self, program: int) -> tuple[str, str | None, str | None]:
        known = self.executed.get(program)
        return (UNKNOWN_PROGRAM, None, None) if known is None else (known.path, known.interpreter, known.argv0)

    def _index(self, program: int) -> int:
        """The recording's index of a kernel program number; the start belongs to the first program executed."""
        if program == _STARTING:
            program = self.first
        return self.recording.program(*self._identity(program))

    # -- after -----------------------------------------------------------------------------------------------------

    def _collect(self) -> None:
        """Read every map into the recording."""
        recording, programs = self.recording, self.programs
        last_new = recording.last_new
        stats = programs.table("stats")
        self.first = next((key.program for key in programs.table("execs") if key.by == _STARTING), _SHARED)
        self._read_calls()
        for number, name in enumerate(STATS):
            lost = stats[ctypes.c_int(number)].value
            if lost:
                recording.losses[name] += lost
        for (program, abi, number), calls in sorted(self.calls.items()):
            self._row(program, abi, number).calls += calls
        self._collect_states()
        for key, value in programs.table("others").items():
            row = self._row(key.program, self.abis[key.abi], int(key.number))
            row.ok += 1 if value.ok else 0
            row.first = self._seconds(value.first) if not row.first else min(row.first, self._seconds(value.first))
        for key, value in programs.table("results").items():
            row = self._row(key.program, self.abis[key.abi], int(key.number))
            row.errors[errno.errorcode.get(key.error, str(key.error))] += value.value
        self._collect_values()
        self._collect_checks()
        for key, value in programs.table("execs").items():
            by = None if key.by == _STARTING else self._index(key.by)
            recording.executed(self._index(key.program), by, value.value)
        last = stats[ctypes.c_int(_LAST_NEW)].value
        recording.last_new = max(last_new, self._seconds(last)) if last else last_new

    def _row(self, program: int, abi: str, number: int) -> Row:
        key = (self._index(program), abi, number)
        row = self.recording.rows.get(key)
        if row is None:
            row = self.recording.rows[key] = Row()
        row.last = max(row.last, self.last_seen.get((program, abi, number), 0.0))
        return row

    def _collect_states(self) -> None:
        table = self.programs.table("programs")
        for program in range(self._program_count()):
            state = table[ctypes.c_int(program)]
            for number in range(_NUMBERS):
                word, bit = number // 64, 1 << number % 64
                if not state.seen[word] & bit:
                    continue
                row = self._row(program, self.abis[0], number)
                first = self._seconds(state.first[number])
                row.first = first if not row.first else min(row.first, first)
                row.ok += 1 if state.ok[word] & bit else 0

    def _collect_values(self) -> None:
        overfull = self.programs.table("argument_counts")
        names = {
            (index, number): name
            for index, abi in enumerate(self.abis)
            for name in recorded_names()
            if (number := number_of(abi, name)) is not None and spec_for(name, abi) is not None
        }
        for key in self.programs.table("arguments"):
            name = names[key.abi, key.number]
            spec = spec_for(name, self.abis[key.abi])
            assert spec is not None
            self.recording.value(self.abis[key.abi], name, tuple(key.value)[: len(spec.fields)], self._index(key.program))
        for (index, number), name in names.items():
            if number < _NUMBERS and overfull[ctypes.c_int(index * _NUMBERS + number)].value >= _VALUES_MAX_IN_KERNEL:
                self.recording.values_overflowed(self.abis[index], name)

    def _collect_checks(self) -> None:
        if not self.named and len(self.programs.table("checks")):
            self.recording.features.append("chains:none")
            self.recording.warnings.append(f"{SYMBOLS_HIDDEN}, so checks that settle nothing count as needed; {SYMBOLS_FIX}")
        for key, value in self.programs.table("checks").items():
            name = _capability_name(key.cap)
            chain = self._chain(key.stack)
            self.recording.check(
                (
                    name,
                    "child" if key.child else "initial",
                    "refused" if key.refused else "granted",
                    {1: False, 2: True}.get(key.audited) if key.audited else is_audited(chain),
                    self._decisive(key),
                    False,
                ),
                self._index(key.program),
                self._label(key),
                count=value.count,
                first=self._seconds(value.first),
                last=self._seconds(value.last),
                chain=chain,
            )

    def _needed(self) -> int:
        """Capabilities needed so far, for the live line."""
        checks = self.programs.table("checks")
        return len({key.cap for key in checks if not key.refused and not key.child and self._decisive(key)})

    def _label(self, key: Any) -> str:
        return self.recording.label(self.abis[key.abi], int(key.number))

    def _decisive(self, key: Any) -> bool:
        # access(2) swaps credentials to ask for the real ids; any other swap asks for somebody else's (overlayfs).
        foreign = bool(key.overridden) and self._label(key).rpartition(":")[2] not in _ACCESS_CALLS
        return not (key.idle or foreign or is_advisory(_capability_name(key.cap), self._chain(key.stack)))

    def _chain(self, stack: int) -> tuple[str, ...]:
        """A kernel call chain by its key; empty when names are hidden, or when it found no room (then it is counted as lost)."""
        if stack not in self.chains:
            try:
                addresses = self.programs.table("stacks")[ctypes.c_uint64(stack)].address if self.named else ()
            except KeyError:
                addresses = ()
            self.chains[stack] = self.programs.chain(address for address in addresses if address)
        return self.chains[stack]

    def _seconds(self, nanoseconds: int) -> float:
        """Time of the kernel's monotonic clock as seconds from the start of the recording."""
        return float(max(0.0, nanoseconds / 1e9 - self.recording.began))


def _capability_name(number: int) -> str:
    return capability_name(number) or f"CAP_{number}"


def path_of(components: bytes) -> str:
    """An absolute path from NUL-ended components, leaf first, as ``walk`` in recorder.bpf.c writes them."""
    parts = [os.fsdecode(part) for part in components.split(b"\0") if part]
    return posixpath.join("/", *reversed(parts))


def _column_sums(content: bytes) -> list[int]:
    """Per-processor rows of _NUMBERS counts, summed over processors."""
    words = memoryview(content).cast("Q")
    rows = [words[start : start + _NUMBERS] for start in range(0, len(words), _NUMBERS)]
    return list(rows[0]) if len(rows) == 1 else [sum(column) for column in zip(*rows, strict=True)]
