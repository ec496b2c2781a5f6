"""``profgen minimise``: a policy and a test to the least policy that the test passes with."""

from __future__ import annotations

import hashlib
import math
import os
import resource
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from profiler.cli.options import output_format, source_file
from profiler.cli.terminal import redraws
from profiler.errors import ProfgenError
from profiler.quoting.text import printable

if TYPE_CHECKING:
    from profiler.minimise.minimise import Progress, Report
    from profiler.minimise.trial import Test
    from profiler.policy.model import Policy
    from profiler.tracers.base import Workload

REPEAT = 3
MAX_RUNS = 2000
LIVE_SECONDS = 0.15
QUIET_SECONDS = 30.0
"""Between lines of progress where there is no terminal."""


def _say(text: str) -> None:
    print(f"profgen: {printable(text)}", file=sys.stderr)


@click.command("minimise")
@click.argument("policy", type=source_file, metavar="POLICY|DIR")
@click.option(
    "-o", "--output", metavar="FILE", help="Where the least policy goes.  [default: POLICY with .min.yaml at its end]"
)
@click.option(
    "--load",
    metavar="COMMAND",
    help="TEST is a service: run this beside it, not confined, and take its status for the verdict.",
)
@click.option("--before", metavar="COMMAND", help="Run this before each run, not confined, to put things in order.")
@click.option(
    "--check", metavar="COMMAND", help="Run this after each run, not confined: the run passes if this does too."
)
@click.option(
    "--only",
    "kinds",
    multiple=True,
    type=click.Choice(["capabilities", "syscalls", "files"]),
    help="Minimise nothing else. May be repeated.",
)
@click.option("--also-user", is_flag=True, help="Also what a reviewer wrote (the reason `user`).")
@click.option(
    "--also-untestable", is_flag=True, help="Also calls whose want shows in no test: getuid, close and the like."
)
@click.option(
    "--keep-equivalents", is_flag=True, help="Keep stand-ins of calls that are needed, for the next libc and kernel."
)
@click.option(
    "--repeat",
    type=click.IntRange(1, 100),
    default=REPEAT,
    show_default=True,
    metavar="K",
    help="Runs that must agree.",
)
@click.option(
    "--max-runs",
    type=click.IntRange(min=1),
    default=MAX_RUNS,
    show_default=True,
    metavar="N",
    help="End after so many runs.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="For one run.  [default: five times as long as most]",
)
@click.option(
    "-j", "--jobs", type=click.IntRange(1, 64), default=1, show_default=True, metavar="N", help="Runs at the same time."
)
@click.option("--user", metavar="USER", help="Run as this user (name or uid); under sudo the default is who called it.")
@output_format()
@click.option("-q", "--quiet", is_flag=True, help="No progress and no summary.")
@click.argument("test", nargs=-1, type=click.UNPROCESSED)
def minimise(
    policy: str,
    output: str | None,
    load: str | None,
    before: str | None,
    check: str | None,
    kinds: tuple[str, ...],
    also_user: bool,
    also_untestable: bool,
    keep_equivalents: bool,
    repeat: int,
    max_runs: int,
    timeout: float | None,
    jobs: int,
    user: str | None,
    form: str,
    quiet: bool,
    test: tuple[str, ...],
) -> int:
    """Run TEST again and again under ever less of POLICY, and keep only what it needs.

    TEST starts the application, drives it, and ends with status 0 when all was well; everything it starts is confined.
    For a service give the service itself, and what drives it with --load; it gets SIGTERM when the load is done, and
    must end cleanly. With -j, runs at the same time must not disturb each other: the environment variable PROFGEN_SLOT
    (0, 1, ...) tells them apart.

    Each run is kept in a journal beside the output; the same command goes on where it was interrupted. The exit status
    is 0 when every entry is settled, 1 when not, 2 in trouble.

    \b
      profgen minimise policy.yaml -- ./test.sh
      profgen minimise policy.yaml --load ./load.sh -- nginx -g 'daemon off;'
    """
    from profiler.enforce.base import Options
    from profiler.enforce.base import load as load_enforcer
    from profiler.files import PendingFile, write_atomic
    from profiler.minimise.entries import KINDS, Choice, without_base
    from profiler.minimise.journal import Journal
    from profiler.minimise.minimise import Limits, WholeFails
    from profiler.minimise.minimise import minimise as search
    from profiler.minimise.trial import Pool
    from profiler.policy.document import loads
    from profiler.trace.store import read_limited

    if not test:
        raise click.UsageError("no test to run; try: profgen minimise POLICY -- ./test.sh")
    if timeout is not None and not math.isfinite(timeout):
        raise click.UsageError("--timeout wants a number of seconds")
    source = Path(policy)
    data = read_limited(source)
    old = loads(data, str(source))
    what = _test(test, load, before, check, user)
    enforcer = load_enforcer("direct")
    wanted = frozenset(kinds or KINDS)
    options = Options(denials=False, files="files" in wanted)
    if (reason := enforcer.unavailable(old, options)) is not None:
        if kinds or not options.files or enforcer.unavailable(old, replace(options, files=False)) is not None:
            raise ProfgenError(reason)
        _say(f"files and what else a security module would refuse are not minimised: {reason}")
        wanted, options = wanted - {"files"}, replace(options, files=False)
    choice = Choice(wanted, not keep_equivalents, also_user, also_untestable)
    path = source.with_name(f"{source.name.removesuffix('.yaml')}.min.yaml") if output is None else Path(output)
    PendingFile(path).discard()  # so that nobody waits for a result that cannot be written
    live = _Live(jobs, shown=not quiet)
    # Asked to end in any way, nothing may be left: neither runs nor the file that is being written.
    # Many runs will crash.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    # Noticed between runs only: an exception may be raised where Python drops it, as in what it runs around fork(2).
    handlers = {
        number: signal.signal(number, live.interrupt) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        with Journal(path.with_name(f"{path.name}.journal"), _digest(old, what, timeout)) as journal:
            if journal.runs and not quiet:
                _say(f"going on with {len(journal.runs)} runs of {journal.path}")
            with Pool[str](enforcer, options, what, jobs) as pool:
                try:
                    report = search(
                        old,
                        choice,
                        without_base,
                        pool,
                        journal,
                        Limits(repeat, max_runs, timeout, jobs),
                        live.show,
                    )
                except WholeFails as error:
                    journal.remove()
                    live.end()
                    for line in error.said.splitlines()[-10:]:
                        _say(f"  {line}")
                    raise
                except KeyboardInterrupt:
                    live.end()
                    _say(f"{journal.path} has what was found; the same command goes on from there")
                    raise
            live.end()
            write_atomic(path, _text(data, str(source), old, report.policy, quiet).encode("utf-8"))
            if report.finished:
                journal.remove()
    finally:
        live.end()
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if form == "json":
        from profiler.quoting.json import as_json

        print(as_json(_data(report)))
    else:
        for line in _table(report):
            print(line)
    sys.stdout.flush()
    if not quiet:
        for line in _summary(report, path):
            _say(line)
    return 0 if report.finished and report.sure else 1


def _test(command: Sequence[str], load: str | None, before: str | None, check: str | None, user: str | None) -> Test:
    from profiler.cli.workload import workload_of
    from profiler.minimise.trial import Test

    mask = frozenset(signal.Signals(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ()))

    def shell(text: str | None) -> Workload | None:
        return None if text is None else workload_of(("/bin/sh", "-c", text), user, mask)

    return Test(workload_of(tuple(command), user, mask), shell(load), shell(before), shell(check))


def _digest(policy: Policy, test: Test, timeout: float | None) -> str:
    """Of all that a run's result depends on and that can be known: the policy, the test with the content of its files,
    how it is run."""
    from profiler.policy.document import dumps
    from profiler.quoting.json import as_json

    def of(workload: Workload | None) -> Any:
        return workload and [
            workload.argv,
            workload.cwd,
            workload.user,
            [_content(word, workload.cwd) for word in (workload.path, *workload.argv)],
        ]

    return hashlib.sha256(
        as_json([dumps(policy), of(test.command), of(test.load), of(test.before), of(test.check), timeout]).encode()
    ).hexdigest()


def _content(word: str, cwd: str) -> str:
    """SHA-256 of the file that a word of the command names; empty when it names none."""
    path = os.path.join(cwd, word)
    try:
        if not os.path.isfile(path):
            return ""
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):
        return ""


