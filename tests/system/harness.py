"""What the system tests stand on: profgen as a command, its traces, and what is found in /proc afterwards."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import itertools
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import judging
import pytest
from click.testing import CliRunner
from executables import write_program
from system import hangs, oracle
from system.torture.build import Program
from waiting import HANG_SECONDS

from profiler.cli.main import cli

CHECKOUT = Path(__file__).resolve().parents[2]
NOBODY = 65534
TIMEOUT = HANG_SECONDS
_ABORT_SECONDS = 10.0

Until = Callable[[Callable[[], Any], str], Any]


@dataclass(frozen=True)
class Recording:
    """One run of profgen, and the trace that it wrote."""

    status: int
    stdout: bytes
    stderr: str
    path: Path

    @cached_property
    def trace(self) -> dict[str, Any]:
        assert self.path.exists(), f"no trace was written; status {self.status}, stderr: {self.stderr}"
        document: dict[str, Any] = json.loads(self.path.read_bytes())
        return document

    @property
    def meta(self) -> dict[str, Any]:
        meta: dict[str, Any] = self.trace["meta"]
        return meta

    @property
    def syscalls(self) -> frozenset[tuple[str, int]]:
        return frozenset((row["abi"], row["number"]) for row in self.trace["syscalls"])

    @property
    def names(self) -> frozenset[str]:
        return frozenset(row["name"] for row in self.trace["syscalls"])

    @property
    def arguments(self) -> dict[tuple[str, int], Any]:
        """(ABI, number) to (fields, values, overflow) for the rows that have argument values."""
        return {
            (row["abi"], row["number"]): (
                tuple(row["arguments"]["fields"]),
                frozenset(tuple(value["value"]) for value in row["arguments"]["values"]),
                row["arguments"]["overflow"],
            )
            for row in self.trace["syscalls"]
            if row["arguments"] is not None
        }

    @property
    def programs(self) -> list[tuple[str, str | None, int]]:
        return sorted((row["path"], row["interpreter"] or "", row["executions"]) for row in self.trace["programs"])


def why_no_ebpf() -> str | None:
    """What this host lacks for the eBPF tracer, found without asking the tracer itself."""
    if os.geteuid() != 0:
        return "the eBPF tracer needs root"
    if importlib.util.find_spec("bcc") is None and not Path("/usr/lib/python3/dist-packages/bcc").is_dir():
        return "bcc is not installed (package python3-bpfcc)"
    return None


def environment(**more: str) -> dict[str, str]:
    """The environment of every run, strace's as well as profgen's, so that both see the same workload."""
    left_out = ("SUDO_", "PYTHON", "COLUMNS", "PYTEST_")  # pytest changes PYTEST_CURRENT_TEST while threads call this
    kept = {name: os.environ[name] for name in list(os.environ) if not name.startswith(left_out)}
    return {**kept, "PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1", **more}


def finish(process: subprocess.Popen[bytes], timeout: float = TIMEOUT, stdin: bytes | None = None) -> tuple[bytes, str]:
    """Wait for the end of a process that leads its own session; kill its group when it hangs, and fail."""
    try:
        stdout, stderr = process.communicate(stdin, timeout=timeout)
    except subprocess.TimeoutExpired:
        fail_stuck(process, f"{process.args} took longer than {timeout} s")
    return stdout or b"", (stderr or b"").decode(errors="surrogateescape")


def fail_stuck(process: subprocess.Popen[bytes], reason: str) -> NoReturn:
    """Kill the group of a process that hangs, and fail with what its threads and descendants do, and where in Python
    profgen is: SIGABRT prints that to its standard error (faulthandler)."""
    seen = hangs.told([process.pid, *descendants(process.pid)])
    process.send_signal(signal.SIGABRT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_ABORT_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    _, stderr = process.communicate()
    pytest.fail(f"{reason}; stderr: {(stderr or b'').decode(errors='replace')}\n{seen}")


def own_network() -> list[str]:
    """Return words that start a command in a network namespace of its own, so that runs at the same time can use the
    same ports; no words for an ordinary user."""
    if os.geteuid() != 0:
        return []
    return ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


def run_here(*words: str) -> None:
    """Run a command of profgen in this process: starting Python takes longer than generating files.

    ``words`` hold absolute paths. AssertionError when it fails.
    """
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, f"profgen {shlex.join(words)}: {result.output} {result.exception}"


class Profgen:
    """``profgen`` as a user runs it: a command, never a function called."""

    def __init__(
        self, python: str = sys.executable, prefix: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> None:
        self._without_prefix = [python, "-X", "faulthandler", "-m", "profiler"]
        self.prefix = list(prefix)
        self.command = [*self.prefix, *self._without_prefix]
        self.env = dict(env or {})

    def program(self, path: Path) -> Path:
        """Write a program that is this profgen (without the prefix), for whoever starts it by its path; return it."""
        modules = shlex.quote(self.env.get("PYTHONPATH", str(CHECKOUT)))
        command = shlex.join(self._without_prefix)
        return write_program(path, f'#!/bin/sh\nexport PYTHONPATH={modules}\nexec {command} "$@"\n')

    def start(
        self, *args: str | os.PathLike[str] | bytes, cwd: Path, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[bytes]:
        """Begin a run in a session of its own. ``env`` adds to the environment."""
        settings: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "start_new_session": True,
            **options,
        }
        return subprocess.Popen(
            [*self.command, *args], cwd=cwd, env={**environment(), **self.env, **(env or {})}, **settings
        )

    def __call__(
        self,
        *args: str | os.PathLike[str] | bytes,
        cwd: Path,
        stdin: bytes | None = None,
        timeout: float = TIMEOUT,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end. stdout and stderr are text, undecodable bytes as surrogates."""
        if stdin is not None:
            options["stdin"] = subprocess.PIPE
        process = self.start(*args, cwd=cwd, **options)
        stdout, stderr = finish(process, timeout, stdin)
        if args and args[0] == "generate" and process.returncode == 0:
            for option, value in itertools.pairwise(args):
                if option == "-o":
                    judging.written(cwd / os.fsdecode(value))
        return subprocess.CompletedProcess(
            list(process.args), process.returncode, stdout.decode(errors="surrogateescape"), stderr
        )

    def record(
        self, tracer: str, command: Sequence[str | bytes], *, cwd: Path, options: Sequence[str] = (), **more: Any
    ) -> Recording:
        """``profgen record --tracer T -o out.json OPTIONS -- COMMAND`` in ``cwd``."""
        result = self("record", "--tracer", tracer, "-o", "out.json", *options, "--", *command, cwd=cwd, **more)
        return Recording(
            result.returncode, result.stdout.encode(errors="surrogateescape"), result.stderr, cwd / "out.json"
        )


