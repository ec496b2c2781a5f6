"""Debian's SELinux policy, compiled in a directory of its own: nothing of this machine changes."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path("/var/cache/profgen-tests/selinux-policy-default.deb")
"""Where tests/packages.sh leaves it."""
PRIORITY = "100"


def why_not() -> str | None:
    """What this machine lacks to compile it; None when nothing."""
    missing = [name for name in ("semodule", "setfiles") if shutil.which(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


@dataclass(frozen=True)
class Distribution:
    """The policy's root, as semodule(8) has it with -p."""

    root: Path

    @property
    def contexts(self) -> Path:
        return self.root / "etc/selinux/default/contexts/files/file_contexts"

    @property
    def binary(self) -> Path:
        return next((self.root / "etc/selinux/default/policy").glob("policy.*"))

    def install(self, modules: Iterable[Path], base: bool = False) -> subprocess.CompletedProcess[str]:
        """Install modules into it, and compile it. ``base``: with the distribution's own modules."""
        own = sorted((self.root / "usr/share/selinux/default").glob("*.pp.bz2")) if base else []
        words = ["semodule", "-p", self.root, "-s", "default", "-n", "-X", PRIORITY]
        return subprocess.run([*words, "-i", *own, *modules], capture_output=True, text=True, timeout=300)


def unpacked(root: Path) -> Distribution:
    """Unpack the policy's package; its modules are not compiled yet."""
    assert PACKAGE.exists(), f"{PACKAGE} is missing: run tests/packages.sh test as root"
    subprocess.run(["dpkg", "-x", PACKAGE, root], check=True, timeout=60)
    (root / "var/lib/selinux/default/active/modules").mkdir(parents=True)
    return Distribution(root)
