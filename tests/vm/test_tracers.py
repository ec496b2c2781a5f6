"""The tracers on Linux 6.1, where the machine that runs the tests has a newer one: capabilities by kprobe, and the same
evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from system.harness import Profgen, why_no_ebpf
from system.operations.build import build, prepare
from system.operations.evidence import differences, seen
from system.operations.table import Evidence, Places
from vm.guest import Guest, python

from profiler.trace.model import Trace
from profiler.trace.store import read_trace

OPERATIONS = (
    "replace_file",
    "link",
    "flock",
    "mkfifo",
    "list",
    "chown",
    "execve",
    "script",
    "odd_names",
    "missing",
    "signal_child",
    "unix_path",
    "tcp",
    "netlink",
    "bind_mount",
    "chroot",
    "protect_mapping",
)

ENDS = "ends"
"""eBPF at the ends of calls only, which else begins after two quiet seconds."""
LEARNS_NOTHING = """
import sys
from profiler.tracers.ebpf import attaching
from profiler.__main__ import main
told, suffices = sys.argv.pop(1), attaching._end_suffices
def tell(programs):
    answer = suffices(programs)
    open(told, "w").write(str(answer))
    return answer
attaching.LEARNING_SECONDS, attaching._end_suffices = -1.0, tell
sys.exit(main())
"""


@dataclass(frozen=True)
class Both:
    host: Trace
    guest: Trace
    places: Places

    @property
    def evidence(self) -> tuple[Evidence, Evidence]:
        return seen(self.host, self.places), seen(self.guest, self.places)


@pytest.fixture(scope="module")
def recorded(
    guest: Guest, profgen: Profgen, work: Path, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Both]:
    """One recording of all the operations, by each tracer, here and there."""
    place = work / "tracers"
    (place / "bin").mkdir(parents=True)
    build(place / "bin")
    program, shared = place / "bin" / "ops", guest.shared / "tracers"
    shared.mkdir()
    (shared / "ops").write_bytes(program.read_bytes())
    prepared = "".join(f"rm -rf {place}/{name}; {program} prepare {name} {place}/{name}\n" for name in OPERATIONS)
    every = " && ".join(f"{program} {name} {place}/{name}" for name in OPERATIONS)
    command = ["/usr/bin/dash", "-c", every]
    tracers = ["ptrace"] if why_no_ebpf() else ["ptrace", "ebpf"]
    script = [f"mkdir -p {place}/bin && cp {shared}/ops {program} && chmod 755 {program} && cd {place} || exit 9"]
    for tracer in tracers:
        words = ["record", "-q", "--tracer", tracer, "-o", str(shared / f"{tracer}.json"), "--", *command]
        script += [prepared, f"{python('-m', 'profiler', *words)} || exit 8"]
    if "ebpf" in tracers:
        words = ["record", "-q", "--tracer", "ebpf", "-o", str(shared / f"{ENDS}.json"), "--", *command]
        script += [prepared, f"{python('-c', LEARNS_NOTHING, str(shared / 'suffices'), *words)} || exit 7"]
    job = guest.begin("\n".join(script))
    here: dict[str, Trace] = {}
    for tracer in tracers:
        for name in OPERATIONS:
            prepare(program, name, place / name)
        cwd = tmp_path_factory.mktemp(tracer)
        recording = profgen.record(tracer, command, cwd=cwd, options=["-q"])
        assert recording.status == 0, recording.stderr
        here[tracer] = read_trace(recording.path)
    result = guest.result(job)
    assert result.status == 0, f"status {result.status}: {result.stdout} {result.stderr}"
    places = Places(str(place), str(program))
    both = {tracer: Both(here[tracer], read_trace(shared / f"{tracer}.json"), places) for tracer in tracers}
    if "ebpf" in tracers:
        assert (shared / "suffices").read_text() == "True", "a kprobe sees what is executed"
        both[ENDS] = Both(here["ebpf"], read_trace(shared / f"{ENDS}.json"), places)
    return both


@pytest.mark.parametrize("tracer", ["ptrace", "ebpf", ENDS])
def test_same_evidence(tracer: str, recorded: Mapping[str, Both]) -> None:
    """Files, sockets, signals, inspections, mounts and executions of all of them under a shell are the same; there it
    is on overlayfs."""
    if tracer not in recorded:
        pytest.skip(why_no_ebpf() or "")
    here, there = recorded[tracer].evidence
    lines = differences(there, here)
    assert not lines, "\n".join(lines)
    assert there.files
    assert there.mounts


def test_hook(recorded: Mapping[str, Both]) -> None:
    """6.1 has no tracepoint for capability checks: there the eBPF tracer takes a kprobe, and sees the same capabilities
    used."""
    if "ebpf" not in recorded:
        pytest.skip(why_no_ebpf() or "")
    both = recorded["ebpf"]
    assert both.guest.meta.kernel.startswith("6.1.")
    assert "capabilities:kprobe" in both.guest.meta.features
    assert _needed(both.guest) == _needed(both.host)
    assert {"CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_CHOWN"} <= _needed(both.guest)


def _needed(trace: Trace) -> set[str]:
    return {
        row.capability
        for row in trace.capabilities
        if row.verdict == "granted" and row.decisive and row.namespace == "initial"
    }
