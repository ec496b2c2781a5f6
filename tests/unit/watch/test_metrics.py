"""Figures for Prometheus: the text format, whatever containers are called, and a server that stays on this machine."""

from __future__ import annotations

import re
import urllib.error
import urllib.request

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.errors import InputError, OutputError
from profiler.tracers.recording import Recording
from profiler.watch.metrics import CONTENT_TYPE, Figures, Server, SessionFigures, address, label, render

LINE = re.compile(
    r'profgen_[a-z_]+(\{[a-z]+="(?:[^"\\\n]|\\[\\"n])*"(,[a-z]+="(?:[^"\\\n]|\\[\\"n])*")*\})? [-+0-9.e]+'
)
SEEN = Recording("x86_64")
ROW = SessionFigures("web", "ab" * 32, 40, 1000, 2, 3, 50, 12.5, 11.0, SEEN)


def lines(figures: Figures) -> list[str]:
    return [line for line in render(figures).split("\n") if line and not line.startswith("#")]


def test_page() -> None:
    figures = Figures((ROW,), 3, 2, 5, 1, {"paths": 7}, {"tasks": (3, 32768)}, 1 << 20)
    found = lines(figures)
    assert "profgen_sessions 1" in found
    assert "profgen_sessions_ended_total 2" in found
    assert 'profgen_lost_total{class="paths"} 7' in found
    assert f'profgen_syscalls{{name="web",id="{"ab" * 32}"}} 40' in found
    assert 'profgen_store_room{store="tasks"} 32768' in found
    assert "profgen_resident_memory_bytes 1048576" in found
    heads = re.findall(r"^# TYPE (\S+) (?:counter|gauge)$", render(figures), re.MULTILINE)
    assert {line.partition("{")[0].partition(" ")[0] for line in found} == set(heads)


@given(
    st.text(max_size=20),
    st.text(max_size=20),
    st.dictionaries(st.text(max_size=5), st.integers(0, 1 << 60), max_size=3),
)
def test_any_names(name: str, identity: str, losses: dict[str, int]) -> None:
    row = SessionFigures(name, identity, 1, 1, 1, 1, 1, 1.0, 1.0, SEEN)
    for line in lines(Figures((row,), losses=losses)):
        assert LINE.fullmatch(line), line


def test_label() -> None:
    assert label('a"b\\c\nd') == '"a\\"b\\\\c\\\\nd"'


@pytest.mark.parametrize(
    ("text", "expected"),
    [("9464", ("127.0.0.1", 9464)), (":1", ("127.0.0.1", 1)), ("0.0.0.0:80", ("0.0.0.0", 80)), ("[::1]:9", ("::1", 9))],
)
def test_address(text: str, expected: tuple[str, int]) -> None:
    assert address(text) == expected


@pytest.mark.parametrize("text", ["", "x", "1.2.3.4", "a:b", "-1", "65536", "a:\u0661", "9464 "])
def test_no_address(text: str) -> None:
    with pytest.raises(InputError):
        address(text)


def test_server() -> None:
    server = Server(("127.0.0.1", 0))
    try:
        url = f"http://127.0.0.1:{server.port}"
        server.figures = Figures(begun=4)
        with urllib.request.urlopen(f"{url}/metrics?x=1", timeout=120) as page:
            assert page.headers["Content-Type"] == CONTENT_TYPE
            assert b"profgen_sessions_begun_total 4\n" in page.read()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{url}/", timeout=120)
        with pytest.raises(OutputError, match="cannot serve"):
            Server(("127.0.0.1", server.port))
    finally:
        server.close()
