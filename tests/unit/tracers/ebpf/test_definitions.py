"""What recorder.bpf.c is compiled with."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator

import pytest

from profiler.kernel.abi import native_abi
from profiler.tracers.ebpf.btf import KernelTypes
from profiler.tracers.ebpf.definitions import definitions, flags
from profiler.tracers.ebpf.limits import DEFAULT_LIMITS
from profiler.tracers.ebpf.loader import source

SOURCE = source()
needs_btf = pytest.mark.skipif(not os.path.exists("/sys/kernel/btf/vmlinux"), reason="this kernel has no type data")


@pytest.fixture(scope="module")
def types() -> Iterator[KernelTypes]:
    found = KernelTypes()
    yield found
    found.close()


@needs_btf
def test_every_definition(types: KernelTypes) -> None:
    """What the source leaves open is defined, and nothing that it does not use."""
    values = definitions(types, DEFAULT_LIMITS, watch=True)
    used = set(re.findall(r"\b(?:OFFSET|NR|LIMIT)_[A-Z0-9_]+\b", SOURCE))
    assert used <= set(values)
    assert {name for name in values if name.startswith(("OFFSET_", "NR_", "LIMIT_"))} <= used
    assert all(0 <= value < 1 << 32 for value in values.values())
    assert values["LIMIT_TASKS"] == DEFAULT_LIMITS["tasks"]
    assert values["LIMIT_EVENT_PAGES"] == DEFAULT_LIMITS["events"]
    assert values["LIMIT_PATH_PAGES"] == DEFAULT_LIMITS["paths"]


@needs_btf
@pytest.mark.skipif(platform.machine() != "x86_64", reason="registers of x86-64")
def test_argument_registers(types: KernelTypes) -> None:
    values = definitions(types, DEFAULT_LIMITS)
    native = [types.offset("pt_regs", name) for name in ("di", "si", "dx", "r10", "r8", "r9")]
    compat = [types.offset("pt_regs", name) for name in ("bx", "cx", "dx", "si", "di", "bp")]
    assert [values[f"OFFSET_ARGUMENT_{position}"] for position in range(6)] == native
    assert [values[f"OFFSET_COMPAT_ARGUMENT_{position}"] for position in range(6)] == compat
    assert values["NR_EXECVE"] == 59
    assert values["NR_SETUID"] == 105


class Aarch64Types:
    """Offsets of struct pt_regs as aarch64 has it (arch/arm64/include/asm/ptrace.h): user_regs (31 registers, sp, pc,
    pstate), orig_x0."""

    def offset(self, structure: str, *path: str) -> int:
        return {("pt_regs", "regs"): 0, ("pt_regs", "orig_x0"): 34 * 8}.get((structure, *path), 1000)

    def find(self, name: str, kind: int) -> int | None:
        return None


def test_definitions_for_aarch64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert native_abi() == "aarch64"
    values = definitions(Aarch64Types(), DEFAULT_LIMITS)  # type: ignore[arg-type]
    # regs[0] holds the result at the exit, so the first argument comes from orig_x0
    places = [34 * 8, 8, 16, 24, 32, 40]
    assert [values[f"OFFSET_ARGUMENT_{position}"] for position in range(6)] == places
    assert [values[f"OFFSET_COMPAT_ARGUMENT_{position}"] for position in range(6)] == places
    assert values["NR_EXECVE"] == 221
    assert values["NR_SETUID"] == 146
    assert values["NR_SETGID"] == 144
    assert values["COMPAT_BIT"] == 1 << 22
    assert "X32_BIT" not in values
    values |= definitions(Aarch64Types(), DEFAULT_LIMITS, watch=True)  # type: ignore[arg-type]
    used = set(re.findall(r"\b(?:OFFSET|NR|LIMIT)_[A-Z0-9_]+\b", SOURCE))
    assert used <= set(values)


@needs_btf
@pytest.mark.parametrize("uses", [False, True])
@pytest.mark.parametrize("watch", [False, True])
def test_flags(uses: bool, watch: bool, types: KernelTypes) -> None:
    """Each definition, and each part that is wanted, once."""
    found = flags(types, DEFAULT_LIMITS, uses=uses, watch=watch, denials=False)
    values = definitions(types, DEFAULT_LIMITS, uses=uses, watch=watch)
    assert {f"-D{name}={value}" for name, value in values.items()} <= set(found)
    assert ("-DWITH_USES" in found, "-DWITH_WATCH" in found, "-DWITH_DENIALS" in found) == (uses, watch, False)
    assert len(found) == len({flag.partition("=")[0] for flag in found if flag[:2] == "-D"}) + 2
