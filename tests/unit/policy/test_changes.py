"""The changes from one policy to another: each entry once, all of them together the other policy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from unit.policy.test_merge import policies
from unit.policy.test_threeway import RELAXED, generated

from profiler.policy.changes import KEYS, SWITCHES, Edit, Step, applied, edits, is_silent, place, steps
from profiler.policy.document import dumps, loads
from profiler.policy.model import Allowed, Capability, FileRule, Policy, SignalRule, Transition
from profiler.policy.reasons import said


def content(policy: Policy) -> dict[str, Any]:
    """A policy without the order of its entries."""
    return {name: set(getattr(policy, name)) for name in KEYS} | {name: getattr(policy, name) for name in SWITCHES}


@RELAXED
@given(policies(), policies())
def test_all_changes_together_make_the_other_policy(old: Policy, new: Policy) -> None:
    found = steps(old, new)
    chosen = [edit for step in found for edit in step.edits]
    made = applied(old, new, chosen)
    assert content(made) == content(new)
    assert made.abis == new.abis
    assert dumps(loads(dumps(made).encode(), "made")) == dumps(made)


@RELAXED
@given(policies(), policies())
def test_nothing_that_is_not_chosen_changes_rights(old: Policy, new: Policy) -> None:
    made = applied(old, new, ())
    assert all(is_silent(edit) for edit in edits(old, made))


@RELAXED
@given(policies())
def test_a_policy_does_not_differ_from_itself(policy: Policy) -> None:
    assert steps(policy, policy) == ()


def test_reasons_alone_are_not_a_change() -> None:
    old = generated()
    new = replace(old, capabilities=tuple(replace(row, because=(said("user", "mine"),)) for row in old.capabilities))
    assert steps(old, new) == ()
    assert applied(old, new, ()).capabilities == new.capabilities


def test_equivalents_and_executions_follow() -> None:
    old = generated()
    chown = Allowed("observed", "x86_64", "chown")
    same = Allowed("equivalent", "x86_64", "fchownat", stands_for=("chown",))
    program = FileRule("/usr/bin/tool", ("read", "execute", "map"))
    run = Transition("/usr/bin/tool", "/usr/sbin/app")
    new = replace(
        old,
        syscalls=(*old.syscalls, chown, same),
        files=(*old.files, program),
        transitions=(*old.transitions, run),
    )
    assert steps(old, new) == (
        Step(Edit("syscalls", (), (chown,)), (Edit("syscalls", (), (same,)),)),
        Step(Edit("files", (), (program,)), (Edit("transitions", (), (run,)),)),
    )
    assert all(step.removes for step in steps(new, old))


def test_two_rules_for_one_pattern_become_one() -> None:
    old = generated()
    wide = FileRule("/srv/{name}", ("read",))
    made = applied(old, old, [Edit("files", (), (wide,)), Edit("files", (), (replace(wide, access=("write",)),))])
    (found,) = [row for row in made.files if row.pattern == wide.pattern]
    assert found.access == ("read", "write")


def test_two_signals_that_were_widened_become_one() -> None:
    old = replace(generated(), signals=())
    outside = SignalRule("TERM", "outside")
    edits = [Edit("signals", (), (SignalRule("TERM", "workload"), outside)), Edit("signals", (), (outside,))]
    assert applied(old, replace(old, has_files=True), edits).signals == (outside, SignalRule("TERM", "workload"))


def test_an_architecture_comes_with_its_calls() -> None:
    old = generated()
    row = Allowed("observed", "i386", "read")
    new = replace(old, abis=(*old.abis, "i386"), syscalls=(*old.syscalls, row))
    (step,) = steps(old, new)
    assert applied(old, new, ()).abis == old.abis
    assert applied(old, new, step.edits).abis == new.abis
    assert applied(new, old, ()).abis == new.abis
    assert place("syscalls", row, "x86_64") == ("syscalls.observed", "i386:read")


def test_entries_that_stay_keep_their_order() -> None:
    old = replace(generated(), capabilities=(Capability("CAP_KILL"), Capability("CAP_CHOWN")))
    made = applied(old, old, [Edit("capabilities", (), (Capability("CAP_FOWNER"),))])
    assert [row.name for row in made.capabilities if row.name != "CAP_FOWNER"] == ["CAP_KILL", "CAP_CHOWN"]
