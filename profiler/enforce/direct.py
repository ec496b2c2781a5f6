"""Enforce a policy without a container: its seccomp filter and capability sets on a process of this host.

When only the status matters, the kernel does everything: the filter answers as the profile does, and the run costs what
it costs in production. To name denials, every call stops for profgen (traced.py).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal

from profiler.confinement import Loader, confine, reduce_bounding
from profiler.enforce import traced
from profiler.enforce.base import Options, Outcome, wrong_machine
from profiler.errors import NOT_EXECUTABLE, CommandNotExecutable, InputError
from profiler.files import process_stat
from profiler.policy.model import Policy
from profiler.run import end_with_parent
from profiler.targets.bpf import enforcing
from profiler.targets.sets import mask_of
from profiler.tracers.base import Workload
from profiler.tracers.launch import shell_status, spawn
from profiler.tracers.supervisor import Supervisor

_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


class Direct:
    """The module describes it."""

    name = "direct"

    def unavailable(self, policy: Policy, options: Options) -> str | None:
        """A policy of another machine cannot be enforced here; naming denials needs ptrace."""
        reason = wrong_machine(policy)
        return traced.unavailable() if reason is None and needs_stops(policy, options) else reason

    def run(self, policy: Policy, workload: Workload, options: Options) -> Outcome:
        """See Enforcer.run."""
        reason = self.unavailable(policy, options)
        if reason is not None:
            raise InputError(reason)
        return (
            traced.run(policy, workload, options)
            if needs_stops(policy, options)
            else run_plain(policy, workload, options)
        )


def needs_stops(policy: Policy, options: Options) -> bool:
    """Return whether calls must stop for profgen: to name what was refused, to refuse nothing, or to see the uses
    of files."""
    return options.denials or options.mode == "log" or (options.files and policy.has_files)


def run_plain(policy: Policy, workload: Workload, options: Options) -> Outcome:
    """Run a workload that only the kernel confines, to the end of its last descendant; denials are not seen. The
    calling process becomes their reaper (prctl(2))."""
    loader = Loader(enforcing(policy))
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1))

    def before_exec() -> None:
        end_with_parent()  # a change of user clears it
        confine(mask_of(policy), policy.no_new_privs, loader)

    with Supervisor(lambda: descendants(os.getpid()), options.duration) as supervisor:
        child = spawn(workload, lambda: reduce_bounding(mask_of(policy)), before_exec)
        try:
            child.release()
            supervisor.start(child.pid)
            failure = child.exec_failure()
            status = 0
            with contextlib.suppress(ChildProcessError):
                while True:
                    pid, ended = os.waitpid(-1, 0)
                    if pid == child.pid:
                        status = ended
                        supervisor.main_ended()
        except BaseException:
            end(os.getpid())
            raise
    if isinstance(failure, CommandNotExecutable) and not any(entry.name == "execve" for entry in policy.syscalls):
        return Outcome(NOT_EXECUTABLE)  # the policy refused it
    if failure is not None:
        raise failure
    return Outcome(shell_status(status))


def descendants(pid: int) -> list[int]:
    """Return the descendants of ``pid`` (proc_pid_stat(5)), including those that have ended and wait to be reaped."""
    return list(_states_below(pid))


def _states_below(pid: int) -> dict[int, bytes]:
    """Return the descendants of ``pid``, each with the letter of its state."""
    below: dict[int, list[int]] = {}
    states: dict[int, bytes] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                state, parent = process_stat(entry)[:2]
                below.setdefault(int(parent), []).append(int(entry))
                states[int(entry)] = state
    found: dict[int, bytes] = {}
    todo = [pid]
    while todo:
        children = below.get(todo.pop(), [])
        found.update((child, states[child]) for child in children)
        todo += children
    return found


def kill(pid: int) -> bool:
    """Send SIGKILL to every living descendant of ``pid``. Return whether there was one."""
    left = [each for each, state in _states_below(pid).items() if state != b"Z"]
    for each in left:
        with contextlib.suppress(OSError):
            os.kill(each, signal.SIGKILL)
    return bool(left)


def end(pid: int) -> None:
    """Kill and reap every descendant of the calling process, even if they fork meanwhile."""
    while descendants(pid):
        kill(pid)
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)
