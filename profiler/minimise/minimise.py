"""A policy and a test, to a verdict on each entry and the least policy that the test passes with."""

from __future__ import annotations

from collections.abc import Callable
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
    """``repeat``: runs that must agree. ``runs``: how many at most, those of the journal too. ``seconds``: for one run;
    None: from how long the others took. ``width``: runs at the same time.
    """

    repeat: int
    runs: int
    seconds: float | None
    width: int


@dataclass(frozen=True)
class Progress:
    """``runs`` made, of which took ``seconds`` together. ``left``: runs still to come, about; None while that is not
    known. ``kept`` of ``entries``: what is left so far.
    """

    runs: int
    seconds: float
    entries: int
    kept: int
    left: float | None


@dataclass(frozen=True)
class Report:
    """``finished``: every entry is settled; False when the runs were used up. ``sure``: the least policy passed each
    time, also at the end. ``promoted``: the test passes only with capabilities that the policy lists as checked.
    """

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
    show: Callable[[Progress], None] = lambda progress: None,
) -> Report:
    """``confinement`` makes of a policy what a run is held to. Raises WholeFails, TestBroken or another TestError."""
    widest = granting(policy, "checked") if "capabilities" in choice.kinds else policy
    groups = candidates(widest, choice)
    everything = frozenset(entry for group in groups for entry in group)
    asked_only = (
        frozenset(entry for row in policy.capabilities if row.use == "checked" for entry in entries_of(policy, row))
        & everything
    )
    search: Search[Entry] | None = None

    def policy_of(kept: frozenset[Entry]) -> Policy:
        left = confinement(without(widest, everything - kept, choice))
        # To hold a run to rules for files costs more than the rest. Not only when some are left out: a program that is
        # refused a call may turn to a file instead.
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
    result = concluded(policy, widest, findings, choice)
    return Report(result, tuple(findings), judge.made, judge.seconds, finished, search.sure or not finished, promoted)


def _passes(judge: Judge, kept: frozenset[Entry], repeat: int) -> bool:
    """Whether each of ``repeat`` runs passes; and one more now, when earlier ones are in the journal."""
    known = judge.tally(kept)
    before = known.passed + known.failed
    try:
        return judge([kept], passes=max(repeat, before + 1) if before else repeat, fails=1)[0] is Verdict.PASSES
    except OutOfRuns:
        # A search goes on from its journal also to say only what it holds.
        return known.passed >= repeat and not known.failed


def _failure(judge: Judge, whole: frozenset[Entry]) -> WholeFails:
    tally, last = judge.tally(whole), judge.first_failure
    why, said = (last.why, last.said) if last else ("no run was allowed", "")
    if tally.passed:
        advice = "it is flaky; make it pass each time first"
        return WholeFails(
            f"the test fails with the whole policy in {tally.failed} of {tally.passed + tally.failed} runs "
            f"({why}): {advice}",
            said,
        )
    advice = (
        "see what is refused with `profgen verify`; everything the test starts is confined: drive a "
        "service from outside with --load"
    )
    return WholeFails(f"the test fails with the whole policy ({why}): {advice}", said)


def _finding(search: Search[Entry], judge: Judge, entry: Entry) -> Finding:
    if entry not in search.kept:
        return Finding(entry, SPARE)
    verdict = NEEDED if entry in search.needed else FLAKY if entry in search.flaky else OPEN
    tally = judge.tally(search.flaky.get(entry, search.kept - {entry}))
    return Finding(entry, verdict, tally.failed, tally.passed + tally.failed, tally.why)
