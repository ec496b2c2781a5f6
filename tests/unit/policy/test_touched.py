"""What became of each path of a trace."""

from __future__ import annotations

import pytest
from unit.policy.making import file, touching, uses

from profiler.policy.model import OUTCOMES
from profiler.policy.touched import base_pattern, touched


def outcome(*files: object) -> str:
    (item,) = touched(touching(*files)).values()  # type: ignore[arg-type]
    return item.outcome


@pytest.mark.parametrize(
    ("errors", "became"),
    [
        ({"ENOENT": 3}, "missing"),
        ({"ENOENT": 1, "ENOTDIR": 1}, "missing"),
        ({"EACCES": 1}, "refused"),
        ({"ENOENT": 1, "EPERM": 1}, "refused"),
        ({"ENOENT": 1, "ok": 1}, "needed"),
        ({"ENXIO": 1}, "needed"),
        ({"EEXIST": 1}, "refused"),
    ],
)
def test_what_became_of_it(errors: dict[str, int], became: str) -> None:
    assert outcome(file("/srv/x", "write", errors, kind="unknown")) == became
    assert became in OUTCOMES


def test_errors_after_the_check_need_the_right() -> None:
    assert outcome(file("/srv/d", "remove", "EISDIR")) == "needed"
    assert outcome(file("/srv/e", "write", "EISDIR")) == "refused"


def test_looks_that_failed() -> None:
    assert outcome(file("/srv/x", "look", "ENOENT", kind="unknown")) == "missing"
    assert outcome(*uses("/srv/y", "look read", results="ENOENT")) == "missing"
    assert outcome(file("/srv/x", "look", "EACCES")) == "refused"
    assert outcome(file("/srv/x", "look")) == "checked"


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("/proc/5028/fd/5", "/proc/{pid}/fd/{digits}"),
        ("/oldroot/proc/5028/fd/5", "/oldroot/proc/{pid}/fd/{digits}"),
        ("/oldroot/proc/5028/task/5030/status", "/oldroot/proc/{pid}/task/{tid}/status"),
        ("/oldroot/proc/sys/12", "/oldroot/proc/sys/12"),
        ("/srv/proc/x/5028", "/srv/proc/x/5028"),
        ("/srv/5028/proc/7", "/srv/5028/proc/7"),
        ("/processes/5028", "/processes/5028"),
    ],
)
def test_numbers_of_processes(path: str, pattern: str) -> None:
    """Below every /proc: a sandbox sees that of the outside below a directory of its own."""
    assert base_pattern(path) == pattern
