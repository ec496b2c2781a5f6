"""``profgen doctor``: what works here, and one line that fixes each gap."""

from __future__ import annotations

import dataclasses

import click

from profiler.cli.options import coloured, output_format
from profiler.cli.results import print_json
from profiler.style import Style
from profiler.tracers.survey import survey, works

_MARKS = {"ok": "ok", "missing": "--", "info": "  "}
_MEANINGS = {"ok": "good", "missing": "error"}


@click.command()
@output_format()
@coloured()
def doctor(form: str, style: Style) -> int:
    """Try what recording needs, and show what works here and how to fix the rest.

    The exit status is 0 when at least one tracer works, 1 when none does.
    """
    findings = list(survey())
    ready = works(findings)
    if form == "json":
        print_json("doctor", {"ready": ready, "findings": [dataclasses.asdict(finding) for finding in findings]})
        return 0 if ready else 1
    subject = ""
    for finding in findings:
        if finding.subject != subject:
            subject = finding.subject
            print(style("title", subject))
        mark = _MARKS[finding.status]
        shown = style(_MEANINGS[finding.status], mark) if finding.status in _MEANINGS else mark
        indent = " " * 20
        print(style.wrapped(finding.detail, indent, f"  {mark} {finding.name:<14} ").replace(mark, shown, 1))
        if finding.fix:
            print(f"{indent}fix: {finding.fix}")
    print("ready to record" if ready else "no tracer works here")
    return 0 if ready else 1
