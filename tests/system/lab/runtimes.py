"""Container runtimes for real: runc, crun and a dockerd of our own. Each starts a program of this host, confined.

The container's root is a skeleton into which the host's /usr and /etc are mounted, so that the very binaries that were
recorded run in it. It shares the host's network: loads reach the workload at 127.0.0.1. It has its own process, mount,
IPC and host name namespaces.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from system.lab.processes import ENVIRONMENT, LabError, kill_marked, run, seccomp_log, stop, unmount_below
from waiting import eventually

CAPABILITY_SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")
LINKS = {
    "bin": "usr/bin",
    "sbin": "usr/sbin",
    "lib": "usr/lib",
    "lib32": "usr/lib32",
    "lib64": "usr/lib64",
    "libx32": "usr/libx32",
}
DIRECTORIES = ("dev", "etc", "proc", "root", "run", "sys", "tmp", "usr", "var", "var/lib", "var/log", "var/tmp")
DOCKER = "/usr/bin/docker"
"""The distribution's client, which fits its dockerd; another may come earlier on PATH."""

DIE_WITH_US = ("setpriv", "--pdeathsig", "TERM", "--")
"""In front of what is started: should the tests be killed, containers and dockerd end too (PR_SET_PDEATHSIG,
prctl(2))."""

HYBRID = Path("/sys/fs/cgroup/unified")
"""Where version 2 of cgroups is mounted on a machine that mounts both."""

_identities: list[str] = []
"""Of the containers that were made."""


def next_identity() -> str:
    """Return the name that the next container will have."""
    return f"profgen-lab-{os.getpid()}-{len(_identities) + 1}"


def apart(script: str = ":", version_1: bool = False) -> list[str]:
    """Return words that start a command in a mount namespace of its own, after the shell script ran there.

    ``version_1``: on a machine that mounts cgroups of both versions, which crun 1.8 refuses, it sees version 1 alone.
    With version 2 alone crun would raise RLIMIT_MEMLOCK for its filter of devices, which takes CAP_SYS_RESOURCE.
    """
    if version_1 and HYBRID.is_dir():
        script += f" && umount {HYBRID}"
    return ["unshare", "--mount", "sh", "-c", f'{script} && exec "$@"', "sh"]


@dataclass(frozen=True)
class Job:
    """What runs in a container. Host paths appear at the same place inside."""

    argv: tuple[str, ...]
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Confinement:
    """What it runs under. `seccomp`: a profile, None for no filter. `capabilities`: the OCI sets (bounding, effective,
    ...) by name."""

    seccomp: Path | None
    capabilities: Mapping[str, Sequence[str]] = field(default_factory=dict)
    no_new_privs: bool = True
    read_only: bool = False
    """With docker: the container's root."""

    @classmethod
    def with_capabilities(cls, seccomp: Path | None, names: Sequence[str], no_new_privs: bool = True) -> Confinement:
        """The sets of a process that starts as root: bounding, effective and permitted."""
        return cls(seccomp, {name: list(names) for name in CAPABILITY_SETS[:3]}, no_new_privs)


class Runtime(Protocol):
    """One way to start containers."""

    name: str

    def command(self, identity: str, directory: Path, job: Job, confinement: Confinement) -> list[str]:
        """The command that runs the container in the foreground and ends with its status."""

    def signal(self, identity: str, name: str) -> None:
        """Send a signal (``TERM``) to the container's first process."""

    def remove(self, identity: str, directory: Path) -> None:
        """Remove what is left of it, dead or alive. May raise LabError."""


