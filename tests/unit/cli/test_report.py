"""profgen report as a user calls it."""

from __future__ import annotations

from pathlib import Path

import pytest
from unit.cli.running import profgen, python
from unit.report.recordings import recording
from unit.trace.written import write_trace

WITHOUT = """
import sys
sys.modules["altair"] = None
from profiler.cli.main import run
sys.exit(run(sys.argv[1:]))
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / "app.trace.json"
    write_trace(recording(), path)
    return path


def test_an_input_is_not_replaced(app: Path) -> None:
    before = app.read_bytes()
    for words in ((app, "-o", app), (app, "--base", app, "-o", app)):
        done = profgen("report", *words)
        assert (done.returncode, done.stdout) == (125, "")
        assert "input of this command" in done.stderr
    assert app.read_bytes() == before


def test_the_page_is_written(app: Path) -> None:
    done = profgen("report", app, cwd=app.parent)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "profgen: wrote report.html: open it in a browser\n"
    page = (app.parent / "report.html").read_bytes()
    assert page.startswith(b"<!DOCTYPE html>")
    assert len(page) > 800_000, "the code that draws is in it"


def test_without_the_extra(app: Path) -> None:
    done = python("-c", WITHOUT, "report", app)
    assert done.returncode == 125
    assert "the Python package altair, which is not installed" in done.stderr
    assert done.stderr.endswith("pip install '.[report]'\n")


def test_a_missing_file_without_the_extra(app: Path) -> None:
    for words in ((app.parent / "nothing",), (app, "--base", app.parent / "nothing")):
        done = python("-c", WITHOUT, "report", *words)
        assert done.returncode == 2
        assert "nothing: no such file" in done.stderr.lower()


def test_what_cannot_be_read(app: Path) -> None:
    done = profgen("report", app, app.parent / "nothing")
    assert done.returncode == 2
    assert "nothing" in done.stderr
    assert len(done.stderr.splitlines()) == 1
