"""Every format says the same, and escapes every name."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.policy.making import call, check, trace
from unit.review.sarif import check_sarif
from unit.review.test_diff import file, policy, rights
from unit.review.test_foreign import profile, read, rule

from profiler.kernel.risks import LEVELS, Risk
from profiler.policy.model import SignalRule
from profiler.review import render
from profiler.review.diff import CHANGES, SUBJECTS, Change, Diff, compare
from profiler.review.formats import sarif
from profiler.review.rights import KINDS, Reason
from profiler.style import Style

HOSTILE = st.text(max_size=30) | st.sampled_from(
    [
        "a|b",
        "`x`",
        "``",
        "<script>",
        "</details>",
        "@everyone",
        "[x](http://y)",
        "\x1b[31m",
        "a\nb",
        "\udcff",
        "\u2028",
        "{0}",
        "![i](u)",
        "|`|",
    ]
)


def example() -> Diff:
    old = rights(trace(call("read"), call("getpid"), call("socket", [(2, 1, 0)]), capabilities=[check("CAP_KILL")]))
    new = rights(
        trace(
            call("read"),
            call("mount", [(0,)]),
            call("socket", [(2, 1, 0), (16, 3, 0)]),
            capabilities=[check("CAP_CHOWN")],
        ),
    )
    return compare(replace(old, source="old.trace.json"), replace(new, source="new.trace.json"))


def with_name(name: str) -> Diff:
    change = Change(
        "path",
        "widened",
        name,
        (name,),
        (name,),
        Reason((name, name), (name,)),
        Risk("high", "because"),
        equivalents=("x",),
    )
    diff = example()
    return replace(
        diff,
        changes=(change, replace(change, change="narrowed", risk=None)),
        old=replace(diff.old, source=name, notes=(name,)),
        uncompared=(name,),
    )


def test_text() -> None:
    assert (
        render.text(example())
        == """\
old.trace.json -> new.trace.json (traces, x86_64)

added    syscall     mount      critical
                     changes the mount tree: host file systems, release_agent
                     (CVE-2022-0492), file system parsers (CVE-2022-0185)
                     + no flags
                     observed (app)
added    capability  CAP_CHOWN  medium
                     gives every visible file to any user
                     observed (app)
                     in bind
widened  syscall     socket     medium
                     kernel configuration; with CAP_NET_ADMIN the way to the
                     vulnerabilities of nf_tables and net/sched
                     + domain AF_NETLINK, protocol NETLINK_ROUTE
                     was domain AF_INET, type SOCK_STREAM, protocol IPPROTO_IP;
                     domain AF_INET, type SOCK_STREAM, protocol IPPROTO_TCP
                     observed (app)
removed  capability  CAP_KILL
                     observed (app)
                     in bind
removed  syscall     getpid
                     observed (app)

