"""Rules against two independent judges: libseccomp's program for them, and this kernel."""

from __future__ import annotations

import ctypes
import os
import platform
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs import examples
from simulation import ALLOWED, ERRNO, program, run
from unit.policy.making import DEFAULT_ERRNO, call, oci_verdict, rows, seccomp_filter, trace

from profiler.kernel.arguments import recorded_names, spec_for
from profiler.kernel.syscalls import number_of
from profiler.policy.derive import derive
from profiler.policy.document import dumps, loads
from profiler.policy.model import Options
from profiler.targets.seccomp import profile
from profiler.trace.model import Syscall

REGISTER = (
    st.integers(0, 8)
    | st.sampled_from(
        [0, 2, 10, 38, 0x20000, 0x10000000, 0x7E020000, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF, 0x1_0000_0002, 0x5401]
    )
    | st.integers(0, (1 << 64) - 1)
)


@given(rows(), st.lists(st.tuples(*[REGISTER] * 6), min_size=1, max_size=20))
@settings(max_examples=examples(40), deadline=None)
def test_policy_profile_and_libseccomp_agree(seen: list[Syscall], calls: list[tuple[int, ...]]) -> None:
    """The same answer for every call: by the policy, by the OCI profile's wording and by the kernel program for it."""
    policy = derive(trace(*seen), Options())
    made = profile(policy, "errno")
    instructions = program(seccomp_filter(made))
    for name in sorted(
        {row.name for row in policy.syscalls if row.name in recorded_names()}
        | {"socket", "clone", "clone3", "bpf", "read"}
    ):
        number = number_of("x86_64", name)
        assert number is not None
        spec = spec_for(name)
        tried = list(calls)
        for row in seen:
            if row.name == name and row.arguments and spec:
                for values in list(row.arguments.values)[:3]:
                    registers = [0] * 6
                    for position, value in zip(spec.positions, values, strict=True):
                        registers[position] = value
                    tried.append(tuple(registers))
        for registers in tried:
            verdict = oci_verdict(made, name, registers)
            assert (verdict == "allow") is policy.permits("x86_64", name, registers), (name, registers)
            returned = run(instructions, number, registers)
            expected = {"allow": ALLOWED, "default": ERRNO | DEFAULT_ERRNO}.get(verdict)
            assert returned == (ERRNO | int(verdict.split()[1]) if expected is None else expected), (
                name,
                registers,
                hex(returned),
            )


pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the calls are made with x86-64 numbers")


def kernel_answers(seen: list[Syscall], calls: list[tuple[str, tuple[int, ...]]]) -> list[int]:
    """Errno of each call (0 for success) in a child under the real filter; the default answer is DEFAULT_ERRNO."""
    made = profile(derive(trace(*seen), Options(runtime="none")), "errno")
    built = seccomp_filter(made, only={name for name, _ in calls})
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    numbers = [number_of("x86_64", name) for name, _ in calls]
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answers = []
            built.load()
            for number, (_, registers) in zip(numbers, calls, strict=True):
                ctypes.set_errno(0)
                result = libc.syscall(ctypes.c_long(number or 0), *(ctypes.c_ulong(value) for value in registers))
                answers.append(ctypes.get_errno() if result == -1 else 0)
            os.write(writer, struct.pack(f"<{len(answers)}i", *answers))
        finally:
            os._exit(0)
    os.close(writer)
    data = b""
    while block := os.read(reader, 65536):
        data += block
    os.close(reader)
    os.waitpid(child, 0)
    assert len(data) == 4 * len(calls), "the child did not report: the filter broke it"
    return list(struct.unpack(f"<{len(calls)}i", data))


