"""Start the workload: find its program first, hold it at a gate until it is watched, then execute it."""

from __future__ import annotations

import errno
import os
import signal
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from profiler.confinement import Loader, default_signals, forbid_new_privileges
from profiler.errors import FAILED, CommandNotExecutable, CommandNotFound, ProfgenError
from profiler.kernel.abi import native_abi
from profiler.quoting.text import printable
from profiler.tracers.base import Workload
from profiler.tracers.host import controlling_terminal, has_capability
from profiler.wording import cause

_NULL = os.makedev(1, 3)
"""The device number of /dev/null (Documentation/admin-guide/devices.txt)."""

FORWARDED = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2})
"""The signals that profgen forwards to the workload. They are blocked in profgen while it runs (supervisor.py reads
them)."""


def find_program(command: str, env: Mapping[str, str]) -> str:
    """Return the file that execvp(3) would execute. Raises CommandNotFound (127) or CommandNotExecutable (126)."""
    candidates = (
        [command]
        if "/" in command
        else [os.path.join(part or ".", command) for part in env.get("PATH", os.defpath).split(":")]
    )
    denied: str | None = None
    for path in candidates if command else []:
        try:
            mode = os.stat(path).st_mode
        except OSError as error:
            if error.errno in (errno.EACCES, errno.ELOOP):
                denied = cause(error)
            continue
        if stat.S_ISDIR(mode):
            denied = denied or "it is a directory"
        elif not os.access(path, os.X_OK):
            denied = "permission denied"
        else:
            return path
    if denied and "/" not in command and denied == "it is a directory":
        denied = None
    if denied:
        raise CommandNotExecutable(f"cannot execute {quoted(command)}: {denied}")
    raise CommandNotFound(f"command not found: {quoted(command)}")


def quoted(text: str) -> str:
    """Return a name that a stranger may have chosen, quoted for a message."""
    return f"'{printable(text)}'"


class EndedEarly(ProfgenError):
    """A signal ended the workload before it started to execute."""

    def __init__(self, status: int) -> None:
        super().__init__("the command was ended before it started")
        self.exit_code = status


@dataclass
class Child:
    """A workload process that waits at its gate. ``features``: those that starting it so adds to Meta.features.
    ``no_new_privs``: that is set to start it so."""

    pid: int
    features: tuple[str, ...]
    no_new_privs: bool
    _gate: int
    _failure: int
    _path: str

    def release(self) -> None:
        """Let the process go on to execute."""
        os.write(self._gate, b"x")
        os.close(self._gate)
        self._gate = -1

    def exec_failure(self) -> ProfgenError | None:
        """Return why the program could not be executed, None if it was. Call this once, after it executed or exited."""
        data = os.read(self._failure, 64)
        self.close()
        if not data:
            return None
        step, _, number = data.decode("ascii", "replace").rpartition(" ")
        return failure(self._path, step, int(number) if number.isdigit() else 0)

    def close(self) -> None:
        """Close the pipes; a child that is still at the gate exits."""
        for fd in (self._gate, self._failure):
            if fd >= 0:
                os.close(fd)
        self._gate = self._failure = -1


def failure(path: str, step: str, code: int) -> ProfgenError:
    """Return why a program could not be executed: an errno, or 0, at a step of :class:`Start`."""
    reason = cause(code) if code else "an argument or environment variable is not valid"
    if step != "exec":
        return ProfgenError(f"cannot start {quoted(path)}: {step}: {reason}")
    if code == errno.ENOENT:
        return CommandNotFound(f"command not found: {quoted(path)} (or its interpreter)")
    if code == errno.ENOEXEC:
        reason += " (neither a program nor a script that begins with #!)"
    return CommandNotExecutable(f"cannot execute {quoted(path)}: {reason}")


def endangers_terminal(workload: Workload) -> bool:
    """Return whether a workload could type into the shell that started profgen: it is given a terminal, and runs as
    another user than profgen.

    TERMINAL_INPUT works on the controlling terminal of the caller's session (drivers/tty/tty_io.c tiocsti). An open
    terminal counts too: a process can make a session, and take a terminal that belongs to none.
    """
    if workload.user is None or workload.user[0] == os.geteuid():
        return False
    return controlling_terminal() != 0 or any(os.isatty(int(fd)) for fd in os.listdir("/proc/self/fd"))


def _guard() -> Loader:
    from profiler.tracers.seccomp import terminal_guard  # few starts need it

    return Loader(terminal_guard(native_abi()))


