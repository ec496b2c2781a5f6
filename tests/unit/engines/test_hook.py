"""An OCI hook: what it is told, and that an annotation can name nothing but a file of the directory that was set
aside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.engines.hook import State, chosen_name, container, state
from profiler.errors import InputError

DIRECTORY = Path("/var/lib/profgen")


def test_state() -> None:
    document = {
        "ociVersion": "1.0.2",
        "id": "web",
        "pid": 812,
        "bundle": "/b",
        "annotations": {"io.profgen.record": "web.json", "a": "b"},
    }
    assert state(json.dumps(document).encode()) == State("web", 812, "web.json", "/b")
    assert state(b'{"id": "web", "pid": "x", "annotations": null}') == State("web", 0, None)


def test_container(tmp_path: Path) -> None:
    """From the configuration that the runtime was given; nothing but the id where there is none."""
    config = {"process": {"args": ["app"]}, "annotations": {"org.opencontainers.image.ref.name": "redis:7"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = container(State("web", 1, None, str(tmp_path)))
    assert (found.engine, found.id, found.image, found.command) == (None, "web", "redis:7", ("app",))
    for text in ("", "[]", '{"annotations": 1}'):
        (tmp_path / "config.json").write_text(text)
        assert container(State("web", 1, None, str(tmp_path))).id == "web"
    assert container(State("web", 1, None)).command == ()


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"id": 1}', b'{"id": ""}', b"\xff", b"[" * 100_000])
def test_no_state(text: bytes) -> None:
    with pytest.raises(InputError):
        state(text)


@pytest.mark.parametrize("wanted", ["web", "web.json", "web.trace.json", "/var/lib/profgen/web.trace.json"])
def test_a_chosen_name(wanted: str) -> None:
    assert chosen_name(wanted, DIRECTORY) == "web"


@pytest.mark.parametrize(
    "wanted",
    [
        "",
        "/etc/passwd",
        "../x",
        "/var/lib/profgen/../x",
        "/var/lib/profgen/",
        "/var/lib/profgen/a/b",
        ".x",
        "a/b",
        "/var/lib/profgenx",
        "a\0b",
        "a" * 300,
    ],
)
def test_no_name(wanted: str) -> None:
    with pytest.raises(InputError, match=r"io\.profgen\.record"):
        chosen_name(wanted, DIRECTORY)


@given(st.text())
def test_any_annotation(wanted: str) -> None:
    try:
        name = chosen_name(wanted, DIRECTORY)
    except InputError:
        return
    assert "/" not in name
    assert "\0" not in name
