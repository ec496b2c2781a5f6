"""Calls that change the mount tree, and what they do."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from profiler.kernel.data import load
from profiler.kernel.mounts import MountUse, mount_calls, mount_use
from profiler.kernel.syscalls import known_names

NOSUID, NODEV, RDONLY, REMOUNT, BIND, MOVE, REC, SILENT, PRIVATE, SHARED = (
    2,
    4,
    1,
    32,
    4096,
    8192,
    16384,
    32768,
    1 << 18,
    1 << 20,
)


@pytest.mark.parametrize(
    ("call", "flags", "expected"),
    [
        ("mount", NOSUID | NODEV, ("mount", ("nodev", "nosuid"))),
        ("mount", 0, ("mount", ())),
        ("mount", 0xC0ED0000, ("mount", ())),
        ("mount", SILENT, ("mount", ())),
        ("mount", BIND, ("bind", ("bind",))),
        ("mount", BIND | REC, ("rbind", ("bind", "rec"))),
        ("mount", BIND | RDONLY, ("bind", ("bind", "rdonly"))),
        ("mount", MOVE, ("move", ("move",))),
        ("mount", REMOUNT | RDONLY, ("remount", ("rdonly", "remount"))),
        ("mount", REMOUNT | BIND | RDONLY, ("remount", ("bind", "rdonly", "remount"))),
        ("mount", PRIVATE | REC, ("propagation", ("private", "rec"))),
        ("mount", SHARED | SILENT, ("propagation", ("shared",))),
        # the order of path_mount's questions
        ("mount", BIND | MOVE | PRIVATE, ("bind", ("bind", "move", "private"))),
        ("mount", MOVE | PRIVATE, ("propagation", ("move", "private"))),
        ("mount", 1 << 27, ("mount", ("0x8000000",))),
        ("umount2", 2, ("umount", ("detach",))),
        ("umount2", 0xFFFFFFFFFFFFFFF0, ("umount", ("0xfffffff0",))),
        ("umount", 0, ("umount", ())),
        ("pivot_root", 0, ("pivot_root", ())),
        ("open_tree", 1 | 0x80000, ("open_tree", ("cloexec", "clone"))),
        ("open_tree", 0x1000, None),
        ("fsmount", 6, ("fsmount", ("nodev", "nosuid"))),
    ],
)
def test_operation(call: str, flags: int, expected: tuple[str, tuple[str, ...]] | None) -> None:
    assert mount_use(call, flags) == (None if expected is None else MountUse(*expected))


def test_calls_exist() -> None:
    assert set(mount_calls()) <= known_names()
    assert all(row.words in load("mounts.yaml")["flags"] for row in mount_calls().values() if row.flags is not None)


@pytest.mark.parametrize("word", ["bind", "rbind", "move", "pivot_root", "move_mount", "open_tree"])
def test_sources_that_are_paths(word: str) -> None:
    assert MountUse(word, ()).has_source
    assert MountUse(word, ()).source_is_path


def test_sources() -> None:
    assert MountUse("mount", ()).has_source
    assert not MountUse("mount", ()).source_is_path
    assert not MountUse("remount", ()).has_source
    assert not MountUse("propagation", ()).source_is_path


def test_types() -> None:
    words = {*mount_calls(), "bind", "rbind", "move", "remount", "propagation"}
    assert {word for word in words if MountUse(word, ()).has_filesystem} == {"mount", "fsopen"}


@pytest.mark.parametrize(
    ("use", "source", "target"),
    [
        (MountUse("mount", ()), True, True),
        (MountUse("umount", ("nofollow",)), False, False),
        (MountUse("open_tree", ("clone", "symlink_nofollow")), False, False),
        (MountUse("move_mount", ()), False, False),
        (MountUse("move_mount", ("f_symlinks",)), True, False),
        (MountUse("move_mount", ("t_symlinks",)), False, True),
    ],
)
def test_links_at_the_end(use: MountUse, source: bool, target: bool) -> None:
    assert (use.follows_source, use.follows_target) == (source, target)


PREFIXES = {
    "mount": "MS_",
    "umount": "MNT_",
    "move_mount": "MOVE_MOUNT_",
    "fsopen": "FSOPEN_",
    "attributes": "MOUNT_ATTR_",
    "fspick": "FSPICK_",
}


def test_values_are_the_kernels(tmp_path: Path) -> None:
    """The values are those in the installed headers, as far as these have them."""
    rows = {
        f"{PREFIXES[table]}{name.upper()}": value
        for table, names in load("mounts.yaml")["flags"].items()
        if table in PREFIXES
        for name, value in names.items()
    }
    rows["UMOUNT_NOFOLLOW"] = rows.pop("MNT_NOFOLLOW")
    lines = "\n".join(f'#ifdef {name}\nprintf("{name} %#llx\\n", (unsigned long long){name});\n#endif' for name in rows)
    # The C library has its own names for umount2's flags, as an enumeration.
    macros = (
        "#define MNT_FORCE MNT_FORCE\n#define MNT_DETACH MNT_DETACH\n#define MNT_EXPIRE "
        "MNT_EXPIRE\n#define UMOUNT_NOFOLLOW UMOUNT_NOFOLLOW"
    )
    for header, at_least in (("linux/mount.h", 40), ("sys/mount.h", 20)):
        head = f"#include <stdio.h>\n#include <{header}>\n{macros if header.startswith('sys') else ''}\n"
        (tmp_path / "x.c").write_text(f"{head}int main(void) {{\n{lines}\nreturn 0; }}\n")
        subprocess.run(["gcc", "-o", tmp_path / "x", tmp_path / "x.c"], check=True, timeout=60)
        output = subprocess.run([tmp_path / "x"], capture_output=True, text=True, timeout=120, check=True).stdout
        shown = {name: int(value, 16) for name, value in (line.split() for line in output.splitlines())}
        assert len(shown) >= at_least, header
        assert {name: rows[name] for name in shown} == shown
