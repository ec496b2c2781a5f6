"""Watching what profgen does not start: the core under ``record --container`` and its like, against real runtimes and
cgroups."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from executables import copy_program
from system import oracle
from system.harness import TIMEOUT, Profgen, Until, environment, finish
from system.lab.fixtures import Runtimes
from system.lab.fixtures import lab as lab
from system.lab.runtimes import Confinement, Container, Job, bundle, container, next_identity
from system.test_ebpf import exists, held

from profiler.errors import InputError
from profiler.kernel.syscalls import name_of
from profiler.trace.model import Meta
from profiler.tracers.base import Options
from profiler.tracers.ebpf.watcher import EbpfWatcher
from profiler.tracers.recording import Recording
from profiler.tracers.watcher import Selection, Session

SOURCES = Path(__file__).parent / "watching"
ALL = ("runc", "crun", "docker")


@pytest.fixture(scope="module")
def programs(public_dir: Path) -> Path:
    directory = public_dir / "watching"
    directory.mkdir()
    for name, flags in {"plain": ("-nostdlib", "-static", "-fno-stack-protector"), "storm": ("-pthread",)}.items():
        subprocess.run(
            ["gcc", "-O1", "-Wall", *flags, "-o", str(directory / name), str(SOURCES / f"{name}.c")],
            check=True,
            timeout=TIMEOUT,
        )
    return directory


@contextmanager
def watching(selection: Selection, options: Options | None = None) -> Iterator[EbpfWatcher]:
    with EbpfWatcher() as watcher:
        watcher.start(selection, options or Options())
        yield watcher


def wait_for(watcher: EbpfWatcher, holds: Callable[[], Any], what: str, seconds: float = TIMEOUT) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, what
        watcher.wait(0.05)


def calls(recording: Recording) -> Counter[str]:
    found: Counter[str] = Counter()
    for (_, abi, number), row in recording.rows.items():
        found[name_of(abi, number) or str(number)] += row.calls
    return found


def executions(recording: Recording) -> list[tuple[str, str | None, int, int]]:
    """(program, by, count, entered)."""
    trace = recording.trace(META)
    return [
        (
            trace.programs[row.program].name,
            None if row.by is None else trace.programs[row.by].name,
            row.count,
            row.entered,
        )
        for row in trace.execs
    ]


META = Meta("", "ebpf", (), "", "x86_64", None, None, (), "/", 0, 0, (), False, "", 0.0, None, True, {}, 0.0)
PLAIN = {"execve": 1, "exit_group": 1}


def command(runtime: Any, *words: str) -> None:
    """A runtime's command that ends soon."""
    subprocess.run(
        runtime._tool(*words), check=True, timeout=TIMEOUT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )


@contextmanager
def started(
    lab: Runtimes, name: str, job: Job, confinement: Confinement | None = None
) -> Iterator[tuple[EbpfWatcher, Container]]:
    """A container under a watcher that was told of it before it was made."""
    runtime = lab[name]
    selection = Selection(containers=(next_identity(),), all_containers=True)
    with (
        watching(selection, Options(denials=confinement is not None)) as watcher,
        container(runtime, job, confinement or Confinement.with_capabilities(None, [])) as running,
    ):
        yield watcher, running


def ours(watcher: EbpfWatcher, running: Container) -> list[Session]:
    """The machine may have others' containers; the id of ours is in its name, or with docker in the file that it
    writes."""
    cid = running.directory / "cid"
    names = {running.identity, cid.read_text() if cid.exists() else ""}
    return [session for session in watcher.sessions() if session.subject in names]


def ended(watcher: EbpfWatcher, running: Container) -> bool:
    found = ours(watcher, running)
    return bool(found) and found[-1].ended


# -- containers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_container_from_its_entry_point(name: str, ebpf: str, lab: Runtimes, programs: Path) -> None:
    """A program that lives for a moment and makes two calls: those, and not one of the runtime's."""
    job = Job((str(programs / "plain"),), readable=(programs,))
    with started(lab, name, job) as (watcher, running):
        assert running.wait(TIMEOUT) == 0, running.report()
        wait_for(watcher, lambda: ended(watcher, running), "the session ends")
        (session,) = ours(watcher, running)
        recording = watcher.snapshot(session)
    assert calls(recording) == PLAIN
    assert executions(recording) == [("plain", None, 1, 0)]
    assert not recording.losses
    assert "joined" not in recording.features
    assert {path for path, *_ in recording._files} == {str(programs / "plain")}


