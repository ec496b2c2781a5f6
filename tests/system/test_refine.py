"""``profgen refine`` on the kernel's own records: of a run under a policy from which three rights were taken, it
proposes exactly those."""
# ruff: noqa: F811 - the fixtures that are imported are arguments of the tests

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from system.harness import CHECKOUT, Profgen
from system.lab import runs
from system.lab.fixtures import Recordings, Runtimes, lab, recordings  # noqa: F401
from system.lab.processes import LabError, run
from system.lab.runtimes import Confinement, Job
from system.lab.workloads import Pipeline, Workload

from profiler.denials.dangers import of_syscall
from profiler.denials.logs import sources
from profiler.denials.logs.reading import Reader
from profiler.denials.model import Denial
from profiler.policy import model
from profiler.policy.document import dumps, read_policy
from profiler.trace.store import read_trace

pytestmark = pytest.mark.usefixtures("as_root")

TRIES = 6
QUIET_SECONDS = 6.0
"""The kernel prints ten records in five seconds (kernel.printk_ratelimit), of the whole machine; past that it says so,
and refine too."""


class Rights(Workload):
    """A program with three calls of its own."""

    name = "rights"
    batch = True

    def prepare(self) -> None:
        program = self.directory.parent / "program"
        program.mkdir()
        self._program = program / "rights"
        source = CHECKOUT / "tests" / "system" / "lab" / "programs" / "rights.c"
        run(["cc", "-O1", "-o", str(self._program), str(source)])

    @property
    def argv(self) -> tuple[str, ...]:
        return (str(self._program),)

    @property
    def job(self) -> Job:
        job = super().job
        return replace(job, readable=(*job.readable, self._program.parent))

    def check(self, stdout: str) -> None:
        if stdout != "done\n":
            raise LabError(f"it said {stdout!r}")


def rarest(trace: Path, policy: Path) -> list[str]:
    """The three calls seen least often of those that are allowed with any arguments, by observation alone, and are not
    dangerous."""
    entries = read_policy(policy).syscalls
    plain = {entry.name for entry in entries if entry.section == "observed" and not entry.rules}
    plain -= {entry.name for entry in entries if entry.section != "observed"}
    rows = [
        row
        for row in read_trace(trace).syscalls
        if row.name in plain and not any(vars(of_syscall(row.name, None)).values())
    ]
    chosen = sorted(rows, key=lambda row: (row.calls, row.name or ""))[:3]
    assert len(chosen) == 3
    assert sum(row.calls for row in chosen) <= 9, "more than the kernel prints"
    return sorted(row.name or "" for row in chosen)


def kernel_log() -> bytes:
    return subprocess.run(["dmesg"], capture_output=True, check=True, timeout=120).stdout


