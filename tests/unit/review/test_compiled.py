"""Profiles against the judge: what profgen writes is exact, and what it reads is never narrower than the kernel."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from judging import exact
from simulation import NotFinished, NotStarted, calls
from unit.policy.making import call, trace

from profiler.kernel.arguments import recorded_names, spec_for
from profiler.kernel.syscalls import names_of
from profiler.policy.derive import derive
from profiler.policy.model import Options, Policy
from profiler.review.compiled import voiding
from profiler.review.cubes import joined
from profiler.review.rights import Rights, of_policy
from profiler.review.sources import from_bytes
from profiler.targets.seccomp import profile as written

X86_64, X86 = "SCMP_ARCH_X86_64", "SCMP_ARCH_X86"
EQUALITIES, ORDERS = ("EQ", "MASKED_EQ"), ("NE", "LT", "LE", "GT", "GE")
VALUES = (0, 1, 2, 3, 12, 38, 40, 0x80001, 0xFFFFFFFF, 1 << 32, (1 << 32) + 2, (38 << 32) + 3, (1 << 64) - 1)
MASKS = (0, 1, 3, 0xFF, 0x7E020000, 0xFFFFFFFF, (1 << 64) - 1, 0xFFFFFFFF << 32, 1 << 32 | 1)
NAMES = (
    *("socket", "connect", "sendto", "send", "accept", "accept4", "socketcall"),
    *("semop", "shmget", "semtimedop", "ipc"),
    *("personality", "clone", "mmap", "waitpid", "fcntl64", "read", "openat"),
)
RANDOM_PROFILES = int(os.environ.get("PROFGEN_RANDOM_PROFILES", "250"))


def read(profile: Mapping[str, Any]) -> Rights:
    return from_bytes(json.dumps(profile).encode(), "file").rights("x86_64", None)


def condition(dice: random.Random, operators: Sequence[str], position: int, values: Sequence[int]) -> dict[str, Any]:
    operator = dice.choice(operators)
    masked = operator == "MASKED_EQ"
    row = {"index": position, "op": f"SCMP_CMP_{operator}", "value": dice.choice(MASKS if masked else values)}
    return {**row, "valueTwo": dice.choice(values)} if masked else row


def foreign(seed: int) -> dict[str, Any]:
    """Make a profile as a stranger might write it: several rules for a call, every comparison, every action."""
    dice = random.Random(seed)
    operators = dice.choice((EQUALITIES, EQUALITIES, ("MASKED_EQ",), ORDERS, (*EQUALITIES, *ORDERS)))
    values = dice.choice((VALUES, VALUES[:9]))
    actions = dice.choice((("ALLOW",), ("ALLOW",), ("ALLOW", "ERRNO"), ("ALLOW", "LOG", "ERRNO", "TRAP")))
    names = dice.sample(NAMES, dice.randint(1, 4))
    alone = dice.random() < 0.4
    rules = []
    for _ in range(dice.randint(1, 6)):
        positions = [0] if alone else sorted(dice.sample(range(3), dice.randint(1, 3)))
        row: dict[str, Any] = {
            "names": dice.sample(names, dice.randint(1, len(names))),
            "action": f"SCMP_ACT_{dice.choice(actions)}",
            "args": [condition(dice, operators, position, values) for position in positions],
        }
        if dice.random() < 0.05:
            row["args"] += [condition(dice, EQUALITIES, positions[0], values)]
        if dice.random() < 0.15:
            del row["args"]
        if row["action"] == "SCMP_ACT_ERRNO" and dice.random() < 0.7:
            row["errnoRet"] = dice.choice((1, 38))
        rules.append(row)
    return {
        "defaultAction": dice.choice(("SCMP_ACT_ERRNO", "SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", "SCMP_ACT_KILL")),
        "architectures": dice.choice(([X86_64], [X86_64, X86], [X86_64, X86], [])),
        "syscalls": rules,
    }


def judged(profile: Mapping[str, Any], rights: Rights) -> int:
    """Check the reader against the kernel; return how many calls it reads as wider than they are."""
    wider = 0
    # libseccomp may then leave out all rules for i386 (profiler/review/compiled.py).
    void = bool(voiding(name for rule in profile["syscalls"] for name in rule["names"]))
    for abi, name, arguments, passes in calls(profile):
        allowance = rights.allowance(abi, name)
        says = any(cube.has(joined(arguments)) for cube in allowance.cubes)
        assert says or not passes, (abi, name, arguments, "the kernel lets it through")
        exact = allowance.exact and not (void and abi == "i386")
        assert says == passes or not exact, (abi, name, arguments, "read as exact")
        wider += says != passes
    return wider


def test_the_reader_is_never_narrower_than_the_kernel() -> None:
    """Read random foreign profiles; PROFGEN_RANDOM_PROFILES says how many."""
    wider = started = 0
    for seed in range(RANDOM_PROFILES):
        profile = foreign(seed)
        try:
            wider += bool(judged(profile, read(profile)))
            started += 1
        except (NotStarted, NotFinished):
            continue
        except AssertionError as error:
            raise AssertionError(seed, json.dumps(profile)) from error
    assert started > RANDOM_PROFILES * 3 // 4
    assert wider < started // 3, "most are read exactly"


# What profgen writes.

SOCKETS_AND_IPC = ("socket", "connect", "accept", "accept4", "sendto", "semop", "shmget", "semtimedop")


def policy(seed: int) -> Policy:
    """Make a policy of x86-64 and i386 calls, with and without argument rules, sometimes with the multiplexers."""
    dice = random.Random(seed)
    listed = []
    for abi in ("x86_64", "i386") if seed % 4 else ("x86_64",):
        names = dice.sample(sorted(names_of(abi)), dice.randint(1, 6)) + dice.sample(sorted(recorded_names()), 4)
        names += [name for name in SOCKETS_AND_IPC if dice.random() < 0.4]
        names += [name for name in ("socketcall", "ipc") if dice.random() < 0.25]
        for name in dict.fromkeys(name for name in names if name in names_of(abi)):
            spec = spec_for(name)
            values = None
            if spec is not None and dice.random() < 0.8:
                few = (0, 1, 2, 3, 16, 0x80001, 0xFFFFFFFF)
                values = [tuple(dice.choice(few) for _ in spec.fields) for _ in range(dice.randint(1, 3))]
            listed.append(call(name, values, abi=abi, overflow=spec is not None and values is None))
    options = Options(runtime=dice.choice(("none", "any")), equivalents=dice.random() < 0.5)
    return derive(trace(*listed), options)


def test_the_writer_is_exact() -> None:
    for seed in range(60):
        made = policy(seed)
        exact(written(made, "errno"), made)


def test_a_profile_with_i386_closes_the_multiplexers() -> None:
    made = derive(trace(call("socket", [(2, 1, 0)]), call("shmget"), call("read", abi="i386")), Options())
    profile = written(made, "errno")
    (row,) = (row for row in profile["syscalls"] if "socketcall" in row["names"])
    assert row["action"] == "SCMP_ACT_ERRNO"
    assert row["errnoRet"] == 38
    assert "ipc" in row["names"]
    passing = {(abi, name) for abi, name, _, passes in calls(profile) if passes}
    assert {("x86_64", "shmget"), ("i386", "read")} <= passing
    assert not {("i386", "socketcall"), ("i386", "ipc")} & passing
    assert "socketcall" not in str(written(made, "log")), "nothing is refused that was only not seen"
    alone = derive(trace(call("socket", [(2, 1, 0)])), Options())
    assert "socketcall" not in str(written(alone, "errno"))


def test_a_multiplexer_that_was_seen_has_what_libseccomp_adds() -> None:
    made = derive(trace(call("socketcall", [(3,)], abi="i386"), call("bind")), Options(runtime="none"))
    assert made.permits("i386", "socketcall", (3, 0, 0, 0, 0, 0))
    assert made.permits("i386", "socketcall", (2, 0, 0, 0, 0, 0)), "bind is allowed"
    assert not made.permits("i386", "socketcall", (1, 0, 0, 0, 0, 0))
    read_back = read(written(made, "errno")).allowance("i386", "socketcall")
    assert set(read_back.texts) == set(of_policy(made, "policy").allowance("i386", "socketcall").texts)


# What libseccomp joins wrongly.


@pytest.mark.parametrize(
    ("rules", "wrong"),
    [
        ([[(0, "NE", 5)]], False),
        ([[(0, "LT", 12)], [(0, "EQ", 13)], [(0, "GT", 40)]], False),
        ([[(0, "EQ", 1 << 32)], [(0, "MASKED_EQ", 3), (1, "EQ", 2)]], False),
        ([[(0, "LT", 1 << 33)], [(0, "LT", 12)]], True),
        ([[(0, "GT", 5), (1, "EQ", 2)], [(0, "GT", 7)]], True),
        ([[(0, "NE", 5)], [(1, "NE", 7)]], True),
        ([[(0, "EQ", 5)], [(1, "NE", 7)]], True),
    ],
)
def test_sets_of_rules_that_are_joined_wrongly(rules: list[list[tuple[int, str, int]]], wrong: bool) -> None:
    listed = [
        {
            "names": ["personality"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": index, "op": f"SCMP_CMP_{word}", "value": value} for index, word, value in tests],
        }
        for tests in rules
    ]
    rights = read({"defaultAction": "SCMP_ACT_ERRNO", "architectures": [X86_64], "syscalls": listed})
    allowance = rights.allowance("x86_64", "personality")
    assert allowance.exact != wrong
    assert allowance.unconditional == wrong
    assert (allowance.texts == ("any arguments",)) == wrong


def test_32_bits_are_compared_on_a_32_bit_abi() -> None:
    wide = {"index": 0, "op": "SCMP_CMP_EQ", "value": (1 << 32) + 5}
    upper = {"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 0xFF << 32, "valueTwo": 0}
    for test in (wide, upper):
        rule = {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [test]}
        profile = {"defaultAction": "SCMP_ACT_ERRNO", "architectures": [X86_64, X86], "syscalls": [rule]}
        rights = read(profile)
        assert rights.allowance("i386", "personality").unconditional
        assert not rights.allowance("x86_64", "personality").unconditional
        judged(profile, rights)
