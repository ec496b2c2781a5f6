"""Sandboxes and runtimes inside a recording: both tracers name the same files, although the mount namespaces change
while they run and are gone when profgen reads about them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from executables import write_program
from system.harness import NOBODY, TIMEOUT, Profgen

BWRAP = "bwrap --unshare-pid --unshare-user --unshare-ipc --die-with-parent --new-session"
INSIDE = "id -u; ls /proc/self/fd >/dev/null; ls /tmp; cat /proc/self/status >/dev/null"

SANDBOXES = {
    "root": f"{BWRAP} --ro-bind /usr /usr --symlink usr/bin /bin --symlink usr/lib /lib --symlink usr/lib64 /lib64"
    f" --dev /dev --proc /proc --tmpfs /tmp --dir /var --symlink ../tmp /var/tmp sh -c '{INSIDE}'",
    "devices": f"{BWRAP} --bind / / --dev-bind /dev /dev --proc /proc --tmpfs /run sh -c '{INSIDE}'",
}

PIVOT = """
set -e
mount --make-rprivate /
mount -t tmpfs none new
mkdir new/usr new/old new/proc new/work
ln -s usr/bin new/bin; ln -s usr/lib new/lib; ln -s usr/lib64 new/lib64
mount --rbind /usr new/usr
mount -t proc proc new/proc
mount --bind work new/work
cd new
pivot_root . old
cd /
cat /work/file /old/etc/hostname /proc/self/comm
ln -s /work/file link
echo more > link
mkdir -p new2
mount -n --move /work new2
umount -n -l /old
cat /new2/file
"""


def rows(trace: dict[str, Any], what: str, directory: Path) -> set[str]:
    """The rows of a section that both tracers know in the same way, without numbers of processes."""
    names = ("path", "access", "state", "kind", "operation", "source", "target", "filesystem", "flags", "family")
    found = set()
    for row in trace[what]:
        if row.get("access") == "owner" or row.get("path") == "/sys/devices/system/cpu/online":
            continue  # whose file it was before is known to ptrace alone; malloc(3) reads it in some runs
        text = json.dumps({name: row[name] for name in names if name in row}, sort_keys=True)
        text = text.replace(str(directory), "DIR")
        text = text.replace('"path": "/runc"', '"path": "/"')  # a file that is a mount of its own, and was unmounted
        found.add(re.sub(r"/proc/\d+(/task/\d+)?|runc\.\w+|state-\w+|/proc/sys/\w+", "X", text))
    return found


def same(profgen: Profgen, ebpf: str, command: list[str], tmp_path: Path, user: int | None = None) -> None:
    traces = []
    for tracer in ("ptrace", ebpf):
        directory = tmp_path / tracer
        (directory / "work").mkdir(parents=True)
        (directory / "new").mkdir()
        (directory / "work/file").write_text("text\n")
        for place in (tmp_path, directory, directory / "work"):
            place.chmod(0o777)
        options = [] if user is None else ["--user", str(user)]
        recording = profgen.record(tracer, command, cwd=directory, options=options)
        assert recording.status == 0, recording.stderr
        assert recording.meta["complete"], recording.meta["losses"]
        traces.append({what: rows(recording.trace, what, directory) for what in ("files", "mounts", "sockets")})
    for what, expected in traces[0].items():
        assert traces[1][what] == expected, (what, sorted(traces[1][what] ^ expected))


@pytest.mark.parametrize("user", [NOBODY, None], ids=["nobody", "root"])
@pytest.mark.parametrize("name", SANDBOXES)
def test_bubblewrap(name: str, user: int | None, ebpf: str, profgen: Profgen, nobodys_dir: Path) -> None:
    same(profgen, ebpf, ["sh", "-c", SANDBOXES[name]], nobodys_dir, user)


def test_pivot_root(ebpf: str, profgen: Profgen, tmp_path: Path) -> None:
    same(profgen, ebpf, ["unshare", "--mount", "--pid", "--fork", "sh", "-c", PIVOT], tmp_path)


def test_runc(ebpf: str, profgen: Profgen, tmp_path: Path) -> None:
    """A container runtime that is recorded itself."""
    rootfs = tmp_path / "bundle/rootfs"
    (rootfs / "bin").mkdir(parents=True)
    subprocess.run(["cp", "/bin/busybox", rootfs / "bin/sh"], check=True, timeout=TIMEOUT)
    subprocess.run(["runc", "spec"], cwd=rootfs.parent, check=True, timeout=TIMEOUT)
    config = json.loads((rootfs.parent / "config.json").read_text())
    config["process"].update(
        terminal=False, args=["/bin/sh", "-c", "echo inside; read x < /proc/self/status; echo x > /dev/null"]
    )
    (rootfs.parent / "config.json").write_text(json.dumps(config))
    run = f"exec runc --root state run --bundle bundle profgen-nested-{os.getpid()}"
    script = write_program(tmp_path / "start.sh", f"#!/bin/sh\ncp -a {tmp_path}/bundle . && {run}\n")
    same(profgen, ebpf, [str(script)], tmp_path)


def test_mounts_of_descriptors(ebpf: str, profgen: Profgen, tmp_path: Path) -> None:
    """fsopen(2), fsmount(2), open_tree(2) and move_mount(2): a mount that no path leads to, until it is moved."""
    code = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *args):
    result = libc.syscall(number, *[a if isinstance(a, int) else ctypes.c_char_p(a) for a in args])
    assert result >= 0, (number, os.strerror(ctypes.get_errno()))
    return result
fs = call(430, b"tmpfs", 0)
call(431, fs, 6, None, None, 0)
mount = call(432, fs, 0, 0)
call(429, mount, b"", -100, b"new", 4)
os.mkdir("new/directory")
os.mkdir("new/directory/deep")
tree = call(428, -100, b"new", 1)
call(429, tree, b"", -100, b"work", 4)
open("work/directory/deep/file", "w").close()
os.stat("work/directory")
"""
    command = ["unshare", "--mount", "/usr/bin/python3", "-ISc", code]
    same(profgen, ebpf, command, tmp_path)
