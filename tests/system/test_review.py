"""Readers for people, with recordings of real workloads: two recordings do not differ, and each entry is explained."""
# ruff: noqa: F811 - the fixtures that are imported are arguments of the tests

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import browser
import pytest
from system.harness import Profgen
from system.lab import runs
from system.lab.fixtures import Recordings, recordings  # noqa: F401
from system.lab.workloads import SAMPLE_WORKLOADS, Nginx, Workload
from unit.trace.written import write_trace

from profiler.policy.derive import derive
from profiler.policy.document import dumps
from profiler.policy.model import Options
from profiler.review.coverage import coverage
from profiler.review.diff import compare
from profiler.review.explain import Explainer
from profiler.review.rights import of_policy, of_trace
from profiler.trace.merge import merge
from profiler.trace.store import read_trace

pytestmark = pytest.mark.usefixtures("as_root")


@pytest.mark.parametrize("kind", [*SAMPLE_WORKLOADS, Nginx], ids=lambda kind: kind.name)
def test_recorded_twice(
    kind: type[Workload], tracer: str, recordings: Recordings, profgen: Profgen, tmp_path: Path
) -> None:
    first = read_trace(recordings.trace(kind, tracer))
    second = read_trace(runs.recorded(profgen, recordings.workload(kind), tracer, tmp_path / "second.trace.json"))
    # Modulo equivalents there is no difference: neither in what is needed, nor in the policies made of it.
    assert compare(of_trace(first, "first"), of_trace(second, "second")).changes == ()
    policies = [derive(trace, Options()) for trace in (first, second)]
    assert compare(*(of_policy(policy, "policy") for policy in policies)).changes == ()

    if {(row.abi, row.name) for row in first.syscalls} == {(row.abi, row.name) for row in second.syscalls}:
        assert dumps(policies[0]) == dumps(policies[1]), "the same rights give the same bytes"
    if kind.name == "web-v1":
        assert len(dumps(policies[0]).splitlines()) <= 300, "a policy that people can review"
    bare = [replace(policy, syscalls=(), refused=()) for policy in policies]
    assert dumps(bare[0]) == dumps(bare[1]), "also where one run made a call that is equivalent to another's"

    both = merge([first, second])
    policy = derive(both, Options())
    explainer = Explainer(policy, both, "policy.yaml")
    for capability in policy.needed():
        facts = [label for found in explainer.explain(capability) for label, _ in found.facts]
        assert {"because", "made by", "seen in", "check"} <= set(facts)
        assert "chain" in facts or tracer == "ptrace"
    for row in policy.syscalls:
        (*_, found) = explainer.explain(f"syscall:{row.abi}:{row.name}")
        assert found.allowed
        assert not [text for label, text in found.facts if label == "made by" and "by hand" in text]

    found_of_all = coverage([first, second])
    assert found_of_all.runs == 2
    assert {kind.name for kind in found_of_all.kinds} >= {"syscalls", "executions", "files"}
    (stop,) = (point for point in found_of_all.points if point.title == "stop by SIGTERM")
    assert stop.verdict == "seen"


NAME = "<img src=x onerror=alert(1)>"


def test_reports_in_a_browser(recordings: Recordings, profgen: Profgen, tmp_path: Path) -> None:
    """Of nginx, with a name that is markup, and of two releases of a web service."""
    trace = read_trace(recordings.trace(Nginx, "ptrace"))
    named = replace(trace.files[0], path=f"/srv/{NAME}", access="read", results={"ok": 1})
    write_trace(replace(trace, files=(*trace.files, named)), tmp_path / "nginx.trace.json")
    old, new = (recordings.trace(kind, "ptrace") for kind in SAMPLE_WORKLOADS[:2])
    for report, arguments, first in (
        ("nginx.html", (tmp_path / "nginx.trace.json",), "surface"),
        ("diff.html", (new, "--base", old), "differences"),
    ):
        done = profgen("report", *arguments, "-o", tmp_path / report, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        with browser.opened(tmp_path / report) as found:
            marks = found.marks()
            assert next(iter(marks)) == first
            assert len(marks) >= 6
            assert all(marks.values()), marks
            assert (found.said, found.requests) == ([], [])
            assert found.complaints() == []
            if report == "nginx.html":
                assert found.page.get_by_text(f"/srv/{NAME}", exact=True).count() > 0
                assert found.page.locator("img").count() == 0
                found.page.get_by_role("radio", name="written").check()
                others = found.page.locator(".tree li:not(.written)")
                assert others.count()
                assert others.evaluate_all("all => all.every(one => getComputedStyle(one).display === 'none')")
