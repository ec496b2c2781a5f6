"""``profgen verify``: run a command under its policy, and name what was refused."""

from __future__ import annotations

import datetime
import signal
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from profiler.cli.options import (
    DURATION,
    NO_FILES,
    USER,
    OutputOptions,
    WorkloadOptions,
    coloured,
    grouped,
    output_file,
    output_format,
    output_options,
    source_file,
    workload_options,
)
from profiler.cli.results import FORMATS, formatted, summarise
from profiler.cli.terminal import say, say_what_takes_long
from profiler.errors import FAILED, ProfgenError
from profiler.files import STANDARD_OUTPUT, keep_standard_output, refuse_to_replace

if TYPE_CHECKING:
    from profiler.cli.verify_report import VerifyReport
    from profiler.enforce.base import Enforcer, Options, Outcome
    from profiler.policy.model import Policy
    from profiler.tracers.base import Workload

DENIED_STATUS = 1
UNDER = ("direct", "landlock", "apparmor", "runc", "crun", "docker")
WITH_BUNDLE = ("runc", "crun")


@dataclass(frozen=True)
class EnforceOptions:
    """How the command is confined. ``bundle``: of runc and crun."""

    under: str
    mode: str
    bundle: str | None


@dataclass(frozen=True)
class _Run:
    """A run that has ended. ``began``: seconds since the epoch; ``took``: seconds."""

    outcome: Outcome
    began: float
    took: float

    def ended_as_asked(self, duration: float | None) -> bool:
        """Whether ``--duration`` ended a command that has no handler for SIGTERM: it did not fail."""
        return duration is not None and self.took >= duration and self.outcome.status == 128 + signal.SIGTERM


def _destination(text: str) -> tuple[str | None, str]:
    """Convert ``FORMAT:FILE``, or ``FILE`` for the format of --format."""
    name, colon, path = text.partition(":")
    return (name, output_file(path)) if colon and path and name in FORMATS else (None, output_file(text))


@click.command("verify")
@click.argument("policy", type=source_file, metavar="POLICY|DIR")
@grouped(
    EnforceOptions,
    "enforce",
    click.option(
        "--under", type=click.Choice(UNDER), default="direct", show_default=True, help="What confines the command."
    ),
    click.option(
        "--mode",
        type=click.Choice(["enforce", "log"]),
        default="enforce",
        show_default=True,
        help="With log nothing is refused, and everything is reported.",
    ),
    click.option("--bundle", metavar="DIR", help="OCI bundle for runc and crun. COMMAND replaces its own command."),
)
@output_options("Write the denials as a trace, for generate.", quiet="Print only denials and errors.")
@click.option(
    "--report",
    "reports",
    type=_destination,
    multiple=True,
    metavar="[FORMAT:]FILE",
    help="Write the report to FILE; with FORMAT: one more, in that format. Can be repeated.  [default: standard error "
    "for text, else standard output]",
)
@output_format(*FORMATS, help="Format of the report.")
@coloured(passed=False)
@workload_options(USER, DURATION, NO_FILES)
def verify(
    policy: str,
    enforce: EnforceOptions,
    to: OutputOptions,
    reports: tuple[tuple[str | None, str], ...],
    form: str,
    workload: WorkloadOptions,
) -> int:
    """Run COMMAND under POLICY (policy.yaml, or its directory) and name every denial.

    The command keeps its input, output, terminal and signals. For each denial the report has what was refused, to
    which process, and the lines of policy.yaml that would allow it. The policy itself is not changed.

    The exit status is 0 when nothing was denied and the command ended with 0, 1 when something was denied, else the
    command's own.

    \b
      profgen verify app.profile -- ./app
      profgen verify app.profile --mode log -o denials.trace.json -- ./app
      profgen verify app.profile --under runc --bundle DIR
      profgen verify app.profile --under docker -- docker run --rm IMAGE
      profgen verify app.profile --report junit:verify.xml -- make test
      profgen generate app.trace.json denials.trace.json -o app.profile
    """
    from profiler.cli.verify_report import VerifyReport
    from profiler.enforce.base import Options, load
    from profiler.policy.directory import evidence
    from profiler.policy.document import loads
    from profiler.policy.evidence import refused_checks
    from profiler.trace.store import read_limited

    _check(enforce, workload)
    places = _places(reports, form)
    path = Path(policy)
    _check_results(places, to, path)
    if not to.quiet:
        say_what_takes_long()
    content = read_limited(path)
    held = loads(content, str(path))
    bundle = None if enforce.bundle is None else Path(enforce.bundle)
    trace = evidence(policy)
    options = Options(
        enforce.mode,
        files=not workload.no_files,
        duration=workload.duration,
        bundle=bundle,
        refused=frozenset() if trace is None else refused_checks(trace),
    )
    ran = _run(load(enforce.under), held, options, enforce, workload, to)
    outcome, asked = ran.outcome, ran.ended_as_asked(workload.duration)
    found = VerifyReport(held, outcome, enforce.under, enforce.mode, path, content, asked)
    _tell(found, places, to)
    if outcome.denials:
        return DENIED_STATUS
    return FAILED if outcome.losses else 0 if asked else outcome.status


