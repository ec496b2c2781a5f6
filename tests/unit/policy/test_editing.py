"""Comments that people wrote stay when the text of a policy is written anew."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.policy.making import call
from unit.policy.test_merge import allowed
from unit.policy.test_threeway import edited, generated

from profiler.policy.document import dumps, loads
from profiler.policy.editing import comments, merged, unified, with_comments
from profiler.policy.head import sealed


def test_where_comments_stand() -> None:
    policy = generated()
    text, _ = edited(
        policy,
        ("    read: {because: {observed: [app]}}\n", '    # above\n    read: {because: "# not one"}   # behind\n'),
        ("schema: ", "# at the top\nschema: "),
    )
    text += "# at the end\n"
    found = comments(text)
    assert [(row.text, row.place, row.same_line) for row in found] == [
        ("# at the top", ("schema",), False),
        ("# above", ("syscalls", "observed", "read"), False),
        ("# behind", ("syscalls", "observed", "read"), True),
        ("# at the end", None, False),
    ]
    assert comments(dumps(policy)) == ()


def test_a_comment_whose_place_is_gone_stays_near() -> None:
    text, ours = edited(generated(), ("    ptrace: ", "    # why this\n    # and that\n    ptrace: "))
    fewer = replace(ours, syscalls=tuple(row for row in ours.syscalls if row.name != "ptrace"))
    assert "    # why this\n    # and that\n    read: {" in with_comments(fewer, comments(text))


def test_members_of_lists_are_known_by_what_they_say() -> None:
    base = generated(sockets=[(2, 1, 6), (16, 3, 0)])
    text, _ = edited(base, ("        - {domain: AF_NETLINK", "        # routes\n        - {domain: AF_NETLINK"))
    wider = generated(sockets=[(1, 1, 0), (2, 1, 6), (10, 1, 6), (16, 3, 0)])
    assert "        # routes\n        - {domain: AF_NETLINK" in with_comments(wider, comments(text))


def test_comments_of_both_sides() -> None:
    base = generated()
    (one, _), (two, _), (old, _) = (
        edited(base, ("    read: {", f"    # {word}\n    read: {{"), *more)
        for word, more in (("mine", ()), ("theirs", ()), ("old", (("    openat: {", "    # gone\n    openat: {"),)))
    )
    found = merged(comments(old), comments(one), comments(two))
    assert [row.text for row in found] == ["# mine", "# theirs"]
    assert [row.text for row in merged(comments(one), comments(one), ())] == []


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1 << 32), number=st.integers(0, 12))
def test_comments_anywhere(seed: int, number: int) -> None:
    """None is lost, whatever line it stands on or behind, and the policy stays what it is."""
    choose = random.Random(seed)
    base = generated()
    lines = dumps(base).splitlines()
    for count in range(number):
        at = choose.randrange(len(lines) + 1)
        if choose.random() < 0.5 and at < len(lines) and lines[at] and not lines[at].startswith("#"):
            lines[at] += f" # note {count}"
        else:
            lines.insert(at, f"{' ' * choose.randrange(8)}# note {count}")
    text = "\n".join(lines) + "\n"
    result = with_comments(generated(call("bind"), calls=5), comments(text))
    for count in range(number):
        assert result.count(f"# note {count}\n") + result.count(f"# note {count} ") == 1
    again = loads(result.encode(), "again")
    assert allowed(again) == allowed(generated(call("bind"), calls=5))


def test_what_profgen_writes_is_not_a_comment_of_people() -> None:
    """Also of an earlier version of the policy, whose head said something else, and with a digest."""
    old = generated()
    text = sealed(dumps(old)).replace("    ptrace: ", "    getpid:\n    ptrace: ")
    assert comments(text) == ()
    assert with_comments(generated(call("bind")), comments(text)) == dumps(generated(call("bind")))
    assert [row.text for row in comments(text.replace("# capabilities", "# mine\n# capabilities"))] == ["# mine"]
    assert [row.text for row in comments(text.replace("\nfiles:", "\n# capabilities: mine\nfiles:"))] == [
        "# capabilities: mine"
    ]


def test_comments_within_an_entry_that_becomes_one_line() -> None:
    entry = "    read: {because: {observed: [app]}}\n"
    block = "    read:  # one\n      # two\n      because:  # three\n        observed: [app]  # four\n"
    text, _ = edited(generated(), (entry, block))
    result = with_comments(generated(), comments(text))
    assert f"    # two\n{entry[:-1]}  # one  # three  # four\n" in result


@pytest.mark.parametrize(
    ("name", "header"), [("policy.yaml", "--- a/policy.yaml\n+++ b/policy.yaml\n"), ("/x/p", "--- /x/p\n+++ /x/p\n")]
)
def test_the_change_is_one_that_patch_takes(name: str, header: str) -> None:
    change = unified(name, "a\nb\n", "a\nc\nb\n")
    assert change == header + "@@ -1,2 +1,3 @@\n a\n+c\n b\n"
    assert unified(name, "a\n", "a\n") == ""
