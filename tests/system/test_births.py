"""Births that race with ends: every process is known, none stays stopped, and none starves."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from system.harness import Profgen, finish, recording, with_argument
from waiting import until

RACES = ("exec_fork", "exec_fork_leader", "exec_vfork", "exec_threads", "exit_fork", "siblings", "pid_namespace")


@pytest.mark.parametrize("race", RACES)
def test_race_ends(race: str, tracer: str, profgen: Profgen, torture: Path, tmp_path: Path) -> None:
    """A maker that is killed in the call announces nothing: its child goes on all the same."""
    if race == "pid_namespace" and os.geteuid() != 0:
        pytest.skip("makes namespaces that need root")
    recording = profgen.record(tracer, [str(torture / "races"), race, "3", "12"], cwd=tmp_path)
    assert recording.meta["exit_status"] == 0, recording.stderr
    assert not recording.meta["losses"].keys() - {"results", "programs"}, "only what the killed did last may be lost"


def test_untraced_flag_comes_back(profgen: Profgen, torture: Path, tmp_path: Path) -> None:
    """Another thread writes CLONE_UNTRACED into the memory of clone3 after profgen has removed it: such children are
    counted, and profgen attaches to them."""
    recording = profgen.record("ptrace", [str(torture / "races"), "untraced", "1", "200"], cwd=tmp_path)
    assert recording.meta["exit_status"] == 0, recording.stderr
    lost = recording.meta["losses"].get("tasks", 0)
    assert lost >= int(recording.stdout), "children had no tracer, and the trace does not say so"
    assert recording.meta["complete"] is (lost == 0)
    assert ("CLONE_UNTRACED" in recording.stderr) is (lost > 0)
    assert "sched_get_priority_max" in recording.names


def test_oldest_process_is_served(profgen: Profgen, torture: Path, tmp_path: Path) -> None:
    """waitpid(2) tells of the newest tracee first: an old one among twenty busy ones must have its turn."""
    recording = profgen.record("ptrace", [str(torture / "races"), "busy", "1", "20"], cwd=tmp_path)
    assert recording.status == 0, recording.stderr
    calls = {row["name"]: row["calls"] for row in recording.trace["syscalls"]}
    assert calls["clock_nanosleep"] >= 200
    assert calls["getppid"] < 200 * 20 * 25, "the busy ones had many more turns each"


@pytest.mark.parametrize("options", [[], ["--snapshot", "60"]])
def test_pid_of_a_zombie(options: list[str], ebpf: str, profgen: Profgen, tmp_path: Path) -> None:
    """A process that has ended sends no further event: the recording does not begin."""
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    words = ["record", "--tracer", ebpf, "--pid", str(process.pid), *options, "-o", "out.json"]
    result = profgen(*words, cwd=tmp_path)
    assert result.returncode == 2
    assert "has ended already" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out.json").exists()
    process.wait()


def test_pid_of_a_process_without_its_first_thread(ebpf: str, profgen: Profgen, tmp_path: Path) -> None:
    """A process whose first thread has ended lives, and is recorded to its end."""
    code = (
        "import ctypes, os, threading, time\n"
        "def work():\n"
        "    while not os.path.exists('stop'): time.sleep(0.01)\n"
        "    os.getppid()\n"
        "threading.Thread(target=work).start()\n"
        "ctypes.CDLL(None).syscall({'x86_64': 60, 'aarch64': 93}[os.uname().machine], 0)"
    )
    process = subprocess.Popen([sys.executable, "-ISc", code], cwd=tmp_path)
    try:
        until(lambda: "State:\tZ" in Path(f"/proc/{process.pid}/status").read_text(), "the first thread ends")
        words = ["--tracer", ebpf, "--pid", str(process.pid), "-o", "out.json"]
        with recording(profgen, tmp_path, *words) as recorder:
            recorder.began()
            (tmp_path / "stop").touch()
            status, stderr = recorder.end(None)
        assert status == 0, stderr
        assert '"getppid"' in (tmp_path / "out.json").read_text()
    finally:
        process.kill()
        process.wait()


def test_pid_that_ends_while_it_is_joined(ebpf: str, profgen: Profgen, tmp_path: Path) -> None:
    """Whenever the process ends, the recording ends too: with a trace, or with one line."""
    for step in range(8):
        process = subprocess.Popen(["sleep", str(0.3 + step * 0.15)])
        result = profgen("record", "--tracer", ebpf, "--pid", str(process.pid), "-o", f"{step}.json", cwd=tmp_path)
        assert result.returncode in (0, 2), result.stderr
        assert (result.returncode == 0) is (tmp_path / f"{step}.json").exists()
        process.wait()


def test_container_that_ends_while_it_is_joined(ebpf: str, profgen: Profgen, tmp_path: Path) -> None:
    """The same for a container, which its cgroup tells."""
    for step in range(6):
        name = secrets.token_hex(32)
        group = cgroup_mount() / name
        group.mkdir()
        try:
            wait = 0.6 + step * 0.15
            process = subprocess.Popen(["sh", "-c", f"echo $$ >{group}/cgroup.procs; exec sleep {wait}"])
            until(lambda group=group: (group / "cgroup.procs").read_text(), "the process is in its cgroup")
            words = ["record", "--tracer", ebpf, "--container", name, "-o", f"{step}.json"]
            result = profgen(*words, cwd=tmp_path)
            assert result.returncode in (0, 2), result.stderr
            assert (result.returncode == 0) is (tmp_path / f"{step}.json").exists()
            process.wait()
        finally:
            group.rmdir()


def cgroup_mount() -> Path:
    """Return where a hierarchy of control groups is mounted."""
    rows = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return next(Path(row[1]) for row in rows if row[2] in ("cgroup2", "cgroup") and "cpuset" not in row[3])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_races(number: int, tracer: str, profgen: Profgen, torture: Path, tmp_path: Path) -> None:
    """The workload forks and executes at the moment of the signal: all of it ends, and profgen writes the trace."""
    command = [str(torture / "races"), "exec_fork", "5", "100000"]
    process = profgen.start(
        "record", "--tracer", tracer, "--allow-loss", "-o", "out.json", "--", *command, cwd=tmp_path
    )
    # The command line is in profgen's as well.
    until(lambda: len(with_argument(command[0]).keys() - {process.pid}) > 2, "the workload forks")
    for _ in range(2):  # the second one ends what the workload had stopped and left behind
        process.send_signal(number)
        time.sleep(2)
    _, stderr = finish(process)
    assert process.returncode == 128 + number, stderr
    assert (tmp_path / "out.json").exists()
    assert not with_argument(str(torture / "races"))


def test_duration_ends_races(tracer: str, profgen: Profgen, torture: Path, tmp_path: Path) -> None:
    """What is born while the time is up ends too."""
    command = [str(torture / "races"), "exit_fork", "6", "100000"]
    recording = profgen.record(tracer, command, cwd=tmp_path, options=["--duration", "4", "--allow-loss"])
    assert recording.status == 143, recording.stderr
    assert not with_argument(command[0])


def test_verify_ends(profgen: Profgen, torture: Path, tmp_path: Path) -> None:
    """An enforced run has the same loop."""
    command = [str(torture / "races"), "exec_fork", "7", "8"]
    assert profgen.record("ptrace", command, cwd=tmp_path, options=["--allow-loss"]).status == 0
    assert profgen("generate", "--allow-loss", "out.json", "-o", "made", cwd=tmp_path).returncode == 0
    result = profgen("verify", "--under", "direct", "made/policy.yaml", "--", *command, cwd=tmp_path)
    assert "internal error" not in result.stderr
    assert result.returncode in (0, 1, 125), result.stderr


CROWD = """
import os, threading, time
for _ in range(20):
    if not os.fork(): os._exit(0)
    os.wait()
