"""A bundle from ``runc spec``, with ``generate -t oci --into`` on its config.json: it runs as it is written, and what
the workload never did is refused."""
# ruff: noqa: F811 - the fixtures that are imported are arguments of the tests

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from system.harness import Profgen, run_here
from system.lab import probe, runs, runtimes
from system.lab.fixtures import Recordings, recordings  # noqa: F401
from system.lab.processes import ENVIRONMENT, run
from system.lab.runtimes import Confinement, Job, Runc, apart, container, skeleton
from system.lab.workloads import SAMPLE_WORKLOADS, Nginx, Redis, Workload
from waiting import HANG_SECONDS

pytestmark = pytest.mark.usefixtures("as_root")


class Bundle(Runc):
    """``runc run`` of a bundle that ``runc spec`` made, with a user's own members, rewritten by profgen.

    ``profile``: the directory that ``generate`` wrote; None for no rewriting, and a root that can be written.
    ``options``: of ``generate``.
    """

    def __init__(self, state: Path, profile: Path | None, *options: str) -> None:
        super().__init__(state)
        self._profile, self._options = profile, options

    def command(self, identity: str, directory: Path, job: Job, confinement: Confinement) -> list[str]:
        """See Runtime. ``confinement`` is not looked at."""
        skeleton(directory / "rootfs")
        run([self.name, "spec", *(["--bundle", directory] if self.name == "runc" else ["-b", directory])])
        path = directory / "config.json"
        config = users(json.loads(path.read_text()), identity, job)
        config["root"]["readonly"] = self._profile is not None
        path.write_text(json.dumps(config, indent="\t"))
        if self._profile is not None:
            words = ("generate", "-q", str(self._profile), "-t", "oci", "--into", str(path), "-o", str(path))
            run_here(*words, *self._options)
            once = path.read_bytes()
            run_here(*words, *self._options)
            assert path.read_bytes() == once, "twice is the same as once"
        return self._tool("run", "--bundle", str(directory), identity)


class CrunBundle(Bundle):
    """The same with crun, which gets version 1 of cgroups alone: with version 2 a filter of devices takes more than
    this machine gives."""

    name = "crun"

    def _tool(self, *words: str) -> list[str]:
        words = (self.name, "--root", str(self._root), "--cgroup-manager=cgroupfs", *words)
        return [*apart(version_1=True), *words]


def users(config: dict[str, Any], identity: str, job: Job) -> dict[str, Any]:
    """What a user changes in the file that ``spec`` writes: what is started, as whom, and the mounts; the network is
    the host's."""
    process = config["process"]
    process["terminal"] = False
    process["args"] = list(job.argv)
    process["user"] = {"uid": job.uid, "gid": job.gid, "additionalGids": list(job.groups)}
    process["env"] = [f"{name}={value}" for name, value in ENVIRONMENT.items()]
    process.pop("rlimits", None)
    linux = config["linux"]
    linux["namespaces"] = [row for row in linux["namespaces"] if row["type"] not in ("network", "cgroup")]
    linux["cgroupsPath"] = f"/{identity}"
    config["mounts"] = [row for row in config["mounts"] if row["type"] != "cgroup"]
    for paths, access in ((("/usr", "/etc", *job.readable), "ro"), (job.writable, "rw")):
        config["mounts"] += [
            {"destination": str(path), "type": "bind", "source": str(path), "options": ["rbind", "rprivate", access]}
            for path in paths
        ]
    return config


def bundle(name: str, state: Path, profile: Path | None, *options: str) -> Bundle:
    if reason := runtimes.why_not(name):
        pytest.skip(reason)
    return {"runc": Bundle, "crun": CrunBundle}[name](state, profile, *options)


@pytest.mark.parametrize("name", ["runc", "crun"])
@pytest.mark.parametrize("kind", [*SAMPLE_WORKLOADS, Nginx, Redis], ids=lambda kind: kind.name)
def test_runs_as_it_is_written(name: str, kind: type[Workload], recordings: Recordings, tmp_path: Path) -> None:
    workload = recordings.workload(kind)
    confinement = runs.generated(recordings.trace(kind, "ebpf"), tmp_path / "profile", name, True)
    runs.confined(workload, bundle(name, tmp_path, tmp_path / "profile"), confinement)


def test_what_was_never_done_is_refused(profgen: Profgen, tmp_path: Path) -> None:
    """Ten acts, in a bundle whose root cannot be written, as ``spec`` has it. Without a profile some of them work."""
    done = profgen("record", "-q", "-o", "quiet.json", "--", *probe.QUIET, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    confinement = runs.generated(tmp_path / "quiet.json", tmp_path / "profile", "runc", True)
    job = Job(probe.TRYING)
    for name, profile in (("runc", tmp_path / "profile"), ("crun", tmp_path / "profile"), ("runc", None)):
        with container(bundle(name, tmp_path, profile), job, confinement) as running:
            assert running.wait(HANG_SECONDS) == 0, running.report()
            done_acts = set(running.stdout.split())
        if profile is None:
            assert {"ptrace", "forks", "keyctl"} & done_acts
        else:
            assert not done_acts, name
