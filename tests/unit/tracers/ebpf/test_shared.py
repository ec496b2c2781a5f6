"""shared.py reads from shared.h what a C compiler does: every constant, every structure, every member's place."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.tracers.ebpf import shared
from profiler.tracers.ebpf.shared import HEADER, constant, header, names, parse, structure


def compiled_values(tmp_path: Path, expressions: list[str]) -> list[int]:
    """What C makes of expressions over the header, as signed 64-bit numbers."""
    source = tmp_path / "x.c"
    lines = "\n".join(f'    __builtin_printf("%lld\\n", (long long)({expression}));' for expression in expressions)
    kinds = HEADER.parent / "include" / "linux" / "kconfig.h"
    source.write_text(f'#include "{kinds}"\n#include "{HEADER}"\nint main(void) {{\n{lines}\n    return 0;\n}}\n')
    done = subprocess.run(
        ["gcc", "-o", tmp_path / "x", source], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    printed = subprocess.run([tmp_path / "x"], capture_output=True, text=True, timeout=60, check=True).stdout
    return [int(line) for line in printed.split()]


def test_constants(tmp_path: Path) -> None:
    known = header().constants
    assert dict(zip(known, compiled_values(tmp_path, list(known)), strict=True)) == known


def test_structures(tmp_path: Path) -> None:
    expected: dict[str, int] = {}
    for name, found in header().structures.items():
        expected[f"sizeof(struct {name})"] = ctypes.sizeof(found)
        for member, *_ in found._fields_:
            place = getattr(found, member)
            expected[f"__builtin_offsetof(struct {name}, {member})"] = place.offset
            expected[f"sizeof(((struct {name} *)0)->{member})"] = place.size
    assert len(expected) > 200
    assert dict(zip(expected, compiled_values(tmp_path, list(expected)), strict=True)) == expected


def test_keys_have_no_hidden_padding() -> None:
    """The kernel compares all bytes of a key, and C leaves the bytes between members as they are."""
    for name, found in header().structures.items():
        if name.endswith("_key"):
            sizes = [getattr(found, member).size for member, *_ in found._fields_]
            assert sum(sizes) == ctypes.sizeof(found), name


def test_everything_in_the_header_is_read() -> None:
    text = HEADER.read_text()
    read = header()
    assert text.count("\n#define ") + sum(map(len, read.enums.values())) == len(read.constants)
    assert text.count("\nenum ") == len(read.enums)
    assert text.count("\nstruct ") == len(read.structures)


def test_names() -> None:
    assert names("kind", "KIND_") == ("command", "container", "cgroup", "pid")
    routes = names("route", "ROUTE_", "TAIL_")
    assert len(routes) == constant("ROUTES")
    assert [routes[constant(name)] for name in ("ROUTE_NONE", "TAIL_TEXT", "TAIL_NAMES")] == ["none", "text", "names"]
    assert len(names("stat", "LOST_")) == constant("STAT_LIVE")


def test_types_of_maps() -> None:
    """Of a type that only the kernel's side knows, or one of another size, the bytes are all there is."""
    assert shared.ctype("tally", ctypes.sizeof(structure("tally"))) is structure("tally")
    assert shared.ctype("unsigned int", 4) is ctypes.c_uint32
    for name, size in (("scratch", 4416), ("tally", 8), ("int", 0)):
        opaque = shared.ctype(name, size)
        assert ctypes.sizeof(opaque) == size
        assert opaque._type_ is ctypes.c_char


@pytest.mark.parametrize("text", ["#define A B", "struct s {\n    other x;\n};", "struct s {\n    u32 x[N];\n};"])
def test_unknown_names(text: str) -> None:
    with pytest.raises(KeyError):
        parse(text)


numbers = st.integers(0, 1 << 31)


@given(st.lists(st.none() | numbers, min_size=1, max_size=20), numbers, st.booleans())
def test_any_enum(values: list[int | None], shift: int, comments: bool) -> None:
    body = ", ".join(f"NAME_{index}" + ("" if value is None else f" = {value}u") for index, value in enumerate(values))
    note = "/* #define NAME_0 5\nenum x { A }; */" if comments else ""
    found = parse(f"enum e {{\n    {note}{body},\n}};\n#define AFTER (NAME_0 | 1 << 2) /* x */\n")
    expected: list[int] = []
    for value in values:
        expected.append(value if value is not None else expected[-1] + 1 if expected else 0)
    assert [found.constants[name] for name in found.enums["e"]] == expected
    assert found.constants["AFTER"] == expected[0] | 4


@given(st.lists(st.tuples(st.sampled_from(["char", "u8", "u16", "u32", "u64"]), st.none() | st.integers(1, 9))))
def test_any_structure(members: list[tuple[str, int | None]]) -> None:
    """Two structures of the same members, one within the other."""
    lines = "\n".join(
        f"    {kind} m{index}{f'[{length}]' if length else ''}; /* m{index} */"
        for index, (kind, length) in enumerate(members)
    )
    found = parse(f"struct inner {{\n{lines}\n}};\nstruct outer {{\n    struct inner one[2];\n    u8 last;\n}};\n")
    inner: Any = found.structures["inner"]
    assert [name for name, _ in inner._fields_] == [f"m{index}" for index in range(len(members))]
    widths = {"char": 1, "u8": 1, "u16": 2, "u32": 4, "u64": 8}
    for index, (kind, length) in enumerate(members):
        place = getattr(inner, f"m{index}")
        assert place.size == widths[kind] * (length or 1)
        assert place.offset % widths[kind] == 0
    assert found.structures["outer"].last.offset == 2 * ctypes.sizeof(inner)
