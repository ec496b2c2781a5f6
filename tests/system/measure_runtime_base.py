"""Measure a container runtime's base set: the syscalls it makes itself between loading the filter and the workload's
first instruction.

    python tests/system/measure_runtime_base.py runc --no-new-privs python tests/system/measure_runtime_base.py --check
    # every runtime here, against profiler/kernel/runtimes.yaml

Run from a checkout, as root, with strace. Two steps, for neither is enough by itself:

1. A start under ``strace -f`` with a filter that allows everything: what the runtime's init calls after the filter was
   loaded, until execve(2). It sees most calls at once. (dockerd starts its runtime out of strace's sight; there runc's
   set is the beginning.)
2. Starts of a program that only ends, under exactly the set so far, with SCMP_ACT_KILL_PROCESS. A start that is killed
   names the missing call in the kernel log (audit type 1326), which is added, until the given number of starts in a row
   is clean. This finds what a Go runtime does only now and then, and it proves the set.

Prints entries in the form of profiler/kernel/runtimes.yaml. With --check the status is 1 when the data lack something
measured.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]

from system.lab import runtimes  # noqa: E402
from system.lab.processes import LabError, run, seccomp_log  # noqa: E402
from system.lab.runtimes import RUNTIMES, Confinement, Container, Job, Lab, container  # noqa: E402
from waiting import eventually  # noqa: E402

from profiler.kernel.runtimes import base_for  # noqa: E402
from profiler.kernel.syscalls import name_of  # noqa: E402

START_SECONDS = 20.0
LOG_SECONDS = 6.0
"""The kernel lets through ten lines of its log in five seconds; a line that was held back does not come later."""

PROGRAM = "int main(void) { return 0; }\nvoid _start(void) { %s }\n"
EXIT = {
    "x86_64": '__asm__ volatile("syscall" : : "a"(231L), "D"(7L)); for (;;) ;',
    "aarch64": 'register long x0 __asm__("x0") = 7, x8 __asm__("x8") = 94; __asm__ volatile("svc 0" : : '
    '"r"(x0), "r"(x8)); for (;;) ;',
}
STATUS = 7
HIGHEST = (
    "process_mrelease",
    "futex_waitv",
    "set_mempolicy_home_node",
    "cachestat",
    "fchmodat2",
    "map_shadow_stack",
    "futex_wake",
)
"""Calls no runtime makes, allowed all the same: runc answers ENOSYS, instead of killing, above the highest number that
a profile names."""


@dataclass(frozen=True)
class Measured:
    """One set, and where it was measured. `version` is that of the OCI runtime."""

    runtime: str
    version: str
    no_new_privs: bool
    starts: int
    syscalls: tuple[str, ...]

    def entry(self) -> dict[str, object]:
        """In the form of runtimes.yaml; whoever adds it sets the range of versions and the argument values."""
        mode = ", no_new_privs" if self.no_new_privs else ""
        return {
            "id": f"{self.runtime} {self.version}{mode}",
            "runtimes": [self.runtime],
            "versions": [self.version, None],
            "no_new_privs": self.no_new_privs,
            "measured": {
                "versions": [self.version],
                "date": f"{datetime.date.today():%Y-%m}",
                "arch": platform.machine(),
            },
            "note": f"{self.starts} clean starts",
            "syscalls": list(self.syscalls),
            "arguments": {},
        }


def oci_version(runtime: str) -> str:
    """Version of the OCI runtime that this runtime starts: 1.1.5."""
    tool = "crun" if runtime == "crun" else "runc"
    match = re.search(r"version (\d+(?:\.\d+)+)", run([tool, "--version"]).stdout)
    if match is None:
        raise LabError(f"{tool} --version tells no version")
    return match[1]


@contextmanager
def program() -> Iterator[Path]:
    """A static program that makes one call: exit_group(7)."""
    with tempfile.TemporaryDirectory(prefix="profgen-base-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "end.c").write_text(PROGRAM % EXIT[platform.machine()])
        run(["cc", "-O1", "-static", "-nostdlib", "-fno-builtin", "-o", directory / "end", directory / "end.c"])
        yield directory / "end"


def write_profile(path: Path, default: str, syscalls: set[str]) -> Path:
    """An OCI profile."""
    architecture = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}[platform.machine()]
    if default == "SCMP_ACT_ALLOW":  # a rule that says the same as the default would be dropped, and with it the filter
        rule = {"names": ["swapoff"], "action": "SCMP_ACT_ERRNO"}
    else:
        rule = {"names": sorted(syscalls | set(HIGHEST)), "action": "SCMP_ACT_ALLOW"}
    path.write_text(json.dumps({"defaultAction": default, "architectures": [architecture], "syscalls": [rule]}))
    return path


LINE = re.compile(r"^(\d+) +(?:(\w+)\(|<\.\.\. (\w+) resumed>)(.*)$")


def after_filter(log: str) -> set[str]:
    """From ``strace -f -o``: calls made under a filter, up to the execve that starts the workload.

    A filter holds for the thread that loads it and for what that thread makes, and with SECCOMP_FILTER_FLAG_TSYNC for
    all threads of the process (seccomp(2)). Threads belong to the process that made them with CLONE_THREAD.
    """
    process: dict[str, str] = {}
    entry: dict[str, str] = {}
    filtered: set[str] = set()
    found: set[str] = set()
    for line in log.splitlines():
        match = LINE.match(line)
        if match is None:
            continue
        thread, entered, resumed, rest = match.groups()
        leader = process.setdefault(thread, thread)
        if entered:
            entry[thread] = f"{entered}({rest}"
            if thread in filtered:
                found.add(entered)
        if rest.endswith("<unfinished ...>"):
            continue
        name, call = entered or resumed, entry.get(thread, "")
        if name in ("clone", "clone3", "fork", "vfork") and (made := re.search(r"= (\d+)$", rest)):
            process[made[1]] = leader if "CLONE_THREAD" in call else made[1]
            if thread in filtered:
                filtered.add(made[1])
        elif ("seccomp(SECCOMP_SET_MODE_FILTER" in call or "prctl(PR_SET_SECCOMP" in call) and rest.endswith("= 0"):
            filtered |= {other for other in process if process[other] == leader} if "FLAG_TSYNC" in call else {thread}
        elif name in ("execve", "execveat") and rest.endswith("= 0"):
            filtered -= {other for other in process if process[other] == leader}
    return found


def traced(lab: Lab, runtime: str, job: Job, no_new_privs: bool) -> set[str]:
    """Step 1, one start."""
    with tempfile.TemporaryDirectory(prefix="profgen-base-") as name:
        directory = Path(name)
        seccomp = write_profile(directory / "seccomp.json", "SCMP_ACT_ALLOW", set())
        confinement = Confinement.with_capabilities(seccomp, [], no_new_privs)
        identity = f"profgen-base-{os.getpid()}-{time.monotonic_ns()}"
        command = lab[runtime].command(identity, directory, job, confinement)
        try:
            words = ["strace", "-f", "-qq", "-e", "signal=none", "-o", str(directory / "log"), *command]
            status = run(words, seconds=START_SECONDS, check=False).returncode
        finally:
            lab[runtime].remove(identity, directory)
        if status != STATUS:
            raise LabError(f"{runtime} under strace ended with status {status}")
        return after_filter((directory / "log").read_text())


class Killed(Exception):
    """A start was killed for a call that is not in the set."""


def start(lab: Lab, runtime: str, job: Job, confinement: Confinement) -> None:
    """Step 2, one start. Killed when it was not clean; LabError when it failed for another reason."""
    before = len(seccomp_log())
    with container(lab[runtime], job, confinement) as running:
        try:
            status = running.wait(START_SECONDS)
        except LabError:
            status = -1
        if status == STATUS:
            return
        if killed := calls_killed(before, running):
            raise Killed(*killed)
        raise LabError(
            f"a start of {runtime} ended with status {status} and nothing in the kernel log{running.report()}"
        )


def calls_killed(before: int, running: Container) -> set[str]:
    """Names in the kernel's lines about seccomp since there were `before` of them."""

    def lines() -> list[str]:
        return [line for line in seccomp_log()[before:] if re.search(r'comm="(runc|crun|end|\d|exe)', line)]

    eventually(lambda: lines() or not running.running, 1)
    return {
        name_of(platform.machine(), int(number)) or number
        for line in lines()
        for number in re.findall(r"syscall=(\d+)", line)
    }


