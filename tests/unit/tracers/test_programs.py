"""Interpreters of scripts and loaders of ELF files."""

from __future__ import annotations

import os
import re
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.tracers.paths import Found
from profiler.tracers.programs import interpreter_of, loader_of


def test_loader_of_elf_files(tmp_path: Path) -> None:
    (tmp_path / "x.c").write_text("int main(void) { return 0; }\n")
    for name, option in (("dynamic", "-pie"), ("static", "-static")):
        subprocess.run(["gcc", option, "-o", tmp_path / name, tmp_path / "x.c"], check=True, timeout=60)
    asked = subprocess.run(
        ["readelf", "-lW", tmp_path / "dynamic"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    match = re.search(r"interpreter: (.*)\]", asked)
    assert match
    assert loader_of(str(tmp_path / "dynamic")) == match[1]
    assert loader_of(str(tmp_path / "static")) == ""
    (tmp_path / "short").write_bytes((tmp_path / "dynamic").read_bytes()[:70])
    (tmp_path / "script").write_bytes(b"#!/bin/sh\n")
    assert loader_of(str(tmp_path / "short")) is None
    assert loader_of(str(tmp_path / "script")) == ""
    assert loader_of(str(tmp_path / "missing")) is None


def test_loader_that_is_named_far_into_the_file(tmp_path: Path) -> None:
    """Tools that change the loader append its name to the file."""
    place = 1 << 20
    header = b"\x7fELF\2\1" + bytes(26) + struct.pack("<QQIHHH", place, 0, 0, 64, 56, 1) + bytes(6)
    segment = struct.pack("<IIQQQQQQ", 3, 4, place + 56, 0, 0, 8, 8, 1)
    (tmp_path / "far").write_bytes(header.ljust(place, b"\0") + segment + b"/lib/ld\0")
    assert loader_of(str(tmp_path / "far")) == "/lib/ld"


@given(st.binary(max_size=200))
def test_any_file_after_the_magic(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("elf") / "file"
    path.write_bytes(b"\x7fELF" + data)
    assert loader_of(str(path)) is None or isinstance(loader_of(str(path)), str)


def found(path: Path, kind: str = "file") -> Found:
    return Found(str(path), kind, 0, True, look=str(path))


@pytest.mark.parametrize(
    ("text", "interpreter"),
    [
        (b"#!/bin/sh\necho", "/bin/sh"),
        (b"#! /usr/bin/env -S python3\n", "/usr/bin/env"),
        (b"#!\t/bin/sh", "/bin/sh"),
        (b"#!\xff\n", "\udcff"),
        (b"#!\n/bin/sh", ""),
        (b"# !/bin/sh\n", None),
        (b"", None),
        (b"#!/" + b"x" * 1000, "/" + "x" * 253),
    ],
)
def test_interpreters(tmp_path: Path, text: bytes, interpreter: str | None) -> None:
    (tmp_path / "script").write_bytes(text)
    assert interpreter_of(found(tmp_path / "script")) == interpreter


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """A FIFO would wait for a writer, and a device may act when it is opened."""
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, Path("/dev/zero"), tmp_path / "missing"):
        assert interpreter_of(found(path)) is None
        assert loader_of(str(path)) is None
    (tmp_path / "script").write_bytes(b"#!/bin/sh\n")
    assert interpreter_of(found(tmp_path / "script", "directory")) is None
    assert interpreter_of(Found(str(tmp_path / "script"), "file")) is None, "profgen cannot reach it"
