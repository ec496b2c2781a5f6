"""A confined run in which every denial is named: the policy's own filter leaves each call to the ptrace tracer, with a
mark on those that the policy does not allow.

- Syscalls: the filter decides, in the kernel. The tracer sees number, arguments and process, and makes the call fail
  (mode log: lets it pass).
- Capabilities: dropped as in production. In mode log none is dropped, and those that were used are compared with the
  policy.
- Files, sockets, signals, other processes, mounts: recorded as by ``profgen record``, and compared with the policy's
  rules after the call, by its result. Nothing is refused. What the kernel answered with an error is not a denial: it
  would have answered the same without a policy.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from profiler.confinement import Loader, confine, forbid_new_privileges, permitted, reduce_bounding
from profiler.denials.check import Held, by_program, comm_of, joined
from profiler.denials.model import Collection, Denial
from profiler.enforce import refusals
from profiler.enforce.base import FILES_UNSEEN, Options, Outcome
from profiler.enforce.calls import filtered, head
from profiler.errors import NOT_EXECUTABLE, CommandNotExecutable, TracerError
from profiler.kernel import netlink
from profiler.kernel.abi import native_abi
from profiler.kernel.errno import name_of as error_name
from profiler.policy.model import Policy
from profiler.targets.bpf import CLOSED, DENIED, traced
from profiler.targets.sets import mask_of
from profiler.trace.model import GUARDED_FEATURE, Capability, Use
from profiler.tracers import base
from profiler.tracers.base import Workload
from profiler.tracers.ebpf.capability_watch import CapabilityWatch
from profiler.tracers.host import has_capability
from profiler.tracers.launch import Child, spawn
from profiler.tracers.ptrace.capabilities import Call, Inference
from profiler.tracers.ptrace.capabilities_writes import WRITES
from profiler.tracers.ptrace.threads import Credentials
from profiler.tracers.ptrace.tracer import ExecutedFile, Kind, PtraceTracer, Run, Tracee
from profiler.tracers.recording import CapabilityKey, Recording, row_of

DISTINCT_MAX = 100_000
"""Most different denials that are kept."""


def unavailable() -> str | None:
    """Return why such a run is not possible here, None when it is."""
    reason = PtraceTracer().unavailable()
    return None if reason is None else f"denials are seen with ptrace, and {reason}"


def run(policy: Policy, workload: Workload, options: Options) -> Outcome:
    """See Enforcer.run."""
    return run_under(policy, workload, options, None)[0]


def run_under(
    policy: Policy, workload: Workload, options: Options, profile: str | None, ruleset: int | None = None
) -> tuple[Outcome, Mapping[int, str]]:
    """Run a workload, and return its outcome and the file that each process executed last. ``profile``: an AppArmor
    profile that decides about files, sockets, signals and mounts. ``ruleset``: of Landlock, which refuses some of
    them."""
    recording = _Uses(native_abi())
    checks = _Checks(recording)
    with contextlib.ExitStack() as stack:
        try:
            watch = CapabilityWatch(checks, confined=options.mode == "enforce") if options.denials else None
        except TracerError:
            watch = None  # capabilities are inferred, and the report says so
        if watch is not None:
            stack.enter_context(watch)
        made = _Confined(policy, workload, options, recording, profile, watch, ruleset)
        try:
            status = made.run()
        except CommandNotExecutable:
            if not made.denials:
                raise
            status = NOT_EXECUTABLE
        losses = {name: count for name, count in recording.losses.items() if count}
        if made.denials.beyond:
            losses["denials"] = made.denials.beyond
        denials = list(made.denials)
        if made.started:
            trace = recording.trace(head(recording))
            denials += made.held.kernel_features(trace, enforced=made.enforces)
            denials += made.held.executions(trace) if made.holds_files else ()
            if watch is not None:
                losses |= watch.collect()
                denials = _with_checks(denials, made, checks)
    denials = sorted(joined(denials), key=lambda denial: denial.first or float("inf"))
    outcome = Outcome(status, tuple(denials), made.means(), losses, made.unseen(), tuple(recording.warnings))
    return outcome, made.executed


def _with_checks(denials: Sequence[Denial], made: _Confined, checks: Recording) -> list[Denial]:
    """Return the denials with the capabilities that the kernel's own checks name. An inferred one stays, with its
    process, where a check confirms it, and where the kernel makes no check."""
    trace = checks.trace(head(checks))
    began = time.time() - checks.elapsed()
    seen = [
        each
        for check in trace.capabilities
        if (check.verdict == "refused") is made.enforces
        for denial in made.held.capability(check)
        for each in by_program(
            replace(denial, first=began + check.first, last=began + check.last), trace, check.programs
        )
    ]
    confirmed = {(denial.capability, denial.name) for denial in seen}
    kept = [
        denial
        for denial in denials
        if denial.kind != "capability" or denial.name in _RAISE or (denial.capability, denial.name) in confirmed
    ]
    known = {(denial.capability, denial.name, denial.exe) for denial in kept}
    return [*kept, *(each for each in seen if (each.capability, each.name, each.exe) not in known)]


class _Uses(Recording):
    """A recording that hands on each use and each check, and keeps neither."""

    def __init__(self, native: str) -> None:
        super().__init__(native)
        self.used: Callable[[Use, int], None] = lambda row, program: None
        self.checked: Callable[[Capability, int], None] = lambda check, program: None
        self._owners: dict[str, bool] = {}
        """A word of File.access to whether every file that was used so was the user's own."""

    def _used(
        self, what: str, key: tuple[Any, ...], names: tuple[str | None, ...], result: str, program: int,
        count: int, first: float | None, last: float | None, *, owner: Iterable[str] = (),
    ) -> None:  # fmt: skip
        if what == "file":
            self._owners[key[1]] = self._owners.get(key[1], True) and set(owner) == {"self"}
        if what == "file" and not key[0]:
            self.losses["paths"] += count
        else:
            self.used(row_of(what, key, {result: count}, owner=frozenset(owner)), program)

    def check(self, key: CapabilityKey, program: int, syscall: str, **_: Any) -> None:
        self.checked(Capability(*key, 1, 0.0, 0.0, frozenset(), {syscall: 1}), program)

    def own(self, program: int) -> frozenset[str]:
        """See Recording.own; of all programs of the run together."""
        return frozenset(access for access, only in self._owners.items() if only)


