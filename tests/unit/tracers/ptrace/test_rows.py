"""Rows of files, and what is remembered between calls."""

from __future__ import annotations

import errno
import os

import pytest

from profiler.tracers.paths import Found
from profiler.tracers.ptrace.rows import Exit, Rows
from profiler.tracers.ptrace.threads import Threads
from profiler.tracers.recording import Recording

ME = os.getpid()


@pytest.mark.parametrize(
    ("code", "outcome", "reached"),
    [(0, "ok", True), (errno.ENOENT, "ENOENT", True), (errno.EFAULT, "EFAULT", False), (errno.ENOSYS, "ENOSYS", False)],
)
def test_exits(code: int, outcome: str, reached: bool) -> None:
    exit = Exit(1, 0, code, 0, 0)
    assert (exit.outcome, exit.reached) == (outcome, reached)


def files(recording: Recording) -> set[tuple[object, ...]]:
    return set(recording._files)


def test_files_without_a_path_leave_no_row() -> None:
    recording = Recording("x86_64")
    rows = Rows(recording, Threads())
    rows.file(Exit(ME, 0, 0, 0, 0), "read", Found("pipe:[1]", "fifo"))
    assert not files(recording)
    assert not recording.losses["paths"]
    rows.file(Exit(ME, 0, 0, 0, 0), "read", Found("/x", "file", sure=False))
    assert not files(recording)
    assert recording.losses["paths"] == 1, "its path could not be known"


def test_owners() -> None:
    recording = Recording("x86_64")
    rows = Rows(recording, Threads())
    exit = Exit(ME, 0, 0, 0, 0)
    rows.file(exit, "read", Found("/mine", "file", os.geteuid()))
    rows.file(exit, "read", Found("/other", "file", os.geteuid() + 1))
    rows.file(exit, "read", Found("/unknown", "file"))
    rows.file(exit, "make", Found("/made", "unknown", os.geteuid() + 1), own=True, kind="file")
    rows.file(exit, "execute", Found("/before", "file", 5), fsuid=5)
    found = {key[0]: (key[2], use.owner) for key, use in recording._files.items()}
    assert found == {
        "/mine": ("file", {"self"}),
        "/other": ("file", {"other"}),
        "/unknown": ("file", set()),
        "/made": ("file", {"self"}),
        "/before": ("file", {"self"}),
    }


def test_what_was_seen_once() -> None:
    rows = Rows(Recording("x86_64"), Threads())
    assert not rows.seen(("list", 1))
    rows.once(("list", 1))
    assert rows.seen(("list", 1))
    assert not rows.seen(("list", 2))