class Container:
    """A running container; leaves nothing behind when closed. `directory` holds its bundle and output."""

    def __init__(self, runtime: Runtime, job: Job, confinement: Confinement) -> None:
        self.runtime = runtime
        self.identity = next_identity()
        _identities.append(self.identity)
        self.directory = Path(tempfile.mkdtemp(prefix="profgen-lab-"))
        self._log_before = len(seccomp_log())
        self._command = runtime.command(self.identity, self.directory, job, confinement)
        with open(self.directory / "stdout", "wb") as stdout, open(self.directory / "stderr", "wb") as stderr:
            self._process = subprocess.Popen(
                [*DIE_WITH_US, *self._command],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=ENVIRONMENT,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def stdout(self) -> str:
        return (self.directory / "stdout").read_text(errors="replace")

    @property
    def stderr(self) -> str:
        return (self.directory / "stderr").read_text(errors="replace")

    def signal(self, name: str) -> None:
        self.runtime.signal(self.identity, name)

    def wait(self, seconds: float) -> int:
        """Its exit status, 128+N for death by signal N. LabError when it does not end."""
        if not eventually(lambda: not self.running, seconds):
            raise LabError(f"still running after {seconds} s{self.report()}")
        return self._process.returncode

    def report(self) -> str:
        """What there is to say about a failure: output, and what the kernel logged about seccomp since the start."""
        denials = seccomp_log()[self._log_before :]
        parts = [
            f"; {self.runtime.name}: {' '.join(self._command)}",
            f"stdout: {self.stdout[-2000:]}",
            f"stderr: {self.stderr[-4000:]}",
        ]
        return "\n".join(parts + [f"kernel: {line}" for line in denials[-20:]])

    def close(self) -> None:
        try:
            with contextlib.suppress(LabError):
                self.runtime.remove(self.identity, self.directory)
            if not eventually(lambda: not self.running, 2):
                with contextlib.suppress(OSError):
                    os.killpg(self._process.pid, signal.SIGKILL)
            for word in self._marks():
                kill_marked(word)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
        finally:
            unmount_below(self.directory)
            shutil.rmtree(self.directory, ignore_errors=True)

    def _marks(self) -> list[str]:
        marks = [self.identity]
        with contextlib.suppress(OSError):
            marks.append((self.directory / "cid").read_text().strip())
        return [mark for mark in marks if mark]


@contextlib.contextmanager
def container(runtime: Runtime, job: Job, confinement: Confinement) -> Iterator[Container]:
    """A container for the length of a block."""
    started = Container(runtime, job, confinement)
    try:
        yield started
    finally:
        started.close()


def skeleton(root: Path) -> None:
    """An empty root directory with the host's merged-/usr links."""
    for name in DIRECTORIES:
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / "var/tmp").chmod(0o1777)
    for name, target in LINKS.items():
        if os.path.islink(f"/{name}"):
            (root / name).symlink_to(target)
    (root / "var/run").symlink_to("../run")


def bundle(directory: Path, identity: str, job: Job, confinement: Confinement) -> None:
    """Write an OCI bundle: config.json (runtime specification 1.0) and rootfs."""
    root = directory / "rootfs"
    skeleton(root)

    def bind(path: Path | str, *options: str) -> dict[str, Any]:
        return {
            "destination": str(path),
            "type": "bind",
            "source": str(path),
            "options": ["rbind", "rprivate", *options],
        }

    process: dict[str, Any] = {
        "terminal": False,
        "user": {"uid": job.uid, "gid": job.gid, "additionalGids": list(job.groups)},
        "args": list(job.argv),
        "env": [f"{name}={value}" for name, value in ENVIRONMENT.items()],
        "cwd": "/",
        "capabilities": {name: list(confinement.capabilities.get(name, ())) for name in CAPABILITY_SETS},
        "noNewPrivileges": confinement.no_new_privs,
    }
    linux: dict[str, Any] = {
        "namespaces": [{"type": name} for name in ("pid", "ipc", "uts", "mount")],
        "cgroupsPath": f"/{identity}",
        "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    }
    if confinement.seccomp is not None:
        linux["seccomp"] = json.loads(confinement.seccomp.read_text())
    config = {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": "rootfs", "readonly": False},
        "hostname": "lab",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
            },
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            },
            {
                "destination": "/dev/shm",
                "type": "tmpfs",
                "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777"],
            },
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]},
            {"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=755"]},
            *(bind(path, "ro") for path in ("/usr", "/etc", *job.readable)),
            *(bind(path, "rw") for path in job.writable),
        ],
        "linux": linux,
    }
    (directory / "config.json").write_text(json.dumps(config, indent=1))


