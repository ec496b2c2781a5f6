"""Complete: each tracer's set of (ABI, syscall number) equals what strace -f saw, for every program of the torture
suite."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from executables import copy_program
from system import oracle
from system.harness import Observed, Profgen, environment, finish
from system.torture.build import NATIVE, PROGRAMS, X86, Program

EXECVE = {"x86_64": 59, "aarch64": 221}[NATIVE]


def same_sets(seen: frozenset[tuple[str, int]], expected: frozenset[tuple[str, int]], who: str) -> None:
    assert not expected - seen, f"{who} missed {sorted(expected - seen)}"
    assert not seen - expected, f"{who} saw what strace did not: {sorted(seen - expected)}"


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_set_equals_strace(program: Program, tracer: str, observed: Observed) -> None:
    if program.root and os.geteuid() != 0:
        pytest.skip("makes namespaces that need root")
    expected = observed.by_strace(program)
    assert expected.status == program.status, "the workload itself failed under strace"
    recording = observed.by_tracer(program, tracer)
    assert recording.status == program.status, recording.stderr
    same_sets(recording.syscalls, expected.syscalls - program.unseen, tracer)
    assert (NATIVE, EXECVE) in recording.syscalls
    assert recording.meta["exit_status"] == program.status
    assert recording.meta["complete"] is True
    assert recording.meta["losses"] == {}
    assert recording.meta["tracer"] == tracer


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_first_program_is_the_workload(program: Program, tracer: str, observed: Observed, torture: Path) -> None:
    """The recording starts with the workload's own execve, and knows nothing of the tool."""
    if program.root and os.geteuid() != 0:
        pytest.skip("makes namespaces that need root")
    recording = observed.by_tracer(program, tracer)
    starts = [row for row in recording.trace["execs"] if row["by"] is None]
    assert [row["count"] for row in starts] == [1]
    first = recording.trace["programs"][starts[0]["program"]]
    command = program.command(torture)[0]
    if "/" in command:
        assert first["path"] == os.path.realpath(command)
    if first["interpreter"] is None:  # a script's argv[0] is its interpreter's
        assert first["argv0"] == command
    others = [row["path"] for row in recording.trace["programs"] if "profiler" in row["path"]]
    assert not others, "the tool itself is in the trace"


@pytest.mark.parametrize(
    "program", [each for each in PROGRAMS if "forks" in each.name or "storm" in each.name], ids=lambda each: each.name
)
def test_counts_equal_strace(program: Program, tracer: str, observed: Observed) -> None:
    """Of thousands of processes not one is missed: calls that each makes a fixed number of times are counted in
    full."""
    expected = observed.by_strace(program).calls
    recording = observed.by_tracer(program, tracer)
    counts = {(row["abi"], row["number"]): (row["name"], row["calls"]) for row in recording.trace["syscalls"]}
    for key, seen in expected.items():
        if seen.name in (
            "clone",
            "clone3",
            "exit_group",
            "exit",
            "execve",
            "set_robust_list",
            "rseq",
            "openat",
            "getsid",
            "getpgid",
        ):
            assert counts[key] == (seen.name, seen.calls)


@pytest.mark.parametrize("abi", ["x86_64", "i386", "x32"])
@pytest.mark.skipif(not X86, reason="ABIs of x86 only")
def test_each_abi_has_its_own_names(abi: str, tracer: str, observed: Observed) -> None:
    program = next(
        each
        for each in PROGRAMS
        if each.name == {"x86_64": "abis32-gate64", "i386": "abis-int80", "x32": "abis-x32"}[abi]
    )
    rows = {(row["abi"], row["name"]) for row in observed.by_tracer(program, tracer).trace["syscalls"]}
    assert (abi, "getpgid") in rows


def test_unknown_number_is_kept(tracer: str, observed: Observed) -> None:
    recording = observed.by_tracer(next(each for each in PROGRAMS if each.name == "abis-unknown"), tracer)
    row = next(row for row in recording.trace["syscalls"] if row["number"] == 999)
    assert row["name"] is None
    assert row["results"] == {"ok": 0, "errors": {"ENOSYS": 1}}


