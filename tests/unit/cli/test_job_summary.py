"""The summary of a job: appended to, never through what somebody put in its place, and never too large."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from profiler.cli import job_summary
from profiler.cli.job_summary import LIMIT_BYTES


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(job_summary.VARIABLE, str(tmp_path / "summary.md"))
    return tmp_path / "summary.md"


def test_it_is_appended_to(place: Path) -> None:
    for text in ("one\n", "two\n"):
        job_summary.append(text)
    assert place.read_text() == "one\n\ntwo\n"


def test_nothing_without_the_variable(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv(job_summary.VARIABLE, raising=False)
    job_summary.append("one\n")
    assert capsys.readouterr().err == ""


def test_no_link_is_followed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    victim = place.with_name("victim")
    victim.write_text("x")
    for target in (victim, place.with_name("new")):
        place.unlink(missing_ok=True)
        place.symlink_to(target)
        job_summary.append("one\n")
        assert "no job summary: GITHUB_STEP_SUMMARY: too many levels of symbolic links" in capsys.readouterr().err
    assert (victim.read_text(), place.with_name("new").exists()) == ("x", False)


def test_no_pipe_is_waited_for(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(place)
    job_summary.append("one\n")
    assert "no job summary" in capsys.readouterr().err
    reader = os.open(place, os.O_RDONLY | os.O_NONBLOCK)
    try:
        job_summary.append("one\n")
        assert "not a regular file" in capsys.readouterr().err
    finally:
        os.close(reader)


def test_a_missing_directory_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(job_summary.VARIABLE, str(tmp_path / "no" / "summary.md"))
    job_summary.append("one\n")
    assert "no such file or directory" in capsys.readouterr().err


def test_it_is_cut_after_a_line(place: Path) -> None:
    line = "é" * 99 + "\n"
    job_summary.append(line * 7000)
    assert LIMIT_BYTES - 300 < place.stat().st_size <= LIMIT_BYTES
    text = place.read_text()
    assert text.startswith(line)
    assert text.endswith("é\n\nThe rest is left out: a summary holds 1 MiB.\n")
    job_summary.append(line)
    assert place.stat().st_size <= LIMIT_BYTES
