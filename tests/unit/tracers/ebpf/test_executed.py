"""Programs as the kernel tells of them."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.tracers.ebpf.executed import Executed, executed_by, path_of
from profiler.tracers.ebpf.shared import structure
from profiler.tracers.paths import OWN_MOUNTS, Resolver
from profiler.wording import UNKNOWN


def told(**members: Any) -> Any:
    """A struct event; members with a path get their lengths."""
    event = structure("event")(tgid=1 << 22, tid=1 << 22)
    for name, value in members.items():
        if name in ("exe", "cwd", "root", "loader"):
            components = b"".join(part + b"\0" for part in reversed(value.strip(b"/").split(b"/")))
            getattr(event, name)[: len(components)] = components
            setattr(event, f"{name}_length", len(components))
        else:
            setattr(event, name, value)
    return event


def executed(event: Any) -> Executed:
    return executed_by(event, None, OWN_MOUNTS, Resolver())


def test_a_program() -> None:
    found = executed(told(exe=b"/usr/bin/ls", name=b"ls", argv0=b"ls\xff", uid=5, fsuid=5, generation=3))
    assert (found.path, found.interpreter, found.argv0, found.binary) == (
        "/usr/bin/ls",
        None,
        "ls\udcff",
        "/usr/bin/ls",
    )
    assert (found.state, found.own, found.local, found.loader, found.generation) == ("linked", True, True, None, 3)


def test_a_script() -> None:
    event = told(exe=b"/bin/dash", name=b"./run", argv0=b"sh", script=1, cwd=b"/srv/x", root=b"/srv", foreign=1)
    found = executed(event)
    assert (found.path, found.interpreter, found.name, found.cwd) == ("/x/run", "/bin/dash", "./run", "/srv/x")
    assert not found.local
    assert executed(told(exe=b"/bin/sh", name=b"/dev/fd/3", script=1)).path == "/bin/sh"


def test_loaders() -> None:
    loader = {"loader_known": 1, "loader": b"/lib/ld.so", "loader_uid": 7}
    assert executed(told(exe=b"/a", **loader, fsuid=7)).loader == ("/lib/ld.so", True)
    assert executed(told(exe=b"/a", **loader)).loader == ("/lib/ld.so", False)
    assert executed(told(exe=b"/a", loader_known=1)).loader == ("", True), "a static program"


def test_without_a_path() -> None:
    found = executed(told(name=b"x"))
    assert (found.path, found.binary) == (UNKNOWN, UNKNOWN)
    found = executed(told(exe=b"memfd:x", name=b"x", pseudo=1))
    assert (found.path, found.state) == ("memfd:x", "detached")


@pytest.mark.parametrize(
    ("members", "held", "reach"),
    [
        ({}, "/proc/self/fd/9", ("/", "/", "/")),
        ({"other_mounts": 1}, None, (f"/proc/{1 << 22}/root", "/", f"/proc/{1 << 22}/root")),
        ({"other_mounts": 1}, "/proc/self/fd/9", ("/proc/self/fd/9", "/", "/proc/self/fd/9")),
        ({"other_mounts": 1, "foreign": 1, "root": b"/r"}, "/h", (f"/proc/{1 << 22}/root", "/r", None)),
        ({"foreign": 1, "root": b"/r"}, None, ("/r", "/r", "/")),
    ],
)
def test_views(members: dict[str, Any], held: str | None, reach: tuple[str, str, str | None]) -> None:
    """How profgen reaches the root of a program: as its own, through the process, or by what is held of the session."""
    view = executed_by(told(exe=b"/a", name=b"a", **members), held, OWN_MOUNTS, Resolver()).view
    assert view is not None
    assert (view.root, view.root_path, view.top) == reach


@pytest.mark.parametrize(
    ("components", "path"),
    [
        (b"ls\0bin\0usr\0", "/usr/bin/ls"),
        (b"a b\0c\nd\0", "/c\nd/a b"),
        (b"\xff\xfe\0", "/\udcff\udcfe"),
        (b"", "/"),
        (b"\0", "/"),
        (b"memfd:x\0", "/memfd:x"),
    ],
)
def test_path_of(components: bytes, path: str) -> None:
    assert path_of(components) == path


@given(
    st.lists(
        st.binary(min_size=1, max_size=20).filter(lambda name: b"\0" not in name and b"/" not in name),
        min_size=1,
        max_size=8,
    )
)
def test_any_path(names: list[bytes]) -> None:
    written = b"".join(name + b"\0" for name in reversed(names))
    assert os.fsencode(path_of(written)) == b"/" + b"/".join(names)


def test_a_process_that_ends_while_its_file_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """What /proc/PID/exe does not tell any more is read from the path."""
    links = ["/usr/bin/ping"]

    def readlink(path: str) -> str:
        if not links:
            raise FileNotFoundError
        return links.pop()

    class Ended(Resolver):
        def read(self, view: Any, found: Any, what: str, work: Any) -> Any:
            return None if found.look.startswith("/proc/") else found.look

    monkeypatch.setattr("os.readlink", readlink)
    found = executed_by(told(exe=b"/usr/bin/ping", name=b"ping"), None, OWN_MOUNTS, Ended())
    assert found.capabilities == "/usr/bin/ping"  # type: ignore[comparison-overlap]
