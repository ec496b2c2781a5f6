"""Which patterns hold which, against texts that fit them; which rules allow which uses."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs import examples
from unit.policy.resources import FILES, RESOURCES, SORTS

from profiler.policy.covering import EPHEMERAL, FileRules, Resource, covers, grants, left
from profiler.policy.model import FileRule, InspectionRule, MountRule, SignalRule, SocketRule, Transition
from profiler.policy.patterns import ALPHABETS, CLASSES, Class, Literal, Token, dumps, is_literal, literal, matches
from profiler.trace.model import FILE_ACCESSES, FILE_KINDS, FILE_STATES, SIGNAL_WHOM, SOCKET_OPERATIONS, WHOM

TEXTS = {
    "pid": st.integers(1, 9999999).map(str),
    "tid": st.integers(1, 9999999).map(str),
    "uuid": st.uuids().map(str),
    "hex": st.sampled_from([16, 32, 40, 64]).flatmap(
        lambda length: st.text("0123456789abcdef", min_size=length, max_size=length)
    ),
    "digits": st.text("0123456789", min_size=1, max_size=20),
    "random": st.sampled_from([6, 8, 10]).flatmap(
        lambda length: st.text("abcXYZ019_", min_size=length, max_size=length)
    ),
    "date": st.dates().map(lambda day: f"20{day.year % 100:02}-{day.month:02}-{day.day:02}"),
    "version": st.lists(st.integers(0, 99), min_size=1, max_size=4).map(lambda parts: ".".join(map(str, parts))),
    "name": st.text("ab1.-_", min_size=1, max_size=6),
    "tree": st.lists(st.text("ab1", min_size=1, max_size=3), min_size=1, max_size=3).map("/".join),
    "home": st.sampled_from(["/root", "/home/ann", "/home/1"]),
    "hex:2": st.text("0123456789abcdefABCDEF", min_size=2, max_size=2),
    "hex:1-16": st.text("019afAF", min_size=1, max_size=16),
    "digits:3": st.text("0123456789", min_size=3, max_size=3),
    "lower:7-13": st.text("01az", min_size=7, max_size=13),
    "upper:8": st.text("01AZ", min_size=8, max_size=8),
    "random:6": st.text("01AZaz_", min_size=6, max_size=6),
    "base64:6-8": st.text("01AZaz_-", min_size=6, max_size=8),
}


def test_every_class_has_texts() -> None:
    assert TEXTS.keys() >= CLASSES.keys()
    assert {name.split(":")[0] for name in TEXTS if ":" in name} == ALPHABETS.keys()


PIECES = st.sampled_from(
    [
        Literal("/srv"),
        Literal("/"),
        Literal("a"),
        Literal("1"),
        Literal("-"),
        Literal(".so."),
        Literal("/home/"),
        Literal("/root"),
    ]
)
TOKENS: st.SearchStrategy[Token] = PIECES | st.sampled_from(sorted(set(TEXTS) - {"home"})).map(Class)


@st.composite
def patterns(draw: st.DrawFn) -> list[Token]:
    start: Token = draw(st.sampled_from([Class("home"), Literal("/srv/"), Literal("/home/"), Literal("/root")]))
    return [start, *draw(st.lists(TOKENS, max_size=4))]


@settings(max_examples=examples(600))
@given(patterns(), patterns(), st.data())
def test_a_pattern_that_covers_another_fits_all_its_texts(
    outer: list[Token], inner: list[Token], data: st.DataObject
) -> None:
    for one in (outer, [*inner[:1], *outer[1:]], [*inner[:-1], Class("tree")], [*inner[:-1], Class("name")]):
        if covers(dumps(one), dumps(inner)):
            text = "".join(
                token.text if isinstance(token, Literal) else data.draw(TEXTS[token.name]) for token in inner
            )
            assert matches(dumps(inner), text)
            assert matches(dumps(one), text)


@pytest.mark.parametrize(
    ("outer", "inner", "wanted"),
    [
        ("/etc/{name}", "/etc/passwd", True),
        ("/etc/{name}", "/etc/ssl/x", False),
        ("/etc/{tree}", "/etc/ssl/{name}", True),
        ("/etc/{tree}", "/etc", False),
        ("/etc/{name}", "/etc/{tree}", False),
        ("/etc/{tree}", "/etc/{tree}", True),
        ("/etc/{tree}", "/etc/{name}/{tree}", True),
        ("/proc/{pid}/{name}", "/proc/{pid}/stat", True),
        ("/proc/{digits}/stat", "/proc/{pid}/stat", True),
        ("/proc/{pid}/stat", "/proc/{digits}/stat", False),
        ("/proc/{pid}/stat", "/proc/0/stat", False),
        ("/proc/{name}/stat", "/proc/{pid}/stat", True),
        ("/tmp/x{random}", "/tmp/xabc123", True),
        ("/tmp/{name}", "/tmp/x{random}.{digits}", True),
        ("/tmp/x{random}", "/tmp/{name}", False),
        ("{home}/.ssh", "/home/ann/.ssh", True),
        ("{home}/.ssh", "/home/{name}/.ssh", True),
        ("{home}/.ssh", "/root/.ssh", True),
        ("/home/{name}/.ssh", "{home}/.ssh", False),
        ("/{tree}", "/home/{name}", True),
        ("/a{name}b", "/axxb", True),
        ("/{random}", "/{random:8}", True),
        ("/{base64:6}", "/{random:6}", True),
        ("/{random:6}", "/{base64:6}", False),
        ("/{random:8}", "/{random}", False),
        ("/{hex:1-16}", "/{digits:3}", True),
        ("/{hex:1-16}", "/{pid}", True),
        ("/{digits:3}", "/{pid}", False),
        ("/{lower:7-13}", "/{lower:8-12}", True),
        ("/{hex}", "/{hex:40}", True),
        ("/a{name}b", "/a{name}c", False),
        (literal("/a{x}\\"), literal("/a{x}\\"), True),
        (literal("/a\udcff") + "{name}", literal("/a\udcffb"), True),
    ],
)
def test_examples(outer: str, inner: str, wanted: bool) -> None:
    assert covers(outer, inner) is wanted


# --- rules and uses


def rule(access: str, pattern: str = "/srv/a", **members: Any) -> FileRule:
    return FileRule(pattern, tuple(access.split()), members.pop("kinds", ("file",)), (), **members)


ALSO = {("write", "append"), ("lock_exclusive", "lock"), ("read", "list")}
"""What else an access of a rule allows; no other access allows another."""


@pytest.mark.parametrize(("has", "wants"), list(product(FILE_ACCESSES, repeat=2)))
def test_every_pair_of_accesses(has: str, wants: str) -> None:
    assert grants(rule(has), rule(wants)) is (has == wants or (has, wants) in ALSO)
    assert (left([rule(has)], rule(wants), exact=True) is None) is (has == wants)


def test_a_rule_that_only_sets_the_mode_writes_nothing() -> None:
    for word in set(FILE_ACCESSES) - {"mode"}:
        assert left([rule("mode")], rule(f"mode {word}")) == rule(word)


def subsets(words: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [tuple(word for word in words if word in chosen) for chosen in map(set, product(("", *words), repeat=2))]


@pytest.mark.parametrize(("has", "wants"), list(product(dict.fromkeys(subsets(WHOM)), repeat=2)))
def test_whose(has: tuple[str, ...], wants: tuple[str, ...]) -> None:
    """Without words a rule is for anybody's."""
    wanted = not has or (bool(wants) and set(wants) <= set(has))
    assert grants(rule("read", whose=has), rule("read", whose=wants)) is wanted


