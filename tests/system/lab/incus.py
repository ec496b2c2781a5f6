"""LXD for real, as Incus has been forked from it: a daemon of our own, unpacked, in its own mount namespace."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from system.harness import run_here
from system.lab.processes import ENVIRONMENT, LabError, run
from system.lab.runtimes import Job, skeleton
from waiting import HANG_SECONDS, eventually

CGROUPS = Path("/sys/fs/cgroup")
PACKAGES = Path("/var/cache/profgen-tests")
"""Where tests/packages.sh leaves Debian's packages. Installed, LXD would start a daemon and change LXC's own files."""
NAMES = ("lxd", "lxd-client", "libdqlite0", "libraft2", "rsync", "libpopt0")
IMAGE = "skeleton"
METADATA = """architecture: {machine}
creation_date: 1700000000
properties: {{description: a root without programs}}
"""
START = 'mount --make-rprivate / && lxd --group root --logfile "$LXD_DIR/lxd.log"; exit'
APART = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child")
"""Containers, and what LXD starts for them, outlive it: with a process namespace all end when it does."""


def why_not() -> str | None:
    """What keeps LXD from running here; None when it can."""
    missing = [name for name in NAMES if not (PACKAGES / f"{name}.deb").exists()]
    return f"not in {PACKAGES}: {', '.join(missing)}" if missing else None


class Daemon:
    """LXD with a pool of directories, and an image that has no programs. ``state`` holds its files."""

    def __init__(self, state: Path) -> None:
        root = state / "programs"
        for name in NAMES:
            run(["dpkg", "-x", str(PACKAGES / f"{name}.deb"), str(root)])
        libraries = ":".join(map(str, root.glob("usr/lib/*/")))
        self._directory, self._log = state / "state", state / "log"
        self._directory.mkdir()
        self._environment = ENVIRONMENT | {
            "PATH": f"{root}/usr/bin:{ENVIRONMENT['PATH']}",
            "LD_LIBRARY_PATH": libraries,
            "LXD_DIR": str(self._directory),
            "HOME": str(state),
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*APART, "sh", "-c", START],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )
        try:
            self("waitready", "--timeout=60", program="lxd")
            self("storage", "create", "pool", "dir")
            self("image", "import", str(_image(state)), "--alias", IMAGE)
        except LabError as error:
            self.close()
            raise LabError(f"LXD did not start: {error}\n{self._log.read_text(errors='replace')[-2000:]}") from None

    def __call__(self, *words: str, program: str = "lxc", stdin: str = "", check: bool = True) -> str:
        """Run a command of the client, and return what it printed. LabError when it fails."""
        done = subprocess.run(
            [*self._inside(), program, *words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=HANG_SECONDS,
            env=self._environment,
        )
        if check and done.returncode != 0:
            raise LabError(f"{program} {' '.join(words)}: {done.stderr}{done.stdout}")
        return done.stdout

    def _inside(self) -> list[str]:
        """Words that start a command next to the daemon."""
        if not eventually(lambda: self._process.poll() is not None or self._first(), HANG_SECONDS):
            raise LabError("unshare starts nothing")
        return ["nsenter", "--target", self._first(), "--mount", "--pid", "--"]

    def _first(self) -> str:
        """The number of the first process of the namespace, empty when there is none."""
        path = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return path.read_text().strip() if path.exists() else ""

    def signal(self, pid: int, name: str) -> None:
        """Send a signal to a process that the daemon knows by this number."""
        run([*self._inside(), "kill", f"-{name}", str(pid)])

    def with_loopback(self, pid: int) -> None:
        """Set up the loopback of the network that a process is in."""
        run([*self._inside(), "nsenter", f"--net=/proc/{pid}/ns/net", "ip", "link", "set", "lo", "up"])

    def log(self, name: str) -> str:
        """What a container's first process printed, and what LXC said."""
        logs = self._directory / "logs" / name
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in sorted(logs.glob("*")) if path.is_file())

    def console(self, name: str) -> str:
        path = self._directory / "logs" / name / "console.log"
        return path.read_text(errors="replace").replace("\r\n", "\n") if path.exists() else ""

    def close(self) -> None:
        if first := self._first():
            os.kill(int(first), signal.SIGKILL)
        self._process.wait(HANG_SECONDS)  # until every process of the namespace has ended
        for group in CGROUPS.glob("**/lxc.pivot"):
            with contextlib.suppress(OSError):  # another container's, as yet
                group.rmdir()


