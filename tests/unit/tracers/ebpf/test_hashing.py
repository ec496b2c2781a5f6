"""Hashes of programs under another root: the right file, nothing outside of the root, and never an error."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from profiler.tracers.ebpf import hashing
from profiler.tracers.ebpf.executed import Executed
from profiler.tracers.ebpf.hashing import Hashes
from profiler.tracers.paths import View

GONE = 2**22 + 1
"""More than any process has (PID_MAX_LIMIT, linux/threads.h)."""


def executed(root: Path, path: str, interpreter: str | None = None, **fields: object) -> Executed:
    return Executed(path, interpreter, None, path, view=View(GONE, GONE, str(root)), local=False, **fields)  # type: ignore[arg-type]


def test_the_file_in_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin/tool").write_bytes(b"inside")
    (tmp_path / "outside").write_bytes(b"outside")
    (root / "bin/out").symlink_to("../../outside")
    (root / "bin/up").symlink_to("/bin/tool")
    (root / "bin/proc").symlink_to("/proc/self/exe")
    os.mkfifo(root / "bin/pipe")
    names = ["tool", "up", "out", "proc", "pipe", "none", "", "\0"]
    hashes = Hashes()
    for name in names:
        hashes.want(1, executed(root, f"/bin/{name}", "/bin/sh"))
    hashes.want(2, executed(root, "/bin/tool", state="deleted"))
    hashes.want(2, executed(root, "memfd:x"))
    hashes.settle(10)
    inside = hashlib.sha256(b"inside").hexdigest()
    assert hashes.of(1) == {("/bin/tool", "/bin/sh"): (inside, None), ("/bin/up", "/bin/sh"): (inside, None)}
    assert hashes.of(2) == {}
    # Another file under the same path: neither hash is true of both.
    (root / "bin/new").write_bytes(b"other")
    (root / "bin/new").rename(root / "bin/tool")
    hashes.want(1, executed(root, "/bin/tool", "/bin/sh"))
    hashes.settle(10)
    assert hashes.of(1)["/bin/tool", "/bin/sh"] == (None, None)
    hashes.forget(1)
    assert hashes.of(1) == {}
    hashes.close()


def test_what_a_process_runs_is_the_very_file(tmp_path: Path) -> None:
    own = os.readlink("/proc/self/exe")
    place = tmp_path / own.lstrip("/")
    place.parent.mkdir(parents=True)
    place.write_bytes(b"another file of this path")
    hashes = Hashes()
    view = View(os.getpid(), os.getpid(), str(tmp_path))
    hashes.want(1, Executed(own, None, None, own, view=view, local=False))
    hashes.settle(10)
    ((sha256, _),) = hashes.of(1).values()
    assert sha256 == hashlib.sha256(Path(own).read_bytes()).hexdigest()
    hashes.close()


def test_so_many_and_so_large_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "PENDING_MAX", 0)
    monkeypatch.setattr(hashing, "HASH_LIMIT_BYTES", 3)
    (tmp_path / "tool").write_bytes(b"four")
    (tmp_path / "small").write_bytes(b"3")
    hashes = Hashes()
    hashes.want(1, executed(tmp_path, "/small"))
    monkeypatch.setattr(hashing, "PENDING_MAX", 1)
    hashes.want(1, executed(tmp_path, "/tool"))
    hashes.settle(10)
    assert hashes.of(1) == {}
    hashes.want(1, executed(tmp_path, "/small"))
    hashes.settle(10)
    assert len(hashes.of(1)) == 1
    hashes.close()