def test_decoy_of_the_same_name_stays_out(tracer: str, profgen: Profgen, torture: Path, tmp_path: Path) -> None:
    """A process of the same command name, outside the workload, makes a marker call all the time."""
    decoy_dir = tmp_path / "decoy"
    decoy_dir.mkdir()
    source = tmp_path / "decoy.c"
    source.write_text(
        "#include <sys/syscall.h>\n#include <unistd.h>\n"
        "int main(void) { for (;;) { syscall(SYS_sched_get_priority_min, 1); usleep(100); } }\n"
    )
    subprocess.run(["gcc", "-o", decoy_dir / "processes", source], check=True, timeout=60)
    with subprocess.Popen([decoy_dir / "processes"], stdin=subprocess.DEVNULL) as decoy:
        try:
            recording = profgen.record(tracer, [str(torture / "processes"), "daemon"], cwd=tmp_path)
        finally:
            decoy.kill()
    assert recording.status == 7, recording.stderr
    assert "getpgid" in recording.names
    assert "sched_get_priority_min" not in recording.names


def test_each_program_has_its_own_calls(tracer: str, profgen: Profgen, torture: Path, tmp_path: Path) -> None:
    """Rows name the program that made the call: the leaf makes three calls, its maker the rest."""
    recording = profgen.record(tracer, [str(torture / "processes"), "vfork_exec"], cwd=tmp_path)
    paths = [row["path"] for row in recording.trace["programs"]]
    by_program = {
        row["name"]: {paths[int(index)]: calls for index, calls in row["programs"].items()}
        for row in recording.trace["syscalls"]
    }
    assert by_program["sched_get_priority_max"] == {str(torture / "leaf"): 1}
    assert by_program["getsid"] == {str(torture / "processes"): 1}
    assert by_program["getpgid"] == {str(torture / "processes"): 1}
    assert by_program["exit_group"] == {str(torture / "processes"): 1, str(torture / "leaf"): 1}


def test_results_are_the_kernels(tracer: str, observed: Observed) -> None:
    """A call that never succeeded has its errors, each counted; one that succeeded says so."""
    recording = observed.by_tracer(next(each for each in PROGRAMS if each.name == "execs-fails"), tracer)
    rows = {row["name"]: row for row in recording.trace["syscalls"]}
    assert rows["execve"]["results"]["ok"] >= 1
    recording = observed.by_tracer(next(each for each in PROGRAMS if each.name == "abis-x32"), tracer)
    x32 = next(row for row in recording.trace["syscalls"] if row["abi"] == "x32") if X86 else None
    assert x32 is None or sum(x32["results"]["errors"].values()) + x32["results"]["ok"] == 1


@pytest.mark.usefixtures("as_root")
def test_setuid_program(tracer: str, profgen: Profgen, torture: Path, public_dir: Path, nobodys_dir: Path) -> None:
    """An ordinary user's workload runs a setuid-root program: recorded by root, it becomes root as it would
    unwatched."""
    program = copy_program(torture / "execs", public_dir / f"setuid-{tracer}", 0o4755)
    # strace runs it by a shell: a tracer attached before an execve of its own -u keeps its rights, as profgen's does.
    command = ["sh", "-c", f"{program} setuid; exit $?"]
    expected = oracle.run(command, nobodys_dir / "log", cwd=nobodys_dir, env=environment(), user="nobody")
    recording = profgen.record(tracer, command, cwd=nobodys_dir, options=["--user", "nobody"])
    assert recording.status == 0, recording.stderr
    assert "sched_get_priority_min" in recording.names, "the program did not become root"
    same_sets(recording.syscalls, expected.syscalls, tracer)


def test_setuid_program_recorded_by_an_ordinary_user(
    ordinary: Profgen, torture: Path, public_dir: Path, nobodys_dir: Path
) -> None:
    """Without privileges the ptrace tracer needs no_new_privs, so the setuid bit does nothing; the trace says so."""
    program = copy_program(torture / "execs", public_dir / "setuid-ordinary", 0o4755)
    recording = ordinary.record("ptrace", [str(program), "setuid"], cwd=nobodys_dir)
    assert recording.status == 0, recording.stderr
    assert recording.meta["no_new_privs"] is True
    assert "sched_get_priority_min" not in recording.names
    assert "sched_getscheduler" in recording.names


