"""Cgroups as a watcher needs them: names of containers, keys, members."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.errors import InputError
from profiler.tracers.ebpf import cgroups

ID = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    "name", [ID, f"docker-{ID}.scope", f"libpod-{ID}", f"cri-containerd-{ID}.scope", f"crio-{ID}.scope", f"{ID}.scope"]
)
def test_container_ids(name: str) -> None:
    assert cgroups.container_name(name) == (ID.encode(), True)


@pytest.mark.parametrize(
    "name", ["web", f"libpod-conmon-{ID}.scope", f"x{ID}", ID[1:], ID.upper(), f"{ID}.slice", f"{ID}-"]
)
def test_other_names(name: str) -> None:
    assert cgroups.container_name(name) == (name.encode()[:63], False)


@given(st.text(min_size=1, max_size=255))
def test_any_name_fits(name: str) -> None:
    found, is_id = cgroups.container_name(name)
    assert len(found) <= cgroups.NAME_BYTES
    assert is_id == bool(re.fullmatch(rb"[0-9a-f]{64}", found))


def test_keys() -> None:
    places = cgroups.hierarchies()
    if not places:
        pytest.skip("no cgroup file system is mounted here")
    for place, number in places.items():
        assert number >= 0, place
        assert cgroups.key_of(place) == (os.stat(place).st_ino, number)


def test_no_cgroup(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        cgroups.key_of(str(tmp_path))


def test_descendants() -> None:
    assert os.getpid() in cgroups.descendants([os.getppid()])
    assert os.getppid() not in cgroups.descendants([os.getpid()])
    assert cgroups.descendants([1 << 22]) == {1 << 22}


def test_processes_in_what_is_gone(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "cgroup.procs").write_text("12\n0\n")
    (tmp_path / "below" / "cgroup.procs").write_text("13\n")
    assert sorted(cgroups.processes_in([str(tmp_path), str(tmp_path / "gone")])) == [12, 13]


def test_the_way_to_a_cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "hierarchies", lambda: {str(tmp_path): 0, f"{tmp_path}/v1/cpu": 3})
    (tmp_path / "v1/cpu/a").mkdir(parents=True)
    assert cgroups.components(f"{tmp_path}/v1/cpu/a/b") == ["a", "b"]
    assert cgroups.components(f"{tmp_path}/x/y") == ["x", "y"]
    assert cgroups.deepest(f"{tmp_path}/v1/cpu/a/b/c") == (f"{tmp_path}/v1/cpu/a", 1)
    assert cgroups.deepest(f"{tmp_path}/v1/cpu/a") == (f"{tmp_path}/v1/cpu/a", 1)
    assert cgroups.deepest(f"{tmp_path}/none/c") == (str(tmp_path), 0)
    with pytest.raises(InputError):
        cgroups.components("/elsewhere")


def test_who_has_a_number() -> None:
    before = time.monotonic_ns() - 20_000_000  # a start is told in ticks of 10 ms
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        assert cgroups.there(process.pid, time.monotonic_ns())
        assert not cgroups.there(process.pid, before)
    assert not cgroups.there(process.pid, time.monotonic_ns())
