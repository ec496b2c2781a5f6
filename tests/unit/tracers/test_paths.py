"""Paths of another process resolve as the kernel resolves them in that process."""

from __future__ import annotations

import ctypes
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from inputs import examples

from profiler.trace.model import FILE_KINDS, FILE_STATES
from profiler.tracers import errands, paths
from profiler.tracers.errands import Patient, Task
from profiler.tracers.paths import (
    Found,
    Memory,
    Resolver,
    View,
    below,
    kind_of,
    kind_of_made,
    owner_of,
    process_in,
    through_link,
)
from profiler.tracers.served import Served, Table

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

ASKED = """
import os, sys
for line in sys.stdin:
    try:
        fd = os.open(os.fsdecode(bytes.fromhex(line.strip())), os.O_PATH)
        print(os.fstat(fd).st_dev, os.fstat(fd).st_ino, flush=True)
        os.close(fd)
    except OSError as error:
        print(error.errno, flush=True)
"""


@dataclass
class Process:
    """A process that waits, and says which file it finds under a name. ``pid`` is its number."""

    child: subprocess.Popen[str]

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def view(self) -> View:
        return View.of(self.pid, self.pid)

    @property
    def cwd(self) -> str:
        return os.readlink(f"/proc/{self.pid}/cwd")

    def opens(self, text: str) -> tuple[int, int] | int:
        """Return (device, inode) of the file that it opens under this name, or the errno."""
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write(os.fsencode(text).hex() + "\n")
        self.child.stdin.flush()
        words = [int(word) for word in self.child.stdout.readline().split()]
        return (words[0], words[1]) if len(words) == 2 else words[0]


@contextmanager
def process(cwd: Path | str = "/", *wrap: str, **more: object) -> Iterator[Process]:
    argv = [*wrap, sys.executable, "-c", ASKED]
    with subprocess.Popen(argv, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **more) as child:  # type: ignore[call-overload]
        try:
            asked = Process(child)
            assert isinstance(asked.opens("/"), tuple)
            yield asked
        finally:
            child.kill()


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("tree").resolve()
    (top / "real/deep").mkdir(parents=True)
    (top / "real/deep/file").write_text("x")
    (top / "file").write_text("y")
    (top / "to-dir").symlink_to("real")
    (top / "real/to-deep").symlink_to(top / "real/deep")
    (top / "real/to-file").symlink_to("../real/deep/../deep/file")
    (top / "chain").symlink_to("to-dir/to-file")
    (top / "dangling").symlink_to("nowhere/else")
    (top / "near").symlink_to("missing")
    (top / "loop").symlink_to("loop")
    (top / "one").symlink_to("two")
    (top / "two").symlink_to("one")
    (top / "up").symlink_to("..")
    (top / "proc").symlink_to("/proc/self")
    os.mkfifo(top / "fifo")
    (top / "gone (deleted)").write_text("z")
    (top / "new\nline").write_text("z")
    (top / os.fsdecode(b"\xff\xfe")).write_text("z")
    return top


@pytest.fixture(scope="module")
def waiting(tree: Path) -> Iterator[Process]:
    with process(tree) as child:
        yield child


TEXTS = (
    "file",
    "./file",
    ".//file",
    "to-dir/deep/file",
    "to-dir/to-deep/file",
    "real/to-file",
    "chain",
    "to-dir/..",
    "to-dir/../file",
    "up",
    "real/../..",
    ".",
    "..",
    "/",
    "//",
    "/..",
    "dangling",
    "near",
    "loop",
    "one",
    "fifo",
    "file/",
    "file/.",
    "file/..",
    "file/../file",
    "file/x",
    "to-dir/",
    "real/deep/",
    "missing",
    "missing/x",
    "missing/../file",
    "missing/..",
    "to-dir/./to-deep/../to-deep/file",
    "proc/status",
    "proc/cwd/file",
    "/proc/self/cwd",
    "/proc/self/cwd/real",
    "/proc/self/root",
    "/proc/self/root/etc",
    "/proc/self/exe",
    "/proc/self/fd",
    "/proc/self/fd/0",
    "/dev/fd/0",
    "/dev/fd",
    "/dev/stdin",
    "/proc/self",
    "/proc/thread-self",
    "/proc/thread-self/comm",
    "/proc/self/task/../status",
    "/etc/mtab",
    "/proc/mounts",
    "/proc/net/dev",
    "/proc/self/ns/mnt",
    "/proc/self/../self/status",
    "/proc/self/fd/99",
    "/lib64",
    "/bin/sh",
)


