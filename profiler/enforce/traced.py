"""A confined run in which every denial is named: the policy's own filter leaves each call to the ptrace tracer, with a
mark on those that the policy does not allow, and the tracer answers it.

- syscalls: the filter decides, in the kernel. The tracer sees number, arguments and process, and makes the call fail
  (mode log: lets it pass).
- capabilities: dropped as in production; a call that fails without one is recognised as when recording
  (tracers/ptrace/capabilities.py). In mode log none is dropped, and those that were used are compared with the policy.
- files, sockets, signals, other processes, mounts: what a call is about to do is worked out while its thread is
  stopped. It fails with EACCES if AppArmor would refuse it under the policy's profile. A program that was executed and
  may not be mapped is killed, as the kernel does when it is too late for an error. What a call then did, which AppArmor
  cannot always tell apart, is compared with the policy's rules, and reported but not refused.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from profiler.denials.check import Held
from profiler.denials.model import Collection, Denial
from profiler.enforce import rights
from profiler.enforce.base import Options, Outcome
from profiler.enforce.calls import filtered
from profiler.enforce.filter import DENIED, Loader, confine, forbid_new_privileges, traced
from profiler.errors import NOT_EXECUTABLE, CommandNotExecutable
from profiler.kernel.abi import native_abi
from profiler.kernel.errno import name_of as error_name
from profiler.policy.model import Policy
from profiler.tracers import base
from profiler.tracers.base import Workload
from profiler.tracers.host import has_capability
from profiler.tracers.launch import Child, spawn
from profiler.tracers.ptrace.calls import Evidence
from profiler.tracers.ptrace.capabilities import Call, Inference
from profiler.tracers.ptrace.rows import Exit, Leave
from profiler.tracers.ptrace.threads import Credentials
from profiler.tracers.ptrace.tracer import Kind, PtraceTracer, Run, Tracee
from profiler.tracers.recording import CapabilityKey, Recording

DISTINCT_MAX = 100_000
"""Most different denials that are kept."""

_EXECS = ("execve", "execveat")


def unavailable() -> str | None:
    """Return why such a run is not possible here, None when it is."""
    reason = PtraceTracer().unavailable()
    return None if reason is None else f"denials are seen with ptrace, and {reason}"


def run(policy: Policy, workload: Workload, options: Options) -> Outcome:
    """See Enforcer.run."""
    return run_under(policy, workload, options, None)[0]


def run_under(
    policy: Policy, workload: Workload, options: Options, profile: str | None
) -> tuple[Outcome, Mapping[int, str]]:
    """Run a workload, and return its outcome and the file that each process executed last. ``profile``: an AppArmor
    profile that decides about files, sockets, signals and mounts."""
    recording = _Uses(native_abi())
    made = _Confined(policy, workload, options, recording, profile)
    try:
        status = made.run()
    except CommandNotExecutable:
        if not made.denials:
            raise
        status = NOT_EXECUTABLE
    beyond = {"denials": made.denials.beyond} if made.denials.beyond else {}
    losses = {name: count for name, count in recording.losses.items() if count}
    return Outcome(status, tuple(made.denials), made.means(), {**losses, **beyond}), made.executed


_Use = tuple[str, tuple[Any, ...], tuple[str, ...]]
"""``file``, ``socket`` and so on; the key of its row in a trace; the file's owners."""


class _Uses(Recording):
    """A recording that keeps no uses of files, sockets and the like, but collects them while ``uses`` is a list."""

    def __init__(self, native: str) -> None:
        super().__init__(native)
        self.uses: list[_Use] | None = None
        self.checked: Callable[[CapabilityKey, str], None] | None = None

    def _used(self, what: str, key: tuple[Any, ...], *_: Any, owner: Iterable[str] = ()) -> None:
        if self.uses is not None and (what != "file" or key[0]):
            self.uses.append((what, key, tuple(owner)))

    def check(self, key: CapabilityKey, program: int, syscall: str, **_: Any) -> None:
        if self.checked is not None:
            self.checked(key, syscall)