@pytest.mark.parametrize("name", ["runc", "crun"])
def test_created_first_and_started_later(name: str, ebpf: str, lab: Runtimes, programs: Path, tmp_path: Path) -> None:
    """As engines do it; the runtime that makes the container is gone when it starts."""
    runtime = lab[name]
    identity = f"profgen-watch-{os.getpid()}-{name}"
    bundle(
        tmp_path,
        identity,
        Job((str(programs / "plain"), "3"), readable=(programs,)),
        Confinement.with_capabilities(None, []),
    )
    with watching(Selection(containers=(identity,))) as watcher:
        try:
            command(runtime, "create", "--bundle", str(tmp_path), identity)
            wait_for(watcher, lambda: [name for name, pid in watcher.made() if pid] == [identity], "it is made")
            assert not watcher.wait(0.3)
            assert watcher.sessions() == ()
            command(runtime, "start", identity)
            wait_for(watcher, lambda: [session for session in watcher.sessions() if session.ended], "it ends")
        finally:
            runtime.remove(identity, tmp_path)
        assert calls(watcher.snapshot(watcher.sessions()[0])) == {**PLAIN, "getppid": 3}


def test_same_as_strace(ebpf: str, lab: Runtimes, programs: Path, tmp_path: Path) -> None:
    """One run, seen by both: strace within the container, its children from their execve on."""
    script = (
        "id; ls -lR /etc/default > /tmp/list; (cat /tmp/list | sort) | wc -l; mkdir /tmp/d; chown 1:1 "
        "/tmp/d; ln -s d /tmp/e; ls /tmp/e/"
    )
    tmp_path.chmod(0o777)
    strace = [
        "/usr/bin/strace",
        "-f",
        "-n",
        "--quiet=attach,exit,path-resolution,thread-execve",
        "-e",
        "raw=all",
        "-e",
        "signal=none",
    ]
    job = Job((*strace, "-s", "0", "-o", str(tmp_path / "log"), "/usr/bin/dash", "-c", script), writable=(tmp_path,))
    confinement = Confinement.with_capabilities(None, ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_SYS_PTRACE"])
    with started(lab, "runc", job, confinement) as (watcher, running):
        wait_for(watcher, lambda: ended(watcher, running), "the session ends")
        assert running.wait(TIMEOUT) == 0, running.report()
        (session,) = ours(watcher, running)
        recording = watcher.snapshot(session)
    seen = oracle.parse((tmp_path / "log").read_text(errors="surrogateescape").splitlines())
    own = {index for index, program in enumerate(recording.programs) if program.path == "/usr/bin/strace"}
    counted: Counter[tuple[str, int]] = Counter()
    for (program, abi, number), row in recording.rows.items():
        if program not in own:
            counted[abi, number] += row.calls
    counted[
        "x86_64" if os.uname().machine == "x86_64" else "aarch64", 59 if os.uname().machine == "x86_64" else 221
    ] += 1  # strace's child
    assert counted.keys() <= seen.keys()
    assert [name_of(*key) for key, value in seen.items() if not value.agrees(counted[key])] == []
    assert not recording.losses


def test_commands_that_are_executed_inside(ebpf: str, lab: Runtimes, programs: Path) -> None:
    """They belong to the container, and are marked."""
    runtime = lab["docker"]
    job = Job(("/usr/bin/sleep", "600"), readable=(programs,))
    with started(lab, "docker", job) as (watcher, running):
        wait_for(watcher, lambda: ours(watcher, running), "it starts")
        (session,) = ours(watcher, running)
        wait_for(watcher, lambda: calls(watcher.snapshot(session))["clock_nanosleep"], "it sleeps")
        before = calls(watcher.snapshot(session))
        for _ in range(2):
            command(runtime, "exec", running.identity, str(programs / "plain"), "5", "2")
        recording = watcher.snapshot(session)
        running.signal("KILL")
        wait_for(watcher, lambda: ended(watcher, running), "the session ends")
    assert ("plain", None, 2, 2) in executions(recording)
    assert ("sleep", None, 1, 0) in executions(recording)
    assert calls(recording) - before == {
        "execve": 2,
        "getppid": 10,
        "clone": 4,
        "getuid": 4,
        "wait4": 4,
        "exit_group": 6,
    }


def test_many_at_once(ebpf: str, lab: Runtimes, programs: Path) -> None:
    """Each has its own trace, with exactly its own calls; none is lost."""
    count = 24
    with ExitStack() as stack:
        names = [f"{os.getpid():08x}{index:056x}" for index in range(1, count + 1)]
        watcher = stack.enter_context(watching(Selection(all_containers=True)))
        processes = []
        for index, name in enumerate(names, 1):
            directory = programs.parent / f"many{index}"
            directory.mkdir()
            stack.callback(shutil.rmtree, directory, True)
            bundle(
                directory,
                name,
                Job((str(programs / "plain"), str(index), str(index % 5)), readable=(programs,)),
                Confinement.with_capabilities(None, []),
            )
            words = lab["runc"]._tool("run", "--bundle", str(directory), name)  # type: ignore[union-attr]
            processes.append(
                subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )
        for process in processes:
            wait_for(watcher, lambda process=process: process.poll() is not None, "it runs")
            assert process.returncode == 0
        wait_for(
            watcher,
            lambda: sum(session.ended for session in watcher.sessions() if session.subject in names) == count,
            "all end",
        )
        sessions = [session for session in watcher.sessions() if session.subject in names]
        recordings = dict(zip([session.subject for session in sessions], watcher.snapshots(sessions), strict=True))
        assert watcher.lost() == 0
        for session in sessions:
            watcher.forget(session)
        assert not [session for session in watcher.sessions() if session.subject in names]
        with pytest.raises(InputError):
            watcher.snapshot(sessions[0])
    assert set(recordings) == set(names)
    for index, name in enumerate(names, 1):
        children = index % 5
        expected = Counter({**PLAIN, "getppid": index, "clone": children, "getuid": children, "wait4": children})
        expected["exit_group"] += children
        assert calls(recordings[name]) == +expected, index
        assert not recordings[name].losses


def test_room_is_used_again(ebpf: str, lab: Runtimes, programs: Path, tmp_path: Path) -> None:
    """More containers, one after the other, than there is room for at a time; and one too many at a time is counted."""
    identity = f"profgen-watch-{os.getpid()}-again"
    with watching(Selection(containers=(identity,)), Options(limits={"sessions": 2, "programs": 6})) as watcher:
        for turn in range(1, 5):
            bundle(
                tmp_path,
                identity,
                Job((str(programs / "plain"), str(turn)), readable=(programs,)),
                Confinement.with_capabilities(None, []),
            )
            command(lab["runc"], "run", "--bundle", str(tmp_path), identity)
            shutil.rmtree(tmp_path / "rootfs")
            wait_for(
                watcher,
                lambda turn=turn: any(each.ended and each.number == turn for each in watcher.sessions()),
                "it ends",
            )
            session = watcher.sessions()[-1]
            assert calls(watcher.snapshot(session)) == {**PLAIN, "getppid": turn}
            used, room = watcher.fill()["programs"]
            assert used <= room
            if turn > 1:
                watcher.forget(session)
        assert watcher.lost() == 0
        assert watcher.kernel_bytes() > 1 << 20


def test_refused_calls(ebpf: str, lab: Runtimes, programs: Path, tmp_path: Path) -> None:
    """What a filter refuses is named with its arguments, by whom and how often."""
    profile = tmp_path / "seccomp.json"
    rule = {"names": ["getppid", "kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}
    profile.write_text(
        json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [rule]})
    )
    script = f"{programs}/plain 7; for i in 1 2 3; do kill -0 1; done"
    job = Job(("/usr/bin/dash", "-c", script), readable=(programs,))
    with started(lab, "runc", job, Confinement.with_capabilities(profile, [])) as (watcher, running):
        running.wait(TIMEOUT)
        wait_for(watcher, lambda: ended(watcher, running), "the session ends")
        (session,) = ours(watcher, running)
        rows = watcher.refused(session)
        recording = watcher.snapshot(session)
    plain = [row for row in rows if row.path == str(programs / "plain")]
    assert sum(row.count for row in plain) == 7
    assert {(row.abi, name_of(row.abi, row.number), row.error, row.comm) for row in plain} == {
        ("x86_64", "getppid", "EACCES", "plain")
    }
    (killed,) = [row for row in rows if name_of(row.abi, row.number) == "kill"]
    assert (killed.path, killed.count, killed.pid, killed.error) == ("/usr/bin/dash", 3, session.pid, "EACCES")
    assert killed.arguments is not None
    assert killed.arguments[:2] == (1, 0)
    assert not {"getppid", "kill"} & calls(recording).keys(), "a call that is refused is not made"


def test_entry_point_refused(ebpf: str, lab: Runtimes, programs: Path, tmp_path: Path) -> None:
    """A filter that does not let the runtime execute the entry point: there is no program, and it is the runtime that
    was refused."""
    profile = tmp_path / "seccomp.json"
    rule = {"names": ["execve", "execveat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
    profile.write_text(
        json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [rule]})
    )
    job = Job((str(programs / "plain"),), readable=(programs,))
    with started(lab, "runc", job, Confinement.with_capabilities(profile, [])) as (watcher, running):
        assert running.wait(TIMEOUT) != 0
        wait_for(watcher, lambda: ended(watcher, running), "the session ends")
        (session,) = ours(watcher, running)
        rows = watcher.refused(session)
    assert session.pid == 0
    assert [(row.path, name_of(row.abi, row.number), row.error) for row in rows] == [(None, "execve", "EPERM")]


# -- joining ---------------------------------------------------------------------------------------------------------


def test_joining_what_forks_all_the_time(ebpf: str, programs: Path) -> None:
    """No thread is missed: every child that is made after the watcher says so is recorded."""
    process = subprocess.Popen([str(programs / "storm")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        with watching(Selection(pids=(process.pid,))) as watcher:
            process.send_signal(signal.SIGUSR1)
            assert process.stdout.readline() == "counted\n"
            (session,) = watcher.sessions()
            assert session.joined
            early = calls(watcher.snapshot(session))["getpgid"]
            process.send_signal(signal.SIGUSR2)
            children = int(process.stdout.readline())
            wait_for(watcher, lambda: watcher.sessions()[0].ended, "it ends")
            recording = watcher.snapshot(session)
    finally:
        process.kill()
        process.wait()
    assert 0 < early <= children
    assert calls(recording)["getpgid"] == children
    assert "execve" not in calls(recording)
    assert "joined" in recording.features
    assert {program.path for program in recording.programs} == {str(programs / "storm")}
    assert not recording.losses


def test_joining_what_is_in_a_chroot(ebpf: str, tmp_path: Path) -> None:
    """Paths are those of the mount namespace, as for a workload that was watched from its start. A socket among its
    streams is noted."""
    ours, theirs = socket.socketpair()
    busybox = tmp_path / "busybox"
    copy_program("/usr/bin/busybox", busybox)
    for name in ("dev", "etc"):
        (tmp_path / name).mkdir()
    (tmp_path / "etc" / "here").touch()
    process = subprocess.Popen(
        ["chroot", str(tmp_path), "/busybox", "sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=theirs
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(b"echo ready\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"ready\n"
        with watching(Selection(pids=(process.pid,))) as watcher:
            process.stdin.write(b": < /etc/here\n: > /etc/made\n: < /etc/missing\nexit\n")
            process.stdin.flush()
            process.wait(TIMEOUT)
            wait_for(watcher, lambda: watcher.sessions()[0].ended, "it ends")
            recording = watcher.snapshot(watcher.sessions()[0])
    finally:
        process.kill()
        process.wait()
        ours.close()
        theirs.close()
    assert recording.inherited == {("unix", "stream", 0)}
    found = {(path, access) for path, access, *_ in recording._files if "etc" in path}
    assert {
        (f"{tmp_path}/etc/here", "read"),
        (f"{tmp_path}/etc/made", "create"),
        (f"{tmp_path}/etc/missing", "read"),
    } <= found
    assert not recording.losses


def clone_into(directory: str, argv: list[str]) -> int:
    """A child that begins in a cgroup of version 2 (clone3(2), CLONE_INTO_CGROUP)."""
    descriptor = os.open(directory, os.O_PATH)
    arguments = (ctypes.c_uint64 * 11)()
    arguments[0], arguments[4], arguments[10] = 0x200000000, signal.SIGCHLD, descriptor
    pid = ctypes.CDLL(None, use_errno=True).syscall(435, arguments, ctypes.sizeof(arguments))
    if pid == 0:
        os.execv(argv[0], argv)
    assert pid > 0, os.strerror(ctypes.get_errno())
    os.close(descriptor)
    return int(pid)


@pytest.mark.parametrize("version", [1, 2])
def test_cgroup(version: int, ebpf: str, programs: Path) -> None:
    """What is in it and below it, what moves there, and nothing else; until it is removed."""
    kind = "cgroup2" if version == 2 else "cgroup"
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    places = [words[1] for words in mounts if words[2] == kind and not {"cpuset", "memory"} & set(words[3].split(","))]
    if not places:
        pytest.skip(f"no cgroup hierarchy of version {version} is mounted here")
    directory = Path(places[-1], f"profgen-watch-{os.getpid()}")
    (directory / "below").mkdir(parents=True)

    def into(place: Path, pid: int) -> None:
        (place / "cgroup.procs").write_text(f"{pid}\n")

    def shell() -> subprocess.Popen[bytes]:
        return subprocess.Popen(["/usr/bin/dash"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)

    def tell(process: subprocess.Popen[bytes], line: str) -> None:
        assert process.stdin is not None
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()

    within, moved, outside, itself = (shell() for _ in range(4))
    try:
        into(directory / "below", within.pid)
        with watching(Selection(cgroups=(("mine", (str(directory),)),))) as watcher:
            into(directory, moved.pid)
            tell(itself, f"echo $$ > {directory}/cgroup.procs; exec {programs}/plain 1000")
            for index, process in enumerate((within, moved, outside)):
                tell(process, f"{programs}/plain {10**index}; exit")
                assert process.wait(TIMEOUT) == 0
            itself.wait(TIMEOUT)
            if version == 2:
                os.waitpid(clone_into(str(directory), [str(programs / "plain"), "10000"]), 0)
            (session,) = watcher.sessions()
            assert (session.kind, session.subject, session.joined) == ("cgroup", "mine", True)
            recording = watcher.snapshot(session)
            assert not watcher.sessions()[0].ended
            (directory / "below").rmdir()
            directory.rmdir()
            wait_for(watcher, lambda: watcher.sessions()[0].ended, "it ends")
    finally:
        for process in (within, moved, outside, itself):
            process.kill()
            process.wait()
        for place in (directory / "below", directory):
            if place.exists():
                place.rmdir()
    plain = {index for index, program in enumerate(recording.programs) if program.path.endswith("plain")}
    getppid = {number for _, abi, number in recording.rows if name_of(abi, number) == "getppid"}
    of_plain = sum(
        row.calls for (program, _, number), row in recording.rows.items() if program in plain and number in getppid
    )
    assert of_plain == 1 + 10 + 1000 + (10000 if version == 2 else 0)
    assert {program.name for program in recording.programs} == {"dash", "plain"}
    assert not recording.losses


MOVES = """
import os, sys, threading
procs, cat, who, how = sys.argv[1:]
moved, go = threading.Event(), threading.Event()
def move():
    with open(procs, "w") as file:
        file.write("0")
    moved.set()
def work():
    if who == "second":
        move()
    moved.wait()
    if how == "fork" and os.fork():
        os.wait()
        os._exit(0)
    os.execv(cat, ["cat", f"/nothing-{who}-{how}"])
second = threading.Thread(target=work)
second.start()
if who == "first":
    move()
second.join()
"""


@contextmanager
def cgroup(name: str, *below: str) -> Iterator[Path]:
    """A cgroup of version 2, with one below another in it."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    top = Path(next(words[1] for words in mounts if words[2] == "cgroup2"), name)
    places = [top.joinpath(*below[:depth]) for depth in range(len(below) + 1)]
    places[-1].mkdir(parents=True)
    try:
        yield top
    finally:
        for place in reversed(places):
            end = time.monotonic() + TIMEOUT
            while place.exists():
                try:
                    place.rmdir()
                except OSError:
                    assert time.monotonic() < end, "its processes do not end"
                    time.sleep(0.01)


def test_whoever_moves_into_a_cgroup(ebpf: str) -> None:
    """With several threads, whichever moves them all and whichever goes on; and far below."""
    levels = [f"level{number}" for number in range(20)]
    ways = [("first", "fork"), ("second", "fork")]
    with (
        cgroup(f"profgen-watch-{os.getpid()}", *levels) as top,
        watching(Selection(cgroups=(("mine", (str(top),)),))) as watcher,
    ):
        for who, how in ways:
            words = [sys.executable, "-ISc", MOVES, str(top / "cgroup.procs"), "/usr/bin/cat", who, how]
            subprocess.run(words, check=True, timeout=TIMEOUT, stderr=subprocess.DEVNULL)
        line = f"echo 0 >{top.joinpath(*levels)}/cgroup.procs; exec cat /nothing-below"
        subprocess.run(["sh", "-c", line], timeout=TIMEOUT, stderr=subprocess.DEVNULL)
        recording = watcher.snapshot(watcher.sessions()[0])
    assert executions(recording) == [("cat", None, len(ways) + 1, len(ways))]
    found = {path for path, *_ in recording._files if path.startswith("/nothing")}
    assert found == {"/nothing-below", *(f"/nothing-{who}-{how}" for who, how in ways)}
    assert not recording.losses


def test_a_process_is_known_that_ended_before_profgen_had_time(ebpf: str) -> None:
    """Its command line is taken when its program starts, not when profgen comes to it."""
    with (
        cgroup(f"profgen-watch-{os.getpid()}") as top,
        watching(Selection(cgroups=(("mine", (str(top),)),))) as watcher,
    ):
        line = f"echo 0 >{top}/cgroup.procs; exec /usr/bin/sleep 1"
        subprocess.run(["/bin/sh", "-c", line], check=True, timeout=TIMEOUT)
        wait_for(watcher, lambda: watcher.sessions()[0].pid, "it began")
        (session,) = watcher.sessions()
        assert session.gone
        assert session.process is not None
        assert (session.process.argv, session.process.uid) == (("/usr/bin/sleep", "1"), os.getuid())
        assert watcher.snapshot(session).first_program() == "/usr/bin/sleep"


def contained(name: str, script: str) -> subprocess.Popen[bytes]:
    """As a container in all that the watcher looks at, but without a runtime: a cgroup with an id for its name, and
    namespaces."""
    within = f"exec unshare --mount --pid --fork --kill-child sh -c '{script}'"
    line = f"mkdir $0; (echo 0 >$0/cgroup.procs; {within}); until rmdir $0; do :; done"
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    top = Path(next(words[1] for words in mounts if words[2] == "cgroup2"))
    return subprocess.Popen(["sh", "-c", line, str(top / name)], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_programs_that_were_lost_are_nobody_elses(ebpf: str, programs: Path, tmp_path: Path) -> None:
    """Numbers that were used before are given to programs of which there is no word: they are their session's, and go
    with it."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    copies = [copy_program(programs / "plain", tmp_path / f"plain{number}") for number in range(4)]
    small = Options(limits={"sessions": 2, "programs": 16, "events": 8})
    names = [f"{os.getpid():08x}{number:056x}" for number in range(8)]
    with watching(Selection(containers=tuple(names)), small) as watcher:  # another container would need room

        def done(number: int, script: str, during: Callable[[], object] = lambda: None) -> Recording:
            process = contained(names[number], script)
            wait_for(watcher, watcher.sessions, "it begins")
            during()
            process.wait(TIMEOUT)
            wait_for(watcher, lambda: watcher.sessions()[0].ended, "it ends")
            recording = watcher.snapshot(watcher.sessions()[0])
            watcher.forget(watcher.sessions()[0])
            return recording

        for number in range(1, 4):  # until no number is new
            done(number, "; ".join(f"{copy} {number}" for copy in copies))

        def unread() -> None:
            """Let the shell go on when its start has been read; until it has ended nothing is read."""
            session = watcher.sessions()[0]
            wait_for(watcher, lambda: executions(watcher.snapshot(session)), "the shell's start is read")
            fifo.write_text("go")

        lost = done(4, f"read go <{fifo}; " + "; ".join(f"{copy} 100" for copy in copies), unread)
        free = watcher.fill()["programs"]
        others = [done(number, f"{copies[0]} 7; {copies[1]} 7") for number in (5, 6, 7)]
    assert free == (0, 14)
    assert lost.losses["events"] > 0
    assert calls(lost)["getppid"] == 4 * 100 + 1  # the shell makes one
    assert [calls(recording)["getppid"] for recording in others] == [2 * 7 + 1] * 3


def test_killed(ebpf: str, programs: Path, until: Until) -> None:
    """The workload goes on, and nothing is left in the kernel."""
    storm = subprocess.Popen([str(programs / "storm")], stdout=subprocess.PIPE, text=True)
    assert storm.stdout is not None
    assert storm.stdout.readline() == "ready\n"
    code = (
        "import sys; from profiler.tracers.ebpf.watcher import EbpfWatcher; from profiler.tracers.base import "
        "Options; from profiler.tracers.watcher import Selection\n"
        f"w = EbpfWatcher(); w.start(Selection(pids=({storm.pid},), all_containers=True), Options()); "
        "print('ready', flush=True)\n"
        "while True: w.wait(0.1)"
    )
    watcher = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment(), start_new_session=True
    )
    try:
        assert watcher.stdout is not None
        assert watcher.stdout.readline() == b"ready\n"
        objects = set(held(watcher.pid))
        assert {kind for kind, _ in objects} == {"prog", "map", "link"}
        children = [place for place in Path("/proc").iterdir() if _parent(place) == watcher.pid]
        assert len(children) == 1, "the one that takes hold of what starts"
        watcher.kill()
        finish(watcher)
        until(lambda: not [place for place in children if place.exists()], "it ends with profgen")
        until(lambda: not [item for item in objects if exists(*item)], "no BPF object is left")
        assert storm.poll() is None
        storm.send_signal(signal.SIGUSR1)
        assert storm.stdout.readline() == "counted\n"
        storm.send_signal(signal.SIGUSR2)
        assert int(storm.stdout.readline()) > 0
    finally:
        for process in (watcher, storm):
            process.kill()
            process.wait()


def _parent(place: Path) -> int:
    try:
        return (
            int((place / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
            if place.name.isdigit()
            else -1
        )
    except OSError:
        return -1


def test_a_process_does_not_come_again(ebpf: str, profgen: Profgen, tmp_path: Path, until: Until) -> None:
    """Snapshots go on across restarts, but those of a process end with it."""
    workload = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    process = profgen.start(
        "record", "-q", "--pid", str(workload.pid), "--snapshot", "1s", "-o", "out.json", cwd=tmp_path
    )
    try:
        until((tmp_path / "out.json").exists, "a snapshot")
        assert workload.stdin is not None
        workload.stdin.close()
        _, stderr = finish(process)
        assert process.returncode == 0, stderr
        assert json.loads((tmp_path / "out.json").read_text())["meta"]["complete"]
    finally:
        workload.kill()
        workload.wait()


def test_what_is_not_there(ebpf: str) -> None:
    for selection in (Selection(pids=(1 << 22,)), Selection(cgroups=(("x", ("/tmp",)),))):
        with EbpfWatcher() as watcher, pytest.raises(InputError):
            watcher.start(selection, Options())
