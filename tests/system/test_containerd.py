"""containerd-run.sh with a containerd of our own: what was recorded runs clean, and what never happened is refused."""
# ruff: noqa: F811 - the fixtures that are imported are arguments of the tests

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from system.harness import Profgen
from system.lab import probe, runs
from system.lab.fixtures import Recordings, recordings  # noqa: F401
from system.lab.processes import ENVIRONMENT, LabError, kill_marked, run, stop
from system.lab.runtimes import DIE_WITH_US, Confinement, Job, apart, container, skeleton
from system.lab.workloads import SAMPLE_WORKLOADS, Nginx, Redis, Workload
from waiting import eventually

pytestmark = pytest.mark.usefixtures("as_root")

CONFIG = """version = 2
root = "{root}"
state = "/run/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.restart"]
[grpc]
  address = "{state}/sock"
"""


class Containerd:
    """A daemon in a mount namespace of its own, with its own /run/containerd: nothing stays when it ends."""

    def __init__(self, state: Path) -> None:
        self._state = state
        root = state / "root"
        (state / "config.toml").write_text(CONFIG.format(root=root, state=state))
        Path("/run/containerd").mkdir(exist_ok=True)
        # Overlay file systems cannot lie on one another, and the host's root may be one.
        mounts = f"mkdir {root} && mount -t tmpfs none {root} && mount -t tmpfs none /run/containerd"
        with open(state / "log", "wb") as log:
            self._daemon = subprocess.Popen(
                [*DIE_WITH_US, *apart(mounts, version_1=True), "containerd", "--config", str(state / "config.toml")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=ENVIRONMENT,
                start_new_session=True,
            )

        def answers() -> bool:
            return self._daemon.poll() is not None or run(self.ctr("version"), check=False).returncode == 0

        if not eventually(answers) or self._daemon.poll() is not None:
            raise LabError(f"containerd did not start: {(state / 'log').read_text(errors='replace')[-2000:]}")

    def ctr(self, *words: str) -> list[str]:
        """A command line. ctr looks into images itself, so it sees the daemon's mounts."""
        before = ("nsenter", "--target", str(self._daemon.pid), "--mount")
        return [*before, "ctr", "--address", f"{self._state}/sock", "--namespace", "lab", *words]

    def image(self, name: str, user: str) -> None:
        """Make an image of an empty root directory, as ``docker save`` has it, unless there is one."""
        if (self._state / name).exists():
            return
        layer = io.BytesIO()
        skeleton(self._state / name / "root")
        with tarfile.open(fileobj=layer, mode="w") as tar:
            tar.add(self._state / name / "root", arcname=".")
        machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
        rootfs = {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"]}
        config = {"architecture": machine, "os": "linux", "config": {"User": user}, "rootfs": rootfs}
        listed = [{"Config": "config.json", "RepoTags": [f"profgen.test/{name}:1"], "Layers": ["layer.tar"]}]
        archive = self._state / name / "image.tar"
        with tarfile.open(archive, "w") as tar:
            for member, data in (("config.json", config), ("manifest.json", listed), ("layer.tar", layer.getvalue())):
                _add(tar, member, data if isinstance(data, bytes) else json.dumps(data).encode())
        run(self.ctr("images", "import", str(archive)))

    def close(self) -> None:
        """Stop it, and what is left of its containers."""
        stop(self._daemon)
        kill_marked(str(self._state))


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


@pytest.fixture(scope="module")
def containerd() -> Iterator[Containerd]:
    if missing := [name for name in ("containerd", "ctr", "runc", "nsenter") if shutil.which(name) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    state = Path(tempfile.mkdtemp(prefix="profgen-lab-"))
    started: Any = None
    try:
        started = Containerd(state)
        yield started
    finally:
        if started is not None:
            started.close()
        shutil.rmtree(state, ignore_errors=True)


class Script:
    """The containerd-run.sh of a profile, as a Runtime; the image has the job's user."""

    name = "containerd-run.sh"

    def __init__(self, daemon: Containerd, profile: Path, job: Job) -> None:
        self._daemon, self._script = daemon, profile / self.name
        self._image = f"ctr-{job.uid}"
        daemon.image(self._image, f"{job.uid}:{job.gid}")

    def command(self, identity: str, directory: Path, job: Job, confinement: Confinement) -> list[str]:
        """See Runtime."""
        words = ["env", f"PROFGEN_CTR={' '.join(self._daemon.ctr())}"]
        words += [f"PROFGEN_READ_ONLY={'yes' if confinement.read_only else 'no'}", "sh", str(self._script)]
        words += ["--rm", "--net-host", *(f"--env={name}={value}" for name, value in ENVIRONMENT.items())]
        paths = [(path, "ro") for path in (Path("/usr"), Path("/etc"), *job.readable)]
        paths += [(path, "rw") for path in job.writable]
        words += [f"--mount=type=bind,src={path},dst={path},options=rbind:{access}" for path, access in paths]
        return [*words, f"profgen.test/{self._image}:1", identity, *job.argv]

    def signal(self, identity: str, name: str) -> None:
        """See Runtime."""
        run(self._daemon.ctr("task", "kill", "--signal", f"SIG{name}", identity))

    def remove(self, identity: str, directory: Path) -> None:
        """See Runtime."""
        run(self._daemon.ctr("task", "kill", "--signal", "SIGKILL", identity), check=False)
        run(self._daemon.ctr("container", "rm", identity), check=False)


def generated(trace: Path, profile: Path) -> Confinement:
    return runs.generated(trace, profile, "runc", True, ("-t", "containerd,capabilities"))


@pytest.mark.parametrize("kind", [*SAMPLE_WORKLOADS, Nginx, Redis], ids=lambda kind: kind.name)
def test_runs_clean(kind: type[Workload], recordings: Recordings, containerd: Containerd, tmp_path: Path) -> None:
    workload = recordings.workload(kind)
    confinement = generated(recordings.trace(kind, "ebpf"), tmp_path / "profile")
    runs.confined(workload, Script(containerd, tmp_path / "profile", workload.job), confinement)


def test_what_was_never_done_is_refused(containerd: Containerd, profgen: Profgen, tmp_path: Path) -> None:
    """But the number of processes: ctr cannot limit them."""
    done = profgen("record", "-q", "-o", "quiet.json", "--", *probe.QUIET, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    generated(tmp_path / "quiet.json", tmp_path / "profile")
    job = Job(probe.TRYING)
    script = Script(containerd, tmp_path / "profile", job)
    with container(script, job, Confinement(None, read_only=True)) as running:
        assert running.wait(60) == 0, running.report()
        assert running.stdout.split() == ["forks"]
