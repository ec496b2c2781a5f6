"""Campaigns: signals to profgen at random moments, and races of fork, exec and kill, many times over.

``make campaigns`` runs the long form. The numbers of runs are in PROFGEN_KILLS and PROFGEN_RACES, and PROFGEN_SEED
repeats what a failure names.
"""

from __future__ import annotations

import os
import random
import secrets
import signal
import time
from pathlib import Path

import pytest
from system.harness import Profgen, Until, bpf_exists, bpf_objects, finish, of_session, with_argument
from system.test_births import RACES

KILLS = int(os.environ.get("PROFGEN_KILLS", "10"))
RUNS = int(os.environ.get("PROFGEN_RACES", "7"))
SEED = int(os.environ.get("PROFGEN_SEED", "0")) or secrets.randbits(31)

LATEST_SECONDS = 2.5
"""Of a signal: profgen has started the workload by then, or ends already."""
RACE_SECONDS = 120.0
"""More than ten times what a run of races takes on a busy machine."""

SIGNALS = (signal.SIGKILL, signal.SIGSTOP, signal.SIGINT, signal.SIGTERM)


@pytest.mark.parametrize("number", range(KILLS))
def test_a_signal_leaves_nothing(
    number: int, tracer: str, profgen: Profgen, torture: Path, tmp_path: Path, until: Until
) -> None:
    """No process, BPF program, map, mount, cgroup or temporary file is left, and no older trace is broken."""
    chance = random.Random(SEED + number)
    sent, moment = chance.choice(SIGNALS), chance.uniform(0, LATEST_SECONDS)
    run = f"{sent.name} to {tracer} after {moment:.3f} s (PROFGEN_SEED={SEED})"
    word = f"profgen-{secrets.token_hex(8)}"
    work, scratch = tmp_path / word, tmp_path / "scratch"
    work.mkdir()
    scratch.mkdir()
    command = [str(torture / "wrapped"), "busy", "1500", word]
    process = profgen.start(
        "record", "--tracer", tracer, "-o", "out.json", "--", *command, cwd=work, env={"TMPDIR": str(scratch)}
    )
    time.sleep(moment)
    held = bpf_objects(process.pid)
    process.send_signal(sent)
    if sent == signal.SIGSTOP:
        time.sleep(chance.uniform(0, 0.5))
        process.send_signal(signal.SIGCONT)
    _, stderr = finish(process)
    assert "internal error" not in stderr, run
    until(lambda: not with_argument(word), f"the workload ends: {run}")
    until(lambda: not of_session(process.pid), f"profgen's processes end: {run}")
    until(lambda: not any(bpf_exists(*each) for each in held), f"BPF programs and maps are gone: {run}")
    assert word not in Path("/proc/self/mountinfo").read_text(), run
    assert not [place for place, *_ in os.walk("/sys/fs/cgroup") if word in place], run
    assert not list(scratch.iterdir()), run
    assert {path.name for path in work.iterdir()} <= {"out.json"}, run


@pytest.mark.parametrize("number", range(RUNS))
def test_a_race_ends(number: int, profgen: Profgen, torture: Path, tmp_path: Path) -> None:
    """No order of births, executions and ends makes the ptrace tracer wait for what never comes."""
    race = RACES[number % len(RACES)] if os.geteuid() == 0 else RACES[number % (len(RACES) - 1)]
    words = ["record", "--tracer", "ptrace", "--allow-loss", "-o", "out.json", "--"]
    command = [str(torture / "races"), race, str(SEED + number), "20"]
    result = profgen(*words, *command, cwd=tmp_path, timeout=RACE_SECONDS)
    assert result.returncode == 0, f"{race}, PROFGEN_SEED={SEED}: {result.stderr}"
    assert not with_argument(command[0])