@pytest.mark.parametrize(("has", "wants"), list(product(filter(None, dict.fromkeys(subsets(FILE_STATES))), repeat=2)))
def test_states(has: tuple[str, ...], wants: tuple[str, ...]) -> None:
    assert grants(rule("read", states=has), rule("read", states=wants)) is (set(wants) <= set(has))


@pytest.mark.parametrize(("has", "wants"), list(product((True, False), repeat=2)))
def test_owner(has: bool, wants: bool) -> None:
    assert grants(rule("read", owner=has), rule("read", owner=wants)) is (wants or not has)


@pytest.mark.parametrize(
    ("has", "wants", "wanted"),
    [
        ((), (), True),
        ((), ("/a",), True),
        (("/a",), ("/a",), True),
        (("/{name}",), ("/a", "/b"), True),
        (("/a",), ("/a", "/b"), False),
        (("/a",), (), False),
    ],
)
def test_existing(has: tuple[str, ...], wants: tuple[str, ...], wanted: bool) -> None:
    """Which files get another name matters to links alone."""
    assert grants(rule("link", existing=has), rule("link", existing=wants)) is wanted
    assert grants(rule("read link", existing=has), rule("read", existing=wants))


def test_rules_share_what_gets_another_name() -> None:
    rules = [rule("link", existing=("/a",)), rule("link", "/srv/{name}", existing=("/b",))]
    assert left(rules, rule("link", existing=("/a", "/b"))) is None
    assert left(rules, rule("link", existing=("/a", "/c"))) == rule("link", existing=("/c",))


