"""Layers put over one another as a tree."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs import examples

from profiler.images.files import Files, HardLink, Node
from profiler.kernel.file_capabilities import FileCapabilities

FILE, DIRECTORY = Node("file"), Node("directory")


def link(target: str) -> Node:
    return Node("symlink", 0o777, target=target)


def files(*layers: list[tuple[str, Node | HardLink]]) -> Files:
    made = Files()
    for layer in layers:
        made.apply(layer)
    return made


def paths(made: Files) -> list[str]:
    return [path for path, node in made if node.kind != "directory"]


def test_later_layers_win_and_keep_what_they_do_not_name() -> None:
    made = files([("./a/x", FILE), ("a/y", FILE)], [("a/x", Node("file", 0o4755)), ("/a", Node("directory", 0o700))])
    assert dict(made) == {"/a": Node("directory", 0o700), "/a/x": Node("file", 0o4755), "/a/y": FILE}


def test_whiteouts_hide_what_is_below_them_alone() -> None:
    first = [("a/x", FILE), ("a/y/z", FILE), ("b", FILE)]
    assert paths(files(first, [("a/.wh.x", FILE)])) == ["/a/y/z", "/b"]
    assert paths(files(first, [("a/.wh.y", FILE), (".wh.b", FILE)])) == ["/a/x"]
    # Wherever it stands in its layer.
    assert paths(files(first, [("a/new", FILE), ("a/.wh..wh..opq", FILE), ("a/y/n", FILE)])) == [
        "/a/new",
        "/a/y/n",
        "/b",
    ]
    assert paths(files(first, [("a/.wh.x", FILE), ("a/x", FILE)])) == ["/a/x", "/a/y/z", "/b"]
    assert paths(files(first, [("no/.wh.x", FILE), (".wh.", FILE), ("b/.wh.x", FILE)])) == ["/a/x", "/a/y/z", "/b"]


def test_a_file_replaces_a_directory_and_a_directory_a_file() -> None:
    assert paths(files([("a/x", FILE)], [("a", FILE)])) == ["/a"]
    assert paths(files([("a", FILE)], [("a", DIRECTORY), ("a/x", FILE)])) == ["/a/x"]


def test_links_lead_inside_the_tree() -> None:
    made = files(
        [("usr/bin/su", FILE), ("bin", link("usr/bin")), ("sh", link("/../../bin/su")), ("loop", link("loop"))]
    )
    assert made.find("/bin/su") == ("/usr/bin/su", FILE)
    assert made.find("/sh") == ("/usr/bin/su", FILE)
    assert made.find("/loop") is None
    assert made.find("/usr/bin/su/x") is None
    assert made.nearest("/bin/none/x") == ("/usr/bin", DIRECTORY)
    assert made.nearest("/none") == ("/", DIRECTORY)
    # An entry below a link goes where the link leads, as an engine unpacks it.
    made.apply([("bin/new", FILE)])
    assert made.find("/usr/bin/new") == ("/usr/bin/new", FILE)


def test_hard_links() -> None:
    made = files([("a", Node("file", 0o4755)), ("b", HardLink("a")), ("c", HardLink("./b")), ("d", HardLink("none"))])
    assert [path for path, node in made if node.mode == 0o4755] == ["/a", "/b", "/c"]
    assert made.left_out == 1


def test_a_hard_link_may_make_its_file_privileged() -> None:
    """Engines give the mode and the capabilities in the entry of a link to the file, under all of its names."""
    gained = FileCapabilities(2, effective=True)
    made = files([("a", FILE), ("b", HardLink("a")), ("c", HardLink("b", 0o6755, gained)), ("d", HardLink("a", 0o644))])
    assert {path: (node.mode, node.capabilities) for path, node in made} == dict.fromkeys(
        ("/a", "/b", "/c", "/d"), (FILE.mode | 0o6000, gained)
    )
    made.apply([("b", FILE)])
    assert dict(made)["/b"] == FILE, "a new file in place of one name"
    assert dict(made)["/a"].mode & 0o6000


@pytest.mark.parametrize(("path", "where"), [("a/../x", "/x"), ("/../x", "/x"), ("./a/./../../x", None)])
def test_paths_are_settled_as_engines_do(path: str, where: str | None) -> None:
    assert [found for found, _ in files([(path, FILE)])] == ([] if where is None else [where])


@pytest.mark.parametrize("path", ["../x", "a/../../x", "x/" * 3000])
def test_paths_that_lead_out_are_left_out(path: str) -> None:
    made = files([(path, FILE)])
    assert (list(made), made.left_out) == ([], 1)


WORDS = st.sampled_from(["a", "b", ".", "..", "", ".wh.a", ".wh..wh..opq", "\udcff"])
PATHS = st.lists(WORDS, max_size=4).map("/".join)
NODES = st.sampled_from([FILE, DIRECTORY]) | PATHS.map(link) | PATHS.map(HardLink) | PATHS.map(lambda p: link("/" + p))


@given(st.lists(st.lists(st.tuples(PATHS, NODES), max_size=6), max_size=4), PATHS)
@settings(max_examples=examples(200), deadline=None)
def test_hostile_layers(layers: list[list[tuple[str, Node | HardLink]]], asked: str) -> None:
    made = files(*layers)
    every = dict(made)
    for path in every:
        assert posixpath.normpath(path) == path
        assert path.startswith("/")
        above = posixpath.dirname(path)
        assert above == "/" or every[above].kind == "directory"
        assert not posixpath.basename(path).startswith(".wh.")
    found = made.find(asked)
    assert found is None or found[0] == "/" or every[found[0]] == found[1]
