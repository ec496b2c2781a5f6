"""The ptrace tracer: no privileges, no compiler.

The workload carries a seccomp filter that answers RET_TRACE to every call, so each call costs one stop
(PTRACE_EVENT_SECCOMP, ptrace(2)), in which PTRACE_GET_SYSCALL_INFO gives its ABI, number and arguments. A second stop,
at the exit, is requested only where the result matters: until the call has succeeded once in its program, and for the
calls from which capabilities are inferred. A thread that is killed before its exit stop is served stops once more as it
ends (PTRACE_EVENT_EXIT), and its registers then hold the result. PTRACE_O_EXITKILL kills the workload if profgen is
killed: without a tracer, the filter would make every call fail with ENOSYS.

All threads that have stopped are taken from the kernel before any of them goes on: waitpid(2) tells of the newest
tracee first, so busy new ones would leave an old one stopped for ever.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import signal
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from ptrace.binding import func as binding
from ptrace.ctypes_libc import libc

from profiler.confinement import Loader, forbid_new_privileges
from profiler.errors import TracerError
from profiler.kernel.abi import abi_of, native_abi
from profiler.kernel.arguments import ArgumentSpec, spec_for
from profiler.kernel.errno import is_restart
from profiler.kernel.errno import name_of as error_name
from profiler.kernel.file_capabilities import FileCapabilities
from profiler.kernel.files import late_looks, looked
from profiler.kernel.syscalls import name_of
from profiler.trace.collection import rare_collection
from profiler.trace.model import FILES_FEATURE
from profiler.tracers.base import GRACE_SECONDS, Options, Workload
from profiler.tracers.errands import Parking, Waiting
from profiler.tracers.host import has_capability, identify_process, shares_root
from profiler.tracers.launch import Child, EndedEarly, shell_status, spawn
from profiler.tracers.living import thread_lives
from profiler.tracers.ptrace.births import Births, made_by
from profiler.tracers.ptrace.calls import Evidence
from profiler.tracers.ptrace.capabilities import Call, Inference
from profiler.tracers.ptrace.filters import Filters
from profiler.tracers.ptrace.registers import FIRST_ERROR, answer, call_result, set_first_argument
from profiler.tracers.ptrace.rows import Enter, Exit, Leave
from profiler.tracers.ptrace.threads import CHANGES, Threads
from profiler.tracers.recording import Recording, Row
from profiler.tracers.seccomp import TRACE_ALL
from profiler.tracers.sockets import inherited_sockets
from profiler.tracers.supervisor import Supervisor, note_survivors
from profiler.wording import UNKNOWN, cause, counted

WALL = 0x40000000
"""__WALL of include/uapi/linux/wait.h: children whose end sends another signal than SIGCHLD too."""

LOOK_STOPS = 16
"""After so many stops of one thread others are looked for at the latest: an empty look costs a tenth of a stop."""

# include/uapi/linux/ptrace.h
PTRACE_SEIZE = 0x4206
PTRACE_LISTEN = 0x4208
PTRACE_GET_SYSCALL_INFO = 0x420E
PTRACE_O_TRACESECCOMP = 0x80
PTRACE_O_EXITKILL = 0x100000
PTRACE_EVENT_SECCOMP = 7
PTRACE_EVENT_STOP = 128
SYSCALL_INFO_EXIT = 2
SYSCALL_INFO_SECCOMP = 3

OPTIONS = (
    binding.PTRACE_O_TRACESYSGOOD
    | binding.PTRACE_O_TRACEFORK
    | binding.PTRACE_O_TRACEVFORK
    | binding.PTRACE_O_TRACECLONE
    | binding.PTRACE_O_TRACEEXEC
    | binding.PTRACE_O_TRACEEXIT
    | PTRACE_O_TRACESECCOMP
    | PTRACE_O_EXITKILL
)

# struct ptrace_syscall_info: op, arch, instruction pointer and stack pointer; then the number, the arguments and the
# filter's number for the tracer (SECCOMP_RET_DATA), or the result
_ENTRY = struct.Struct("=B3xI16xQ6QI")
_EXIT = struct.Struct("=B3xI16xq?")
_INFO_BYTES = 88

CLONE_UNTRACED = 0x00800000
_MAKE_THREADS = frozenset({"fork", "vfork", "clone", "clone3"})
_BIRTHS = (binding.PTRACE_EVENT_FORK, binding.PTRACE_EVENT_VFORK, binding.PTRACE_EVENT_CLONE)
_GROUP_STOPS = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)

_KILL_SECONDS = 0.005
KEPT_OUT = (
    "a process keeps profgen from reading its memory (PR_SET_DUMPABLE): what its calls name is lost; "
    "record as root, or with CAP_SYS_PTRACE"
)
"""The warning, given once."""

UNTRACED = (
    "a process was made without its tracer (CLONE_UNTRACED was put into memory during clone3): what it did before "
    "profgen attached to it is lost; record with --tracer ebpf"
)

_ptrace = libc.ptrace  # argtypes are set by ptrace.binding

# The requests of every stop, which end at once. A call takes a third of the time when its arguments need no conversion
# and it does not give up the interpreter's lock; errno is not kept.
_request = ctypes.PyDLL(None).ptrace
_CONT, _SYSCALL = ctypes.c_int(binding.PTRACE_CONT), ctypes.c_int(binding.PTRACE_SYSCALL)
_INFO, _SIZE = ctypes.c_int(PTRACE_GET_SYSCALL_INFO), ctypes.c_ulong(_INFO_BYTES)
_NONE = ctypes.c_ulong(0)


@dataclass(slots=True)
class Kind:
    """What is known of a (program, architecture, number), looked up once."""

    row: Row
    abi: str
    name: str | None
    spec: ArgumentSpec | None
    looked_at: bool
    """Whether something must be done before the call is made."""
    inferred: bool
    """Whether capabilities are inferred from it."""
    enter: Enter | None
    """What to do before the call to learn what it uses."""
    changes: bool
    """Whether it is one of CHANGES."""
    clone: bool
    makes: bool
    """Whether it makes a process or a thread."""
    program: int
    quiet: frozenset[int]
    """The results with which it leaves no evidence, 0 for success; with another one ``enter`` is called after the call.
    Empty if that must be called before it."""


@dataclass(frozen=True)
class ExecutedFile:
    """What the file tells that a thread has just executed."""

    identity: tuple[str, str | None, str | None] | None
    """See identify_process."""
    privileges: tuple[os.stat_result, FileCapabilities | None] | None
    """See Inference.file_of."""


@dataclass(slots=True)
class Tracee:
    """One thread."""

    program: int
    makes: Kind | None = None
    """Its last call, if that makes a process or a thread that has not been announced yet."""
    first: int = 0
    """The first argument of its last call."""
    args: tuple[int, ...] = ()
    """The arguments of its last call that is looked at only if it fails (Kind.quiet)."""
    awaiting: Kind | None = None
    """The call whose exit stop was requested."""
    call: Call | None = None
    """What the inference of capabilities needs at the exit."""
    leave: Leave | None = None
    """What to do with the call's result."""
    changes: bool = False
    """Whether the call may change what is known of the thread, or where paths lead."""


