"""What may be a refusal of Landlock, and what the kernel refuses anyway."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from profiler.enforce import refusals
from profiler.enforce.refusals import _Process
from profiler.trace.model import File, Signal, Socket

ROOT, USER = _Process((0,) * 4, frozenset({0}), (1 << 41) - 1), _Process((1234,) * 4, frozenset({1234}), 0)


def file(path: Path | str, access: str, error: str = "EACCES", kind: str = "file") -> File:
    return File(str(path), access, kind, "linked", {error: 1}, frozenset(), frozenset(), 0.0, 0.0, (), None)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory that others can enter, with what they can and cannot use."""
    for name, mode in (("public", 0o644), ("private", 0o600)):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "access", "expected"),
    [
        ("public", "read", False),
        ("public", "write", True),
        ("private", "read", True),
        ("missing", "create", True),
        ("public", "create", False),
        ("public", "remove", True),
        ("public", "execute", True),
    ],
)
def test_permissions(name: str, access: str, expected: bool, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes = refusals._mode_refuses
    # pytest's own directories above are closed to others.
    monkeypatch.setattr(
        refusals, "_mode_refuses", lambda path, *rest: path.startswith(str(place)) and modes(path, *rest)
    )
    place.chmod(0o755)
    assert refusals._permissions_refuse(file(place / name, access), USER) is expected
    assert not refusals._permissions_refuse(file(place / name, access), ROOT)


def test_errors_that_landlock_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "_process", lambda tid: ROOT)
    assert refusals.may_be(file("/x", "read"), 1)
    assert refusals.may_be(file("/x", "rename_to", "EXDEV"), 1)
    assert not refusals.may_be(file("/x", "read", "ENOENT"), 1)
    assert not refusals.may_be(file("/x", "mode"), 1), "Landlock has no right for it"
    bound = Socket("inet", "stream", 6, "bind", 80, None, {"EACCES": 1}, frozenset(), 0.0, 0.0)
    assert refusals.may_be(bound, 1)


@pytest.mark.parametrize(
    ("sender", "target", "expected"),
    [
        (USER, USER, True),
        (USER, ROOT, False),
        (ROOT, USER, True),
        (replace(ROOT, effective=0), USER, False),
        (replace(USER, uids=(1234, 0, 0, 0)), ROOT, True),
        (USER, replace(ROOT, uids=(0, 0, 1234, 0)), True),
        (USER, replace(ROOT, uids=(0, 1234, 0, 1234)), False),
        (USER, None, False),
    ],
)
def test_whom_a_user_may_signal(
    sender: _Process, target: _Process | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As kill(2) says: real or effective id of the sender, real or saved id of the target."""
    monkeypatch.setattr(refusals, "_targets", lambda tid: iter([2]))
    monkeypatch.setattr(refusals, "_process", {1: sender, 2: target}.get)
    assert refusals.may_be(Signal("TERM", "outside", {"EPERM": 1}, frozenset()), 1) is expected


def test_the_process_is_read() -> None:
    found = refusals._process(os.getpid())
    assert found is not None
    assert found.uid == os.geteuid()
    assert os.getegid() in found.groups
    assert refusals._process(1 << 30) is None
