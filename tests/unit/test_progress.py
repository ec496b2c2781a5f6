"""Waits that are explained."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from profiler import progress, run
from profiler.progress import busy, tell_with


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    lines: list[str] = []
    tell_with(lines.append)
    monkeypatch.setattr(progress, "SECONDS", 0.05)
    yield lines
    tell_with(None)


def test_a_long_wait_is_told_once(said: list[str]) -> None:
    told, before = threading.Event(), threading.active_count()
    tell_with(lambda what: (said.append(what), told.set())[0])
    with busy("counting sheep"):
        assert told.wait(60)
    assert said == ["counting sheep"]
    assert threading.active_count() == before


def test_a_short_wait_is_silent(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS", 600.0)
    before = threading.active_count()
    with pytest.raises(KeyError), busy("counting sheep"):
        raise KeyError
    assert said == []
    assert threading.active_count() == before


def test_other_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[str] = []
    monkeypatch.setattr(run, "busy", lambda what: (waits.append(what), busy(what))[1])
    run.ask(["true"])
    run.ask(["sh", "-c", ":"], doing="creating the container")
    assert waits == ["waiting for true", "creating the container"]


def test_nothing_is_told_unless_somebody_listens() -> None:
    before = threading.active_count()
    with busy("counting sheep"):
        assert threading.active_count() == before
