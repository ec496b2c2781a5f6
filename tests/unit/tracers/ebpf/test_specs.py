"""What the kernel programs are told of each call."""

from __future__ import annotations

import pytest

from profiler.kernel.sockets import socketcalls
from profiler.kernel.syscalls import number_of
from profiler.tracers.ebpf import reader, specs


@pytest.mark.parametrize(
    ("name", "route", "members"),
    [
        ("open", "open", {"path": (0,), "at": (7,), "flags": 1}),
        ("openat", "open", {"path": (1,), "at": (0,), "flags": 2}),
        ("openat2", "open", {"path": (1,), "at": (0,), "only": "how"}),
        ("creat", "open", {"path": (0,), "flags": 7}),
        ("open_by_handle_at", "descriptor", {"fd": 7}),
        ("ftruncate", "descriptor", {"fd": 0}),
        ("mmap", "descriptor", {"fd": 4, "only": "executable"}),
        ("mprotect", "descriptor", {"only": "protected"}),
        ("flock", "descriptor", {"fd": 0, "only": "flock"}),
        ("stat", "text", {"failures": True, "path": (0,)}),
        ("execve", "text", {"failures": True, "path": (0,), "only": "execute"}),
        ("mkdirat", "text", {"failures": False, "path": (1,), "at": (0,), "follow": 0}),
        ("mknodat", "text", {"mode": 2}),
        ("symlinkat", "text", {"path": (2, 0), "at": (1, 7), "plain": 2, "only": "symlink"}),
        ("renameat2", "text", {"path": (1, 3), "at": (0, 2), "flags": 4, "only": "names"}),
        ("linkat", "text", {"path": (1, 3), "at": (0, 2), "flags": 4, "fd": 7, "optional": 1, "follow": 2}),
        ("unlinkat", "text", {"flags": 2, "flags_mask": 0x200, "only": "names"}),
        ("fchownat", "text", {"fd": 0, "flags": 4, "follow": 1}),
        ("mount", "text", {"path": (0, 1, 2), "flags": 3, "only": "mount", "plain": 4}),
        ("move_mount", "text", {"path": (1, 3, 7), "at": (0, 2, 7), "flags": 4}),
        ("connect", "socket", {"fd": 0, "path": (1, 2)}),
        ("sendmsg", "socket", {"fd": 0, "at": (1,)}),
        ("tgkill", "process", {"path": (1,), "mode": 2}),
        ("pidfd_getfd", "process", {"at": (0,)}),
    ],
)
def test_specs(name: str, route: str, members: dict[str, object]) -> None:
    spec = specs.specs("x86_64")[name]
    assert spec.route == route
    assert {member: getattr(spec, member) for member in members} == members


@pytest.mark.parametrize("abi", ["x86_64", "i386", "x32", "aarch64", "arm"])
def test_every_spec_fits(abi: str) -> None:
    """What is written into the kernel's table are numbers that fit there, and no call is written that has no number."""
    for number, spec in specs.rows(abi).items():
        assert 0 <= number < reader.NUMBERS or (
            abi == "x32" and number >= 512
        )  # its own calls, which the recorder only counts
        for position in (spec.fd, spec.flags, spec.mode, *spec.at, *spec.path):
            assert 0 <= position <= specs.NONE
        assert len(spec.at) <= 3
        assert len(spec.path) <= 3
        assert spec.only in specs.CONDITIONS
        assert spec.route in specs.ROUTES
    assert ("socketcall" in specs.specs(abi)) == (abi == "i386")


def test_numbers_of_socketcall() -> None:
    """Numbers that stand for i386's old socket calls are those of no call."""
    taken = {number_of("i386", name) for name in specs.specs("i386")}
    own = {specs.SOCKETCALLS + number for number in socketcalls()}
    assert not own & taken
    assert max(own) < reader.NUMBERS