class Runc:
    """`runc run`."""

    name = "runc"

    def __init__(self, state: Path) -> None:
        self._root = state / self.name

    def command(self, identity: str, directory: Path, job: Job, confinement: Confinement) -> list[str]:
        bundle(directory, identity, job, confinement)
        return self._tool("run", "--bundle", str(directory), identity)

    def signal(self, identity: str, name: str) -> None:
        run(self._tool("kill", identity, name))

    def remove(self, identity: str, directory: Path) -> None:
        run(self._tool("delete", "--force", identity), check=False, seconds=10)

    def _tool(self, *words: str) -> list[str]:
        return [self.name, "--root", str(self._root), *words]


class Crun(Runc):
    """`crun run`. crun refuses hosts that mount cgroups of both versions, so there it gets a mount namespace with
    version 2 alone."""

    name = "crun"

    def _tool(self, *words: str) -> list[str]:
        words = (self.name, "--root", str(self._root), "--cgroup-manager=cgroupfs", *words)
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        if any(line.split()[4] == "/sys/fs/cgroup" and " - cgroup2 " in line for line in mounts):
            return list(words)
        return [*apart("mount -t cgroup2 none /sys/fs/cgroup"), *words]


class Docker:
    """`docker run`, against a dockerd of our own with its own state, socket and containerd."""

    name = "docker"
    image = "lab"
    options: tuple[str, ...] = ("--storage-driver=vfs",)
    """More of the daemon's."""

    def __init__(self, state: Path) -> None:
        self.state = state / self.name
        self.state.mkdir(exist_ok=True)
        self._socket = f"unix://{self.state}/sock"
        self._mark = f"profgen-lab-{self.name}-{os.getpid()}"
        (self.state / "daemon.json").write_text("{}")
        with open(self.state / "log", "wb") as log:
            self._daemon = subprocess.Popen(
                [
                    *DIE_WITH_US,
                    *self.before(),
                    "dockerd",
                    f"--data-root={self.state}/data",
                    f"--exec-root={self.state}/exec",
                    f"--pidfile={self.state}/pid",
                    f"--host={self._socket}",
                    f"--config-file={self.state}/daemon.json",
                    "--iptables=false",
                    "--ip6tables=false",
                    "--bridge=none",
                    f"--cgroup-parent=/{self._mark}",
                    *self.options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=ENVIRONMENT,
                start_new_session=True,
            )
        try:
            self._prepare()
        except LabError:
            self.close()
            raise

    def before(self) -> list[str]:
        """What stands in front of the daemon."""
        return []

    @property
    def client_environment(self) -> dict[str, str]:
        """The environment in which a client (profgen, or a user's ``docker``) finds this dockerd."""
        return {
            "DOCKER_HOST": self._socket,
            "DOCKER_CONFIG": str(self.state),
            "PATH": f"/usr/bin:{ENVIRONMENT['PATH']}",
        }

    def _prepare(self) -> None:
        def answers() -> bool:
            return self._daemon.poll() is not None or run(self._tool("version"), check=False).returncode == 0

        if not eventually(answers) or self._daemon.poll() is not None:
            raise LabError(f"dockerd did not start: {(self.state / 'log').read_text(errors='replace')[-2000:]}")
        skeleton(self.state / "root")
        archive = self.state / "root.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(self.state / "root", arcname=".")
        run(self._tool("import", str(archive), self.image))

    def command(self, identity: str, directory: Path, job: Job, confinement: Confinement) -> list[str]:
        words = [
            "run",
            "--name",
            identity,
            "--cidfile",
            str(directory / "cid"),
            "--network=host",
            "--workdir=/",
            "--tmpfs=/run",
        ]
        words += [f"--env={name}={value}" for name, value in ENVIRONMENT.items()]
        words += [f"--volume={path}:{path}:ro" for path in ("/usr", "/etc", *job.readable)]
        words += [f"--volume={path}:{path}" for path in job.writable]
        words += [
            f"--user={job.uid}:{job.gid}",
            *(f"--group-add={group}" for group in job.groups),
            *self.confining(confinement),
        ]
        return self._tool(*words, self.image, *job.argv)

    @staticmethod
    def confining(confinement: Confinement) -> list[str]:
        """Options of ``docker run``."""
        words = [
            "--cap-drop=ALL",
            *(f"--cap-add={name.removeprefix('CAP_')}" for name in confinement.capabilities.get("bounding", ())),
        ]
        words.append(f"--security-opt=seccomp={confinement.seccomp or 'unconfined'}")
        if confinement.no_new_privs:
            words.append("--security-opt=no-new-privileges")
        if confinement.read_only:
            words += ["--read-only", "--tmpfs=/tmp"]
        return words

    def signal(self, identity: str, name: str) -> None:
        run(self._tool("kill", f"--signal={name}", identity))

    def remove(self, identity: str, directory: Path) -> None:
        cid = directory / "cid"
        if not cid.exists() or not cid.read_text():
            return
        try:
            run(self._tool("rm", "--force", cid.read_text()), check=False, seconds=10)
        except LabError:  # its runc hangs: once that is dead, dockerd can remove the container
            kill_marked(cid.read_text())
            run(self._tool("rm", "--force", cid.read_text()), check=False, seconds=10)

    def close(self) -> None:
        """Stop the daemon and its containerd, whatever state they are in."""
        stop(self._daemon)
        kill_marked(str(self.state))
        kill_marked(self._mark)
        unmount_below(self.state)
        for directory in Path("/sys/fs/cgroup").glob(f"*/{self._mark}"):
            with contextlib.suppress(OSError):
                directory.rmdir()

    def _tool(self, *words: str) -> list[str]:
        return [DOCKER, "--config", str(self.state), "--host", self._socket, *words]


RUNTIMES: dict[str, type[Runc] | type[Crun] | type[Docker]] = {"runc": Runc, "crun": Crun, "docker": Docker}


class Lab:
    """The runtimes of one test session. Each starts when it is first asked for; after `close` they would start anew."""

    def __init__(self) -> None:
        self._state: Path | None = None
        self._runtimes: dict[str, Runc | Crun | Docker] = {}

    def __getitem__(self, name: str) -> Runc | Crun | Docker:
        if self._state is None:
            self._state = Path(tempfile.mkdtemp(prefix="profgen-lab-"))
        if name not in self._runtimes:
            self._runtimes[name] = RUNTIMES[name](self._state)
        return self._runtimes[name]

    def close(self) -> None:
        if self._state is None:
            return
        for runtime in self._runtimes.values():
            if isinstance(runtime, Docker):
                runtime.close()
        unmount_below(self._state)
        shutil.rmtree(self._state, ignore_errors=True)
        self._state = None
        self._runtimes.clear()


def why_not(name: str) -> str | None:
    """What keeps this runtime from running here; None when it can."""
    if os.geteuid() != 0:
        return f"{name} needs root"
    programs = {"runc": ["runc"], "crun": ["crun", "unshare"], "docker": ["dockerd", "runc", "containerd"]}[name]
    missing = [program for program in programs if shutil.which(program, path=ENVIRONMENT["PATH"]) is None]
    if name == "docker" and not os.access(DOCKER, os.X_OK):
        missing.append(DOCKER)
    return f"not installed: {', '.join(missing)}" if missing else None
