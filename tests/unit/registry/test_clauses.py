"""The intersection of profiles never allows more than either, and says exactly what is left."""

from __future__ import annotations

from errno import EPERM

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.registry.clauses import (
    STRICTEST,
    Answer,
    Clause,
    Comparison,
    Entry,
    Filter,
    answer,
    complement,
    dependable,
    filter_of,
    holds,
    intersection,
    stricter,
)

ALLOW, REFUSE = Answer("ALLOW"), Answer("ERRNO", EPERM)
VALUES = st.sampled_from([0, 1, 2, 3, 38, 39, 40, 1 << 32, (1 << 64) - 1])
OPERATORS = ("EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ")
TESTS = st.builds(Comparison, st.integers(0, 2), VALUES, VALUES, st.sampled_from(OPERATORS))
ANSWERS = st.sampled_from([ALLOW, ALLOW, ALLOW, REFUSE, Answer("LOG"), Answer("ERRNO", 38), Answer("KILL_PROCESS")])
ENTRIES = st.builds(
    Entry,
    st.lists(st.sampled_from(["read", "socket"]), min_size=1, max_size=2, unique=True).map(tuple),
    ANSWERS,
    st.lists(TESTS, max_size=3).map(tuple),
)
FILTERS = st.builds(
    filter_of,
    st.sampled_from([REFUSE, REFUSE, Answer("ERRNO", 38), ALLOW, Answer("KILL_PROCESS")]),
    st.lists(ENTRIES, max_size=5),
)
REGISTERS = st.tuples(VALUES, VALUES, VALUES)


def matching(profile: Filter, name: str, registers: tuple[int, ...]) -> list[Answer]:
    """The answers of all clauses that hold, or the default."""
    found = [
        clause.answer
        for clause in profile.calls.get(name, ())
        if all(holds(test, registers[test.position]) for test in clause.tests)
    ]
    return found or [profile.default]


def at_most(profile: Filter, name: str, registers: tuple[int, ...]) -> int:
    """How loose the answer to a call can be, whatever libseccomp makes of the rules."""
    clauses = profile.calls.get(name, ())
    answers = matching(profile, name, registers)
    if clauses and clauses[0].tests and not dependable(clauses):
        answers = [profile.default, *(clause.answer for clause in clauses)]
    return min(STRICTEST.index(one.action) for one in answers)


@given(FILTERS, FILTERS, st.lists(REGISTERS, min_size=1, max_size=8))
@settings(deadline=None)
def test_nothing_is_allowed_that_one_of_them_refuses(left: Filter, right: Filter, calls: list[tuple[int, ...]]) -> None:
    made = intersection(left, right)
    for name in ("read", "socket", "other"):
        clauses = made.calls.get(name, ())
        assert all(clause.tests for clause in clauses) or len(clauses) == 1
        assert dependable(clauses)
        for registers in calls:
            (result,) = set(matching(made, name, registers))
            for profile in (left, right):
                assert STRICTEST.index(result.action) <= at_most(profile, name, registers), (name, registers)


@given(FILTERS)
def test_nothing_is_lost_against_a_baseline_that_allows_all(profile: Filter) -> None:
    if all(dependable(clauses) or not clauses[0].tests for clauses in profile.calls.values()):
        made = intersection(Filter(ALLOW, {}), profile)
        for name, clauses in profile.calls.items():
            wanted = {clause for clause in clauses if clause.answer.allows}
            assert wanted <= {*made.calls.get(name, ())} or profile.default.allows


def only(*tests: Comparison) -> tuple[Clause, ...]:
    return tuple(Clause(ALLOW, (test,)) for test in tests)


def left(theirs: tuple[Clause, ...], ours: tuple[Clause, ...]) -> tuple[Clause, ...]:
    return intersection(Filter(REFUSE, {"socket": theirs}), Filter(REFUSE, {"socket": ours})).calls.get("socket", ())


DOMAIN = only(Comparison(0, 38, 0, "LT"), Comparison(0, 39, 0, "EQ"), Comparison(0, 40, 0, "GT"))


def test_a_call_without_conditions_gets_those_of_the_baseline() -> None:
    assert set(left(DOMAIN, (Clause(ALLOW),))) == set(DOMAIN)


def test_other_conditions_on_the_same_argument_are_refused() -> None:
    assert left(DOMAIN, only(Comparison(0, 0xFFFFFFFF, 2, "MASKED_EQ"))) == ()


def test_conditions_on_other_arguments_are_joined() -> None:
    one = only(Comparison(1, 1, 0, "EQ"))
    (found,) = left(only(Comparison(0, 40, 0, "NE")), one)
    assert found == Clause(ALLOW, (Comparison(0, 40, 0, "NE"), Comparison(1, 1, 0, "EQ")))


def test_two_rules_of_two_conditions_are_refused() -> None:
    ours = (
        Clause(ALLOW, (Comparison(0, 1, 0, "EQ"), Comparison(1, 2, 0, "EQ"))),
        Clause(ALLOW, (Comparison(0, 3, 0, "EQ"), Comparison(1, 4, 0, "EQ"))),
    )
    assert not dependable(ours)
    assert left((Clause(ALLOW),), ours) == ()


def test_an_errno_of_its_own_gives_way_to_conditions() -> None:
    """Podman answers ENOSYS by default, so a call that profgen allows with conditions would need two answers."""
    theirs = Filter(Answer("ERRNO", 38), {"fcntl": (Clause(ALLOW),)})
    ours = Filter(REFUSE, {"fcntl": only(Comparison(1, 0xFFFFFFFF, 3, "MASKED_EQ"))})
    assert intersection(theirs, ours).calls["fcntl"] == only(Comparison(1, 0xFFFFFFFF, 3, "MASKED_EQ"))


def test_actions() -> None:
    assert answer("SCMP_ACT_KILL", 5) == Answer("KILL_THREAD")
    assert answer("SCMP_ACT_ERRNO", None) == Answer("ERRNO", EPERM)
    assert stricter(ALLOW, REFUSE) == REFUSE == stricter(REFUSE, Answer("ERRNO", 38))
    assert stricter(Answer("KILL_PROCESS"), Answer("KILL_THREAD")) == Answer("KILL_PROCESS")


@pytest.mark.parametrize("operator", OPERATORS)
def test_complements(operator: str) -> None:
    test = Comparison(0, 5, 0, operator)
    other = complement(test)
    assert (other is None) == (operator == "MASKED_EQ")
    for value in (0, 4, 5, 6, 1 << 40):
        assert other is None or holds(test, value) != holds(other, value)