class _Live:
    """How far it is: one line on a terminal, renewed; elsewhere a line now and then."""

    def __init__(self, width: int, shown: bool) -> None:
        self._width = width
        self._terminal = shown and redraws(sys.stderr)
        self._every = LIVE_SECONDS if self._terminal else QUIET_SECONDS if shown else math.inf
        self._next = time.monotonic() + self._every
        self._drawn = False
        self._interrupted = False

    def interrupt(self, number: int, frame: object) -> None:
        """A handler of signals: the next call of show raises KeyboardInterrupt."""
        self._interrupted = True

    def show(self, progress: Progress) -> None:
        """Called a few times a second."""
        if self._interrupted:
            raise KeyboardInterrupt
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self._every
        gone = progress.entries - progress.kept
        text = f"{progress.runs} runs, {gone} of {progress.entries} entries gone"
        if progress.left is not None and progress.runs:
            text += f", about {_duration(progress.left * progress.seconds / progress.runs / self._width)} left"
        if not self._terminal:
            _say(text)
        elif (
            os.tcgetpgrp(2) == os.getpgrp()
        ):  # a terminal in the background must not be written to: it would stop us (SIGTTOU)
            os.write(2, f"\r\x1b[Kprofgen: {text}\r".encode())
            self._drawn = True

    def end(self) -> None:
        """Wipe the line."""
        if self._drawn:
            os.write(2, b"\r\x1b[K")
            self._drawn = False


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _table(report: Report) -> Iterator[str]:
    from profiler.minimise.conclusion import VERDICTS

    rows = sorted(report.findings, key=lambda row: VERDICTS.index(row.verdict))
    wide = max((len(row.entry.section) for row in rows), default=0)
    for row in rows:
        note = "; ".join(text for text in (row.evidence, row.why) if text)
        yield printable(
            f"{row.verdict:<10}  {row.entry.section:<{wide}}  {row.entry.label}" + (f"  ({note})" if note else "")
        )


