"""Patched manifests under ``podman kube play``: what the target kubernetes says is enforced for real."""
# ruff: noqa: F811 - the fixtures that are imported are arguments of the tests

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from system.harness import Profgen, run_here, why_no_ebpf
from system.lab import probe, runs
from system.lab.cri import of_job
from system.lab.fixtures import Recordings, recordings  # noqa: F401
from system.lab.podman import IMAGE, Podman, podman
from system.lab.processes import run
from system.lab.workloads import SAMPLE_WORKLOADS, Nginx, Redis, Workload
from waiting import HANG_SECONDS

pytestmark = [
    pytest.mark.usefixtures("as_root"),
    pytest.mark.skipif(why_no_ebpf() is not None, reason=f"profiles come from the eBPF tracer: {why_no_ebpf()}"),
]

CONFIGURATION = """[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
infra_image = "localhost/pause:latest"
"""
PAUSE = """#include <signal.h>
#include <unistd.h>
int main(void)
{
    signal(SIGTERM, _exit);
    for (;;)
        pause();
}
"""
"""Holds the namespaces of a pod, and ends at once when it must."""
ANNOTATION = "container.seccomp.security.alpha.kubernetes.io/probe: localhost/probe.json"
MANIFEST = """# A probe of what is refused.
apiVersion: v1
kind: Pod
metadata:
  name: {name}   # one at a time
spec:
  restartPolicy: Never
  hostNetwork: true
  containers:
    - name: probe
      image: localhost/{image}:latest
      command:
{command}
      volumeMounts:
        - {{name: usr, mountPath: /usr, readOnly: true}}
        - {{name: etc, mountPath: /etc, readOnly: true}}
  volumes:
    - {{name: usr, hostPath: {{path: /usr}}}}
    - {{name: etc, hostPath: {{path: /etc}}}}
"""

WORDS = "\n".join(f"        - {json.dumps(word.strip())}" for word in probe.TRYING)


@pytest.fixture(scope="module")
def engine(public_dir: Path) -> Iterator[Podman]:
    directory = public_dir / "kube"
    directory.mkdir()
    (directory / "pause.c").write_text(PAUSE)
    held = directory / "pause"
    held.mkdir()
    run(["gcc", "-static", "-O1", "-o", str(held / "pause"), str(directory / "pause.c")])
    run(["tar", "-cf", str(directory / "pause.tar"), "-C", str(held), "pause"])
    with podman(directory, "runc") as found:
        run(found.tool("import", '--change=ENTRYPOINT ["/pause"]', f"{directory}/pause.tar", "pause"))
        try:
            yield found
        finally:
            run(found.tool("pod", "rm", "--all", "--force", "--time=0"), check=False)


def played(engine: Podman, manifest: Path, profiles: Path, name: str) -> tuple[int, list[str]]:
    """Run the pod of a manifest; return the status of its container, and the lines that it printed."""
    words = engine.tool("kube", "play", f"--seccomp-profile-root={profiles}", str(manifest))
    run(words, env={"CONTAINERS_CONF": str(manifest.parent / "containers.conf")}, seconds=HANG_SECONDS)
    status = int(run(engine.tool("wait", f"{name}-probe"), seconds=HANG_SECONDS).stdout)
    lines = run(engine.tool("logs", f"{name}-probe")).stdout.split()
    run(engine.tool("pod", "rm", "--force", "--time=0", name), seconds=HANG_SECONDS)
    return status, lines


@dataclass(frozen=True)
class PodContainer:
    """The container of a pod that was played, as runs.Running."""

    engine: Podman
    name: str

    @property
    def running(self) -> bool:
        said = run(self.engine.tool("inspect", "--format={{.State.Running}}", self.name), check=False)
        return said.stdout.strip() == "true"

    @property
    def stdout(self) -> str:
        return str(run(self.engine.tool("logs", self.name), seconds=HANG_SECONDS).stdout)

    def signal(self, name: str) -> None:
        run(self.engine.tool("kill", f"--signal={name}", self.name), seconds=HANG_SECONDS)

    def wait(self, seconds: float) -> int:
        return int(run(self.engine.tool("wait", self.name), seconds=seconds).stdout)

    def report(self) -> str:
        done = run(self.engine.tool("logs", self.name), check=False, seconds=HANG_SECONDS)
        return f"{done.stdout}{done.stderr}"


