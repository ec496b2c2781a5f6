"""A policy's text with additions: what people wrote into it stays, or nothing is written."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.denials.test_propose import opened, policy, refused

from profiler.denials.model import Denial
from profiler.denials.propose import propose
from profiler.denials.rewrite import _Lines, has_comments, rewritten, unified
from profiler.policy.document import dumps, loads
from profiler.policy.model import Policy

ROWS = [refused("getpgid"), refused("accept"), opened("/srv/page", "read"), opened("/etc/app.conf", "lock")]


def after(rows: list[Denial]) -> Policy:
    return propose(policy(), rows).policy


def test_canonical_text_stays_canonical() -> None:
    assert rewritten(dumps(policy()), policy(), after(ROWS)) == dumps(after(ROWS))


def test_comments_stay() -> None:
    text = dumps(policy())
    mine = (
        text.replace("    read:\n", "    # asked the team: needed\n    read:   # yes\n").replace(
            "files:\n", "files:  # mine\n"
        )
        + "# the end\n"
    )
    assert mine.count("#") == text.count("#") + 4
    result = rewritten(mine, policy(), after(ROWS))
    assert result is not None
    for line in mine.splitlines():
        if "#" in line:
            assert line in result.splitlines()
    assert dumps(loads(result.encode(), "x")) == dumps(after(ROWS))


def test_entries_of_the_users_own_order_stay() -> None:
    text = dumps(policy())
    at = text.index("    read:\n")
    end = text.index("    ", text.index("\n", at) + 1)
    entry = text[at : text.index("socket:", at) - 4]
    assert end
    moved = text.replace(entry, "").replace("  equivalent:", entry + "  equivalent:")
    assert dumps(loads(moved.encode(), "x")) == text
    result = rewritten(moved, policy(), after([refused("getpgid")]))
    assert result is not None
    assert result.replace("\n", "").count("    read:") == 1
    assert result.index("    read:") > result.index("    socket:")


def test_a_changed_line_that_is_not_ours_is_given_up() -> None:
    """The entry that is widened was written otherwise, with a comment in it."""
    text = dumps(policy()).replace("      access: [read]\n", "      access: [  read  ]  # only\n")
    assert dumps(loads(text.encode(), "x")) == dumps(policy())
    assert rewritten(text, policy(), after([opened("/etc/app.conf", "lock")])) is None
    assert has_comments(text, policy())


def test_what_counts_as_a_comment() -> None:
    text = dumps(policy())
    assert not has_comments(text, policy())
    assert not has_comments(text.replace("\n\n", "\n"), policy())
    assert has_comments(text + "# mine\n", policy())
    assert has_comments(text.replace("no_new_privs: true", "no_new_privs: true # mine"), policy())


@settings(deadline=None)
@given(seed=st.integers(0, 1 << 32), rows=st.lists(st.sampled_from(ROWS), unique=True), comments=st.integers(0, 12))
def test_comments_anywhere(seed: int, rows: list[Denial], comments: int) -> None:
    choose = random.Random(seed)
    lines = dumps(policy()).splitlines(keepends=True)
    for number in range(comments):
        lines.insert(choose.randrange(len(lines) + 1), f"{' ' * choose.randrange(8)}# note {number}\n")
    text = "".join(lines)
    new = after(rows)
    result = rewritten(text, policy(), new)
    if result is None:
        return
    assert dumps(loads(result.encode(), "x")) == dumps(new)
    assert [line for line in result.splitlines() if "# note" in line] == [
        line for line in text.splitlines() if "# note" in line
    ]


@pytest.mark.parametrize(
    ("name", "header"), [("policy.yaml", "--- a/policy.yaml\n+++ b/policy.yaml\n"), ("/x/p", "--- /x/p\n+++ /x/p\n")]
)
def test_the_change_is_one_that_patch_takes(name: str, header: str) -> None:
    change = unified(name, "a\nb\n", "a\nc\nb\n")
    assert change == header + "@@ -1,2 +1,3 @@\n a\n+c\n b\n"
    assert unified(name, "a\n", "a\n") == ""


LINES = st.lists(st.sampled_from(["a", "b", "c", *map(str, range(30))]), max_size=40)


@given(LINES, LINES)
@settings(max_examples=100, deadline=None)
def test_what_two_texts_have_in_common(before: list[str], after: list[str]) -> None:
    """Blocks in order in both, the same lines in each, and nothing that could be joined; the same text has one."""
    blocks = _Lines(before, after).get_matching_blocks()
    assert (blocks[-1].a, blocks[-1].b, blocks[-1].size) == (len(before), len(after), 0)
    for one, following in itertools.pairwise(blocks):
        assert before[one.a : one.a + one.size] == after[one.b : one.b + one.size]
        assert one.size
        assert one.a + one.size <= following.a
        assert one.b + one.size <= following.b
        assert not following.size or (one.a + one.size, one.b + one.size) != (following.a, following.b)
    assert len(_Lines(before, before).get_matching_blocks()) == 1 + bool(before)
    edited = [
        line
        for tag, _, _, low, high in _Lines(before, after).get_opcodes()
        if tag != "delete"
        for line in after[low:high]
    ]
    assert edited == after
