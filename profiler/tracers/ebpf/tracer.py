"""Recording with eBPF: attach, let the workload go, read the maps when its last thread has ended.

The child is marked while it waits before its exec, so every thread that it will ever have is tracked from before the
first exec (recorder.bpf.c, on_fork).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from profiler.errors import TracerError
from profiler.tracers.base import Options, Workload
from profiler.tracers.ebpf.attaching import CAPABILITY_TRACEPOINT, TRACEPOINTS, Spare, attach
from profiler.tracers.ebpf.bcc import find_bcc
from profiler.tracers.ebpf.calls import Uses
from profiler.tracers.ebpf.limits import RINGS, limits_with
from profiler.tracers.ebpf.loader import Programs
from profiler.tracers.ebpf.reader import SHARED, STARTING, STAT_LAST_NEW, STAT_LIVE, STATS, Maps, Reader
from profiler.tracers.ebpf.shared import constant, structure
from profiler.tracers.host import has_capability
from profiler.tracers.launch import Child, EndedEarly, detach_helper, shell_status, spawn
from profiler.tracers.pace import Pace
from profiler.tracers.recording import Recording
from profiler.tracers.sockets import inherited_sockets
from profiler.tracers.supervisor import Supervisor, note_survivors
from profiler.wording import cause

_TICK_SECONDS = 0.1
_READ_SECONDS = 0.25
_SURVIVORS_SECONDS = 0.5
"""How long after the main process's end it is said which of its children still run."""
_KILL_ROUNDS, _KILL_SECONDS = 100, 0.02


class EbpfTracer:
    """See the module's text."""

    name = "ebpf"

    def unavailable(self) -> str | None:
        """See Tracer.unavailable: rights, the kernel's type data, bcc."""
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


def prepare(programs: Programs, reader: Reader, *, files: bool) -> list[str]:
    """Fill the maps of a single recording, attach the programs and open the ring of events; return the features of a
    trace. Raises TracerError."""
    programs.set_counter("NEXT_PROGRAM", constant("PROGRAM_FIRST"))
    programs.table("sessions")[0] = structure("session")(shared=SHARED)
    features = attach(programs, files=files)
    programs.open_ring("events", lambda data, _size: reader.on_event(data))
    return features


def arm(programs: Programs, pid: int) -> None:
    """Mark the waiting child that becomes the workload. Raises TracerError."""
    pidfd = os.pidfd_open(pid)  # user space addresses a task storage by a pidfd (Linux 5.11)
    state = structure("task_state")(state=constant("STATE_ARMED"), program=STARTING, last_number=constant("NO_NUMBER"))
    try:
        programs.table("tasks")[pidfd] = state
    except OSError as error:
        raise TracerError(f"the kernel refuses to mark the workload ({cause(error)})") from error
    finally:
        os.close(pidfd)
    programs.table("live")[pid] = pid
    session = programs.session(0)
    session.stats[STAT_LIVE] = 1
    programs.table("sessions")[0] = session


