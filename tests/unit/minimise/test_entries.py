"""Entries of a policy, and the policy without some of them."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from profiler.minimise.entries import (
    Choice,
    Entry,
    candidates,
    fingerprint,
    granting,
    kept_anyway,
    without,
    without_base,
    without_files,
)
from profiler.policy.document import dumps, loads
from profiler.policy.model import (
    Allowed,
    Capability,
    Condition,
    FileRule,
    Policy,
    Refused,
    Rule,
    SignalRule,
    SocketRule,
    Workload,
)
from profiler.policy.reasons import Reason, said
from profiler.targets.seccomp import profile

INET = Rule((Condition("domain", 0, 0xFFFFFFFF, 2),))
UNIX = Rule((Condition("domain", 0, 0xFFFFFFFF, 1),))
SEEN = (Reason("observed", ("app",)),)
CHECKED = ("CAP_SYS_ADMIN",)
"""What the recording saw checked and not needed."""

POLICY = Policy(
    workload=Workload(("app",), 0),
    abis=("x86_64", "i386"),
    no_new_privs=True,
    runtime="any",
    syscalls=(
        Allowed("observed", "x86_64", "read", SEEN),
        Allowed("observed", "x86_64", "socket", SEEN, (INET, UNIX)),
        Allowed("observed", "x86_64", "statx", SEEN),
        Allowed("observed", "x86_64", "getuid", SEEN),
        Allowed("observed", "x86_64", "getgid", (said("widened", "spare"),)),
        Allowed("observed", "x86_64", "mount", (said("user", "for the nightly job"),)),
        Allowed("observed", "x86_64", "access", (*SEEN, Reason("failed", ("ENOENT",)))),
        Allowed("observed", "i386", "read", SEEN),
        Allowed("equivalent", "x86_64", "newfstatat", (said("equivalent", "reads attributes"),), stands_for=("statx",)),
        Allowed("equivalent", "x86_64", "time", (said("equivalent", "vDSO"),)),
        Allowed("base", "x86_64", "execve", (Reason("base", ("runc",)),)),
        Allowed("base", "x86_64", "statx", (Reason("base", ("runc",)),)),
    ),
    refused=(Refused("clone3", "ENOSYS"),),
    capabilities=(Capability("CAP_CHOWN", SEEN),),
    has_files=True,
    files=(FileRule("/etc/app", ("read", "write", "create", "times")),),
    sockets=(SocketRule("inet", "stream", 6, ("connect",), SEEN),),
    signals=(SignalRule("TERM", "self", SEEN),),
)
EVERYTHING = Choice(reviewers=True, untestable=True)


def labels(policy: Policy, choice: Choice) -> list[list[str]]:
    return [[f"{entry.section} {entry.label}" for entry in group] for group in candidates(policy, choice)]


def test_candidates_in_groups() -> None:
    observed, equivalent = "syscalls.observed", "syscalls.equivalent"
    accesses = [f"files /etc/app {word}" for word in ("read", "write", "create", "times")]
    files = [accesses, ["network inet stream 6", "signals TERM to self"]]
    assert labels(POLICY, Choice()) == [
        ["capabilities CAP_CHOWN"],
        [f"{equivalent} newfstatat", f"{equivalent} time"],
        [f"{observed} access"],
        [
            f"{observed} getgid",  # nobody saw it: that getgid always succeeds is no reason to keep it
            f"{observed} read",
            f"{observed} socket {{domain: AF_INET}}",
            f"{observed} socket {{domain: AF_UNIX}}",
            f"{observed} statx",
            f"{observed} i386:read",
        ],
        *files,
    ]
    assert labels(POLICY, Choice(frozenset({"capabilities"}))) == [["capabilities CAP_CHOWN"]]
    assert labels(POLICY, Choice(frozenset({"files"}))) == files
    everything = [label for group in labels(POLICY, EVERYTHING) for label in group]
    assert {f"{observed} mount", f"{observed} getuid"} <= set(everything)
    assert not [label for label in everything if label.startswith("syscalls.base")]
    assert len(everything) == len(set(everything))


def test_what_is_kept_says_why() -> None:
    kept = {entry.label: why for entry, why in kept_anyway(POLICY, Choice())}
    assert kept.keys() == {"mount", "getuid"}
    assert kept["mount"] == "a reviewer wrote it"
    assert "getuid(2)" in kept["getuid"]
    assert not kept_anyway(POLICY, Choice(frozenset({"capabilities"})))
    assert not kept_anyway(POLICY, EVERYTHING)


def test_a_call_without_its_last_rule_is_gone_and_not_open() -> None:
    rules = [entry for group in candidates(POLICY, Choice()) for entry in group if entry.item == "socket"]
    one = without(POLICY, frozenset(rules[:1]), Choice())
    assert [row.rules for row in one.syscalls if row.name == "socket"] == [(UNIX,)]
    assert not [row for row in without(POLICY, frozenset(rules), Choice()).syscalls if row.name == "socket"]


def test_what_programs_do_without_is_refused_as_generate_would() -> None:
    gone = frozenset({Entry("syscalls.observed", "statx")})
    assert [row.name for row in without(POLICY, gone, Choice()).refused] == ["clone3"], "the base still allows it"
    alone = without_base(without(POLICY, gone, Choice()))
    assert [(row.name, row.errno) for row in alone.refused] == [("clone3", "ENOSYS"), ("statx", "ENOSYS")]
    assert not [row for row in alone.syscalls if row.section == "base"]


def test_an_abi_goes_with_its_last_call() -> None:
    assert without(POLICY, frozenset({Entry("syscalls.observed", "i386:read")}), Choice()).abis == ("x86_64",)
    assert without(POLICY, frozenset({Entry("syscalls.observed", "read")}), Choice()).abis == ("x86_64", "i386")


def test_equivalents_that_are_kept_go_with_what_they_stand_for() -> None:
    gone = frozenset({Entry("syscalls.observed", "statx")})
    kept = Choice(equivalents=False)
    assert not [
        entry for group in candidates(POLICY, kept) for entry in group if entry.section == "syscalls.equivalent"
    ]
    assert [row.name for row in without(POLICY, gone, kept).syscalls if row.section == "equivalent"] == ["time"]
    assert [row.name for row in without(POLICY, gone, Choice()).syscalls if row.section == "equivalent"] == [
        "newfstatat",
        "time",
    ]


def test_parts_of_a_file_rule() -> None:
    """Each access may go alone, also where AppArmor cannot tell it from another one."""
    left = without(POLICY, frozenset({Entry("files", "/etc/app", "write")}), Choice())
    assert [(row.pattern, row.access) for row in left.files] == [("/etc/app", ("read", "create", "times"))]
    gone = frozenset(entry for group in candidates(POLICY, Choice(frozenset({"files"}))) for entry in group)
    empty = without(POLICY, gone, Choice())
    assert empty.files == ()
    assert empty.has_files
    assert not empty.sockets
    assert not empty.signals


@given(st.randoms(use_true_random=False))
def test_less_allows_less_and_can_be_written(chance: random.Random) -> None:
    """Whatever is taken away: the profile allows no more than before, and the policy reads back as it is."""
    everything = [entry for group in candidates(POLICY, EVERYTHING) for entry in group]
    gone = frozenset(entry for entry in everything if chance.random() < 0.5)
    left = without(POLICY, gone, EVERYTHING)
    assert dumps(loads(dumps(left).encode(), "left")) == dumps(left)
    rest = [entry for group in candidates(left, EVERYTHING) for entry in group]
    assert sorted(rest) == sorted(set(everything) - gone)
    before, after = ({row.name for row in policy.syscalls} for policy in (POLICY, left))
    assert after <= before
    assert set(left.needed()) <= set(POLICY.needed())
    allowed = {
        name
        for rule in profile(left, "errno")["syscalls"]
        if rule["action"] == "SCMP_ACT_ALLOW"
        for name in rule["names"]
    }
    assert allowed == after


def test_fingerprints_tell_what_is_enforced() -> None:
    told = replace(
        POLICY, capabilities=tuple(replace(row, because=(said("user", "else"),)) for row in POLICY.capabilities)
    )
    assert fingerprint(told) == fingerprint(POLICY)
    others = [
        without(POLICY, frozenset({entry}), Choice()) for group in candidates(POLICY, EVERYTHING) for entry in group
    ]
    others += [granting(POLICY, CHECKED), without_files(POLICY), replace(POLICY, no_new_privs=False)]
    prints = [fingerprint(policy) for policy in others]
    # The base allows statx too, and what one ABI may call all may.
    assert prints.count(fingerprint(POLICY)) == len(["statx", "read"])
    assert len(set(prints)) == len(prints) - 1
