"""libvirt's LXC driver for real: a daemon of our own in its own mount namespace, and domains that profgen rewrote."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from system.harness import run_here
from system.lab.processes import ENVIRONMENT, LabError, kill_marked, run, stop
from system.lab.runtimes import DIE_WITH_US, Job, skeleton
from waiting import HANG_SECONDS, eventually

TOOLS = ("/usr/sbin/libvirtd", "/usr/bin/virsh", "/usr/lib/libvirt/libvirt_lxc", "/usr/bin/virt-xml-validate")
CGROUPS = Path("/sys/fs/cgroup")

START = """
set -e
mount --make-rprivate /
# libvirt 9 does not start where cgroups of both versions are mounted.
[ ! -d /sys/fs/cgroup/unified ] || umount /sys/fs/cgroup/unified
for directory in /run /var/lib/libvirt /var/log/libvirt /var/cache/libvirt; do
    mkdir -p $directory
    mount -t tmpfs tmpfs $directory
done
mkdir -p /run/libvirt /var/log/libvirt/lxc
for name in passwd group; do mount --bind "$1/$name" /etc/$name; done
exec /usr/sbin/libvirtd -f "$1/conf" -p /run/libvirtd.pid -t 600
"""
CONF = """unix_sock_dir = "/run/libvirt"
auth_unix_ro = "none"
auth_unix_rw = "none"
log_outputs = "3:stderr"
"""
USERS = "libvirt-qemu:x:64055:64055::/nonexistent:/bin/false\n"
GROUPS = "".join(
    f"{name}:x:{number}:\n" for name, number in (("kvm", 64054), ("libvirt", 64056), ("libvirt-qemu", 64055))
)
"""Accounts that the daemon's other driver looks for (the package libvirt-daemon-system makes them)."""

DOMAIN = """<?xml version="1.0" encoding="UTF-8"?>
<!-- written by hand -->
<domain type="lxc">
\t<name>{name}</name><memory unit="MiB">512</memory>
\t<os>
\t\t<type>exe</type>
\t\t<init>{program}</init>{arguments}
\t\t{user}
\t</os>
\t<devices>
\t\t<filesystem type="mount"><source dir="{root}"/><target dir="/"/></filesystem>
{mounts}
\t\t<console type="pty"/>
\t</devices>
</domain>
"""


def why_not() -> str | None:
    """What keeps libvirt-lxc from running here; None when it can."""
    missing = [path for path in TOOLS if not os.access(path, os.X_OK)]
    return f"not installed: {', '.join(missing)}" if missing else None


