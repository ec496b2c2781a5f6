"""Data files are read in whole or by section, parsed or compiled, with one result."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import yaml

import profiler
from profiler.kernel import data
from profiler.kernel.data import load, load_section


def test_a_section_is_what_the_whole_file_has() -> None:
    whole = load("constants.yaml")
    assert {key: load_section("constants.yaml", key) for key in whole} == whole


def test_a_section_that_is_not_there() -> None:
    with pytest.raises(KeyError):
        load_section("constants.yaml", "nothing")


@pytest.fixture
def compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", None)


def read(path: Path) -> object:
    """What a new process reads."""
    load.cache_clear()
    return load(path.name, str(path))


@pytest.mark.usefixtures("compiling")
@pytest.mark.parametrize("path", sorted(Path(profiler.__file__).parent.rglob("*.yaml")), ids=lambda path: path.name)
def test_compiled_files_hold_what_the_text_says(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    expected = repr(yaml.safe_load(path.read_bytes()))
    assert repr(read(copy)) == expected
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert repr(read(copy)) == expected, "without a parser"


@pytest.mark.usefixtures("compiling")
def test_a_changed_file_is_parsed_again(tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    for number, (text, value) in enumerate((("a: 1\n", {"a": 1}), ("a: 22\n", {"a": 22}), ("[x]\n", ["x"]))):
        path.write_text(text)
        os.utime(path, (number, number))
        assert read(path) == value == read(path)
    (compiled,) = (tmp_path / "__pycache__").iterdir()
    compiled.write_bytes(b"damaged")
    assert read(path) == ["x"]


@pytest.mark.usefixtures("compiling")
@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    path.write_text("a: 1\n")
    tmp_path.chmod(0o500)
    assert read(path) == {"a": 1} == read(path)
    tmp_path.chmod(0o700)


@pytest.mark.usefixtures("compiling")
def test_sections_are_compiled_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "some.yaml"
    path.write_text("a: 1\nb: [2]\n")
    assert [data._Compiler(path, key).value() for key in "ab"] == [{"a": 1}, {"b": [2]}]
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert [data._Compiler(path, key).value() for key in "ab"] == [{"a": 1}, {"b": [2]}], "without a parser"


def test_sections_have_names_of_their_own() -> None:
    one = data._Compiler(Path("/x/some.yaml"), "a").path
    assert one not in (data._Compiler(Path("/x/some.yaml")).path, data._Compiler(Path("/x/some.yaml"), "b").path)
