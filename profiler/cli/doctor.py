"""``profgen doctor``: what works here, and one line that fixes each gap."""

from __future__ import annotations

import dataclasses
import json
import sys

import click

from profiler.cli.options import output_format
from profiler.cli.terminal import colours
from profiler.tracers.survey import survey, works

_MARKS = {"ok": "ok", "missing": "--", "info": "  "}
_COLOURS = {"ok": "32", "missing": "31", "info": "0"}


@click.command()
@output_format()
def doctor(form: str) -> int:
    """Try what recording needs, and show what works here and how to fix the rest.

    The exit status is 0 when at least one tracer works, 1 when none does.
    """
    findings = list(survey())
    ready = works(findings)
    if form == "json":
        print(json.dumps({"ready": ready, "findings": [dataclasses.asdict(finding) for finding in findings]}, indent=1))
        return 0 if ready else 1
    colour = colours(sys.stdout)
    subject = ""
    for finding in findings:
        if finding.subject != subject:
            subject = finding.subject
            print(subject)
        mark = _MARKS[finding.status]
        shown = f"\x1b[{_COLOURS[finding.status]}m{mark}\x1b[0m" if colour else mark
        print(f"  {shown} {finding.name:<14} {finding.detail}")
        if finding.fix:
            print(f"     {'':<14} fix: {finding.fix}")
    print("ready to record" if ready else "no tracer works here")
    return 0 if ready else 1
