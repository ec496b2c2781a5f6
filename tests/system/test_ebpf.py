"""What only the eBPF tracer does: seeing the kernel's capability checks, and leaving nothing behind in the kernel."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import secrets
import signal
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from executables import write_program
from system.harness import NOBODY, TIMEOUT, Profgen, Until, descendants, finish, with_argument

from profiler import kept
from profiler.tracers.ebpf import compiled, definitions
from profiler.tracers.ebpf.attaching import OPTIONAL_TRACEPOINTS, TRACEPOINTS
from profiler.tracers.ebpf.btf import KIND_FUNC, KernelTypes
from profiler.tracers.ebpf.limits import DEFAULT_LIMITS
from profiler.tracers.ebpf.loader import Programs
from profiler.tracers.ebpf.specs import TAILS

PYTHON = "/usr/bin/python3"

Row = dict[str, Any]


def rows(profgen: Profgen, ebpf: str, cwd: Path, code: str, *options: str) -> list[Row]:
    """The capability rows of a Python program."""
    recording = profgen.record(
        ebpf, [PYTHON, "-IS", "-c", f"import os, socket\n{code}"], cwd=cwd, options=["--quiet", *options]
    )
    assert recording.status == 0, recording.stderr
    found: list[Row] = recording.trace["capabilities"]
    assert all(row["inferred"] is False for row in found)
    return found


def only(found: list[Row], **wanted: Any) -> list[Row]:
    return [row for row in found if all(row[key] == value for key, value in wanted.items())]


def needed(found: list[Row]) -> set[str]:
    return {row["capability"] for row in only(found, verdict="granted", namespace="initial", decisive=True)}


# -- programs --------------------------------------------------------------------------------------------------------


def falls_into_loop(code: bytes) -> list[tuple[int, int]]:
    """Instructions that run on into the head of the loop that they end, without a jump.

    Linux before 6.4 refuses such programs (kernel/bpf/verifier.c visit_insn, "back-edge"): the order in which the
    compiler lays out a loop decides.
    """
    instructions = list(struct.iter_unpack("<BBhi", code))

    def next_of(at: int) -> list[tuple[int, bool]]:
        operation, _, offset, _ = instructions[at]
        if operation == 0x18:  # BPF_LD | BPF_IMM | BPF_DW: two instructions long
            return [(at + 2, False)]
        if operation & 7 not in (5, 6) or operation >> 4 == 8:  # no jump, or a call
            return [(at + 1, False)]
        return {9: [], 0: [(at + offset + 1, True)]}.get(operation >> 4, [(at + 1, True), (at + offset + 1, True)])

    found = []
    entered, left = {0}, set()
    path = [(0, iter(next_of(0)))]
    while path:
        at, following = path[-1]
        for place, jump in following:
            if place not in entered:
                entered.add(place)
                path.append((place, iter(next_of(place))))
                break
            if place not in left and not jump:
                found.append((at, place))
        else:
            left.add(at)
            path.pop()
    return found


def test_falls_into_loop() -> None:
    exit_ = struct.pack("<BBhi", 0x95, 0, 0, 0)
    add, back = struct.pack("<BBhi", 0x07, 0, 0, 1), struct.pack("<BBhi", 0x55, 0, -2, 9)
    assert falls_into_loop(add + back + exit_) == []
    # into the middle, round, and on without a jump
    assert falls_into_loop(
        struct.pack("<BBhi", 0x05, 0, 1, 0) + add + add + struct.pack("<BBhi", 0x55, 0, -3, 9) + exit_
    ) == [(1, 2)]


@pytest.mark.parametrize("cast", [True, False])
def test_programs_load_on_older_kernels(cast: bool, ebpf: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """``cast``: with bpf_rdonly_cast, which Linux before 6.2 has not."""
    full = definitions.definitions
    monkeypatch.setattr(
        definitions,
        "definitions",
        lambda *a, **b: {name: value for name, value in full(*a, **b).items() if cast or name != "CAST"},
    )
    programs = Programs(DEFAULT_LIMITS, uses=True)
    try:
        functions = [*TRACEPOINTS, *OPTIONAL_TRACEPOINTS, *dict(TAILS)]
        functions += ["on_cap_tracepoint", "on_cap_entry", "on_cap_return", "on_cap_lsm"]
        assert {name: edges for name in functions if (edges := falls_into_loop(programs.code(name)))} == {}
    finally:
        programs.close()


def test_cast_is_tried(ebpf: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel does not let programs call it, for whatever reason, the recorder does without."""
    types = KernelTypes()
    try:
        if types.find("bpf_rdonly_cast", KIND_FUNC) is not None:
            assert definitions.definitions(types, DEFAULT_LIMITS)["CAST"] == types.find("bpf_rdonly_cast", KIND_FUNC)
        find = types.find
        monkeypatch.setattr(
            types, "find", lambda name, kind: find("vfs_open" if name == "bpf_rdonly_cast" else name, kind)
        )
        assert types.find("bpf_rdonly_cast", KIND_FUNC) is not None
        assert "CAST" not in definitions.definitions(types, DEFAULT_LIMITS)
    finally:
        types.close()


