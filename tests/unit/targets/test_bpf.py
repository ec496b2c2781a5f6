"""The filter that libseccomp makes of a policy answers as the policy says, whoever interprets it."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation import run
from unit.policy.making import call, trace

from profiler.errors import ProfgenError
from profiler.kernel.syscalls import names_of, number_of
from profiler.policy.derive import derive
from profiler.policy.model import Allowed, Condition, Options, Policy, Rule
from profiler.targets import bpf as filters

X86_64, I386, OTHER = 0xC000003E, 0x40000003, 0xC00000B7
ALLOW, ERRNO, TRACE = filters.RET_ALLOW, filters.RET_ERRNO, filters.RET_TRACE
EPERM, ENOSYS = 1, 38


def policy(**more: Any) -> Policy:
    recorded = trace(
        call("read"),
        call("socket", [(2, 1, 0), (1, 1, 0)]),
        call("clone3", [(0,)]),
        call("read", abi="i386"),
        call("mseal"),
    )
    return derive(recorded, Options(runtime="none", equivalents=False, **more))


def instructions(program: bytes) -> list[tuple[int, int, int, int]]:
    return list(struct.iter_unpack("<HBBI", program))


def answer(program: bytes, name: str, arguments: tuple[int, ...] = (0,) * 6, arch: int = X86_64) -> int:
    number = number_of("i386" if arch == I386 else "x86_64", name)
    assert number is not None
    return run(instructions(program), number, arguments, arch)


def test_enforcing() -> None:
    program = filters.enforcing(policy())
    assert answer(program, "read") == ALLOW
    assert answer(program, "read", arch=I386) == ALLOW
    assert answer(program, "mseal") == ALLOW  # newer than the libseccomp of some distributions
    assert answer(program, "ptrace") == ERRNO | EPERM
    assert answer(program, "clone3") == ERRNO | ENOSYS
    assert answer(program, "socket", (2, 1, 6, 0, 0, 0)) == ALLOW
    assert answer(program, "socket", (16, 3, 0, 0, 0, 0)) == ERRNO | EPERM
    assert answer(program, "read", arch=OTHER) == ERRNO | EPERM


def test_multiplexers_are_closed() -> None:
    """libseccomp would allow socketcall along with socket."""
    assert answer(filters.enforcing(policy()), "socketcall", (1, 0, 0, 0, 0, 0), I386) == ERRNO | ENOSYS
    for refusing in (True, False):
        program = filters.traced(policy(), refusing=refusing)
        assert answer(program, "socketcall", (1, 0, 0, 0, 0, 0), I386) == TRACE | filters.CLOSED


@pytest.mark.parametrize("refusing", [True, False])
def test_traced(refusing: bool) -> None:
    program = filters.traced(policy(), refusing=refusing)
    assert answer(program, "read") == TRACE
    assert answer(program, "ptrace") == TRACE | filters.DENIED
    assert answer(program, "socket", (16, 3, 0, 0, 0, 0)) == TRACE | filters.DENIED
    assert answer(program, "clone3") == (ERRNO | ENOSYS if refusing else TRACE)
    assert answer(program, "read", arch=OTHER) == TRACE | filters.DENIED


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 45), st.integers(0, 5), st.integers(0, 20)), max_size=12), st.data())
def test_sockets(values: list[tuple[int, int, int]], data: st.DataObject) -> None:
    """What the policy permits and what the filter allows are the same calls."""
    made = derive(trace(call("socket", values), call("read")), Options(runtime="none", equivalents=False))
    program = filters.enforcing(made)
    for _ in range(20):
        arguments = (*data.draw(st.tuples(st.integers(0, 46), st.integers(0, 6), st.integers(0, 21))), 0, 0, 0)
        assert (answer(program, "socket", arguments) == ALLOW) is made.permits("x86_64", "socket", arguments)


def test_every_name() -> None:
    """Whatever this libseccomp knows: all names of this machine's table can be allowed."""
    everything = tuple(Allowed("observed", "x86_64", name, ()) for name in sorted(names_of("x86_64")))
    program = filters.enforcing(Policy(policy().workload, ("x86_64",), True, "none", syscalls=everything))
    for name in ("read", "mseal", "cachestat", "io_uring_setup", "uretprobe"):
        assert answer(program, name) == ALLOW, name


def test_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A libseccomp that does not come to an end is stopped, and the message says so."""
    monkeypatch.setattr(filters, "BUILD_SECONDS", 0.2)
    monkeypatch.setattr(filters, "_export", lambda *_: __import__("time").sleep(60))
    with pytest.raises(ProfgenError, match="within"):
        filters.enforcing(policy())


def test_bad_rule() -> None:
    """An argument that no call has is refused with a reason, not with a traceback."""
    rule = Rule((Condition("x", 9, 1, 1),))
    bad = Policy(
        policy().workload, ("x86_64",), True, "none", syscalls=(Allowed("observed", "x86_64", "read", (), (rule,)),)
    )
    with pytest.raises(ProfgenError, match="libseccomp cannot make a filter"):
        filters.enforcing(bad)
