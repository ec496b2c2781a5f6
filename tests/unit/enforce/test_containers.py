"""How a policy is applied to a container, and which refusals are the policy's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from unit.policy.making import call, check, trace

from profiler.enforce import containers
from profiler.enforce.calls import filtered
from profiler.engines.commands import Run
from profiler.errors import InputError
from profiler.kernel.capabilities import CAPABILITIES
from profiler.kernel.syscalls import number_of
from profiler.policy.derive import derive
from profiler.policy.model import Options, Policy
from profiler.tracers.recording import Recording
from profiler.tracers.watcher import Refused


@pytest.fixture
def policy() -> Policy:
    recorded = trace(call("read"), call("socket", [(2, 1, 0)]), call("clone3", [(0,)]))
    return derive(replace(recorded, capabilities=(check("CAP_CHOWN"),)), Options(runtime="none", equivalents=False))


def bundle(tmp_path: Path, config: Any) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def made(tmp_path: Path, policy: Policy, config: Any, mode: str = "enforce", argv: tuple[str, ...] = ()) -> Any:
    return json.loads(containers._config(bundle(tmp_path, config), policy, argv, "name", mode))


CONFIG = {
    "ociVersion": "1.0.2",
    "process": {"args": ["own"], "user": {"uid": 33}, "capabilities": {}, "apparmorProfile": "x", "cwd": "/"},
    "root": {"path": "rootfs"},
    "linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}},
    "mounts": [
        {"destination": "/a", "source": "data", "options": ["rbind"]},
        {"destination": "/b", "source": "/data", "options": ["bind"]},
        {"destination": "/proc", "source": "proc", "type": "proc"},
    ],
}


def test_a_bundle_gets_the_policy(tmp_path: Path, policy: Policy) -> None:
    config = made(tmp_path, policy, CONFIG)
    assert config["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO"
    assert config["process"]["capabilities"]["bounding"] == ["CAP_CHOWN"]
    assert config["process"]["args"] == ["own"]


def test_a_bundle_is_found_from_elsewhere(tmp_path: Path, policy: Policy) -> None:
    config = made(tmp_path, policy, CONFIG, argv=("true", "-x"))
    assert config["process"]["args"] == ["true", "-x"]
    assert config["root"]["path"] == f"{tmp_path}/rootfs"
    assert [mount["source"] for mount in config["mounts"]] == [f"{tmp_path}/data", "/data", "proc"]
    assert config["linux"]["cgroupsPath"] == "/name"


@pytest.mark.parametrize("uid", [0, 33])
def test_mode_log_confines_nothing(uid: int, tmp_path: Path, policy: Policy) -> None:
    changed = {**CONFIG, "process": {**CONFIG["process"], "user": {"uid": uid}}}  # type: ignore[dict-item]
    config = made(tmp_path, policy, changed, mode="log")
    assert "seccomp" not in config["linux"]
    assert "apparmorProfile" not in config["process"]
    sets = config["process"]["capabilities"]
    assert sets["bounding"] == sets["permitted"] == containers._every_capability()
    assert sets["ambient"] == (containers._every_capability() if uid else []), "execve(2) keeps only ambient ones"


@pytest.mark.parametrize("config", [[], 3, {"process": 1}, {"mounts": 1}, {"root": []}, {"mounts": ["x"]}])
@pytest.mark.parametrize("mode", ["enforce", "log"])
def test_a_bundle_that_cannot_be_used(config: Any, mode: str, tmp_path: Path, policy: Policy) -> None:
    with pytest.raises(InputError, match=r"config\.json"):
        made(tmp_path, policy, config, mode=mode)


def test_a_bundle_that_is_missing(tmp_path: Path, policy: Policy) -> None:
    with pytest.raises(InputError, match="cannot read"):
        containers._config(tmp_path, policy, (), "name", "enforce")


def test_the_policy_as_options_of_docker(tmp_path: Path, policy: Policy) -> None:
    words = containers.confinement(policy, tmp_path, "enforce")
    assert words[:2] == ["--cap-drop=ALL", "--cap-add=CHOWN"]
    assert f"--security-opt=seccomp={tmp_path}/seccomp.json" in words
    assert ("--security-opt=no-new-privileges" in words) is policy.no_new_privs
    assert json.loads((tmp_path / "seccomp.json").read_text())["defaultAction"] == "SCMP_ACT_ERRNO"


def test_mode_log_as_options_of_docker(tmp_path: Path, policy: Policy) -> None:
    words = containers.confinement(policy, tmp_path, "log")
    assert words[:2] == ["--security-opt=seccomp=unconfined", "--cap-add=ALL"]
    assert list(tmp_path.iterdir()) == []
    dropped = {f"CAP_{word.removeprefix('--cap-drop=')}" for word in words[2:]}
    known = set(CAPABILITIES[: containers._last_capability() + 1])
    assert dropped == known - set(containers._every_capability())


def test_the_users_own_confinement_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "  -e, --env list\n      --cap-add list\n      --privileged\n      --rm\n      --security-opt list\n"
    monkeypatch.setattr(containers, "help_of", lambda words: text)
    given = (
        "--rm", "--privileged", "--cap-add", "ALL", "-e", "A=1", "--security-opt", "seccomp=unconfined",
        "--security-opt=apparmor=mine", "--security-opt", "no-new-privileges", "--cidfile", "x",
    )  # fmt: skip
    run = Run("docker", ("docker",), given, ("image",))
    assert list(containers._without_confinement(run)) == ["-e", "A=1", "--security-opt=apparmor=mine"]


def refused(name: str, arguments: tuple[int, ...] | None, error: str = "EPERM", **more: Any) -> Refused:
    number = number_of("x86_64", name)
    assert number is not None
    row = Refused("/bin/app", "x86_64", number, arguments, error, 7, "app", 2)
    return replace(row, **more)


def test_refusals_of_the_policy_are_denials(policy: Policy) -> None:
    rows = [
        refused("getpid", (0,) * 6),
        refused("socket", (2, 1, 0, 0, 0, 0)),  # the policy allows it: another filter refused it
        refused("socket", (16, 3, 0, 0, 0, 0)),
        refused("socket", (16, 3, 0, 9, 9, 9)),  # the same to every filter
        refused("clone3", (0,) * 6, "ENOSYS"),  # the policy's own answer
        refused("read", None),  # allowed with any arguments
        refused("socket", None),  # it may have been any of them
    ]
    found = list(containers._refused(policy, rows, Recording("x86_64")))
    assert [(row.name, row.arguments and row.arguments[0], row.count) for row in found] == [
        ("getpid", 0, 2),
        ("socket", 16, 4),
        ("socket", None, 2),
    ]
    assert all(row.refused and row.exe == "/bin/app" and row.errno == "EPERM" for row in found)


def test_a_script_is_the_program_of_its_interpreter(policy: Policy) -> None:
    recording = Recording("x86_64")
    recording.program("/bin/app", "/bin/sh", "app")
    (found,) = containers._refused(policy, [refused("getpid", (0,) * 6)], recording)
    assert found.exe == "/bin/sh"


def test_a_number_without_a_name_is_a_denial(policy: Policy) -> None:
    (found,) = containers._refused(policy, [refused("read", (0,) * 6, number=5000)], Recording("x86_64"))
    assert (found.name, found.number) == (None, 5000)


@pytest.mark.parametrize(
    ("name", "registers", "expected"),
    [
        ("socket", (2, 1, 0, 9, 9, 9), (2, 1, 0)),
        ("socket", (1 << 40 | 2, 1, 0, 0, 0, 0), (2, 1, 0)),
        ("getpid", (1, 2, 3, 4, 5, 6), ()),
        (None, (1, 2, 3, 4, 5, 6), ()),
    ],
)
def test_only_what_a_filter_looks_at_tells_calls_apart(
    name: str | None, registers: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    assert filtered(name, "x86_64", registers) == expected