def measure(lab: Lab, runtime: str, no_new_privs: bool, starts: int, uid: int) -> Measured:
    """Both steps. Prints progress on stderr."""
    with program() as end, tempfile.TemporaryDirectory(prefix="profgen-base-") as name:
        job = Job((str(end),), uid=uid, gid=uid, readable=(end.parent,))
        found = {"execve", "exit_group"}
        for _ in range(3):
            found |= traced(lab, "runc" if runtime == "docker" else runtime, job, no_new_privs)
        print(f"{runtime}: {len(found)} syscalls after strace", file=sys.stderr)
        clean = silent = 0
        while clean < starts:
            seccomp = write_profile(Path(name) / "seccomp.json", "SCMP_ACT_KILL_PROCESS", found)
            try:
                start(lab, runtime, job, Confinement.with_capabilities(seccomp, [], no_new_privs))
                clean += 1
            except Killed as killed:
                new = set(killed.args) - found
                print(f"{runtime}: + {' '.join(sorted(new))} after {clean} clean starts", file=sys.stderr)
                found |= new
                clean = 0
            except LabError:
                # The log may have been held back: wait until it flows again, and let the call come once more.
                silent += 1
                if silent > 20:
                    raise
                clean = 0
                time.sleep(LOG_SECONDS)
        return Measured(runtime, oci_version(runtime), no_new_privs, starts, tuple(sorted(found)))


