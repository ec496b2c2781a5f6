"""Recording with eBPF: attach, let the workload go, read the maps when its last thread has ended.

Order matters: the child is marked while it waits at its gate, so every thread it will ever have is tracked from before
the first exec (recorder.bpf.c, on_fork). Results need a program at every syscall's exit, which costs every process of
the machine; it is attached while the recording still learns and taken off when nothing new has come for a while.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import time
from collections.abc import Iterator, Mapping
from typing import Any

from profiler.errors import InputError, TracerError
from profiler.kernel.abi import native_abi
from profiler.kernel.arguments import recorded_names, spec_for
from profiler.kernel.syscalls import number_of
from profiler.trace.model import FILES_FEATURE
from profiler.tracers.base import Options, Workload
from profiler.tracers.ebpf.calls import Uses
from profiler.tracers.ebpf.loader import DEFAULT_LIMITS, PAGES, Programs, find_bcc
from profiler.tracers.ebpf.reader import (
    ABI_ORDER,
    NUMBERS,
    SHARED,
    STARTING,
    STAT_LAST_NEW,
    STAT_LIVE,
    STATS,
    Maps,
    Reader,
)
from profiler.tracers.ebpf.shared import constant, structure
from profiler.tracers.ebpf.specs import TAILS, rows
from profiler.tracers.host import has_capability
from profiler.tracers.launch import Child, EndedEarly, detach_helper, shell_status, spawn
from profiler.tracers.recording import Recording
from profiler.tracers.sockets import inherited_sockets
from profiler.tracers.supervisor import Supervisor, note_survivors
from profiler.wording import cause

_LEARNING_SECONDS = 2.0
_TICK_SECONDS = 0.1

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


def attach(programs: Programs, *, files: bool, extra: Mapping[str, str] | None = None) -> list[str]:
    """Load and attach the recorder; ``extra``: more functions and their tracepoints, attached first. Returns the
    features of a trace.

    Raises TracerError.
    """
    tails = TAILS if files else ()
    tracepoints = {**(extra or {}), **dict(TRACEPOINTS)}
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
        for number in used.keys() | recorded.keys():
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
            table[ctypes.c_int(index * NUMBERS + number)] = row


class EbpfTracer:
    """See the module's text."""

    name = "ebpf"

    def unavailable(self) -> str | None:
        """Rights, bcc, kernel type data."""
        if not has_capability("CAP_SYS_ADMIN") and not (has_capability("CAP_BPF") and has_capability("CAP_PERFMON")):
            return "needs root, or CAP_BPF and CAP_PERFMON"
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
        programs = Programs(limits_with(options.limits), uses=options.files)
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
        if name in PAGES and size & (size - 1):
            raise InputError(f"the limit {name} is in pages and must be a power of two")
        # two program numbers have a meaning of their own
        limits[name] = max(size, 3) if name == "programs" else size
    return limits


