"""What a policy cannot promise: the marks of how it was made, and uses that no recording shows in full.

``generate`` prints them, ``lint`` has a rule for each, and files that targets write say on what they rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from profiler.kernel.arguments import implies_exec, value_of
from profiler.policy.model import Allowed, Policy, Workload
from profiler.policy.reasons import sentences
from profiler.trace.caveats import IDLE_FIX, idle, is_idle
from profiler.wording import listed

_LISTED = 8


@dataclass(frozen=True)
class Caveat:
    """``rule``: its name in lint. ``level``: one of lint's. ``where``: a part of policy.yaml. ``what`` it is, and the
    ``fix``. Both are printable."""

    rule: str
    level: str
    where: str
    what: str
    fix: str


def caveats(policy: Policy) -> tuple[Caveat, ...]:
    """Return all that a policy cannot promise."""
    return (*_of_the_recording(policy), *_of_the_workload(policy), *_without_names(policy))


def extent(workload: Workload) -> str:
    """Return which rights a file made of the policy holds, in words before "rights of" a command: ``the observed``."""
    if workload.denials_only:
        return "what denials named, and not all the"
    parts = ["after its start"] if workload.joined else []
    parts += ["without what the recording lost"] if workload.incomplete else []
    return f"what was observed {' and '.join(parts)}, and not all the" if parts else "the observed"


def _of_the_recording(policy: Policy) -> Iterator[Caveat]:
    work = policy.workload
    if work.incomplete:
        yield Caveat(
            "incomplete",
            "error",
            "workload",
            "the recording lost something: the workload will fail where the policy lacks what was lost",
            "record again; profgen record says what was lost and how to prevent it",
        )
    if work.denials_only:
        yield Caveat(
            "denials-only",
            "warning",
            "workload",
            "made of denials alone: it allows what was refused or logged, and nothing else that the workload needs",
            "merge it with a recording of the workload",
        )
    if work.joined:
        started = any(name.startswith("start of ") for row in policy.entries("base") for name in _named(row))
        yield Caveat(
            "joined",
            "warning",
            "workload",
            f"start-up syscalls unknown: joined a running process ({listed(work.joined, _LISTED)})",
            "files and capabilities of its start are missing too: merge a recording of the start"
            if started
            else "merge a recording of the start, or add what every start needs with --start-up",
        )
    observed = len(policy.entries("observed"))
    if not work.denials_only and is_idle(bool(work.joined), observed):
        yield Caveat("idle", "warning", "workload", idle(observed), IDLE_FIX)


def _named(row: Allowed) -> Iterator[str]:
    return (name for reason in row.because for name in reason.names)


def _of_the_workload(policy: Policy) -> Iterator[Caveat]:
    loads = value_of("seccomp_operation", "SECCOMP_SET_MODE_FILTER")
    listens = value_of("seccomp_flags", "SECCOMP_FILTER_FLAG_NEW_LISTENER")
    by_prctl = value_of("prctl_option", "PR_SET_SECCOMP")
    filters = [values.get("flags", 0) for values in _seen(policy, "seccomp") if values["operation"] == loads]
    if any(flags & listens for flags in filters):
        yield Caveat(
            "own-filter",
            "warning",
            "syscalls",
            "the workload has a seccomp filter with a listener (USER_NOTIF): the profile refuses before the listener "
            "is asked, and calls that it answers may be missing from the recording",
            "record the workload without its own sandbox as well, and merge",
        )
    elif filters or any(values["option"] == by_prctl for values in _seen(policy, "prctl")):
        yield Caveat(
            "own-filter",
            "note",
            "syscalls",
            "the workload loads a seccomp filter of its own: calls that this filter traps or answers with an error are "
            "not in the recording",
            "record the workload without its own sandbox as well, and merge",
        )
    if any(implies_exec(values["persona"]) for values in _seen(policy, "personality")):
        yield Caveat(
            "read-implies-exec",
            "warning",
            "syscalls",
            "the workload asks for READ_IMPLIES_EXEC: whatever it maps for reading becomes executable, so rules for "
            "files have `map` next to `read`",
            "run it without (setarch -X sets it; so do 32-bit programs without a PT_GNU_STACK header)",
        )
    if policy.io_uring:
        yield Caveat(
            "io-uring-files",
            "warning",
            "io_uring",
            "io_uring is used: seccomp does not see its requests, and files used only through them are in no policy",
            "configure the workload to do without io_uring, if possible",
        )


def _seen(policy: Policy, name: str) -> Iterator[Mapping[str, int]]:
    """Yield the values of each rule of an observed call, by field. One without rules tells nothing of its calls."""
    for row in policy.entries("observed"):
        if row.name == name and not row.never_succeeded:
            yield from ({each.field: each.value for each in rule.conditions} for rule in row.rules)


def _without_names(policy: Policy) -> Iterator[Caveat]:
    for row in policy.unknown:
        yield Caveat(
            "unknown-number",
            "warning",
            "unknown",
            f"syscall number {row.number} ({row.abi}) has no known name and is in no profile: "
            f"{'; '.join(sentences(row.because))}",
            "use a newer profgen, which may know it",
        )
    for capability in policy.capabilities:
        if capability.name not in policy.needed():
            yield Caveat(
                "unknown-capability",
                "warning",
                "capabilities",
                f"capability {capability.name} has no known name and is in no profile: "
                f"{'; '.join(sentences(capability.because))}",
                "use a newer profgen, which may know it",
            )