CASES = [
    # What the workload did, what it may do, what it may not.
    (
        [call("socket", [(2, 1, 0), (1, 2, 0)])],
        [
            ("socket", (2, 1, 0)),
            ("socket", (2, 0x80801, 6)),
            ("socket", (0xFFFFFFFF00000002, 1, 0)),
            ("socket", (1, 2, 0)),
        ],
        [
            ("socket", (38, 5, 0)),
            ("socket", (2, 2, 0)),
            ("socket", (10, 1, 0)),
            ("socket", (16, 3, 0)),
            ("socket", (17, 3, 768)),
        ],
    ),
    (
        [call("unshare", [(0x400,)])],
        [("unshare", (0x400,)), ("unshare", (0,))],
        [("unshare", (0x10000000,)), ("unshare", (0x10000400,)), ("unshare", (0x20000,))],
    ),
    (
        [call("mmap", [(1,), (5,)])],
        [("mmap", (0, 4096, 3, 0x22, 0xFFFFFFFF, 0)), ("mmap", (0, 4096, 5, 0x22, 0xFFFFFFFFFFFFFFFF, 0))],
        [("mmap", (0, 4096, 7, 0x22, 0xFFFFFFFF, 0)), ("mmap", (0, 4096, 6, 0x22, 0xFFFFFFFF, 0))],
    ),
    (
        [call("prctl", [(16,), (39,)])],
        [("prctl", (39, 0, 0, 0, 0)), ("prctl", (0x1_00000027, 0, 0, 0, 0))],
        [("prctl", (4, 1)), ("prctl", (22, 2, 0)), ("prctl", (0xFFFFFFFFFFFFFFFF,))],
    ),
    (
        [call("personality", [(0xFFFFFFFF,)])],
        [("personality", (0xFFFFFFFF,)), ("personality", (0xFFFFFFFFFFFFFFFF,))],
        [("personality", (0,)), ("personality", (0x40000,))],
    ),
    (
        [call("clone", [(0x1200000,)]), call("clone3", [(0x3D0F00,)])],
        # CLONE_SIGHAND without CLONE_VM: past the filter, and refused by the kernel before it makes a process.
        [("clone", (0x800, 0, 0, 0, 0))],
        [("clone", (0x10000800, 0, 0, 0, 0)), ("clone", (0x20000800, 0, 0, 0, 0)), ("clone", (0x40000011, 0, 0, 0, 0))],
    ),
]


@pytest.mark.parametrize(("seen", "allowed", "refused"), CASES, ids=[case[0][0].name for case in CASES])
def test_the_kernel_lets_through_what_was_seen_and_nothing_else(
    seen: list[Syscall], allowed: list[tuple[str, tuple[int, ...]]], refused: list[tuple[str, tuple[int, ...]]]
) -> None:
    answers = kernel_answers(seen, allowed + refused)
    assert DEFAULT_ERRNO not in answers[: len(allowed)]
    assert answers[len(allowed) :] == [DEFAULT_ERRNO] * len(refused)


def test_clone3_is_answered_enosys() -> None:
    assert kernel_answers([call("clone3", [(0x3D0F00,)])], [("clone3", (0, 0))]) == [38]


@pytest.mark.parametrize(
    ("name", "position", "seen", "allowed", "refused"),
    [
        # MS_REMOUNT|MS_BIND: with more flags that restrict, with those of access times; not with MS_MOVE.
        ("mount", 3, 0x1020, [0, 0x1029, 0x1201D2F, 0x9020], [0x3020, 0x1060]),
        # MS_RDONLY was seen: a filter cannot require it, but a new operation stays refused.
        ("mount", 3, 1, [0, 1, 15], [0x1000, 0x20]),
        ("umount2", 1, 2, [0, 2, 10], [1, 4]),
        ("memfd_create", 1, 0, [0, 1, 8, 9], [2, 4, 0x10]),
        ("userfaultfd", 0, 1, [1, 0x80801], [0, 0x80800, 2]),
    ],
)
def test_flags_that_give_no_right_are_free(
    name: str, position: int, seen: int, allowed: list[int], refused: list[int]
) -> None:
    policy = derive(trace(call(name, [(seen,)])), Options(runtime="none"))
    (entry,) = (entry for entry in policy.syscalls if entry.name == name)

    def permits(value: int) -> bool:
        return entry.permits([value if at == position else 0 for at in range(6)])

    assert all(map(permits, [seen, *allowed]))
    assert not any(map(permits, refused))
    assert loads(dumps(policy).encode(), "policy.yaml") == policy


def test_a_rule_that_compares_free_flags_reads_back() -> None:
    """A reviewer may require what a pass leaves free."""
    policy = derive(trace(call("mount", [(0x1021,)])), Options(runtime="none"))
    text = dumps(policy).replace("{only: MS_REMOUNT|MS_BIND}", "{without: MS_NOEXEC|MS_MOVE}")
    read = loads(text.encode(), "policy.yaml")
    assert read != policy
    (entry,) = (entry for entry in read.syscalls if entry.name == "mount")
    assert entry.permits([0, 0, 0, 1, 0, 0])
    assert not entry.permits([0, 0, 0, 8, 0, 0])
    assert loads(dumps(read).encode(), "policy.yaml") == read
