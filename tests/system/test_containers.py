"""profgen record of what it does not start, as typed: images, engines' command lines, containers, units, processes, a
node.

What the watcher beneath sees, call by call, is in test_watching.py.
"""
# ruff: noqa: F811 - the fixtures that are imported are arguments of the tests

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from executables import write_program
from system import oracle
from system.harness import CHECKOUT, Profgen, Until, recording, run_here, why_no_ebpf
from system.lab import podman as podmans
from system.lab import probe, runs
from system.lab.fixtures import Recordings, Runtimes, lab, recordings  # noqa: F401
from system.lab.podman import Podman, PodmanScript, PodmanUnit
from system.lab.processes import ENVIRONMENT, LabError, run
from system.lab.runtimes import Confinement, Docker, Job, container, next_identity, skeleton
from system.lab.workloads import PYTHON, SAMPLE_WORKLOADS, Nginx, Redis, Workload
from waiting import HANG_SECONDS, eventually

from profiler.engines import cgroups

pytestmark = [
    pytest.mark.usefixtures("as_root"),
    pytest.mark.skipif(why_no_ebpf() is not None, reason=f"containers need the eBPF tracer: {why_no_ebpf()}"),
]

GIVEN = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_SETUID", "CAP_SETGID", "CAP_NET_BIND_SERVICE", "CAP_KILL")
UNCONFINED = Confinement.with_capabilities(None, GIVEN)

NOW_AND_THEN = {"futex", "restart_syscall", "clock_nanosleep", "sched_yield", "madvise", "munmap", "rt_sigreturn"}
"""Calls that come or do not as threads happen to meet; under strace, which slows them, the more."""


@pytest.fixture(scope="module")
def docker(lab: Runtimes) -> Docker:
    found = lab["docker"]
    assert isinstance(found, Docker)
    return found


