"""The capability sets as data."""

from __future__ import annotations

import json

from unit.policy.making import call, check, trace

from profiler.policy.derive import derive
from profiler.policy.model import Options
from profiler.targets.rendering import render_one


def test_ambient_sets_only_for_users_other_than_root() -> None:
    def sets(uid: int) -> dict[str, list[str]]:
        policy = derive(trace(call("bind"), capabilities=[check("CAP_NET_BIND_SERVICE")], uid=uid), Options())
        found: dict[str, list[str]] = json.loads(render_one("capabilities", policy).files[0].data)["oci"]
        return found

    assert sets(0)["ambient"] == sets(0)["inheritable"] == []
    assert sets(33)["ambient"] == sets(33)["inheritable"] == sets(33)["bounding"] == ["CAP_NET_BIND_SERVICE"]
