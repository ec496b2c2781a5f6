"""What is recorded that profgen does not start itself."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from executables import write_program

from profiler.engines import cgroups, pods
from profiler.engines.cgroups import Hierarchy
from profiler.engines.commands import Compose
from profiler.engines.engine import Details
from profiler.engines.hook import State
from profiler.errors import InputError
from profiler.trace.model import Container, Pod
from profiler.tracers.watcher import Session
from profiler.watch import subjects

KNOWN, OTHER = "aa" * 32, "bb" * 32


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One hierarchy, and an engine that knows a container ``web``, which runs unless the file ``down`` exists."""
    tree = tmp_path / "cgroup"
    tree.mkdir()
    monkeypatch.setattr(cgroups, "mounted", lambda: (Hierarchy(str(tree), ""),))
    state = {"Id": KNOWN, "Name": "/web", "State": {"Pid": 7, "Running": True}}
    (tmp_path / "up.json").write_text(json.dumps([state]))
    (tmp_path / "down.json").write_text(json.dumps([{**state, "State": {"Pid": 0, "Running": False, "ExitCode": 0}}]))
    tool = tmp_path / "bin" / "docker"
    tool.parent.mkdir()
    write_program(
        tool,
        f'#!/bin/sh\n[ "$1" != ps ] || exec echo {KNOWN}\n[ "$3" = web -o "$3" = {KNOWN} ] || exit 1\n'
        f"if [ -e {tmp_path}/down ]; then cat {tmp_path}/down.json\nelse cat {tmp_path}/up.json; fi\n",
    )
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    monkeypatch.setenv("PROFGEN_ENGINE", str(tool))
    return tmp_path


def session(subject: str) -> Session:
    return Session(1, "container", subject, joined=False, pid=7, began=0.0)


def details(name: str, labels: dict[str, str] | None = None) -> Details:
    return Details(Container("docker", None, OTHER, name), 7, None, labels or {})


def test_a_container_that_runs(machine: Path) -> None:
    found = subjects.container("web", wait=False, follow=False)
    assert (found.name, found.many, found.selection.containers) == ("web", False, (KNOWN,))
    assert not found.selection.all_containers
    assert found.accept is not None
    assert found.accept(session(KNOWN), None)
    assert found.accept(session(OTHER), details("web")), "made anew under the same name"
    assert not found.accept(session(OTHER), details("db"))
    assert not found.accept(session(OTHER), None)


def test_a_container_that_does_not_run(machine: Path) -> None:
    (machine / "down").touch()
    with pytest.raises(InputError, match="the container 'web' does not run: start it, or wait for that with --wait"):
        subjects.container("web", wait=False, follow=False)
    assert subjects.container("web", wait=True, follow=False).selection.all_containers


def test_a_container_that_nobody_knows(machine: Path) -> None:
    with pytest.raises(InputError, match=r"no container 'db' here \(docker: "):
        subjects.container("db", wait=False, follow=False)
    with pytest.raises(InputError, match=r"no container 'wbe' here \(did you mean web\?\) \("):
        subjects.container("wbe", wait=False, follow=False)
    (machine / "cgroup" / "db").mkdir()
    assert subjects.container("db", wait=False, follow=False).selection.containers == ("db",), "a runtime's own name"


def test_a_container_by_the_start_of_its_id(machine: Path) -> None:
    (machine / "cgroup" / ("bb" * 6)).mkdir()
    found = subjects.container("bb" * 6, wait=False, follow=False)
    assert found.accept is not None
    assert found.accept(session(OTHER), None)


def test_all_containers_that_have_a_process(machine: Path) -> None:
    """But not the one that profgen runs in."""
    for identity, processes in ((KNOWN, "7\n"), (OTHER, ""), ("cc" * 32, f"8\n{os.getpid()}\n")):
        group = machine / "cgroup" / "docker" / identity
        group.mkdir(parents=True)
        (group / "cgroup.procs").write_text(processes)
    found = subjects.all_containers()
    assert (found.selection.containers, found.selection.all_containers, found.many) == ((KNOWN,), True, True)


def test_all_containers_or_some_pods(machine: Path) -> None:
    """A pod's pause container is never meant; with selectors, nothing outside of their pods is."""
    pod = Pod("shop", "web-0", None, "web")
    web = replace(details("nginx"), container=replace(details("nginx").container, pod=pod))
    known = (None, details("db"), web, replace(web, pause=True))
    for texts, wanted in (
        ((), [True, True, True, False]),
        (("namespace=shop",), [False, False, True, False]),
        (("namespace=bank", "workload=web"), [False, False, True, False]),
        (("namespace=bank",), [False] * 4),
    ):
        accept = subjects.all_containers([pods.selector(text) for text in texts]).accept
        assert accept is not None
        assert [accept(session(OTHER), row) for row in known] == wanted


def test_a_container_that_only_its_cgroup_names(machine: Path) -> None:
    """As the kubelet's driver for systemd names it; no engine knows it."""
    group = machine / "cgroup" / "kubepods.slice" / f"cri-containerd-{OTHER}.scope"
    group.mkdir(parents=True)
    (group / "cgroup.procs").write_text("7\n")
    assert subjects.container(OTHER, wait=False, follow=False).selection.containers == (OTHER,)


def test_a_project_takes_the_containers_with_its_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", "shop")
    found = subjects.project(Compose("docker", ("/none/such", "up"), ("/none/such",)))
    assert (found.name, found.many) == ("shop", True)
    assert found.accept is not None
    assert found.accept(session(OTHER), details("x", {"com.docker.compose.project": "shop"}))
    assert not found.accept(session(OTHER), details("x", {"com.docker.compose.project": "other"}))
    assert not found.accept(session(OTHER), None)


def test_a_container_that_is_about_to_start() -> None:
    found = subjects.starting(State(KNOWN, 7, None))
    assert (found.selection.starting, found.first) == ((KNOWN,), 7)
    assert found.container is not None
    assert found.container.id == KNOWN


def test_a_process() -> None:
    found = subjects.process(os.getpid())
    assert found.selection.pids == (os.getpid(),)
    assert found.watched == f"pid {os.getpid()}"
    assert found.name == Path("/proc/self/comm").read_text().strip()
    with pytest.raises(InputError, match="there is no process"):
        subjects.process(1 << 22 | 1)


def test_a_cgroup(machine: Path) -> None:
    found = subjects.cgroup("/jobs/nightly/")
    assert (found.name, found.watched) == ("nightly", "cgroup /jobs/nightly/")
    assert found.where(True) == (f"{machine}/cgroup/jobs/nightly",)
    with pytest.raises(InputError, match="no cgroup"):
        found.where(False)
    (machine / "cgroup/jobs/nightly").mkdir(parents=True)
    assert found.where(False) == (f"{machine}/cgroup/jobs/nightly",)


def test_a_unit(machine: Path) -> None:
    write_program(
        machine / "bin" / "systemctl",
        "#!/bin/sh\necho LoadState=loaded; echo ControlGroup=/system.slice/app.service\n",
    )
    found = subjects.unit("app")
    with pytest.raises(InputError, match="the unit 'app' does not run"):
        found.where(False)
    assert found.where(True) == (f"{machine}/cgroup/system.slice/app.service",)
    (machine / "cgroup/system.slice/app.service").mkdir(parents=True)
    assert found.where(False) == (f"{machine}/cgroup/system.slice/app.service",)
