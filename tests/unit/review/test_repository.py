"""Names of files from the root of a repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from profiler.review.repository import place


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory below the root of a repository, if there is one."""
    (tmp_path / "top/app").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "top/app")
    return tmp_path / "top"


@pytest.mark.parametrize("as_file", [False, True], ids=["a repository", "a worktree"])
def test_from_the_root_of_the_repository(directory: Path, as_file: bool) -> None:
    if as_file:
        (directory / ".git").write_text("gitdir: elsewhere\n")
    else:
        (directory / ".git").mkdir()
    assert place("profgen/policy.yaml") == "app/profgen/policy.yaml"
    assert place("./policy.yaml") == "app/policy.yaml"
    assert place("../policy.yaml") == "policy.yaml"
    assert place(str(directory / "other/policy.yaml")) == "other/policy.yaml"
    assert place("../../policy.yaml") == str(directory.parent / "policy.yaml")
    assert place("/dev/stdin") == "/dev/stdin"


def test_from_the_working_directory_without_one(directory: Path) -> None:
    assert place("a/policy.yaml") == "a/policy.yaml"
    assert place("../policy.yaml") == str(directory / "policy.yaml")
    assert place("") == ""
    assert place("a\0b") == "a\0b"


def test_a_working_directory_that_is_gone(directory: Path) -> None:
    (directory / "app").rmdir()
    assert place("policy.yaml") == "policy.yaml"
