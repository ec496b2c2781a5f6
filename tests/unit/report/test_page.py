"""The page: complete, deterministic, small, and no name of a stranger is anything but text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from unit.report.recordings import HOSTILE, MARKUP, hostile, recording

from profiler.policy.derive import derive
from profiler.policy.model import FileRule, Options
from profiler.policy.patterns import literal
from profiler.quoting.html import shown
from profiler.report import charts
from profiler.report.page import render
from profiler.report.subject import Subject

VOID = {"meta", "link", "input", "br"}


@pytest.fixture(autouse=True)
def no_bundling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making the bundle takes seconds; a browser runs it in tests/system/test_review.py."""
    monkeypatch.setattr(charts, "bundle", lambda snippet: f"/* {snippet} */")


class Page(HTMLParser):
    """Checks that elements nest, and collects them with their text."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(page.decode("utf-8"))
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.stack:
            self.texts.setdefault(self.stack[-1], []).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]

    @property
    def charts(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.texts["script"][0])
        return found


def subject(trace: Any, name: str = "app", known: bool = True) -> Subject:
    return Subject(name, derive(trace, Options()), (trace,) if known else (), is_trace=known)


APP = subject(recording())


def test_every_plot_has_a_specification_and_a_table() -> None:
    page = Page(render(APP))
    named = [attributes["data-chart"] for attributes in page.all("div") if "data-chart" in attributes]
    assert named == ["surface", "cves", "over-time", "timeline", "programs", "files"]
    assert sorted(page.charts["charts"]) == sorted(map(str, named))
    assert all(chart["description"] for chart in page.charts["charts"].values())
    assert len(page.all("table")) == len(page.all("figure")) == len(named) + 1, "over-runs has a table only"


def test_ids_and_links() -> None:
    page = Page(render(APP, subject(recording("/gone"))))
    ids = [str(attributes["id"]) for _, attributes in page.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {str(attributes["href"])[1:] for attributes in page.all("a")}
    assert targets <= set(ids)
    assert {attributes["aria-labelledby"] for attributes in page.all("section")} <= set(ids)


def test_the_content_security_policy_allows_only_what_is_in_the_page() -> None:
    page = Page(render(APP))
    (rules,) = [str(row["content"]) for row in page.all("meta") if "http-equiv" in row]
    assert rules.startswith("default-src 'none'; ")
    assert "unsafe" not in rules
    assert [(source, kind) for kind, source in re.findall(r"(script|style)-src ('[^;]+)", rules)] == [
        (f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'", kind)
        for kind, text in (("script", page.texts["script"][1]), ("style", page.texts["style"][0]))
    ]
    assert not [name for _, attributes in page.found for name in attributes if name.startswith("on") or name == "style"]
    assert [row.get("href") for row in page.all("link")] == ["data:,"]
    assert not any("src" in attributes for _, attributes in page.found)


def test_the_same_input_gives_the_same_bytes() -> None:
    assert render(APP) == render(subject(recording()))


def test_hostile_names_are_text() -> None:
    plain, page = Page(render(APP)), Page(render(subject(hostile(), name=MARKUP), subject(hostile(), name=MARKUP)))
    assert {name for name, _ in page.found} == {name for name, _ in plain.found}
    code = page.texts["code"]
    for path in HOSTILE:
        name = literal(path).removeprefix("/srv/")
        assert any(shown(name)[:100] in text for text in code), path
    assert MARKUP in page.texts["h1"][0]
    assert MARKUP in page.texts["title"][0]
    everything = render(subject(hostile(), name=MARKUP)).decode()
    assert "\u202e" not in everything
    assert "\x1b" not in everything
    assert "<img" not in everything


def test_a_policy_without_recordings() -> None:
    page = Page(render(subject(recording(), known=False)))
    assert any("name them with --trace" in text for text in page.texts["p"])
    assert "timeline" not in page.charts["charts"]


def test_losses_are_told() -> None:
    page = Page(render(subject(recording(complete=False, losses={"missed": 3}))))
    assert any("the recording is incomplete: it lost 3 missed" in text for text in page.texts["li"])


def test_a_page_of_many_paths_is_small() -> None:
    """It grows no further: 25 000 paths give as much, and the bundle takes 0.9 MB more."""
    many = tuple(FileRule(f"/data/{number % 40}/{number // 40 % 40}/{number}", ("read",)) for number in range(3_000))
    page = render(replace(APP, policy=replace(APP.policy, files=many)))
    assert len(page) < 700_000
    assert b" more names" in page
    assert b"2 700 more, of no higher risk" in page


def test_nothing_at_all() -> None:
    """A trace of a workload that did nothing."""
    empty = replace(recording(), syscalls=(), files=(), sockets=(), capabilities=(), signals=(), execs=())
    page = Page(render(subject(empty)))
    assert sorted(page.charts["charts"]) == ["cves", "surface"]
