"""Trees of mounts: what a call's paths mean after the mount calls before it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.kernel.mounts import MountUse
from profiler.tracers.ebpf.events import OTHER_MOUNTS, Event
from profiler.tracers.ebpf.trees import FileSystem, Mounted, Node, Outside, Tree, Trees, new_root
from profiler.tracers.paths import Resolver, View

UID = 12


def event(tgid: int = 70, mounts: int = 1, before: int = 0, facts: int = 0) -> Event:
    return Event(
        b"", 0, 0, 0, 0, 0, 0, mounts, before, 0, facts, fsuid=UID, tgid=tgid, tid=tgid, own_tgid=2, own_tid=3,
        texts=(), paths=(),
    )  # fmt: skip


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """What the workload began with."""
    (tmp_path / "etc/deep").mkdir(parents=True)
    (tmp_path / "etc/file").touch()
    (tmp_path / "etc/deep/file").touch()
    (tmp_path / "lib").symlink_to("etc")
    (tmp_path / "absolute").symlink_to("/etc/file")
    (tmp_path / "mnt").mkdir()
    return tmp_path


def seen(outside: Path) -> Outside:
    return Outside(Resolver(), View(0, 0, str(outside), "/", str(outside)))


@pytest.fixture
def tree(outside: Path) -> Tree:
    return Tree([Mounted("/", FileSystem(outside=seen(outside)))])


def mount(tree: Tree, operation: str, source: str | None, target: str, filesystem: str | None = None) -> None:
    tree.mount(MountUse(operation, ()), source, target, filesystem, UID)


def found(tree: Tree, text: str, base: str = "/", root: str = "/", follow: bool = True) -> tuple[str, str]:
    result = tree.find(event(), root, base, text, follow, False)
    assert result.sure
    return result.path, result.kind


def test_links_and_dots(tree: Tree) -> None:
    assert found(tree, "/etc/file") == ("/etc/file", "file")
    assert found(tree, "/lib/deep/../file") == ("/etc/file", "file")
    assert found(tree, "/absolute") == ("/etc/file", "file")
    assert found(tree, "/absolute", follow=False) == ("/absolute", "symlink")
    assert found(tree, "file", base="/etc") == ("/etc/file", "file")
    assert found(tree, "../../../etc/") == ("/etc", "directory")
    assert found(tree, "/../file", root="/etc") == ("/etc/file", "file")
    assert found(tree, "/no/such") == ("/no/such", "unknown")


def test_links_in_a_circle_end(tree: Tree) -> None:
    mount(tree, "mount", "tmpfs", "/mnt", "tmpfs")
    tree.note("/mnt/a", Node("symlink", UID, "b"))
    tree.note("/mnt/b", Node("symlink", UID, "a"))
    assert tree.find(event(), "/", "/", "/mnt/a/x", True, True).path.startswith("/mnt/")


def test_the_newest_mount_covers(tree: Tree) -> None:
    mount(tree, "bind", "/etc", "/mnt")
    assert found(tree, "/mnt/file") == ("/mnt/file", "file")
    mount(tree, "mount", "tmpfs", "/mnt", "tmpfs")
    assert found(tree, "/mnt/file") == ("/mnt/file", "unknown")
    mount(tree, "umount", None, "/mnt")
    assert found(tree, "/mnt/file") == ("/mnt/file", "file")
    mount(tree, "umount", None, "/mnt")
    assert found(tree, "/mnt/file") == ("/mnt/file", "unknown")


def test_umount_takes_what_is_mounted_below(tree: Tree) -> None:
    mount(tree, "mount", "tmpfs", "/mnt", "tmpfs")
    mount(tree, "bind", "/etc", "/mnt/etc")
    mount(tree, "umount", None, "/mnt")
    assert len(tree.mounts) == 1


def test_bind_and_rbind(tree: Tree) -> None:
    mount(tree, "mount", "tmpfs", "/etc/deep", "tmpfs")
    mount(tree, "bind", "/", "/mnt")
    assert found(tree, "/mnt/etc/deep/file") == ("/mnt/etc/deep/file", "file"), "mounts below are not bound"
    mount(tree, "umount", None, "/mnt")
    mount(tree, "rbind", "/", "/mnt")
    assert found(tree, "/mnt/etc/deep/file") == ("/mnt/etc/deep/file", "unknown")


def test_new_file_systems_hold_what_was_made(tree: Tree) -> None:
    mount(tree, "mount", "tmpfs", "/mnt", "tmpfs")
    assert found(tree, "/mnt") == ("/mnt", "directory")
    tree.note("/mnt/dir", Node("directory", UID))
    tree.note("/mnt/link", Node("symlink", UID, "dir/file"))
    tree.note("/mnt/dir/file", Node("fifo", UID))
    assert found(tree, "/mnt/link") == ("/mnt/dir/file", "fifo")
    tree.renamed("/mnt/dir", "/mnt/other")
    assert found(tree, "/mnt/other/file") == ("/mnt/other/file", "fifo")
    tree.note("/mnt/link", Node("symlink", UID))
    assert found(tree, "/mnt/link") == ("/mnt/dir/file", "fifo"), "a use of the link does not make its text unknown"


def test_what_is_not_known_of_a_file_system_is_not_sure(tree: Tree) -> None:
    mount(tree, "mount", "overlay", "/mnt", "overlay")
    assert not tree.find(event(), "/", "/", "/mnt/a/b", True, True).sure
    assert tree.find(event(), "/", "/", "/mnt/a", False, True).sure


def test_proc_of_another_pid_namespace(tree: Tree) -> None:
    mount(tree, "mount", "proc", "/mnt", "proc")
    assert found(tree, "/mnt/self/status") == ("/mnt/2/status", "file")
    assert found(tree, "/mnt/thread-self", follow=False) == ("/mnt/thread-self", "symlink")
    assert found(tree, "/mnt/thread-self/status") == ("/mnt/2/task/3/status", "file")
    assert tree.find(event(), "/", "/", "/mnt/self/status", True, True).uid == UID
    assert found(tree, "/mnt/self/exe", follow=False) == ("/mnt/2/exe", "symlink")


def test_pivot_root(tree: Tree) -> None:
    """As bubblewrap does: a first root with the old one below it, then a second in its place."""
    mount(tree, "mount", "tmpfs", "/mnt", "tmpfs")
    tree.pivot("/mnt", "/mnt/old")
    assert found(tree, "/old/etc/file") == ("/old/etc/file", "file")
    assert found(tree, "/old/absolute") == ("/etc/file", "unknown")
    mount(tree, "rbind", "/old", "/new")
    mount(tree, "mount", "tmpfs", "/new/mnt", "tmpfs")
    assert new_root([one.point for one in tree.mounts]) == "/new"
    tree.pivot("/new", "/new")
    assert found(tree, "/absolute") == ("/etc/file", "file")
    assert found(tree, "/old/etc/file") == ("/old/etc/file", "unknown")
    assert [one.point for one in tree.mounts] == ["/", "/mnt"]


def test_pivot_root_to_a_directory_that_no_mount_was_seen_for(tree: Tree) -> None:
    tree.pivot("/etc", "/etc/deep")
    assert found(tree, "/file") == ("/file", "file")
    assert found(tree, "/deep/etc/file") == ("/deep/etc/file", "file")


def test_move(tree: Tree) -> None:
    mount(tree, "mount", "tmpfs", "/etc/deep", "tmpfs")
    mount(tree, "bind", "/etc", "/etc/deep/x")
    mount(tree, "move", "/etc/deep", "/mnt")
    assert found(tree, "/mnt/x/file") == ("/mnt/x/file", "file")
    assert found(tree, "/etc/deep/file") == ("/etc/deep/file", "file")


def test_namespaces(outside: Path) -> None:
    trees = Trees(lambda: seen(outside))
    trees.saw(event(70, mounts=5))
    assert trees.of(event(70, mounts=5)) is None, "where the workload begins"
    trees.made(event(70, mounts=8))
    own = trees.of(event(70, mounts=8))
    assert own is not None
    mount(own, "mount", "tmpfs", "/mnt", "tmpfs")
    trees.made(event(71, mounts=9, before=8, facts=OTHER_MOUNTS))
    copy = trees.of(event(71, mounts=9))
    assert copy is not None
    mount(copy, "umount", None, "/mnt")
    assert len(own.mounts) == 2
    assert len(copy.mounts) == 1
    trees.made(event(90, mounts=10, before=77, facts=OTHER_MOUNTS))
    assert trees.of(event(90, mounts=10)) is None, "a copy of one that was never seen"


names = st.sampled_from(["a", "b", "..", ".", "", "link"])
paths = st.lists(names, max_size=6).map(lambda parts: "/" + "/".join(parts))
places = st.lists(st.sampled_from("ab"), max_size=3).map(lambda parts: "/" + "/".join(parts))
changes = st.one_of(
    st.tuples(st.just("mount"), st.none(), places),
    st.tuples(st.sampled_from(["bind", "rbind", "move"]), places, places),
    st.tuples(st.just("umount"), st.none(), places),
    st.tuples(st.just("pivot"), places, places),
)


@given(st.lists(changes, max_size=8), st.lists(paths, max_size=5))
def test_any_order_of_calls_leaves_a_tree(steps: list[tuple[str, str | None, str]], texts: list[str]) -> None:
    tree = Tree([Mounted("/", FileSystem("tmpfs"))])
    for operation, source, target in steps:
        if operation == "pivot":
            tree.pivot(source or "/", target)
        else:
            mount(tree, operation, source, target, "tmpfs")
        tree.note("/link", Node("symlink", UID, "a/../b"))
        for text in texts:
            result = tree.find(event(), "/", "/", text, True, True)
            assert result.path == os.path.normpath(result.path)
            assert result.path.startswith("/")
            assert not result.path.startswith("//")
