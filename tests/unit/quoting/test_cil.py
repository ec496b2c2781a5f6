"""Names and paths for SELinux."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.quoting.cil import NAME, RESERVED, Inexpressible, cil, cil_names, cil_path


def test_names() -> None:
    assert cil("web.process") == "web.process"
    assert cil_names({"read", "getattr"}) == "(getattr read)"
    assert all(NAME.fullmatch(word) for word in RESERVED)


@pytest.mark.parametrize("name", ["", "1a", "a b", "a)", "a;b", "a..b", ".a", "a.", "é", "a\n", "(", '"'])
def test_what_is_not_a_name(name: str) -> None:
    with pytest.raises(Inexpressible):
        cil(name)
    with pytest.raises(Inexpressible):
        cil_names([name])


def test_paths() -> None:
    assert cil_path("/srv/a.b/") == r'"/srv/a\.b(/.*)?"'
    for path in ("srv", "/a b", "/a\n", '/a"', "/a(", "/a*", "/a\\"):
        with pytest.raises(Inexpressible):
            cil_path(path)


@given(st.text(alphabet='/ab.@:,~=-_%0 \n"()[]{}*?+^$|\\', max_size=12))
def test_a_path_means_itself(path: str) -> None:
    try:
        quoted = cil_path(path)
    except Inexpressible:
        return
    regex = re.compile(quoted[1:-1])
    place = path.rstrip("/")
    assert regex.fullmatch(place)
    assert regex.fullmatch(f"{place}/x")
    assert not regex.fullmatch(f"{place}x")