def missing(measured: Measured) -> set[str]:
    """What the data lack for this runtime and version."""
    known = {
        name for base in base_for(measured.runtime, measured.version, measured.no_new_privs) for name in base.syscalls
    }
    return set(measured.syscalls) - known - {"exit_group"}


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Measure the syscalls that a container runtime itself makes under a filter."
    )
    parser.add_argument("runtime", nargs="*", choices=[*RUNTIMES, []], help="default: all that are installed")
    parser.add_argument("--no-new-privs", action="store_true", help="only with no_new_privs")
    parser.add_argument("--allow-new-privs", action="store_true", help="only without no_new_privs")
    parser.add_argument("--starts", type=int, default=100, help="clean starts in a row that are enough")
    parser.add_argument("--uid", type=int, default=0, help="user in the container")
    parser.add_argument(
        "--check", action="store_true", help="compare with profiler/kernel/runtimes.yaml instead of printing"
    )
    options = parser.parse_args()

    modes = [
        mode
        for mode in (True, False)
        if (mode and not options.allow_new_privs) or (not mode and not options.no_new_privs)
    ]
    lab = Lab()
    entries, status = [], 0
    try:
        for runtime in options.runtime or RUNTIMES:
            if reason := runtimes.why_not(runtime):
                print(f"{runtime}: {reason}", file=sys.stderr)
                status = status or (2 if options.runtime else 0)
                continue
            for mode in modes:
                measured = measure(lab, runtime, mode, options.starts, options.uid)
                entries.append(measured.entry())
                if options.check and (lacking := missing(measured)):
                    print(f"{measured.entry()['id']}: runtimes.yaml lacks {' '.join(sorted(lacking))}")
                    status = 1
                elif options.check:
                    print(f"{measured.entry()['id']}: runtimes.yaml has all {len(measured.syscalls)}")
    except LabError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 2
    finally:
        lab.close()
    if not options.check:
        print(yaml.safe_dump({"sets": entries}, sort_keys=False, default_flow_style=None, width=120), end="")
    return status


if __name__ == "__main__":
    sys.exit(main())
