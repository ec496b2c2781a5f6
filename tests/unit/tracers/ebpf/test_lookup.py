"""Which file an event means, once what it named may be gone."""

from __future__ import annotations

import os
import subprocess
from types import SimpleNamespace
from typing import Any, cast

import pytest

from profiler.tracers.ebpf import lookup
from profiler.tracers.ebpf.events import Event
from profiler.tracers.paths import Found, Memory, Resolver


@pytest.mark.parametrize(
    ("base", "text", "path"),
    [
        ("/a", "b", "/a/b"),
        ("/", "b//c/.", "/b/c"),
        ("/a/b", "", "/a/b"),
        ("/", ".", "/"),
        ("/a", "\udcff", "/a/\udcff"),
    ],
)
def test_joined(base: str, text: str, path: str) -> None:
    assert lookup.joined(base, text) == path


def test_a_root_is_found_through_who_has_it_now() -> None:
    """A process that has changed its root since does not stand for the one it had."""
    roots = lookup.Roots()
    me = os.getpid()
    assert roots.find(1, me, "/", True) == f"/proc/{me}/root/."
    assert roots.find(2, me, "/usr", False) == f"/proc/{me}/root/."
    assert roots.find(3, me, "/usr", True) is None
    assert roots.find(4, me, "/", False) is None
    assert roots.find(5, me, None, True) is None, (
        "a process among profgen's own mounts is none of a container that is gone"
    )
    roots.pivoted[4] = "/srv/root"
    assert roots.find(4, me, "/", False) == "/srv/root"
    assert roots.find(1, 0, "/", True) == f"/proc/{me}/root/.", "one that has ended (or never was) is passed over"


@pytest.mark.parametrize("state", [None, "linked", "deleted"])
def test_proc_of_a_process_that_has_ended(state: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own directory below /proc was there, and its own, when it looked: read afterwards, nothing of it is left. Not
    even when it ends while profgen is about to look (``state``: of what is found then).
    """
    ended = subprocess.Popen(["true"])
    ended.wait()
    reader = SimpleNamespace(recording=None, abis=("x86_64",), root=None, gone=False, resolver=Resolver(Memory()))
    seen = lookup.Lookup(cast(Any, None), cast(Any, reader))
    event = Event(
        b"", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, fsuid=12,
        tgid=ended.pid, tid=ended.pid, own_tgid=ended.pid, own_tid=ended.pid,
        texts=(b"/proc/self/exe\0", None, None), paths=(None, None, None, None),
    )  # fmt: skip
    if state is not None:
        half = Found(f"/proc/{ended.pid}/exe", state=state, exists=False, sure=True)
        monkeypatch.setattr(seen.resolver, "resolve", lambda *_, **__: half)
    found = seen.find(event, 0, follow=False)
    assert found is not None
    assert (found.path, found.state, found.uid, found.sure) == (f"/proc/{ended.pid}/exe", "linked", 12, True)
