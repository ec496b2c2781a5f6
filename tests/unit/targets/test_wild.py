"""Compose files that other people wrote, edited in place (tests/wild.sh gets them)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from unit.targets.containers import RUN, recorded

from profiler.errors import InputError
from profiler.rewriting.yaml import Unreadable, loads
from profiler.targets.base import Existing
from profiler.targets.catalogue import find
from profiler.targets.rendering import render

FILES = sorted(path for path in (Path(sys.prefix) / "wild").rglob("*.y*ml") if path.is_file())
LEAST = 30


def services(data: bytes) -> dict[str, Any]:
    """Return the services of a Compose file; none when it is something else, or broken as some of them should be."""
    try:
        _, documents = loads(data)
    except Unreadable:
        return {}
    document = documents[0] if len(documents) == 1 else None
    found = document.get("services") if isinstance(document, dict) else None
    return found if isinstance(found, dict) else {}


def comments(data: bytes) -> list[bytes]:
    return [line for line in data.splitlines() if line.lstrip().startswith(b"#")]


def edited(data: bytes, service: str) -> bytes:
    existing = Existing("compose.yaml", data)
    made = render(recorded(RUN), [find("compose")], {"compose": {"service": service}}, existing)
    return made.outputs["compose"].files[0].data


@pytest.mark.skipif(not FILES, reason="no Compose files of others: sh tests/wild.sh .venv/wild")
def test_files_of_others_are_edited() -> None:
    """Each service is edited or refused with a reason; the others stay, and to edit twice is to edit once."""
    done, refused = set(), []
    for path in FILES:
        data = path.read_bytes()
        before = services(data)
        for name in before:
            try:
                once = edited(data, str(name))
            except InputError as error:
                refused.append(f"{path.name}: {name}: {error}")
                continue
            after = services(once)
            assert {key: value for key, value in after.items() if key != name} == {
                key: value for key, value in before.items() if key != name
            }, path
            assert "no-new-privileges:true" in after[name]["security_opt"], path
            assert comments(once) == comments(data), path
            assert edited(once, str(name)) == once, path
            done.add(path)
    assert len(done) >= LEAST, refused
