"""profgen push and pull as a user calls them, with a registry that is a dictionary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from unit.policy.making import call, trace

from profiler.cli.main import cli
from profiler.errors import InputError, ProgramError
from profiler.policy.derive import derive
from profiler.policy.document import dumps
from profiler.policy.model import Options
from profiler.registry import client
from profiler.registry.manifest import Artifact
from profiler.registry.reference import Reference

STORED: dict[str, Artifact] = {}


class Client:
    """In place of the one that needs a network."""

    def __init__(self, reference: Reference, plain_http: bool = False) -> None:
        self.name = reference.name

    def push(self, made: Artifact) -> None:
        STORED[self.name] = made

    def pull(self) -> tuple[bytes, str]:
        return STORED[self.name].layer.data, STORED[self.name].manifest.digest


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    STORED.clear()
    monkeypatch.setattr(client, "Client", Client)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(dumps(derive(trace(call("read"), call("socket", [(2, 1, 0)])), Options())))
    return path


def profgen(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def refused(*words: str | Path) -> str:
    done = profgen(*words)
    assert isinstance(done.exception, InputError), done.output
    return str(done.exception)


def test_a_policy_comes_back_as_a_profile(policy: Path, tmp_path: Path) -> None:
    done = profgen("push", policy, "localhost/web:1")
    pinned = f"localhost/web@{STORED['web'].manifest.digest}\n"
    assert (done.exit_code, done.stdout) == (0, pinned)
    assert "allows more than the policy: socket" in done.stderr
    assert "pull it with: profgen pull localhost/web@sha256:" in done.stderr
    assert profgen("push", "-q", policy, "localhost/web:1").stderr == ""
    pulled = profgen("pull", "-q", "localhost/web:1")
    assert (pulled.stdout_bytes, pulled.stderr) == (STORED["web"].layer.data, "")
    assert json.loads(pulled.stdout)["defaultAction"] == "SCMP_ACT_ERRNO"
    out = tmp_path / "out.json"
    done = profgen("pull", "localhost/web:1", "-o", out, "--json")
    assert out.read_bytes() == STORED["web"].layer.data
    assert json.loads(done.stdout)["schema"] == "profgen.pull/1"


def test_a_profile_goes_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "seccomp.json"
    path.write_bytes(b'{"defaultAction": "SCMP_ACT_ERRNO",   "syscalls": []}')
    found: dict[str, Any] = json.loads(profgen("push", "--json", path, "localhost/web:1").stdout)
    assert STORED["web"].layer.data == path.read_bytes()
    assert found["schema"] == "profgen.push/1"
    assert found["size"] == len(path.read_bytes())


def test_what_cannot_be_pushed(policy: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text('{"defaultAction": "SCMP_ACT_ERRNO", "archMap": [], "listenerPath": "x", "comment": 1}')
    assert "runtimes refuse it: archMap:" in refused("push", path, "localhost/web:1")
    assert "(and 1 more: profgen lint --for kep-6061)" in refused("push", path, "localhost/web:1")
    path.write_text('{"ociVersion": "1.0.2", "linux": {}}')
    assert "neither a policy nor a seccomp profile" in refused("push", path, "localhost/web:1")
    assert "name a tag" in refused("push", policy, f"localhost/web@sha256:{'0' * 64}")
    assert "does not name an artifact" in refused("push", policy, "web:1")
    assert "does not name an artifact" in refused("pull", "web:1")
    assert not STORED


def test_json_needs_a_file() -> None:
    done = profgen("pull", "localhost/web:1", "--json")
    assert done.exit_code == 2
    assert "name a file with -o" in done.output


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(client, "find_spec", lambda _: None)
    with pytest.raises(ProgramError) as caught:
        client.Client(Reference("localhost", "x"))
    assert "needs the Python package oras" in str(caught.value)
    assert caught.value.command == "pip install '.[registry]'"
