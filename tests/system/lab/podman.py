"""Podman with a store of its own, and its containers as a Runtime."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from executables import write_program
from system.harness import CHECKOUT
from system.lab.processes import ENVIRONMENT, run
from system.lab.runtimes import Confinement, Job, apart, skeleton
from unit.targets.quadlets import split

LIMITS = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024")
"""Podman's own are higher, which takes CAP_SYS_RESOURCE."""
IMAGE = "lab"
QUADLETS = (Path("/usr/libexec/podman/quadlet"), CHECKOUT / ".venv/quadlet")
"""Where Podman's generator may be, which 4.4 and newer have (tests/quadlet.sh)."""


def quadlet() -> Path | None:
    """Return Podman's generator of units."""
    return next((path for path in QUADLETS if path.exists()), None)


class Podman:
    """``podman run`` of an empty image, into which the host's /usr and /etc are mounted.

    ``before``: what stands in front of the command, or of who calls it. ``words``: the command with its global options.
    """

    def __init__(self, directory: Path, run_root: str, runtime: str) -> None:
        self.name = f"podman with {runtime}"
        self.runtime = runtime
        self.before = apart(version_1=True) if runtime == "crun" else []
        self.words = ["podman", "--root", f"{directory}/store", "--runroot", run_root, "--storage-driver=vfs"]
        self.words += ["--cgroup-manager=cgroupfs", "--events-backend=file", f"--runtime={runtime}"]
        self.client = write_program(directory / "podman", f'#!/bin/sh\nexec {shlex.join(self.tool())} "$@"\n')
        """A program that is Podman with all of that: what PROFGEN_ENGINE names."""
        skeleton(directory / "root")
        for name in ("passwd", "group"):  # with --read-only Podman puts the image's own over those of /etc
            shutil.copy(f"/etc/{name}", directory / "root/etc")
        with tarfile.open(directory / "root.tar", "w") as archive:
            archive.add(directory / "root", arcname=".")
        run(self.tool("import", f"{directory}/root.tar", IMAGE))

    def tool(self, *words: str) -> list[str]:
        """A command line."""
        return [*self.before, *self.words, *words]

    def options(self, job: Job) -> list[str]:
        """Options of ``podman run`` that a job needs, and that a recording keeps."""
        words = ["--network=host", "--workdir=/", f"--user={job.uid}:{job.gid}"]
        words += [f"--volume={path}:{path}:ro" for path in ("/usr", "/etc", *job.readable)]
        return words + [f"--volume={path}:{path}" for path in job.writable]

    def every(self, identity: str, directory: Path, job: Job) -> list[str]:
        """Options of ``podman run`` that no recording keeps."""
        words = ["--name", identity, "--cidfile", str(directory / "cid"), "--cgroups=enabled", *LIMITS]
        words += [f"--group-add={group}" for group in job.groups]
        return words + [f"--env={name}={value}" for name, value in ENVIRONMENT.items()]

    def command(self, identity: str, directory: Path, job: Job, confinement: Confinement) -> list[str]:
        """See Runtime. Confined only by Podman's defaults."""
        return self.tool("run", *self.every(identity, directory, job), *self.options(job), IMAGE, *job.argv)

    def signal(self, identity: str, name: str) -> None:
        """See Runtime."""
        run(self.tool("kill", f"--signal={name}", identity))

    def remove(self, identity: str, directory: Path) -> None:
        """See Runtime."""
        run(self.tool("rm", "--force", "--ignore", "--time=0", "--volumes", identity), check=False, seconds=20)


class PodmanScript(Podman):
    """The podman-run.sh of a recording, as it was recorded."""

    def __init__(self, podman: Podman, script: Path, read_only: bool = True, words: Sequence[str] = ()) -> None:
        self.__dict__ |= podman.__dict__
        self.name = f"podman-run.sh with {podman.runtime}"
        self.script, self.read_only, self.extra = script, read_only, words

    def command(self, identity: str, directory: Path, job: Job, confinement: Confinement) -> list[str]:
        """See Runtime. The job's words are in the script."""
        settings = [f"PROFGEN_ENGINE={self.client}", f"PROFGEN_READ_ONLY={'yes' if self.read_only else 'no'}"]
        words = [*self.every(identity, directory, job), *self.extra]
        return ["env", *settings, str(self.script), "--as-recorded", *words]


class PodmanUnit(Podman):
    """The command that Podman's generator makes of a Quadlet unit, with the root and cgroups of this machine."""

    def __init__(self, podman: Podman, unit: Path) -> None:
        self.__dict__ |= podman.__dict__
        self.name = f"quadlet with {podman.runtime}"
        self.unit = unit

    def command(self, identity: str, directory: Path, job: Job, confinement: Confinement) -> list[str]:
        """See Runtime. What belongs to systemd alone is left out, and the profile is taken from next to the unit."""
        generator = quadlet()
        assert generator is not None
        said = run([generator, "--dryrun"], env={"QUADLET_UNIT_DIRS": str(self.unit.parent)}).stdout
        (start,) = (line.partition("=")[2] for line in said.splitlines() if line.startswith("ExecStart="))
        words = split(start.replace("%N", self.unit.stem).replace("%t", "/run"))
        assert words[:3] == ["/usr/bin/podman", "run", "--name"], words
        prefixes, whole = ("--cidfile=", "--cgroups=", "--sdnotify="), ("--replace", "--rm", "-d")
        rest = [word for word in words[4:] if not word.startswith(prefixes) and word not in whole]
        installed = f"%E/containers/systemd/{self.unit.stem}.seccomp.json"
        assert f"seccomp={installed}" in rest, rest
        rest = [word.replace(installed, str(self.unit.with_suffix(".seccomp.json"))) for word in rest]
        return self.tool("run", *self.every(identity, directory, job), *rest)


@contextlib.contextmanager
def podman(directory: Path, runtime: str) -> Iterator[Podman]:
    """Podman for the length of a block. Nothing of it is left behind."""
    # Podman wants paths of at most 50 characters.
    with tempfile.TemporaryDirectory(prefix="profgen-podman-", dir="/tmp") as run_root:
        found = Podman(directory, run_root, runtime)
        try:
            yield found
        finally:
            run(found.tool("rm", "--all", "--force", "--time=0"), check=False)
            run(found.tool("volume", "prune", "--force"), check=False)
