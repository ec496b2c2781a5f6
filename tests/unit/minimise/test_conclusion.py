"""The verdict on each entry, in words and in the policy."""

from __future__ import annotations

from dataclasses import replace

import pytest
from unit.minimise.test_entries import CHECKED, POLICY, SEEN

from profiler.minimise.conclusion import FLAKY, KEPT, NEEDED, OPEN, SPARE, Finding, concluded
from profiler.minimise.entries import Choice, Entry, candidates, granting
from profiler.policy.document import dumps, loads
from profiler.policy.reasons import Reason, said

READ = Entry("syscalls.observed", "read")


@pytest.mark.parametrize(
    ("finding", "evidence"),
    [
        (Finding(READ, NEEDED, 3, 3), "3 of 3 runs fail without it"),
        (Finding(READ, NEEDED, 1, 1), "1 of 1 run fail without it"),
        (Finding(READ, FLAKY, 1, 4), "1 of 4 runs fail without it"),
        (Finding(READ, SPARE, 1, 4), "3 of 4 runs pass without it"),
        (Finding(READ, KEPT), ""),
        (Finding(READ, OPEN), ""),
    ],
)
def test_the_evidence(finding: Finding, evidence: str) -> None:
    assert finding.evidence == evidence


def because(*findings: Finding) -> tuple[Reason, ...]:
    """The reasons of /etc/app afterwards."""
    (rule,) = concluded(POLICY, findings, Choice()).files
    return rule.because


def access(word: str, verdict: str) -> Finding:
    return Finding(Entry("files", "/etc/app", word), verdict, 1, 1)


def test_parts_with_one_verdict_are_told_together() -> None:
    words = [access("read", NEEDED), access("write", OPEN), access("create", NEEDED), access("times", SPARE)]
    assert because(*words) == (said("minimise", "read create needed"), said("minimise", "write not settled"))
    assert because(access("read", KEPT)) == ()


def test_a_verdict_replaces_the_one_of_an_earlier_search() -> None:
    once = concluded(POLICY, [Finding(READ, OPEN)], Choice())
    twice = concluded(once, [Finding(READ, NEEDED, 1, 1)], Choice())
    (row,) = (row for row in twice.syscalls if (row.abi, row.name) == ("x86_64", "read"))
    assert row.because == (*SEEN, said("minimise", "needed"))


def test_the_conclusion_is_written_into_the_policy() -> None:
    chown, admin, read = (
        Entry("capabilities", "CAP_CHOWN"),
        Entry("capabilities", "CAP_SYS_ADMIN"),
        Entry("syscalls.observed", "read"),
    )
    inet, unix = (entry for group in candidates(POLICY, Choice()) for entry in group if entry.item == "socket")
    earlier = replace(
        POLICY,
        capabilities=tuple(
            replace(row, because=(*row.because, said("minimise", "flaky"))) for row in POLICY.capabilities
        ),
    )
    findings = [
        Finding(chown, NEEDED, 3, 3),
        Finding(admin, SPARE, 0, 3),
        Finding(read, FLAKY, 1, 2),
        Finding(inet, NEEDED, 3, 3),
        Finding(unix, NEEDED, 3, 3),
        Finding(Entry("syscalls.observed", "statx"), SPARE),
        Finding(Entry("files", "/etc/app", "read"), NEEDED, 2, 2),
        *(Finding(Entry("files", "/etc/app", word), SPARE) for word in ("write", "create", "times")),
        Finding(Entry("syscalls.observed", "getuid"), KEPT, why="no test shows its want"),
    ]
    left = concluded(granting(earlier, CHECKED), findings, Choice())
    because = {row.name: row.because for row in (*left.capabilities, *left.entries("observed"))} | {
        row.pattern: row.because for row in left.files
    }
    assert because["CAP_CHOWN"] == (*SEEN, said("minimise", "needed"))
    assert because["socket"] == (*SEEN, said("minimise", "2 argument rules needed"))
    assert because["/etc/app"] == (said("minimise", "needed"),)
    assert "CAP_SYS_ADMIN" not in because
    assert because["getuid"] == SEEN
    assert "statx" not in because
    assert loads(dumps(left).encode(), "left") is not None


@pytest.mark.parametrize("verdict", [NEEDED, SPARE])
def test_a_checked_capability_is_granted_only_when_it_is_needed(verdict: str) -> None:
    findings = [Finding(Entry("capabilities", "CAP_SYS_ADMIN"), verdict, 3, 3)]
    left = concluded(granting(POLICY, CHECKED), findings, Choice())
    assert left.needed() == (("CAP_CHOWN", "CAP_SYS_ADMIN") if verdict == NEEDED else ("CAP_CHOWN",))
