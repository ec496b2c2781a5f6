"""Reads that the kernel makes executable."""

from __future__ import annotations

import pytest
from unit.policy.making import call, file, touching

from profiler.policy.derive import derive
from profiler.policy.model import Options, Policy


def policy(persona: int) -> Policy:
    recorded = touching(file("/srv/data"), file("/srv/log", "write"), file("/srv", "list", kind="directory"))
    from dataclasses import replace

    return derive(replace(recorded, syscalls=(*recorded.syscalls, call("personality", [(persona,)]))), Options())


@pytest.mark.parametrize("generalise", [True, False])
def test_what_is_read_may_be_mapped(generalise: bool) -> None:
    made = {rule.pattern: rule for rule in policy(0x400000).files}
    assert made["/srv/data"].access == ("read", "map")
    assert made["/srv/data"].because[-1].kind == "widened"
    assert "map" not in made["/srv/log"].access
    assert all("map" not in rule.access for rule in made.values() if "file" not in rule.kinds)


@pytest.mark.parametrize("persona", [0, 0x40000, 0xFFFFFFFF])
def test_not_without_being_asked(persona: int) -> None:
    assert not [rule for rule in policy(persona).files if "map" in rule.access]
