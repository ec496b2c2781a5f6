"""LXC for real: a container whose configuration a user wrote, rewritten by profgen."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

from system.harness import run_here
from system.lab.processes import LabError, run
from system.lab.runtimes import Confinement, Job, skeleton
from waiting import eventually

CGROUPS = Path("/sys/fs/cgroup")
VERSION = "1" if (CGROUPS / "pids").is_dir() else "2"
"""The version of cgroups in which this machine has a limit of processes."""
TOOLS = ("lxc-start", "lxc-execute", "lxc-stop", "lxc-info")

CONFIG = """# written by hand
lxc.include = /usr/share/lxc/config/common.conf
lxc.uts.name=lab
lxc.rootfs.path = dir:{root}
lxc.net.0.type = none
  lxc.mount.auto = proc:mixed sys:ro
lxc.apparmor.profile = unconfined
lxc.environment = PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
lxc.environment = LANG=C.UTF-8
lxc.init.uid = {uid}
lxc.init.gid = {gid}
lxc.init.groups = {groups}
# from the host
{mounts}
lxc.log.level = INFO"""


def why_not() -> str | None:
    """What keeps LXC from running here; None when it can."""
    missing = [name for name in TOOLS if shutil.which(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


def values(config: Path, keys: Sequence[str]) -> list[str]:
    """What LXC reads of a file named ``config``, as lines. A key without a value has none."""
    words = [word for key in keys for word in ("-c", key)]
    place = config.parent
    done = run(["lxc-info", "-n", place.name, "-P", str(place.parent), *words], seconds=20)
    return [line for line in done.stdout.splitlines() if line]


class Lxc:
    """``lxc-start -F`` or ``lxc-execute``. ``profile``: the directory that ``generate`` wrote, None for no rewriting;
    ``options``: more of it."""

    def __init__(self, tool: str, profile: Path | None, *options: str) -> None:
        self.name = self._tool = tool
        self._profile, self._options = profile, options
        self._directories: dict[str, Path] = {}

    def command(self, identity: str, directory: Path, job: Job, confinement: Confinement) -> list[str]:
        """See Runtime. ``confinement`` is not looked at."""
        self._directories[identity] = directory
        root = directory / "rootfs"
        skeleton(root)
        binds = [(path, "ro") for path in (Path("/usr"), Path("/etc"), *job.readable)]
        binds += [(path, "rw") for path in job.writable]
        text = CONFIG.format(
            root=root,
            uid=job.uid,
            gid=job.gid,
            groups=",".join(map(str, job.groups)),
            mounts="\n".join(
                f"lxc.mount.entry = {path} {str(path)[1:]} none {access},rbind,create=dir 0 0" for path, access in binds
            ),
        )
        path = directory / "config"
        path.write_text(text)
        if self._profile is not None:
            self._rewrite(directory, text)
        words = ["-n", identity, "-P", str(directory), "-f", str(path), "-o", str(directory / "log"), "--", *job.argv]
        return [self._tool, *(["-F"] if self._tool == "lxc-start" else []), *words]

    def _rewrite(self, directory: Path, text: str) -> None:
        path, seccomp = directory / "config", directory / "lxc.seccomp"
        options = [f"lxc.seccomp={seccomp}", f"lxc.cgroup={VERSION}", f"lxc-seccomp.start={self._tool[4:]}"]
        words = ["generate", "-q", str(self._profile), "-t", "lxc", "--into", str(path), "-o", str(path)]
        words += [word for option in (*options, *self._options) for word in ("-O", option)]
        run_here(*words)
        once = path.read_text()
        assert once.startswith(text), "what was there stays"
        run_here(*words)
        assert path.read_text() == once, "twice is the same as once"

    def signal(self, identity: str, name: str) -> None:
        """Send a signal to the job's first process. The init of lxc-execute would send it to every process."""
        first = int(run(self._lxc("lxc-info", identity, "-p", "-H")).stdout)
        if self._tool == "lxc-execute":
            first = int(Path(f"/proc/{first}/task/{first}/children").read_text().split()[0])
        os.kill(first, getattr(signal, f"SIG{name}"))

    def remove(self, identity: str, directory: Path) -> None:
        """Stop it, and remove the groups that LXC leaves behind."""
        run(self._lxc("lxc-stop", identity, "-k"), check=False, seconds=20)
        eventually(lambda: not self._running(identity), 10)
        for group in CGROUPS.glob("**/lxc.pivot"):
            with contextlib.suppress(OSError):  # another container's, as yet
                group.rmdir()

    def log(self, identity: str) -> str:
        """What LXC said about its configuration and its start."""
        return (self._directories[identity] / "log").read_text(errors="replace")

    def _running(self, identity: str) -> bool:
        try:
            return "RUNNING" in run(self._lxc("lxc-info", identity, "-s"), check=False, seconds=10).stdout
        except LabError:
            return True

    def _lxc(self, tool: str, identity: str, *words: str) -> list[str]:
        return [tool, "-n", identity, "-P", str(self._directories[identity]), *words]
