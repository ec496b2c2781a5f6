"""Find a verdict on each entry of a policy, and the least policy that a test passes with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from profiler.minimise.conclusion import FLAKY, KEPT, NEEDED, OPEN, SPARE, Finding, concluded
from profiler.minimise.entries import (
    Choice,
    Entry,
    candidates,
    entries_of,
    granting,
    kept_anyway,
    without,
    without_files,
)
from profiler.minimise.journal import Journal
from profiler.minimise.judge import Judge, OutOfRuns
from profiler.minimise.search import Search, Verdict
from profiler.minimise.trial import Pool, TestError
from profiler.policy.model import Policy


@dataclass(frozen=True)
class Limits:
    """Limits of a search. ``repeat``: runs that must agree. ``runs``: at most, including those of the journal.
    ``seconds``: for one run; None: from the time that others took. ``width``: runs at the same time."""

    repeat: int
    runs: int
    seconds: float | None
    width: int


@dataclass(frozen=True)
class Progress:
    """Progress of a search. ``runs`` so far, and their total ``seconds``. ``left``: estimated runs to come, None while
    unknown. ``kept``: entries that are left so far, of ``entries``."""

    runs: int
    seconds: float
    entries: int
    kept: int
    left: float | None


@dataclass(frozen=True)
class Report:
    """The result of a search. ``finished``: every entry is settled; False when the limit of runs was reached. ``sure``:
    the test passed each time under the least policy, also at the end. ``promoted``: the test passes only with
    capabilities that the policy lists as checked."""

    policy: Policy
    findings: tuple[Finding, ...]
    runs: int
    seconds: float
    finished: bool
    sure: bool
    promoted: bool


class WholeFails(TestError):
    """The test does not pass with the whole policy."""


def minimise(
    policy: Policy,
    choice: Choice,
    confinement: Callable[[Policy], Policy],
    pool: Pool[str],
    journal: Journal,
    limits: Limits,
    checked: Iterable[str] = (),
    show: Callable[[Progress], None] = lambda progress: None,
) -> Report:
    """Search for the least policy that the test passes with.

    ``confinement`` turns a policy into the one that a run is confined by. ``checked``: capabilities that are granted
    when the test fails with the whole policy, because their checks may have settled something after all. Raises
    WholeFails, TestBroken or another TestError.
    """
    widest = granting(policy, checked) if "capabilities" in choice.kinds else policy
    groups = candidates(widest, choice)
    everything = frozenset(entry for group in groups for entry in group)
    granted = set(policy.capabilities)
    more = (entry for row in widest.capabilities if row not in granted for entry in entries_of(widest, row))
    asked_only = frozenset(more) & everything
    search: Search[Entry] | None = None

    def policy_of(kept: frozenset[Entry]) -> Policy:
        left = confinement(without(widest, everything - kept, choice))
        # Enforcing rules for files costs more than the rest. If files are minimised, the rules are enforced in each
        # run, not only when some are left out: a program that is refused a call may use a file instead.
        return left if "files" in choice.kinds else without_files(left)

    def tick() -> None:
        kept, left = (len(search.kept), search.expected_runs()) if search else (len(everything), None)
        show(Progress(judge.made, judge.seconds, len(everything), kept, left))

    judge = Judge(policy_of, pool, journal, max_runs=limits.runs, limit=limits.seconds, tick=tick)
    whole = everything - asked_only
    promoted = False
    if not _passes(judge, whole, limits.repeat):
        promoted = bool(asked_only) and _passes(judge, everything, limits.repeat)
        if not promoted:
            raise _failure(judge, whole)
    if not promoted:
        groups = [left for group in groups if (left := [entry for entry in group if entry not in asked_only])]
    judge.whole = everything if promoted else whole
    search = Search(groups, judge, repeat=limits.repeat, width=limits.width)
    finished = True
    try:
        search.run()
    except OutOfRuns:
        finished = False
    findings = [_finding(search, judge, entry) for group in groups for entry in group]
    if not promoted:
        passed = judge.tally(whole).passed
        findings += [Finding(entry, SPARE, 0, passed) for entry in sorted(asked_only)]
    findings += [Finding(entry, KEPT, why=why) for entry, why in kept_anyway(policy, choice)]
    result = concluded(widest, findings, choice)
    return Report(result, tuple(findings), judge.made, judge.seconds, finished, search.sure or not finished, promoted)


def _passes(judge: Judge, kept: frozenset[Entry], repeat: int) -> bool:
    """Return whether each of ``repeat`` runs passes, and one more now if some are from the journal."""
    known = judge.tally(kept)
    before = known.passed + known.failed
    try:
        return judge([kept], passes=max(repeat, before + 1) if before else repeat, fails=1)[0] is Verdict.PASSES
    except OutOfRuns:
        # The limit may allow no more runs than the journal has: then the results in it are reported.
        return known.passed >= repeat and not known.failed


def _failure(judge: Judge, whole: frozenset[Entry]) -> WholeFails:
    tally, last = judge.tally(whole), judge.first_failure
    why, said = (last.why, last.said) if last else ("no run was allowed", "")
    if tally.passed:
        advice = "it is flaky; first make it pass each time"
        return WholeFails(
            f"the test fails with the whole policy in {tally.failed} of {tally.passed + tally.failed} runs "
            f"({why}): {advice}",
            said,
        )
    advice = (
        "`profgen verify` shows what is refused; everything that the test starts is confined, so drive a service from "
        "outside with --load"
    )
    return WholeFails(f"the test fails with the whole policy ({why}): {advice}", said)


def _finding(search: Search[Entry], judge: Judge, entry: Entry) -> Finding:
    if entry not in search.kept:
        return Finding(entry, SPARE)
    verdict = NEEDED if entry in search.needed else FLAKY if entry in search.flaky else OPEN
    tally = judge.tally(search.flaky.get(entry, search.kept - {entry}))
    return Finding(entry, verdict, tally.failed, tally.passed + tally.failed, tally.why)