def _image(state: Path) -> Path:
    root, path = state / "rootfs", state / "image.tar"
    skeleton(root)
    (state / "metadata.yaml").write_text(METADATA.format(machine=os.uname().machine))
    with tarfile.open(path, "w") as archive:
        archive.add(state / "metadata.yaml", "metadata.yaml")
        archive.add(root, "rootfs")
    return path


class Instance:
    """A container whose first process is the job, for system.lab.runs.served. Its status is not known: LXD keeps none.

    ``profile``: the directory that ``generate`` wrote, None for an instance without a profile. ``ports``: (protocol,
    number) of those that lead from the machine's loopback to the container's.
    """

    def __init__(
        self,
        daemon: Daemon,
        name: str,
        directory: Path,
        job: Job,
        profile: Path | None,
        ports: Sequence[tuple[str, int]] = (),
    ) -> None:
        self._daemon, self._name = daemon, name
        text = "config: {}\ndevices: {}\n"
        if profile is not None:
            run_here("generate", "-q", str(profile), "-t", "incus", "-O", f"incus.name={name}", "-o", str(directory))
            text = (directory / "incus.yaml").read_text()
        daemon("profile", "create", name)
        daemon("profile", "edit", name, stdin=text)
        kept: dict[str, Any] = yaml.safe_load(daemon("profile", "show", name))
        said: dict[str, Any] = yaml.safe_load(text)
        assert kept["config"] == said["config"], "LXD keeps it as it is written"
        lines = [f"lxc.init.cmd = {' '.join(map(_quoted, job.argv))}"]
        lines += [f"lxc.init.uid = {job.uid}", f"lxc.init.gid = {job.gid}"] if job.uid else []
        lines += [f"lxc.environment = {key}={value}" for key, value in ENVIRONMENT.items()]
        said["config"]["raw.lxc"] = said["config"].get("raw.lxc", "") + "".join(f"{line}\n" for line in lines)
        daemon("profile", "edit", name, stdin=yaml.safe_dump(said))
        paths = [(path, "true") for path in (Path("/usr"), Path("/etc"), *job.readable)]
        paths += [(path, "false") for path in job.writable]
        devices = [{"type": "disk", "source": str(path), "path": str(path), "readonly": word} for path, word in paths]
        for kind, number in ports:
            address = f"{kind}:127.0.0.1:{number}"
            devices.append({"type": "proxy", "listen": address, "connect": address})
        own = {"config": {"security.privileged": "true"}, "devices": {f"d{n}": row for n, row in enumerate(devices)}}
        daemon("init", IMAGE, name, "-s", "pool", "-p", name, stdin=yaml.safe_dump(own))
        daemon("start", name)
        if ports:
            # Without a network, the loopback of the container is down.
            daemon.with_loopback(self._state()["pid"])

    @property
    def running(self) -> bool:
        return self._state()["status"] == "Running"

    @property
    def stdout(self) -> str:
        return self._daemon.console(self._name)

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self._daemon("query", f"/1.0/instances/{self._name}/state"))
        return state

    def signal(self, name: str) -> None:
        self._daemon.signal(self._state()["pid"], name)

    def wait(self, seconds: float) -> int:
        if not eventually(lambda: not self.running, seconds):
            raise LabError(f"still running after {seconds} s{self.report()}")
        return 0

    def report(self) -> str:
        return f"; {self._daemon.log(self._name)}"

    def remove(self) -> None:
        self._daemon("delete", "-f", self._name, check=False)
        self._daemon("profile", "delete", self._name, check=False)


def _quoted(word: str) -> str:
    """A word as LXC splits it (lxc_string_split_quoted)."""
    assert not set(word) & set('"\n\\'), "not needed here"
    return f'"{word}"' if not word or set(word) & set(" '") else word
