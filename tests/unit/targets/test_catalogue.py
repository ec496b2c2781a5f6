"""The list of targets."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from unit.policy.making import call, trace

from profiler.errors import InputError
from profiler.policy.derive import derive
from profiler.policy.model import Options
from profiler.targets.base import SECTIONS
from profiler.targets.catalogue import TARGETS, default, find
from profiler.targets.rendering import render


def test_unknown_target() -> None:
    with pytest.raises(InputError, match="unknown target 'x': one of seccomp"):
        find("x")
    with pytest.raises(InputError, match=r"unknown target 'secomp' \(did you mean seccomp\?\)"):
        find("secomp")


def test_names_are_unique_and_summaries_name_every_file() -> None:
    policy = replace(derive(trace(call("read")), Options()), has_files=True)
    assert len({target.name for target in TARGETS}) == len(TARGETS)
    for target in TARGETS:
        made = render(policy, [target]).outputs[target.name]
        assert made.files
        for file in made.files:
            folder, slash, _ = file.name.partition("/")
            names = {file.name, f"NAME{Path(file.name).suffix}", folder + slash, file.name.replace("app", "NAME", 1)}
            assert names & set(re.split("[ :;,]+", target.summary)), target.name
        assert target.says <= set(SECTIONS)


@pytest.mark.parametrize(
    ("engine", "launchers"),
    [
        (None, ["docker", "compose"]),
        ("docker", ["docker", "compose"]),
        ("podman", ["podman", "quadlet"]),
        ("nerdctl", ["nerdctl"]),
        ("crun", ["oci"]),
        ("x\n", ["docker", "compose"]),
    ],
)
def test_by_default_the_artifacts_and_the_launchers_of_the_engine(engine: str | None, launchers: list[str]) -> None:
    assert [target.name for target in default(engine)] == ["seccomp", "capabilities", "apparmor", *launchers]