class Start:
    """How the calling process becomes a workload. ``step``: what it is at, for messages.

    If the workload endangers the terminal, a filter refuses TERMINAL_INPUT to it and its descendants, also after
    profgen's end. Without CAP_SYS_ADMIN that takes no_new_privs (seccomp(2)): ``no_new_privs``.
    """

    def __init__(
        self,
        workload: Workload,
        before_user: Callable[[], None] | None = None,
        before_exec: Callable[[], None] | None = None,
    ) -> None:
        self.step = "start"
        self.guard = _guard() if endangers_terminal(workload) else None
        self.no_new_privs = self.guard is not None and not has_capability("CAP_SYS_ADMIN")
        self._workload, self._before_user, self._before_exec = workload, before_user, before_exec

    def execute(self, parent: int | None = None) -> None:
        """Become the user and execute the program. Raises OSError, and ValueError for an argument that cannot be
        passed. ``parent``: exit when it is no longer the parent.

        ``before_user`` is called with all rights, ``before_exec`` last before the execution.
        """
        workload = self._workload
        default_signals()
        self.step = "guarding the terminal"
        if self.no_new_privs:
            forbid_new_privileges()
        if self.guard is not None:
            self.guard.load()
        self.step = "setting the filter"
        if self._before_user is not None:
            self._before_user()
        self.step = "changing directory"
        os.chdir(workload.cwd)
        if workload.user is not None:
            self.step = "becoming the user"
            uid, gid, groups = workload.user
            os.setgroups(groups)
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
        signal.pthread_sigmask(signal.SIG_SETMASK, workload.mask)
        if parent is not None and os.getppid() != parent:
            os._exit(FAILED)
        if self._before_exec is not None:
            self.step = "confining it"
            self._before_exec()
        self.step = "exec"
        os.execve(workload.path, workload.argv, workload.env)


def spawn(
    workload: Workload, before_user: Callable[[], None] | None = None, before_exec: Callable[[], None] | None = None
) -> Child:
    """Fork a child that waits for release, then becomes the user, then executes (:class:`Start`). File descriptors
    other than the standard ones are passed on if they are inheritable."""
    from profiler.trace.model import GUARDED_FEATURE  # `profgen run` does without it, and is quicker

    gate_read, gate_write = os.pipe()
    failure_read, failure_write = os.pipe()
    parent = os.getpid()
    start = Start(workload, before_user, before_exec)
    pid = os.fork()
    if pid == 0:
        try:
            os.close(gate_write)
            if os.read(gate_read, 1) == b"x":
                start.execute(parent)
        except OSError as error:
            os.write(failure_write, f"{start.step} {error.errno}".encode())
        except BaseException:
            os.write(failure_write, f"{start.step} 0".encode())
        finally:
            os._exit(FAILED)
    os.close(gate_read)
    os.close(failure_write)
    features = () if start.guard is None else (GUARDED_FEATURE,)
    return Child(pid, features, start.no_new_privs, gate_write, failure_read, workload.path)


def standing() -> tuple[str, ...]:
    """Return how a command stands that :func:`spawn` starts, as Meta.standing has it: in the session and the process
    group of profgen, and with its streams."""
    terminal = "terminal"
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        terminal = "no_terminal"
    streams = (f"{name}_{_stream_kind(fd)}" for fd, name in enumerate(("stdin", "stdout", "stderr")))
    return tuple(sorted(("no_group_leader", "no_session_leader", "no_pid_1", terminal, *streams)))


def _stream_kind(fd: int) -> str:
    """Return what a stream is: a word of Meta.standing (profiler/trace/model.py)."""
    try:
        found = os.fstat(fd)
    except OSError:
        return "closed"
    mode = found.st_mode
    if stat.S_ISCHR(mode):
        return "null" if found.st_rdev == _NULL else "terminal" if os.isatty(fd) else "device"
    return (
        "file"
        if stat.S_ISREG(mode)
        else "pipe"
        if stat.S_ISFIFO(mode)
        else "socket"
        if stat.S_ISSOCK(mode)
        else "device"
    )


def shell_status(status: int) -> int:
    """Return a wait(2) status as a shell shows it: the exit code, or 128+N for death by signal N."""
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def detach_helper(*kept: int) -> None:
    """Detach a helper process of profgen from signals and descriptors.

    No signal but SIGKILL and SIGSTOP reaches it, and it keeps no descriptors but these. Even a copy of an eBPF
    program's descriptor must not stay open: it would keep the program attached after profgen detaches it.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP})
    edges = sorted(set(kept))
    for low, high in zip([-1, *edges], [*edges, os.sysconf("SC_OPEN_MAX")], strict=True):
        os.closerange(low + 1, high)