class Libvirt:
    """The daemon. ``state`` holds its files."""

    def __init__(self, state: Path) -> None:
        self._log = state / "log"
        (state / "conf").write_text(CONF)
        for name, text in (("passwd", USERS), ("group", GROUPS)):
            known = Path("/etc", name).read_text()
            lines = [line for line in text.splitlines() if f"\n{line.split(':')[0]}:" not in known]
            (state / name).write_text(known + "".join(f"{line}\n" for line in lines))
        with self._log.open("wb") as log:
            self._daemon = subprocess.Popen(
                [*DIE_WITH_US, "unshare", "--mount", "sh", "-c", START, "sh", str(state)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=ENVIRONMENT,
                start_new_session=True,
            )
        ready = eventually(
            lambda: self._daemon.poll() is not None or self.virsh("list", check=False) == 0, HANG_SECONDS
        )
        if not ready or self._daemon.poll() is not None:
            self.close()
            raise LabError(f"libvirtd did not start: {self._log.read_text(errors='replace')[-2000:]}")

    def _words(self, *words: str) -> list[str]:
        return ["nsenter", f"--mount=/proc/{self._daemon.pid}/ns/mnt", "--", "virsh", "-q", "-c", "lxc:///", *words]

    def virsh(self, *words: str, check: bool = True) -> int:
        """The status of a command."""
        return run(self._words(*words), check=check).returncode

    def printed(self, *words: str) -> str:
        """What a command prints."""
        return run(self._words(*words), seconds=30).stdout

    def running(self, name: str) -> bool:
        return name in run(self._words("list", "--name"), check=False).stdout.split()

    def init(self, name: str) -> int:
        """The first process of a domain."""
        controller = int(self._text(f"/run/libvirt/lxc/{name}.pid"))
        return int(Path(f"/proc/{controller}/task/{controller}/children").read_text().split()[0])

    def log(self, name: str) -> str:
        return self._text(f"/var/log/libvirt/lxc/{name}.log")[-3000:] + self._log.read_text(errors="replace")[-2000:]

    def _text(self, path: str) -> str:
        """A file in the daemon's namespace."""
        return run(["nsenter", f"--mount=/proc/{self._daemon.pid}/ns/mnt", "--", "cat", path], check=False).stdout

    def close(self) -> None:
        stop(self._daemon)
        for group in CGROUPS.glob("*/machine"):
            with contextlib.suppress(OSError):
                group.rmdir()


class Domain:
    """A running domain, for system.lab.runs.served. Its status is not known: libvirt keeps none."""

    def __init__(self, libvirt: Libvirt, name: str, directory: Path) -> None:
        self._libvirt, self._name, self._directory = libvirt, name, directory

    @property
    def running(self) -> bool:
        return self._libvirt.running(self._name)

    @property
    def stdout(self) -> str:
        return self._printed("stdout")

    def _printed(self, name: str) -> str:
        path = self._directory / "out" / name
        return path.read_text(errors="replace") if path.exists() else ""

    def signal(self, name: str) -> None:
        os.kill(self._libvirt.init(self._name), getattr(signal, f"SIG{name}"))

    def wait(self, seconds: float) -> int:
        if not eventually(lambda: not self.running, seconds):
            raise LabError(f"still running after {seconds} s{self.report()}")
        return 0

    def report(self) -> str:
        return f"; {self.stdout}\n{self._printed('stderr')}\n{self._libvirt.log(self._name)}"


@contextlib.contextmanager
def domain(
    libvirt: Libvirt, directory: Path, job: Job, profile: Path | None, options: Sequence[str] = ()
) -> Iterator[Domain]:
    """A domain of a user with a profile put into it, for the length of a block. Without ``profile`` it is as the user
    wrote it. What it prints goes to ``out/stdout`` in the directory."""
    name = f"profgen-lab-{os.getpid()}-{directory.name}"
    root, out = directory / "rootfs", directory / "out"
    skeleton(root)
    out.mkdir()
    out.chmod(0o777)
    mounts = [(path, "<readonly/>") for path in (Path("/usr"), Path("/etc"), *job.readable)]
    mounts += [(path, "") for path in (*job.writable, out)]
    launch = directory / "launch"
    for path in (*(path for path, _ in mounts), launch):
        (root / str(path)[1:]).mkdir(parents=True, exist_ok=True)
    # libvirt takes no empty argument: then the launcher starts what was recorded.
    argv = job.argv if all(job.argv) else (f"{launch}/launcher.py",)
    text = DOMAIN.format(
        name=name,
        program=escape(argv[0]),
        arguments="".join(f"<initarg>{escape(word)}</initarg>" for word in argv[1:]),
        user=f"<inituser>+{job.uid}</inituser><initgroup>+{job.gid}</initgroup>" if job.uid else "",
        root=root,
        mounts="\n".join(
            f'\t\t<filesystem type="mount"><source dir="{path}"/><target dir="{path}"/>{more}</filesystem>'
            for path, more in mounts
        ),
    )
    path = directory / "domain.xml"
    path.write_text(text)
    if profile is not None:
        words = ["generate", "-q", str(profile), "-t", "libvirt-lxc,launcher", "-O", f"libvirt-lxc.launcher={launch}"]
        words += ["-o", str(launch), *(word for option in options for word in ("-O", option)), "--into"]
        run_here(*words, str(path))
        path = launch / "domain.xml"
        once = path.read_bytes()
        run_here(*words, str(path))
        assert path.read_bytes() == once, "twice is the same as once"
    run(["/usr/bin/virt-xml-validate", str(path), "domain"])
    # libvirt throws away what the first process prints: a shell in front of it, which no policy has, keeps it.
    shell = f"exec &quot;$0&quot; &quot;$@&quot; &gt;{out}/stdout 2&gt;{out}/stderr"
    text = path.read_text().replace(
        "<init>", f"<init>/bin/sh</init><initarg>-c</initarg><initarg>{shell}</initarg><initarg>", 1
    )
    path.write_text(text.replace("</init>", "\0", 1).replace("</init>", "</initarg>", 1).replace("\0", "</init>", 1))
    try:
        libvirt.virsh("create", "--validate", str(path))
        yield Domain(libvirt, name, directory)
    finally:
        libvirt.virsh("destroy", name, check=False)
        eventually(lambda: not libvirt.running(name), 20)
        kill_marked(f"libvirt_lxc --name {name}")
        shutil.rmtree(root, ignore_errors=True)
