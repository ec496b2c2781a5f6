"""Bytecode that is kept: only ours is believed, and nothing that it may meet makes a recording fail."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from profiler import kept
from profiler.kept import KEPT
from profiler.tracers.ebpf import compiled as module
from profiler.tracers.ebpf.bpf import Shape
from profiler.tracers.ebpf.compiled import Compiled, compiled

_ADD = struct.pack("=BBhi", 0x07, 1, 0, 5)


def load(number: int, source: int = 1) -> bytes:
    """A load of 64 bits; ``source`` 1: of a map."""
    return struct.pack("=BBhi", 0x18, source << 4 | 2, 0, number) + struct.pack("=BBhi", 0, 0, 0, 7)


RESULT = Compiled(
    (Shape("counts", 1, 4, 8, 10, 0, "unsigned int", "tally"),),
    {"on_fork": _ADD + load(0) + _ADD, "on_exit": load(0, source=0)},
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "kept"
    monkeypatch.setattr(kept, "folder", lambda: folder)
    return folder


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The texts that were compiled, instead of compiling them."""
    seen: list[str] = []

    def compile_(bcc: ModuleType, source: str, flags: list[str]) -> Compiled:
        seen.append(source)
        return RESULT

    monkeypatch.setattr(module, "_compile", compile_)
    monkeypatch.setattr(module, "import_bcc", lambda: ModuleType("bcc"))
    return seen


def test_compiled_once(folder: Path, compilations: list[str]) -> None:
    for _ in range(3):
        assert compiled("text", ["-DA=1"]) == RESULT
    assert compilations == ["text"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_another_text_flag_or_compiler(folder: Path, compilations: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for version, text, flags in (
        ("1", "a", ["x"]),
        ("1", "b", ["x"]),
        ("1", "a", ["y"]),
        ("1", "a", ["x", "y"]),
        ("2", "a", ["x"]),
    ):
        monkeypatch.setattr(module, "bcc_version", lambda version=version: version)
        compiled(text, flags)
    assert len(compilations) == 5


def test_calls_of_kernel_functions() -> None:
    """By a number that no helper has; helpers, and calls of the program's own functions, stay what they are."""
    helper, function, own = (
        struct.pack("=BBhi", 0x85, 0, 0, 113),
        struct.pack("=BBhi", 0x85, 0, 0, 65_486),
        struct.pack("=BBhi", 0x85, 1 << 4, 0, 5000),
    )
    code = Compiled((), {"on_fork": helper + function + own}).code("on_fork", [])
    assert code == helper + struct.pack("=BBhi", 0x85, 2 << 4, 0, 65_486) + own


@pytest.mark.parametrize("damage", ["empty", "short", "nonsense", "other", "deep", "fifo", "link", "writable"])
def test_not_believed(damage: str, folder: Path, compilations: list[str], tmp_path: Path) -> None:
    """A file that is not whole, not a file of ours, or that others may write: compiled again, and kept anew."""
    compiled("text", [])
    (path,) = folder.iterdir()
    content = path.read_bytes()
    texts = {
        "empty": b"",
        "short": content[: len(content) // 2],
        "nonsense": b"{}",
        "other": b"[1]",
        "deep": b"[" * 100_000,
    }
    if damage in texts:
        path.write_bytes(texts[damage])
    elif damage == "writable":
        path.chmod(0o622)
    else:
        path.unlink()
        elsewhere = tmp_path / "elsewhere"
        elsewhere.write_bytes(content)
        os.mkfifo(path) if damage == "fifo" else path.symlink_to(elsewhere)
    assert compiled("text", []) == RESULT
    assert compilations == ["text", "text"]
    assert compiled("text", []) == RESULT
    assert compilations == ["text", "text"]
    assert path.read_bytes() == content
    assert not path.is_symlink()


@pytest.mark.parametrize("place", ["writable", "link", "file", "missing above"])
def test_folder_of_others(
    place: str, folder: Path, compilations: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is read from it and nothing written to it."""
    if place == "writable":
        folder.mkdir()
        folder.chmod(0o777)
    elif place == "link":
        (tmp_path / "theirs").mkdir()
        folder.symlink_to(tmp_path / "theirs")
    elif place == "file":
        folder.touch()
    else:
        monkeypatch.setattr(kept, "folder", lambda: tmp_path / "no" / "such")
    for _ in range(2):
        assert compiled("text", []) == RESULT
    assert compilations == ["text", "text"]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path != folder]


def test_bounded(folder: Path, compilations: list[str]) -> None:
    """What was used last stays."""
    for number in range(KEPT + 5):
        compiled(f"text {number}", [])
        for path in folder.iterdir():  # an hour goes by
            used = path.stat().st_mtime
            os.utime(path, (used - 3600, used - 3600))
        compiled("text 0", [])
    assert len(list(folder.iterdir())) == KEPT
    assert compilations == [f"text {number}" for number in range(KEPT + 5)]


def test_maps_in_the_code() -> None:
    """Loads of maps, and no other load, get the descriptors; their second half is not an instruction."""
    assert RESULT.code("on_fork", [77]) == _ADD + load(77) + _ADD
    assert RESULT.code("on_exit", [77]) == load(0, source=0)
