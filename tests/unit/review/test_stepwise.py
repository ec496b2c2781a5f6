"""A review of changes: every sequence of answers ends in a policy between the old and the new one."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from unit.policy.test_changes import content
from unit.policy.test_merge import policies
from unit.policy.test_threeway import RELAXED, generated

from profiler.kernel.risks import LEVELS
from profiler.policy.document import dumps, loads
from profiler.policy.model import Allowed, Capability, FileRule, Policy, Transition
from profiler.review.diff import compare
from profiler.review.rights import of_policy
from profiler.review.stepwise import RISKY, Changes, Review


def play(review: Review, keys: str) -> Review:
    """The review after these keys, of which those that do nothing are passed over."""
    for key in keys:
        if review.done:
            break
        match key:
            case "y" | "n":
                review = review.answered(key == "y")
            case "a" | "d":
                review = review.rest(key == "a")
            case "+" | "-":
                review = review.resized(1 if key == "+" else -1) or review
            case _:
                review = review.moved(1 if key in "jJ" else -1, key.islower()) or review
    return review


@RELAXED
@given(policies(), policies(), st.text("ynad+-jJkK", max_size=12))
def test_any_answers_make_a_policy(old: Policy, new: Policy, keys: str) -> None:
    changes = Changes(old, new)
    if not changes.choices:
        return
    review = play(Review.of(changes.choices), keys)
    made = changes.policy(review.taken)
    assert dumps(loads(dumps(made).encode(), "made")) == dumps(made)
    if not set("+-") & set(keys):
        for name, rows in content(made).items():
            if isinstance(rows, set):
                assert rows <= content(old)[name] | content(new)[name]


@RELAXED
@given(policies(), policies())
def test_yes_to_all_is_the_new_policy_and_no_to_all_the_old_one(old: Policy, new: Policy) -> None:
    changes = Changes(old, new)
    if not changes.choices:
        return
    assert content(changes.policy(play(Review.of(changes.choices), "a").taken)) == content(new)
    assert not compare(of_policy(old, "old"), of_policy(changes.policy({}), "new"), exact=True).changes


def review_of(number: int) -> Review:
    """A review of some files."""
    old = generated()
    files = (FileRule(f"/srv/x/{index}", ("read", "write")) for index in range(number))
    return Review.of(Changes(old, replace(old, files=(*old.files, *files))).choices)


def test_moving() -> None:
    review = review_of(3)
    assert review.moved(-1) is None
    second = review.moved(1)
    assert second is not None
    assert second.at == 1
    after = second.answered(False)
    assert (after.at, after.answers) == (2, (None, False, None))
    back = after.moved(-1, undecided=True)
    assert back is not None
    assert back.at == 0
    last = after.answered(True)
    assert last.at == 0, "the first that is undecided"
    assert last.answered(True).done


def test_the_rest() -> None:
    review = review_of(4).answered(False)
    assert review.rest(True).answers == (False, True, True, True)
    assert review.rest(False).answers == (False, False, False, False)
    asked = review.rest(True, lambda index, level: index == 2)
    assert (asked.answers, asked.at) == ((False, True, None, True), 2)


def test_the_riskiest_come_first() -> None:
    old = generated()
    new = replace(
        old,
        files=(*old.files, FileRule("/srv/x", ("read",)), FileRule("/etc/shadow", ("read",))),
        capabilities=(*old.capabilities, Capability("CAP_SYS_ADMIN")),
    )
    changes = Changes(old, new)
    ranks = [risk.rank for index in range(3) if (risk := changes.risk(index, changes.choices[index].classes.proposed))]
    assert ranks == sorted(ranks, reverse=True)
    assert ranks[0] == LEVELS.index("critical")
    assert ranks[1] >= RISKY
    assert [choice.item for choice in changes.choices][::2] == ["CAP_SYS_ADMIN", "/srv/x"]


def test_what_a_class_opens_is_shown() -> None:
    old = generated()
    changes = Changes(old, replace(old, files=(*old.files, FileRule("/etc/ssl/key", ("read",)))))
    (choice,) = changes.choices
    tree = next(at for at, level in enumerate(choice.classes.levels) if "{tree}" in level.words)
    assert [row.name for row in changes.rights(0, tree)] == ["/etc/ssl/{tree}"]


def test_less_leaves_out_what_follows() -> None:
    old = generated()
    new = replace(
        old,
        files=(*old.files, FileRule("/usr/bin/tool", ("read", "execute"))),
        transitions=(*old.transitions, Transition("/usr/bin/tool", None)),
        syscalls=(*old.syscalls, Allowed("observed", "x86_64", "chown")),
    )
    changes = Changes(old, new)
    at = next(index for index, choice in enumerate(changes.choices) if choice.section == "files")
    assert changes.choices[at].classes.levels[0].words == "without execute"
    assert changes.policy({at: 0}).transitions == old.transitions
    assert changes.policy({at: 1}).transitions == new.transitions