def test_compiled_once(ebpf: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time it comes from what was kept, and is the same; with other sizes of stores it is compiled anew."""
    monkeypatch.setattr(kept, "folder", lambda: tmp_path / "kept")

    def compile_() -> compiled.Compiled:
        programs = Programs(DEFAULT_LIMITS, uses=True)
        programs.close()
        return programs.compiled

    first = compile_()
    assert {shape.name for shape in first.maps} >= {"tasks", "uses", "paths"}
    monkeypatch.setattr(compiled, "_compile", lambda *_: pytest.fail("compiled again"))
    assert compile_() == first
    with pytest.raises(pytest.fail.Exception):
        Programs({**DEFAULT_LIMITS, "tasks": 77})


def test_a_signal_while_a_program_is_loaded(ebpf: str) -> None:
    """The kernel's check of it is given up then, and begun again."""
    programs = Programs(DEFAULT_LIMITS, uses=True)
    came: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _frame: came.append(number))
    try:
        for seconds in (0.001, 0.004, 0.016):  # it takes some 50 ms
            signal.setitimer(signal.ITIMER_REAL, seconds)
            programs.attach_tracepoint("on_count", "sys_exit")
            programs.detach("on_count")
        assert len(came) == 3
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        programs.close()


# -- checks ----------------------------------------------------------------------------------------------------------


def test_advisory_checks_are_seen_and_settle_nothing(ebpf: str, profgen: Profgen, tmp_path: Path) -> None:
    found = rows(profgen, ebpf, tmp_path, "import mmap; mmap.mmap(-1, 1 << 24)")
    checks = only(found, capability="CAP_SYS_ADMIN")
    assert checks, "every writable private mapping asks (the overcommit check)"
    assert {row["decisive"] for row in checks} == {False}
    assert {row["audited"] for row in checks} == {False}
    assert {"mmap", "brk"} & {name for row in checks for name in row["syscalls"]}
    assert any(re.search("enough_memory", function) for row in checks for chain in row["chains"] for function in chain)
    assert needed(found) == set()


@pytest.mark.parametrize(
    ("call", "capability"),
    [
        ("os.setuid(0)", "CAP_SETUID"),
        ("os.setreuid(0, 0)", "CAP_SETUID"),
        ("os.setresuid(0, -1, 0)", "CAP_SETUID"),
        ("os.setgid(0)", "CAP_SETGID"),
        ("os.setregid(-1, 0)", "CAP_SETGID"),
        ("os.setresgid(0, 0, 0)", "CAP_SETGID"),
    ],
)
def test_ids_that_one_has_already(call: str, capability: str, ebpf: str, profgen: Profgen, tmp_path: Path) -> None:
    """The kernel asks for the capability before it looks at the ids; a call that changes nothing needs none."""
    found = rows(profgen, ebpf, tmp_path, call)
    for row in only(found, capability=capability):
        assert row["decisive"] is False
    assert needed(found) == set()


def test_the_same_call_needed_and_not(ebpf: str, profgen: Profgen, tmp_path: Path) -> None:
    """Counted apart: two idle calls, one that changes something."""
    found = rows(profgen, ebpf, tmp_path, f"os.setgid(0); os.setgid(0); os.setgid({NOBODY})")
    assert {row["decisive"]: row["count"] for row in only(found, capability="CAP_SETGID")} == {False: 2, True: 1}
    assert needed(found) == {"CAP_SETGID"}