def _tell(found: VerifyReport, places: Sequence[tuple[str, Path | None]], to: OutputOptions) -> None:
    """Write the report to each of its places."""
    from profiler.files import write_atomic

    for name, place in places:
        if place is None:
            for line in found.text(to):
                say(line)
            continue
        out = "".join(f"{line}\n" for line in found.text(to)) if name == "text" else formatted(found.report, name)
        write_atomic(place, out.encode("utf-8", "backslashreplace"))
        summarise(found.report, name)


def _places(reports: Sequence[tuple[str | None, str]], form: str) -> list[tuple[str, Path | None]]:
    """Return the formats of the report, each with its file; None is standard error. ``form`` goes to the files that
    are given without a format."""
    usual: list[Path | None] = [Path(path) for name, path in reports if name is None]
    usual = usual or [None if form == "text" else STANDARD_OUTPUT]
    return [*((form, place) for place in usual), *((name, Path(path)) for name, path in reports if name is not None)]


def _check_results(places: Sequence[tuple[str, Path | None]], to: OutputOptions, policy: Path) -> None:
    """Keep standard output for one result. Raises UsageError for two, OutputError for one in place of the policy."""
    printed = [name for name, place in places if place == STANDARD_OUTPUT]
    if len(printed) + to.printed > 1:
        one, other = (f"the {printed[0]} report", "-o -" if to.printed else f"the {printed[1]} report")
        raise click.UsageError(f"{one} and {other} both go to standard output; give one of them a file")
    if printed or to.printed:
        keep_standard_output()
    for place in (to.path, *(place for _, place in places)):
        if place is not None:
            refuse_to_replace(place, [policy])


def _check(enforce: EnforceOptions, workload: WorkloadOptions) -> None:
    """Raise UsageError for options that do not fit together."""
    if not workload.command and enforce.under not in WITH_BUNDLE:
        raise click.UsageError("no command to run; try: profgen verify app.profile -- ./app")
    if workload.user is not None and enforce.under not in ("direct", "landlock", "apparmor"):
        raise click.UsageError(f"--user cannot be used under {enforce.under}: the container determines the user")
    if enforce.bundle is not None and enforce.under not in WITH_BUNDLE:
        raise click.UsageError(f"--bundle is for {' and '.join(WITH_BUNDLE)}")


def _run(
    enforcer: Enforcer,
    policy: Policy,
    options: Options,
    enforce: EnforceOptions,
    workload: WorkloadOptions,
    to: OutputOptions,
) -> _Run:
    """Run the command under the policy, and write its denials as a trace. Raises ProfgenError."""
    from profiler.cli.workload import in_bundle, workload_of
    from profiler.files import RESERVE_BYTES, PendingFile
    from profiler.tracers.supervisor import hold_signals

    reason = enforcer.unavailable(policy, options)
    if reason is not None:
        raise ProfgenError(f"cannot verify under {enforce.under}: {reason}")
    mask = hold_signals()
    with nullcontext() if to.path is None else PendingFile(to.path, reserve=RESERVE_BYTES) as file:
        started = (
            in_bundle(workload.command, mask)
            if enforce.under in WITH_BUNDLE
            else workload_of(workload.command, workload.user, mask)
        )
        began, start = time.time(), datetime.datetime.now(datetime.UTC)
        outcome = enforcer.run(policy, started, options)
        ran = _Run(outcome, began, time.time() - began)
        if file is not None:
            file.commit(_trace(ran, started, policy, start, options))
    return ran


def _trace(ran: _Run, workload: Workload, policy: Policy, start: datetime.datetime, options: Options) -> bytes:
    from profiler.denials.as_trace import trace_of
    from profiler.kernel.abi import native_abi
    from profiler.trace.store import dumps
    from profiler.watch.finish import meta, origin_of

    outcome = ran.outcome
    head = meta(
        origin_of(workload, policy.no_new_privs),
        "verify",
        native_abi(),
        start,
        ran.took,
        outcome.status,
        losses=outcome.losses,
        last_new=ran.took,
    )
    return dumps(trace_of(outcome.denials, head, refused=options.mode == "enforce", began=ran.began)).encode("ascii")
