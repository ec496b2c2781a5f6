"""Control groups by name: in hierarchies of either version, of containers by any engine's naming."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from executables import write_program
from hypothesis import given
from hypothesis import strategies as st

from profiler.engines import cgroups
from profiler.engines.cgroups import Hierarchy
from profiler.errors import InputError

ID = "69f588c66af27b98cb1ae5bc338dc3ef6fcee431cc5dbda8b5305d6da74e19f2"

HYBRID = r"""
25 20 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
26 25 0:23 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpuacct,cpu
27 25 0:24 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/lib/systemd/agent,name=systemd
28 25 0:25 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
29 25 0:25 /docker/x /mnt/a\040b rw - cgroup2 cgroup2 rw
30 25 0:26 / /proc rw - proc proc rw
"""


def test_hierarchies() -> None:
    assert cgroups.hierarchies(HYBRID) == (
        Hierarchy("/sys/fs/cgroup/cpu", "cpu,cpuacct"),
        Hierarchy("/sys/fs/cgroup/systemd", "name=systemd"),
        Hierarchy("/sys/fs/cgroup/unified", ""),
    )
    over = HYBRID + "31 25 0:25 / /sys/fs/cgroup rw - cgroup2 none rw\n"
    assert cgroups.hierarchies(over) == (Hierarchy("/sys/fs/cgroup", ""),), "what was mounted over is not to be reached"
    part = "29 25 0:25 /docker/x /mnt/a\\040b rw - cgroup2 cgroup2 rw"
    assert cgroups.hierarchies(part) == (Hierarchy("/mnt/a b", "", "/docker/x"),)


@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    cgroups.hierarchies(text)
    cgroups.paths(text)
    cgroups.container_of(text)


def test_paths() -> None:
    text = "9:name=systemd:/a\n3:cpuacct,cpu:/docker/x:y\n0::/b\n1:odd\nx:cpu:/c\n"
    assert cgroups.paths(text) == {"name=systemd": "/a", "cpu,cpuacct": "/docker/x:y", "": "/b"}
    assert cgroups.path_of(os.getpid())
    assert cgroups.path_of(1 << 22 | 1) is None


@pytest.fixture
def two(tmp_path: Path) -> tuple[Hierarchy, Hierarchy]:
    for name in ("cpu/app/x", "unified/app", "unified/only"):
        (tmp_path / name).mkdir(parents=True)
    return Hierarchy(f"{tmp_path}/cpu", "cpu"), Hierarchy(f"{tmp_path}/unified", "")


def test_directories(two: tuple[Hierarchy, Hierarchy], tmp_path: Path) -> None:
    both = (f"{tmp_path}/cpu/app", f"{tmp_path}/unified/app")
    for name in ("/app", "app", "/app/", f"{tmp_path}/cpu/app", f"{tmp_path}/unified/app/"):
        assert cgroups.directories(name, two) == both
    assert cgroups.directories("/only", two) == (f"{tmp_path}/unified/only",)
    assert cgroups.directories("/app/x", two) == (f"{tmp_path}/cpu/app/x",)
    part = Hierarchy(f"{tmp_path}/cpu", "cpu", "/outer")
    assert cgroups.directories("/outer/app", [part]) == (f"{tmp_path}/cpu/app",)
    assert cgroups.directories(f"{tmp_path}/cpu/app", [part]) == (f"{tmp_path}/cpu/app",)
    for name in ("/", "", f"{tmp_path}/cpu", "/none", "/app2", "/outerx/app"):
        with pytest.raises(InputError):
            cgroups.directories(name, two)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"/docker/{ID}", ("docker", ID)),
        (f"/system.slice/docker-{ID}.scope", ("docker", ID)),
        (f"/machine.slice/libpod-{ID}.scope/container", ("podman", ID)),
        (f"/libpod_parent/libpod-{ID}", ("podman", ID)),
        (f"/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope", ("cri", ID)),
        (f"/kubepods/besteffort/pod1/{ID}", (None, ID)),
        (f"/user.slice/nerdctl-{ID}.scope", ("nerdctl", ID)),
        (f"/docker/{ID}/docker/{'0' * 64}", ("docker", ID)),
        (f"/machine.slice/libpod-conmon-{ID}.scope", None),
        (f"/a{ID}", None),
        (f"/docker/{ID[:63]}", None),
        ("/", None),
    ],
)
def test_container_of(path: str, expected: object) -> None:
    assert cgroups.container_of(path) == expected


def unit(directory: Path, text: str) -> Path:
    return write_program(directory / "systemctl", "#!/bin/sh\n" + text)


def test_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What systemd answers; tests/system asks a real one."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="systemctl is not installed"):
        cgroups.unit_group("redis")
    unit(tmp_path, 'echo LoadState=loaded; echo "ControlGroup=/system.slice/$4"')
    assert cgroups.unit_group("redis") == "/system.slice/redis.service"
    assert cgroups.unit_group("a.scope") == "/system.slice/a.scope"
    unit(tmp_path, "echo LoadState=not-found; echo ControlGroup=")
    with pytest.raises(InputError, match=r"no unit redis\.service"):
        cgroups.unit_group("redis")
    unit(tmp_path, "echo not running >&2; exit 1")
    with pytest.raises(InputError, match="not running"):
        cgroups.unit_group("redis")
    for name in ("", "-p", "a/b"):
        with pytest.raises(InputError, match="not the name"):
            cgroups.unit_group(name)


def test_places(two: tuple[Hierarchy, Hierarchy], tmp_path: Path) -> None:
    """Of a group that may not be there yet."""
    later = (f"{tmp_path}/cpu/later/x", f"{tmp_path}/unified/later/x")
    for path in ("/later/x", "later//x/", f"{tmp_path}/unified/later/x"):
        assert cgroups.places(path, two) == later
    assert cgroups.places("/app", (Hierarchy(f"{tmp_path}/unified", "", "/app"), two[0])) == (
        f"{tmp_path}/unified",
        f"{tmp_path}/cpu/app",
    )
    for path in ("/", f"{tmp_path}/unified", "/a/.."):
        with pytest.raises(InputError, match="the root cgroup"):
            cgroups.places(path, two)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("-.slice", ""),
        ("system.slice", "/system.slice"),
        ("a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice"),
        ("system-foo\\x2dbar.slice", "/system.slice/system-foo\\x2dbar.slice"),
    ],
)
def test_slices(name: str, path: str) -> None:
    assert cgroups.slice_path(name) == path


def test_where_a_unit_will_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit(
        tmp_path,
        'case "$*" in\n"show --property=ControlGroup") echo ControlGroup=/box;;\n'
        "*run.service) echo ControlGroup=/there/run.service;;\n"
        "*) echo Id=app@1.service; echo Slice=system-app.slice; echo ControlGroup=;;\nesac\n",
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert cgroups.unit_place("app@1") == "/box/system.slice/system-app.slice/app@1.service"
    assert cgroups.unit_place("run") == "/there/run.service"
