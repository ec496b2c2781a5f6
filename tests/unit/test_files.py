"""Writing results: whole or not at all, nothing of somebody else's touched, the right owner."""

from __future__ import annotations

import ast
import ctypes
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from children import in_child

import profiler
from profiler import files
from profiler.errors import InputError, OutputError
from profiler.files import (
    RESERVE_BYTES,
    PendingFile,
    as_invoking_user,
    invoking_user,
    kernel_text,
    make_directory,
    open_directory,
    process_stat,
    read_start,
    write_atomic,
)

NOBODY = 65534
ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="needs root: it changes users or mounts")
CLONE_NEWNS, MS_PRIVATE_REC = 0x20000, 0x44000


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory of nobody's in a place that every user can reach, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="profgen-files-"))
    path.chmod(0o755)
    (path / "nobodys").mkdir()
    if ROOT:
        os.chown(path / "nobodys", NOBODY, NOBODY)
    yield path
    shutil.rmtree(path)


@pytest.fixture(params=["nameless", "named"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether the file system can make files without a name (O_TMPFILE), or not (vfat, NFS)."""
    if request.param == "named":
        monkeypatch.setattr(files, "open_nameless", lambda directory: -1)
    return str(request.param)


both_ways = pytest.mark.usefixtures("way")


def left(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


def open_descriptors() -> set[int]:
    return {fd for fd in range(1024) if os.path.exists(f"/proc/self/fd/{fd}") or os.path.islink(f"/proc/self/fd/{fd}")}


def fails(call: Callable[[], object], *words: str) -> str:
    with pytest.raises(OutputError) as caught:
        call()
    message = str(caught.value)
    assert message.isprintable()
    assert caught.value.exit_code == 125
    for word in words:
        assert word in message
    return message


# -- replacing ---------------------------------------------------------------------------------------------------------


@both_ways
@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 5000])
def test_new_and_replaced(data: bytes, tmp_path: Path) -> None:
    write_atomic(tmp_path / "f", data)
    assert (tmp_path / "f").read_bytes() == data
    write_atomic(str(tmp_path / "f"), b"second")
    assert (tmp_path / "f").read_bytes() == b"second"
    assert left(tmp_path) == ["f"]


@both_ways
def test_reserved_space_is_not_in_the_file(tmp_path: Path) -> None:
    before = open_descriptors()
    pending = PendingFile(tmp_path / "f", reserve=RESERVE_BYTES)
    assert max(os.fstat(fd).st_blocks for fd in open_descriptors() - before) * 512 >= RESERVE_BYTES
    pending.commit(b"abc")
    assert (tmp_path / "f").read_bytes() == b"abc"


@both_ways
def test_existing_files_that_must_not_be_replaced(tmp_path: Path) -> None:
    write_atomic(tmp_path / "f", b"old", replace=False)
    with pytest.raises(FileExistsError):
        write_atomic(tmp_path / "f", b"new", replace=False)
    assert (tmp_path / "f").read_bytes() == b"old"
    assert left(tmp_path) == ["f"]


@pytest.mark.parametrize("existing", [False, True])
def test_nothing_is_left_by_a_killed_process(existing: bool, tmp_path: Path) -> None:
    if existing:
        (tmp_path / "f").write_text("old")
    before = left(tmp_path)
    child = os.fork()
    if not child:
        PendingFile(tmp_path / "f", reserve=RESERVE_BYTES)
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert left(tmp_path) == before


@both_ways
def test_old_file_until_commit(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("old")
    pending = PendingFile(tmp_path / "f")
    assert (tmp_path / "f").read_text() == "old"
    pending.discard()
    pending.discard()
    assert left(tmp_path) == ["f"]
    assert (tmp_path / "f").read_text() == "old"


def test_readers_keep_the_old_file(tmp_path: Path) -> None:
    """It is replaced, never written over: whoever has it open reads it to its end."""
    (tmp_path / "f").write_text("old")
    with (tmp_path / "f").open() as file:
        write_atomic(tmp_path / "f", b"new")
        assert file.read() == "old"
    assert (tmp_path / "f").read_bytes() == b"new"


@both_ways
def test_descriptors_are_closed(tmp_path: Path) -> None:
    before = open_descriptors()
    write_atomic(tmp_path / "f", b"x")
    PendingFile(tmp_path / "f").discard()
    fails(lambda: PendingFile(tmp_path / "none" / "f"))
    assert open_descriptors() == before


@both_ways
def test_pending_descriptors_do_not_pass_to_programs(tmp_path: Path) -> None:
    before = open_descriptors()
    pending = PendingFile(tmp_path / "f")
    new = open_descriptors() - before
    assert len(new) == 2
    assert not any(os.get_inheritable(fd) for fd in new)
    pending.discard()


@both_ways
@pytest.mark.parametrize(
    ("mask", "executable", "mode"),
    [(0o022, False, 0o644), (0o077, False, 0o600), (0o022, True, 0o755), (0o002, False, 0o664)],
)
def test_mode(mask: int, executable: bool, mode: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        write_atomic(tmp_path / "f", b"x", executable=executable)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == mode


# -- destinations ------------------------------------------------------------------------------------------------------


def test_directory(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "link").symlink_to("d")
    for path in (tmp_path / "d", f"{tmp_path}/d/", tmp_path / "link", tmp_path / "d" / "..", ".", "/"):
        fails(lambda path=path: PendingFile(path), "it is a directory")
    assert left(tmp_path / "d") == []


def test_missing_directory(tmp_path: Path) -> None:
    fails(lambda: write_atomic(tmp_path / "none" / "f", b""), "no such file or directory", "none")
    fails(lambda: write_atomic(tmp_path / ("a/" * 3000) / "f", b""), "no such file or directory")
    (tmp_path / "file").touch()
    fails(lambda: write_atomic(tmp_path / "file" / "f", b""), "not a directory")


@pytest.mark.parametrize("kind", ["fifo", "socket", "device", "link to device"])
def test_special_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "f"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        import socket

        socket.socket(socket.AF_UNIX).bind(str(path))
    elif kind == "device":
        if not ROOT:
            pytest.skip("making a device needs root")
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    else:
        path.symlink_to("/dev/null")
    before = os.lstat(path)
    fails(lambda: PendingFile(path), "special file")
    assert os.lstat(path) == before


@both_ways
def test_a_link_of_our_own_is_followed(tmp_path: Path) -> None:
    """It stays, and what it leads to is replaced or made."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d/file").write_text("old")
    for target in ("d/file", "d/absent", str(tmp_path / "d/file"), "again"):
        (tmp_path / "f").unlink(missing_ok=True)
        (tmp_path / "f").symlink_to(target)
        (tmp_path / "again").unlink(missing_ok=True)
        (tmp_path / "again").symlink_to("d/../d/file")
        write_atomic(tmp_path / "f", target.encode())
        assert os.readlink(tmp_path / "f") == target
        assert (tmp_path / "f").read_bytes() == target.encode()
        assert left(tmp_path) == ["again", "d", "f"]
    (tmp_path / "f").unlink()
    (tmp_path / "f").symlink_to("f")
    fails(lambda: write_atomic(tmp_path / "f", b"x"), "too many levels")
    (tmp_path / "f").unlink()
    (tmp_path / "f").symlink_to("none/f")
    fails(lambda: write_atomic(tmp_path / "f", b"x"), "no such file or directory", "none")


@both_ways
@needs_root
@pytest.mark.parametrize("sudo", [False, True])
def test_a_planted_link_is_refused(sudo: bool, folder: Path) -> None:
    """A link of another user, or one that another user may have moved here; under sudo, one of root's in a directory of
    a stranger."""
    (folder / "victim").write_text("precious")
    stranger = folder / "strangers"
    stranger.mkdir()
    stranger.chmod(0o777)
    (stranger / "roots").symlink_to("../victim")
    (folder / "planted").symlink_to("victim")
    os.chown(stranger, 1234, 1234)
    os.chown(folder / "planted", 1234, 1234, follow_symlinks=False)

    def work() -> None:
        if sudo:
            os.environ |= {"SUDO_UID": str(NOBODY), "SUDO_GID": str(NOBODY)}
        for path in (folder / "planted", stranger / "roots"):
            fails(lambda path=path: PendingFile(path), "symbolic link of another user")

    in_child(work)
    assert (folder / "victim").read_text() == "precious"
    assert left(folder) == ["nobodys", "planted", "strangers", "victim"]


@needs_root
@pytest.mark.parametrize("sudo", [False, True])
@pytest.mark.parametrize("planted", ["of a stranger", "moved by a stranger", "behind a link of our own"])
def test_a_planted_link_to_a_directory_is_refused(planted: str, sudo: bool, folder: Path) -> None:
    """Also where it is only on the way: nothing is written, made or read through it."""
    (folder / "victim").mkdir()
    (folder / "victim").chmod(0o777)
    (folder / "victim/f").write_text("precious")
    stranger = folder / "strangers"
    stranger.mkdir()
    (stranger / "way").symlink_to("../victim")
    os.chown(stranger, 1234, 1234)
    if planted != "moved by a stranger":
        os.chown(stranger / "way", 1234, 1234, follow_symlinks=False)
    way = stranger / "way"
    if planted == "behind a link of our own":
        way = folder / "own"
        way.symlink_to("strangers/way/../victim")

    def work() -> None:
        if sudo:
            os.environ |= {"SUDO_UID": str(NOBODY), "SUDO_GID": str(NOBODY)}
        for name in ("f", "new", "none/new"):
            fails(lambda name=name: write_atomic(way / name, b"x"), "symbolic link of another user", "strangers/way")
        fails(lambda: make_directory(way), "symbolic link of another user")
        fails(lambda: make_directory(way / "a/b"), "symbolic link of another user")
        for read in (lambda: read_start(way / "f", 9, own_links=True), lambda: open_directory(way)):
            with pytest.raises(OSError, match="symbolic link of another user"):
                read()

    in_child(work)
    assert (folder / "victim/f").read_text() == "precious"
    assert left(folder / "victim") == ["f"]


@both_ways
def test_directories_through_links_of_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "d/below").mkdir(parents=True)
    (tmp_path / "way").symlink_to("d/below")
    (tmp_path / "again").symlink_to(tmp_path / "way/..")
    (tmp_path / "round").symlink_to("round")
    write_atomic(tmp_path / "again/below/f", b"x")
    assert make_directory(tmp_path / "way/../made/deep") == tmp_path / "way/../made/deep"
    assert make_directory(tmp_path / "way") == tmp_path / "way"
    assert left(tmp_path / "d") == ["below", "made"]
    assert (tmp_path / "d/below/f").read_bytes() == b"x"
    monkeypatch.chdir(tmp_path / "again")
    write_atomic("f", b"y")
    write_atomic("./../way/g", b"z")
    make_directory(Path())
    assert (left(tmp_path / "d"), left(tmp_path / "way")) == (["below", "f", "made"], ["f", "g"])
    fails(lambda: write_atomic(tmp_path / "round/f", b"x"), "too many levels", "round")
    fails(lambda: make_directory(Path("f/g")), "not a directory", "f/g")
    for path in ("/proc/self/fd/../cwd/f", "/proc/self/cwd/f"):
        write_atomic(path, path.encode())
        assert Path("f").read_bytes() == path.encode(), "a link of the kernel's"


