"""``generate -t lxc --into`` on the configuration of a container: LXC runs it as it is written, and what the workload
never did is refused."""
# ruff: noqa: F811 - the fixtures that are imported are arguments of the tests

from __future__ import annotations

import difflib
import re
import shutil
from pathlib import Path

import pytest
from system.harness import Profgen, run_here
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


def packaged() -> list[Path]:
    """The configurations that LXC's packages bring."""
    places = (Path("/usr/share/doc/lxc/examples"), Path("/usr/share/lxc/config"))
    return [path for place in places for path in sorted(place.glob("*.conf")) if b"\nlxc." in path.read_bytes()]


OURS = re.compile(
    r"lxc\.(seccomp\.profile|cap\.(drop|keep)|no_new_privs|cgroup2?\.(devices\.(allow|deny)|pids\.max)) ?="
)


def test_configurations_of_packages_are_rewritten(profgen: Profgen, tmp_path: Path) -> None:
    """Only lines of the profile's own keys change, twice is once, and LXC reads the same of everything else."""
    (tmp_path / "file").touch()
    done = profgen("record", "-q", "-o", "chown.json", "--", "chown", "1", "file", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    runs.generated(tmp_path / "chown.json", tmp_path / "profile", "none", True)
    found = packaged()
    assert found or not Path("/usr/share/lxc/config").is_dir()
    for path in found:
        before, after = tmp_path / path.name / "before" / "config", tmp_path / path.name / "after" / "config"
        for place in (before, after):
            place.parent.mkdir(parents=True)
            shutil.copy(path, place)
        words = ["generate", "-q", str(tmp_path / "profile"), "-t", "lxc", "-O", f"lxc.cgroup={lxc.VERSION}"]
        words += ["--into", str(after), "-o", str(after)]
        run_here(*words)
        once = after.read_text()
        run_here(*words)
        assert after.read_text() == once, path
        changed = [line for line in difflib.ndiff(path.read_text().splitlines(), once.splitlines()) if line[0] in "+-"]
        assert changed, path
        assert [line for line in changed if not OURS.match(line[2:].lstrip())] == [], path
        said = lxc.values(after, ["lxc.cap.keep", "lxc.no_new_privs"])
        assert said == ["lxc.cap.keep = chown", "lxc.no_new_privs = 1"], path
        keys = {line.partition("=")[0].strip() for line in once.splitlines() if line.startswith("lxc.")}
        others = sorted(key for key in keys - {"lxc.include"} if not OURS.match(f"{key}="))
        assert lxc.values(after, others) == lxc.values(before, others), path
