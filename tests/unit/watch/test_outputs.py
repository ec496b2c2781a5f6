"""Where recordings go: names that strangers chose become plain file names, and no earlier trace is written over."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.trace.model import Container, Pod
from profiler.watch.outputs import Outputs, numbered, plain_name, workload_name

ID = "69f588c66af27b98cb1ae5bc338dc3ef6fcee431cc5dbda8b5305d6da74e19f2"


@pytest.mark.parametrize(
    ("path", "number", "expected"),
    [
        ("app.trace.json", 1, "app.trace.json"),
        ("app.trace.json", 2, "app.2.trace.json"),
        ("d.x/app.json", 3, "d.x/app.3.json"),
        ("app", 2, "app.2"),
        (".trace.json", 2, ".2.trace.json"),
    ],
)
def test_numbered(path: str, number: int, expected: str) -> None:
    assert numbered(Path(path), number) == Path(expected)


def test_one_file(tmp_path: Path) -> None:
    (tmp_path / "a.trace.json").write_text("an older one, which -o names")
    outputs = Outputs(tmp_path / "a.trace.json", None, merge=False)
    assert [outputs.claim("web", ID).name for _ in range(3)] == ["a.trace.json", "a.2.trace.json", "a.3.trace.json"]
    merged = Outputs(tmp_path / "a.trace.json", None, merge=True)
    assert {merged.claim("web", ID).name for _ in range(3)} == {"a.trace.json"}


def test_a_directory(tmp_path: Path) -> None:
    (tmp_path / "web-69f588c66af2.trace.json").write_text("of an earlier run: it may hold the start")
    outputs = Outputs(None, tmp_path, merge=False)
    assert outputs.claim("web", ID).name == "web-69f588c66af2.2.trace.json"
    assert outputs.claim("web", ID).name == "web-69f588c66af2.3.trace.json"
    assert outputs.claim(None, ID).name == "69f588c66af2.trace.json"
    assert outputs.claim("..", "//").name == "workload.trace.json"
    merged = Outputs(None, tmp_path, merge=True)
    assert {merged.claim("web", name).name for name in (ID, "0" * 64)} == {"web.trace.json"}
    assert merged.claim(None, ID).name == "69f588c66af2.trace.json"


def in_pod(namespace: str | None, workload: str | None, name: str | None) -> Container:
    return Container("containerd", None, ID, name, pod=Pod(namespace, workload, None, workload))


def test_the_name_of_a_workload() -> None:
    assert workload_name(Container("docker", None, ID, "web")) == "web"
    assert workload_name(in_pod("shop", "web.v2", "nginx")) == "shop_web.v2_nginx"


@pytest.mark.parametrize(
    ("namespace", "workload", "name"),
    [
        ("a/../..", "/etc", "x"),
        ("shop", "web_nginx", "x"),
        ("shop", "w" * 253, "nginx"),
        ("shop", "web", None),
        ("\n", "\udcff\0", "-rf"),
        (None, None, None),
    ],
)
def test_names_that_kubernetes_does_not_give(namespace: str, workload: str, name: str) -> None:
    """Two of them share a file only if they are the same."""
    found = workload_name(in_pod(namespace, workload, name))
    assert found is not None
    assert plain_name(found) == found
    assert re.fullmatch(r".*-[0-9a-f]{12}", found)


@given(st.lists(st.tuples(st.text(), st.text(), st.text()), min_size=2, max_size=2, unique=True))
def test_two_workloads_never_share_a_file(pair: list[tuple[str, str, str]]) -> None:
    first, second = (workload_name(in_pod(*parts)) for parts in pair)
    assert first != second


def test_a_name_that_a_stranger_chose(tmp_path: Path) -> None:
    (tmp_path / f"web-{ID}.trace.json").write_text("an administrator's")
    for chosen in ("web", "policy.yaml", "-rf", "a\nb\x1b[1m", "../x", ""):
        outputs = Outputs(None, tmp_path, merge=False, chosen=chosen)
        path = outputs.claim("its own name", ID)
        assert not path.exists()
        assert path.parent == tmp_path
        assert path.name[0] not in "-."
        assert path.name.isprintable()
        assert ID in path.name
        assert path.name.endswith(".trace.json")
        assert "own" not in path.name


def test_no_file_that_appears_later_is_replaced(tmp_path: Path) -> None:
    """A container of the same id may have been started again before the trace of its first run was written."""
    first, second = (Outputs(None, tmp_path, merge=False, chosen="web") for _ in range(2))
    path = first.claim(None, ID)
    assert second.claim(None, ID) == path
    assert first.write(path, b"one") == path
    assert second.write(path, b"two") == tmp_path / f"web-{ID}.2.trace.json"
    assert (path.read_bytes(), (tmp_path / f"web-{ID}.2.trace.json").read_bytes()) == (b"one", b"two")
    assert len(list(tmp_path.iterdir())) == 2
    other = Outputs(path, None, merge=False)
    assert other.write(path, b"three") == path
    assert path.read_bytes() == b"three"


@given(st.lists(st.tuples(st.none() | st.text(max_size=300), st.text(max_size=80)), max_size=5))
def test_any_names(names: list[tuple[str | None, str]]) -> None:
    outputs = Outputs(None, Path("/nonexistent"), merge=False)
    paths = [outputs.claim(*pair) for pair in names]
    assert len({path.name for path in paths}) == len(paths)
    for path in paths:
        assert path.parent == Path("/nonexistent")
        assert path.name.isascii()
        assert path.name.isprintable()
        assert len(path.name) < 200
        assert path.name not in (".", "..")


@given(st.text() | st.binary().map(os.fsdecode))
def test_plain_name(text: str) -> None:
    name = plain_name(text)
    assert name.isascii()
    assert not name.startswith((".", "-"))