@pytest.mark.parametrize("kind", [*SAMPLE_WORKLOADS, Nginx, Redis], ids=lambda kind: kind.name)
def test_runs_clean(kind: type[Workload], engine: Podman, recordings: Recordings, public_dir: Path) -> None:
    """The root read-only: what a workload writes is in its own directory, or in a volume that the edit adds."""
    workload = recordings.workload(kind)
    with tempfile.TemporaryDirectory(dir=public_dir) as place:
        directory, name = Path(place), workload.name
        (directory / "containers.conf").write_text(CONFIGURATION)
        plain = of_job(workload.job, name)
        plain["spec"]["containers"][0]["image"] = f"localhost/{IMAGE}:latest"
        plain["spec"]["restartPolicy"] = "Never"
        # Podman before 5.0 reads the annotation that the field seccompProfile replaced; saying the same, it stays.
        key, _, value = ANNOTATION.replace("probe", name).partition(": ")
        plain["metadata"]["annotations"] = {key: value}
        (directory / "plain.yaml").write_text(yaml.safe_dump(plain))
        options = ("-O", "kubernetes.read-only=yes", "-O", f"kubernetes.seccomp={name}.json", "--runtime", "runc")
        words = ("-q", str(recordings.trace(kind, "ebpf")), "-t", "kubernetes", "--into", f"{directory}/plain.yaml")
        run_here("generate", *words, *options, "-o", f"{directory}/patched.yaml")
        (directory / f"{name}.seccomp.json").rename(directory / f"{name}.json")
        workload.reset()
        play = engine.tool("kube", "play", f"--seccomp-profile-root={directory}", f"{directory}/patched.yaml")
        run(play, env={"CONTAINERS_CONF": f"{directory}/containers.conf"}, seconds=HANG_SECONDS)
        try:
            runs.served(workload, PodContainer(engine, f"{name}-{name}"), "podman kube play")
        finally:
            run(engine.tool("pod", "rm", "--force", "--time=0", name), seconds=HANG_SECONDS)


def test_what_was_never_recorded_is_refused(engine: Podman, profgen: Profgen, public_dir: Path) -> None:
    """Ten acts: a plain pod does most of them, a patched one only the one that a pod cannot limit."""
    with tempfile.TemporaryDirectory(dir=public_dir) as name:
        directory = Path(name)
        done = profgen("record", "-q", "-o", "probe.trace.json", "--", *probe.QUIET, cwd=directory)
        assert done.returncode == 0, done.stderr
        (directory / "containers.conf").write_text(CONFIGURATION)
        plain = directory / "plain.yaml"
        plain.write_text(MANIFEST.format(name="plain", image=IMAGE, command=WORDS))
        options = ("-O", "kubernetes.read-only=yes", "-O", "kubernetes.seccomp=probe.json")
        words = ("-t", "kubernetes", "--into", "plain.yaml", *options, "-o", "patched.yaml")
        done = profgen("generate", "probe.trace.json", *words, cwd=directory)
        assert done.returncode == 0, done.stderr
        assert "install -D -m 644" in done.stderr
        patched = directory / "patched.yaml"
        # Podman before 5.0 reads the annotation that the field seccompProfile replaced.
        text = patched.read_text().replace("name: plain ", f"annotations: {{{ANNOTATION}}}\n  name: patched ")
        assert "  # one at a time\n" in text
        patched.write_text(text)
        profiles = directory / "profiles"
        profiles.mkdir()
        shutil.copy(directory / "probe.seccomp.json", profiles / "probe.json")
        status, lines = played(engine, plain, profiles, "plain")
        assert status == 0
        assert {"write", "mknod", "chown", "setuid", "forks"} <= set(lines)
        status, lines = played(engine, patched, profiles, "patched")
        assert (status, lines) == (0, ["forks"]), "the limit of processes is a setting of the kubelet"
