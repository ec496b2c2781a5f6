"""After it has learnt, the eBPF tracer looks at the ends of calls only: it sees the same as before."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from system.harness import TIMEOUT, Profgen, Recording
from system.torture.build import NATIVE, PROGRAMS, Program

from profiler.kernel.syscalls import number_of
from profiler.tracers.base import Options
from profiler.tracers.ebpf import attaching
from profiler.tracers.ebpf.watcher import EbpfWatcher
from profiler.tracers.watcher import Selection

LEARNS = (
    "import sys; from profiler.tracers.ebpf import attaching; attaching.LEARNING_SECONDS = {seconds}; "
    "from profiler.__main__ import main; sys.exit(main())"
)
SLEEP_SECONDS = "1"
FILTERS = "signals-filter_"
CHOSEN = frozenset({
    "processes-fork", "processes-vfork_exec", "processes-clone_raw", "processes-clone3_vfork", "processes-spawn",
    "processes-daemon", "processes-chain", "processes-killed_child", "processes-killed_itself", "threads-many",
    "threads-leader_exits", "threads-exec", "threads-exec_leader_gone", "threads-killed", "execs-execve",
    "execs-execveat_fd", "execs-execveat_dir", "execs-memfd", "execs-fails", "execs-fails_late", "execs-abis",
    "signals-handler", "signals-segv", "signals-alarm", "signals-filter_errno",
    "signals-filter_kill", "signals-dies-15", "signals-dies-11", "namespaces-all", "namespaces-user",
    "abis-unknown", "abis-minus_one", "abis-int80", "abis-int80_fork", "abis-x32",
    "signals32-handler", "execs32-back", "leaf",
})  # fmt: skip
"""Not signals-restart: how often its read is interrupted depends on when its children end."""


COUNTED = frozenset({
    "clone", "clone3", "fork", "vfork", "exit", "exit_group", "execve", "execveat", "getpgid", "getsid", "openat",
    "rt_sigreturn",
})  # fmt: skip
SECTIONS = {
    "capabilities": ("capability", "verdict", "namespace", "decisive", "syscalls"),
    "execs": ("by", "program", "count"),
    "files": ("path", "access", "kind", "owner", "state", "results"),
    "sockets": ("family", "type", "operation", "results"),
    "signals": ("signal", "whom"),
}


def words(value: Any) -> Any:
    """A member of a row, without counts and numbers of processes."""
    return sorted(value) if isinstance(value, dict) else re.sub(r"\d{2,}", "N", str(value))


def learning(profgen: Profgen, seconds: float) -> Profgen:
    """A profgen that has learnt all when nothing new came for so long."""
    found = Profgen(env=profgen.env)
    found.command = [sys.executable, "-c", LEARNS.format(seconds=seconds)]
    return found


def evidence(recording: Recording) -> dict[str, Any]:
    """What was seen, without times; counts only of calls that do not depend on time."""
    assert recording.meta["losses"] == {}
    rows: dict[str, Any] = {}
    for row in recording.trace["syscalls"]:
        values = () if row["arguments"] is None else (tuple(each["value"]) for each in row["arguments"]["values"])
        calls = row["calls"] if row["name"] in COUNTED else 0
        ended = bool(row["results"]["ok"]), frozenset(row["results"]["errors"])
        rows[f"{row['abi']} {row['number']} {row['name']}"] = calls, frozenset(values), *ended
    for section, names in SECTIONS.items():
        rows[section] = {repr([words(row[name]) for name in names]) for row in recording.trace[section]}
    return rows


@pytest.mark.parametrize("program", [each for each in PROGRAMS if each.name in CHOSEN], ids=lambda each: each.name)
def test_the_ends_of_calls_suffice(
    program: Program, ebpf: str, profgen: Profgen, torture: Path, tmp_path: Path
) -> None:
    command = ["/bin/sh", "-c", f'sleep {SLEEP_SECONDS}; exec "$@"', "sh", *program.command(torture)]
    recordings = []
    for name, seconds in (("brief", 0.1), ("usual", 1000)):
        (tmp_path / name).mkdir()
        recordings.append(learning(profgen, seconds).record(ebpf, command, cwd=tmp_path / name))
        assert recordings[-1].status == program.status, recordings[-1].stderr
    found, expected = map(evidence, recordings)
    for name in ("i386 119 sigreturn", "i386 173 rt_sigreturn"):  # which of them it was is not known: both
        if name in found and program.name.startswith("signals32"):
            expected[name] = found[name]
    if program.name.startswith(FILTERS):  # until the beginnings are watched again, what a new filter refuses is seen
        for abi, number in program.unseen:
            found = {key: row for key, row in found.items() if not key.startswith(f"{abi} {number} ")}
    differences = {
        key: (found.get(key), expected.get(key))
        for key in found.keys() | expected.keys()
        if found.get(key) != expected.get(key)
    }
    assert differences == {}


@pytest.mark.skipif(NATIVE != "x86_64", reason="on other machines the beginnings are always seen")
def test_calls_in_which_threads_wait(ebpf: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot has a call that began when only ends were seen, and that has not ended; it is counted once."""
    monkeypatch.setattr(attaching, "LEARNING_SECONDS", -1.0)
    waits = "import signal, sys; signal.signal(signal.SIGUSR1, lambda *_: None); sys.stdin.readline(); signal.pause()"
    pause = number_of("x86_64", "pause")
    with (
        subprocess.Popen(["/usr/bin/python3", "-IS", "-c", waits], stdin=subprocess.PIPE) as process,
        EbpfWatcher() as watcher,
    ):
        assert process.stdin is not None
        watcher.start(Selection(pids=(process.pid,)), Options())
        (session,) = watcher.sessions()

        def paused() -> int:
            rows = watcher.snapshot(session).rows.items()
            return sum(row.calls for (_, _, number), row in rows if number == pause)

        until = time.monotonic() + TIMEOUT
        while watcher._programs.attached("on_sys_enter"):
            assert time.monotonic() < until
            watcher.wait(0.1)
        assert paused() == 0
        process.stdin.write(b"\n")
        process.stdin.flush()
        while paused() == 0:
            assert time.monotonic() < until
        process.send_signal(signal.SIGUSR1)
        process.wait(TIMEOUT)
        watcher.wait(0.1)
        assert paused() == 1
