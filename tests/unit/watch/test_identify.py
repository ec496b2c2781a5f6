"""Who a session is: asked of engines without waiting, a batch at a time, and of /proc."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from executables import write_program
from waiting import until

from profiler import run
from profiler.engines.engine import Details, Engine
from profiler.trace.model import Container
from profiler.tracers.process import look
from profiler.watch.identify import Identifier, origin

KNOWN, OTHER, NOBODYS = "aa" * 32, "bb" * 32, "cc" * 32


def client(directory: Path, name: str, containers: list[str], prelude: str = "") -> Engine:
    """A client that knows these containers, all of one image, and notes what it is asked."""
    rows = [
        {"Id": one, "Name": f"/{one[:2]}", "Image": "sha256:" + "11" * 32, "State": {"Running": True, "Pid": 7}}
        for one in containers
    ]
    (directory / f"{name}.containers").write_text(json.dumps(rows))
    (directory / f"{name}.images").write_text(
        json.dumps([{"Id": "sha256:" + "11" * 32, "RepoDigests": ["i@sha256:" + "22" * 32]}])
    )
    text = f'#!/bin/sh\n{prelude}\necho "$*" >>{directory}/{name}.asked\ncat {directory}/{name}.$1s\n'
    return Engine(name, (str(write_program(directory / name, text)),))


def answers(identifier: Identifier, wanted: list[str]) -> dict[str, Details | None]:
    for identity in wanted:
        identifier.want(identity)
    found: dict[str, Details | None] = {}

    def all_found() -> bool:
        found.update(identifier.work())
        return set(found) == set(wanted)

    until(all_found, f"an answer for each of {wanted}")
    identifier.close()
    return found


def names(found: Mapping[str, Details | None]) -> dict[str, str | None]:
    return {identity[:2]: details and details.container.engine for identity, details in found.items()}


def test_from_one_engine_to_the_next(tmp_path: Path) -> None:
    identifier = Identifier((client(tmp_path, "docker", [KNOWN]), client(tmp_path, "podman", [OTHER])))
    found = answers(identifier, [KNOWN, OTHER, NOBODYS])
    assert names(found) == {"aa": "docker", "bb": "podman", "cc": None}
    assert found[KNOWN] is not None
    assert found[KNOWN].container.digest == "sha256:" + "22" * 32
    assert found[KNOWN].pid == 7
    asked = (tmp_path / "docker.asked").read_text().splitlines()
    assert asked[0].split()[:2] == ["container", "inspect"]
    assert {*asked[0].split()[2:]} == {KNOWN, OTHER, NOBODYS}, "all in one question"
    assert len(asked) == 2, "and one about the image"


@pytest.mark.parametrize("prelude", ["echo 'not JSON'; exit 1", "exit 1", "kill -9 $$"])
def test_an_engine_that_fails(prelude: str, tmp_path: Path) -> None:
    identifier = Identifier(
        (
            client(tmp_path, "docker", [KNOWN], prelude),
            Engine("none", ("/no/such/client",)),
            client(tmp_path, "podman", [KNOWN]),
        )
    )
    assert names(answers(identifier, [KNOWN])) == {"aa": "podman"}


def test_an_engine_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "ASK_SECONDS", 0.1)
    identifier = Identifier((client(tmp_path, "docker", [KNOWN], "exec sleep 60"),))
    assert names(answers(identifier, [KNOWN])) == {"aa": None}


def test_origin() -> None:
    process = look(os.getpid())
    assert process is not None
    container = Container(
        "docker", "runc", KNOWN, "db", entrypoint=("run",), command=("db",), user="33:44", no_new_privs=True
    )
    alive = origin(process, container, None)
    assert (alive.argv, alive.uid, alive.no_new_privs) == (("run", "db"), os.getuid(), True)
    gone = origin(None, container, None)
    assert (gone.argv, gone.uid, gone.gid, gone.groups) == (("run", "db"), 33, 44, (44,))
    assert origin(None, container, None, user=(7, 8)).uid == 7
    assert origin(process, container, "pid 1", whole=False).argv == process.argv
    assert origin(None, None, "pid 1").argv == ("(unknown)",)
    assert origin(None, None, "unit x.service", program="/usr/bin/x").argv == ("/usr/bin/x",)
