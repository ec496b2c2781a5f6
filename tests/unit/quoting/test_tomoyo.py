"""Words of TOMOYO's policy."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.quoting.tomoyo import NAMESPACE, WORD_MAX, Inexpressible, Wildcard, decoded, tomoyo, tomoyo_comment


def test_words() -> None:
    assert tomoyo("/a b") == "/a\\040b"
    assert tomoyo("/a\\*\n") == "/a\\\\*\\012"
    assert tomoyo("/é\udcff") == "/\\303\\251\\377"
    assert tomoyo(["/run/", Wildcard("\\$"), ".pid"]) == "/run/\\$.pid"
    assert decoded(b"/a\\040b\\\\x\\377") == "/a b\\x\udcff"


def test_what_has_no_form() -> None:
    for text in ("", "/" + "é" * (WORD_MAX // 8 + 1)):
        with pytest.raises(Inexpressible):
            tomoyo(text)


@given(st.binary(min_size=1, max_size=40).map(os.fsdecode))
def test_a_name_is_one_word_that_means_itself(name: str) -> None:
    word = tomoyo(name)
    assert word.isascii()
    assert word.isprintable()
    assert " " not in word
    assert decoded(word.encode()) == name


def test_comments_are_ascii() -> None:
    assert tomoyo_comment("café # \udcff") == "caf\\303\\251 # \\377"


def test_names_of_namespaces() -> None:
    assert NAMESPACE.fullmatch("profgen_nginx_0123abcd")
    for name in ("", "a b", "a>", "<a", "a\\040", "é", "-a", "a" * 65):
        assert not NAMESPACE.fullmatch(name)