def document(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


def calls(trace: Mapping[str, Any]) -> set[tuple[str, int]]:
    return {(row["abi"], row["number"]) for row in trace["syscalls"]}


def names(trace: Mapping[str, Any]) -> set[str]:
    return {row["name"] for row in trace["syscalls"]}


def paths(trace: Mapping[str, Any]) -> set[str]:
    return {row["path"] for row in trace["files"]}


def starts(trace: Mapping[str, Any]) -> list[str]:
    """Programs that came from nowhere: the entry point, and what entered later."""
    return [trace["programs"][row["program"]]["path"] for row in trace["execs"] if row["by"] is None]


# -- images ------------------------------------------------------------------------------------------------------------


def recorded(profgen: Profgen, workload: Workload, docker: Docker, directory: Path) -> Path:
    """``record -- docker run ...``: the workload under its load, in a container. LabError when anything was wrong."""
    workload.reset()
    trace = directory / f"{workload.name}.trace.json"
    identity = f"profgen-rec-{os.getpid()}-{workload.name}"
    job = directory / "job"
    job.mkdir()
    with recording(
        profgen, directory, "-o", trace, "--", *docker.command(identity, job, workload.job, UNCONFINED)
    ) as recorder:
        try:
            if not eventually(lambda: recorder.process.poll() is not None or workload.ready()):
                raise LabError("it never answered")
            for _ in range(workload.rounds):
                workload.load()
            docker.signal(identity, "TERM")
            status, said = recorder.end(None)
        finally:
            docker.remove(identity, job)
    if status != 0:
        raise LabError(f"it ended with status {status}: {said}")
    assert "not the docker client" in said
    return trace


def by_strace(workload: Workload, docker: Docker, directory: Path) -> set[tuple[str, int]]:
    """What strace sees of the same, from within the container."""
    workload.reset()
    log = directory / "strace"
    log.mkdir()
    log.chmod(0o777)
    strace = (
        "strace",
        "-f",
        "-n",
        "--quiet=attach,exit,path-resolution,thread-execve",
        "-e",
        "raw=all",
        "-e",
        "signal=none",
        "-s",
        "0",
    )
    job = replace(
        workload.job, argv=(*strace, "-o", f"{log}/log", "--", *workload.argv), writable=(*workload.job.writable, log)
    )
    with container(docker, job, UNCONFINED) as running:
        assert eventually(lambda: not running.running or workload.ready()), running.report()
        workload.load()
        # strace is the first process of its pid namespace, and so immune to TERM: the signal is for what it started.
        first = run(
            [*docker._tool("inspect", "--format", "{{.State.Pid}}"), (running.directory / "cid").read_text()]
        ).stdout.strip()
        os.kill(int(Path(f"/proc/{first}/task/{first}/children").read_text().split()[0]), signal.SIGTERM)
        assert running.wait(HANG_SECONDS) == 0, running.report()
    return set(oracle.parse((log / "log").read_text(errors="surrogateescape").splitlines()))


def test_from_the_entry_point_on(
    docker: Docker,
    lab: Runtimes,
    recordings: Recordings,
    profgen: Profgen,
    public_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A line that somebody has: what strace sees inside, and nothing of the runtime; under the profile from it the same
    runs clean.

    Images, in all ways, are in test_images.py.
    """
    workload = recordings.workload(Redis)
    directory = public_dir / f"container-{workload.name}"
    directory.mkdir()
    path = recorded(profgen, workload, docker, directory)
    trace = document(path)
    with monkeypatch.context() as fewer:
        fewer.setattr(workload, "requests", 200, raising=False)  # each takes strace a hundred times as long
        expected = by_strace(workload, docker, directory)
    named = {(row["abi"], row["number"]): row["name"] for row in trace["syscalls"]}
    assert {named.get(key, key) for key in calls(trace) ^ expected} <= NOW_AND_THEN
    assert not trace["mounts"], "that is the runtime's work"
    assert [os.path.basename(program) for program in starts(trace)] == [
        os.path.basename(os.path.realpath(workload.argv[0]))
    ]
    meta = trace["meta"]
    assert (meta["container"]["image"], meta["container"]["command"]) == (docker.image, list(workload.argv))
    assert (meta["uid"], meta["gid"], meta["exit_status"], meta["complete"]) == (workload.uid, workload.gid, 0, True)
    assert {mount["destination"] for mount in meta["container"]["mounts"]} >= {"/usr", "/etc", str(workload.directory)}
    for no_new_privs, read_only in ((True, True), (False, False)):
        confinement = runs.generated(path, directory / f"profile-{no_new_privs}", "docker", no_new_privs)
        runs.confined(workload, docker, replace(confinement, read_only=read_only))


def a_volume_that_moved(profgen: Profgen, directory: Path) -> None:
    """Of two recordings in which one volume was at two places: a policy that holds at both, and is moved by one
    line."""
    done = profgen("generate", "a.json", "b.json", "-o", "both", cwd=directory)
    assert done.returncode == 0, done.stderr
    text = (directory / "both/policy.yaml").read_text()
    assert "  volume_profgen_store: {paths: [/data, /srv/data], " in text
    assert sum("/data" in line for line in text.split("\nsyscalls:")[1].splitlines()) == 1
    assert '"@{volume_profgen_store}/kept" w,\n' in (directory / "both/apparmor.profile").read_text()
    assert profgen("explain", "both/policy.yaml", "/srv/data/kept", cwd=directory).returncode == 0
    (directory / "policy.yaml").write_text(text.replace("[/data, /srv/data]", "[/new]"))
    assert profgen("explain", "policy.yaml", "/new/kept", cwd=directory).returncode == 0
    assert profgen("explain", "policy.yaml", "/data/kept", cwd=directory).returncode != 0
    moved = profgen("diff", "both/policy.yaml", "policy.yaml", cwd=directory)
    assert moved.returncode == 0, moved.stdout
    assert "volume_profgen_store is at /data, /srv/data in" in moved.stdout


def test_image(docker: Docker, profgen: Profgen, tmp_path: Path) -> None:
    """--image is docker run to who types it: input, output, status, signals; the container is gone afterwards."""
    env = docker.client_environment
    options = ("-v", "/usr:/usr:ro", "--network=none", "--name", f"profgen-image-{os.getpid()}")
    words = (
        "record",
        "-o",
        "a.json",
        "--image",
        docker.image,
        "-i",
        *options,
        "--volume=profgen-store:/data",
        "--",
        "/bin/sh",
        "-c",
        "read x; readlink /proc/self/fd/0 >/dev/null; echo got $x; echo bad >&2; echo 1 >/data/kept; exit 7",
    )
    done = profgen(*words, cwd=tmp_path, env=env, stdin=b"this\n")
    assert (done.returncode, done.stdout) == (7, "got this\n"), done.stderr
    assert "bad" in done.stderr
    trace = document(tmp_path / "a.json")
    meta = trace["meta"]
    assert meta["exit_status"] == 7
    assert meta["complete"], meta["losses"]
    assert "/proc/" in {path[:6] for path in paths(trace) if path.endswith("/fd/0")}, (
        "its own, of a process that has ended, in its own numbers"
    )
    assert meta["container"]["name"] == options[-1]
    # A signal to profgen is one to the container.
    words = (
        "-q",
        "-o",
        "b.json",
        "--image",
        docker.image,
        *options,
        "--volume=profgen-store:/srv/data",
        "--",
        "/bin/sh",
        "-c",
        "trap 'exit 9' TERM; echo 1 >>/srv/data/kept; echo on; while :; do sleep 0.05; done",
    )
    with recording(profgen, tmp_path, *words, env=env) as recorder:
        assert recorder.process.stdout.readline() == b"on\n"
        assert recorder.end()[0] == 9
    a_volume_that_moved(profgen, tmp_path)
    # Files of the container's programs were read through its root, while it was there; the lab's /usr is this
    # machine's.
    programs = {row["path"]: row for row in document(tmp_path / "b.json")["programs"]}
    assert {path: row["sha256"] for path, row in programs.items()} == {
        path: hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in ("/usr/bin/dash", "/usr/bin/sleep")
    }
    assert all(row["build_id"] for row in programs.values())
    # What cannot start is told as docker run tells it, and leaves no trace.
    gone = profgen(
        "record", "-o", "c.json", "--image", docker.image, *options, "--", "/no/such/program", cwd=tmp_path, env=env
    )
    assert gone.returncode == 127, gone.stderr
    assert not (tmp_path / "c.json").exists()
    wrong = profgen("record", "--image", docker.image, "-o", "d.json", "--", "ls", cwd=tmp_path, env=env)
    assert wrong.returncode == 2
    assert "before --image" in wrong.stderr
    assert run(["/usr/bin/docker", "ps", "--all", "--quiet", "--filter", f"name={options[-1]}"], env=env).stdout == ""


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_image_interrupted_while_its_container_is_made(
    ending: signal.Signals, docker: Docker, profgen: Profgen, tmp_path: Path, until: Until
) -> None:
    """The client is slow: the container is there, and profgen does not know it yet. It is removed all the same."""
    slow = f'#!/bin/sh\n/usr/bin/docker "$@"\n[ "$1" != create ] || {{ touch {tmp_path}/made; sleep 60; }}\n'
    (tmp_path / "bin").mkdir()
    env = {**docker.client_environment, "PROFGEN_ENGINE": str(write_program(tmp_path / "bin" / "docker", slow))}

    def made() -> str:
        words = ["/usr/bin/docker", "ps", "--all", "--quiet", "--filter", "label=profgen.made"]
        return str(run(words, env=docker.client_environment).stdout)

    process = profgen.start(
        "record", "-q", "-o", "a.json", "--image", docker.image, "--network=none", "--", "/bin/true",
        cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until((tmp_path / "made").exists, "the container is made")
        assert made()
        process.send_signal(ending)
        assert process.wait(HANG_SECONDS) in (130, -ending)
        until(lambda: not made(), "the container is removed")
    finally:
        process.kill()
        process.wait()


def test_compose(docker: Docker, profgen: Profgen, tmp_path: Path) -> None:
    """A trace for each container of the project."""
    if shutil.which("docker-compose") is None:
        pytest.skip("docker-compose is not installed")
    service = {"image": docker.image, "network_mode": "none", "volumes": ["/usr:/usr:ro"]}
    services = {name: {**service, "command": ["/usr/bin/cat", f"/usr/nothing-{name}"]} for name in ("one", "two")}
    project = tmp_path / f"Project.{os.getpid()}"
    project.mkdir()
    (project / "docker-compose.yml").write_text(json.dumps({"services": services}))
    done = profgen("record", "--", "docker-compose", "up", cwd=project, env=docker.client_environment)
    run(
        ["docker-compose", "--project-directory", str(project), "-f", str(project / "docker-compose.yml"), "down"],
        env=docker.client_environment,
    )
    assert done.returncode == 0, done.stderr
    found = {
        document(path)["meta"]["container"]["name"]: document(path)
        for path in (project / f"project{os.getpid()}.traces").iterdir()
    }
    assert sorted(found) == [f"project{os.getpid()}_{name}_1" for name in ("one", "two")]
    for name, trace in found.items():
        service_name = name.split("_")[1]
        assert {path for path in paths(trace) if "nothing" in path} == {f"/usr/nothing-{service_name}"}
        assert trace["meta"]["exit_status"] == 1


@pytest.fixture(params=["runc", "crun"])
def podman(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Podman]:
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed")
    with podmans.podman(tmp_path, request.param) as found:
        yield found


PODMAN_RUN = ("--network=none", *podmans.LIMITS, "--volume=/usr:/usr:ro", "--cgroups=enabled")


@contextlib.contextmanager
def system_log() -> Iterator[Callable[[], str]]:
    """What comes to the system's log (syslog(3)) during the block, on a machine that keeps none."""
    if os.path.lexists("/dev/log"):
        pytest.skip("the system's log is somebody else's here")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("/dev/log")
        listener.settimeout(HANG_SECONDS)
        try:
            yield lambda: listener.recv(8192).decode()
        finally:
            os.unlink("/dev/log")


def test_podman(podman: Podman, profgen: Profgen, tmp_path: Path, until: Until) -> None:
    """Its command line; and its hooks directory, for a container that carries the annotation."""
    before, words = podman.before, podman.words
    command = ("/usr/bin/sleep", "0.2")  # long enough to be taken hold of however busy the machine is
    beside = Profgen(prefix=before)
    done = beside("record", "-o", "a.json", "--", *words, "run", "--rm", *PODMAN_RUN, "lab", *command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    trace = document(tmp_path / "a.json")
    assert (trace["meta"]["container"]["engine"], trace["meta"]["container"]["runtime"]) == (
        "podman",
        words[-1].rpartition("=")[2],
    )
    assert starts(trace) == ["/usr/bin/sleep"]
    hooks = tmp_path / "hooks.d"
    hooks.mkdir()
    hook = document(CHECKOUT / "docs/deploy/profgen-hook.json")
    hook["hook"] |= called_here(profgen, tmp_path)
    (hooks / "profgen.json").write_text(json.dumps(hook))
    hooked = [*before, *words, "--hooks-dir", str(hooks), "run", "--rm", *PODMAN_RUN]
    assert run([*hooked, "lab", *command], check=False).returncode == 0
    assert list((tmp_path / "traces").iterdir()) == [], "nobody asked"
    with system_log() as lines:
        refused = run([*hooked, "--annotation", "io.profgen.record=/etc/passwd", "lab", *command], check=False)
        assert "it must name a file in" in (refused.stderr if "--runtime=runc" in words else lines()), (
            "crun does not show what a hook says"
        )
    assert refused.returncode not in (0, 1)
    assert run([*hooked, "--annotation", "io.profgen.record=b.json", "lab", *command], check=False).returncode == 0
    again = document(hooked_trace(tmp_path, "b", until))
    assert calls(again) == calls(trace)
    assert starts(again) == ["/usr/bin/sleep"]
    assert again["meta"]["container"]["command"] == list(command)
    assert again["meta"]["complete"], again["meta"]["losses"]


@pytest.mark.parametrize(
    ("podman", "kind"),
    [*(("runc", kind) for kind in SAMPLE_WORKLOADS), ("crun", Nginx), ("crun", Redis)],
    indirect=["podman"],
)
def test_podman_runs_what_was_recorded(
    podman: Podman, kind: type[Workload], recordings: Recordings, profgen: Profgen, tmp_path: Path
) -> None:
    """podman-run.sh --as-recorded and the Quadlet unit, the root read-only: nothing is refused, also on a machine
    without AppArmor."""
    workload = recordings.workload(kind)
    trace = tmp_path / "trace.json"
    job = workload.job
    name = f"{next_identity()}-recorded"
    words = [*podman.words, "run", "--rm", *podman.every(name, tmp_path, job), *podman.options(job)]
    beside = Profgen(prefix=podman.before)
    command = [*words, podmans.IMAGE, *job.argv]
    status = runs.driven(beside, workload, ("record", "-o", str(trace)), tmp_path / "out", command=command)
    assert status == 0, (tmp_path / "out.stderr").read_text()
    assert document(trace)["meta"]["container"]["engine"] == "podman"
    confinement = runs.generated(trace, tmp_path / "profile", podman.runtime, True)
    assert {"podman-run.sh", f"{podmans.IMAGE}.container"} <= set(os.listdir(tmp_path / "profile"))
    runs.confined(workload, PodmanScript(podman, tmp_path / "profile/podman-run.sh"), confinement)
    if podmans.quadlet():
        run_here("generate", str(trace), "-t", "quadlet", "-O", "quadlet.read-only=yes", "-o", str(tmp_path / "unit"))
        runs.confined(workload, PodmanUnit(podman, tmp_path / "unit" / f"{podmans.IMAGE}.container"), confinement)


def probed(trace: Path, profgen: Profgen, command: list[str], env: Mapping[str, str], options: list[str]) -> Path:
    """Record the quiet probe, and return the directory of its profile."""
    done = profgen("record", "-q", "-o", trace, "--", *command, *probe.QUIET, cwd=trace.parent, env=env)
    assert done.returncode == 0, done.stderr
    directory = trace.parent / "profile"
    done = profgen("generate", "-q", trace, "-o", directory, *options, cwd=trace.parent)
    assert done.returncode == 0, done.stderr
    return directory


SHOP = """\
# What people have.
x-all: &all
    network_mode: none   # no need of it
services:
    probe:
        <<: *all
        image: lab
        volumes:
        - /usr:/usr:ro
"""


def test_docker_refuses_what_was_not_recorded(docker: Docker, profgen: Profgen, tmp_path: Path) -> None:
    """Ten acts, under docker-run.sh and as a service whose Compose file was rewritten."""
    env = docker.client_environment
    options = ["--rm", "--network=none", "--volume=/usr:/usr:ro"]
    run_it = ["/usr/bin/docker", "run", *options]
    # Not --privileged: the machine of the tests may lack some capabilities itself.
    free = ["--cap-add=SYS_ADMIN", "--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined"]
    everything = run([*run_it, *free, docker.image, *probe.TRYING], env=env).stdout.split()
    assert set(everything) == set(probe.ACTS)
    command = [*run_it, docker.image]
    directory = probed(tmp_path / "a.json", profgen, command, env, ["-O", "docker.read-only=yes"])
    script = str(directory / "docker-run.sh")
    assert run([script, *options, docker.image, *probe.TRYING], env=env).stdout.split() == []
    if shutil.which("docker-compose") is None:
        pytest.skip("docker-compose is not installed")
    (directory / "compose.yaml").write_text(SHOP)
    words = ["-t", "compose", "-O", "compose.read-only=yes", "--into", "compose.yaml", "-o", "compose.yaml"]
    assert profgen("generate", "policy.yaml", *words, cwd=directory).returncode == 0
    assert "network_mode: none   # no need of it" in (directory / "compose.yaml").read_text()
    service = ["sh", "-c", f'cd "{directory}" && exec docker-compose run --rm -T probe "$@"', "sh"]
    assert run([*service, *probe.TRYING], env=env).stdout.split() == []


MOVES = """
import os
open("/srv/in/x", "w").close()
os.rename("/srv/in/x", "/srv/out/x")
os.link("/srv/out/x", "/srv/in/y")
"""


def test_docker_moves_files_between_directories(docker: Docker, profgen: Profgen, tmp_path: Path) -> None:
    """Two volumes are two mounts, and a rename or a link from one to the other fails."""
    env = docker.client_environment
    image = f"moves-{secrets.token_hex(4)}"
    skeleton(tmp_path / "root")
    for name in ("in", "out"):
        (tmp_path / "root/srv" / name).mkdir(parents=True)
    with tarfile.open(tmp_path / "root.tar", "w") as tar:
        tar.add(tmp_path / "root", arcname=".")
    run(["/usr/bin/docker", "import", str(tmp_path / "root.tar"), image], env=env)
    options = ["--rm", "--network=none", "--volume=/usr:/usr:ro"]
    start = ["/usr/bin/docker", "run", *options]
    apart = ["--volume=/srv/in", "--volume=/srv/out"]
    done = run([*start, *apart, image, PYTHON, "-c", MOVES], env=env, check=False)
    assert "Invalid cross-device link" in done.stderr, done
    words = ["record", "-q", "-o", "a.json", "--", *start, image, PYTHON, "-c", MOVES]
    done = profgen(*words, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    words = ["generate", "-q", "a.json", "-t", "docker", "-O", "docker.read-only=yes", "-o", "profile/"]
    done = profgen(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run([str(tmp_path / "profile/docker-run.sh"), *options, image, PYTHON, "-c", MOVES], env=env)


@pytest.mark.parametrize("podman", ["crun"], indirect=True)
def test_podman_refuses_what_was_not_recorded(podman: Podman, profgen: Profgen, tmp_path: Path) -> None:
    command = [*podman.words, "run", "--rm", *PODMAN_RUN, podmans.IMAGE]
    everything = run([*podman.before, *command[:-1], "--privileged", podmans.IMAGE, *probe.TRYING]).stdout.split()
    assert set(everything) == set(probe.ACTS)
    beside = Profgen(prefix=podman.before)
    directory = probed(tmp_path / "a.json", beside, command, ENVIRONMENT, ["-O", "podman.read-only=yes"])
    script = [str(directory / "podman-run.sh"), "--rm", *PODMAN_RUN, podmans.IMAGE]
    done = run([*script, *probe.TRYING], env={"PROFGEN_ENGINE": str(podman.client)})
    assert done.stdout.split() == [], done.stderr


def called_here(profgen: Profgen, directory: Path) -> dict[str, Any]:
    """Where a hook finds this checkout's profgen, and where its traces go."""
    (directory / "traces").mkdir()
    return {
        "path": str(profgen.program(directory / "profgen")),
        "args": ["profgen", "hook", "-o", str(directory / "traces")],
    }


def hooked_trace(directory: Path, name: str, until: Until) -> Path:
    """Return the trace that a hook writes for the annotation ``name.json``."""
    found: list[Path] = []

    def written() -> bool:
        found[:] = (directory / "traces").glob(f"{name}-*.trace.json")
        return bool(found)

    until(written, "the trace is written when the container has ended")
    assert len(found) == 1
    return found[0]


def test_containerd(docker: Docker, profgen: Profgen, tmp_path: Path, until: Until) -> None:
    """A hook in the configuration, as a runtime class of containerd's has it, with the annotations of its CRI plugin;
    ctr starts the container."""
    ctr = ["ctr", "--address", str(docker.state / "exec/containerd/containerd.sock")]
    spec = json.loads(run([*ctr, "oci", "spec"]).stdout)
    skeleton(tmp_path / "root")
    identity = f"profgen-ctr-{os.getpid()}"
    spec["process"] |= {"args": ["/usr/bin/cat", "/usr/nothing"], "terminal": False}
    spec["root"] = {"path": str(tmp_path / "root"), "readonly": True}
    spec["mounts"].append({"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]})
    spec["linux"]["cgroupsPath"] = f"/{identity}"
    spec["hooks"] = {
        "createRuntime": [{**called_here(profgen, tmp_path), "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}]
    }
    spec["annotations"] = {
        "io.profgen.record": "a.json",
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.image-name": "lab:1",
        "io.kubernetes.cri.sandbox-namespace": "shop",
        "io.kubernetes.cri.sandbox-name": "web-0",
    }
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    done = run([*ctr, "run", "--rm", "--config", str(tmp_path / "spec.json"), identity], check=False)
    assert done.returncode == 1, done.stderr
    path = hooked_trace(tmp_path, "a", until)
    assert path.name == f"a-{identity}.trace.json"
    trace = document(path)
    assert starts(trace) == ["/usr/bin/cat"]
    assert "/usr/nothing" in paths(trace)
    told = trace["meta"]["container"]
    assert (told["id"], told["image"], told["command"], told["read_only"]) == (
        identity,
        "lab:1",
        ["/usr/bin/cat", "/usr/nothing"],
        True,
    )


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_awaited(runtime: str, lab: Runtimes, profgen: Profgen, tmp_path: Path) -> None:
    """A container that only a runtime knows, by the name that it will have, and that lives for some milliseconds."""
    chosen = lab[runtime]
    for _ in range(10):
        identity = next_identity()
        with recording(profgen, tmp_path, "--container", identity, "--wait", "-o", "a.json") as recorder:
            recorder.began()
            with container(chosen, Job(("/usr/bin/true",)), Confinement.with_capabilities(None, [])) as running:
                assert running.identity == identity
                assert running.wait(HANG_SECONDS) == 0
                # While the lab's container is open: closing it ends whatever has its name among its arguments.
                status, said = recorder.end(None)
        trace = document(tmp_path / "a.json")
        assert starts(trace) == ["/usr/bin/true"]
        assert not trace["mounts"]
        assert names(trace) >= {"execve", "exit_group"}
        assert not {"clone", "setns", "pivot_root", "capset"} & names(trace)
        assert trace["meta"]["argv"] in (["/usr/bin/true"], ["(unknown)"])
        if status == 0:
            return
        # When profgen gets no processor while a container lives, it cannot look where a path led, and says so.
        assert (status, set(trace["meta"]["losses"])) == (125, {"paths"}), said
    pytest.fail("never complete")


# -- what runs already -------------------------------------------------------------------------------------------------


def test_joining(docker: Docker, lab: Runtimes, recordings: Recordings, profgen: Profgen, tmp_path: Path) -> None:
    """Redis, by process, by container and by cgroup at once: what strace sees from then on; and redis does not
    notice."""
    workload = recordings.workload(Redis)
    workload.reset()
    with container(docker, workload.job, UNCONFINED) as running, contextlib.ExitStack() as stack:
        assert eventually(lambda: not running.running or workload.ready()), running.report()
        workload.load()  # what redis makes once, such as threads of its allocator, is made before anybody looks
        identity = (running.directory / "cid").read_text()
        pid = run([*docker._tool("inspect", "--format", "{{.State.Pid}}"), identity]).stdout.strip()
        cgroup = next(
            line.split(":", 2)[2] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if identity in line
        )
        ways = {"pid": ("--pid", pid), "container": ("--container", identity[:16]), "cgroup": ("--cgroup", cgroup)}
        recorders = {
            way: stack.enter_context(
                recording(profgen, tmp_path, "-o", f"{way}.json", *words, env=docker.client_environment)
            )
            for way, words in ways.items()
        }
        for recorder in recorders.values():
            recorder.began()
        strace = subprocess.Popen(
            [
                "strace",
                "-f",
                "-n",
                "--quiet=attach,exit,path-resolution",
                "-e",
                "raw=all",
                "-e",
                "signal=none",
                "-s",
                "0",
                "-o",
                tmp_path / "log",
                "-p",
                pid,
            ],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert eventually(lambda: (tmp_path / "log").exists() and (tmp_path / "log").stat().st_size > 0)
            workload.load()
        finally:
            strace.terminate()
            strace.wait()
        for recorder in recorders.values():
            status, said = recorder.end()
            assert status == 0, said
            assert "joined while running" in said
        assert workload.ready(), "redis did not notice"
        running.signal("TERM")
        assert running.wait(HANG_SECONDS) == 0
    traces = {way: document(tmp_path / f"{way}.json") for way in ways}
    # The call in which a thread waits when strace comes is seen with another name, if at all.
    expected = {
        seen.name for seen in oracle.parse((tmp_path / "log").read_text(errors="surrogateescape").splitlines()).values()
    }
    for way, trace in traces.items():
        assert names(trace) ^ expected <= NOW_AND_THEN | {"epoll_wait"}, way
        assert trace["meta"]["exit_status"] is None
        assert "joined" in trace["meta"]["features"]
        assert not {"execve", "bind", "listen"} & names(trace), "what came before"
        assert [row["executions"] for row in trace["programs"]] == [0]
        assert trace["meta"]["watched"] == {"pid": f"pid {pid}", "cgroup": f"cgroup {cgroup}"}.get(
            way, f"container {running.identity}"
        )
        assert trace["meta"]["container"]["command"] == list(workload.argv)
    assert traces["pid"]["meta"]["argv"][0].startswith("/usr/bin/redis-server")
    assert traces["pid"]["meta"]["uid"] == workload.uid


def test_a_node(docker: Docker, lab: Runtimes, profgen: Profgen, tmp_path: Path, until: Until) -> None:
    """Fifty containers at once, twenty more while profgen hardly runs: one trace each, nothing mixed. Killed, it leaves
    a snapshot."""
    env = docker.client_environment
    ids = [hashlib.sha256(f"{tmp_path} {number}".encode()).hexdigest() for number in range(70)]
    longest = f"profgen-node-{os.getpid()}"
    options = ("--network=none", "--volume=/usr:/usr:ro", "--volume", f"{tmp_path}:/out")
    run(
        [
            "/usr/bin/docker",
            "run",
            "--detach",
            "--name",
            longest,
            *options,
            docker.image,
            "/bin/sh",
            "-c",
            "while :; do date > /out/alive; sleep 0.1; done",
        ],
        env=env,
    )
    try:
        words = ("--all-containers", "-o", "traces", "--snapshot", "1h", "--metrics", "127.0.0.1:0", "--merge-restarts")
        with recording(profgen, tmp_path, *words, env=env) as recorder:
            recorder.began()
            calm, rough = ids[:50], ids[50:]
            for some, around in ((calm, contextlib.nullcontext()), (rough, stuttering(recorder.process))):
                with around, contextlib.ExitStack() as stack:
                    started = [
                        stack.enter_context(short_lived(lab, tmp_path / identity, identity)) for identity in some
                    ]
                    assert [one.wait(HANG_SECONDS) for one in started] == [0] * len(some)
            until(lambda: len(written(tmp_path, ids)) == len(ids), "each container has a trace")
            traces = {identity: document(path) for identity, path in written(tmp_path, ids).items()}
            for identity, trace in traces.items():
                assert trace["meta"]["container"]["id"] == identity
                assert starts(trace) == ["/usr/bin/dash"]
                its_own = [name for name in paths(trace) if name.startswith("/usr/nothing-")]
                # When profgen gets no processor while a container lives, it cannot look where a path led any more.
                complete, losses = trace["meta"]["complete"], trace["meta"]["losses"]
                assert complete != (set(losses) == {"paths"}), losses
                assert its_own == [f"/usr/nothing-{identity}"] or (not complete and not its_own)
            assert sum(traces[identity]["meta"]["complete"] for identity in calm) > len(calm) / 2
            port = next(
                line.split()[1].rpartition(":")[2]
                for line in Path(f"/proc/{recorder.process.pid}/net/tcp").read_text().splitlines()[1:]
                if line.split()[3] == "0A" and line.split()[9] in sockets_of(recorder.process.pid)
            )

            def figures() -> str:
                with urllib.request.urlopen(f"http://127.0.0.1:{int(port, 16)}/metrics", timeout=HANG_SECONDS) as page:
                    return str(page.read().decode())

            def ended() -> int:
                return int(
                    next(
                        line.split()[1]
                        for line in figures().splitlines()
                        if line.startswith("profgen_sessions_ended_total")
                    )
                )

            # a page is made now and then, and may be older than the last trace
            until(lambda: ended() >= len(ids), "all that ended are counted")
            assert f'profgen_syscalls{{name="{longest}"' in figures()
            snapshot = tmp_path / "traces" / f"{longest}.trace.json"
            assert not snapshot.exists()
            recorder.process.send_signal(signal.SIGUSR1)
            until(snapshot.exists, "a snapshot when told")
            recorder.process.kill()
            recorder.process.communicate()
        trace = document(snapshot)
        assert "joined" in trace["meta"]["features"]
        assert "/out/alive" in paths(trace)
        before = (tmp_path / "alive").stat().st_mtime
        until(lambda: (tmp_path / "alive").stat().st_mtime > before, "the container goes on")
        assert not [
            path for path in (tmp_path / "traces").iterdir() if path.name.endswith(".tmp") and path.stat().st_size
        ], "nothing half written"
    finally:
        run(["/usr/bin/docker", "rm", "--force", longest], env=env, check=False)


def written(directory: Path, ids: list[str]) -> dict[str, Path]:
    found = {identity: directory / "traces" / f"{identity[:12]}.trace.json" for identity in ids}
    return {identity: path for identity, path in found.items() if path.exists()}


def sockets_of(pid: int) -> set[str]:
    """Inode numbers of a process's sockets."""
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            link = os.readlink(f"/proc/{pid}/fd/{name}")
            if link.startswith("socket:["):
                found.add(link[8:-1])
    return found


@contextlib.contextmanager
def stuttering(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Let a process run for some milliseconds at a time only, at random, as on a machine with too much to do."""
    over = threading.Event()
    chance = random.Random(1)

    def stutter() -> None:
        while not over.wait(chance.uniform(0.001, 0.02)):
            process.send_signal(signal.SIGSTOP)
            time.sleep(chance.uniform(0.01, 0.06))
            process.send_signal(signal.SIGCONT)

    thread = threading.Thread(target=stutter)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def short_lived(lab: Runtimes, directory: Path, identity: str) -> Iterator[subprocess.Popen[bytes]]:
    """A container of runc's that looks for a file that only it looks for, by a link that only containers have, and
    ends."""
    directory.mkdir()
    job = Job(("/bin/sh", "-c", f"test -e /elsewhere/nothing-{identity} || exec true"))
    runtime = lab["runc"]
    assert not isinstance(runtime, Docker)
    command = runtime.command(identity, directory, job, Confinement.with_capabilities(None, []))
    (directory / "rootfs/elsewhere").symlink_to("usr")
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        runtime.remove(identity, directory)


def test_an_awaited_cgroup(profgen: Profgen, tmp_path: Path, until: Until) -> None:
    """One whose directories are made step by step, twice, for a process of some milliseconds each time."""
    top = next(row.mount for row in cgroups.mounted() if not row.controllers)
    name = f"profgen-{os.getpid()}"
    steps = [Path(top, name), Path(top, name, "a.slice"), Path(top, name, "a.slice", "b.service")]
    words = ("--cgroup", f"/{name}/a.slice/b.service", "--wait", "--snapshot", "60s", "-o", "a.json")
    with recording(profgen, tmp_path, *words) as recorder:
        for number, output in enumerate(("a.json", "a.2.json"), 1):
            assert b"waiting for its start" in recorder.process.stderr.readline()
            for step in steps:
                step.mkdir()
            try:
                run(["sh", "-c", f"echo 0 >{steps[-1]}/cgroup.procs && exec cat /etc/nothing-{number}"], check=False)
            finally:
                for step in reversed(steps):
                    step.rmdir()
            until((tmp_path / output).exists, "each start has its trace")
            trace = document(tmp_path / output)
            assert starts(trace) == ["/usr/bin/cat"]
            assert {path for path in paths(trace) if "nothing" in path} == {f"/etc/nothing-{number}"}
            assert "joined" not in trace["meta"]["features"]
        assert recorder.end()[0] == 0


# -- systemd -----------------------------------------------------------------------------------------------------------

UNIT_SCRIPT = """
set -x
systemctl start app.service
cd /out
/out/profgen record --unit app -o app.json --snapshot 1s --allow-loss & joined=$!
until grep -q nothing-app app.json || ! kill -0 $joined; do sleep 0.1; done
kill $joined
wait $joined; echo "status $?"
/out/profgen record --unit app -o short.json --duration 1 --allow-loss; echo "status $?"
/out/profgen record --unit later --wait -o later.json --duration 3600 2>later.err & waiting=$!
until grep -q "waiting for its start" later.err || ! kill -0 $waiting; do sleep 0.1; done
cat later.err
sleep 2
cat /proc/uptime >started
systemctl start later.service
until [ -e later.turn ] || ! kill -0 $waiting; do sleep 0.1; done
cat /proc/uptime >turned
kill $waiting
wait $waiting; echo "status $?"
systemctl is-active app.service later.service
/out/profgen record --unit none -o none.json; echo "status $?"
/out/profgen record --unit idle -o none.json; echo "status $?"

group=/sys/fs/cgroup/docker-{identity}.scope
mkdir $group
systemctl start profgen.service
sh -c "echo \\$\\$ >$group/cgroup.procs; exec unshare --mount --pid --fork cat /etc/nothing"
until [ -e /var/lib/profgen/{short}.trace.json ] || ! systemctl -q is-active profgen.service; do sleep 0.1; done
systemctl stop profgen.service
systemctl show -p Result profgen.service
cp /var/lib/profgen/{short}.trace.json node.json
"""
"""What runs in the booted system. A loop writes NAME.turn when it has looked for its file."""


def test_unit(tmp_path: Path) -> None:
    """Units of a systemd that was booted for it (systemd-nspawn, on this machine's own files)."""
    if shutil.which("systemd-nspawn") is None:
        pytest.skip("systemd-nspawn is not installed (package systemd-container)")
    out = tmp_path / "out"
    out.mkdir()
    turn = "test -e /etc/nothing-{name}; : >/out/{name}.turn; sleep 0.1"
    loop = f"[Service]\nExecStart=/bin/sh -c 'while :; do {turn}; done'\n"
    units = {f"{name}.service": loop.format(name=name) for name in ("app", "later", "idle")}
    units["try.service"] = (
        "[Unit]\nAfter=basic.target\n[Service]\nType=oneshot\nExecStart=/bin/sh /out/script\n"
        "ExecStopPost=/bin/systemctl poweroff --no-block\nStandardOutput=file:/out/log\nStandardError=inherit\n"
    )
    units["try.target"] = "[Unit]\nRequires=try.service basic.target\nAllowIsolate=yes\n"
    identity = hashlib.sha256(str(tmp_path).encode()).hexdigest()
    (out / "script").write_text(UNIT_SCRIPT.format(identity=identity, short=identity[:12]))
    units["profgen.service"] = (
        (CHECKOUT / "docs/deploy/profgen.service").read_text().replace("/usr/bin/profgen", "/out/profgen")
    )
    # The unit has a /tmp of its own, which would hide a checkout below /tmp.
    python = Path("/profgen/python/bin", Path(sys.executable).name) if sys.prefix != sys.base_prefix else sys.executable
    Profgen(str(python), env={"PYTHONPATH": "/profgen/checkout"}).program(out / "profgen")
    script = f"""set -e
mount -t tmpfs none {tmp_path}/over
mkdir {tmp_path}/over/up {tmp_path}/over/work {tmp_path}/over/root
mount -t overlay overlay -o lowerdir=/,upperdir={tmp_path}/over/up,workdir={tmp_path}/over/work {tmp_path}/over/root
mount -t cgroup2 none /sys/fs/cgroup
rm -f {tmp_path}/over/root/etc/systemd/system/*.wants/*
cp {tmp_path}/units/* {tmp_path}/over/root/etc/systemd/system/
exec systemd-nspawn -q -D {tmp_path}/over/root --register=no --keep-unit --console=pipe \\
    --bind={out}:/out --bind-ro="{CHECKOUT}:/profgen/checkout" --bind-ro="{sys.prefix}:/profgen/python" \\
    --capability=all --system-call-filter="bpf perf_event_open" --private-network --boot systemd.unit=try.target
"""
    (tmp_path / "over").mkdir()
    (tmp_path / "units").mkdir()
    for name, text in units.items():
        (tmp_path / "units" / name).write_text(text)
    limited = ["timeout", "-s", "KILL", f"{2 * HANG_SECONDS}"]
    run([*limited, "unshare", "--mount", "sh", "-c", script], seconds=3 * HANG_SECONDS, check=False)
    log = (out / "log").read_text()
    assert [line for line in log.splitlines() if line.startswith("status")] == [
        "status 0",
        "status 0",
        "status 0",
        "status 2",
        "status 2",
    ], log
    assert log.count("\nactive") == 2, "nothing was disturbed"
    assert "Result=success" in log
    assert "/etc/nothing" in paths(document(out / "node.json")), "the unit that docs/deploy has"
    assert "systemd has no unit none.service" in log
    assert "does not run" in log
    for name in ("app", "later"):
        trace = document(out / f"{name}.json")
        assert trace["meta"]["watched"] == f"unit {name}"
        assert trace["meta"]["argv"][:2] == ["/bin/sh", "-c"]
        assert {path for path in paths(trace) if "nothing" in path} == {f"/etc/nothing-{name}"}
    # Its cgroup was awaited: from the unit's first instruction on, and nothing of systemd's.
    assert "joined" not in trace["meta"]["features"]
    run_here("generate", "-q", "--allow-loss", str(out / "later.json"), "-o", str(out / "later.profile"))
    assert (out / "later.profile/later.service.d/50-profgen.conf").is_file(), "a unit's recording leads to a drop-in"
    assert starts(trace) == ["/usr/bin/dash"]
    assert {"execve", "brk", "set_tid_address"} <= names(trace)
    started, turned = (float((out / name).read_text().split()[0]) for name in ("started", "turned"))
    assert all(
        row["first"] <= turned - started for row in trace["syscalls"] if row["name"] in ("execve", "set_tid_address")
    ), "times count from then, not from when profgen began to wait"