@pytest.mark.parametrize("text", [*TEXTS, "gone (deleted)", "new\nline", "\udcff\udcfe", "x" * 300, "y/" * 1500])
def test_as_the_kernel(text: str, waiting: Process, tree: Path) -> None:
    found = Resolver().resolve(waiting.view, str(tree), text)
    answer = waiting.opens(text)
    assert found.kind in FILE_KINDS
    assert found.sure
    if isinstance(answer, tuple):
        assert found.exists
        assert found.look is not None
        status = os.stat(found.look)
        assert (status.st_dev, status.st_ino) == answer
        assert found.kind == kind_of(status.st_mode)
        assert found.uid == status.st_uid
        if found.path.startswith("/") and not paths.is_namespace_link(found.path):
            assert os.path.samestat(os.lstat(found.path), status)
            assert found.path == os.path.realpath(found.path)
    else:
        loop, slash = found.kind == "symlink", text.endswith(("/", "/."))
        assert not found.exists or loop or slash
        assert found.path.startswith("/")


@pytest.mark.parametrize("text", TEXTS)
def test_the_slow_way_is_the_same(text: str, waiting: Process, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The result is the same without openat2 (before Linux 5.6)."""
    quick = Resolver().resolve(waiting.view, str(tree), text)
    ways: list[paths.Way] = []
    slow = Resolver().resolve(waiting.view, str(tree), text, ways=ways)
    assert slow == quick
    assert all(stat.S_ISDIR(each.st_mode) for way in ways for each in way[:-1])
    monkeypatch.setattr(paths, "_openat2", lambda *_args, **_more: -1)
    ctypes.set_errno(38)
    assert Resolver().resolve(waiting.view, str(tree), text) == quick


@pytest.mark.parametrize("text", TEXTS)
def test_from_a_descriptor(text: str, waiting: Process, tree: Path) -> None:
    fd = os.open(tree, os.O_PATH)
    try:
        assert Resolver().resolve(waiting.view, fd, text) == Resolver().resolve(waiting.view, str(tree), text)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("missing", "missing"),
        ("missing/x/../y", "missing/y"),
        ("to-dir/missing/x", "real/missing/x"),
        ("dangling", "nowhere/else"),
        ("near", "missing"),
        ("near/x", "missing/x"),
        ("file/x", "file/x"),
        ("missing/..", ""),
    ],
)
def test_missing(text: str, path: str, waiting: Process, tree: Path) -> None:
    found = Resolver().resolve(waiting.view, str(tree), text)
    assert found.path == (f"{tree}/{path}" if path else str(tree))
    assert found.sure


def test_links_at_the_end(waiting: Process, tree: Path) -> None:
    resolver = Resolver()
    link = resolver.resolve(waiting.view, str(tree), "chain", follow=False)
    assert (link.path, link.kind) == (f"{tree}/chain", "symlink")
    assert resolver.resolve(waiting.view, str(tree), "to-dir/", follow=False).path == f"{tree}/real"
    assert resolver.resolve(waiting.view, str(tree), "to-dir/", entry=True).path == f"{tree}/to-dir"
    assert resolver.resolve(waiting.view, str(tree), "new/", entry=True) == Found(f"{tree}/new", look=f"{tree}/new")
    own = resolver.resolve(waiting.view, str(tree), "/proc/self", follow=False)
    assert (own.path, own.kind) == ("/proc/self", "symlink")
    assert resolver.resolve(waiting.view, str(tree), "/proc/self/exe", follow=False).path == f"/proc/{waiting.pid}/exe"


def test_self_is_whoever_looks(waiting: Process, tree: Path) -> None:
    """The resolver does not reuse anything of one process for another."""
    resolver = Resolver()
    with process(tree) as other:
        for each in (waiting, other, waiting):
            for text in ("/proc/self/status", "proc/status", "/proc/thread-self/../../status"):
                assert resolver.resolve(each.view, str(tree), text).path == f"/proc/{each.pid}/status"
            assert resolver.resolve(each.view, str(tree), "/dev/fd").path == f"/proc/{each.pid}/fd"
    assert resolver.resolve(View(waiting.pid, 77), "/", "/proc/thread-self/x").path == f"/proc/{waiting.pid}/task/77/x"


def test_a_number_that_is_profgens_own(waiting: Process) -> None:
    assert Resolver().resolve(waiting.view, "/", f"/proc/{os.getpid()}/comm").path == f"/proc/{os.getpid()}/comm"


def test_descriptors_lead_to_their_files(tree: Path) -> None:
    with (
        (tree / "real/deep/file").open() as file,
        process(tree, pass_fds=(file.fileno(),)) as child,
    ):
        for text in (
            f"/proc/self/fd/{file.fileno()}",
            f"/dev/fd/{file.fileno()}",
            f"/proc/{child.pid}/fd/{file.fileno()}",
        ):
            assert Resolver().resolve(child.view, "/", text).path == f"{tree}/real/deep/file"
        pipe = Resolver().resolve(child.view, "/", "/dev/stdin")
        assert (pipe.path[:6], pipe.kind, pipe.state) == ("pipe:[", "fifo", "detached")


def test_unnamed_and_deleted_files(tmp_path: Path) -> None:
    resolver, view = Resolver(), View(os.getpid(), os.getpid())

    def behind(fd: int) -> Found | None:
        return resolver.descriptor(view, f"/proc/self/fd/{fd}")

    gone = tmp_path / "gone"
    with gone.open("w") as file:
        found = behind(file.fileno())
        assert found is not None
        assert (found.path, found.state, found.kind, found.uid) == (str(gone), "linked", "file", os.geteuid())
        other = tmp_path / "other"
        other.hardlink_to(gone)
        gone.unlink()
        found = behind(file.fileno())
        assert found is not None
        assert (found.path, found.state) == (str(gone), "deleted")
    misleading = tmp_path / "real (deleted)"
    with misleading.open("w") as file:
        found = behind(file.fileno())
        assert found is not None
        assert (found.path, found.state) == (str(misleading), "linked")
        misleading.unlink()
        found = behind(file.fileno())
        assert found is not None
        assert (found.path, found.state) == (str(misleading), "deleted")
    fd = os.memfd_create("code (deleted)")
    found = behind(fd)
    os.close(fd)
    assert found is not None
    assert (found.path, found.state, found.kind) == ("memfd:code (deleted)", "detached", "file")
    with socket.socket() as plain:
        found = behind(plain.fileno())
        assert found is not None
        assert found.path.startswith("socket:[")
    assert behind(999) is None


def test_a_file_that_is_called_like_a_memfd(tmp_path: Path) -> None:
    """A file in the root directory may have any name."""
    name = Path("/memfd:profgen test")
    try:
        file = name.open("w")
    except OSError:
        pytest.skip("the root directory is not writable")
    with file:
        name.unlink()
        found = Resolver().descriptor(View(os.getpid(), os.getpid()), f"/proc/self/fd/{file.fileno()}")
    assert found is not None
    assert (found.path, found.state) == (str(name), "deleted")


def test_deleted_working_directory(tmp_path: Path) -> None:
    place = (tmp_path / "place").resolve()
    place.mkdir()
    with process(place) as child:
        place.rmdir()
        fd = os.open(f"/proc/{child.pid}/cwd", os.O_PATH)
        try:
            here = Resolver().resolve(child.view, fd, ".")
            assert (here.path, here.state, here.exists) == (str(place), "deleted", True)
            below_it = Resolver().resolve(child.view, fd, "x")
            assert (below_it.path, below_it.exists) == (f"{place}/x", False)
            assert Resolver().resolve(child.view, fd, "..").path == str(place.parent)
        finally:
            os.close(fd)


def test_long_paths(tmp_path: Path) -> None:
    top = tmp_path.resolve()
    fd = os.open(top, os.O_RDONLY)
    name = "d" * 200
    path = str(top)
    while len(path) < 5000:
        os.mkdir(name, dir_fd=fd)
        inner = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
        path += "/" + name
    try:
        view = View(os.getpid(), os.getpid())
        assert not Resolver().resolve(view, fd, "file").sure  # longer than the kernel tells
        found = Resolver().descriptor(view, f"/proc/self/fd/{fd}")
        assert found is not None
        assert not found.sure
        near = "/".join([str(top), *([name] * 18)])
        assert len(near) < 4096
        exact = Resolver().resolve(view, near, "x" * (4095 - len(near)))
        assert (len(exact.path), exact.exists, exact.sure) == (4096, False, True)
        again = Resolver().resolve(view, near, f"{name}/{name}")
        assert (again.path, again.exists) == (f"{near}/{name}/{name}", True)
    finally:
        os.close(fd)


# -- other roots -------------------------------------------------------------------------------------------------------

JAIL = """
import os, sys
os.chroot(sys.argv[1]); os.chdir("/sub")
print("there", flush=True)
sys.stdin.read()
"""


@contextmanager
def jailed(directory: Path, *wrap: str) -> Iterator[subprocess.Popen[str]]:
    argv = [*wrap, sys.executable, "-c", JAIL, str(directory)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "there\n"
            yield child
        finally:
            child.kill()


@pytest.fixture
def jail(tmp_path: Path) -> Path:
    top = (tmp_path / "jail").resolve()
    (top / "sub").mkdir(parents=True)
    (top / "etc").mkdir()
    (top / "etc/passwd").write_text("other")
    (top / "sub/absolute").symlink_to("/etc/passwd")
    (top / "sub/up").symlink_to("../../../../etc/passwd")
    (top / "sub/nowhere").symlink_to("/no/where")
    return top


@root_only
@pytest.mark.parametrize(
    "wrap", [(), ("unshare", "--mount", "--propagation", "private")], ids=["same mounts", "own mounts"]
)
def test_chroot(wrap: tuple[str, ...], jail: Path) -> None:
    """Paths are those of the mount namespace; symbolic links and .. do not lead outside the chroot."""
    with jailed(jail, *wrap) as child:
        view = View.of(child.pid, child.pid)
        assert (view.root_path, view.top) == (str(jail), None if wrap else "/")
        base = os.readlink(f"/proc/{child.pid}/cwd")
        assert base == f"{jail}/sub"
        expected = {
            "/etc/passwd": "/etc/passwd",
            "absolute": "/etc/passwd",
            "up": "/etc/passwd",
            "../../../etc/passwd": "/etc/passwd",
            "/..": "",
            ".": "/sub",
            "nowhere": "/no/where",
            "/sub/absolute": "/etc/passwd",
            "/proc/self/status": "/proc/self/status",
        }
        for text, path in expected.items():
            found = Resolver().resolve(view, base, text)
            assert found.path == f"{jail}{path}", text
            assert found.exists == (path not in ("/no/where", "/proc/self/status")), text


@root_only
def test_container(jail: Path) -> None:
    """In a mount namespace with its own root, paths begin at that root."""
    script = "mount --bind {0} {0} && cd {0} && pivot_root . sub && cd /etc && echo there && read line"
    for name in ("bin", "lib", "lib64", "usr", "sub/x"):
        (jail / name).mkdir()
    binds = "".join(f"mount --rbind /{name} {jail}/{name} && " for name in ("bin", "lib", "lib64", "usr"))
    script = f"mount --bind {jail} {jail} && {binds}cd {jail} && pivot_root . sub && cd /etc && echo there && read line"
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "there\n"
            view = View.of(child.pid, child.pid)
            assert view.root_path == "/"
            assert view.root == view.top == f"/proc/{child.pid}/root"
            found = Resolver().resolve(view, "/etc", "passwd")
            assert (found.path, found.exists, found.look) == ("/etc/passwd", True, f"/proc/{child.pid}/root/etc/passwd")
            assert Path(found.look or "").read_text() == "other"
            assert Resolver().resolve(view, "/etc", "../sub/etc/hostname").path == "/sub/etc/hostname"
            assert Resolver().descriptor(view, f"/proc/{child.pid}/cwd") == Found(
                "/etc", "directory", 0, True, look=f"/proc/{child.pid}/cwd"
            )
        finally:
            child.kill()


@root_only
def test_file_on_no_tree(tmp_path: Path) -> None:
    """The file is on a file system that was unmounted while in use."""
    script = (
        f"mount -t tmpfs scratch {tmp_path} && exec 9>{tmp_path}/new && umount -l {tmp_path} && echo there && read line"
    )
    argv = ["unshare", "--mount", "--propagation", "private", "bash", "-c", script]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "there\n"
            found = Resolver().descriptor(View.of(child.pid, child.pid), f"/proc/{child.pid}/fd/9")
            assert found is not None
            assert (found.path, found.state) == ("/new", "detached")
        finally:
            child.kill()


def test_process_that_is_gone() -> None:
    with process() as child:
        view = View(child.pid, child.pid, f"/proc/{child.pid}/root", "/", f"/proc/{child.pid}/root")
    found = Resolver().resolve(view, "/a", "b/../c")
    assert (found.path, found.exists, found.sure) == ("/a/c", False, False)
    with pytest.raises(OSError):
        View.of(child.pid, child.pid)


@pytest.mark.parametrize(
    ("path", "root", "inside"),
    [("/a/b", "/", "/a/b"), ("/a/b", "/a", "/b"), ("/a", "/a", "/"), ("/ab", "/a", None), ("/", "/a", None)],
)
def test_below(path: str, root: str, inside: str | None) -> None:
    assert below(path, root) == inside


# -- after the fact ----------------------------------------------------------------------------------------------------


@pytest.fixture
def view() -> View:
    return View(os.getpid(), os.getpid())


def test_directories_that_are_gone(tmp_path: Path, view: View) -> None:
    top = str(tmp_path.resolve())
    memory = Memory()
    resolver = Resolver(memory)
    assert not resolver.resolve(view, top, "made/file", passed=True).sure
    assert resolver.resolve(view, top, "made/file", passed=False).sure  # it may have failed for want of the directory
    memory.made(f"{top}/made")
    resolver.forget()
    found = resolver.resolve(view, top, "made/file", passed=True)
    assert (found.path, found.sure) == (f"{top}/made/file", True)
    assert not resolver.resolve(view, top, "made/deeper/file", passed=True).sure
    memory.renamed(f"{top}/made", f"{top}/moved")
    resolver.forget()
    assert resolver.resolve(view, top, "moved/file", passed=True).sure
    assert resolver.resolve(view, f"{top}/moved", "file", passed=True).path == f"{top}/moved/file"
    assert resolver.resolve(view, top, "moved", passed=True).kind == "directory"


def test_links_that_are_gone(tmp_path: Path, view: View) -> None:
    top = str(tmp_path.resolve())
    (tmp_path / "real").mkdir()
    (tmp_path / "real/file").write_text("")
    memory = Memory()
    resolver = Resolver(memory)
    memory.made(f"{top}/link", "real")
    memory.made(f"{top}/far", f"{top}/link/../real/file")
    for text, path in (
        ("link/file", "real/file"),
        ("far", "real/file"),
        ("link", "real"),
        ("link/../link/file", "real/file"),
    ):
        found = resolver.resolve(view, top, text, passed=True)
        assert (found.path, found.exists, found.sure) == (f"{top}/{path}", True, True), text
    assert resolver.resolve(view, top, "far", follow=False, passed=True).path == f"{top}/far"
    memory.made(f"{top}/gone")
    memory.made(f"{top}/gone/link", "../real/file")
    assert resolver.resolve(view, top, "gone/link", passed=True).path == f"{top}/real/file"
    memory.made(f"{top}/a", "b")
    memory.made(f"{top}/b", "a")
    resolver.resolve(view, top, "a", passed=True)  # ends


def test_memory_is_bounded() -> None:
    memory = Memory(limit=10)
    for number in range(100):
        memory.made(f"/d{number}")
    assert memory.directory("/d99")
    assert not memory.directory("/d1")
    assert memory.link("/d99") is None


def test_words() -> None:
    assert {kind_of(mode) for mode in (0o100000, 0o40000, 0o120000, 0o10000, 0o140000, 0o20000, 0o60000, 0)} == set(
        FILE_KINDS
    )
    assert Found("/").state in FILE_STATES


@pytest.mark.parametrize(
    ("path", "follow", "through"),
    [
        ("/proc/7", True, False),
        ("/proc/7/status", True, False),
        ("/proc/7/task/8/stat", True, False),
        ("/proc/7/exe", False, False),
        ("/proc/7/exe", True, True),
        ("/proc/7/cwd/file", False, True),
        ("/proc/7/fd", True, False),
        ("/proc/7/fd/3", False, False),
        ("/proc/7/fd/3", True, True),
        ("/proc/7/fd/3/file", False, True),
        ("/proc/7/task/8/fd/3/sub/file", False, True),
    ],
)
def test_through_link(path: str, follow: bool, through: bool) -> None:
    assert through_link(path, follow) is through


@pytest.mark.parametrize(
    ("path", "process"),
    [
        ("/proc/12", 12),
        ("/proc/12/stat", 12),
        ("/proc/12x", None),
        ("/proc/self", None),
        ("/proc/", None),
        ("/srv/proc/12", None),
        ("", None),
    ],
)
def test_processes_below_proc(path: str, process: int | None) -> None:
    assert process_in(path) == process


def test_owners() -> None:
    assert owner_of(5, 5) == ("self",)
    assert owner_of(0, 5) == ("other",)
    assert owner_of(None, 5) == owner_of(5, None) == ()


@pytest.mark.parametrize(
    ("make", "mode", "kind"),
    [
        ("directory", 0, "directory"),
        ("mode", stat.S_IFIFO | 0o600, "fifo"),
        ("mode", 0o600, "file"),
        ("mode", 0, "file"),
        (None, stat.S_IFIFO, None),
    ],
)
def test_kinds_that_are_made(make: str | None, mode: int, kind: str | None) -> None:
    assert kind_of_made(make, mode) == kind


# -- file systems with a server ----------------------------------------------------------------------------------------


class Asked:
    """Errands that note what was asked."""

    def __init__(self) -> None:
        self.subjects: list[str] = []

    def ask(self, task: Task) -> Any:
        self.subjects.append(task.subject)
        return Patient().ask(task)


def served(tree: Path, *names: str, type: str = "nfs") -> tuple[Resolver, Asked]:
    """Return a resolver to which these directories are mounts with a server, and what it asks."""
    asked = Asked()
    resolver = Resolver(errands=asked)
    rows = tuple(Served(f"{tree}/{name}" if name else str(tree), type) for name in names)
    table = Table(rows, resolver.mounts(View(0, 0)).local)
    resolver.mounts = lambda view: table  # type: ignore[method-assign]
    return resolver, asked


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """A tree with links into and out of each of its directories."""
    for name in ("local/deep", "mnt/sub/deep"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").touch()
    (tmp_path / "into").symlink_to("mnt/sub")
    (tmp_path / "mnt/out").symlink_to("../local")
    (tmp_path / "mnt/sub/absolute").symlink_to(f"{tmp_path}/local/deep/file")
    (tmp_path / "local/dangling").symlink_to("../mnt/nothing")
    return tmp_path


TEXTS = st.lists(
    st.sampled_from(["local", "deep", "file", "mnt", "sub", "into", "out", "absolute", "dangling", "none", "..", "."]),
    min_size=1,
    max_size=5,
)


@pytest.mark.parametrize("type", ["nfs", "fuse"])
def test_servers_are_asked_elsewhere(type: str, linked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answers are those of a look-up here, and nothing is looked up here below a mount with a server."""
    plain = os.lstat

    def watched(path: str) -> os.stat_result:
        assert not asked.subjects or os.getpid() != me or f"{linked}/mnt" not in path
        return plain(path)

    me = os.getpid()
    resolver, asked = served(linked, "mnt", type=type)

    @settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(TEXTS, st.booleans(), st.booleans())
    @example(["mnt", "out", "deep", "file"], True, False)
    def holds(parts: list[str], follow: bool, entry: bool) -> None:
        view, text = View(me, me), "/".join(parts)
        ways: list[paths.Way] = []
        others: list[paths.Way] = []
        here = Resolver().resolve(view, str(linked), text, follow=follow, entry=entry, ways=ways)
        there = resolver.resolve(view, str(linked), text, follow=follow, entry=entry, ways=others)
        assert there == here
        assert [[(each.st_dev, each.st_ino) for each in way] for way in others] == [
            [(each.st_dev, each.st_ino) for each in way] for way in ways
        ]
        assert resolver.resolve(view, str(linked), text, follow=follow, entry=entry) == here

    holds()
    assert set(asked.subjects) == {f"{linked}/mnt"}


def test_local_paths_are_not_asked_for(linked: Path) -> None:
    resolver, asked = served(linked, "mnt")
    view = View(os.getpid(), os.getpid())
    for text in ("local/deep/file", "local/./deep/none", "none/x", "mnt", "local/dangling"):
        resolver.resolve(view, str(linked), text, follow=False)
    assert asked.subjects == [f"{linked}/mnt"], "only the mount point itself"


def test_a_server_that_does_not_answer(linked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errands, "PATIENCE_SECONDS", 0.05)
    resolver, _ = served(linked, "mnt")
    monkeypatch.setattr(Resolver, "_resolve", slow(Resolver._resolve))
    view = View(os.getpid(), os.getpid())
    found = resolver.resolve(view, str(linked), "mnt/./sub/none")
    assert (found.path, found.sure, found.exists) == (f"{linked}/mnt/sub/none", False, False)


def slow(resolve: Callable[..., Found]) -> Callable[..., Found]:
    """Return a function that takes long in another process."""
    me = os.getpid()

    def resolved(*arguments: Any) -> Found:
        if os.getpid() != me:
            time.sleep(600)
        return resolve(*arguments)

    return resolved


def test_contents_and_links(linked: Path) -> None:
    resolver, asked = served(linked, "mnt")
    view, path = View(os.getpid(), os.getpid()), f"{linked}/mnt/sub/deep/file"
    Path(path).write_text("text")
    found = resolver.at(view, path)
    assert found is not None
    assert found.kind == "file"
    assert resolver.read(view, found, "text", lambda look: Path(look).read_text()) == "text"
    assert resolver.text_of(view, f"{linked}/mnt/out") == "../local"
    assert resolver.at(view, f"{linked}/mnt/none") is None
    assert len(asked.subjects) == 4
    here = Found(f"{linked}/local/deep/file", look=f"{linked}/local/deep/file")
    assert resolver.read(view, here, "text", lambda look: Path(look).read_text()) == ""
    assert resolver.text_of(view, f"{linked}/into") == "mnt/sub"
    assert len(asked.subjects) == 4