2 added, 1 widened, 2 removed; highest risk: critical
"""
    )


def test_colour_changes_nothing_else() -> None:
    coloured = render.text(example(), Style(on=True))
    assert "\x1b[1;31m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == render.text(example())


def test_nothing_to_say() -> None:
    same = rights(trace(call("read")))
    assert render.text(compare(same, same)).endswith("\nno difference apart from equivalents\n")
    assert render.text(compare(same, same, exact=True)).endswith("\nno difference\n")
    assert "No difference" in render.markdown(compare(same, same))
    document = render.data(compare(same, same))
    assert (document["same"], document["changes"], document["summary"]["highest_risk"]) == (True, [], None)
    assert json.loads(sarif.render(render.report(compare(same, same))))["runs"][0]["results"] == []


def test_what_is_not_compared_is_said() -> None:
    found = compare(rights(trace(call("read"), complete=False, losses={"tasks": 3})), read(profile(rule("read"))))
    for text in (render.text(found), render.markdown(found), json.dumps(render.data(found))):
        assert "capabilities: file (seccomp profile) says nothing of them" in text
        assert "incomplete (lost 3 tasks)" in text


def test_long_lists_are_cut_in_text_only() -> None:
    few, many = ([(2, 1, 0)], [(family, 1, 0) for family in range(3, 60)])
    found = compare(rights(trace(call("socket", few))), rights(trace(call("socket", [*few, *many]))))
    assert re.search(r"\+ and \d+ more\n", render.text(found))
    assert len(render.data(found)["changes"][0]["details"]) > 50


def test_json() -> None:
    document = render.data(example())
    assert document["summary"] == {"added": 2, "widened": 1, "narrowed": 0, "removed": 2, "highest_risk": "critical"}
    assert document["old"]["kind"] in KINDS
    first = document["changes"][0]
    assert (first["subject"], first["change"], first["name"], first["risk"]["level"]) == (
        "syscall",
        "added",
        "mount",
        "critical",
    )
    assert first["programs"] == ["app"]
    assert document["changes"][2]["was"]
    assert all(row["risk"] is None for row in document["changes"] if row["change"] in ("narrowed", "removed"))


@settings(deadline=None)
@given(HOSTILE)
def test_names_stay_in_their_place(name: str) -> None:
    diff = with_name(name)
    plain = with_name("x")
    wide = Style(width=10_000)
    text = render.text(diff, wide)
    assert text.count("\n") == render.text(plain, wide).count("\n")
    assert all(char.isprintable() or char == "\n" for char in text)
    marked = render.markdown(diff)
    assert marked.count("\n") == render.markdown(plain).count("\n")
    assert outside_code(marked) == outside_code(render.markdown(plain))
    document = sarif.render(render.report(diff))
    assert document.isascii()
    json.loads(document)


def outside_code(text: str) -> str:
    """Return Markdown without its code spans, as CommonMark 6.1 delimits them; in tables only ``\\|`` does not end a
    cell."""
    lines = []
    for line in text.split("\n"):
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) in (4, 5)
        rest, at = "", 0
        while at < len(line):
            fence = re.compile("`+").match(line, at)
            if not fence:
                rest += line[at]
                at += 1
                continue
            end = re.compile(rf"(?<!`){fence[0]}(?!`)").search(line, fence.end())
            assert end, "a code span that does not end"
            at = end.end()
        lines.append(rest)
    return "\n".join(lines)


def test_markdown() -> None:
    assert render.markdown(example()).startswith(
        "### `old.trace.json` → `new.trace.json`\n\n2 added, 1 widened, 2 removed; highest risk: critical.\n\n"
        "| change | right | what is new | risk |\n|---|---|---|---|\n"
        "| added | syscall `mount` | `no flags` | **critical** |\n"
        "| added | capability `CAP_CHOWN` |  | medium |\n"
    )
    text = render.markdown(example())
    assert text.count("<details>") == text.count("</details>") == 2
    assert "<summary>No longer allowed: 2</summary>" in text
    assert html.escape(text, quote=False) != text


def test_sarif() -> None:
    log = check_sarif(sarif.render(render.report(example())))
    results = log["runs"][0]["results"]
    assert [(row["ruleId"], row["level"]) for row in results] == [
        ("syscall/critical", "error"),
        ("capability/medium", "warning"),
        ("syscall/medium", "warning"),
    ], "what is no longer allowed is no finding"
    assert results[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "new.trace.json"
    assert "mount" in results[0]["message"]["text"]


@settings(deadline=None)
@given(HOSTILE)
def test_sarif_with_any_name(name: str) -> None:
    diff = with_name(name)
    check_sarif(sarif.render(render.report(replace(diff, new=replace(diff.new, source=name)))))


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("level", LEVELS)
def test_sarif_of_every_sort(subject: str, level: str) -> None:
    change = Change(subject, "added", "x", risk=Risk(level, "why"))
    check_sarif(sarif.render(render.report(replace(example(), changes=(change,)))))
    assert change.change in CHANGES


def test_sarif_points_at_the_line() -> None:
    text = b'{\n "syscalls": [\n  {"names": ["read"]},\n  {"names": ["mount"]}\n ]\n}\n'
    row = json.loads(sarif.render(render.report(example(), text)))["runs"][0]["results"][0]
    assert row["locations"][0]["physicalLocation"]["region"] == {"startLine": 4}
    text = b"syscalls:\n  observed:\n    mount:\n      because: []\n"
    row = json.loads(sarif.render(render.report(example(), text)))["runs"][0]["results"][0]
    assert row["locations"][0]["physicalLocation"]["region"] == {"startLine": 3}


def test_every_subject_in_every_format() -> None:
    old = policy()
    new = policy(files=(file("/etc/x", "write"),), signals=(SignalRule("TERM", "outside", ()),))
    found = compare(old, new)
    for text in (render.text(found), render.markdown(found), sarif.render(render.report(found))):
        assert "/etc/x" in text
        assert "SIGTERM to processes outside of the workload" in text


def test_each_gain_is_a_finding() -> None:
    found = example()
    report = render.report(found)
    assert len(report.findings) == found.count("added") + found.count("widened")
    assert report.summary == render.summary(found)
    assert len(report.failures) == 3
    assert [row.rule for row in render.report(found, fail_on="risky").failures] == ["syscall/critical"]
