"""The manual pages: complete, and without a complaint of groff and mandoc."""

from __future__ import annotations

import subprocess
from pathlib import Path

import click
import pytest
from unit.documents import rows, section

from profiler import errors
from profiler.cli.main import COMMANDS, cli
from profiler.cli.manual import STATUSES, pages, write

SECTIONS = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "SEE ALSO"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("man")
    for name, text in pages("2026-11-30").items():
        (into / name).write_text(text)
    return into


def ran(*words: str | Path) -> tuple[str, str]:
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=60, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    )
    return done.stdout, done.stderr


def test_one_page_for_each_command(directory: Path) -> None:
    assert {path.name for path in directory.iterdir()} == {"profgen.1", *(f"profgen-{name}.1" for name in COMMANDS)}


def test_mandoc_has_nothing_to_say(directory: Path) -> None:
    assert ran("mandoc", "-T", "lint", *directory.iterdir()) == ("", "")


def test_groff_has_nothing_to_say(directory: Path) -> None:
    for path in directory.iterdir():
        shown, complaints = ran("groff", "-man", "-Tutf8", "-ww", "-P-cbou", path)
        assert not complaints, path.name
        heads = [line for line in shown.splitlines() if line and line[0] != " "]
        assert [head for head in heads if head in SECTIONS] == SECTIONS, path.name


def test_every_option_is_shown(directory: Path) -> None:
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command
        shown, _ = ran("groff", "-man", "-Tutf8", "-P-cbou", directory / f"profgen-{name}.1")
        assert "--help" in shown
        for option in command.params:
            if isinstance(option, click.Option):
                assert all(word in shown for word in (*option.opts, *option.secondary_opts)), name


def test_examples_are_shown_as_typed(directory: Path) -> None:
    shown, _ = ran("groff", "-man", "-Tutf8", "-P-cbou", directory / "profgen-record.1")
    assert "       profgen record --image nginx:1.27 -p 8080:80 -- nginx -g 'daemon off;'\n" in shown


def test_statuses() -> None:
    classes = [
        each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.ProfgenError)
    ]
    assert {str(each.exit_code) for each in classes} | {"0", "1", "130", "141"} == set(STATUSES)
    assert set(STATUSES) == {row[0] for row in rows(section("docs/commands.md", "Exit statuses")) if row[0].isdigit()}


def test_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert '"1970-01-02"' in write(tmp_path / "man")[0].read_text().splitlines()[0]
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert ' 1 "" ' in write(tmp_path / "man")[0].read_text().splitlines()[0]
