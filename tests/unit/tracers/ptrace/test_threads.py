"""What is remembered of directories is what a fresh look-up finds, whatever the workload has changed."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wandering import CALLS, MOUNTS, NAMES, Step, wander

from profiler.kernel.files import file_uses
from profiler.tracers.ptrace.threads import CHANGES, Threads

TESTS = Path(__file__).parents[3]
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def steps(operations: list[str], most: int) -> st.SearchStrategy[list[Step]]:
    names = st.sampled_from(NAMES)
    return st.lists(st.tuples(st.sampled_from(operations), names, names), min_size=1, max_size=most)


@settings(max_examples=60)
@given(steps(list(CALLS), 12))
def test_changes_of_files(taken: list[Step]) -> None:
    here = os.open(".", os.O_RDONLY)
    try:
        with TemporaryDirectory() as folder:
            base = Path(folder).resolve() / "top"
            base.mkdir()
            os.chdir(base)
            assert wander(base, taken) == []
            os.fchdir(here)
    finally:
        os.fchdir(here)
        os.close(here)


@root_only
@settings(max_examples=8)
@given(steps([*CALLS, *MOUNTS], 20))
def test_changes_of_mounts(taken: list[Step]) -> None:
    with TemporaryDirectory() as folder:
        base = Path(folder).resolve() / "top"
        base.mkdir()
        command = ["unshare", "--mount", sys.executable, str(TESTS / "wandering.py"), str(base), json.dumps(taken)]
        path = f"{TESTS.parent}:{TESTS}"
        done = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=300
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("call", "link"), [("stat", False), ("lstat", True)])
def test_a_look_is_sure_only_of_what_is_there(call: str, link: bool, tmp_path: Path) -> None:
    """Also in a directory that was looked at before, whose beginning is then known."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    (use,) = file_uses()[call]
    threads = Threads(lambda loss: None)

    def sees(name: str) -> bool:
        text = ctypes.create_string_buffer(os.fsencode(tmp_path / name))
        threads.stopped()
        return threads.sees(os.getpid(), use, (ctypes.addressof(text), 0, 0, 0, 0, 0))

    names = ("file", "nothing", "link", "file", "nothing")
    assert [sees(name) for name in names] == [True, False, link, True, False]


def test_calls_that_make_something_change_no_way() -> None:
    """A way that exists does not pass what is missing."""
    assert {name for name, uses in file_uses().items() if {use.access for use in uses} == {"make"}}.isdisjoint(CHANGES)
    assert {"renameat2", "unlinkat", "fchmodat", "fchown", "setxattr", "mount", "chroot"} <= CHANGES