read, write = os.pipe()
stop = threading.Event()
threads = [threading.Thread(target=stop.wait) for _ in range(5)]
for thread in threads: thread.start()
for _ in range(3):
    if not os.fork():
        os.close(write)
        os.read(read, 1)
        os._exit(0)
open('there', 'w').close()
while not os.path.exists('go'): time.sleep(0.01)
os.close(write)
for _ in range(3): os.wait()
stop.set()
for thread in threads: thread.join()
"""
"""One process after another; then a process of six threads with three children."""


def test_tasks_at_once(tracer: str, profgen: Profgen, tmp_path: Path) -> None:
    """The peak is that of threads that are alive together; the tracer's own are not among them."""
    (tmp_path / "go").touch()
    assert profgen.record(tracer, [sys.executable, "-ISc", CROWD], cwd=tmp_path).meta["tasks"] == 9


def test_tasks_that_are_joined(ebpf: str, profgen: Profgen, tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-ISc", CROWD], cwd=tmp_path)
    try:
        until((tmp_path / "there").exists, "all threads are there")
        words = ["--tracer", ebpf, "--pid", str(process.pid), "-o", "out.json"]
        with recording(profgen, tmp_path, *words) as recorder:
            recorder.began()
            (tmp_path / "go").touch()
            assert recorder.end(None)[0] == 0
        assert json.loads((tmp_path / "out.json").read_bytes())["meta"]["tasks"] == 9
    finally:
        process.kill()
        process.wait()
