"""Containers of systemd-nspawn with the settings that profgen generates: workloads run clean under load, and what was
never done is refused."""
# ruff: noqa: F811 - the fixtures that are imported are arguments of the tests

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from system.harness import Profgen, run_here
from system.lab import probe, runs
from system.lab.fixtures import Recordings, recordings  # noqa: F401
from system.lab.processes import LabError, kill_marked
from system.lab.runtimes import Confinement, Job, container, skeleton
from system.lab.workloads import SAMPLE_WORKLOADS, Nginx, Redis, Workload
from waiting import HANG_SECONDS, eventually

pytestmark = pytest.mark.usefixtures("as_root")

NAME = "profgen-lab"


class Nspawn:
    """systemd-nspawn with a file of settings, which it finds in a /run of its own. ``user``: its name."""

    name = "nspawn"

    def __init__(self, settings: Path, user: str = "root") -> None:
        self.settings, self.user = settings, user

    def command(self, identity: str, directory: Path, job: Job, confinement: Confinement) -> list[str]:
        """See Runtime. ``confinement`` is not looked at."""
        root = directory / "rootfs"
        skeleton(root)
        (root / "etc/os-release").touch()
        (root / "var/lib/redis").mkdir()
        script = (
            f"mount -t tmpfs none /run && mkdir -p /run/systemd/nspawn && "
            f'cp "{self.settings}" /run/systemd/nspawn/{NAME}.nspawn && exec "$@"'
        )
        binds = [f"--bind-ro={path}" for path in (Path("/usr"), Path("/etc"), *job.readable)]
        binds += [f"--bind={path}" for path in job.writable]
        return [
            "unshare", "--mount", "sh", "-c", script, "sh", "systemd-nspawn", "-q", f"--machine={NAME}", "-D",
            str(root), "--register=no", "--keep-unit", "--console=pipe", "--resolv-conf=off", "--timezone=off",
            f"--uuid={identity_of(identity)}", *(["--user", self.user] if job.uid else []), *binds, "--", *job.argv,
        ]  # fmt: skip

    def signal(self, identity: str, name: str) -> None:
        """See Runtime."""
        first = [pid for parent in supervisors(identity) for pid in children(parent)]
        if not first:
            raise LabError("the container has no process")
        os.kill(first[0], getattr(signal, f"SIG{name}"))

    def remove(self, identity: str, directory: Path) -> None:
        """See Runtime. A container ends with its supervisor."""
        if not eventually(lambda: not list(supervisors(identity)), 2):
            kill_marked(identity_of(identity))


def identity_of(identity: str) -> str:
    """A machine id that stands for the container."""
    return identity.encode().hex()[-32:].rjust(32, "a")


def supervisors(identity: str) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"systemd-nspawn") and f"--uuid={identity_of(identity)}".encode() in words:
            yield int(path.parent.name)


def children(pid: int) -> list[int]:
    return [int(one) for path in Path(f"/proc/{pid}/task").glob("*/children") for one in path.read_text().split()]


@pytest.fixture(autouse=True)
def installed() -> None:
    if shutil.which("systemd-nspawn") is None:
        pytest.skip("systemd-nspawn is not installed (package systemd-container)")


def generated(source: Path, directory: Path, *options: str) -> Path:
    run_here(
        "generate", "-q", str(source), "-t", "nspawn", "-O", f"nspawn.name={NAME}", *options, "-o", f"{directory}/"
    )
    return directory / f"{NAME}.nspawn"


UNCONFINED = Confinement(None)


@pytest.mark.parametrize("kind", [Nginx, Redis, *SAMPLE_WORKLOADS], ids=lambda kind: kind.name)
def test_workloads_under_load(kind: type[Workload], recordings: Recordings, tmp_path: Path) -> None:
    settings = generated(recordings.trace(kind, "ebpf"), tmp_path)
    runs.confined(recordings.workload(kind), Nspawn(settings, kind.user), UNCONFINED)


def test_what_was_never_done_is_refused(profgen: Profgen, tmp_path: Path) -> None:
    """All but more processes than were seen: the file has no limit for them. Without settings most acts work."""
    done = profgen("record", "-q", "-o", "quiet.json", "--", *probe.QUIET, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    settings = generated(tmp_path / "quiet.json", tmp_path, "-O", "nspawn.read-only=yes")
    nothing = tmp_path / "nothing.nspawn"
    nothing.write_text("[Exec]\nBoot=no\n")
    found = {}
    for path in (settings, nothing):
        with container(Nspawn(path), Job(probe.TRYING), UNCONFINED) as running:
            assert running.wait(HANG_SECONDS) == 0, running.report()
            found[path] = set(running.stdout.split())
    assert found[settings] == {"forks"}
    assert {"write", "mount", "ptrace", "mknod", "chown", "setuid", "unshare"} <= found[nothing]
