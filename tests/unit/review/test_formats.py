"""Every format of a report has the same findings, and keeps the text of strangers in its place."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as tree
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from inputs import examples
from unit.quoting.test_github import parsed
from unit.review.reports import NASTY, REPORTS, finding, report
from unit.review.sarif import check_sarif
from unit.review.test_render import outside_code

from profiler.cli.results import FORMATS, formatted
from profiler.quoting.text import printable
from profiler.review.findings import LEVELS, Report
from profiler.review.formats import badge, data, github, gitlab, junit, markdown, sarif, text

ANNOTATIONS = {"error": "error", "warning": "warning", "note": "notice"}
SEVERITIES = {"error": "critical", "warning": "major", "note": "info"}


def by_level(levels: list[str]) -> dict[str, int]:
    return {level: levels.count(level) for level in LEVELS}


def counts(found: Report) -> dict[str, dict[str, int]]:
    """The number of findings of each level, as readers of each format find it."""
    back = {written: level for level, written in ANNOTATIONS.items()}
    commands = [row for line in github.render(found).split("\n") if (row := parsed(line))]
    issues = json.loads(gitlab.render(found))
    cases = tree.fromstring(junit.render(found).encode("utf-8", "backslashreplace")).iter("testcase")
    bodies = [body.text or "" for case in cases for body in case]
    rows = re.findall(r"^\| (?:\*\*)?(error|warning|note)(?:\*\*)? \|", markdown.render(found), re.MULTILINE)
    return {
        "json": data.render(found)["counts"],
        "data": by_level([row["level"] for row in data.render(found)["findings"]]),
        "sarif": by_level([row["level"] for row in check_sarif(sarif.render(found))["runs"][0]["results"]]),
        "github": by_level([back[name] for name, _, _ in commands]),
        "gitlab": {level: [row["severity"] for row in issues].count(word) for level, word in SEVERITIES.items()},
        "junit": by_level([body.partition(":")[0] for body in bodies]),
        "markdown": by_level(rows),
        "text": by_level(
            [line.split()[0] for line in text.render(found).split("\n") if re.match(r"[enw]\w+ +\S+$", line)]
        ),
    }


@settings(deadline=None, max_examples=examples(60))
@given(REPORTS)
@example(report(finding(what="", fix="")))
def test_counts_agree(found: Report) -> None:
    for form, number in counts(found).items():
        assert number == found.counts, form


@settings(deadline=None, max_examples=examples(60))
@given(REPORTS)
def test_every_format_is_printable(found: Report) -> None:
    """Nothing in it can move the cursor, reorder text, or end a line."""
    for form in FORMATS:
        written = formatted(found, form)
        assert all(char.isprintable() or char == "\n" for char in written), form
        written.encode()


@pytest.mark.parametrize("name", NASTY)
def test_names_stay_in_their_place(name: str) -> None:
    def made(text: str) -> Report:
        return report(finding(what=text, fix=text, about=(text,), file=text), source=text, summary=text)

    for form in ("markdown", "github", "junit", "sarif", "gitlab", "json"):
        if form != "markdown" or "\n" not in name:  # a fix of several lines has a code span for each
            assert formatted(made(name or "x"), form).count("\n") == formatted(made("x"), form).count("\n"), form
    assert outside_code(markdown.render(made(name or "x"))).replace("<br>", "") == outside_code(
        markdown.render(made("x"))
    ).replace("<br>", "")


def test_github_annotates_a_line() -> None:
    row = finding(level="note", line=7, what="100% a, b: c")
    lines = github.render(report(row)).split("\n")
    assert lines[0] == "::notice file=policy.yaml,line=7,title=profgen lint%3A one::100%25 a, b: c%0Afix: do it"
    assert lines[1:] == ["profgen lint: 1 note", ""]


@given(REPORTS)
def test_no_line_of_github_but_annotations_has_text_of_strangers(found: Report) -> None:
    lines = github.render(found).split("\n")
    assert all(parsed(line) for line in lines[:-2])
    assert re.fullmatch(r"profgen lint: [a-z0-9, ]+", lines[-2])


def test_junit_fails_where_the_command_does() -> None:
    rows = (finding(), finding(level="note", what="b"))
    (suite,) = tree.fromstring(junit.render(report(*rows, failing=("error",))))
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert [[child.tag for child in case] for case in suite] == [["failure"], ["system-out"]]
    case = suite[0]
    assert (case.get("file"), case.get("line"), case.get("classname")) == ("policy.yaml", "1", "profgen lint")
    assert case[0].get("type") == "one"
    (suite,) = tree.fromstring(junit.render(report(summary="nothing was refused")))
    assert (suite.get("tests"), suite.get("failures"), suite[0].get("name")) == ("1", "0", "nothing was refused")


def test_services_get_files_from_the_root_of_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "app").mkdir()
    monkeypatch.chdir(tmp_path / "app")
    found = report(finding(), finding(what="b", file="/dev/stdin"))
    first, other = check_sarif(sarif.render(found))["runs"][0]["results"]
    places = [row["locations"][0]["physicalLocation"]["artifactLocation"] for row in (first, other)]
    assert places == [{"uri": "app/policy.yaml", "uriBaseId": "%SRCROOT%"}, {"uri": "file:///dev/stdin"}]
    assert [row["location"]["path"] for row in json.loads(gitlab.render(found))] == ["app/policy.yaml", "/dev/stdin"]
    assert "file=app/policy.yaml," in github.render(found)
    assert 'file="app/policy.yaml"' in junit.render(found)
    assert [row["file"] for row in data.render(found)["findings"]] == ["policy.yaml", "/dev/stdin"]


def test_gitlab_issues() -> None:
    (issue,) = json.loads(gitlab.render(report(finding(line=4, level="warning"))))
    assert issue["location"] == {"path": "policy.yaml", "lines": {"begin": 4}}
    assert (issue["check_name"], issue["severity"]) == ("profgen-lint-one", "major")
    assert len(issue["fingerprint"]) == 64
    assert json.loads(gitlab.render(report())) == []


def test_sarif_rules_have_help_and_a_severity() -> None:
    log = check_sarif(sarif.render(report(finding(), finding(rule="two-b", level="warning"))))
    first, second = log["runs"][0]["tool"]["driver"]["rules"]
    assert (first["id"], first["name"], first["properties"]["security-severity"]) == ("one", "One", "8.0")
    assert (second["name"], second["properties"]["security-severity"], second["help"]["text"]) == (
        "TwoB",
        "9.5",
        "help",
    )
    assert log["runs"][0]["results"][1]["level"] == "warning"
    assert check_sarif(sarif.render(report()))["runs"][0]["results"] == []


@pytest.mark.parametrize(("points", "colour"), [(100, "brightgreen"), (80, "brightgreen"), (42, "orange"), (0, "red")])
def test_badge(points: int, colour: str) -> None:
    assert json.loads(badge.render(points)) == {
        "schemaVersion": 1,
        "label": "profgen score",
        "message": f"{points} of 100",
        "color": colour,
    }


def test_text() -> None:
    row = finding(what="a\x1bb", file="x.yaml")
    assert text.render(report(row)) == (
        "error    one\n         x.yaml: files: a\\x1bb\n         fix: do it\npolicy.yaml: 1 error\n"
    )
    assert text.render(report()) == "policy.yaml: nothing found\n"
    assert printable(text.render(report(row)).replace("\n", "")).isprintable()
