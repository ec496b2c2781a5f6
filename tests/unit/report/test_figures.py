"""The figures of a report: their data agrees with what other commands say, and every plot has something to draw."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from unit.policy.making import call, trace
from unit.report.recordings import MARKUP, hostile, recording

from profiler.policy.derive import derive
from profiler.policy.model import Options
from profiler.report import entries, seen, surface
from profiler.report.files import files
from profiler.report.model import Figure
from profiler.review.coverage import coverage
from profiler.review.diff import compare
from profiler.review.explain import Explainer
from profiler.review.rights import of_policy, of_trace
from profiler.review.score import score
from profiler.review.yardsticks import YARDSTICKS, docker_capabilities
from profiler.trace.merge import merge
from profiler.trace.model import Program

APP = recording()
POLICY = derive(APP, Options())


def data(figure: Figure) -> list[dict[str, Any]]:
    """The rows of all plots of a figure."""
    assert figure.chart is not None
    return [row for rows in figure.chart["datasets"].values() for row in rows]


def scores() -> list[surface.Named]:
    assumed = docker_capabilities()
    rights = [of_policy(POLICY, "app"), *(make("x86_64") for make in YARDSTICKS.values())]
    return [(name, score(one, assumed)) for name, one in zip(("app", *YARDSTICKS), rights, strict=True)]


def test_the_surface_has_the_figures_of_score() -> None:
    found = scores()
    figure = surface.surface(found)
    assert f"The score is {found[0][1].points} of 100" in figure.says
    rows = {(row["kind"], row["whose"]): row for row in data(figure)}
    for name, one in found:
        share = one.shares["syscalls"]
        assert rows["syscalls", name]["label"] == f"{share.open} of {share.total}"
        assert rows["published CVEs", name]["part"] == pytest.approx(1 - one.shares["cves"].part)
    assert figure.table is not None
    assert figure.table.rows[0] == ("score, of 100", *(str(one.points) for _, one in found))


def test_cves_are_all_in_the_table() -> None:
    ours = scores()[0][1]
    figure = surface.cves(scores())
    assert figure.table is not None
    listed = [name for row in figure.table.rows for name in row[3].split(", ")]
    assert sorted(listed) == sorted(verdict.cve.identifier for verdict in ours.verdicts)
    numbers = {sort: sum(row["number"] for row in data(figure) if row["sort"] == sort) for sort in ("blocked", "open")}
    assert numbers == {"blocked": ours.shares["cves"].closed, "open": ours.shares["cves"].open}


def test_one_recording_has_a_curve_over_time_and_no_estimate() -> None:
    figure = seen.over_time([APP], ["app"])
    parts = [row["part"] for row in data(figure)]
    assert parts == sorted(parts)
    assert parts[-1] == 1
    runs = seen.over_runs(coverage([APP]))
    assert runs.chart is None
    assert "One recording cannot tell" in runs.says


def test_several_recordings_have_an_estimate() -> None:
    traces = [
        trace(*map(call, names), start=f"2026-01-01T00:00:0{index}+00:00")
        for index, names in enumerate((("read", "write", "bind"), ("read", "write"), ("read", "listen", "accept")))
    ]
    found = coverage(traces)
    figure = seen.over_runs(found)
    (kind,) = found.kinds
    assert f"bring {kind.next_run(3):.1f}, and at least {kind.unseen(3):.1f}" in figure.says
    assert [row["items"] for row in data(figure) if "runs" in row] == [round(items, 2) for _, items in found.over_runs]
    merged = seen.over_time([merge(traces)], ["all"])
    assert merged.chart is None, "the times of several recordings are mixed"


def test_the_timeline_has_every_first_use() -> None:
    figure = seen.timeline(APP)
    numbers: dict[str, int] = {}
    for row in data(figure):
        numbers[row["kind"]] = numbers.get(row["kind"], 0) + row["number"]
    assert numbers == {
        "syscalls": 4,
        "capabilities": 1,
        "files read": 1,
        "files written": 1,
        "files executed": 2,
        "sockets": 2,
    }


def test_the_matrix_names_programs_apart() -> None:
    rows = {(row["program"], row["syscall"]): row["calls"] for row in data(seen.programs(APP))}
    assert rows == {("app", "openat"): 10, ("app", "socket"): 10, ("app", "mmap"): 10, ("sh", "ptrace"): 3}
    many = replace(
        APP,
        programs=tuple(Program(f"/opt/{number}/tool", executions=1) for number in range(60)),
        syscalls=tuple(replace(row, programs=dict.fromkeys(range(60), 2)) for row in APP.syscalls),
    )
    figure = seen.programs(many)
    names = {row["program"] for row in data(figure)}
    assert len(names) == seen.PROGRAMS_MAX + 1
    assert {"/opt/7/tool", seen.OTHERS} <= names
    assert sum(row["calls"] for row in data(figure)) == 60 * 2 * 4


def test_files_are_counted_by_place() -> None:
    numbers = {(row["name"], row["sort"]): row["number"] for row in data(files(POLICY))}
    assert numbers == {("/etc", "read"): 1, ("/usr", "executed"): 2, ("/var", "written"): 1}
    assert files(replace(POLICY, has_files=False)).chart is None


def test_every_entry_has_its_evidence() -> None:
    explainer = Explainer(POLICY, APP, "app")
    sections = {section.title: section for section in entries.policy(explainer)}
    assert set(sections) >= {"Syscalls", "Capabilities", "Files", "Sockets", "Executions", "Signals"}
    assert sum(section.number for section in sections.values()) == len(explainer.all())
    log = next(entry for entry in sections["Files"].entries if entry.name == "/var/log/app.log")
    facts = dict(log.facts)
    assert facts["rule"] == ("/var/log/app.log: append",)
    assert facts["use"][0].startswith("append: ok 1, by app")
    dgram = next(entry for entry in sections["Sockets"].entries if "dgram" in entry.name)
    assert dict(dgram.facts)["rule"] == ("dgram protocol 17: connect",), "of this type and protocol only"
    levels = [entry.level for entry in sections["Syscalls"].entries]
    assert levels[0] == "high"
    assert "ptrace (high)" in entries.most_dangerous(tuple(sections.values()), 5)


def test_changes_come_with_their_evidence() -> None:
    before = replace(APP, capabilities=(), syscalls=APP.syscalls[:3], files=(*APP.files, *recording("/gone").files[4:]))
    diff = compare(of_trace(before, "old"), of_trace(APP, "new"))
    added, removed = entries.changes(diff, Explainer(POLICY, APP, "new"))
    assert [section.title for section in (added, removed)] == ["Newly allowed", "No longer allowed"]
    assert [entry.name for entry in added.entries] == ["ptrace", "CAP_NET_BIND_SERVICE"]
    assert added.entries[0].change == "syscalls: added"
    assert dict(added.entries[0].facts)["calls"]
    assert [entry.name for entry in removed.entries] == ["/gone"]
    figure = entries.differences(diff)
    numbers = {(row["name"], row["sort"]): row["number"] for row in data(figure)}
    assert numbers["Syscalls", "high"] == 1
    assert numbers["Files", "no longer allowed"] == -1
    same = entries.differences(compare(of_trace(APP, "old"), of_trace(APP, "new")))
    assert same.chart is None
    assert "No difference" in same.says


def test_names_of_strangers_are_data_only() -> None:
    """No field and no expression of a specification holds one."""
    app = hostile()
    policy = derive(app, Options())
    for figure in (seen.timeline(app), seen.programs(app), seen.over_time([app], [MARKUP]), files(policy)):
        assert figure.chart is not None
        outside = {key: value for key, value in figure.chart.items() if key not in ("datasets", "description")}
        encodings = repr(outside)
        domains = encodings.replace(repr([MARKUP]), "")
        assert MARKUP not in domains
