"""The risks of path patterns."""

from __future__ import annotations

import pytest

from profiler.kernel.risks import LEVELS
from profiler.review import paths


@pytest.mark.parametrize(
    ("pattern", "access", "level"),
    [
        ("/srv/app/x", "write", "low"),
        ("/etc/app.conf", "read", "low"),
        ("/etc/app.conf", "write", "high"),
        ("/etc/{name}", "create", "high"),
        ("/etcetera/x", "write", "low"),
        ("/{tree}", "write", "critical"),
        ("/{name}", "read", "low"),
        ("/{name}", "write", "high"),
        ("/run/docker.sock", "connect", "critical"),
        ("/run/{name}", "connect", "critical"),
        ("/proc/{pid}/stat", "read", "low"),
        ("/proc/{name}", "read", "critical"),
        ("/dev/{name}", "write", "critical"),
        ("/dev/pts/{digits}", "write", "low"),
        ("/dev/sd{random}", "read", "critical"),
        ("/{tree}", "bind", "critical"),
        ("/home/{tree}", "read", "high"),
        ("/srv/{tree}", "write", "low"),
        ("/proc/sys/net/core/somaxconn", "read", "low"),
        ("/proc/sys/net/core/somaxconn", "write", "high"),
        ("/proc/sys/kernel/core_pattern", "write", "critical"),
        ("/sys/fs/cgroup/x/release_agent", "write", "critical"),
        ("/dev/sda1", "read", "critical"),
        ("/dev/null", "write", "low"),
        ("/home/ann/.ssh/id_ed25519", "read", "high"),
        ("{home}/.ssh/id_ed25519", "read", "high"),
        ("{home}/{tree}", "read", "high"),
        ("/home/{name}/.ssh/{name}", "read", "high"),
        ("/home/ann/notes", "read", "low"),
        ("/usr/bin/x", "write", "high"),
        ("/usr/bin/x", "execute", "low"),
        ("/tmp/x", "execute", "medium"),
        ("/etc/shadow", "read", "high"),
        ("/", "chroot", "medium"),
        ("/", "write", "high"),
    ],
)
def test_risks(pattern: str, access: str, level: str) -> None:
    found = paths.risks_of(pattern, [access], ["linked"])
    assert max((risk.level for risk in found), key=LEVELS.index, default="low") == level


def test_the_state_of_a_file_counts() -> None:
    assert paths.risks_of("memfd:x", ["execute"], ["detached"])[0].level == "medium"
    assert not paths.risks_of("/srv/x", ["execute"], ["linked"])