class _Inference(Inference):
    """Notes which thread's call a capability decided. root had the capabilities before they were dropped."""

    tid = 0

    def _everyday(self, credentials: Credentials) -> bool:
        return not credentials.effective and credentials.uids[1] != 0

    def leave(self, tid: int, call: Call, result: int, code: int, program: int) -> None:
        self.tid = tid
        super().leave(tid, call, result, code, program)


class _Confined(Run):
    def __init__(
        self, policy: Policy, workload: Workload, options: Options, recording: _Uses, profile: str | None
    ) -> None:
        super().__init__(workload, base.Options(duration=options.duration, files=False), recording)
        self.policy = policy
        self.mode = options.mode
        self.uses = recording
        self.held = Held(policy, options.failures)
        self.as_apparmor = Held(policy, options.failures, coarse=True)
        self.denials = Collection(DISTINCT_MAX)
        self.seen: dict[tuple[object, ...], Denial] = {}
        """A denied call, without arguments that no filter looks at, to its first denial."""
        self.inference: _Inference = _Inference(recording, self.threads)
        recording.checked = self._checked
        self.profile = profile
        self.executed: dict[int, str] = {}
        self.holds_files = options.files and policy.has_files and profile is None
        if self.holds_files:
            self.evidence = Evidence(recording, self.threads)
        self.enforces = options.mode == "enforce"
        self.loader = Loader(traced(policy, refusing=self.enforces))
        self.privileged = has_capability("CAP_SYS_ADMIN")

    def means(self) -> tuple[str, ...]:
        """See Outcome."""
        refused = "refused" if self.enforces else "let pass"
        taken = (
            "dropped; refusals recognised by the calls that failed"
            if self.enforces
            else "kept; uses recognised by the calls"
        )
        if not self.privileged and not self.workload_holds():
            taken = "the command has none"
        if self.profile is not None:
            files = f"{refused} by AppArmor, under the policy's profile" + (
                "" if self.enforces else " in complain mode"
            )
        elif self.holds_files:
            before = "refused by ptrace as by AppArmor, then " if self.enforces else ""
            files = f"{before}compared with the policy"
        else:
            files = "not checked" + ("" if self.policy.has_files else " (the policy has no rules for them)")
        return (
            f"syscalls: {refused} under the policy's filter, by ptrace",
            f"capabilities: {taken}",
            f"files, sockets, signals, mounts: {files}",
        )

    def workload_holds(self) -> bool:
        """Return whether profgen has capabilities to pass on."""
        return rights.permitted() != 0

    # -- starting ------------------------------------------------------------------------------------------------------

    def _spawn(self) -> Child:
        return spawn(self.workload, self._begin, (lambda: confine(self.policy, self.loader)) if self.enforces else None)

    def _begin(self) -> None:
        if self.profile is not None:
            label_next_exec(self.profile)
        if self.enforces:
            rights.reduce_bounding(self.policy)
            return
        # Before the user changes: loading needs CAP_SYS_ADMIN or no_new_privs.
        if not self.privileged:
            forbid_new_privileges()
        self.loader.load()

    def _executed(self, tid: int, tracee: Tracee, former: int) -> Tracee:
        with contextlib.suppress(OSError):
            self.executed[self.threads.group(tid)] = os.readlink(f"/proc/{tid}/exe")
        return super()._executed(tid, tracee, former)

    # -- denials -------------------------------------------------------------------------------------------------------

    def _deny(self, tid: int, denial: Denial, refused: bool) -> None:
        """Note a denial and its process, which is read while the thread is stopped."""
        comm = exe = None
        with contextlib.suppress(OSError):
            with open(f"/proc/{tid}/comm", "rb") as file:
                comm = os.fsdecode(file.read().rstrip(b"\n"))
            exe = os.readlink(f"/proc/{tid}/exe")
        now = time.time()
        self.denials.add(
            replace(denial, refused=refused, comm=comm, exe=exe, pid=self.threads.group(tid), first=now, last=now)
        )

    def _refuses(self, tid: int, tracee: Tracee, kind: Kind, info: tuple[int, ...]) -> int:
        """Return the errno for a call that the filter marked or whose uses the policy does not allow, 0 to let it
        pass."""
        if info[9] == DENIED:
            self._deny(tid, self._syscall(kind, info[2], info[3:9]), self.enforces)
            return errno.EPERM if self.enforces else 0
        if not self.enforces or kind.enter is None or not self.holds_files:
            return 0
        if kind.name in _EXECS and tracee.program < 0:
            return 0  # profgen's own child, which becomes the workload
        self.threads.stopped()
        try:
            leave = kind.enter(tid, info[3:9])
        except OSError:
            return 0  # it was killed while stopped
        if leave is None:
            return 0
        # Before the call is made, only what would be recorded for a failed call can be known.
        used = self._collected(lambda: leave(Exit(tid, -1, errno.EACCES, kind.program, kind.program)))
        return errno.EACCES if self._compared(tid, used, self.as_apparmor, refused=True) else 0

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

    def _collected(self, act: Callable[[], None]) -> list[_Use]:
        """Call ``act``, which records uses, and return them."""
        found = self.uses.uses = []
        try:
            with contextlib.suppress(OSError):
                act()
        finally:
            self.uses.uses = None
        return found

    def _compared(self, tid: int, used: Iterable[_Use], held: Held, refused: bool) -> bool:
        """Note the uses that are denied; return whether there was one."""
        files: dict[tuple[Any, ...], tuple[list[str], tuple[str, ...]]] = {}
        found = []
        for what, key, owner in used:
            if what == "file":
                path, access, *rest = key
                files.setdefault((path, *rest), ([], owner))[0].append(access)
            else:
                ask: Callable[..., Denial | None] = getattr(held, what)
                found.append(ask(*key))
        for (path, kind, state, existing, whose), (accesses, owner) in files.items():
            found.append(held.file(path, accesses, kind, owner, existing, whose, state))
        denials = [denial for denial in found if denial is not None]
        for denial in denials:
            self._deny(tid, denial, refused)
        return bool(denials)

    def _enter(self, tid: int, tracee: Tracee, kind: Kind, args: tuple[int, ...]) -> bool:
        wanted = super()._enter(tid, tracee, kind, args)
        if tracee.leave is not None:
            tracee.leave = self._listening(tracee.leave, kind.name in _EXECS, first=kind.program < 0)
        return wanted

    def _listening(self, leave: Leave, executes: bool, first: bool) -> Leave:
        """Compare what a call did with the rules. What the kernel answered with an error is not a denial."""

        def told(exit: Exit) -> None:
            if exit.code:
                leave(exit)
                return
            used = self._collected(lambda: leave(exit))
            if executes and self.enforces:
                # What starts the workload executes its first program, not a process under the policy; the program
                # must still be readable and mapped.
                used = [use for use in used if not (first and use[0] == "file" and use[1][1] == "execute")]
                if self._compared(exit.tid, used, self.as_apparmor, refused=True):
                    with contextlib.suppress(OSError):
                        os.kill(exit.tid, signal.SIGKILL)
                    return
            self._compared(exit.tid, used, self.held, refused=False)

        return told

    def _checked(self, key: CapabilityKey, syscall: str) -> None:
        capability, namespace, verdict, _, decisive, _ = key
        if namespace != "initial" or not decisive or (verdict == "refused") is not self.enforces:
            return
        denial = self.held.capability(capability, "refused" if self.enforces else "needed")
        if denial is not None:
            self._deny(self.inference.tid, replace(denial, name=syscall), self.enforces)


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