class _Checks(Recording):
    """The kernel's capability checks. Whose files the workload used is known to the recording of its uses."""

    def __init__(self, uses: _Uses) -> None:
        super().__init__(uses.native)
        self._of_uses = uses

    def own(self, program: int) -> frozenset[str]:
        """See Recording.own."""
        return self._of_uses.own(program)


class _Inference(Inference):
    """Tells refusals that the policy caused from the kernel's own. ``blames``: whether a refusal to another user than
    root may be the policy's: root had the capabilities before they were dropped."""

    enforces = True
    blames = False

    def _everyday(self, credentials: Credentials) -> bool:
        return not credentials.effective and credentials.uids[1] != 0

    def leave(self, tid: int, call: Call, result: int, code: int, program: int) -> None:
        by_policy = self.blames or call.credentials.uids[1] == 0 or bool(call.claims)
        if self.enforces and not code and call.name in WRITES:
            asked = netlink.NEEDS.intersection(call.needs)
            code = errno.EPERM if not all(map(call.credentials.has, asked)) else 0
        if by_policy or not (self.enforces and code):
            super().leave(tid, call, result, code, program)


_RAISE = frozenset({"execve", "execveat", "capset", "prctl"})
"""Calls that need capabilities without a check of the kernel."""


_TERMINAL = "text put into the input of profgen's terminal (ioctl with TIOCSTI or TIOCLINUX): another user's is refused"