@pytest.mark.parametrize("kind", [Rights, Pipeline], ids=lambda kind: kind.name)
def test_exactly_what_was_taken(
    kind: type[Workload], recordings: Recordings, lab: Runtimes, profgen: Profgen, tmp_path: Path
) -> None:
    trace = recordings.trace(kind, "ptrace")
    full = runs.generated(trace, tmp_path / "full", "runc", True)
    path = tmp_path / "full" / "policy.yaml"
    taken = ["getpgid", "sysinfo", "times"] if kind is Rights else rarest(trace, path)
    policy = read_policy(path)
    narrow = tmp_path / "narrow.yaml"
    narrow.write_text(
        dumps(replace(policy, syscalls=tuple(entry for entry in policy.syscalls if entry.name not in taken)))
    )
    result = profgen("generate", str(narrow), "-o", str(tmp_path / "narrow"), "-O", "seccomp.action=log", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    confinement = Confinement(tmp_path / "narrow" / "seccomp.json", full.capabilities, True)
    for _ in range(TRIES):
        before = b"".join(kernel_log().splitlines(keepends=True)[-1:])
        runs.confined(recordings.workload(kind), lab["runc"], confinement)
        log = kernel_log()
        # The kernel drops its oldest lines for new ones: what is new begins behind the line that was the last, wherever
        # that is now.
        new = log.rpartition(before)[2] if before else log
        shown = profgen("refine", str(narrow), "--from", "-", "--format", "json", cwd=tmp_path, stdin=new)
        found = json.loads(shown.stdout)
        if not found["gaps"] and len(found["added"]) >= 3:
            break
        time.sleep(QUIET_SECONDS)
    assert [row["item"] for row in found["refused"]] == []
    assert sorted(row["item"] for row in found["added"]) == taken, shown.stdout + new.decode(errors="replace")
    assert shown.returncode == 1

    distrusted = profgen("refine", str(narrow), "--from", "-", "--in-place", cwd=tmp_path, stdin=new)
    assert distrusted.returncode == 2, distrusted.stderr
    assert "--trust-text" in distrusted.stderr
    written = profgen("refine", str(narrow), "--from", "-", "--in-place", "--trust-text", cwd=tmp_path, stdin=new)
    assert written.returncode == 0, written.stderr
    mended = read_policy(narrow)
    assert {(entry.abi, entry.name, entry.rules) for entry in mended.syscalls} == {
        (entry.abi, entry.name, entry.rules) for entry in policy.syscalls
    }
    again = profgen("refine", str(narrow), "--from", "-", cwd=tmp_path, stdin=new)
    assert again.returncode == 0, again.stderr
    assert again.stdout == ""


JOURNAL = """
mount -t tmpfs none /run
mkdir -p /run/systemd/journald.conf.d /run/systemd/journal
printf '[Journal]\\nAudit=\\nStorage=volatile\\nReadKMsg=yes\\n' > /run/systemd/journald.conf.d/test.conf
/lib/systemd/systemd-journald &
daemon=$!
trap 'kill $daemon; wait $daemon' EXIT
# What the kernel said before is read at the start; it is all there when a file that names the last record is.
until journalctl --quiet --no-pager _TRANSPORT=kernel 2>/dev/null | grep -qF "$1"; do
    kill -0 $daemon || exit 99
    sleep 0.5
done
shift
"$@"
"""
"""A journal of its own in a mount namespace of its own, read while it is written."""
IN_A_NAMESPACE = ["unshare", "--mount", "--propagation", "private", "bash", "-c"]


def of_log(source: str) -> dict[Denial, int]:
    """Return what a log contains, and how often."""
    reader = Reader()
    sources.read(reader, source)
    reading = reader.reading
    assert (reading.broken, reading.foreign) == (0, 0), reading.samples
    return {row.key: row.count for row in reading.denials}


def contains(found: dict[Denial, int], expected: dict[Denial, int]) -> bool:
    """Return whether everything was found. Other programs may have been refused more in between."""
    return all(found.get(key, 0) >= count for key, count in expected.items())


def known_to(output: bytes, records: bytes, log: Path) -> dict[Denial, int]:
    """Return the denials of those records that an output has: the log drops its oldest for new ones meanwhile, and
    syslog(2) (``dmesg -S``) returns fewer than /dev/kmsg."""
    there = set(re.findall(rb"audit\([0-9.:]+\)", output))
    lines = [line for line in records.splitlines(keepends=True) if there & set(re.findall(rb"audit\([0-9.:]+\)", line))]
    log.write_bytes(b"".join(lines))
    return of_log(str(log))


DMESG = (
    ["-r"], ["-T"], ["-x"], ["-t"], ["-d"], ["-e"], ["-J"], ["-xT"], ["-H", "--color=always"], ["-S"],
    ["--time-format=iso"], ["--time-format=delta"],
)  # fmt: skip


def test_every_output_of_dmesg_and_the_kernels_own_log(tmp_path: Path) -> None:
    log, records = tmp_path / "log", kernel_log()
    log.write_bytes(records)
    expected = of_log(str(log))
    if not expected:
        pytest.skip("the kernel's log has no record of seccomp; the other tests of this file make some")
    now = of_log("/dev/kmsg")
    assert contains(now, known_to(kernel_log(), records, tmp_path / "known"))
    commands = [["dmesg", *options] for options in DMESG] + ([["busybox", "dmesg"]] if shutil.which("busybox") else [])
    for command in commands:
        output = subprocess.run(command, capture_output=True, check=True, timeout=120).stdout
        log.write_bytes(output)
        expected = known_to(output, records, tmp_path / "known")
        assert expected, command
        assert contains(of_log(str(log)), expected), command


OUTPUTS = """
for form in short short-full short-iso short-iso-precise short-precise short-monotonic short-unix short-delta \\
    with-unit verbose export json json-pretty json-sse json-seq cat; do
    journalctl --quiet --no-pager --all -o $form _TRANSPORT=kernel >"$1/$form"
done
cp /run/log/journal/*/*.journal "$1/binary"
"""


def test_every_output_of_journalctl(tmp_path: Path) -> None:
    log, last = journalled()
    folder = tmp_path / "forms"
    folder.mkdir()
    script = [*IN_A_NAMESPACE, JOURNAL, "sh", f"({last})", "bash", "-c", OUTPUTS, "sh", str(folder)]
    subprocess.run(script, check=True, timeout=300)
    assert len(list(folder.iterdir())) == 17
    expected = known_to((folder / "cat").read_bytes(), log, tmp_path / "known")
    assert expected
    for path in folder.iterdir():
        assert contains(of_log(str(path)), expected), path.name


def journalled() -> tuple[bytes, str]:
    """Return the kernel's log, which journald can read here, and the number of its last record of seccomp."""
    programs = ("/lib/systemd/systemd-journald", "/usr/bin/journalctl", "/usr/bin/unshare")
    missing = [name for name in programs if not Path(name).exists()]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    log = kernel_log()
    records = re.findall(rb"type=1326 audit\(([0-9.:]+)\)", log)
    if not records:
        pytest.skip("the kernel's log has no record of seccomp; the other tests of this file make some")
    return log, records[-1].decode()


def test_the_journal(profgen: Profgen, tmp_path: Path) -> None:
    """systemd-journald reads the kernel's log; journalctl gives it as JSON: the same as from the kernel's log
    itself."""
    log, last = journalled()
    policy = tmp_path / "policy.yaml"
    policy.write_text(dumps(model.Policy(model.Workload(("/usr/bin/true",), 0), ("x86_64",), True, "none")))
    options = ["refine", str(policy), "--format", "json", "--from"]
    direct = json.loads(profgen(*options, "-", cwd=tmp_path, stdin=log).stdout)
    script = [*IN_A_NAMESPACE, JOURNAL, "sh", f"({last})"]
    through = Profgen(prefix=script)(*options, "journal", cwd=tmp_path)
    assert through.returncode == 1, through.stderr
    found = json.loads(through.stdout)

    def counts(data: dict[str, Any], keep: set[str]) -> dict[str, int]:
        rows = [row for name in ("added", "refused") for row in data[name]]
        return {row["item"]: sum(denial["count"] for denial in row["denials"]) for row in rows if row["item"] in keep}

    items = {row["item"] for name in ("added", "refused") for row in direct[name]}
    assert items
    # In between others may have been refused more.
    assert all(counts(found, items)[item] >= number for item, number in counts(direct, items).items())