def test_ordinary_user_sees_all(ordinary: Profgen, torture: Path, nobodys_dir: Path) -> None:
    """No privileges, same completeness: a daemon, threads, exec from a thread, a user namespace."""
    for test in ("processes daemon", "threads exec", "threads many", "namespaces user"):
        subject, name = test.split()
        command = [str(torture / subject), name]
        expected = oracle.run(
            command,
            nobodys_dir / "log",
            cwd=nobodys_dir,
            env=environment(),
            user="nobody" if os.geteuid() == 0 else None,
        )
        recording = ordinary.record("ptrace", command, cwd=nobodys_dir)
        assert recording.status == expected.status, recording.stderr
        same_sets(recording.syscalls, expected.syscalls, f"ptrace ({test})")
        assert recording.meta["complete"] is True


@pytest.mark.skipif(not X86, reason="the page is x86-64's")
def test_vsyscall_page(tracer: str, profgen: Profgen, tmp_path: Path) -> None:
    """A call through the legacy vsyscall page is emulated by the kernel, which asks filters about it: the workload gets
    its result, and the call is in the trace (docs/tracers.md)."""
    if not re.search(r"\[vsyscall\]", Path("/proc/self/maps").read_text()):
        pytest.skip("this kernel has no vsyscall page")
    source = tmp_path / "vsyscall.c"
    source.write_text(
        "int main(void) { long now[2]; unsigned cpu;\n"
        "int (*day)(long *, void *) = (void *)0xffffffffff600000; long (*get)(long *) = (void *)0xffffffffff600400;\n"
        "int (*cpu_of)(unsigned *, void *, void *) = (void *)0xffffffffff600800;\n"
        "if (day(now, 0) || cpu_of(&cpu, 0, 0)) return 2; return get(0) - now[0] < 5 ? 4 : 1; }\n"
    )
    subprocess.run(["gcc", "-static", "-o", tmp_path / "vsyscall", source], check=True, timeout=60)
    recording = profgen.record(tracer, [str(tmp_path / "vsyscall")], cwd=tmp_path)
    assert recording.status == 4, recording.stderr
    rows = {row["name"]: row for row in recording.trace["syscalls"]}
    for name in ("gettimeofday", "time", "getcpu"):
        # ptrace does not learn the result: nothing stops at the end of such a call.
        assert (rows[name]["calls"], rows[name]["results"]["errors"]) == (1, {}), name


def test_two_recordings_at_once(tracer: str, profgen: Profgen, torture: Path, tmp_path: Path) -> None:
    """Neither sees the other's workload."""
    runs = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        command = [str(torture / "processes"), "fork" if name == "a" else "chain"]
        runs.append(profgen.start("record", "--tracer", tracer, "-o", "out.json", "--", *command, cwd=tmp_path / name))
    errors = [finish(process)[1] for process in runs]
    assert [process.returncode for process in runs] == [0, 3], errors
    a, b = ((tmp_path / name / "out.json").read_text() for name in ("a", "b"))
    assert '"getpgid"' in a
    assert '"sched_get_priority_max"' not in a
    assert '"sched_get_priority_max"' in b
    assert '"getpgid"' not in b


def test_nothing_is_left_behind(tracer: str, profgen: Profgen, torture: Path, tmp_path: Path) -> None:
    """One file is written, in the end, and no other remains."""
    recording = profgen.record(tracer, [str(torture / "leaf")], cwd=tmp_path)
    assert recording.status == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


@pytest.mark.usefixtures("as_root")
def test_inside_a_pid_namespace(
    tracer: str, profgen: Profgen, torture: Path, tmp_path: Path, observed: Observed
) -> None:
    """profgen in a container of its own: process ids there are not the kernel's."""
    inside = Profgen(prefix=["unshare", "--pid", "--fork", "--mount-proc"])
    for name in ("processes-daemon", "threads-exec", "processes-forks_together"):
        program = next(each for each in PROGRAMS if each.name == name)
        recording = inside.record(tracer, program.command(torture), cwd=tmp_path)
        assert recording.status == program.status, recording.stderr
        same_sets(recording.syscalls, observed.by_strace(program).syscalls, tracer)
        assert recording.meta["complete"] is True


def test_workload_that_traces(ebpf: str, profgen: Profgen, torture: Path, tmp_path: Path) -> None:
    """A debugger as the workload: the eBPF tracer takes no ptrace away from it, and sees tracer and traced."""
    recording = profgen.record(
        ebpf, ["strace", "-f", "-o", "/dev/null", str(torture / "processes"), "daemon"], cwd=tmp_path
    )
    assert recording.status == 7, recording.stderr
    assert {"ptrace", "getpgid", "sched_get_priority_max", "sched_getscheduler"} <= recording.names
    assert recording.meta["complete"] is True
