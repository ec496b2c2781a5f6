"""profgen hook as a runtime calls it, where it records nothing. tests/system has runtimes that do."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from unit.cli import running


def hook(directory: Path, state: dict[str, object]) -> subprocess.CompletedProcess[str]:
    return running.profgen("hook", "-o", directory, input=json.dumps(state))


def test_a_container_without_the_annotation(tmp_path: Path) -> None:
    for state in ({"id": "a", "pid": os.getpid()}, {"id": "a"}, {"id": "a", "annotations": {"x": "y"}}):
        done = hook(tmp_path, state)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("pid", [None, 0, -1, "7", 1 << 40, True])
def test_a_state_without_a_usable_process(pid: object, tmp_path: Path) -> None:
    done = hook(tmp_path, {"id": "a\x1b", "pid": pid, "annotations": {"io.profgen.record": "web"}})
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "does not name a process" in done.stderr
    assert "\x1b" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "", "a/b"])
def test_a_file_of_another_directory(name: str, tmp_path: Path) -> None:
    done = hook(tmp_path, {"id": "a", "pid": os.getpid(), "annotations": {"io.profgen.record": name}})
    assert done.returncode == 2
    assert "it must name a file in" in done.stderr
