"""Patched manifests under ``podman kube play``: what the target kubernetes says is enforced for real."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from system.harness import Profgen, why_no_ebpf
from system.lab import probe
from system.lab.podman import IMAGE, Podman, podman
from system.lab.processes import run
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
