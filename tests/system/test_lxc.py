"""``generate -t lxc --into`` on the configuration of a container: LXC runs it as it is written, and what the workload
never did is refused."""
# ruff: noqa: F811 - the fixtures that are imported are arguments of the tests

from __future__ import annotations

from pathlib import Path

import pytest
from system.harness import Profgen
from system.lab import lxc, probe, runs
from system.lab.fixtures import Recordings, recordings  # noqa: F401
from system.lab.lxc import Lxc
from system.lab.runtimes import Job, container
from system.lab.workloads import SAMPLE_WORKLOADS, Nginx, Redis, Workload
from waiting import HANG_SECONDS

pytestmark = [
    pytest.mark.usefixtures("as_root"),
    pytest.mark.skipif(lxc.why_not() is not None, reason=f"LXC {lxc.why_not()}"),
]


@pytest.mark.parametrize(
    ("tool", "kind"),
    [
        *(("lxc-start", kind) for kind in (*SAMPLE_WORKLOADS, Nginx, Redis) if not kind.batch),
        *(("lxc-execute", kind) for kind in SAMPLE_WORKLOADS),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_runs_as_it_is_written(tool: str, kind: type[Workload], recordings: Recordings, tmp_path: Path) -> None:
    workload = recordings.workload(kind)
    confinement = runs.generated(recordings.trace(kind, "ebpf"), tmp_path / "profile", "none", True)
    runs.confined(workload, Lxc(tool, tmp_path / "profile"), confinement)


def test_what_was_never_done_is_refused(profgen: Profgen, tmp_path: Path) -> None:
    """Ten acts, in a container whose root cannot be written. Without a profile most of them work."""
    done = profgen("record", "-q", "-o", "quiet.json", "--", *probe.QUIET, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    confinement = runs.generated(tmp_path / "quiet.json", tmp_path / "profile", "none", True)
    for profile in (tmp_path / "profile", None):
        with container(Lxc("lxc-execute", profile, "lxc.read-only=yes"), Job(probe.TRYING), confinement) as running:
            assert running.wait(HANG_SECONDS) == 0, running.report()
            acts = set(running.stdout.split())
        if profile is None:
            assert {"write", "ptrace", "chown", "setuid", "forks"} <= acts
        else:
            assert not acts