@both_ways
@needs_root
def test_links_under_sudo(folder: Path) -> None:
    """Those of the invoking user are followed with that user's rights."""
    (folder / "roots").write_text("precious")
    for name, target in (("own", "file"), ("out", "../roots")):
        (folder / "nobodys" / name).symlink_to(target)
        os.chown(folder / "nobodys" / name, NOBODY, NOBODY, follow_symlinks=False)

    def work() -> None:
        os.environ |= {"SUDO_UID": str(NOBODY), "SUDO_GID": str(NOBODY)}
        write_atomic(folder / "nobodys" / "own", b"new")
        fails(lambda: write_atomic(folder / "nobodys" / "out", b"new"), "permission denied")

    in_child(work)
    assert (folder / "nobodys" / "file").read_bytes() == b"new"
    assert (folder / "nobodys" / "file").stat().st_uid == NOBODY
    assert (folder / "roots").read_text() == "precious"


@both_ways
def test_other_names_of_a_file_keep_the_old_content(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("old")
    (tmp_path / "copy").hardlink_to(tmp_path / "f")
    write_atomic(tmp_path / "f", b"new")
    assert ((tmp_path / "f").read_text(), (tmp_path / "copy").read_text()) == ("new", "old")


@both_ways
@needs_root
def test_the_owner_stays(folder: Path) -> None:
    path = folder / "nobodys" / "f"
    path.write_text("old")
    os.chown(path, 1234, 2345)
    path.chmod(0o640)
    write_atomic(path, b"by root")
    status = path.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1234, 2345, 0o640)

    def work(sudo: bool) -> None:
        if sudo:
            os.environ |= {"SUDO_UID": str(NOBODY), "SUDO_GID": str(NOBODY)}
        else:
            os.setgroups([2345])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        write_atomic(path, b"by nobody")

    in_child(lambda: work(sudo=False))
    status = path.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (NOBODY, 2345, 0o640), "the group too"
    in_child(lambda: work(sudo=True))
    status = path.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (NOBODY, NOBODY, 0o600), "not another group"


