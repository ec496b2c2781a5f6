"""Services of a systemd that is booted for it (systemd-nspawn, on this machine's own files), with the drop-ins that
profgen generates: they run clean under load, and what was never done is refused."""
# ruff: noqa: F811 - the fixtures that are imported are arguments of the tests

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from system.harness import Profgen, run_here
from system.lab import probe
from system.lab.fixtures import Recordings, recordings  # noqa: F401
from system.lab.processes import LabError, kill_marked, run
from system.lab.runtimes import DIE_WITH_US
from system.lab.workloads import PYTHON, SAMPLE_WORKLOADS, SAMPLES, Nginx, Redis, Workload
from waiting import HANG_SECONDS, eventually

from profiler.quoting.systemd import words

pytestmark = pytest.mark.usefixtures("as_root")

TRY = """[Unit]
After=basic.target
[Service]
Type=oneshot
ExecStart=/bin/sh /out/script
ExecStopPost=/bin/systemctl poweroff --no-block
StandardOutput=file:/out/log
StandardError=inherit
"""
TARGET = "[Unit]\nRequires=try.service basic.target\nAllowIsolate=yes\n"
SCRIPT = """
for name in {services}; do
    systemctl start $name.service && touch /out/$name.started
    until [ -e /out/$name.stop ]; do sleep 0.05; done
    systemctl stop $name.service
    systemctl show -p Result -p ExecMainStatus $name.service >/out/$name.tmp
    mv /out/$name.tmp /out/$name.ended
done
for name in {batches}; do
    systemctl start $name.service && touch /out/$name.success
done
journalctl -b --no-pager -q _PID=1 >/out/journal
cp /sys/fs/cgroup/cgroup.controllers /out/controllers
"""
MASKED = ("systemd-sysctl", "systemd-networkd", "systemd-resolved", "systemd-udevd", "docker", "libvirtd", "lxc-net")
"""Units that have no business on a network that is this machine's own."""


class OwnUser(Nginx):
    """nginx as a unit has it that needs no root: as its own user, on a port that everybody may bind."""

    name = "nginx-user"
    user = "www-data"

    def prepare(self) -> None:
        super().prepare()
        self.port += 8000
        os.chown(self.directory, self.uid, self.gid)

    def reset(self) -> None:
        super().reset()
        path = self.directory / "nginx.conf"
        path.write_text(path.read_text().replace("user www-data;\n", ""))


MOVER = """
import os, sys
one, other = (f"{sys.argv[1]}/{name}" for name in ("in", "out"))
open(f"{one}/x", "w").close()
os.rename(f"{one}/x", f"{other}/x")
os.link(f"{other}/x", f"{one}/y")
os.remove(f"{one}/y")
os.close(os.open(f"{sys.argv[1]}-nameless", os.O_TMPFILE | os.O_RDWR))
for path in ("/proc/mounts", "/proc/net/unix", "/proc/sysvipc/shm", "/proc/sys/kernel/shmmax"):
    open(path).close()
"""
"""Moves files between two directories (as mv does not, which copies them where it must), has a file without a name in a
third, and reads what options of systemd change."""


def service(workload: Workload) -> str:
    """A unit without any confinement, which stops the way that was recorded: its first process gets the signal."""
    user = "" if workload.user == "root" else f"User={workload.uid}\nGroup={workload.gid}\n"
    output = f"Type=oneshot\nStandardOutput=file:/out/{workload.name}.acts" if workload.batch else "StandardOutput=null"
    return f"[Service]\nExecStart={words(workload.argv)}\n{user}WorkingDirectory=/\nKillMode=mixed\n{output}\n"


def mover(profgen: Profgen, public_dir: Path, units: Path) -> None:
    """A unit and its drop-in that move files."""
    place = public_dir / "moved"
    for name in ("in", "out"):
        (place / name).mkdir(parents=True)
    place.with_name("moved-nameless").mkdir()
    script = public_dir / "mover.py"
    script.write_text(MOVER)
    command = (PYTHON, str(script), str(place))
    done = profgen("record", "-q", "-o", f"{units.parent}/mover.json", "--", *command, cwd=Path("/"))
    assert done.returncode == 0, done.stderr
    (units / "mover.service").write_text(f"[Service]\nType=oneshot\nExecStart={words(command)}\n")
    generated(units.parent / "mover.json", "mover", units)
    text = (units / "mover.service.d/50-profgen.conf").read_text()
    assert f"\nReadWritePaths=-{place}\n" in text


