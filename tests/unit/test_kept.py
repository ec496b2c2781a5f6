"""What one recording keeps for the next ones (test_compiled.py has the rest)."""

from __future__ import annotations

from pathlib import Path

import pytest

from profiler import kept
from profiler.kept import Answers


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "kept"
    monkeypatch.setattr(kept, "folder", lambda: folder)
    return folder


def test_answers_hold_for_one_kernel(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    for content, known in ((b"one", {}), (b"two", {}), (b"one", {"size": 8}), (b"", {})):
        notes.write_bytes(content)
        answers = Answers(str(notes), int)
        assert answers.known == known
        answers.known["size"] = 8
        answers.keep()
    assert Answers(str(tmp_path / "missing"), int).known == {}


def test_answers_of_another_kind_are_not_believed(tmp_path: Path, folder: Path) -> None:
    notes = tmp_path / "notes"
    notes.write_bytes(b"x")
    answers = Answers(str(notes), int)
    answers.known["size"] = 8
    answers.keep()
    (path,) = folder.iterdir()
    for text in ('{"size": "8"}', "[]", '{"size": true}', "{"):
        path.write_text(text)
        assert Answers(str(notes), int).known == {}


def test_nothing_new_is_not_written(tmp_path: Path, folder: Path) -> None:
    notes = tmp_path / "notes"
    notes.write_bytes(b"x")
    Answers(str(notes), str).keep()
    assert not folder.exists() or not list(folder.iterdir())
