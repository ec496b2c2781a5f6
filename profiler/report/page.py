"""The page: everything in one HTML file that needs no network and evaluates no text as code."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from profiler import __version__
from profiler.policy.caveats import caveats
from profiler.policy.head import summary
from profiler.quoting import html
from profiler.quoting.shell import shell
from profiler.report import charts, entries, seen, surface
from profiler.report.files import files
from profiler.report.model import Figure
from profiler.report.subject import Subject
from profiler.report.tree import GROUPS, tree
from profiler.review.coverage import Coverage, coverage
from profiler.review.diff import Diff, compare
from profiler.review.explain import Explainer
from profiler.review.foreign import Source
from profiler.review.rights import of_policy
from profiler.review.score import Score, score
from profiler.review.yardsticks import YARDSTICKS, docker_capabilities
from profiler.targets.template import template_directory
from profiler.trace import caveats as recording
from profiler.wording import counted, duration, grouped

ITEMS_SHOWN = 40
"""Items of one line of the summary."""


@dataclass(frozen=True)
class Evidence:
    """What the recordings show. ``warnings``: what they lack."""

    figures: tuple[Figure, ...]
    coverage: Coverage | None
    facts: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]


def render(subject: Subject, base: Subject | Source | None = None) -> bytes:
    """Return the page about ``subject``, and what changed since ``base``. The same input gives the same bytes.

    Raises InputError for two native ABIs, or traces that do not belong together.
    """
    explainer = Explainer(subject.policy, subject.trace, subject.name)
    scores = _scores(subject, base)
    policy = entries.policy(explainer)
    diff = None if base is None else _diff(subject, base)
    evidence = _evidence(subject)
    nodes = tree(subject.policy.files)
    environment = _environment()
    open_figures = (surface.surface(scores), surface.cves(scores))
    difference = None if diff is None else entries.differences(diff)
    figures = [*([difference] if difference else []), *open_figures, *evidence.figures, files(subject.policy)]
    specs = {figure.name: figure.chart for figure in figures if figure.chart is not None}
    style = Markup(_text(environment, "page.css"))
    script = html.script(charts.bundle(_text(environment, "page.js")))
    made = environment.get_template("page.html.j2").render(
        version=__version__,
        title=subject.name,
        command=" ".join(map(shell, subject.policy.workload.argv)),
        image=subject.policy.workload.image,
        tiles=_tiles(scores, policy),
        summary=[(label, items[:ITEMS_SHOWN], len(items) - ITEMS_SHOWN) for label, items in summary(subject.policy)],
        dangerous=entries.most_dangerous(policy, 8),
        warnings=(*_warnings(subject), *evidence.warnings),
        evidence=evidence,
        diff=diff,
        difference=difference,
        changes=() if diff is None else entries.changes(diff, explainer),
        open_figures=open_figures,
        files=figures[-1],
        nodes=nodes,
        groups=GROUPS,
        policy=policy,
        specs={"config": charts.CONFIG, "charts": specs},
        style=style,
        script=script,
        hashes={"style": _digest(style), "script": _digest(script)},
    )
    return made.encode("utf-8", "backslashreplace")


def _digest(text: str) -> str:
    """Return the source expression for an inline element (CSP level 3, 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _text(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    text, _, _ = environment.loader.get_source(environment, name)
    return text


def _environment() -> Environment:
    """Return an environment in which every expression is printable text, and escaped."""
    environment = Environment(
        loader=FileSystemLoader(template_directory() / "report"),
        undefined=StrictUndefined,
        autoescape=True,
        finalize=html.finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {**html.FILTERS, "grouped": grouped}
    return environment


def _scores(subject: Subject, base: Subject | Source | None) -> list[surface.Named]:
    """Return the figures of the workload, of the base, and of both yardsticks."""
    assumed = docker_capabilities()
    native = subject.policy.abis[0]
    found: list[surface.Named] = [(subject.name, score(of_policy(subject.policy, subject.name), assumed))]
    if isinstance(base, Subject):
        name = base.name if base.name != subject.name else f"{base.name} (before)"
        found.append((name, score(of_policy(base.policy, base.name), assumed)))
    elif base is not None and base.name not in YARDSTICKS:
        found.append((base.name, score(base.rights(native, None), assumed)))
    return found + [(name, score(rights(native), assumed)) for name, rights in YARDSTICKS.items()]


def _diff(subject: Subject, base: Subject | Source) -> Diff:
    before = base.rights if isinstance(base, Subject) else base.rights(subject.policy.abis[0], None)
    return compare(before, subject.rights)


def _tiles(scores: Sequence[surface.Named], policy: Sequence[entries.Section]) -> list[tuple[str, str, str]]:
    """Return a figure, what it counts, and what to compare it with."""
    ours: Score = scores[0][1]
    default = dict(scores)["docker-default"]
    numbers = {section.title: section.number for section in policy}
    shares = ours.shares
    return [
        (str(ours.points), "score, of 100", f"Docker's default: {default.points}"),
        (grouped(shares["syscalls"].open), "syscalls", f"Docker's default: {default.shares['syscalls'].open}"),
        (str(len(ours.capabilities)), "capabilities", f"Docker's default: {len(default.capabilities)}"),
        (
            f"{shares['cves'].open}",
            "reachable CVEs",
            f"Docker's default: {default.shares['cves'].open} of {shares['cves'].total}",
        ),
        (grouped(numbers.get("Files", 0)), "rules for files", "literal paths and patterns"),
        (grouped(numbers.get("Sockets", 0)), "sorts of sockets", "family, type and protocol"),
    ]


def _warnings(subject: Subject) -> tuple[str, ...]:
    outdated = (
        ("the head of the policy's file is out of date: its entries say something else",) if subject.outdated else ()
    )
    return (*outdated, *(f"{caveat.what}: {caveat.fix}" for caveat in caveats(subject.policy)))


def _evidence(subject: Subject) -> Evidence:
    trace = subject.trace
    if trace is None:
        return Evidence((), None, (), ())
    found = coverage(subject.traces)
    meta = trace.meta
    names = [
        f"recording {number}" if len(subject.traces) > 1 else "the recording"
        for number in range(1, len(subject.traces) + 1)
    ]
    figures = (
        seen.over_time(subject.traces, names),
        seen.over_runs(found),
        seen.timeline(trace),
        seen.programs(trace),
    )
    named = None if meta.container is None else meta.container.full_name
    facts = (
        *([("container", named)] if named else []),
        ("recorded", f"{counted(meta.runs, 'run')}, {duration(meta.duration)} in all, since {meta.start}"),
        ("tracer", meta.tracer),
        ("machine", f"{meta.arch}, Linux {meta.kernel}" + (f", {meta.distribution}" if meta.distribution else "")),
    )
    warnings = () if meta.complete else (f"the recording is incomplete: it {recording.lost(meta.losses)}",)
    return Evidence(figures, found, facts, (*warnings, *recording.circumstances(trace)))
