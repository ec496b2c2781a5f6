"""Watching on Linux 6.1: its verifier takes the programs, and they see what they see elsewhere."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from system.harness import CHECKOUT, TIMEOUT, why_no_ebpf
from vm.guest import Guest, python

SOURCES = CHECKOUT / "tests" / "system" / "watching"


def test_container_and_joining(guest: Guest, work: Path) -> None:
    if reason := why_no_ebpf():
        pytest.skip(reason)
    shared = guest.shared / "watching"
    shared.mkdir()
    for name, flags in {"plain": ("-nostdlib", "-static", "-fno-stack-protector"), "storm": ("-pthread",)}.items():
        subprocess.run(
            ["gcc", "-O1", *flags, "-o", str(shared / name), str(SOURCES / f"{name}.c")], check=True, timeout=TIMEOUT
        )
    result = guest.run(python(CHECKOUT / "tests" / "vm" / "watch.py", shared / "plain", shared / "storm"))
    assert result.status == 0, result.stderr
    seen = json.loads(result.stdout.strip().splitlines()[-1])
    container, joined = seen["sessions"]["container"], seen["sessions"]["pid"]
    assert container["subject"] == "5e" * 32
    assert container["programs"] == [f"{shared}/plain"]
    assert container["calls"] == {"execve": 1, "getppid": 3, "clone": 2, "getuid": 2, "wait4": 2, "exit_group": 3}
    assert seen["children"] > 0
    assert joined["calls"]["getpgid"] == seen["children"]
    assert "joined" in joined["features"]
    assert "capabilities:kprobe" in joined["features"]
    for session in (container, joined):
        assert session["ended"]
        assert not session["losses"]
        assert session["refused"] == 0
