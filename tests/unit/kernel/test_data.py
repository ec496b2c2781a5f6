"""Data files are read in whole or by section, with one result."""

from __future__ import annotations

import pytest

from profiler.kernel.data import load, load_section


def test_a_section_is_what_the_whole_file_has() -> None:
    whole = load("constants.yaml")
    assert {key: load_section("constants.yaml", key) for key in whole} == whole


def test_a_section_that_is_not_there() -> None:
    with pytest.raises(KeyError):
        load_section("constants.yaml", "nothing")
