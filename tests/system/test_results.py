"""Results of commands that run others: standard output holds the result, and nothing of the workload's."""

from __future__ import annotations

import json
from pathlib import Path

from system.harness import Profgen


def test_record_and_verify(profgen: Profgen, tmp_path: Path) -> None:
    shell = ("--", "/bin/sh", "-c", "echo hello; exit 3")
    done = profgen("record", "--tracer", "ptrace", "--json", "-o", "a.json", *shell, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    found = json.loads(done.stdout)
    assert [(row["file"], row["exit_status"], row["complete"]) for row in found["traces"]] == [("a.json", 3, True)]
    assert "hello\n" in done.stderr
    assert profgen("generate", "a.json", "-q", cwd=tmp_path).returncode == 0
    done = profgen("verify", "a.profile", "-f", "junit", *shell, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert done.stdout.startswith("<?xml")
    assert 'type="command-failed"' in done.stdout
    assert "hello\n" in done.stderr
    done = profgen("verify", "a.profile", "-f", "github", "--report", "r.txt", "--", "/usr/bin/id", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "::" not in done.stdout
    rows = (tmp_path / "r.txt").read_text().splitlines()
    assert all(row.startswith("::error file=a.profile/policy.yaml,line=") for row in rows[:-1])
    assert rows[-1] == f"profgen verify: {len(rows) - 1} errors"