@both_ways
def test_planted_link_at_the_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even who guesses the random name gets nothing written through a link."""
    monkeypatch.setattr("os.urandom", lambda size: bytes(size))
    (tmp_path / "f").write_text("old")
    (tmp_path / "victim").write_text("precious")
    (tmp_path / ".f.0000000000000000.tmp").symlink_to("victim")
    fails(lambda: write_atomic(tmp_path / "f", b"new"), "file exists")
    assert (tmp_path / "victim").read_text() == "precious"
    assert left(tmp_path) == [".f.0000000000000000.tmp", "f", "victim"]


@both_ways
def test_directory_exchanged_meanwhile(tmp_path: Path) -> None:
    """The file goes to the directory that was checked, not to one put in its place."""
    (tmp_path / "d").mkdir()
    (tmp_path / "trap").mkdir()
    pending = PendingFile(tmp_path / "d" / "f")
    (tmp_path / "d").rename(tmp_path / "moved")
    (tmp_path / "d").symlink_to("trap")
    pending.commit(b"x")
    assert left(tmp_path / "trap") == []
    assert left(tmp_path / "moved") == ["f"]


@both_ways
def test_destination_that_became_a_directory(tmp_path: Path) -> None:
    pending = PendingFile(tmp_path / "f")
    (tmp_path / "f").mkdir()
    fails(lambda: pending.commit(b"x"), "directory")
    assert left(tmp_path) == ["f"]


@both_ways
@pytest.mark.parametrize(
    "name",
    ["a" * 255, "\u00e4" * 127, "\U0001f600" * 63, "\udcff" * 255, "\n\x1b[2J", " ", "-", "a\\b"],
    ids=lambda name: f"{ascii(name)[1:8]}-{len(name)}",
)
def test_any_name_that_a_file_can_have(name: str, tmp_path: Path) -> None:
    write_atomic(tmp_path / name, b"x")
    assert left(tmp_path) == [name]
    with pytest.raises(OutputError):
        PendingFile(tmp_path / name / "below")


@pytest.mark.parametrize("name", ["a" * 256, "\u00e4" * 128], ids=lambda name: f"{len(name)}")
def test_names_too_long(name: str, tmp_path: Path) -> None:
    fails(lambda: write_atomic(tmp_path / name, b"x"), "too long")
    assert left(tmp_path) == []


# -- whose -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uid", "gid", "user"),
    [
        (None, None, None),
        ("0", "0", None),
        ("1000", "100", (1000, 100)),
        ("65534", "65534", (65534, 65534)),
        ("4294967294", "0", (4294967294, 0)),
    ],
)
@needs_root
def test_invoking_user(
    uid: str | None, gid: str | None, user: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("SUDO_UID", uid), ("SUDO_GID", gid)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert invoking_user() == user


@pytest.mark.parametrize("value", ["", "-1", "root", "1000 ", "\u0661", "4294967295", "9" * 30, "0x10", "1_0", "1\n"])
@pytest.mark.parametrize("name", ["SUDO_UID", "SUDO_GID"])
@needs_root
def test_no_ids(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither staying root nor guessing would be right."""
    monkeypatch.setenv("SUDO_UID", "1000")
    monkeypatch.setenv("SUDO_GID", "1000")
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=name):
        invoking_user()


