"""Which search a journal belongs to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from profiler.minimise.digest import digest
from profiler.minimise.trial import Test
from profiler.policy.model import Allowed, Policy
from profiler.policy.model import Workload as PolicyWorkload
from profiler.tracers.base import Workload

POLICY = Policy(
    PolicyWorkload(("app",), 0),
    ("x86_64",),
    True,
    "none",
    (Allowed("observed", "x86_64", "read"),),
)


@pytest.fixture
def test(tmp_path: Path) -> Test:
    (tmp_path / "test.sh").write_text("true\n")
    return Test(Workload(("sh", "test.sh"), "/bin/sh", {}, str(tmp_path), None, frozenset()))


def test_the_same_search_has_the_same_digest(test: Test) -> None:
    assert digest(POLICY, test, None) == digest(POLICY, replace(test), None)


def test_what_changes_a_result_changes_the_digest(test: Test, tmp_path: Path) -> None:
    first = digest(POLICY, test, None)
    changed = {
        digest(replace(POLICY, no_new_privs=False), test, None),
        digest(POLICY, test, 5.0),
        digest(POLICY, replace(test, load=test.command), None),
        digest(POLICY, replace(test, check=test.command), None),
        digest(POLICY, replace(test, command=replace(test.command, user=(1, 1, (1,)))), None),
    }
    (tmp_path / "test.sh").write_text("false\n")
    changed.add(digest(POLICY, test, None))
    assert len(changed | {first}) == 7


@pytest.mark.parametrize("word", ["no-such-file", "a\0b", ".", "x" * 5000])
def test_a_word_need_not_name_a_file(word: str, test: Test) -> None:
    assert digest(POLICY, replace(test, command=replace(test.command, argv=("sh", word))), None)