@contextlib.contextmanager
def booted(place: Path, units: Path, out: Path, shared: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A systemd with these units, that sees ``shared`` and the samples where they are, also in /tmp; it ends after its
    script."""
    over = place / "over"
    over.mkdir()
    root = over / "root"
    masks = " && ".join(f"ln -sf /dev/null {root}/etc/systemd/system/{name}.service" for name in MASKED)
    script = f"""set -e
mount -t tmpfs none {over}
mkdir {over}/up {over}/work {root}
mount -t overlay overlay -o lowerdir=/,upperdir={over}/up,workdir={over}/work {root}
mount -t cgroup2 none /sys/fs/cgroup
rm -f {root}/etc/systemd/system/*.wants/*
{masks}
cp -r {units}/* {root}/etc/systemd/system/
exec systemd-nspawn -q -D {root} --register=no --keep-unit --console=pipe --bind={out}:/out --bind={shared} \\
    --bind-ro={SAMPLES} --capability=all --boot systemd.unit=try.target
"""
    with open(place / "console", "wb") as console:
        process = subprocess.Popen(
            [*DIE_WITH_US, "timeout", "-s", "KILL", f"{2 * HANG_SECONDS}", "unshare", "--mount", "sh", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
        )
    try:
        yield process
    finally:
        if process.poll() is None and not eventually(lambda: process.poll() is not None, 30):
            process.kill()
        process.wait()
        kill_marked(str(root))


def exposure(directory: Path, unit: str) -> float:
    """The figure of systemd-analyze for a unit in this directory, with its drop-ins."""
    done = subprocess.run(
        ["systemd-analyze", "--offline=true", "--no-pager", "security", f"./{unit}.service"],
        cwd=directory, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    found = re.search(r"Overall exposure level for \S+ ([0-9.]+)", done.stdout)
    assert found, done
    return float(found[1])


def verified(directory: Path, unit: str) -> None:
    """systemd-analyze has nothing to say but about calls that its libseccomp does not know."""
    words = ["systemd-analyze", "verify", f"./{unit}.service"]
    done = subprocess.run(words, cwd=directory, capture_output=True, text=True, timeout=60, check=False)
    said = [line for line in done.stderr.splitlines() if f"{unit}.service" in line]
    assert all("Failed to parse system call, ignoring: " in line for line in said), said


def driven(workload: Workload, out: Path, console: Path) -> None:
    """Wait for the service, load it, and have it stopped. LabError when anything was wrong."""

    def there(name: str) -> bool:
        return eventually((out / f"{workload.name}.{name}").exists, HANG_SECONDS)

    try:
        if not there("started") or not eventually(workload.ready):
            raise LabError(f"{workload.name} never answered")
        workload.load()
    finally:
        (out / f"{workload.name}.stop").touch()
    if not there("ended"):
        raise LabError(f"{workload.name} did not end: {console.read_text(errors='replace')[-3000:]}")
    assert (out / f"{workload.name}.ended").read_text().split() == ["Result=success", "ExecMainStatus=0"]


def test_services(profgen: Profgen, recordings: Recordings, public_dir: Path, tmp_path: Path) -> None:
    """One boot for all: nginx as root and as its own user, Redis, the samples, moves of files, and ten acts that no
    recording has."""
    for program in ("systemd-nspawn", "systemd-analyze"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (packages systemd and systemd-container)")
    out, units = tmp_path / "out", tmp_path / "units"
    out.mkdir()
    units.mkdir()
    workloads = [recordings.workload(kind) for kind in (Nginx, OwnUser, Redis, *SAMPLE_WORKLOADS)]
    for workload in workloads:
        trace = recordings.trace(type(workload), "ebpf")
        (units / f"{workload.name}.service").write_text(service(workload))
        generated(trace, workload.name, units)
        workload.reset()
    done = profgen("record", "-q", "-o", "quiet.json", "--", *probe.QUIET, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("trying", "free"):
        text = f"[Service]\nType=oneshot\nStandardOutput=file:/out/{name}.acts\nExecStart={words(probe.TRYING)}\n"
        (units / f"{name}.service").write_text(text)
    generated(tmp_path / "quiet.json", "trying", units)
    figures: Mapping[str, tuple[float, float]] = {
        name: (exposure(bare(units, name), name), exposure(units, name)) for name in ("nginx", "nginx-user", "redis")
    }
    print(figures)
    assert all(before > 9 for before, _ in figures.values())
    assert figures["nginx-user"][1] <= 1.5
    assert figures["nginx"][1] <= 3
    (units / "try.service").write_text(TRY)
    (units / "try.target").write_text(TARGET)
    mover(profgen, public_dir, units)
    names = [workload.name for workload in workloads if not workload.batch]
    batches = [*(workload.name for workload in workloads if workload.batch), "mover", "trying", "free"]
    (out / "script").write_text(SCRIPT.format(services=" ".join(names), batches=" ".join(batches)))
    with booted(tmp_path, units, out, public_dir):
        for workload in workloads:
            if not workload.batch:
                driven(workload, out, tmp_path / "console")
    assert all((out / f"{name}.success").exists() for name in batches), (out / "journal").read_text()[-3000:]
    for workload in workloads:
        workload.check((out / f"{workload.name}.acts").read_text() if workload.batch else "")
    limited = "pids" in (out / "controllers").read_text().split()
    assert set((out / "trying.acts").read_text().split()) == (set() if limited else {"forks"})
    assert {"ptrace", "mknod", "unshare"} <= set((out / "free.acts").read_text().split())


def generated(trace: Path, unit: str, units: Path) -> None:
    """Put the drop-in for a unit next to it, and check it."""
    profile = units.parent / f"{unit}.profile"
    run_here("generate", "-q", str(trace), "-t", "systemd", "-O", f"systemd.unit={unit}", "-o", f"{profile}/")
    shutil.copytree(profile / f"{unit}.service.d", units / f"{unit}.service.d")
    verified(units, unit)


def bare(units: Path, unit: str) -> Path:
    """A directory with the unit alone, without its drop-in."""
    place = units.parent / f"bare-{unit}"
    place.mkdir()
    run(["cp", str(units / f"{unit}.service"), str(place)])
    return place
