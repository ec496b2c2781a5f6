"""Seccomp filters of the workload: what they hide from a tracer is a loss, and nothing else is."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from system.harness import Profgen, finish
from system.torture.build import X86


@pytest.mark.parametrize("program", ["filters", *(["filters32"] if X86 else [])])
@pytest.mark.parametrize(("test", "status"), [("emulated", 7), ("continued", 8)])
def test_supervised(
    test: str, status: int, program: str, tracer: str, profgen: Profgen, torture: Path, tmp_path: Path
) -> None:
    """A supervisor answers the call, or lets it continue: ptrace sees neither, eBPF the second."""
    recording = profgen.record(tracer, [str(torture / program), test], cwd=tmp_path)
    assert recording.status == 125
    assert recording.meta["exit_status"] == status, recording.stderr
    assert recording.meta["losses"] == {"hidden": 1}
    assert "supervisor" in recording.stderr
    assert ("getpgid" in recording.names) is (tracer == "ebpf" and test == "continued")


def test_supervised_through_a_program(tracer: str, profgen: Profgen, torture: Path, tmp_path: Path) -> None:
    """A program inherits the filter, and its calls are hidden as well: the loss is counted where the filter came."""
    command = [str(torture / "filters"), "continued", str(torture / "leaf")]
    recording = profgen.record(tracer, command, cwd=tmp_path)
    assert recording.meta["exit_status"] == 0, recording.stderr
    assert recording.meta["losses"] == {"hidden": 1}


def test_started_under_a_supervisor(ebpf: str, profgen: Profgen, torture: Path, tmp_path: Path) -> None:
    """The filter that profgen itself has is the workload's too."""
    inside = Profgen(prefix=[str(torture / "filters"), "continued"])
    recording = inside.record(ebpf, ["true"], cwd=tmp_path)
    assert recording.meta["losses"] == {"hidden": 1}


def test_joined_under_a_supervisor(ebpf: str, profgen: Profgen, torture: Path, tmp_path: Path) -> None:
    process = subprocess.Popen([torture / "filters", "waits"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    words = ["record", "--tracer", ebpf, "--pid", str(process.pid), "--duration", "2", "-o", "out.json"]
    recorder = profgen.start(*words, cwd=tmp_path)
    _, stderr = finish(recorder)
    process.communicate(b"x", timeout=60)
    assert recorder.returncode == 125, stderr
    assert json.loads((tmp_path / "out.json").read_text())["meta"]["losses"] == {"hidden": 1}


def test_a_question_is_no_loss(tracer: str, profgen: Profgen, torture: Path, tmp_path: Path) -> None:
    """libseccomp asks with a null pointer whether the kernel knows the flag."""
    recording = profgen.record(tracer, [str(torture / "filters"), "asks"], cwd=tmp_path)
    assert recording.status == 0, recording.stderr
    assert recording.meta["complete"] is True


@pytest.mark.parametrize(("test", "ebpf_status"), [("traced", 0), ("strict", 0), ("strict prctl", 0)])
def test_differs_under_ptrace(
    test: str, ebpf_status: int, tracer: str, profgen: Profgen, torture: Path, tmp_path: Path
) -> None:
    """A filter that asks a tracer finds profgen, and strict mode is refused: the summary says so."""
    recording = profgen.record(tracer, [str(torture / "filters"), *test.split()], cwd=tmp_path)
    assert recording.status == (8 if tracer == "ptrace" else ebpf_status), recording.stderr
    assert recording.meta["complete"] is True
    said = "strict mode" if test.startswith("strict") else "SECCOMP_RET_TRACE"
    assert (said in recording.stderr) is (tracer == "ptrace")


def test_verify_says_that_marks_are_covered(profgen: Profgen, torture: Path, tmp_path: Path) -> None:
    """profgen marks denied calls; a filter of the workload that answers RET_TRACE covers the marks."""
    recording = profgen.record("ptrace", [str(torture / "filters"), "traced"], cwd=tmp_path)
    assert recording.status == 8
    assert profgen("generate", "out.json", "-o", "made", cwd=tmp_path).returncode == 0
    words = ["verify", "--under", "direct", "made/policy.yaml", "--", str(torture / "filters"), "traced"]
    result = profgen(*words, cwd=tmp_path)
    assert result.returncode == 125, result.stderr
    assert "hidden" in result.stderr
