"""containerd-run.sh with a containerd of our own: what was recorded runs clean, and what never happened is refused."""
# ruff: noqa: F811 - the fixtures that are imported are arguments of the tests

from __future__ import annotations

from pathlib import Path

import pytest
from system.harness import Profgen
from system.lab import probe, runs
from system.lab.cri import Cri
from system.lab.fixtures import Recordings, cri, recordings  # noqa: F401
from system.lab.processes import ENVIRONMENT, run
from system.lab.runtimes import Confinement, Job, container, skeleton
from system.lab.workloads import SAMPLE_WORKLOADS, Nginx, Redis, Workload
from waiting import HANG_SECONDS

pytestmark = pytest.mark.usefixtures("as_root")


class Script:
    """The containerd-run.sh of a profile, as a Runtime; the image has the job's user."""

    name = "containerd-run.sh"

    def __init__(self, cri: Cri, profile: Path, job: Job) -> None:
        self._cri, self._script = cri, profile / self.name
        self._image = f"profgen.test/ctr-{job.uid}:1"
        root = cri.state / f"ctr-{job.uid}"
        if not root.exists():
            skeleton(root)
            cri.load(self._image, root, User=f"{job.uid}:{job.gid}")

    def command(self, identity: str, directory: Path, job: Job, confinement: Confinement) -> list[str]:
        """See Runtime."""
        words = ["env", f"PROFGEN_CTR={' '.join(self._cri.ctr_inside())}"]
        words += [f"PROFGEN_READ_ONLY={'yes' if confinement.read_only else 'no'}", "sh", str(self._script)]
        words += ["--rm", "--net-host", *(f"--env={name}={value}" for name, value in ENVIRONMENT.items())]
        paths = [(path, "ro") for path in (Path("/usr"), Path("/etc"), *job.readable)]
        paths += [(path, "rw") for path in job.writable]
        words += [f"--mount=type=bind,src={path},dst={path},options=rbind:{access}" for path, access in paths]
        return [*words, self._image, identity, *job.argv]

    def signal(self, identity: str, name: str) -> None:
        """See Runtime."""
        run(self._cri.ctr("task", "kill", "--signal", f"SIG{name}", identity))

    def remove(self, identity: str, directory: Path) -> None:
        """See Runtime."""
        run(self._cri.ctr("task", "kill", "--signal", "SIGKILL", identity), check=False)
        run(self._cri.ctr("container", "rm", identity), check=False)


def generated(trace: Path, profile: Path) -> Confinement:
    return runs.generated(trace, profile, "runc", True, ("-t", "containerd,capabilities"))


@pytest.mark.parametrize("kind", [*SAMPLE_WORKLOADS, Nginx, Redis], ids=lambda kind: kind.name)
def test_runs_clean(kind: type[Workload], recordings: Recordings, cri: Cri, tmp_path: Path) -> None:
    workload = recordings.workload(kind)
    confinement = generated(recordings.trace(kind, "ebpf"), tmp_path / "profile")
    runs.confined(workload, Script(cri, tmp_path / "profile", workload.job), confinement)


def test_what_was_never_done_is_refused(cri: Cri, profgen: Profgen, tmp_path: Path) -> None:
    """But the number of processes: ctr cannot limit them."""
    done = profgen("record", "-q", "-o", "quiet.json", "--", *probe.QUIET, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    generated(tmp_path / "quiet.json", tmp_path / "profile")
    job = Job(probe.TRYING)
    script = Script(cri, tmp_path / "profile", job)
    with container(script, job, Confinement(None, read_only=True)) as running:
        assert running.wait(HANG_SECONDS) == 0, running.report()
        assert running.stdout.split() == ["forks"]