def _summary(report: Report, path: Path) -> Iterator[str]:
    from profiler.minimise.conclusion import FLAKY, KEPT, NEEDED, OPEN, SPARE

    counts = {
        verdict: sum(row.verdict == verdict for row in report.findings)
        for verdict in (NEEDED, SPARE, FLAKY, OPEN, KEPT)
    }
    parts = [f"{counts[verdict]} {verdict}" for verdict in counts if counts[verdict] or verdict in (NEEDED, SPARE)]
    yield f"{', '.join(parts)}; {report.runs} runs, {_duration(report.seconds)} of running"
    if report.promoted:
        yield (
            "the test passes only with capabilities that the policy lists as checked: those that are needed "
            "are granted now"
        )
    if counts[FLAKY]:
        yield "flaky: without it the test sometimes passes; kept"
    if not report.finished:
        yield (
            "the runs are used up: the policy passes, and what is not settled was kept; the same command "
            "with a larger --max-runs goes on"
        )
    elif not report.sure:
        yield (
            "the least policy did not pass each time: the test is flaky, or something outside the policy "
            "changed meanwhile"
        )
    if report.policy.entries("base"):
        yield "syscalls.base is as it was: a run without a container cannot tell what its runtime needs"
    yield f"wrote {path}"
    yield f"next: profgen generate {shlex.quote(str(path))} -o DIR"


def _text(data: bytes, name: str, old: Policy, new: Policy, quiet: bool) -> str:
    """The new policy in the words of the old file, as far as that can be done."""
    from profiler.denials.rewrite import has_comments, rewritten
    from profiler.policy.document import dumps

    text = data.decode("utf-8", "replace")
    changed = rewritten(text, old, new)
    if changed is not None:
        return changed
    if has_comments(text, old) and not quiet:
        _say(f"comments of {name} are not in the result: the lines around them are not as profgen writes them")
    return dumps(new)


def _data(report: Report) -> dict[str, Any]:
    return {
        "entries": [
            {
                "section": row.entry.section,
                "item": row.entry.item,
                "part": row.entry.part,
                "verdict": row.verdict,
                "runs": row.runs,
                "failed": row.failed,
                "why": row.why,
            }
            for row in report.findings
        ],
        "runs": report.runs,
        "seconds": round(report.seconds, 3),
        "finished": report.finished,
        "sure": report.sure,
        "promoted": report.promoted,
    }
