"""Any policy, with all of its fields and hostile names, renders to files that the system's own parser accepts, and
that say the same rights, or what is declared as lost."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from unit.policy.making import check, rows, trace
from unit.targets.parsing import CHECKS
from unit.targets.policies import policies
from unit.trace.strategies import traces

from profiler.errors import InputError
from profiler.policy.derive import derive
from profiler.policy.model import Options, Policy
from profiler.targets.catalogue import TARGETS, find
from profiler.targets.rendering import render
from profiler.trace.model import ContainerMount


@st.composite
def whole(draw: st.DrawFn) -> Policy:
    """A policy from a recording: with arguments and capabilities as workloads use them, or with anything that a trace
    can hold; or one with the strangest rules for files."""
    kind = draw(st.integers(0, 2))
    if kind == 0:
        return draw(policies())
    names = draw(st.sets(st.sampled_from(["CAP_CHOWN", "CAP_NET_ADMIN", "CAP_63"])))
    seen = trace(*draw(rows()), capabilities=[check(name) for name in sorted(names)], uid=draw(st.sampled_from([0, 7])))
    try:
        return derive(draw(traces()) if kind == 1 else seen, Options(no_new_privs=draw(st.booleans())))
    except InputError:
        return draw(policies())


MOUNTS = st.lists(
    st.builds(
        ContainerMount,
        st.sampled_from(["bind", "volume", "tmpfs"]),
        st.just("s"),
        st.sampled_from(["/data", "/usr/x"]),
        st.booleans(),
    ),
    max_size=2,
    unique_by=lambda row: row.destination,
).map(tuple)


@st.composite
def in_container(draw: st.DrawFn) -> Policy:
    """A policy from the recording of a container, which says how another one is set up."""
    made = draw(whole())
    uid = draw(st.sampled_from([0, 33]))
    launch = replace(
        made.workload.launch,
        user=draw(st.sampled_from([None, "33:33", "www"])),
        network=draw(st.sampled_from([None, "host"])),
        mounts=draw(MOUNTS),
        read_only=draw(st.booleans()),
    )
    return replace(made, workload=replace(made.workload, image="shop/web:1", uid=uid, launch=launch))


def test_every_target_is_checked() -> None:
    assert CHECKS.keys() == {target.name for target in TARGETS}


@pytest.fixture(autouse=True)
def place(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_PLACE", str(tmp_path))


@pytest.mark.parametrize("name", ["kubernetes", "openshift", "spo"])
@given(policy=in_container())
@settings(
    max_examples=15,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_pods_are_set_up_as_the_container_was(name: str, policy: Policy) -> None:
    checked(name, policy)


@pytest.mark.parametrize("name", sorted(target.name for target in TARGETS))
@given(policy=whole())
@settings(
    max_examples=15,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_files_say_what_the_policy_says(name: str, policy: Policy) -> None:
    checked(name, policy)


def checked(name: str, policy: Policy) -> None:
    target = find(name)
    if "files" in target.says and not policy.has_files:
        return
    place = os.environ["PYTEST_PLACE"]
    made = render(policy, [target], {"ima": {"root": place}})
    losses = [loss for owner, loss in made.losses if owner == name or owner == "seccomp"]
    CHECKS[name]({file.name: file.data for file in made.files}, policy, losses)
