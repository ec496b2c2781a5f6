"""Path patterns in the operator's form."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs import examples
from unit.targets.policies import SOME
from unit.targets.spo.daemon import PATH, regex
from unit.targets.spo.samples import paths

from profiler.errors import InputError
from profiler.quoting.apparmor import Inexpressible
from profiler.targets.spo.globs import ACCEPTED, Glob, globs, overlap


def texts(pattern: str) -> list[str]:
    return [glob.text for glob in globs(pattern)]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("/etc/passwd", ["/etc/passwd"]),
        ("/a b/c:d,[e].x~", ["/a?b/c?d??e?.x?"]),
        ("/\u00e9/\\{x\\}*", ["/??/?x??"]),
        ("/..data/x", ["/?.data/x"]),
        ("/proc/{pid}/task/{tid}/stat", ["/proc/@{pid}/task/@{tid}/stat"]),
        ("{home}/.ssh/{name}", ["/root/.ssh/*", "/home/*/.ssh/*"]),
        ("{home}", ["/root", "/home/*"]),
        ("/srv/{tree}", ["/srv/**"]),
        ("/srv/x{tree}", ["/srv/x**"]),
        ("/srv/{name}.log", ["/srv/?*.log"]),
        ("/srv/{digits}{lower:1-3}", ["/srv/?*?*"]),
        ("/srv/{hex:4}", ["/srv/????"]),
        ("/srv/{uuid}", ["/srv/????????-????-????-????-????????????"]),
        ("/srv/{name}{tree}", ["/srv/?**"]),
    ],
)
def test_form(pattern: str, expected: list[str]) -> None:
    assert texts(pattern) == expected


@pytest.mark.parametrize("pattern", ["/a//b", "memfd:x", "{home}x", "/a\\x00b", "/" + "a" * 17_000])
def test_no_form(pattern: str) -> None:
    with pytest.raises((Inexpressible, InputError)):
        globs(pattern)


@given(SOME)
@settings(max_examples=examples(300), deadline=None)
def test_every_path_of_a_pattern_fits_what_is_written(pattern: str) -> None:
    try:
        written = globs(pattern)
    except (Inexpressible, InputError):
        return
    for glob in written:
        assert ACCEPTED.fullmatch(glob.text)
        assert PATH.fullmatch(glob.text)
        assert "***" not in glob.text
    for path in paths(pattern):
        text = os.fsencode(path).decode("latin-1")
        assert any(regex(glob.text).fullmatch(text) for glob in written), (path, written)


TOKENS = st.lists(st.sampled_from(["a", "b", "/", "?", "*", "**"]), max_size=5).map(
    lambda found: [token for at, token in enumerate(found) if not (at and "*" in token and "*" in found[at - 1])]
)
LETTERS = st.text("ab/", max_size=6)


@given(TOKENS, TOKENS, st.lists(LETTERS, max_size=40))
@settings(max_examples=examples(400), deadline=None)
def test_patterns_that_have_a_path_in_common_overlap(one: list[str], other: list[str], tried: list[str]) -> None:
    a, b = Glob(("/", *one)), Glob(("/", *other))
    assert overlap(a, b) is overlap(b, a)
    for text in tried:
        if regex(a.text).fullmatch("/" + text) and regex(b.text).fullmatch("/" + text):
            assert overlap(a, b)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("/a", "/a", True),
        ("/a", "/b", False),
        ("/a/{name}", "/a/b", True),
        ("/a/{name}", "/a/b/c", False),
        ("/a/{tree}", "/a/b/c", True),
        ("/a/{name}.log", "/a/{name}.txt", False),
        ("/a/{name}.log", "/a/x{name}", True),
        ("/proc/{pid}/stat", "/proc/1/stat", True),
        ("/{name}/x", "/{name}/y", False),
        ("/a/{hex:2}", "/a/abc", False),
    ],
)
def test_overlap(one: str, other: str, expected: bool) -> None:
    assert overlap(globs(one)[0], globs(other)[0]) is expected
