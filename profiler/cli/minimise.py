"""``profgen minimise``: a policy and a test to the least policy that the test passes with."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from profiler.cli.options import (
    USER,
    Duration,
    OutputOptions,
    WorkloadOptions,
    coloured,
    grouped,
    output_format,
    output_options,
    source_file,
    workload_options,
)
from profiler.cli.results import json_text
from profiler.cli.terminal import emit, say
from profiler.errors import OutputError, ProfgenError
from profiler.style import Style
from profiler.wording import counted

if TYPE_CHECKING:
    from profiler.cli.minimise_report import Live
    from profiler.enforce.base import Enforcer, Options
    from profiler.minimise.entries import Choice
    from profiler.minimise.journal import Journal
    from profiler.minimise.minimise import Report
    from profiler.minimise.trial import Test
    from profiler.policy.editing import Comment
    from profiler.policy.model import Policy
    from profiler.tracers.base import Workload

SAID_LINES = 10
"""Lines of a test's output that are shown when it fails with the whole policy."""


@dataclass(frozen=True)
class TestOptions:
    """What runs next to the test, not confined."""

    __test__ = False

    load: str | None
    before: str | None
    check: str | None


@dataclass(frozen=True)
class SearchOptions:
    """Which entries may go, and how many runs it may take. ``timeout``: seconds for one run; None: from the others."""

    kinds: tuple[str, ...]
    also_user: bool
    also_untestable: bool
    keep_equivalents: bool
    repeat: int
    max_runs: int
    timeout: float | None
    jobs: int


@click.command("minimise")
@click.argument("policy", type=source_file, metavar="POLICY|DIR")
@output_options(
    "Write the least policy to a file.  [default: POLICY with .min.yaml at its end]",
    quiet="Print neither progress nor a summary.",
    progress="Print no progress.",
)
@grouped(
    TestOptions,
    "aside",
    click.option(
        "--load",
        metavar="SHELL",
        help="The command is a service: run this shell command to drive it, not confined; its status is the verdict.",
    ),
    click.option("--before", metavar="SHELL", help="Run this shell command before each run, not confined."),
    click.option(
        "--check", metavar="SHELL", help="Run this shell command after each run, not confined; it must succeed too."
    ),
)
@grouped(
    SearchOptions,
    "search",
    click.option(
        "--only",
        "kinds",
        multiple=True,
        type=click.Choice(["capabilities", "syscalls", "files"]),
        help="Minimise only this kind of entry. Can be repeated.",
    ),
    click.option("--also-user", is_flag=True, help="Include entries that a reviewer wrote (the reason `user`)."),
    click.option(
        "--also-untestable",
        is_flag=True,
        help="Include calls such as getuid and close, which a test may pass without although they are needed.",
    ),
    click.option(
        "--keep-equivalents",
        is_flag=True,
        help="Keep stand-ins of needed calls, for other versions of libc and kernel.",
    ),
    click.option(
        "--repeat",
        type=click.IntRange(1, 100),
        default=3,
        show_default=True,
        metavar="K",
        help="Number of runs that must agree.",
    ),
    click.option(
        "--max-runs",
        type=click.IntRange(min=1),
        default=2000,
        show_default=True,
        metavar="N",
        help="Stop after this number of runs.",
    ),
    click.option("--timeout", type=Duration(), help="Time limit for one run.  [default: five times the median]"),
    click.option(
        "-j",
        "--jobs",
        type=click.IntRange(1, 64),
        default=1,
        show_default=True,
        metavar="N",
        help="Number of runs at the same time.",
    ),
)
@output_format()
@coloured()
@workload_options(USER)
def minimise(
    policy: str,
    to: OutputOptions,
    aside: TestOptions,
    search: SearchOptions,
    form: str,
    style: Style,
    workload: WorkloadOptions,
) -> int:
    """Run COMMAND, a test, again and again under ever less of POLICY, and keep only what it needs.

    The test starts the application, drives it, and ends with status 0 when everything worked; all that it starts is
    confined. For a service, COMMAND is the service itself, and --load drives it: the service gets SIGTERM when the load
    has ended, and must end cleanly. With -j, runs at the same time must not disturb each other: the environment
    variable PROFGEN_SLOT (0, 1, ...) tells them apart.

    Each run is kept in a journal next to the output, so the same command continues an interrupted search. An output
    that exists is not overwritten: to minimise a result further, give it as POLICY. The exit status is 0 when every
    entry is settled, 1 when not, 2 in trouble.

    \b
      profgen minimise policy.yaml -- ./test.sh
      profgen minimise policy.yaml --load ./load.sh -- nginx -g 'daemon off;'
    """
    from profiler.cli.minimise_report import Live, summary
    from profiler.files import check_writable, write_atomic
    from profiler.minimise.digest import digest
    from profiler.minimise.journal import Journal
    from profiler.policy.editing import with_comments
    from profiler.trace.store import read_limited

    if not workload.command:
        raise click.UsageError("no test to run; try: profgen minimise POLICY -- ./test.sh")
    if form == "json" and to.printed:
        raise click.UsageError("--json and -o - both print on standard output; give a file with -o")
    data = read_limited(policy)
    old, notes = _parsed(data, policy)
    test = _test(workload, aside)
    enforcer, options, choice = _ways(old, search)
    default = Path(f"{policy.removesuffix('.yaml')}.min.yaml")
    path = to.path or default
    check_writable(path)  # before hours of runs
    record = _journal_of(default if to.printed else path)
    checked = _checked(policy)
    key = digest(data, test, choice, checked, search.repeat, search.timeout)
    live = Live(search.jobs, shown=to.progress)
    with _interruptible(live), Journal(record, key) as journal:
        if journal.runs and not to.quiet:
            say(f"continuing with {counted(len(journal.runs), 'run')} of {journal.path}")
        report = _search(old, choice, enforcer, options, test, journal, search, checked, live)
        write_atomic(path, with_comments(report.policy, notes).encode("utf-8"))
        if report.finished:
            journal.remove()
    if not to.printed:
        emit(_shown(report, form, style))
    if not to.quiet:
        for line in summary(report, path):
            say(line)
    return 0 if report.finished and report.sure else 1