@pytest.mark.parametrize(("has", "wants"), list(product(FILE_KINDS, repeat=2)))
def test_kinds(has: str, wants: str) -> None:
    """The kind matters where one is made; what is read or written is the path."""
    assert grants(rule("make", kinds=(has,)), rule("make", kinds=(wants,))) is (has in (wants, "unknown"))
    assert grants(rule("write make", kinds=(has,)), rule("write", kinds=(wants,)))


def socket(operations: str, **members: Any) -> SocketRule:
    tables = {name: tuple(members.pop(name, {}).items()) for name in ("ports", "addresses")}
    return replace(SocketRule("inet", "stream", 6, tuple(operations.split()), (), **tables), **members)


@pytest.mark.parametrize(
    ("has", "wants", "rest"),
    [
        (socket("create connect"), socket("connect"), None),
        (socket("create"), socket("create connect"), socket("connect")),
        (socket("create"), socket("create", family="inet6"), socket("create", family="inet6")),
        (socket("create"), socket("create", type="dgram"), socket("create", type="dgram")),
        (socket("create"), socket("create", protocol=132), socket("create", protocol=132)),
        (socket("connect", ports={"connect": (80,)}), socket("connect", ports={"connect": (80,)}), None),
        (
            socket("bind connect", ports={"bind": (80,)}),
            socket("bind connect", ports={"bind": (80, 81), "connect": (80,)}),
            socket("bind connect", ports={"bind": (81,), "connect": (80,)}),
        ),
        (socket("connect"), socket("connect", ports={"connect": (EPHEMERAL[0],)}), None),
        (
            socket("bind"),
            socket("bind", ports={"bind": (EPHEMERAL[0],)}),
            socket("bind", ports={"bind": (EPHEMERAL[0],)}),
        ),
        (
            socket("connect", addresses={"connect": ("/run/{name}",)}),
            socket("connect", addresses={"connect": ("/run/a", "@a")}),
            socket("connect", addresses={"connect": ("@a",)}),
        ),
        (
            socket("connect bind", addresses={"bind": ("/run/a",)}),
            socket("connect", addresses={"connect": ("/run/a",)}),
            socket("connect", addresses={"connect": ("/run/a",)}),
        ),
    ],
)
def test_sockets(has: SocketRule, wants: SocketRule, rest: SocketRule | None) -> None:
    assert left([has], wants) == rest


@pytest.mark.parametrize(("has", "wants"), list(product(SOCKET_OPERATIONS, repeat=2)))
def test_every_pair_of_operations(has: str, wants: str) -> None:
    assert grants(socket(has), socket(wants)) is (has == wants)


@pytest.mark.parametrize(("has", "wants"), list(product(SIGNAL_WHOM, repeat=2)))
def test_signals(has: str, wants: str) -> None:
    assert grants(SignalRule("TERM", has, ()), SignalRule("TERM", wants, ())) is (has == wants)
    assert not grants(SignalRule("TERM", has, ()), SignalRule("KILL", wants, ()))


@pytest.mark.parametrize(("has", "wants"), list(product(WHOM, repeat=2)))
def test_inspections(has: str, wants: str) -> None:
    assert grants(InspectionRule("read", has, ()), InspectionRule("read", wants, ())) is (has == wants)
    assert not grants(InspectionRule("read", has, ()), InspectionRule("trace", wants, ()))


def test_executions() -> None:
    step = Transition("/bin/{name}", "/usr/{tree}", ())
    assert grants(step, Transition("/bin/sh", "/usr/bin/make", ()))
    assert not grants(step, Transition("/sbin/sh", "/usr/bin/make", ()))
    assert not grants(step, Transition("/bin/sh", "/bin/sh", ()))
    assert not grants(step, Transition("/bin/sh", None, ()))
    assert not grants(Transition("/bin/sh", None, ()), Transition("/bin/sh", "/bin/sh", ()))


