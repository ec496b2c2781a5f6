"""Read systemd.yaml: what systemd allows by itself, what its options refuse, and what it needs."""

from __future__ import annotations

from profiler.kernel.data import load

ARCHITECTURES = {"x86_64": "x86-64", "i386": "x86", "x32": "x32", "aarch64": "arm64", "arm": "arm"}
"""ABIs as SystemCallArchitectures= names them (systemd.exec(5))."""

NAMESPACES = {
    0x02000000: "cgroup",
    0x08000000: "ipc",
    0x40000000: "net",
    0x00020000: "mnt",
    0x20000000: "pid",
    0x10000000: "user",
    0x04000000: "uts",
}
"""Flags of clone(2) as RestrictNamespaces= names them."""


def words(key: str) -> tuple[str, ...]:
    """Return one list of systemd.yaml."""
    found: list[str] = load("systemd.yaml")[key]
    return tuple(found)
