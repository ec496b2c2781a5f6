"""Scores: the figures add up, what is open is ordered, and rights only lower the score."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs import examples
from unit.policy.making import call, check, trace

from profiler.kernel.abi import ABIS
from profiler.kernel.capabilities import CAPABILITIES
from profiler.kernel.cves import cves
from profiler.kernel.data import load
from profiler.kernel.syscalls import names_of
from profiler.policy.derive import derive
from profiler.policy.model import Options
from profiler.review.cubes import EVERYTHING, comparison, masked
from profiler.review.rights import ANYTHING, ANYTHING_TEXT, Allowance, Alternative, Rights, of_policy
from profiler.review.score import WEIGHTS, Score, as_data, excess_of, filterable, restricts, score
from profiler.review.sources import from_bytes
from profiler.review.yardsticks import YARDSTICKS, docker_capabilities, docker_default, unconfined

NONE: frozenset[str] = frozenset()
INT = 0xFFFFFFFF


def allowing(*cubes: tuple[object, ...]) -> Allowance:
    return Allowance(tuple(Alternative(one, "some") for one in cubes))  # type: ignore[arg-type]


def rights(
    syscalls: dict[tuple[str, str], Allowance] | Iterable[str], capabilities: Iterable[str] = (), **members: object
) -> Rights:
    table = syscalls if isinstance(syscalls, dict) else {("x86_64", name): ANYTHING for name in syscalls}
    defaults = {"source": "x", "kind": "seccomp", "native": "x86_64", "abis": ("x86_64",), "default": "refuse"}
    return Rights(**{**defaults, "syscalls": table, "capabilities": frozenset(capabilities), **members})  # type: ignore[arg-type]


def server(arguments: bool = True) -> Rights:
    """Return the rights of a small TCP server, as profgen would record it."""
    rows = [
        call("socket", [(2, 1, 0)]),
        call("setsockopt", [(1, 2), (6, 1)]),
        call("bind"),
        call("listen"),
        call("accept4"),
        call("read"),
        call("write"),
        call("sendmsg"),
        call("sendfile"),
        call("close"),
        call("openat"),
        call("execve"),
        call("brk"),
        call("exit_group"),
        call("clone", [(0x1200000,)]),
        call("mmap", [(1,), (3,), (5,)]),
        call("mprotect", [(1,)]),
        call("socketpair", [(1, 1, 0)]),
        call("fcntl", [(1,), (2,)]),
        call("ioctl", [(0x5421,)]),
    ]
    recording = trace(*rows, capabilities=[check("CAP_NET_BIND_SERVICE")])
    return of_policy(derive(recording, Options(arguments=arguments)), "server")


def test_weights_add_up() -> None:
    assert sum(WEIGHTS.values()) == 100


def test_the_ends_of_the_scale() -> None:
    free = score(unconfined("x86_64"), NONE)
    assert (free.points, free.exact) == (0, 0)
    assert all(share.closed == 0 for share in free.shares.values())
    assert len(free.capabilities) == len(CAPABILITIES)
    shut = score(rights([]), NONE)
    assert shut.points == 100
    assert shut.shares["cves"].closed == len(cves())
    assert not shut.reachable


@pytest.mark.parametrize("native", ["x86_64", "aarch64"])
def test_the_order_on_a_server(native: str) -> None:
    free, docker = unconfined(native), docker_default(native)
    found = [free, docker]
    if native == "x86_64":
        found += [server(arguments=False), server()]
    points = [score(one, NONE).exact for one in found]
    assert points == sorted(set(points))
    assert score(free, NONE).points == 0


def test_a_servers_arguments_block_the_holes_that_names_leave() -> None:
    names, filtered = (score(server(arguments), NONE).of_source("kernelctf") for arguments in (False, True))
    assert names.total == filtered.total == 78
    assert names.closed < 20
    assert filtered.closed >= 70


def test_docker_default_is_what_docker_says_it_is() -> None:
    found = score(docker_default("x86_64"), NONE)
    # read off the profile itself (and Docker's documentation of what it blocks)
    assert {
        "bpf",
        "mount",
        "unshare",
        "keyctl",
        "perf_event_open",
        "io_uring_setup",
        "clone3",
        "userfaultfd",
    }.isdisjoint(found.open)
    assert {"read", "ptrace", "clone", "socket", "personality", "chroot"} <= set(found.open)
    assert set(found.capabilities) == docker_capabilities()
    assert len(docker_capabilities()) == 14
    # figures that others published for these two lists of holes
    assert found.of_source("syspart").closed == 6
    assert found.of_source("confine").closed == 10
    blocked = {row.cve.identifier for row in found.verdicts if row.blocked}
    assert "CVE-2024-1086" in blocked, "neither CAP_NET_ADMIN nor a user namespace"
    assert "CVE-2020-14386" not in blocked, "CAP_NET_RAW is given"
    assert "CVE-2026-31431" not in blocked, "AF_ALG by socketcall"
    assert "i386" in docker_default("x86_64").abis
    assert "CVE-2024-1086" not in {
        row.cve.identifier
        for row in score(replace(docker_default("x86_64"), capabilities=frozenset({"CAP_NET_ADMIN"})), NONE).verdicts
        if row.blocked
    }


def test_docker_default_follows_the_capabilities() -> None:

    source = from_bytes(json.dumps(load("docker_default.yaml")["profile"]).encode(), "docker.json")
    with_admin = source.rights("x86_64", docker_capabilities() | {"CAP_SYS_ADMIN"})
    assert with_admin.allowance("x86_64", "mount").unconditional
    assert docker_default("x86_64").allowance("x86_64", "mount").refused
    assert docker_default("aarch64").abis == ("aarch64", "arm")


def test_filters_that_filter_nothing_do_not_count() -> None:
    low, high = comparison(0, "LT", 38), comparison(0, "GT", 40)
    assert restricts(allowing(low), "x86_64", "socket")
    assert not restricts(allowing(low, high), "x86_64", "socket"), "2**32 + 38 is AF_ALG for the kernel"
    assert not restricts(allowing(comparison(0, "EQ", 1), comparison(0, "NE", 1)), "x86_64", "socket")
    assert restricts(allowing(masked(0, INT, 2)), "x86_64", "socket")
    assert restricts(allowing(low, high), "x86_64", "lseek"), "a long is compared whole"
    assert not restricts(Allowance((Alternative((EVERYTHING,), ANYTHING_TEXT),)), "x86_64", "socket")
    assert not restricts(Allowance((Alternative(low, "some"),), exact=False), "x86_64", "socket")


def test_filterable_calls() -> None:
    assert {"socket", "clone", "mmap", "ioctl"} <= filterable("x86_64")
    assert "clone3" not in filterable("x86_64"), "behind a pointer"
    assert "mmap" not in filterable("i386")
    assert "read" not in filterable("x86_64")


def test_a_file_without_capabilities_gets_those_assumed() -> None:
    silent = rights(["read"], capabilities=())
    silent = replace(silent, capabilities=None)
    assert score(silent, docker_capabilities()).capabilities == score(docker_default("x86_64"), NONE).capabilities
    assert score(silent, docker_capabilities()).assumed
    assert not score(rights(["read"]), docker_capabilities()).assumed
    assert score(silent, NONE).exact > score(silent, docker_capabilities()).exact


def test_against_names_what_is_more() -> None:
    ours = rights(
        {
            ("x86_64", "read"): ANYTHING,
            ("x86_64", "bpf"): ANYTHING,
            ("x86_64", "socket"): allowing(masked(0, INT, 2), masked(0, INT, 38)),
        },
        ["CAP_BPF"],
    )
    theirs = rights(
        {("x86_64", "read"): ANYTHING, ("x86_64", "socket"): allowing(masked(0, INT, 2)), ("x86_64", "mount"): ANYTHING}
    )
    extra = excess_of(score(ours, NONE), score(theirs, NONE))
    assert (extra.syscalls, extra.capabilities) == (("bpf",), ("CAP_BPF",))
    assert "CVE-2024-41009" in extra.cves
    back = excess_of(score(theirs, NONE), score(ours, NONE))
    assert (back.syscalls, back.capabilities) == (("mount",), ())


def test_the_data_for_json_adds_up() -> None:
    found = score(docker_default("x86_64"), NONE)
    data = as_data(found)
    assert data["score"] == found.points
    shares = data["shares"]
    assert isinstance(shares, dict)
    assert abs(sum(share["points"] for share in shares.values()) - found.exact) < 0.05
    listed = data["cves"]
    assert isinstance(listed, dict)
    assert len(listed["blocked"]) + len(listed["reachable"]) == len(cves())
    assert all(row["because"] for row in listed["blocked"])
    assert set(YARDSTICKS) == {"docker-default", "unconfined"}


# Taking a right away never lowers the score.

_INTERESTING = sorted(
    {call.name for cve in cves() for step in cve.needs for call in step.calls}
    | {"socketcall", "ipc", "io_uring_setup", "mmap", "ioctl", "prctl", "umount", "getpid"}
)
_VALUES = st.sampled_from([0, 1, 2, 6, 10, 12, 16, 17, 31, 38, 40, 64, 282, 0x10000000, 0x7E020000, INT])
_CUBES = st.one_of(
    st.builds(masked, st.integers(0, 2), st.sampled_from([INT, 0x10000000, 0x7E020000, 0xFF]), _VALUES),
    st.builds(comparison, st.integers(0, 2), st.sampled_from(["EQ", "NE", "LT", "LE", "GT", "GE"]), _VALUES),
)
_ALLOWANCES = st.one_of(st.just(ANYTHING), st.lists(_CUBES, min_size=1, max_size=4).map(lambda cubes: allowing(*cubes)))


@st.composite
def many_rights(draw: st.DrawFn) -> Rights:
    abis = draw(st.sampled_from([("x86_64",), ("x86_64", "i386"), ("x86_64", "i386", "x32")]))
    keys = [
        (abi, name)
        for abi in abis
        for name in draw(st.sets(st.sampled_from(_INTERESTING), max_size=25))
        if name in names_of(abi)
    ]
    table = {key: draw(_ALLOWANCES) for key in keys}
    default = draw(st.sampled_from(["refuse", "refuse", "allow"]))
    return rights(table, draw(st.sets(st.sampled_from(CAPABILITIES))), abis=abis, default=default)


def without_one(full: Rights, pick: int) -> Rights:
    """Return the rights without one of them: an ABI, a capability, a syscall, or an alternative."""
    steps = (
        [replace(full, default="refuse", syscalls={key: full.allowance(*key) for key in full.syscalls})]
        if full.default != "refuse"
        else []
    )
    steps += [replace(full, abis=full.abis[:count]) for count in range(1, len(full.abis))]
    assert full.capabilities is not None
    steps += [replace(full, capabilities=full.capabilities - {name}) for name in sorted(full.capabilities)]
    for key, allowance in full.syscalls.items():
        steps.append(replace(full, syscalls={**full.syscalls, key: Allowance()}))
        for index in range(len(allowance.alternatives)):
            rest = allowance.alternatives[:index] + allowance.alternatives[index + 1 :]
            steps.append(replace(full, syscalls={**full.syscalls, key: Allowance(rest)}))
    return steps[pick % len(steps)] if steps else full


@settings(max_examples=examples(150), deadline=None)
@given(many_rights(), st.integers(0, 10_000))
def test_less_never_scores_lower(full: Rights, pick: int) -> None:
    before, after = score(full, NONE), score(without_one(full, pick), NONE)
    assert after.exact >= before.exact - 1e-9
    assert after.points >= before.points
    for key in WEIGHTS:
        assert after.shares[key].closed >= before.shares[key].closed
    assert {row.cve for row in before.verdicts if row.blocked} <= {row.cve for row in after.verdicts if row.blocked}


@pytest.mark.parametrize("abi", ["x86_64", "aarch64"])
def test_the_native_abi_counts_most(abi: str) -> None:
    open_all = rights({}, CAPABILITIES, native=abi, abis=(abi,), default="allow")
    assert score(open_all, NONE).points == WEIGHTS["other_abis"]
    assert ABIS[abi].bits == 64


def test_groups_hold_every_cve_once() -> None:
    found: Score = score(docker_default("x86_64"), NONE)
    grouped = [row.cve.identifier for group in (*found.blocked.values(), *found.reachable.values()) for row in group]
    assert sorted(grouped) == sorted(cve.identifier for cve in cves())
    sizes = [len(rows) for rows in found.blocked.values()]
    assert sizes == sorted(sizes, reverse=True)