def test_mounts() -> None:
    known = MountRule("mount", "tmpfs", "/srv/{name}", "tmpfs", ("nodev", "nosuid"), ())
    assert grants(known, replace(known, target="/srv/a", flags=("nosuid", "nodev")))
    for other in (
        {"operation": "bind"},
        {"source": "none"},
        {"source": None},
        {"target": "/mnt"},
        {"target": None},
        {"filesystem": "proc"},
        {"flags": ("nodev",)},
        {"flags": ("nodev", "nosuid", "noexec")},
    ):
        assert not grants(known, replace(known, **other))
    assert not grants(replace(known, source=None), known)


@given(RESOURCES, RESOURCES)
def test_only_rules_of_one_sort_are_compared(one: Resource, other: Resource) -> None:
    assert type(one) is type(other) or not grants(one, other)


@settings(max_examples=examples(150))
@given(RESOURCES)
def test_reflexive(one: Resource) -> None:
    assert grants(one, one)
    assert left([one], one, exact=True) is None


@settings(max_examples=examples(150))
@given(st.data())
def test_transitive(data: st.DataObject) -> None:
    sort = data.draw(st.sampled_from(SORTS))
    one, two, three = (data.draw(sort) for _ in range(3))
    if grants(one, two) and grants(two, three):
        assert grants(one, three)


@given(st.lists(patterns(), min_size=1, max_size=8), st.lists(st.booleans(), min_size=8, max_size=8))
def test_an_index_finds_every_pattern(listed: list[list[Token]], wide: list[bool]) -> None:
    """With pairs of a pattern and a wider one: unrelated patterns seldom cover one another."""
    texts = [dumps(tokens) for tokens in listed]
    texts += [dumps([*tokens[:1], Class("tree")]) for tokens, also in zip(listed, wide, strict=False) if also]
    found = FileRules(rule("read", text) for text in texts)
    for text in texts:
        around = [one.pattern for one in found.all if covers(one.pattern, text)]
        assert sorted(one.pattern for one in found.around(text)) == sorted(around)
        if not is_literal(text):
            inside = [one.pattern for one in found.all if covers(text, one.pattern)]
            assert [one.pattern for one in found.inside(text)] == inside


@settings(max_examples=examples(150))
@given(st.lists(FILES, max_size=4), FILES)
def test_an_index_changes_no_answer(rules: list[FileRule], use: FileRule) -> None:
    found = FileRules(rules)
    for exact in (False, True):
        assert found.left(use, exact) == left(rules, use, exact)
    assert set(found.around(use.pattern)) == {one for one in rules if covers(one.pattern, use.pattern)}


@settings(max_examples=examples(150))
@given(st.lists(FILES, max_size=3), FILES)
def test_what_is_left_is_part_of_the_use_and_not_granted(rules: list[FileRule], use: FileRule) -> None:
    rest = left(rules, use)
    if rest is not None:
        assert grants(use, rest)
        assert left(rules, rest) == rest
        assert left([*rules, rest], use) is None


@pytest.mark.parametrize(
    ("operation", "flags", "granted"),
    [
        ("remount", ("bind", "noexec", "nosuid", "rdonly", "remount"), True),
        ("remount", ("bind", "nosuid", "remount"), True),
        ("remount", ("bind", "rdonly", "remount"), False),
        ("remount", ("nosuid", "remount"), False),
        ("remount", ("bind", "noatime", "nosuid", "remount"), False),
        ("mount", ("bind", "nosuid", "remount"), False),
    ],
)
def test_a_remount_may_restrict_further(operation: str, flags: tuple[str, ...], granted: bool) -> None:
    rule = MountRule("remount", None, "/srv", None, ("bind", "nosuid", "remount"), ())
    assert grants(rule, MountRule(operation, None, "/srv", None, flags, ())) is granted


def test_a_new_file_system_has_the_flags_of_its_rule() -> None:
    rule = MountRule("mount", "tmpfs", "/srv", "tmpfs", ("nosuid",), ())
    assert not grants(rule, replace(rule, flags=("noexec", "nosuid")))
