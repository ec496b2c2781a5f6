"""Reports for tests, also with the text of strangers in every place."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from profiler.review.findings import LEVELS, Accepted, Finding, Report, Rule

NASTY = (
    "\x1b[31mred", "a\nb", "\u202egnp.exe", "::set-output name=x::y", "##[add-mask]x", "]]>", "<script>", "</failure>",
    "a|b", "`", "``x", "&amp;", "%0A", "\udcff", "[x](http://y)", "{0}", "\x00", "\ufffe", "a,b:c", "é", "", " ",
)  # fmt: skip
TEXT = st.sampled_from(NASTY) | st.text(max_size=20)
RULES = {"one": Rule("error", "the first"), "two-b": Rule("note", "the second", "help", 9.5)}


def finding(**members: Any) -> Finding:
    defaults = {"rule": "one", "level": "error", "where": "files", "what": "what it is", "fix": "do it"}
    return Finding(**{**defaults, **members})


FINDINGS = st.builds(
    Finding,
    rule=st.sampled_from(sorted(RULES)),
    level=st.sampled_from(LEVELS),
    where=TEXT,
    what=TEXT,
    fix=TEXT,
    about=st.lists(TEXT, max_size=2).map(tuple),
    file=TEXT,
    line=st.integers(1, 10**6),
)
REPORTS = st.builds(
    Report,
    command=st.just("lint"),
    source=TEXT,
    rules=st.just(RULES),
    findings=st.lists(FINDINGS, max_size=5).map(tuple),
    summary=TEXT,
    facts=st.lists(st.tuples(TEXT, TEXT), max_size=2).map(tuple),
    failing=st.sampled_from([(), ("error",), ("error", "warning"), LEVELS]),
    accepted=st.lists(st.builds(Accepted, FINDINGS, TEXT), max_size=2).map(tuple),
)


def report(*findings: Finding, **members: Any) -> Report:
    return Report("lint", members.pop("source", "policy.yaml"), RULES, findings, **members)