def test_granted_check(ebpf: str, profgen: Profgen, tmp_path: Path) -> None:
    """Count, syscall in flight, program, times and the kernel's call chain."""
    recording = profgen.record(
        ebpf,
        [PYTHON, "-IS", "-c", "import socket\nfor port in (971, 972, 973): socket.socket().bind(('127.0.0.99', port))"],
        cwd=tmp_path,
        options=["--quiet"],
    )
    (row,) = only(recording.trace["capabilities"], capability="CAP_NET_BIND_SERVICE")
    assert (row["verdict"], row["namespace"], row["decisive"]) == ("granted", "initial", True)
    assert row["count"] == 3
    assert row["syscalls"] == {"bind": 3}
    assert [recording.trace["programs"][index]["path"] for index in row["programs"]] == [os.path.realpath(PYTHON)]
    assert 0 <= row["first"] <= row["last"] <= recording.meta["duration"]
    assert row["chains"]
    for chain in row["chains"]:
        assert chain[0].startswith("cap_capable")
        assert any("inet_bind" in function for function in chain)


def test_every_chain_begins_at_the_check(ebpf: str, profgen: Profgen, tmp_path: Path) -> None:
    code = (
        f"open('f', 'w').close(); os.chown('f', {NOBODY}, {NOBODY}); os.chmod('f', 0o640); os.setpriority(0, "
        "0, -1); os.setgroups([])"
    )
    found = rows(profgen, ebpf, tmp_path, code)
    assert needed(found) == {"CAP_CHOWN", "CAP_FOWNER", "CAP_SYS_NICE", "CAP_SETGID"}
    for row in found:
        assert row["chains"], row
        for chain in row["chains"]:
            assert chain[0].startswith("cap_capable"), chain
            assert len(chain) > 2, chain
            assert not any(re.match(r"bpf_|__bpf|\[unknown\]", function) for function in chain), chain


def test_refused(ebpf: str, profgen: Profgen, public_dir: Path) -> None:
    path = public_dir / secrets.token_hex(4)
    path.mkdir(mode=0o755)
    code = "try: socket.socket().bind(('127.0.0.99', 974))\nexcept PermissionError: pass\nelse: os._exit(1)"
    found = rows(profgen, ebpf, path, code, "--user", str(NOBODY))
    (row,) = only(found, capability="CAP_NET_BIND_SERVICE")
    assert (row["verdict"], row["namespace"], row["decisive"], row["count"]) == ("refused", "initial", True, 1)
    assert row["chains"][0][0].startswith("cap_capable")
    assert needed(found) == set()


def test_child_user_namespace(ebpf: str, profgen: Profgen, tmp_path: Path) -> None:
    """What is granted in a user namespace of the workload's own making needs nothing outside of it. Only who maps root
    into it needs CAP_SETFCAP (user_namespaces(7))."""
    recording = profgen.record(
        ebpf,
        ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"],
        cwd=tmp_path,
        options=["--quiet"],
    )
    assert recording.status == 0, recording.stderr
    found = recording.trace["capabilities"]
    mounts = [
        row
        for row in only(found, capability="CAP_SYS_ADMIN", namespace="child", verdict="granted")
        if "mount" in row["syscalls"]
    ]
    assert mounts
    assert not [row for row in only(found, namespace="initial", decisive=True) if "mount" in row["syscalls"]]
    assert needed(found) == {"CAP_SETFCAP"}


def test_namespace_of_the_start_counts(ebpf: str, profgen: Profgen, tmp_path: Path) -> None:
    found = rows(profgen, ebpf, tmp_path, "import ctypes\nassert ctypes.CDLL(None).unshare(0x20000) == 0")
    assert needed(found) == {"CAP_SYS_ADMIN"}
    assert only(found, namespace="child") == []