class _Run:
    def __init__(self, programs: Programs, workload: Workload, options: Options, recording: Recording) -> None:
        self.programs = programs
        self.workload = workload
        self.options = options
        self.recording = recording
        self.reader = Reader(programs, recording)
        self.uses = Uses(programs, self.reader) if options.files else None
        self.read_at = 0.0

    def run(self) -> int:
        fill_specs(self.programs, files=self.uses is not None)
        self.programs.set_counter("NEXT_PROGRAM", constant("PROGRAM_FIRST"))
        session = self.programs.table("sessions").Leaf()
        session.shared = SHARED
        self.programs.table("sessions")[ctypes.c_int(0)] = session
        self.recording.features += attach(self.programs, files=self.uses is not None)
        self.programs.open_ring("events", lambda _context, data, _size: self.reader.on_event(data))
        if self.uses is not None:
            uses = self.uses
            self.programs.open_ring("paths", lambda _context, data, size: uses.add(ctypes.string_at(data, size)))
        with Supervisor(self._live, self.options.duration) as supervisor, self._guard():
            child = spawn(self.workload)
            try:
                self._arm(child)
                if self.uses is not None:
                    self.recording.inherited = inherited_sockets(child.pid)
                self.recording.begin()
                child.release()
                supervisor.start(child.pid)
                status = self._wait(child, supervisor)
            except BaseException:
                self._kill_all(child.pid)
                raise
            failure = child.exec_failure()
            self.programs.consume(*PAGES)
            if self.programs.counter("NEXT_PROGRAM") <= constant("PROGRAM_FIRST"):
                raise failure or EndedEarly(shell_status(status))
        # Nothing is counted after this, and what was counted is read once.
        for function, _ in TRACEPOINTS:
            self._missed(function)
        self._missed("on_cap_tracepoint")
        maps = Maps(self.programs)
        self.reader.collect(self.recording, maps)
        if self.uses is not None:
            self.uses.collect(self.recording, maps, over=True)
        return shell_status(status)

    # -- before ----------------------------------------------------------------------------------------------------

    def _arm(self, child: Child) -> None:
        """Mark the waiting child. A task storage is addressed by a pidfd from user space (Linux 5.11)."""
        bpf = ctypes.CDLL("libbcc_bpf.so.0", use_errno=True)
        pidfd = os.pidfd_open(child.pid)
        try:
            key = ctypes.c_int(pidfd)
            state = structure("task_state")(
                state=constant("STATE_ARMED"), program=STARTING, last_number=constant("NO_NUMBER")
            )
            if bpf.bpf_update_elem(
                self.programs.map_fd("tasks"), ctypes.byref(key), ctypes.byref(state), ctypes.c_ulonglong(0)
            ):
                raise TracerError(f"the kernel refuses to mark the workload ({cause(ctypes.get_errno())})")
        finally:
            os.close(pidfd)
        self.programs.table("live")[ctypes.c_uint(child.pid)] = ctypes.c_uint(child.pid)
        sessions = self.programs.table("sessions")
        session = sessions[ctypes.c_int(0)]
        session.stats[STAT_LIVE] = 1
        sessions[ctypes.c_int(0)] = session

    # -- while it runs ---------------------------------------------------------------------------------------------

    def _wait(self, child: Child, supervisor: Supervisor) -> int:
        """Until the last watched thread has ended; returns the main process's wait status."""
        status: int | None = None
        pidfd = os.pidfd_open(child.pid)
        rings = {self.programs.map_fd(name) for name in (PAGES if self.uses is not None else ("events",))}
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        for ring in rings:
            poller.register(ring, select.POLLIN)
        noted_at = 0.0
        busy = False
        try:
            while True:
                events = dict(poller.poll(0 if busy else _TICK_SECONDS * 1000))
                if rings & events.keys():
                    self.programs.consume(*PAGES)
                busy = self.uses is not None and self.uses.resolve()
                if status is None and pidfd in events:
                    _, status = os.waitpid(child.pid, 0)
                    poller.unregister(pidfd)
                    supervisor.main_ended()
                stats = self.reader.stats()
                live = stats[STAT_LIVE]
                if status is not None and (live == 0 or self._all_gone()):
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
        last = stats[STAT_LAST_NEW]
        quiet = (time.monotonic_ns() - last) / 1e9 if last else 0.0
        if last:
            self.recording.last_new = max(0.0, self.recording.elapsed() - quiet)
        learning = self.uses is not None or quiet < _LEARNING_SECONDS  # uses are seen at calls' ends
        if learning != self.programs.attached("on_sys_exit"):
            if learning and not self.recording.losses["results"]:
                try:
                    self.programs.attach_tracepoint("on_sys_exit", "sys_exit")
                except TracerError:
                    self.recording.losses["results"] += 1  # the workload runs: no reason to end it
            elif not learning:
                self._missed("on_sys_exit")
                self.programs.detach("on_sys_exit")
        now = time.monotonic()
        if now < self.read_at:
            return
        self.reader.read_calls()
        # Reading takes longer the more programs there are; it is to cost no more than a twentieth of a processor.
        self.read_at = now + max(0.25, 20 * (time.monotonic() - now))
        self.recording.syscalls_seen = len({(abi, number) for _, abi, number in self.reader.calls})
        self.recording.capabilities_seen = self.reader.needed()

    def _missed(self, function: str) -> None:
        """Count the runs of a program that the kernel skipped: what they would have seen is lost."""
        if self.programs.attached(function):
            missed = self.programs.missed(function)
            if missed:
                self.recording.losses["missed"] += missed

    def _live(self) -> list[int]:
        return [key.value for key in self.programs.table("live")]

    def _all_gone(self) -> bool:
        """Whether no thread on the list exists any more: an end that the kernel did not tell of (counted as missed)
        must not hang us.

        What ends otherwise is off the list before it is gone from /proc. If the list stays the same meanwhile, it is no
        chain of threads, each of which starts the next and ends.
        """
        listed_all = not self.reader.stats()[STATS.index("tasks")]
        listed = self._live()
        gone = bool(listed) and not any(os.path.exists(f"/proc/{tid}") for tid in listed)
        return listed_all and gone and set(self._live()) == set(listed)

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
                detach_helper(read, self.programs.map_fd("live"))
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
