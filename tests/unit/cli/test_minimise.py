"""The command line of minimise: what is refused before anything runs, and what is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from profiler.cli.main import run
from profiler.cli.minimise_report import Live, table
from profiler.minimise.conclusion import FLAKY, KEPT, NEEDED, SPARE, Finding
from profiler.minimise.entries import Entry
from profiler.minimise.minimise import Progress, Report
from profiler.policy.document import dumps
from profiler.policy.model import Allowed, Policy, Workload

POLICY = Policy(
    Workload(("app",), 0),
    ("x86_64",),
    True,
    "none",
    (Allowed("observed", "x86_64", "read"),),
)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no test to run"),
        (["--timeout", "nan", "--", "true"], "--timeout"),
        (["--repeat", "0", "--", "true"], "--repeat"),
        (["-j", "0", "--", "true"], "-j"),
        (["--only", "mounts", "--", "true"], "--only"),
        (["--user", "no-such-user", "--", "true"], "there is no user"),
        (["-o", "nowhere/least.yaml", "--", "true"], "cannot write nowhere/least.yaml"),
        (["--", "no-such-command"], "command not found"),
    ],
)
def test_what_is_refused(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("policy.yaml").write_text(dumps(POLICY))
    assert run(["minimise", "policy.yaml", *words]) in (2, 125, 127)
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["policy.yaml"]


@pytest.mark.parametrize("words", [[], ["-o", "least.yaml"]])
def test_a_result_is_not_overwritten(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("policy.yaml").write_text(dumps(POLICY))
    result = Path(words[-1] if words else "policy.min.yaml")
    result.write_text("the first result\n")
    assert run(["minimise", "policy.yaml", "--only", "capabilities", *words, "--", "true"]) == 125
    assert f"{result} exists" in capsys.readouterr().err
    assert result.read_text() == "the first result\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["policy.yaml", result.name])


def test_a_policy_of_another_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(dumps(POLICY).replace("x86_64", "aarch64"))
    assert run(["minimise", str(path), "--", "true"]) == 125
    assert "aarch64" in capsys.readouterr().err


def test_the_table_holds_hostile_names_in_one_line_each() -> None:
    findings = (
        Finding(Entry("files", "/tmp/\x1b[31m\nneeded x", "read"), SPARE),
        Finding(Entry("syscalls.observed", "read"), NEEDED, 3, 3, "status 1: \x1b]0;title\x07"),
        Finding(Entry("syscalls.observed", "mount"), KEPT, why="a reviewer wrote it"),
        Finding(Entry("capabilities", "CAP_CHOWN"), FLAKY, 1, 2, "SIGSEGV"),
    )
    lines = list(table(Report(POLICY, findings, 9, 1.0, True, True, False)))
    assert [line.split()[0] for line in lines] == ["needed", "flaky", "kept", "not"], "what matters most comes first"
    assert all(line.isprintable() for line in lines)
    assert "3 of 3 runs fail without it; status 1" in lines[0]


def test_progress_without_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    live = Live(2, shown=True)
    for second in range(70):
        now[0] = float(second)
        live.show(Progress(runs=10 + second, seconds=float(10 + second), entries=40, kept=30, left=300.0))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "10 of 40 entries removed, about 2m 30s left" in lines[0]
    live.interrupt(2, None)
    with pytest.raises(KeyboardInterrupt):
        live.show(Progress(1, 1.0, 1, 1, None))