@needs_root
def test_sudo_variables_mean_nothing_to_others(folder: Path) -> None:
    def work() -> None:
        os.environ |= {"SUDO_UID": "1000", "SUDO_GID": "nonsense"}
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        assert invoking_user() is None
        write_atomic(folder / "nobodys" / "f", b"x")

    in_child(work)
    assert (folder / "nobodys" / "f").stat().st_uid == NOBODY


@needs_root
def test_ids_are_back_afterwards() -> None:
    def work() -> None:
        os.environ |= {"SUDO_UID": str(NOBODY), "SUDO_GID": str(NOBODY)}
        os.setgroups([1, 2])
        for fail in (False, True):
            try:
                with as_invoking_user():
                    assert (os.geteuid(), os.getegid(), os.getgroups()) == (NOBODY, NOBODY, [NOBODY])
                    if fail:
                        raise KeyError
            except KeyError:
                assert fail
            assert os.getresuid() == (0, 0, 0)
            assert os.getresgid() == (0, 0, 0)
            assert os.getgroups() == [1, 2]

    in_child(work)


@both_ways
@needs_root
def test_owned_by_the_invoking_user(folder: Path) -> None:
    def work() -> None:
        os.environ |= {"SUDO_UID": str(NOBODY), "SUDO_GID": str(NOBODY)}
        (folder / "nobodys" / "f").write_text("root's own")
        write_atomic(folder / "nobodys" / "f", b"new")

    in_child(work)
    status = (folder / "nobodys" / "f").stat()
    assert (status.st_uid, status.st_gid) == (NOBODY, NOBODY)
    assert left(folder / "nobodys") == ["f"]


