"""Decide which denials of a log concern a policy. A system's log contains those of every confined program."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from profiler.denials.model import Denial
from profiler.policy import patterns
from profiler.policy.model import Policy

_DELETED = " (deleted)"
"""What the kernel appends to the path of a program that was removed while it ran (fs/d_path.c)."""


@dataclass(frozen=True)
class Wanted:
    """Which denials to take. Empty: whatever can belong to the policy.

    ``any_program``: also those of programs that the policy does not know.
    """

    profiles: tuple[str, ...] = ()
    comms: tuple[str, ...] = ()
    exes: tuple[str, ...] = ()
    any_program: bool = False


@dataclass(frozen=True)
class Skipped:
    """Skipped denials, ``count`` in all.

    ``why`` they were skipped, the programs or profiles that they are from (the most frequent first), and the
    ``options`` of refine that include them; empty when the user left them out.
    """

    why: str
    options: tuple[str, ...]
    count: int
    whose: tuple[tuple[str, int], ...]


def programs_of(policy: Policy) -> frozenset[str] | None:
    """Return patterns of the programs that the policy knows; None if the recording did not watch files."""
    if not policy.has_files:
        return None
    known = {row.program for row in policy.transitions}
    known |= {rule.pattern for rule in policy.files if {"execute", "map"} & set(rule.access)}
    return frozenset(known) or None


def _is_one(exe: str, known: Iterable[str]) -> bool:
    exe = exe.removesuffix(_DELETED)
    return exe in known or any(patterns.matches(pattern, exe) for pattern in known)


def _of_runtime(denial: Denial) -> bool:
    """Return whether a container runtime made the call under the profile, before it started the workload.

    runc executes a copy of itself that has no path.
    """
    name = (denial.exe or "").removesuffix(_DELETED).rsplit("/", 1)[-1]
    return name == "crun" or (
        (denial.comm or "").startswith("runc:[") and name in ("", "exe", "runc", "memfd:runc_cloned:")
    )


def split(
    policy: Policy, denials: Iterable[Denial], wanted: Wanted, names: Sequence[str]
) -> tuple[tuple[Denial, ...], tuple[Skipped, ...]]:
    """Return (the denials that concern the policy, what was skipped).

    ``names``: the AppArmor profile, the SELinux type and the TOMOYO namespace that are generated from the policy. A
    denial that names one belongs by that name, also under a child of a profile (``NAME//CHILD``). Denials of seccomp
    name none: they belong if the policy knows their program. A policy made without evidence of files knows no
    programs, and takes all.
    """
    profiles = wanted.profiles or tuple(names)
    known = programs_of(policy)
    everything = bool(wanted.comms or wanted.exes or wanted.any_program) or known is None
    kept: list[Denial] = []
    left: dict[tuple[str, tuple[str, ...]], dict[str, int]] = {}

    def skip(denial: Denial, why: str, whose: str, *options: str) -> None:
        rows = left.setdefault((why, options), {})
        rows[whose] = rows.get(whose, 0) + denial.count

    for denial in denials:
        program = denial.exe or denial.comm or "?"
        if (wanted.comms and denial.comm not in wanted.comms) or (
            wanted.exes and denial.exe is not None and not _is_one(denial.exe, wanted.exes)
        ):
            skip(denial, "of programs other than the requested one", program)
        elif denial.profile is not None:
            if any(denial.profile == name or denial.profile.startswith(f"{name}//") for name in profiles):
                kept.append(denial)
            else:
                why = f"under profiles, types or namespaces other than {' or '.join(profiles)}"
                skip(denial, why, denial.profile, "--profile NAME")
        elif everything or _of_runtime(denial) or (denial.exe is not None and _is_one(denial.exe, known or ())):
            kept.append(denial)
        else:
            skip(denial, "of programs that the policy does not know", program, "--exe NAME", "--any-program")
    skipped = tuple(
        Skipped(why, options, sum(rows.values()), tuple(sorted(rows.items(), key=lambda item: (-item[1], item[0]))))
        for (why, options), rows in left.items()
    )
    return tuple(kept), skipped
