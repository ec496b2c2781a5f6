"""Options that several commands share; and how thin the command line is."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st
from unit.policy.making import call, check, trace
from unit.trace.written import write_trace

from profiler.cli import options
from profiler.cli.main import COMMANDS, cli, run
from profiler.cli.options import Duration, OutputOptions, WorkloadOptions, grouped, output_options, workload_options
from profiler.wording import duration

LONGEST = 60
"""Lines of a function of the command line, with its docstring."""


def functions() -> list[tuple[str, int]]:
    return [
        (f"{path.name}:{node.name}", (node.end_lineno or 0) - node.lineno + 1)
        for path in sorted(Path(options.__file__).parent.glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def test_the_command_line_is_thin() -> None:
    assert len(functions()) > 50
    assert [row for row in functions() if row[1] > LONGEST] == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("5m", 300),
        ("0.5h", 1800),
        ("1d", 86400),
        ("250ms", 0.25),
        ("0.000001", 0.000001),
        ("2m 5s", 125),
        ("1h30m", 5400),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == pytest.approx(seconds)


@given(st.text())
@example("0")
@example("0.0s")
@example("-1")
@example("nan")
@example("inf")
@example("1e3")
@example("1_0")
@example("\u0661")
@example("5 m")
@example("5M")
@example("5s 2m")
@example("2m ")
@example("2m  5s")
@example("9" * 5000)
def test_a_duration_is_above_zero_or_refused(text: str) -> None:
    said = ""
    try:
        assert 0 < Duration().convert(text, None, None) < 1e15
    except click.BadParameter as error:
        said = error.format_message()
        assert "such as 90, 90s or 5m" in said
        assert len(said) < 600


@given(st.floats(0.0005, 1e7))
def test_what_is_printed_can_be_typed(seconds: float) -> None:
    assert Duration().convert(duration(seconds), None, None) == pytest.approx(seconds, rel=0.05, abs=0.051)


@dataclass(frozen=True)
class _Colours:
    front: str
    back: str


def test_a_group_of_options_is_one_object() -> None:
    got: list[object] = []

    @click.command()
    @grouped(_Colours, "colours", click.option("--front", default="red"), click.option("--back", default="blue"))
    @output_options("The result.")
    @workload_options(options.USER, options.DURATION)
    def command(colours: _Colours, to: OutputOptions, workload: WorkloadOptions) -> None:
        """Do it."""
        got.extend((colours, to, workload))

    words = ["--back", "grey", "-q", "-o", "x", "--duration", "2m", "true", "now"]
    assert CliRunner().invoke(command, words).exit_code == 0
    assert got == [
        _Colours("red", "grey"),
        OutputOptions("x", True),
        WorkloadOptions(("true", "now"), None, 120.0),
    ]
    shown = CliRunner().invoke(command, ["--help"]).output
    assert shown.index("--front") < shown.index("--back") < shown.index("--output") < shown.index("--user")


def test_a_directory_that_generate_wrote_serves_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_trace(trace(call("read"), capabilities=[check("CAP_CHOWN")]), tmp_path / "app.trace.json")
    assert run(["generate", "app.trace.json"]) == 0
    (tmp_path / "audit.log").write_text("")
    for line in (
        "generate app.profile",
        "diff app.profile app.profile",
        "explain app.profile read",
        "explain app.profile/policy.yaml --trace app.profile read",
        "coverage app.profile",
        "merge app.profile app.profile",
        "merge --base app.profile app.profile app.trace.json",
        "lint app.profile",
        "score app.profile --compare app.profile",
        "refine app.profile --from audit.log",
    ):
        assert run(line.split()) in (0, 1), (line, capfd.readouterr().err)


def test_every_report_may_have_colours() -> None:
    context = click.Context(cli)
    for name in COMMANDS:
        shown = cli.get_command(context, name)
        assert shown is not None
        named = {word for option in shown.params for word in option.opts}
        assert "--format" not in named or "--color" in named, name
