"""Merging policies: a union or an intersection of what they allow, in any order and grouping, with evidence added
up."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from inputs import examples
from unit.policy.making import call, check, rows, touching, trace, uses
from unit.policy.resources import POLICIES, resources
from unit.trace.strategies import traces

from profiler.errors import InputError
from profiler.kernel.arguments import spec_for
from profiler.policy.covering import left
from profiler.policy.derive import derive
from profiler.policy.document import dumps, loads
from profiler.policy.evidence import SEARCH
from profiler.policy.merge import PRODUCTS, intersect, merge, without_covered
from profiler.policy.model import (
    RULE_BUDGET,
    Allowed,
    Condition,
    FileRule,
    MountRule,
    Options,
    Policy,
    Refused,
    Rule,
    SignalRule,
    SocketRule,
    Transition,
)
from profiler.policy.reasons import Reason, said
from profiler.review.diff import compare
from profiler.review.rights import of_policy
from profiler.trace.merge import merge as merge_traces
from profiler.trace.model import FILES_FEATURE, Syscall, Trace

OBSERVED = (Reason("observed", ("app",)),)

RELAXED = settings(
    deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@st.composite
def recordings(draw: st.DrawFn) -> Trace:
    """Everything a recording holds, with calls that exist."""
    drawn = draw(traces())
    meta = replace(
        drawn.meta, features=(FILES_FEATURE,) if draw(st.integers(0, 5)) else (), runs=draw(st.integers(1, 3))
    )
    return replace(
        drawn, meta=meta, syscalls=tuple(replace(row, runs=draw(st.integers(1, meta.runs))) for row in draw(rows()))
    )


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    options = Options(
        equivalents=draw(st.booleans()),
        arguments=draw(st.integers(0, 9)) > 0,
        drop_failing=draw(st.booleans()),
        runtime=draw(st.sampled_from(["none", "none", "none", "runc"])),
        no_new_privs=draw(st.booleans()),
        generalise=draw(st.booleans()),
    )
    try:
        made = derive(draw(recordings()), options)
    except InputError:
        assume(False)
        raise
    assert loads(dumps(made).encode(), "made") is not None
    return made


def allowed(policy: Policy) -> dict[str, Any]:
    """What it allows, without evidence."""

    def bare(items: Any) -> set[Any]:
        return {replace(row, because=()) for row in items}

    return {
        "abis": policy.abis,
        "no_new_privs": policy.no_new_privs,
        "runtime": policy.runtime,
        "syscalls": {(row.abi, row.name, row.section): frozenset(row.rules) for row in policy.syscalls},
        "refused": {(row.name, row.errno) for row in policy.refused},
        "unknown": bare(policy.unknown),
        "capabilities": {row.name for row in policy.capabilities},
        "files": {
            (row.pattern, row.access, row.owner, row.kinds, row.states, row.whose, row.existing) for row in policy.files
        },
        "others": [
            bare(getattr(policy, name)) for name in ("transitions", "sockets", "signals", "inspections", "mounts")
        ],
        "features": (policy.has_files, bool(policy.user_namespaces), bool(policy.io_uring)),
    }


def crowded(*several: Policy) -> bool:
    """Whether a filter is past the budget, where the grouping may tell."""
    together: dict[tuple[str, str], set[Rule]] = {}
    for policy in several:
        for row in policy.syscalls:
            together.setdefault((row.abi, row.name), set()).update(row.rules)
    return any(len(found) > RULE_BUDGET for found in together.values())


@RELAXED
@given(policies(), policies())
def test_commutative(a: Policy, b: Policy) -> None:
    assert dumps(merge([a, b])) == dumps(merge([b, a]))
    assert allowed(intersect([a, b])) == allowed(intersect([b, a]))


@RELAXED
@given(policies(), policies(), policies(), st.permutations(range(3)))
def test_associative(a: Policy, b: Policy, c: Policy, order: list[int]) -> None:
    assume(not crowded(a, b, c))
    together = merge([a, b, c])
    for other in (merge([merge([a, b]), c]), merge([a, merge([b, c])]), merge([(a, b, c)[index] for index in order])):
        assert allowed(other) == allowed(together)
        assert other.workload == together.workload
        assert [row.because for row in other.syscalls] == [row.because for row in together.syscalls]
    common = intersect([a, b, c])
    for other in (intersect([intersect([a, b]), c]), intersect([a, intersect([b, c])])):
        # Which section a call stands in is a reason, and may tell the grouping: two that disagree leave only one of
        # theirs.
        assert not compare(of_policy(common, "common"), of_policy(other, "other"), exact=True).changes
        assert {**allowed(other), "syscalls": None} == {**allowed(common), "syscalls": None}


@RELAXED
@given(policies())
def test_idempotent(a: Policy) -> None:
    assert merge([a]) == intersect([a]) == a
    twice = merge([a, a])
    assert dumps(merge([twice, twice])) == dumps(twice)
    assert allowed(merge([twice, twice])) == allowed(twice)
    for other in (twice, intersect([a, a])):
        assert not compare(of_policy(a, "a"), of_policy(other, "twice"), exact=True).changes


@RELAXED
@given(policies(), policies(), st.booleans())
def test_a_union_only_widens_and_an_intersection_only_narrows(a: Policy, b: Policy, exact: bool) -> None:
    joined, common = merge([a, b]), intersect([a, b])
    for one in (a, b):
        assert not [
            row for row in compare(of_policy(one, "one"), of_policy(joined, "joined"), exact).changes if not row.gains
        ]
        assert not [
            row for row in compare(of_policy(one, "one"), of_policy(common, "common"), exact).changes if row.gains
        ]
    for made in (joined, common):
        assert dumps(loads(dumps(made).encode(), "made")) == dumps(made)


@RELAXED
@given(rows(), rows(), st.randoms(use_true_random=False))
def test_arguments_are_those_of_both(a: list[Syscall], b: list[Syscall], source: random.Random) -> None:
    """Call by call: a union allows what one does (or more, past the budget), an intersection what both do."""
    one, two = (derive(trace(*listed), Options(runtime="none", companions=False)) for listed in (a, b))
    joined, common = merge([one, two]), intersect([one, two])
    for name in {row.name for policy in (one, two) for row in policy.syscalls}:
        spec = spec_for(name)
        for _ in range(8):
            registers = [
                source.choice([0, 1, 2, 3, 6, 10, 0x7E020000, 0x20000000, source.getrandbits(32)]) for _ in range(6)
            ]
            if spec is not None:
                for row in [row for policy in (one, two) for row in policy.syscalls if row.name == name and row.rules]:
                    for condition in source.choice(row.rules).conditions:
                        registers[condition.position] = (
                            condition.value if source.random() < 0.9 else registers[condition.position]
                        )
            verdicts = [policy.permits("x86_64", name, registers) for policy in (one, two)]
            assert common.permits("x86_64", name, registers) == all(verdicts)
            assert joined.permits("x86_64", name, registers) >= any(verdicts)
            if not crowded(one, two):
                assert joined.permits("x86_64", name, registers) == any(verdicts)


@RELAXED
@given(rows(), rows())
def test_merging_policies_or_the_traces_before_them(a: list[Syscall], b: list[Syscall]) -> None:
    """A policy of the merged traces allows nothing that the merged policies do not; it may be narrower, knowing all at
    once."""
    both = (trace(*a), trace(*b, start="2026-01-02T00:00:00+00:00"))
    from_traces = derive(merge_traces(both), Options(drop_failing=False))
    from_policies = merge([derive(one, Options(drop_failing=False)) for one in both])
    seen = {(row.abi, row.name) for row in from_traces.syscalls}
    assert seen <= {(row.abi, row.name) for row in from_policies.syscalls} | {("x86_64", "clone3")}
    assert from_policies.workload == from_traces.workload


USES = ("files", "transitions", "sockets", "signals", "inspections", "mounts")


def uses_of(made: Policy) -> dict[str, Any]:
    """What it allows besides syscalls, and the kinds of the reasons."""

    def kept(row: Any) -> Any:
        bare = replace(row, because=(), **({"programs": ()} if hasattr(row, "programs") else {}))
        return (bare, frozenset(reason.key for reason in row.because))

    return {name: set(map(kept, getattr(made, name))) for name in (*USES, "capabilities")}


@RELAXED
@given(recordings(), recordings())
def test_policies_of_traces_as_they_are(a: Trace, b: Trace) -> None:
    """Without generalising, merging traces first or policies first gives the same rules for all but syscalls.

    Reasons may name more programs: a trace says of a row who tried it, not who succeeded. And one capability that
    another one covers shows only in the traces together.
    """
    plain = Options(runtime="none", generalise=False)
    assume(a.meta.arch == b.meta.arch)
    try:
        from_traces = derive(merge_traces([a, b]), plain)
        from_policies = merge([derive(one, plain) for one in (a, b)])
    except InputError:
        assume(False)
        raise
    assert from_traces.has_files == from_policies.has_files
    assert from_traces.abis == from_policies.abis
    assert {row.name for row in from_policies.capabilities} - {row.name for row in from_traces.capabilities} <= {SEARCH}
    if SEARCH not in {row.name for row in from_policies.capabilities}:
        assert uses_of(from_traces) == uses_of(from_policies)


@RELAXED
@given(recordings(), recordings())
def test_a_policy_of_merged_traces_grants_all_that_was_seen(a: Trace, b: Trace) -> None:
    """However it generalises: each use of each recording is granted."""
    assume(a.meta.arch == b.meta.arch)
    try:
        together = derive(merge_traces([a, b]), Options(runtime="none"))
        seen = [derive(one, Options(runtime="none", generalise=False)) for one in (a, b)]
    except InputError:
        assume(False)
        raise
    if together.has_files:
        for one in seen:
            for use in one.files:
                assert left(together.files, use) is None, use


def policy(*syscalls: Syscall, **members: Any) -> Policy:
    return replace(derive(trace(*syscalls), Options(runtime="none", equivalents=False)), **members)


def test_reads_well() -> None:
    """A merged policy says who was seen, whatever the counts."""
    one = policy(call("openat", calls=30), call("socket", [(2, 1, 6)]), call("read"))
    two = policy(call("openat", calls=1174), call("socket", [(10, 1, 6)]))
    three = merge([one, two, policy(call("openat"), call("bind"))])
    text = dumps(three)
    assert "    openat: {because: {observed: [app]}}\n    read: {because: {observed: [app]}}\n" in text
    stream = "        - {domain: %s, type: SOCK_STREAM, protocol: %s}\n"
    rules = [
        stream % (domain, protocol) for domain in ("AF_INET", "AF_INET6") for protocol in ("IPPROTO_IP", "IPPROTO_TCP")
    ]
    assert "    socket:\n      arguments:\n" + "".join(rules) + "      because: {observed: [app]}\n" in text
    assert loads(text.encode(), "x") == three


def test_what_was_seen_once_is_no_equivalent() -> None:
    """openat stands in for open in one and was seen in the other."""
    one, two = (derive(trace(call(name)), Options(runtime="none")) for name in ("open", "openat"))
    merged = {row.name: row for row in merge([one, two]).syscalls}
    assert merged["open"].section == merged["openat"].section == "observed"
    assert merged["creat"].section == "equivalent"
    assert merged["creat"].stands_for == ("open", "openat")


def test_a_probe_that_succeeded_elsewhere_is_none() -> None:
    failed, fine = policy(call("statx", ok=0, errors={"ENOSYS": 3})), policy(call("statx"))
    (row,) = merge([failed, fine]).syscalls
    assert row.because == OBSERVED
    (row,) = merge([failed, policy(call("statx", ok=0, errors={"EPERM": 1}))]).syscalls
    assert row.because == (*OBSERVED, Reason("failed", ("ENOSYS", "EPERM")))


def test_allowed_somewhere_is_not_refused() -> None:
    one = policy(
        call("read"), refused=(Refused("clone3", "ENOSYS", (said("user", "x"),)), Refused("bind", "EACCES", ()))
    )
    two = policy(call("clone3", [(0x10000000,)]), refused=(Refused("bind", "EPERM", ()),))
    merged = merge([one, two])
    assert [(row.name, row.errno) for row in merged.refused] == [("bind", "EACCES")]
    assert [(row.name, row.errno) for row in intersect([one, two]).refused] == [
        ("bind", "EACCES"),
        ("clone3", "ENOSYS"),
    ]


def test_past_the_budget() -> None:
    """Fewer arguments are compared, in the end none, and the reasons say so."""
    one = policy(call("setsockopt", [(1, number) for number in range(40)]))
    two = policy(call("setsockopt", [(6, number) for number in range(40)]))
    (row,) = merge([one, two]).syscalls
    assert row.because[-1] == said("widened", "too many values: only level is compared")
    assert {condition.value for rule in row.rules for condition in rule.conditions} == {1, 6}
    one, two = (policy(call("ioctl", [(start + number,) for number in range(40)])) for start in (0, 100))
    (row,) = merge([one, two]).syscalls
    assert row.rules == ()
    assert row.because[-1] == said("widened", f"any arguments: more than {RULE_BUDGET} rules together")


def test_too_many_rules_to_intersect() -> None:
    """A hostile policy ends with one line, not with a machine that thinks for ever."""

    def wide(position: int) -> Policy:
        count = int(PRODUCTS**0.5) + 2
        rules = tuple(Rule((Condition("x", position, 0xFFFFFFFF, number),)) for number in range(count))
        return policy(call("read"), syscalls=(Allowed("observed", "x86_64", "bind", (), rules),))

    with pytest.raises(InputError, match="bind has too many argument rules"):
        intersect([wide(0), wide(1)])


def test_rules_that_others_cover() -> None:
    low, high, all_of_it = (Rule((Condition("a", 0, mask, 0),)) for mask in (0xF0, 0xFF, 0x10))
    two = Rule((Condition("a", 0, 0x10, 0), Condition("b", 1, 1, 1)))
    assert without_covered([low, high, two, all_of_it]) == (all_of_it,)
    assert without_covered([high, two]) == tuple(sorted([high, two]))


FILES = touching(*uses("/srv/a", "read"), syscalls=[call("read")])


def files(*rules: FileRule, **members: Any) -> Policy:
    return replace(derive(FILES, Options(runtime="none")), files=rules, **members)


def rule(pattern: str, *access: str, **members: Any) -> FileRule:
    return FileRule(pattern, access, because=(said("user", f"for {pattern}"),), **members)


def granted(policy: Policy) -> list[tuple[str, tuple[str, ...], bool]]:
    return [(row.pattern, row.access, row.owner) for row in policy.files]


def test_files_of_any() -> None:
    one = files(
        rule("/a", "read"),
        rule("/c", "read", owner=True),
        rule("/tmp/{digits}", "read", programs=("/bin/a",)),
    )
    two = files(
        rule("/a", "write"),
        rule("/b", "read"),
        rule("/c", "read", "write"),
        rule("/tmp/{digits}", "read", programs=("/bin/b",)),
    )
    merged = merge([one, two])
    assert granted(merged) == [
        ("/a", ("read", "write"), False),
        ("/b", ("read",), False),
        ("/c", ("read", "write"), False),
        ("/tmp/{digits}", ("read",), False),
    ]
    assert merged.files[-1].programs == ("/bin/a", "/bin/b")
    assert merge([one, files(rule("/tmp/{digits}", "read"))]).files[-1].programs == (), "of any program"


def test_files_of_all() -> None:
    """A path that a pattern of the other covers is in both."""
    one = files(
        rule("/tmp/{name}", "read", "write"),
        rule("/etc/x", "read"),
        rule("/only", "read"),
        rule("/l", "link", existing=("/e/{name}",)),
    )
    two = files(
        rule("/tmp/{digits}", "read", owner=True), rule("/etc/x", "write"), rule("/l", "link", existing=("/e/1", "/f"))
    )
    common = intersect([one, two])
    assert granted(common) == [("/l", ("link",), False), ("/tmp/{digits}", ("read",), True)]
    assert common.files[0].existing == ("/e/1",)


def test_a_policy_that_says_nothing_of_files() -> None:
    watched, silent = files(rule("/a", "read")), policy(call("read"))
    assert not merge([watched, silent]).has_files
    assert granted(intersect([silent, watched])) == [("/a", ("read",), False)]


def test_sockets_and_processes() -> None:
    web = SocketRule("inet", "stream", 6, ("create", "bind"), (), (("bind", (80,)),))
    more = SocketRule(
        "inet", "stream", 6, ("create", "bind", "connect"), (), (("bind", (80, 443)), ("connect", (5432,)))
    )
    log = SocketRule("unix", "dgram", 0, ("create", "connect"), (), (), (("connect", ("/run/log{digits}",)),))
    log1 = replace(log, addresses=(("connect", ("/run/log1", "/run/other")),))
    term, mount = SignalRule("TERM", "workload", ()), MountRule("bind", "/a", "/b/{name}", None, ("rdonly",), ())
    one = files(
        sockets=(web, log), signals=(term,), transitions=(Transition("/bin/{name}", "/a", ()),), mounts=(mount,)
    )
    two = files(
        sockets=(more, log1),
        transitions=(Transition("/bin/sh", "/a", ()), Transition("/a", None, ())),
        mounts=(replace(mount, target="/b/1"),),
    )
    merged, common = merge([one, two]), intersect([one, two])
    assert [replace(row, because=()) for row in merged.sockets] == [
        more,
        replace(log, addresses=(("connect", ("/run/log1", "/run/log{digits}", "/run/other")),)),
    ]
    assert [replace(row, because=()) for row in common.sockets] == [
        web,
        replace(log, addresses=(("connect", ("/run/log1",)),)),
    ]
    assert merged.signals == (term,)
    assert common.signals == ()
    assert [(row.program, row.by) for row in common.transitions] == [("/bin/sh", "/a")]
    assert [row.program for row in merged.transitions] == ["/a", "/bin/sh", "/bin/{name}"]
    assert [row.target for row in common.mounts] == ["/b/1"]
    assert len(merged.mounts) == 2


def test_capabilities() -> None:
    needed = derive(trace(capabilities=[check("CAP_CHOWN", syscalls={"chown": 2}, count=2)]), Options())
    checked = derive(
        trace(capabilities=[check("CAP_CHOWN", decisive=False), check("CAP_KILL", inferred=True)]), Options()
    )
    (chown, kill) = merge([needed, checked]).capabilities
    assert chown.because == (*OBSERVED, Reason("in", ("chown",)))
    assert kill.because == (Reason("inferred", ("app",)), Reason("in", ("bind",)))
    assert intersect([needed, checked]).capabilities == ()
    assert intersect([needed, merge([needed, checked])]).capabilities == (chown,)


def test_two_architectures_and_nothing() -> None:
    other = replace(policy(call("read")), abis=("aarch64",), syscalls=())
    for combine in (merge, intersect):
        with pytest.raises(InputError, match="aarch64, x86_64"):
            combine([policy(call("read")), other])
        with pytest.raises(InputError, match="nothing to merge"):
            combine([])


@settings(deadline=None, max_examples=examples(75))
@given(POLICIES, POLICIES)
def test_a_union_grants_what_each_grants(one: Policy, two: Policy) -> None:
    together = resources(merge([one, two]))
    for rule in (*resources(one), *resources(two)):
        assert left(together, rule) is None


@settings(deadline=None, max_examples=examples(75))
@given(POLICIES, POLICIES)
def test_each_grants_what_an_intersection_grants(one: Policy, two: Policy) -> None:
    for rule in resources(intersect([one, two])):
        assert left(resources(one), rule) is None
        assert left(resources(two), rule) is None
