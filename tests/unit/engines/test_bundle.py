"""The bundle of a container: found through the process that holds it, and read whatever is in it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from unit.engines.test_pods import CONTAINERD, CRI_O, POD

from profiler.engines import bundle, cgroups

ID = "ab" * 32


def write(directory: Path, annotations: object, **config: object) -> Path:
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps({"annotations": annotations, **config}))
    return directory


@contextmanager
def held(directory: Path, *words: str) -> Iterator[int]:
    """The process of a container: the child of one in this directory with these words on its command line."""
    script = "sleep 600 & echo $!; read line; kill $!"
    with subprocess.Popen(
        ["sh", "-c", script, *words], cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.communicate("\n", timeout=60)


@pytest.fixture(autouse=True)
def _no_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "_USUAL", ())


def test_read(tmp_path: Path) -> None:
    process = {"args": ["nginx"], "user": {"uid": 33, "gid": 44}, "noNewPrivileges": True}
    found = bundle.read(ID, str(write(tmp_path / "b", {**CONTAINERD, "odd": 1}, process=process)))
    assert found is not None
    assert (found.container.pod, found.container.engine, found.container.id) == (POD, "containerd", ID)
    assert (found.container.command, found.container.user, found.container.no_new_privs) == (("nginx",), "33:44", True)
    assert (found.pid, found.status, found.pause) == (0, None, False)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "[" * 100_000, '{"a": "' + "x" * (2 << 20) + '"}'])
def test_unreadable(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    assert bundle.read(ID, str(tmp_path)) is None


def test_annotations_of_other_types(tmp_path: Path) -> None:
    found = bundle.read(ID, str(write(tmp_path / "b", ["x"])))
    assert found is not None
    assert found.container.pod is None


@pytest.mark.parametrize("identity", ["", ".", "..", "../x", "/etc"])
def test_hostile_ids(identity: str) -> None:
    assert bundle.find(identity, 0) is None


def test_a_shim_of_another_container_of_the_pod(tmp_path: Path, root: None) -> None:
    """containerd has one shim for a pod, which is in the bundle of the pause container."""
    sandbox = write(tmp_path / ("cd" * 32), {**CONTAINERD, "io.kubernetes.cri.container-type": "sandbox"})
    write(tmp_path / ID, CONTAINERD)
    with held(sandbox) as pid:
        found = bundle.find(ID, pid)
        pause = bundle.find(sandbox.name, pid)
    assert found is not None
    assert found.container.pod == POD
    assert not found.pause
    assert pause is not None
    assert pause.pause


@pytest.mark.parametrize("words", [("conmon", "-c", ID, "-b", "/"), ("crun", "create", "--bundle", "/", ID)])
@pytest.mark.parametrize("relative", [False, True])
def test_on_the_command_line(words: tuple[str, ...], relative: bool, tmp_path: Path, root: None) -> None:
    directory = write(tmp_path / "userdata", CRI_O)
    place = directory.name if relative else str(directory)
    with held(tmp_path, *(place if word == "/" else word for word in words)) as pid:
        found = bundle.find(ID, pid)
    assert found is not None
    assert found.container.engine == "cri-o"


def test_the_usual_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When all processes have ended, the bundle may still be there."""
    write(tmp_path / ID, CONTAINERD)
    monkeypatch.setattr(bundle, "_USUAL", (f"{tmp_path}/none/{{}}", f"{tmp_path}/{{}}"))
    assert bundle.find(ID, 0) is not None
    assert bundle.find("cd" * 32, 1 << 22 | 1) is None


def test_only_root_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's own container may have any annotation, and be the workload of nobody else."""
    write(tmp_path / ID, CONTAINERD)
    status = bundle.process_status
    monkeypatch.setattr(bundle, "process_status", lambda pid: {**status(pid), "Uid": ["0", "1000", "0", "0"]})
    with held(tmp_path / ID) as pid:
        assert bundle.find(ID, pid) is None


def test_the_engine_that_the_cgroup_names(tmp_path: Path, root: None, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / ID, {}, process={"args": ["app"]})
    monkeypatch.setattr(bundle, "_inside", lambda identity, pid: False)
    monkeypatch.setattr(cgroups, "path_of", lambda pid: f"/system.slice/docker-{ID}.scope")
    with held(tmp_path / ID) as pid:
        found = bundle.find(ID, pid)
    assert found is not None
    assert (found.container.engine, found.container.command) == ("docker", ("app",))


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any user may run these tests."""
    status = bundle.process_status
    monkeypatch.setattr(bundle, "process_status", lambda pid: {**status(pid), "Uid": ["0"] * 4})