def test_decoy_of_the_same_name(ebpf: str, profgen: Profgen, tmp_path: Path) -> None:
    """The same file, run outside with the same arguments while the workload runs, is nobody's business."""
    program = write_program(
        tmp_path / "service",
        f"#!{PYTHON} -IS\nimport os, sys\nprint('ready', flush=True)\n"
        "if sys.stdin.readline() == 'decoy\\n':\n os.chroot('/'); os.setpriority(0, 0, -1)\n print('done', "
        "flush=True)\n",
    )
    process = profgen.start(
        "record", "--quiet", "--tracer", ebpf, "-o", "out.json", "--", str(program), cwd=tmp_path, stdin=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    decoy = subprocess.run([str(program)], input=b"decoy\n", capture_output=True, timeout=TIMEOUT)
    assert decoy.stdout == b"ready\ndone\n", decoy.stderr
    _, stderr = finish(process, stdin=b"go on\n")
    assert process.returncode == 0, stderr
    text = (tmp_path / "out.json").read_text()
    assert "CAP_SYS_CHROOT" not in text
    assert '"chroot"' not in text
    assert '"setpriority"' not in text


# -- nothing left behind ---------------------------------------------------------------------------------------------

_NEXT_ID = {"prog": 11, "map": 12, "link": 31}
"""bpf(2): BPF_PROG_GET_NEXT_ID, BPF_MAP_GET_NEXT_ID, BPF_LINK_GET_NEXT_ID."""


def exists(kind: str, number: int) -> bool:
    """Whether the kernel still has this object: the next id after the one before it is its own."""
    system_call = {"x86_64": 321, "aarch64": 280}[platform.machine()]
    attributes = (ctypes.c_uint32 * 32)(number - 1)
    done = ctypes.CDLL(None, use_errno=True).syscall(
        system_call, _NEXT_ID[kind], ctypes.byref(attributes), ctypes.sizeof(attributes)
    )
    return done == 0 and attributes[1] == number


def held(pid: int) -> Iterator[tuple[str, int]]:
    """BPF objects that a process has open, from proc_pid_fdinfo(5)."""
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            text = path.read_text()
        except OSError:
            continue
        # A link's file shows its program's id as well.
        yield from (
            (kind, int(number)) for kind, number in re.findall(r"^(prog|map|link)_id:\t(\d+)$", text, re.MULTILINE)
        )


class Running:
    """A recording of an endless workload of several processes, one of them in a pid namespace and one a daemon."""

    def __init__(self, profgen: Profgen, ebpf: str, cwd: Path) -> None:
        self.word = f"w{secrets.token_hex(8)}"
        # A trap, because the first process of a pid namespace gets no signal that it does not handle
        # (pid_namespaces(7)).
        closed = f"sh -c 'trap exit TERM; sleep 600 & wait' {self.word}"
        script = (
            f"trap 'exit 7' TERM; {closed} & (setsid {closed} &); unshare --pid --fork {closed} &"
            # ready when the last of them, the one in the namespace, has begun
            f' until [ "$(pgrep -c -f "^sh -c trap exit TERM; sleep 600 & wait {self.word}$")" -ge 3 ]; do '
            "sleep 0.05; done;"
            " echo ready; wait"
        )
        self.process = profgen.start(
            "record", "--quiet", "--tracer", ebpf, "-o", "out.json", "--", "bash", "-c", script, self.word, cwd=cwd
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"
        self.tree = descendants(self.process.pid)
        self.objects = set(held(self.process.pid))
        # Forked from profgen, so it has its command line; in a process group of its own.
        self.guardians = {
            pid
            for pid in self.tree
            if os.getpgid(pid) == pid
            and Path(f"/proc/{pid}/cmdline").read_bytes() == Path(f"/proc/{self.process.pid}/cmdline").read_bytes()
        }

    def workload(self) -> set[int]:
        """Its processes; profgen and its guardian have the same words in their command lines."""
        return with_argument(self.word).keys() - self.guardians - {self.process.pid}

    def end(self, until: Until) -> None:
        """SIGTERM goes to the main process, and after its end, another to what outlives it."""

        def ended() -> bool:
            if self.workload():
                self.process.send_signal(signal.SIGTERM)
            return self.process.poll() is not None

        until(ended, f"profgen ends; {self.left()}")

    def left(self) -> dict[str, Any]:
        """Processes and BPF objects of this recording that are still there."""
        return {
            "processes": with_argument(self.word),
            "guardians": {pid for pid in self.guardians if os.path.exists(f"/proc/{pid}")},
            "objects": {item for item in self.objects if exists(*item)},
        }

    def nothing_left(self) -> bool:
        return not any(self.left().values())


@pytest.fixture
def running(profgen: Profgen, ebpf: str, tmp_path: Path) -> Iterator[Running]:
    recording = Running(profgen, ebpf, tmp_path)
    yield recording
    recording.process.kill()
    finish(recording.process)
    for pid in {*with_argument(recording.word), *recording.guardians}:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def test_objects_are_there_while_it_runs(running: Running) -> None:
    """Else the tests below would see nothing when nothing is to be seen."""
    assert {kind for kind, _ in running.objects} == {"prog", "map", "link"}
    assert all(exists(*item) for item in running.objects)
    assert len(running.guardians) == 1
    assert len(running.workload()) >= 5
    assert not exists("prog", (1 << 31) - 1)


def test_nothing_left_after_a_signal(running: Running, until: Until, tmp_path: Path) -> None:
    running.end(until)
    assert running.process.returncode == 7
    until(running.nothing_left, f"everything is gone; {running.left()}")
    assert (tmp_path / "out.json").exists()


def test_nothing_left_after_sigkill(running: Running, until: Until) -> None:
    """No handler of profgen can run: the guardian ends the workload, and the kernel frees the BPF objects."""
    running.process.kill()
    finish(running.process)
    until(running.nothing_left, f"everything is gone; {running.left()}")


def test_guardian_killed(running: Running, until: Until, tmp_path: Path) -> None:
    """Losing it costs nothing but the protection that it was."""
    (guardian,) = running.guardians
    os.kill(guardian, signal.SIGKILL)
    running.end(until)
    assert running.process.returncode == 7
    assert (tmp_path / "out.json").stat().st_size > 0
    until(running.nothing_left, f"everything is gone; {running.left()}")


def test_guardian_keeps_no_program(running: Running) -> None:
    """It would keep attached what profgen detaches."""
    (guardian,) = running.guardians
    assert {kind for kind, _ in held(guardian)} <= {"map"}


def test_nothing_left_after_the_end(profgen: Profgen, ebpf: str, tmp_path: Path, until: Until) -> None:
    command = ["sh", "-c", "echo ready; read x; ls / | cat"]
    process = profgen.start(
        "record", "-q", "--tracer", ebpf, "-o", "out.json", "--", *command, cwd=tmp_path, stdin=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    objects, tree = set(held(process.pid)), descendants(process.pid)
    assert objects
    assert len(tree) >= 2
    _, stderr = finish(process, stdin=b"\n")
    assert process.returncode == 0, stderr
    # The kernel frees a program after a grace period (RCU), so not at once.
    until(lambda: not [item for item in objects if exists(*item)], "no BPF object is left")
    until(lambda: not [pid for pid in tree if os.path.exists(f"/proc/{pid}")], "no process is left")


def test_workload_has_no_descriptor_of_profgens(profgen: Profgen, ebpf: str, tmp_path: Path) -> None:
    recording = profgen.record(
        ebpf, ["sh", "-c", "readlink /proc/self/fd/*; grep -h _id /proc/self/fdinfo/*"], cwd=tmp_path, options=["-q"]
    )
    assert b"bpf" not in recording.stdout
    assert not re.search(rb"(prog|map|link)_id:", recording.stdout)
    assert b"mnt_id:" in recording.stdout, "it would have been seen"


def test_two_at_once(profgen: Profgen, ebpf: str, tmp_path: Path) -> None:
    """Two recordings of the machine at the same time do not see each other's workloads."""
    commands = {"one": "os.chroot('/')", "two": "os.setpriority(0, 0, -1)"}
    processes = {}
    for name, call in commands.items():
        (tmp_path / name).mkdir()
        code = f"import os, sys\nprint('ready', flush=True)\nsys.stdin.readline()\n{call}"
        processes[name] = profgen.start(
            "record",
            "--quiet",
            "--tracer",
            ebpf,
            "-o",
            "out.json",
            "--",
            PYTHON,
            "-IS",
            "-c",
            code,
            cwd=tmp_path / name,
            stdin=subprocess.PIPE,
        )
    for process in processes.values():
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in processes.values():
        _, stderr = finish(process, stdin=b"\n")
        assert process.returncode == 0, stderr
    texts = {name: (tmp_path / name / "out.json").read_text() for name in commands}
    assert "CAP_SYS_CHROOT" in texts["one"]
    assert "CAP_SYS_NICE" in texts["two"]
    assert "CAP_SYS_NICE" not in texts["one"]
    assert "CAP_SYS_CHROOT" not in texts["two"]
