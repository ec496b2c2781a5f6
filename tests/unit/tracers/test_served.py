"""File systems with a server are recognised, and their files' status is read without a question."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.tracers.served import Mounts, same_file, status_of, table_of

LINES = rb"""22 27 0:21 / /proc rw,relatime shared:5 - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 0:30 / /mnt/a\040b rw,nosuid,nodev shared:7 master:1 - fuse.sshfs host:/x rw,user_id=0,group_id=0
31 27 0:31 / /net rw - autofs systemd-1 rw,fd=4
32 27 0:32 / /home rw - nfs4 host:/home rw,vers=4.2
33 27 43:0 / /disk rw - ext4 /dev/nbd0 rw
34 27 0:34 / /srv/over rw - overlay overlay rw,lowerdir=/usr:/mnt/a\040b/lower,upperdir=/u,workdir=/w
35 27 0:35 / /srv/plain rw - overlay overlay rw,lowerdir=/usr,upperdir=/mnt/a,workdir=/w
36 27 0:36 / /host rw - 9p share rw,trans=virtio
37 27 0:37 / /peer rw - 9p share rw,trans=fd,rfdno=3
38 27 8:1 / /win rw - fuseblk /dev/sda1 rw,user_id=0,group_id=7,allow_other,blksize=4096
"""


@pytest.mark.parametrize(
    ("path", "point"),
    [
        ("/mnt/a b", "/mnt/a b"),
        ("/mnt/a b/c/d", "/mnt/a b"),
        ("/mnt/a bc", None),
        ("/mnt/a", None),
        ("/", None),
        ("/proc/1", None),
        ("/net/x", "/net"),
        ("/home/user", "/home"),
        ("/disk/x", "/disk"),
        ("/srv/over", "/srv/over"),
        ("/srv/plain/x", None),
        ("/host/x", None),
        ("/peer", "/peer"),
        ("/win/x", "/win"),
    ],
)
def test_what_a_path_leads_through(path: str, point: str | None) -> None:
    found = table_of(LINES).over(path)
    assert (found and found.point) == point


def test_what_is_known_of_a_mount() -> None:
    table = table_of(LINES)
    rows = {row.point: row for row in table.served}
    assert rows["/mnt/a b"].nosuid
    assert not rows["/home"].nosuid
    assert (rows["/mnt/a b"].owner, rows["/win"].owner, rows["/home"].owner) == ((0, 0), None, None)
    assert {row.point for row in table.served if row.still} == {"/mnt/a b", "/net", "/win"}
    assert {row.point for row in table.served if not row.mappable} == {"/net"}
    assert not table.still
    assert {22, 27, 35, 36} <= table.local
    assert not {30, 31, 32, 33, 34, 37, 38} & table.local
    assert (254, 0) in table.devices
    assert (43, 0) not in table.devices


def test_below_another_root() -> None:
    """The mount points of a process with another root are told below that."""
    table = table_of(LINES, "/jail")
    assert table.over("/jail/home/x") is not None
    assert table.over("/home/x") is None


def test_a_root_with_a_server() -> None:
    table = table_of(b"1 0 0:40 / / rw - fuse.fuse-overlayfs fuse-overlayfs rw\n2 1 0:41 / /proc rw - proc proc rw\n")
    assert table.over("/") is not None
    assert table.over("/proc/1") is not None, "the look-up of proc asks it"


def test_types_that_nobody_knows_may_have_a_server() -> None:
    assert table_of(b"9 1 0:9 / /x rw - newfs none rw\n").over("/x/y") is not None


@given(st.lists(st.sampled_from(["a", "b c", "\\", "é", "\udcff", "\n"]), min_size=1, max_size=4))
def test_names_of_mount_points(parts: list[str]) -> None:
    point = "/" + "/".join(parts)
    escaped = b"".join(b"\\%03o" % byte if byte in b" \t\n\\" else bytes([byte]) for byte in os.fsencode(point))
    (row,) = table_of(b"5 1 0:5 / " + escaped + b" rw - fuse x rw\n").served
    assert row.point == point


def test_status(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("text")
    file.chmod(0o4711)
    link.symlink_to("file")
    fd = os.open(file, os.O_PATH)
    try:
        for found, real in (
            (status_of(str(file)), file.stat()),
            (status_of(str(link)), file.stat()),
            (status_of(str(link), follow=False), link.lstat()),
            (status_of(fd), file.stat()),
        ):
            assert found[:7] == real[:7]
            assert (found.st_mtime, found.st_ctime) == (int(real.st_mtime), int(real.st_ctime))
    finally:
        os.close(fd)
    with pytest.raises(FileNotFoundError):
        status_of(str(tmp_path / "missing"))
    assert same_file(str(file), str(link))
    assert not same_file(str(file), str(tmp_path))


def test_the_mounts_of_this_machine() -> None:
    table = Mounts("/proc/self/mountinfo").now()
    with open("/proc/self/mountinfo", "rb") as file:
        assert table == table_of(file.read())
    assert table.local


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_new_mount_is_seen(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys; from profiler.tracers.served import Mounts\n"
        "mounts = Mounts('/proc/self/mountinfo'); before = len(mounts.now().local)\n"
        "subprocess.run(['mount', '-t', 'tmpfs', 'none', sys.argv[1]], check=True)\n"
        "assert len(mounts.now().local) == before + 1\n"
    )
    unshared = ["unshare", "--mount", "--propagation", "private", os.path.realpath("/proc/self/exe")]
    subprocess.run([*unshared, "-c", script, str(tmp_path)], check=True, timeout=60)