class _Confined(Run):
    def __init__(
        self,
        policy: Policy,
        workload: Workload,
        options: Options,
        recording: _Uses,
        profile: str | None,
        watch: CapabilityWatch | None,
        ruleset: int | None,
    ) -> None:
        self.holds_files = options.files and policy.has_files and profile is None
        super().__init__(workload, base.Options(duration=options.duration, files=self.holds_files), recording)
        self.policy = policy
        self.enforces = options.mode == "enforce"
        self.held = Held(policy, options.refused)
        self.denials = Collection(DISTINCT_MAX)
        self.seen: dict[tuple[object, ...], Denial] = {}
        """A denied call, without arguments that no filter looks at, to its first denial."""
        self.inference: _Inference = _Inference(recording, self.threads)
        self.inference.enforces = self.enforces
        self.filters.marks = True
        self.inference.blames = has_capability("CAP_SETPCAP") and (workload.user is not None and workload.user[0] != 0)
        recording.used, recording.checked = self._used, self._checked
        self.profile = profile
        self.watch = watch
        self.ruleset = ruleset
        self.executed: dict[int, str] = {}
        self.loader = Loader(traced(policy, refusing=self.enforces))
        self.privileged = has_capability("CAP_SYS_ADMIN")

    def means(self) -> tuple[str, ...]:
        """See Outcome."""
        refused = "refused" if self.enforces else "let pass"
        checks = "refused checks" if self.enforces else "checks"
        seen = f"{checks} seen by eBPF" if self.watch is not None else f"{checks} inferred from the calls"
        taken = f"{'dropped' if self.enforces else 'kept'}; {seen}"
        if not self.privileged and not self.workload_holds():
            taken = "the command has none"
        if self.profile is not None:
            files = f"{refused} by AppArmor, under the policy's profile" + (
                "" if self.enforces else " in complain mode"
            )
        elif self.ruleset is not None:
            files = "refused by Landlock where it has a form for them; all compared with the policy"
        elif self.holds_files:
            files = "seen by ptrace and compared with the policy; not refused"
        else:
            files = "not checked" + ("" if self.policy.has_files else " (the policy has no rules for them)")
        return (
            f"syscalls: {refused} under the policy's filter, by ptrace",
            f"capabilities: {taken}",
            f"files, sockets, signals, mounts: {files}",
            *(("terminal: ioctl with TIOCSTI or TIOCLINUX fails, and is not seen",) if self.guarded else ()),
        )

    def unseen(self) -> tuple[str, ...]:
        """See Outcome."""
        return (
            *(() if self.holds_files or self.profile is not None else (FILES_UNSEEN,)),
            *(
                ()
                if self.watch is not None
                else ("capability checks that no call reports (ioctl(2), device drivers): only eBPF sees them",)
            ),
            *((_TERMINAL,) if self.guarded else ()),
            *(
                ()
                if self.privileged or self.policy.no_new_privs
                else ("what setuid programs gain (no_new_privs is set)",)
            ),
        )

    @property
    def guarded(self) -> bool:
        """Whether the workload is kept from typing into profgen's terminal (tracers/launch.py)."""
        return GUARDED_FEATURE in self.recording.features

    def workload_holds(self) -> bool:
        """Return whether profgen has capabilities to pass on."""
        return permitted() != 0

    # -- starting ------------------------------------------------------------------------------------------------------

    def _spawn(self) -> Child:
        child = spawn(self.workload, self._begin, self._confine if self.enforces else None)
        if self.watch is not None:
            self.watch.arm(child.pid)
        return child

    def _confine(self) -> None:
        confine(mask_of(self.policy), self.policy.no_new_privs, self.loader, self.ruleset)

    def _begin(self) -> None:
        if self.profile is not None:
            label_next_exec(self.profile)
        if self.enforces:
            reduce_bounding(mask_of(self.policy))
            return
        # Before the user changes: loading needs CAP_SYS_ADMIN or no_new_privs.
        if not self.privileged:
            forbid_new_privileges()
        self.loader.load()

    def _executed(self, tid: int, tracee: Tracee, former: int, file: ExecutedFile) -> Tracee:
        with contextlib.suppress(OSError):
            self.executed[self.threads.group(tid)] = os.readlink(f"/proc/{tid}/exe")
        if self.watch is not None:
            self.watch.executed()
        return super()._executed(tid, tracee, former, file)

    # -- denials -------------------------------------------------------------------------------------------------------

    def _deny(self, tid: int, denial: Denial, program: int) -> None:
        """Note a denial and its process, which is read while the thread is stopped. After an execve the process has
        another name than the program that made the call."""
        comm = exe = None
        with contextlib.suppress(OSError):
            with open(f"/proc/{tid}/comm", "rb") as file:
                comm = os.fsdecode(file.read().rstrip(b"\n"))
            exe = os.readlink(f"/proc/{tid}/exe")
        if program >= 0:
            known = self.recording.programs[program]
            made_by = known.interpreter or known.path
            if exe != made_by:
                comm, exe = comm_of(known.path), made_by
        now = time.time()
        self.denials.add(replace(denial, comm=comm, exe=exe, pid=self.threads.group(tid), first=now, last=now))

    def _refuses(self, tid: int, tracee: Tracee, kind: Kind, info: tuple[int, ...]) -> int:
        """Return the errno for a call that the filter marked, 0 to let it pass."""
        if info[9] not in (DENIED, CLOSED):
            return 0
        self._deny(tid, self._syscall(kind, info[2], info[3:9]), kind.program)
        return errno.EPERM if self.enforces else 0

    def _syscall(self, kind: Kind, raw: int, arguments: tuple[int, ...]) -> Denial:
        """Return the denial of a call: one for all that are equal in filtered arguments, with the registers of the
        first."""
        key = (kind.abi, raw, filtered(kind.name, kind.abi, arguments))
        denial = self.seen.get(key)
        if denial is None:
            number = raw & 0xFFFFFFFF & ~(0x40000000 if kind.abi == "x32" else 0)
            denial = self.seen[key] = Denial(
                "syscall",
                "seccomp",
                self.enforces,
                action="errno" if self.enforces else "log",
                abi=kind.abi,
                number=number,
                name=kind.name,
                arguments=arguments,
                errno=error_name(errno.EPERM) if self.enforces else None,
            )
        return denial

    def _used(self, row: Use, program: int) -> None:
        for denial in self.held.use(row):
            self._deny(self.errands.tid, denial, program)
        if self.ruleset is not None and refusals.may_be(row, self.errands.tid):
            for denial in self.held.use(replace(row, results={"ok": sum(row.results.values())})):
                self._deny(self.errands.tid, replace(denial, refused=True), program)

    def _checked(self, check: Capability, program: int) -> None:
        if (check.verdict == "refused") is self.enforces:
            for denial in self.held.capability(check):
                self._deny(self.errands.tid, denial, program)


def label_next_exec(name: str) -> None:
    """Make the calling thread's next execve enter this profile (aa_change_onexec(2)). Raises OSError."""
    data = f"exec {name}".encode()
    for path in ("/proc/thread-self/attr/apparmor/exec", "/proc/thread-self/attr/exec"):
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            os.write(fd, data)
            return
        finally:
            os.close(fd)
    raise FileNotFoundError("/proc/thread-self/attr/exec")