class PtraceTracer:
    """Records with ptrace(2); see the module."""

    name = "ptrace"

    def unavailable(self) -> str | None:
        """See Tracer.unavailable. PTRACE_GET_SYSCALL_INFO is in Linux since 5.3; some sandboxes refuse ptrace."""
        if platform.system() != "Linux":
            return "ptrace tracing needs Linux"
        try:
            native_abi()
        except ValueError as error:
            return str(error)
        release = platform.release().split(".")
        if tuple(int(part) for part in release[:2] if part.isdigit()) < (5, 3):
            return f"kernel {platform.release()} has no PTRACE_GET_SYSCALL_INFO; use Linux 5.3 or newer"
        return _seize_refused()

    def record(self, workload: Workload, options: Options, recording: Recording) -> int:
        """See Tracer.record."""
        return Run(workload, options, recording).run()


def _seize_refused() -> str | None:
    """Try to trace a child that does nothing; return why that is refused, None when it is not."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    try:
        if _ptrace(PTRACE_SEIZE, pid, 0, 0) == ctypes.c_ulong(-1).value:
            code = ctypes.get_errno()
            hint = (
                "; a container needs --cap-add SYS_PTRACE or a seccomp profile that allows ptrace"
                if code == errno.EPERM
                else ""
            )
            return f"the kernel refuses ptrace here ({cause(code)}){hint}"
        return None
    finally:
        os.close(read)
        os.close(write)
        os.waitpid(pid, WALL)


class Run:
    """One run of a workload under ptrace. profiler/enforce/traced.py has a run that also refuses calls."""

    def __init__(self, workload: Workload, options: Options, recording: Recording) -> None:
        self.workload = workload
        self.options = options
        self.recording = recording
        self.native = native_abi()
        self.tracees: dict[int, Tracee] = {}
        self.kinds: dict[tuple[int, int, int], Kind] = {}
        self.started = False
        self.supervisor = Supervisor(self._held, options.duration, options.stop)
        self.adopted = 0
        """Threads that nobody announced."""
        self.buffer = ctypes.create_string_buffer(_INFO_BYTES)
        self.address = ctypes.c_ulong(ctypes.addressof(self.buffer))
        self.errands = Parking()
        self.threads = Threads(self._kept_out, self.errands)
        self.births = Births(self.threads)
        self.filters = Filters(recording, self.threads)
        self.inference = Inference(recording, self.threads)
        self.evidence = Evidence(recording, self.threads) if options.files else None

    def run(self) -> int:
        """Run the workload to its end; see Tracer.record."""
        # Without CAP_SYS_ADMIN a filter may only be installed together with no_new_privs (seccomp(2)).
        self.recording.no_new_privs = not has_capability("CAP_SYS_ADMIN")
        self.recording.features += ["capabilities:inferred", "results:until-first-success"]
        if self.evidence is not None:
            self.recording.features.append(FILES_FEATURE)
        with self.supervisor as supervisor:
            child = self._spawn()
            self.main = child.pid
            self.recording.features += child.features
            try:
                if _ptrace(PTRACE_SEIZE, child.pid, 0, OPTIONS) == ctypes.c_ulong(-1).value:
                    raise TracerError(f"cannot trace: {cause(ctypes.get_errno())}; try: profgen doctor")
                self.tracees[child.pid] = Tracee(-1)
                self.threads.group(child.pid)
                if self.evidence is not None:
                    self.recording.inherited = inherited_sockets(child.pid)
                self.recording.begin()
                child.release()
                supervisor.start(child.pid)
                with rare_collection():
                    status = self._loop()
                if self.adopted:
                    self.recording.warn(
                        f"{counted(self.adopted, 'thread')} came without an announcement, as the maker was killed in "
                        "the call; nothing of what they did is lost"
                    )
            except BaseException:
                self._kill_all()
                raise
            failure = child.exec_failure()
            if not self.started:
                raise failure or EndedEarly(shell_status(status))
            return shell_status(status)

    def _spawn(self) -> Child:
        return spawn(self.workload, self._load_filter)

    def _load_filter(self) -> None:
        if self.recording.no_new_privs:
            forbid_new_privileges()
        Loader(TRACE_ALL).load()

    def _refuses(self, tid: int, tracee: Tracee, kind: Kind, info: tuple[int, ...]) -> int:
        """Return the errno that a call fails with instead of being made, 0 to make it. A recording refuses nothing."""
        return 0

    def _kept_out(self, loss: str) -> None:
        self.recording.losses[loss] += 1
        self.recording.warn(KEPT_OUT)

    def _held(self) -> list[int]:
        """Return every thread that profgen has to let go or to end, for signals."""
        return [*self.tracees, *self.births.held()]

    def _kill_all(self) -> None:
        self.errands.end()
        for pid in self._held():
            _kill(pid)
        until = time.monotonic() + GRACE_SECONDS
        with contextlib.suppress(ChildProcessError):
            while time.monotonic() < until:  # a process that waits for a server cannot always be killed
                tid, status = os.waitpid(-1, WALL | os.WNOHANG)
                if tid == 0:
                    time.sleep(_KILL_SECONDS)
                elif os.WIFSTOPPED(status):  # as it ends, or a child that was not known yet
                    _kill(tid)
                    _ptrace(binding.PTRACE_CONT, tid, 0, 0)

    def _stops(self) -> Iterator[tuple[int, int]]:
        """Yield each stop and end of a thread, with its wait status, until no tracee is left.

        What has stopped when the first one is taken is served before anything that stops later. While only one thread
        is busy, others are looked for less and less often. Processes of errands.py stop too, untraced (WUNTRACED).
        """
        waitpid, tracees = os.waitpid, self.tracees
        again: tuple[int, int] | None = None
        pause = left = 0
        while True:
            try:
                tid, status = again or waitpid(-1, WALL | os.WUNTRACED)
            except ChildProcessError:
                return
            again = None
            left -= 1
            if left >= 0 or len(tracees) < 2:
                yield tid, status
                continue
            batch = {tid: status}
            with contextlib.suppress(ChildProcessError):
                while (found := waitpid(-1, WALL | os.WUNTRACED | os.WNOHANG))[0]:
                    tid, status = found
                    if tid in batch and not os.WIFSTOPPED(batch[tid]):
                        again = found  # a new thread with the number of one that has ended
                        break
                    batch[tid] = status  # a thread that stops again was killed in its first stop
            left = pause = min(2 * pause + 1, LOOK_STOPS) if len(batch) == 1 else 0
            yield from batch.items()

    def _loop(self) -> int:
        """Serve stops until no tracee is left. Returns the main process's wait status."""
        tracees, kinds = self.tracees, self.kinds
        buffer, address, unpack = self.buffer, self.address, _ENTRY.unpack_from
        recording = self.recording
        clock, began = time.monotonic, recording.began
        refuses = self._refuses if type(self)._refuses is not Run._refuses else None
        seccomp_stop = signal.SIGTRAP | PTRACE_EVENT_SECCOMP << 8
        exit_stop = signal.SIGTRAP | 0x80
        main_status = 0
        for tid, status in self._stops():
            if status >> 8 == seccomp_stop:  # a syscall is about to start
                tracee = tracees[tid]
                if _request(_INFO, tid, _SIZE, address) < 0:
                    continue  # killed in the stop: the call does not happen
                info = unpack(buffer)
                if info[0] != SYSCALL_INFO_SECCOMP:  # killed, and stopped at its end already: neither does this one
                    _request(_CONT, tid, _NONE, _NONE)
                    continue
                kind = kinds.get((tracee.program, info[1], info[2]))
                if kind is None:
                    if not self.started and not self._starts(info[1], info[2]):
                        _request(_CONT, tid, _NONE, _NONE)
                        continue
                    kind = self._new_kind(tracee.program, info[1], info[2])
                tracee.makes = kind if kind.makes else None
                tracee.first = info[3]
                row = kind.row
                row.calls += 1
                row.last = clock() - began
                if kind.spec is not None:
                    self._arguments(tid, kind, info)
                if refuses is not None and (error := refuses(tid, tracee, kind, info)):
                    answer(tid, kind.abi, error)
                    _request(_CONT, tid, _NONE, _NONE)
                    continue
                if kind.looked_at:
                    self._look(tid, tracee, kind, info[3:9])
                    continue
                if kind.quiet:
                    tracee.args = info[3:9]
                if kind.quiet or not row.ok:
                    tracee.awaiting = kind
                    _request(_SYSCALL, tid, _NONE, _NONE)
                    continue
                _request(_CONT, tid, _NONE, _NONE)
            elif status >> 8 == exit_stop:
                tracee = tracees[tid]
                if tracee.awaiting is not None and not self._exit_stop(tid, tracee):
                    continue
                _request(_CONT, tid, _NONE, _NONE)
            elif status & 0x7F == 0x7F:
                if not self.errands.done(tid, ended=False):
                    self._other_stop(tid, status)
            elif not self.errands.done(tid, ended=True):
                self._gone(tid)
                if tid == self.main:
                    main_status = status
                    self.supervisor.main_ended(untaken=bool(self.supervisor.passed))
                    if tracees:
                        note_survivors(len(tracees))
                if self.errands.used and not any(map(thread_lives, self._held())):
                    waits = self.errands.busy
                    self.errands.end()  # else waitpid would go on waiting for these processes
                    if waits and not self._held():
                        break
        return main_status

    def _look(self, tid: int, tracee: Tracee, kind: Kind, args: tuple[int, ...]) -> None:
        """Look at a call before it is made, and let its thread go on, unless an answer must come first."""
        self.errands.tid = tid
        try:
            wanted = self._enter(tid, tracee, kind, args)
        except Waiting as waiting:
            self.errands.park(tid, waiting, lambda: self._look(tid, tracee, kind, args))
            return
        self.errands.served(tid)
        if wanted or not kind.row.ok:
            tracee.awaiting = kind
            _request(_SYSCALL, tid, _NONE, _NONE)
            return
        _request(_CONT, tid, _NONE, _NONE)

    def _enter(self, tid: int, tracee: Tracee, kind: Kind, args: tuple[int, ...]) -> bool:
        """Note what a call that is about to be made uses. Returns whether its result is of interest. Raises Waiting."""
        self.threads.stopped()
        name = kind.name or ""
        tracee.changes = kind.changes
        try:
            if kind.changes:
                tracee.changes = self.threads.before(tid, name, args)
            if kind.inferred:
                tracee.call = self.inference.enter(tid, name, args)
                if self.inference.widened:
                    self.inference.widened = False
                    self.kinds.clear()
            if kind.enter is not None:
                tracee.leave = kind.enter(tid, args)
        except OSError:  # killed in the stop
            tracee.leave = None
        except Waiting:
            raise
        except Exception as error:
            self.recording.failed(f"a call of {name}", error)
        return tracee.changes or kind.makes or tracee.call is not None or tracee.leave is not None

    def _starts(self, arch: int, number: int) -> bool:
        """Whether this is the child's own execve, with which the recording begins."""
        return name_of(*abi_of(arch, number)) == "execve"

    def _new_kind(self, program: int, arch: int, number: int) -> Kind:
        abi, number_in_abi = abi_of(arch, number)
        name = name_of(abi, number_in_abi)
        row = self.recording.rows.get((program, abi, number_in_abi))
        if row is None:
            now = self.recording.elapsed()
            row = self.recording.rows[program, abi, number_in_abi] = Row(first=now)
            self.recording.last_new = now
        inferred = abi == self.native and name is not None and self.inference.wants(name)
        enter = None if name is None else self._watches(name, abi)
        changes, makes = name in CHANGES, name in _MAKE_THREADS
        late = enter is not None and not inferred and not changes and name in late_looks()
        kind = Kind(
            row=row,
            abi=abi,
            name=name,
            spec=spec_for(name, abi) if name is not None else None,
            looked_at=inferred or changes or makes or (enter is not None and not late),
            inferred=inferred,
            enter=enter,
            changes=changes,
            clone=name in ("clone", "clone3"),
            makes=makes,
            program=program,
            quiet=looked() if late else frozenset(),
        )
        self.kinds[program, arch, number] = kind
        return kind

    def _watches(self, name: str, abi: str) -> Enter | None:
        enter = self.filters.watches(name, abi)
        return enter if enter is not None or self.evidence is None else self.evidence.watches(name, abi)

    def _arguments(self, tid: int, kind: Kind, info: tuple[int, ...]) -> None:
        spec, name = kind.spec, kind.name
        assert spec is not None
        assert name is not None
        if spec.pointer:
            self.errands.tid = tid
            try:
                word = self.threads.memory(tid, info[3], 8, "arguments")
            except Waiting as waiting:
                self.errands.drop(waiting)
                self.recording.losses["arguments"] += 1
                return
            if word is None:
                return
            value: tuple[int, ...] = (int.from_bytes(word, "little") & spec.masks[0],)
        else:
            value = tuple(info[3 + position] & mask for position, mask in zip(spec.positions, spec.masks, strict=True))
        if kind.clone and value[0] & CLONE_UNTRACED:
            self._make_traced(tid, kind, info)
        self.recording.value(kind.abi, name, value, kind.program)

    def _make_traced(self, tid: int, kind: Kind, info: tuple[int, ...]) -> None:
        """Remove CLONE_UNTRACED from a call: the child would have the filter but no tracer."""
        if kind.name == "clone3":
            with contextlib.suppress(OSError), open(f"/proc/{tid}/mem", "r+b", buffering=0) as memory:
                memory.seek(info[3])
                flags = int.from_bytes(memory.read(8), "little")
                memory.seek(info[3])
                memory.write((flags & ~CLONE_UNTRACED).to_bytes(8, "little"))
            return
        set_first_argument(tid, kind.abi, info[3] & ~CLONE_UNTRACED)

    def _other_stop(self, tid: int, status: int) -> None:
        number, event = (status >> 8) & 0xFF, status >> 16
        tracee = self.tracees.get(tid)
        if tracee is None:
            program = self.births.stopped(tid, status)
            if program is None:
                self._adopt()  # most often it stays stopped until its maker's event says what it is
                return
            tracee = self._traced(tid, program)
        deliver = 0
        if event in _BIRTHS or event == binding.PTRACE_EVENT_EXEC:
            message = _event_message(tid)
            if event == binding.PTRACE_EVENT_EXEC:
                self.errands.tid = tid
                try:
                    file = self._file_of(tid)
                except Waiting as waiting:
                    self.errands.park(tid, waiting, lambda: self._other_stop(tid, status))
                    return
                self.errands.served(tid)
                tracee = self._executed(tid, tracee, message, file)
            now = _event_now(tid)
            if now is None:
                return  # killed: it stops once more
            if now == binding.PTRACE_EVENT_EXIT:  # there already, and the message may be that stop's
                if not self._ends(tid, tracee):
                    return
            elif event in _BIRTHS and message > 0:
                self._announced(message, tid, tracee)
        elif event == binding.PTRACE_EVENT_EXIT:
            if not self._ends(tid, tracee):
                return
        elif event == PTRACE_EVENT_STOP:
            if number in _GROUP_STOPS:
                _ptrace(PTRACE_LISTEN, tid, 0, 0)  # stays stopped, as the job control of its shell expects
                return
        elif event == 0:
            deliver = number
            if number in self.supervisor.passed and self.threads.group(tid) == self.main:
                self.supervisor.passed.discard(number)
        # An exit stop that was asked for must be asked for again after any stop in between.
        _ptrace(binding.PTRACE_SYSCALL if tracee.awaiting is not None else binding.PTRACE_CONT, tid, 0, deliver)

    def _traced(self, tid: int, program: int) -> Tracee:
        """Note a new thread, and return it."""
        tracee = self.tracees[tid] = Tracee(program)
        self.recording.tasks = max(self.recording.tasks, len(self.tracees))
        return tracee

    def _announced(self, tid: int, parent: int, tracee: Tracee) -> None:
        """Note a thread that ``parent`` has made."""
        tracee.makes = None
        self.threads.born(tid, parent)
        if tid in self.tracees:
            return
        status = self.births.announced(tid, tracee.program)
        if status is not None:
            self._traced(tid, tracee.program)
            self._other_stop(tid, status)

    def _adopt(self) -> None:
        """Let children go on that nobody will announce: their makers were killed in the call."""
        if not self.births.early:
            return
        makers = [tid for tid, tracee in self.tracees.items() if tracee.makes is not None]
        for tid, status in self.births.orphans(makers).items():
            self._traced(tid, self._program_of(tid, self._unasked(tid)))
            self.adopted += 1
            self._other_stop(tid, status)

    def _unasked(self, tid: int) -> tuple[str, str | None, str | None] | None:
        """Identify the program of a thread. If only a server could tell whether that is a script, it counts as none."""
        self.errands.tid = tid
        try:
            return identify_process(tid, partial(self.threads.named, tid))
        except Waiting as waiting:
            self.errands.drop(waiting)
            return identify_process(tid, lambda name: None)

    def _unannounced(self, tid: int, tracee: Tracee, number: int, *, killed: bool = False) -> None:
        """Serve a call that has made a thread without an event. ``number``: what ``tid`` calls the new thread.

        ``killed``: the maker was killed, most often in the event's stop. Else another thread put CLONE_UNTRACED back
        into the memory of a clone3 call: the new thread has the filter and no tracer, so its calls fail with ENOSYS.
        """
        tracee.makes = None
        child, traced = made_by(tid, number)
        if traced:
            self._announced(child, tid, tracee)
            return
        if child < 0 and killed:
            return  # it has ended too
        self.recording.losses["tasks"] += 1
        self.recording.warn(UNTRACED)
        if child >= 0 and _ptrace(PTRACE_SEIZE, child, 0, OPTIONS) != ctypes.c_ulong(-1).value:
            self.threads.born(child, tid)
            self._traced(child, tracee.program)

    def _not_made(self, tid: int, tracee: Tracee, result: int) -> None:
        """Serve the end of a call that should have made a thread, and was not announced."""
        if result > 0:
            self._unannounced(tid, tracee, result)
        else:
            tracee.makes = None
            self._adopt()

    def _gone(self, tid: int) -> None:
        """Forget a thread that has ended."""
        self.errands.served(tid)
        if self.tracees.pop(tid, None) is None:
            self.births.ended(tid)
        self.threads.gone(tid)
        self._adopt()

    def _ends(self, tid: int, tracee: Tracee) -> bool:
        """Serve the last stop of a thread. If it was killed in a call, its registers still hold the result.

        Returns False if an answer must come before it goes on.
        """
        kind = tracee.makes or tracee.awaiting
        if kind is None:
            return True
        try:
            result = call_result(tid, kind.abi, tracee.first)
        except OSError:  # killed again
            if tracee.call is not None or tracee.leave is not None:
                self.recording.losses["results"] += 1
            return True
        if tracee.makes is not None and result is not None and result > 0:
            self._unannounced(tid, tracee, result, killed=True)
        if tracee.awaiting is None:
            return True
        if result is None:
            tracee.awaiting = tracee.call = tracee.leave = None
            return True
        return self._finished(tid, tracee, tracee.awaiting, result, -result if FIRST_ERROR <= result < 0 else 0)

    def _file_of(self, tid: int) -> ExecutedFile:
        """Return what the file tells that a thread has just executed. Raises Waiting."""
        self.threads.stopped()
        self.threads.executed(tid)
        file = self.inference.file_of(tid)
        status = None if file is None else file[0]
        return ExecutedFile(identify_process(tid, partial(self.threads.named, tid), status), file)

    def _executed(self, tid: int, tracee: Tracee, former: int, file: ExecutedFile) -> Tracee:
        if former != tid and former in self.tracees:
            # A thread other than the leader executed: it goes on under the leader's id (ptrace(2), "execve(2) under
            # ptrace").
            tracee = self.tracees[tid] = self.tracees.pop(former)
            self._adopt()  # what the former leader was making
        by, program = tracee.program, self._program_of(tid, file.identity)
        if not self.started:
            self.started = True
            self.recording.tasks = len(self.tracees)
            self._adopt_first(program)
            by = -1
        tracee.program = program
        gained = self.inference.executed(tid, program, file.privileges)
        self.recording.executed(program, None if by < 0 else by, gained=gained)
        return tracee

    def _program_of(self, tid: int, identity: tuple[str, str | None, str | None] | None) -> int:
        """Return the number of a stopped thread's program. If its identity could not be read, a loss is counted."""
        if identity is None:
            self.recording.losses["programs"] += 1
            return self.recording.program(UNKNOWN, None, None)
        return self.recording.program(*identity, local=shares_root(tid))

    def _adopt_first(self, program: int) -> None:
        """Give the execve that started the workload its program, which was not known when the call was counted."""
        for key in [key for key in self.recording.rows if key[0] < 0]:
            self.recording.rows[program, *key[1:]] = self.recording.rows.pop(key)
        self.kinds.clear()

    def _exit_stop(self, tid: int, tracee: Tracee) -> bool:
        """Serve an exit stop. Returns False for a thread that does not go on yet: it was killed since, and stops once
        more, or an answer must come first."""
        if _request(_INFO, tid, _SIZE, self.address) < 0:
            return False
        op, _, result, is_error = _EXIT.unpack_from(self.buffer)
        assert tracee.awaiting is not None
        if op == SYSCALL_INFO_EXIT:
            if tracee.makes is not None:
                self._not_made(tid, tracee, result)
            return self._finished(tid, tracee, tracee.awaiting, result, -result if is_error else 0)
        return self._ends(tid, tracee)  # it has stopped there already

    def _finished(self, tid: int, tracee: Tracee, kind: Kind, result: int, code: int) -> bool:
        """Note that a call has ended with ``result``, and with errno ``code`` if that is an error.

        Returns False if an answer must come before its thread goes on.
        """
        self.errands.tid = tid
        call, leave = tracee.call, tracee.leave
        tracee.awaiting = tracee.call = tracee.leave = None
        if is_restart(code):  # not a result: the call is made again, or its result comes later
            return True
        if not kind.row.ok:
            if code:
                kind.row.errors[error_name(code)] += 1
            else:
                kind.row.ok += 1
        if kind.quiet:
            if code in kind.quiet:
                return True
            assert kind.enter is not None
            leave = kind.enter(tid, tracee.args)
        # After an execve the thread runs another program than the one that made the call.
        program = kind.program if kind.program >= 0 else tracee.program
        if tracee.changes:
            tracee.changes = False
            self.threads.after(tid, kind.name or "")
        if call is not None:
            try:
                self.inference.leave(tid, call, result, code, program)
            except OSError:
                pass  # killed in the stop
            except Exception as error:
                self.recording.failed(f"a call of {kind.name}", error)
        return leave is None or self._leave(kind, leave, Exit(tid, result, code, program, tracee.program))

    def _leave(self, kind: Kind, leave: Leave, exit: Exit) -> bool:
        """Note what a call that has ended used. Returns False if an answer must come before its thread goes on."""
        self.threads.stopped()
        try:
            leave(exit)
        except OSError:
            pass  # killed in the stop
        except Waiting as waiting:
            self.errands.park(exit.tid, waiting, lambda: self._leave_again(kind, leave, exit))
            return False
        except Exception as error:
            self.recording.failed(f"a call of {kind.name}", error)
        self.errands.served(exit.tid)
        return True

    def _leave_again(self, kind: Kind, leave: Leave, exit: Exit) -> None:
        if self._leave(kind, leave, exit):
            _ptrace(binding.PTRACE_CONT, exit.tid, 0, 0)


def _kill(tid: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(tid, signal.SIGKILL)


def _event_message(tid: int) -> int:
    try:
        return int(binding.ptrace_geteventmsg(tid))
    except Exception:
        return -1


def _event_now(tid: int) -> int | None:
    """Return the event that a thread is stopped for (PTRACE_GETSIGINFO), 0 for another stop.

    None when it was killed and is not stopped.
    """
    try:
        return int(binding.ptrace_getsiginfo(tid).si_code) >> 8
    except Exception:
        return None
