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
from inputs import examples
from wandering import CALLS, MOUNTS, NAMES, Step, wander

from profiler.kernel.files import file_uses
from profiler.tracers.ptrace.threads import CHANGES, Threads, read_credentials

TESTS = Path(__file__).parents[3]
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def steps(operations: list[str], most: int) -> st.SearchStrategy[list[Step]]:
    names = st.sampled_from(NAMES)
    return st.lists(st.tuples(st.sampled_from(operations), names, names), min_size=1, max_size=most)


@settings(max_examples=examples(60))
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
def test_a_look_is_sure_only_of_what_is_there(
    call: str, link: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in a directory that was looked at before, whose beginning is then known for a second."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    (use,) = file_uses()[call]
    threads = Threads(lambda loss: None)
    monkeypatch.setattr(threads.paths, "epoch", lambda: 1)  # the second does not pass

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


@pytest.mark.parametrize("groups", [[], [7], [*range(2000)]], ids=["none", "one", "many"])
@root_only
def test_credentials_of_a_process(groups: list[int]) -> None:
    """They are what the process says itself, whatever its name, and with a list of groups of any length."""
    script = f"""if True:
        import os, sys
        with open("/proc/self/comm", "w") as comm:
            comm.write("Uid: 0\\nGid: 0")
        os.setgroups({groups})
        os.setresgid(1, 2, 3)
        os.setresuid(4, 5, 6)
        print("ready", flush=True)
        sys.stdin.read()
    """
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script], text=True, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "ready\n"
        found = read_credentials(process.pid)
        process.stdin.close()
    assert found is not None
    assert (found.uids, found.gids, found.groups) == ((4, 5, 6, 5), (1, 2, 3, 2), frozenset(groups))
    assert (found.effective, found.namespace) == (0, os.readlink("/proc/self/ns/user"))
    assert found.sets.permitted == 0
    assert found.bounding == read_credentials(os.getpid()).bounding  # type: ignore[union-attr]
    assert read_credentials(process.pid) is None, "it has ended"
