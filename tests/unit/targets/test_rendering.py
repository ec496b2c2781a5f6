"""A set of targets together: what artifacts and launchers get, what is written, what is lost."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.policy.making import call, trace
from unit.targets.policies import file, policy

from profiler.errors import OutputError
from profiler.policy.derive import derive
from profiler.policy.model import Options
from profiler.targets.base import SECTIONS, File, Output, Request, Step, Target, written
from profiler.targets.catalogue import TARGETS, find
from profiler.targets.rendering import Rendered, present, render, render_one

POLICY = policy(file("/etc/app", "read"))


class Fixed(Target):
    """Always the same file."""

    summary = ""
    says = frozenset[str]()

    def __init__(self, name: str, file: str, data: bytes) -> None:
        self.name = name
        self._file = File(file, data)

    def render(self, request: Request) -> Output:
        return Output((self._file,))


def sections(made: Rendered) -> dict[str, set[str]]:
    """What whole sections each target does not express."""
    found: dict[str, set[str]] = {}
    for name, loss in made.losses:
        if not loss.item:
            found.setdefault(name, set()).add(loss.section)
    return found


def test_two_files_of_one_name_must_have_the_same_content() -> None:
    one, same, other = (Fixed(name, "a", data) for name, data in (("x", b"1"), ("y", b"1"), ("z", b"2")))
    assert [made.name for made in render(POLICY, [one, same]).files] == ["a"]
    with pytest.raises(OutputError, match="two targets write a with different content"):
        render(POLICY, [one, other])


def test_a_launcher_gets_the_artifacts_that_are_made_and_those_it_requires() -> None:
    alone = render(POLICY, [find("docker")])
    assert set(alone.outputs) == {"docker"}
    assert b"apparmor" not in alone.files[0].data
    both = render(POLICY, [find("docker"), find("apparmor")], {"apparmor": {"name": "mine"}})
    assert b"--security-opt apparmor=mine " in both.files[0].data
    config = render_one("oci", POLICY).files[0].data
    strict = render(POLICY, [find("oci")], {"seccomp": {"action": "kill-process"}}).files[0].data
    assert config.replace(b'ERRNO",\n      "defaultErrnoRet": 1', b'KILL_PROCESS"') == strict


def test_what_is_lost_depends_on_what_is_named() -> None:
    about_files = {"files", "transitions", "sockets", "signals", "inspections", "mounts"}
    assert sections(render(POLICY, [find("docker")])) == {"docker": about_files}
    assert sections(render(POLICY, [find("docker"), find("apparmor")])) == {}
    assert sections(render(POLICY, [find("seccomp"), find("capabilities")])) == {"seccomp, capabilities": about_files}
    assert sections(render(POLICY, [find("apparmor")])) == {"apparmor": {"syscalls", "no_new_privs"}}


def test_only_what_a_policy_limits_can_be_lost() -> None:
    assert present(POLICY) == tuple(section for section in SECTIONS if section not in ("arguments", "refused"))
    made = derive(trace(call("read"), call("socket", [(2, 1, 0)])), Options(no_new_privs=False))
    assert present(made) == ("syscalls", "arguments", "refused", "capabilities")


@given(st.lists(st.sampled_from(TARGETS), min_size=1, unique=True))
def test_the_order_of_targets_changes_no_file(targets: list[Target]) -> None:
    def files(chosen: list[Target]) -> dict[str, File]:
        return {made.name: made for made in render(POLICY, chosen).files}

    made = files(targets)
    assert made == files(targets[::-1])
    assert all(name in made for one in made.values() for name in one.needs)


def test_artifacts_alone_give_the_files_that_they_give_together() -> None:
    together = {made.name: made.data for made in render(POLICY, TARGETS).files}
    for target in TARGETS:
        if target.launches is None:
            assert all(together[made.name] == made.data for made in render(POLICY, [target]).files)


def test_a_step_has_the_path_where_the_file_is() -> None:
    step = Step("load", f"load {written('a')} and {written('b')}")
    assert step.line({"a": "/x y/a", "b": "b"}) == "load '/x y/a' and b"


def test_a_policy_without_the_evidence_says_nothing_about_files() -> None:
    assert "files" not in present(replace(POLICY, has_files=False))