@both_ways
@needs_root
def test_not_where_the_invoking_user_could_not_write(folder: Path) -> None:
    (folder / "f").write_text("root's own")
    (folder / "closed").mkdir(mode=0o700)
    (folder / "closed" / "f").write_text("root's own")
    (folder / "nobodys" / "way").symlink_to(folder / "closed")

    def work() -> None:
        os.environ |= {"SUDO_UID": str(NOBODY), "SUDO_GID": str(NOBODY)}
        for path in (folder / "f", folder / "closed" / "f", folder / "nobodys" / "way" / "f"):
            fails(lambda path=path: write_atomic(path, b"x"), "permission denied")

    in_child(work)
    assert (folder / "f").read_text() == "root's own"
    assert (folder / "closed" / "f").read_text() == "root's own"
    assert left(folder / "closed") == ["f"]


@both_ways
@needs_root
def test_sticky_directory(folder: Path) -> None:
    """In /tmp, the user's own file may be replaced, root's may not."""
    (folder / "shared").mkdir()
    (folder / "shared").chmod(0o1777)
    (folder / "shared" / "roots").write_text("old")

    def work() -> None:
        os.environ |= {"SUDO_UID": str(NOBODY), "SUDO_GID": str(NOBODY)}
        write_atomic(folder / "shared" / "f", b"1")
        write_atomic(folder / "shared" / "f", b"2")
        fails(lambda: write_atomic(folder / "shared" / "roots", b"x"), "not permitted", "unchanged")

    in_child(work)
    assert left(folder / "shared") == ["f", "roots"]
    assert (folder / "shared" / "roots").read_text() == "old"


# -- full disks --------------------------------------------------------------------------------------------------------


def mounted(directory: Path, options: str, read_only: bool = False) -> None:
    """Mount a tmpfs in a mount namespace of this process's own."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(CLONE_NEWNS) == 0, os.strerror(ctypes.get_errno())
    assert libc.mount(b"none", b"/", None, MS_PRIVATE_REC, None) == 0, os.strerror(ctypes.get_errno())
    assert libc.mount(b"none", bytes(directory), b"tmpfs", 1 if read_only else 0, options.encode()) == 0, os.strerror(
        ctypes.get_errno()
    )


@both_ways
@needs_root
def test_full_disk_is_noticed_at_once(tmp_path: Path) -> None:
    def work() -> None:
        mounted(tmp_path, "size=64k")
        (tmp_path / "f").write_text("old")
        fails(lambda: PendingFile(tmp_path / "f", reserve=RESERVE_BYTES), "no space left", "-o")
        assert left(tmp_path) == ["f"]
        assert (tmp_path / "f").read_text() == "old"

    in_child(work)


@both_ways
@needs_root
def test_disk_that_fills_up_meanwhile(tmp_path: Path) -> None:
    def work() -> None:
        mounted(tmp_path, "size=64k")
        (tmp_path / "f").write_text("old")
        pending = PendingFile(tmp_path / "f")
        fails(lambda: pending.commit(b"x" * (1 << 20)), "no space left", "unchanged")
        assert left(tmp_path) == ["f"]
        assert (tmp_path / "f").read_text() == "old"

    in_child(work)


@both_ways
@needs_root
def test_no_inode_left(tmp_path: Path) -> None:
    def work() -> None:
        mounted(tmp_path, "nr_inodes=2")
        (tmp_path / "f").write_text("old")
        fails(lambda: write_atomic(tmp_path / "f", b"x"), "no space left")
        assert (tmp_path / "f").read_text() == "old"

    in_child(work)


@both_ways
@needs_root
def test_read_only_disk(tmp_path: Path) -> None:
    def work() -> None:
        mounted(tmp_path, "", read_only=True)
        fails(lambda: write_atomic(tmp_path / "f", b"x"), "read-only")

    in_child(work)


@both_ways
def test_file_size_limit(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands for a quota: an error, not a signal that kills (Python ignores SIGXFSZ)."""

    def work() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        (tmp_path / "f").write_text("old")
        fails(lambda: write_atomic(tmp_path / "f", b"x" * 2000), "file too large", "unchanged")
        assert left(tmp_path) == ["f"]
        assert (tmp_path / "f").read_text() == "old"

    in_child(work)


