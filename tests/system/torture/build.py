"""Compiles the torture programs into a directory, and lists the tests they hold.

One program a subject (processes, threads, ...), each for the native ABI and, on x86-64, for i386 as well; the test to
run is the program's first argument. ``PROGRAMS`` is the list that the system tests go through.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from executables import copy_program, write_program

SOURCES = Path(__file__).parent
NATIVE = {"x86_64": "x86_64", "aarch64": "aarch64"}[platform.machine()]
X86 = NATIVE == "x86_64"

_THREADS = ("many", "storm", "leader_exits", "exec", "exec_leader_gone", "call_after", "fork", "killed")
_PROCESSES = (
    "fork",
    "fork_raw",
    "vfork",
    "vfork_exec",
    "vfork_dies",
    "clone_raw",
    "clone_vm",
    "clone_nosignal",
    "clone_parent",
    "clone3",
    "clone3_vfork",
    "clone_untraced",
    "clone3_untraced",
    "spawn",
    "daemon",
    "forks",
    "forks_together",
    "chain",
    "killed_child",
    "killed_itself",
    "stop",
    "leaves_child",
)
_EXECS = ("execve", "execveat_fd", "execveat_dir", "memfd", "probes", "fails", "fails_late", "chain")
_SIGNALS = ("handler", "trap", "segv", "alarm", "restart", "filter_errno", "filter_trap", "filter_kill")
_NAMESPACES = ("mount", "pid", "pid_dies", "unshare_pid", "all", "user", "chroot")

_AS_32 = {
    "processes": ("fork", "vfork_dies", "clone_untraced", "clone3_untraced", "spawn", "daemon"),
    "threads": ("many", "exec", "exec_leader_gone"),
    "execs": ("probes",),
    "signals": ("handler", "filter_errno"),
}
"""What is worth a second run as a 32-bit program."""

_STATUS = {"daemon": 7, "leaves_child": 9, "clone_parent": 6, "chain": 3, "killed_itself": 137}
_GETPGID = {"x86_64": 121, "i386": 132, "aarch64": 155}


@dataclass(frozen=True)
class Program:
    """One workload of the torture suite.

    ``argv`` and ``oracle_argv`` may hold ``{dir}``, the directory of the compiled programs. ``oracle_argv`` is what
    strace runs instead where strace itself cannot follow ``argv``; it makes the same calls. ``unseen`` are calls that
    the workload's own seccomp filter refuses: strace stops before the kernel asks any filter, the tracers come after
    it (docs/tracers.md).
    """

    name: str
    argv: tuple[str, ...]
    status: int = 0
    root: bool = False
    oracle_argv: tuple[str, ...] | None = None
    unseen: frozenset[tuple[str, int]] = frozenset()

    def command(self, directory: Path, for_oracle: bool = False) -> list[str]:
        argv = self.oracle_argv if for_oracle and self.oracle_argv else self.argv
        return [part.replace("{dir}", str(directory)) for part in argv]


def _programs() -> Iterator[Program]:
    for suffix, abi in (("", NATIVE), ("32", "i386")) if X86 else (("", NATIVE),):

        def of(subject: str, test: str, *more: str, suffix: str = suffix, **options: object) -> Program:
            argv = ("{dir}/" + subject + suffix, test, *more)
            return Program(f"{subject}{suffix}-{'-'.join((test, *more))}", argv, **options)  # type: ignore[arg-type]

        tests = (
            _AS_32 if suffix else {"processes": _PROCESSES, "threads": _THREADS, "execs": _EXECS, "signals": _SIGNALS}
        )
        for test in tests["processes"]:
            if test == "fork_raw" and not X86:
                continue  # arm64 has no fork
            oracle = ("{dir}/processes" + suffix, test, "traced") if test.endswith("_untraced") else None
            yield of("processes", test, status=_STATUS.get(test, 0), oracle_argv=oracle)
        for test in tests["threads"]:
            yield of("threads", test, status={"leader_exits": 5, "exec": 4, "exec_leader_gone": 4}.get(test, 0))
        for test in tests["execs"]:
            yield of("execs", test)
        for test in tests["signals"]:
            yield of(
                "signals", test, unseen=frozenset({(abi, _GETPGID[abi])}) if test.startswith("filter_") else frozenset()
            )
        if not suffix:
            yield of("signals", "dies", "15", status=143)
            yield of("signals", "dies", "11", status=139)
            for test in _NAMESPACES:
                yield of("namespaces", test, root=test != "user")
        for test in (
            "unknown",
            "minus_one",
            *((("gate64",) if suffix else ("int80", "int80_fork", "x32")) if X86 else ()),
        ):
            yield of("abis", test)
        yield Program(f"leaf{suffix}", ("{dir}/leaf" + suffix, "5"), status=5)
    if X86:
        yield Program("execs-abis", ("{dir}/execs", "abis"))
        yield Program("execs32-back", ("{dir}/execs32", "back"))
        yield Program("static", ("{dir}/processes-static", "daemon"), status=7)
    yield Program("script", ("{dir}/script",), status=3)
    yield Program("script-relative", ("env", "-C", "{dir}", "./script"), status=3)
    yield Program("script-of-script", ("{dir}/script-of-script", "an argument"), status=3)
    yield Program("symlink", ("{dir}/link-to-leaf", "2"), status=2)
    yield Program("path-search", ("env", "PATH=/nonexistent:{dir}/no-exec:{dir}", "leaf", "1"), status=1)
    yield Program("shell-pipeline", ("sh", "-c", "ls {dir} | grep leaf | wc -l; exit 8"), status=8)
    yield Program(
        "python", ("/usr/bin/python3", "-S", "-E", "-c", "import os; os.waitpid(os.fork() or os._exit(0), 0)")
    )


PROGRAMS = tuple(_programs())


def build(directory: Path) -> None:
    """Compile everything into ``directory`` (which must exist). Raises CalledProcessError with gcc's words."""
    jobs: list[list[str]] = []
    for suffix, flags in (("", []), ("32", ["-m32"])) if X86 else (("", []),):
        for source in sorted(SOURCES.glob("*.c")):
            jobs.append(
                ["gcc", *flags, "-O1", "-w", "-pthread", "-o", str(directory / (source.stem + suffix)), str(source)]
            )
        jobs.append(
            [
                "gcc",
                *flags,
                "-static",
                "-nostdlib",
                "-no-pie",
                "-o",
                str(directory / ("leaf" + suffix)),
                str(SOURCES / "leaf.S"),
            ]
        )
    jobs.append(
        [
            "gcc",
            "-static",
            "-O1",
            "-w",
            "-pthread",
            "-o",
            str(directory / "processes-static"),
            str(SOURCES / "processes.c"),
        ]
    )
    running = []
    for job in jobs:
        running.append((job, subprocess.Popen(job, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)))
        if len(running) >= (os.cpu_count() or 1) + 1:
            _finish(*running.pop(0))
    for job, process in running:
        _finish(job, process)

    copy_program(directory / "leaf", directory / "not-executable", 0o644)
    write_program(directory / "empty", b"")
    _unloadable(directory / "leaf", directory / "broken")
    (directory / "no-exec").mkdir()
    copy_program(directory / "leaf", directory / "no-exec" / "leaf", 0o644)
    (directory / "link-to-leaf").symlink_to("leaf")
    write_program(directory / "script", "#!/bin/sh\nulimit -n >/dev/null\n(exit 3)\n")
    write_program(directory / "script-of-script", f"#!{directory}/script with words\n")


def _finish(job: list[str], process: subprocess.Popen[str]) -> None:
    output, _ = process.communicate(timeout=120)
    if process.returncode:
        raise RuntimeError(f"{' '.join(job)} failed:\n{output}")


def _unloadable(program: Path, target: Path) -> None:
    """A copy of a 64-bit ELF file whose segments lie where user space cannot: exec fails after the old image is
    gone."""
    image = bytearray(program.read_bytes())
    start = int.from_bytes(image[32:40], "little")
    size, count = int.from_bytes(image[54:56], "little"), int.from_bytes(image[56:58], "little")
    for header in range(start, start + size * count, size):
        if int.from_bytes(image[header : header + 4], "little") == 1:  # PT_LOAD: p_vaddr is at 16
            image[header + 16 : header + 24] = (0xFFFF_8000_0000_0000).to_bytes(8, "little")
    write_program(target, bytes(image))


if __name__ == "__main__":
    import sys

    build(Path(sys.argv[1]))