@dataclass
class Recorder:
    """A running ``profgen record``."""

    process: Any
    told: socket.socket

    def began(self) -> None:
        """Wait until it has told its service manager that the recording has begun (sd_notify(3))."""
        try:
            assert self.told.recv(64) == b"READY=1"
        except TimeoutError:
            fail_stuck(self.process, "the recording did not begin")

    def end(self, number: signal.Signals | None = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal, wait for the end, and return the status and what was said."""
        if number is not None:
            self.process.send_signal(number)
        _, said = finish(self.process)
        return self.process.returncode, said


@contextlib.contextmanager
def recording(
    profgen: Profgen, cwd: Path, *words: str | os.PathLike[str], env: Mapping[str, str] | None = None
) -> Iterator[Recorder]:
    """Run ``profgen record WORDS`` during the block; kill it at the end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("")  # an abstract name that the kernel chooses (unix(7))
        receiver.settimeout(HANG_SECONDS)
        address = "@" + receiver.getsockname()[1:].decode()
        process = profgen.start("record", *words, cwd=cwd, env={**(env or {}), "NOTIFY_SOCKET": address})
        try:
            yield Recorder(process, receiver)
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()


class Observed:
    """What strace and the tracers saw of the torture programs.

    Each is run once, a processor's worth at a time: what the selected tests will ask for is begun ahead of them.
    """

    def __init__(self, profgen: Profgen, torture: Path, directory: Path) -> None:
        self._profgen = profgen
        self._torture = torture
        self._directory = directory
        self._workers = ThreadPoolExecutor(max_workers=os.cpu_count() or 1)
        self._runs: dict[tuple[str, str], Future[Any]] = {}

    def by_strace(self, program: Program) -> oracle.Oracle:
        seen: oracle.Oracle = self.begin(program, "strace").result()
        return seen

    def by_tracer(self, program: Program, tracer: str) -> Recording:
        recording: Recording = self.begin(program, tracer).result()
        return recording

    def begin(self, program: Program, who: str) -> Future[Any]:
        """Start a run, unless it was started before."""
        key = (program.name, who)
        if key not in self._runs:
            self._runs[key] = self._workers.submit(self._run, program, who)
        return self._runs[key]

    def close(self) -> None:
        """Start no more runs, and wait for those under way."""
        self._workers.shutdown(cancel_futures=True)

    def _run(self, program: Program, who: str) -> Recording | oracle.Oracle:
        cwd = self._directory / f"{program.name.replace('/', '_')}.{who}"
        cwd.mkdir()
        if who != "strace":
            return self._profgen.record(who, program.command(self._torture), cwd=cwd)
        command = program.command(self._torture, for_oracle=True)
        return oracle.run(command, cwd / "log", cwd=cwd, env=environment(), timeout=TIMEOUT)


def descendants(pid: int) -> set[int]:
    """Process ids below ``pid``, by their parents in /proc."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parents[int(entry)] = int(_status(int(entry))[1])
            except (OSError, IndexError):
                continue
    found: set[int] = set()
    todo = [pid]
    while todo:
        above = todo.pop()
        below = {child for child, parent in parents.items() if parent == above} - found
        found |= below
        todo += below
    return found


def with_argument(word: str) -> dict[int, str]:
    """Processes that have ``word`` among their arguments, to their state (proc_pid_stat(5)); how tests find what was
    left behind."""
    found: dict[int, str] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            if word.encode() in Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0"):
                found[int(entry)] = _status(int(entry))[0]
        except (OSError, IndexError):
            continue
    return found


def _status(pid: int) -> list[str]:
    """Return the fields of proc_pid_stat(5) from the state on. OSError, or an empty list, when the process is gone."""
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()


def state_of(pid: int) -> str | None:
    """Return the state of a process (proc_pid_stat(5)); None when it is gone."""
    try:
        return _status(pid)[0]
    except (OSError, IndexError):
        return None


def of_session(session: int) -> dict[int, str]:
    """Return the processes of a session (setsid(2)), to their state: what a run of profgen has started and left."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError):
                fields = _status(int(entry))
                if int(fields[3]) == session:
                    found[int(entry)] = fields[0]
    return found


_BPF_ID = re.compile(r"^(prog|map)_id:\t(\d+)$", re.MULTILINE)
_BPF_NEXT = {"prog": 11, "map": 12}
"""BPF_PROG_GET_NEXT_ID and BPF_MAP_GET_NEXT_ID of bpf(2)."""


def bpf_objects(pid: int) -> set[tuple[str, int]]:
    """Return kind and id of the BPF programs and maps that a process holds (fdinfo of bpf(2) files)."""
    found: set[tuple[str, int]] = set()
    with contextlib.suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fdinfo"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/fdinfo/{fd}") as file:
                found |= {(kind, int(number)) for kind, number in _BPF_ID.findall(file.read())}
    return found


def bpf_exists(kind: str, number: int) -> bool:
    """Whether the kernel still has a BPF program or map: the one after the id before it."""
    attributes = (ctypes.c_uint32 * 32)(number - 1)
    call = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
    done = ctypes.CDLL(None, use_errno=True).syscall(
        call, _BPF_NEXT[kind], ctypes.byref(attributes), ctypes.sizeof(attributes)
    )
    return done == 0 and attributes[1] == number