def _shown(report: Report, form: str, style: Style) -> str:
    """Return what goes to standard output."""
    from profiler.cli.minimise_report import as_data, table

    if form == "json":
        return json_text("minimise", as_data(report))
    return "".join(f"{line}\n" for line in table(report, style))


def _test(workload: WorkloadOptions, aside: TestOptions) -> Test:
    from profiler.cli.workload import workload_of
    from profiler.minimise.trial import Test

    mask = frozenset(signal.Signals(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ()))

    def shell(text: str | None) -> Workload | None:
        return None if text is None else workload_of(("/bin/sh", "-c", text), workload.user, mask)

    command = workload_of(workload.command, workload.user, mask)
    return Test(command, shell(aside.load), shell(aside.before), shell(aside.check))


def _ways(policy: Policy, search: SearchOptions) -> tuple[Enforcer, Options, Choice]:
    """Return how runs are confined and which entries may go. Raises ProfgenError when no run can be confined here."""
    from profiler.enforce.base import Options, load
    from profiler.minimise.entries import KINDS, Choice

    enforcer = load("direct")
    wanted = frozenset(search.kinds or KINDS)
    options = Options(denials=False, files="files" in wanted)
    if (reason := enforcer.unavailable(policy, options)) is not None:
        without_files = replace(options, files=False)
        if search.kinds or not options.files or enforcer.unavailable(policy, without_files) is not None:
            raise ProfgenError(reason)
        say(f"rules for files, sockets, signals and mounts are not minimised: {reason}")
        wanted, options = wanted - {"files"}, without_files
    return enforcer, options, Choice(wanted, not search.keep_equivalents, search.also_user, search.also_untestable)


@contextmanager
def _interruptible(live: Live) -> Iterator[None]:
    """End cleanly on signals while the block runs, and write no core dumps: many runs will crash.

    The signal is noticed between runs: Python drops an exception that a handler raises in some places, as around
    fork(2).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    handlers = {
        number: signal.signal(number, live.interrupt) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        live.end()
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _parsed(data: bytes, path: str) -> tuple[Policy, tuple[Comment, ...]]:
    """Return a policy, and the comments that people wrote into it."""
    from profiler.policy.document import loads
    from profiler.policy.editing import comments, decoded

    return loads(data, path), comments(decoded(data, path))


def _journal_of(path: Path) -> Path:
    """Return the place of the journal of an output. Raises OutputError when the output is there, and no search that
    wrote it goes on: it may be the result of another search, with another --only for example."""
    journal = path.with_name(f"{path.name}.journal")
    if path.is_file() and not journal.exists():
        raise OutputError(
            f"{path} exists, and may be the result of another search; minimise it further, remove it, or choose "
            "another place with -o"
        )
    return journal


def _checked(path: str) -> tuple[str, ...]:
    """Return the capabilities that the recording behind a policy saw checked, and that were not needed."""
    from profiler.policy.directory import evidence
    from profiler.policy.evidence import capabilities_with

    trace = evidence(path)
    return () if trace is None else capabilities_with(trace, "checked")


def _search(
    policy: Policy,
    choice: Choice,
    enforcer: Enforcer,
    options: Options,
    test: Test,
    journal: Journal,
    search: SearchOptions,
    checked: Sequence[str],
    live: Live,
) -> Report:
    """Run the search. Raises ProfgenError, and KeyboardInterrupt after a signal."""
    from profiler.minimise.entries import without_base
    from profiler.minimise.minimise import Limits, WholeFails, minimise
    from profiler.minimise.trial import Pool

    limits = Limits(search.repeat, search.max_runs, search.timeout, search.jobs)
    with Pool[str](enforcer, options, test, search.jobs) as pool:
        try:
            return minimise(policy, choice, without_base, pool, journal, limits, checked, live.show)
        except WholeFails as error:
            journal.remove()
            live.end()
            for line in error.said.splitlines()[-SAID_LINES:]:
                say(f"  {line}")
            raise
        except KeyboardInterrupt:
            live.end()
            say(f"{journal.path} has the results so far; the same command continues from there")
            raise
        finally:
            live.end()
