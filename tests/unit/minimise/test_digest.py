"""Which search a journal belongs to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from profiler.minimise.digest import digest
from profiler.minimise.entries import KINDS, Choice
from profiler.minimise.trial import Test
from profiler.tracers.base import Workload

POLICY = b"schema: profgen.policy/1\n"


def made(
    test: Test,
    policy: bytes = POLICY,
    choice: Choice | None = None,
    checked: tuple[str, ...] = (),
    repeat: int = 3,
    timeout: float | None = None,
) -> str:
    return digest(policy, test, choice or Choice(), checked, repeat, timeout)


@pytest.fixture
def test(tmp_path: Path) -> Test:
    (tmp_path / "test.sh").write_text("true\n")
    return Test(Workload(("sh", "test.sh"), "/bin/sh", {}, str(tmp_path), None, frozenset()))


def test_the_same_search_has_the_same_digest(test: Test) -> None:
    assert made(test) == made(replace(test))


def test_what_changes_a_result_changes_the_digest(test: Test, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = [
        made(test),
        made(test, POLICY + b"# a comment\n"),
        made(test, timeout=5.0),
        made(test, repeat=1),
        made(test, checked=("CAP_CHOWN",)),
        *(made(test, choice=Choice(frozenset({kind}))) for kind in KINDS),
        made(test, choice=Choice(equivalents=False)),
        made(test, choice=Choice(reviewers=True)),
        made(test, choice=Choice(untestable=True)),
        made(replace(test, load=test.command)),
        made(replace(test, check=test.command)),
        made(replace(test, command=replace(test.command, user=(1, 1, (1,))))),
    ]
    (tmp_path / "test.sh").write_text("false\n")
    digests.append(made(test))
    monkeypatch.setattr("platform.release", lambda: "1.0")
    digests.append(made(test))
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("word", ["no-such-file", "a\0b", ".", "x" * 5000])
def test_a_word_need_not_name_a_file(word: str, test: Test) -> None:
    assert made(replace(test, command=replace(test.command, argv=("sh", word))))
