"""Where there cannot be a view, nothing is started."""

from __future__ import annotations

import importlib.util

import pytest

from profiler.errors import InputError, ProgramError
from profiler.live.process import need_terminal


def test_without_textual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ProgramError, match="the live view needs the Python package textual") as caught:
        need_terminal()
    assert caught.value.command == "pip install '.[live]'"


@pytest.mark.parametrize("name", ["dumb", None])
def test_a_terminal_that_cannot_draw(name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.delenv("TERM", raising=False) if name is None else monkeypatch.setenv("TERM", name)
    with pytest.raises(InputError, match="TERM"):
        need_terminal()
