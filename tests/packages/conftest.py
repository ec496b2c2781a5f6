"""A bare Debian 12, in which the packages of dist/ are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from system.harness import CHECKOUT

SECONDS = 600
HANDED_ON = ("resolv.conf", "apt/apt.conf.d", "apt/sources.list.d", "apt/sources.list", "ssl/certs/ca-certificates.crt")
"""Files below /etc with which this machine reaches its package archives."""


class Debian:
    """The directory tree of a Debian system. Commands run in it with /proc, /sys and /dev of the host."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, and return its text."""
        inside = (
            'mount -t proc proc "$1/proc" && mount --rbind /sys "$1/sys" && mount --rbind /dev "$1/dev" && '
            'mount -t tmpfs tmp "$1/tmp" && exec chroot "$@"'
        )
        done = subprocess.run(
            ["unshare", "--mount", "--propagation=private", "sh", "-c", inside, "sh", str(self.root), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "HOME": "/root"},
        )
        assert not check or done.returncode == 0, f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done

    def install(self, *packages: str | Path) -> None:
        """Install Debian packages: files of this machine, and names."""
        words = []
        for package in packages:
            words.append(f"/{package.name}" if isinstance(package, Path) else package)
            if isinstance(package, Path):
                shutil.copy(package, self.root)
        self.run("apt-get", "install", "-y", "-qq", *words)


@pytest.fixture(scope="session")
def bare() -> Iterator[Path]:
    """A tar archive of a bare Debian 12: what is essential, and apt."""
    assert os.geteuid() == 0, "needs root"
    directory = Path(tempfile.mkdtemp(prefix="profgen-debian-"))
    archive = directory / "debian.tar"
    words = ["mmdebstrap", "--quiet", "--variant=minbase", "bookworm", archive]
    try:
        subprocess.run(words, check=True, timeout=SECONDS)
        yield archive
    finally:
        shutil.rmtree(directory)


@pytest.fixture(scope="session")
def debian(bare: Path) -> Debian:
    """That system, with access to this machine's package archives."""
    root = bare.parent / "root"
    root.mkdir()
    subprocess.run(["tar", "xf", bare, "-C", root], check=True, timeout=SECONDS)
    for name in HANDED_ON:
        source, goal = Path("/etc", name), root / "etc" / name
        if source.is_dir():
            shutil.copytree(source, goal, dirs_exist_ok=True)
        elif source.is_file():
            goal.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, goal)
    system = Debian(root)
    system.run("apt-get", "update", "-qq")
    return system


@pytest.fixture(scope="session")
def package() -> Path:
    (found,) = (CHECKOUT / "dist").glob("profgen_*_all.deb")
    return found


@pytest.fixture(scope="session")
def wheel() -> Path:
    (found,) = (CHECKOUT / "dist").glob("profgen-*.whl")
    return found