class _Run:
    def __init__(self, programs: Programs, workload: Workload, options: Options, recording: Recording) -> None:
        self.programs = programs
        self.workload = workload
        self.options = options
        self.recording = recording
        self.reader = Reader(programs, recording)
        self.uses = Uses(programs, self.reader) if options.files else None
        self.spare = Spare(programs, files=options.files)
        self.pace = Pace(_READ_SECONDS)
        self.looks = None if options.looks is None else Pace(options.looks)

    def run(self) -> int:
        self._prepare()
        stop = self.options.stop
        with Supervisor(self._live, self.options.duration, stop) as supervisor, self._guard():
            child = spawn(self.workload)
            self.recording.features += child.features
            self.recording.no_new_privs = child.no_new_privs
            try:
                arm(self.programs, child.pid)
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
            self.programs.consume(*RINGS)
            if self.programs.counter("NEXT_PROGRAM") <= constant("PROGRAM_FIRST"):  # nothing was executed
                raise failure or EndedEarly(shell_status(status))
        self._collect()
        return shell_status(status)

    # -- before and after ----------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        """Fill the maps, attach the programs, open the rings."""
        self.recording.features += prepare(self.programs, self.reader, files=self.uses is not None)
        if self.uses is not None:
            uses = self.uses
            self.programs.open_ring("paths", lambda data, size: uses.add(ctypes.string_at(data, size)))

    def _collect(self) -> None:
        """Read everything once; nothing is counted after this."""
        self._lose("missed", self.spare.missed + self.programs.missed(*TRACEPOINTS, CAPABILITY_TRACEPOINT))
        self._lose("results", int(self.spare.failed))
        if self.programs.first_fault is not None:
            self.recording.failed(*self.programs.first_fault, self.programs.faults)
        self._read(self.recording, over=True)
        self.recording.so_far = None

    def _read(self, recording: Recording, *, over: bool) -> None:
        """Read the maps into a recording. ``over``: nothing is counted any more."""
        maps = Maps(self.programs)
        self.reader.collect(recording, maps)
        if self.uses is not None:
            self.uses.collect(recording, maps, over=over)
        self.reader.collect_checks(recording, maps)

    def _lose(self, what: str, count: int) -> None:
        if count:
            self.recording.losses[what] += count

    # -- while it runs -------------------------------------------------------------------------------------------------

    def _wait(self, child: Child, supervisor: Supervisor) -> int:
        """Wait until the last watched thread has ended; return the main process's wait status."""
        status: int | None = None
        pidfd = os.pidfd_open(child.pid)
        rings = {self.programs.map_fd(name) for name in (RINGS if self.uses is not None else ("events",))}
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        for ring in rings:
            poller.register(ring, select.POLLIN)
        say_at = float("inf")
        busy = False
        try:
            while True:
                events = dict(poller.poll(0 if busy else _TICK_SECONDS * 1000))
                if rings & events.keys():
                    self.programs.consume(*RINGS)
                busy = self.uses is not None and self.uses.resolve()
                if status is None and pidfd in events:
                    _, status = os.waitpid(child.pid, 0)
                    poller.unregister(pidfd)
                    supervisor.main_ended()
                    say_at = time.monotonic() + _SURVIVORS_SECONDS
                stats = self.reader.stats()
                live = stats[STAT_LIVE]
                if status is not None and (live == 0 or self._all_gone()):
                    return status
                if time.monotonic() > say_at:
                    note_survivors(live)
                    say_at = float("inf")
                self._tick(stats)
        finally:
            os.close(pidfd)

    def _tick(self, stats: Any) -> None:
        last = stats[STAT_LAST_NEW]
        if last:
            quiet = (time.monotonic_ns() - last) / 1e9
            self.recording.last_new = max(0.0, self.recording.elapsed() - quiet)
            self.spare.follow(last)
        if self.looks is not None and self.looks.due():
            with self.looks.turn():
                self.recording.so_far = self._so_far()
        elif self.pace.due():
            with self.pace.turn():
                self.reader.read_calls()

    def _so_far(self) -> Recording:
        """Return what was seen so far, as a recording of its own."""
        known = self.recording
        seen = Recording(known.native)
        seen.began, seen.last_new, seen.losses = known.began, known.last_new, Counter(known.losses)
        self._read(seen, over=False)
        return seen

    def _live(self) -> list[int]:
        return list(self.programs.table("live"))

    def _all_gone(self) -> bool:
        """Whether no thread on the list exists any more.

        An end that the kernel did not report, which counts as missed, must not hang profgen. A thread leaves the list
        before it leaves /proc. The list is read twice, because each thread of a chain may start the next one and end.
        """
        listed_all = not self.reader.stats()[STATS.index("tasks")]
        listed = self._live()
        gone = bool(listed) and not any(os.path.exists(f"/proc/{tid}") for tid in listed)
        return listed_all and gone and set(self._live()) == set(listed)

    def _kill_all(self, main: int) -> None:
        _kill({*self._live(), main})
        with contextlib.suppress(ChildProcessError):
            os.waitpid(main, 0)

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        """Run a process that ends the workload if profgen is killed, which no handler of profgen's could do.

        It holds the maps open, so it finds every live thread after profgen is gone.
        """
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                detach_helper(read, self.programs.map_fd("live"))
                os.setpgid(0, 0)
                if os.read(read, 1) == b"":
                    for _ in range(_KILL_ROUNDS):
                        left = self._live()
                        if not left:
                            break
                        _kill(left)
                        time.sleep(_KILL_SECONDS)
            finally:
                os._exit(0)
        os.close(read)
        try:
            yield
        finally:
            with contextlib.suppress(BrokenPipeError):  # it was killed
                os.write(write, b"x")
            os.close(write)
            os.waitpid(pid, 0)


def _kill(tids: Iterable[int]) -> None:
    for tid in tids:
        with contextlib.suppress(OSError):
            os.kill(tid, signal.SIGKILL)
