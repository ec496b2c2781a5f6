"""Sizes of the kernel's stores."""

from __future__ import annotations

import pytest

from profiler.errors import InputError
from profiler.tracers.ebpf.limits import DEFAULT_LIMITS, RINGS, STORES, WATCH_LIMITS, limits_with


def test_limits() -> None:
    assert limits_with({}) == DEFAULT_LIMITS
    assert limits_with({"tasks": 5}) == {**DEFAULT_LIMITS, "tasks": 5}
    assert limits_with({"programs": 1})["programs"] == 3
    assert limits_with({"events": 2})["events"] == 2
    assert limits_with({"tasks": 5}, WATCH_LIMITS | {"tasks": 1}) == {**WATCH_LIMITS, "tasks": 5}
    before = dict(DEFAULT_LIMITS)
    limits_with({"tasks": 1})
    assert before == DEFAULT_LIMITS


@pytest.mark.parametrize(
    "given_limits",
    [{"nonsense": 1}, {"": 1}, {"TASKS": 1}, {"events": 3}, {"events": 1000}, {"paths": 3}, {"\x1b[2J": 1}],
)
def test_bad_limits(given_limits: dict[str, int]) -> None:
    with pytest.raises(InputError) as caught:
        limits_with(given_limits)
    assert str(caught.value).isprintable()
    assert caught.value.exit_code == 2


def test_a_limit_with_a_slip() -> None:
    with pytest.raises(InputError, match=r"no limit is named 'taks' \(did you mean tasks\?\); there are: "):
        limits_with({"taks": 1})


def test_every_limit_has_a_store() -> None:
    assert {*RINGS, *STORES, *WATCH_LIMITS} == set(DEFAULT_LIMITS)