@pytest.mark.skipif(
    ROOT, reason="root may write everywhere; test_not_where_the_invoking_user_could_not_write stands for it"
)
def test_unwritable_directory(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(mode=0o500)
    fails(lambda: write_atomic(tmp_path / "d" / "f", b"x"), "permission denied")


@needs_root
def test_directory_that_cannot_be_entered(folder: Path) -> None:
    (folder / "closed").mkdir(mode=0o700)

    def work() -> None:
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        fails(lambda: write_atomic(folder / "closed" / "d" / "f", b"x"), "permission denied")

    in_child(work)


def test_the_machines_own_links_are_not_replaced(tmp_path: Path) -> None:
    """Where standard output is a file, /dev/stdout is a link to one: a rename would put the result in the link's
    place."""
    (tmp_path / "devices").symlink_to("/dev")
    for path in ("/dev/stdout", "/dev/profgen-none", "/dev/fd/1", "/proc/self/fd/1", tmp_path / "devices" / "none"):
        with pytest.raises(OutputError, match="special file"):
            PendingFile(path)
    PendingFile("/dev/shm/profgen-none").discard()


# --- what the kernel tells


def _readers(tree: ast.AST) -> Iterator[ast.Call]:
    """Yield the calls that open a file as text to read it."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        mode = node.args[1].value if len(node.args) > 1 and isinstance(node.args[1], ast.Constant) else "r"
        builtin = isinstance(node.func, ast.Name) and node.func.id == "open" and not set("wb+") & set(str(mode))
        if builtin or (isinstance(node.func, ast.Attribute) and node.func.attr == "read_text"):
            yield node


@pytest.mark.parametrize("path", sorted(Path(profiler.__file__).parent.rglob("*.py")), ids=str)
def test_what_the_kernel_tells_is_read_as_bytes_or_with_surrogates(path: Path) -> None:
    """A process may have any bytes as its name, and files of procfs, mountinfo and cgroups show it. Text files of
    profgen's own say their encoding; what says nothing may be a file of the kernel."""
    text = path.read_text(encoding="utf-8")
    for call in _readers(ast.parse(text)):
        given = {keyword.arg for keyword in call.keywords}
        source = ast.get_source_segment(text, call) or ""
        kernel = any(place in source for place in ("/proc", "/sys", "cgroup"))
        assert "errors" in given or ("encoding" in given and not kernel), f"{path}:{call.lineno}: use kernel_text"


def test_a_name_may_hold_any_bytes(tmp_path: Path) -> None:
    (tmp_path / "status").write_bytes(b"Name:\tx\xff\rUid:\t0\nUid:\t7\n")
    with kernel_text(str(tmp_path / "status")) as file:
        lines = list(file)
    assert lines == ["Name:\tx\udcff\rUid:\t0\n", "Uid:\t7\n"]
    assert os.fsencode(lines[0]) == b"Name:\tx\xff\rUid:\t0\n"


def test_a_process_chooses_its_name() -> None:
    """It may look like the fields behind it."""
    with subprocess.Popen(
        [sys.executable, "-ISc", "open('/proc/self/comm', 'w').write('a) Z 1 (b) S'); print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        state, parent, *_ = process_stat(process.pid)
        process.stdin.close()
    assert state in (b"S", b"R")
    assert int(parent) == os.getpid()
    with pytest.raises(OSError, match=str(process.pid)):
        process_stat(process.pid)


@pytest.mark.parametrize(
    ("old", "executable", "new"),
    [(0o600, False, 0o600), (0o600, True, 0o700), (0o755, False, 0o644), (0o666, False, 0o644), (0o640, True, 0o750)],
)
def test_a_new_file_is_open_to_nobody_whom_the_old_one_kept_out(
    old: int, executable: bool, new: int, tmp_path: Path
) -> None:
    path = tmp_path / "compose.yaml"
    path.touch()
    path.chmod(old)
    before = os.umask(0o022)
    try:
        write_atomic(path, b"secret", executable=executable)
    finally:
        os.umask(before)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"secret", new)
    link = tmp_path / "link"
    link.symlink_to(path)
    write_atomic(link, b"other", executable=executable)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"other", new)
