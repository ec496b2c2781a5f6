"""Names of kernel functions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.tracers.ebpf.symbols import UNKNOWN, Symbols

TEXT = """\
0000000000001000 A fixed_percpu_data
ffffffff81000000 T _text
ffffffff81000100 T cap_capable
ffffffff81000200 t first_of_two
ffffffff81000200 T second_of_two
ffffffff81000300 t last
ffffffffc0002000 t ovl_permission\t[overlay]
ffffffffc0002100 d ovl_data\t[overlay]
ffffffffc0001000 t ovl_open\t[overlay]
ffffffffc0003000 t bpf_prog_6deef7357e7b4530_on_sys_exit\t[bpf]
"""


@pytest.fixture
def symbols(tmp_path: Path) -> Symbols:
    path = tmp_path / "kallsyms"
    path.write_text(TEXT)
    return Symbols(path=str(path))


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (0x500, UNKNOWN),
        (0xFFFFFFFF81000000, "_text"),
        (0xFFFFFFFF810000FF, "_text"),
        (0xFFFFFFFF81000100, "cap_capable"),
        (0xFFFFFFFF81000250, "first_of_two"),
        (0xFFFFFFFF81000300, "last"),
        (0xFFFFFFFFC0000FFF, UNKNOWN),
        (0xFFFFFFFFC0001FFF, "ovl_open"),
        (0xFFFFFFFFC00021FF, "ovl_permission"),
        (0xFFFFFFFFC0003010, "bpf_prog_6deef7357e7b4530_on_sys_exit"),
    ],
)
def test_names(address: int, name: str, symbols: Symbols) -> None:
    """Of two names of one address it is the first, as in the kernel's own messages."""
    assert symbols.name(address) == name


@given(st.lists(st.integers(1, 2**63), min_size=1, unique=True), st.integers(0, 2**63))
def test_the_nearest_function_below(tmp_path_factory: pytest.TempPathFactory, begins: list[int], address: int) -> None:
    path = tmp_path_factory.mktemp("symbols") / "kallsyms"
    path.write_text("".join(f"{begin:016x} t f{begin}\n" for begin in sorted(begins)))
    below = [begin for begin in begins if begin <= address]
    expected = f"f{max(below)}" if below and address <= max(begins) else UNKNOWN
    assert Symbols(path=str(path)).name(address) == expected


@pytest.mark.skipif(os.geteuid() != 0, reason="only root sees addresses")
def test_this_kernel() -> None:
    with open("/proc/kallsyms") as file:
        (address,) = [int(line.split()[0], 16) for line in file if line.split()[2] == "cap_capable"]
    assert Symbols().name(address) == Symbols().name(address + 8) == "cap_capable"


def test_without_modules(tmp_path: Path) -> None:
    path = tmp_path / "kallsyms"
    path.write_text(TEXT.partition("ffffffffc")[0])
    assert Symbols(path=str(path)).name(0xFFFFFFFF81000110) == "cap_capable"
    path.write_text("")
    assert Symbols(path=str(path)).name(0xFFFFFFFF81000110) == UNKNOWN


def test_known_names(tmp_path: Path) -> None:
    """The kernel's own functions stay where they are until the next boot; those of modules do not."""
    path = tmp_path / "kallsyms"
    path.write_text(TEXT)
    known: dict[str, str] = {}
    first = Symbols(known, str(path))
    addresses = (0xFFFFFFFF81000100, 0xFFFFFFFFC0002001, 0x500)
    assert [first.name(address) for address in addresses] == ["cap_capable", "ovl_permission", UNKNOWN]
    assert known == {"ffffffff81000100": "cap_capable"}
    path.unlink()
    assert Symbols(known, str(path)).name(0xFFFFFFFF81000100) == "cap_capable"
