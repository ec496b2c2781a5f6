"""The profgen command itself: its help, its failures in one line, its exit statuses."""

from __future__ import annotations

import errno
import importlib
import io
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import click
import pytest
from unit.cli.running import ENVIRONMENT, profgen, python
from unit.policy.making import call, trace

from profiler import __main__ as start
from profiler import __version__, errors
from profiler.cli import main
from profiler.cli.main import COMMANDS, cli, run
from profiler.cli.terminal import in_colours, redraws, say, style_for
from profiler.policy.derive import derive
from profiler.policy.document import dumps
from profiler.policy.model import Options
from profiler.style import Style


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> dict[str, BaseException]:
    """A command that raises what is put under ``error``."""
    box: dict[str, BaseException] = {}

    @click.command()
    @click.argument("words", nargs=-1, type=click.UNPROCESSED)
    def doctor(words: tuple[str, ...]) -> None:
        raise box["error"]

    monkeypatch.setattr(importlib.import_module("profiler.cli.doctor"), "doctor", doctor)
    return box


# -- help --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_lists_the_commands(option: str) -> None:
    done = profgen(option)
    assert done.returncode == 0
    for name, text in COMMANDS.items():
        assert name in done.stdout
        assert text in " ".join(done.stdout.split())
    assert done.stderr == ""


def test_without_a_command() -> None:
    done = profgen()
    assert done.returncode == 2
    assert "Usage" in done.stdout + done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_module_and_help(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.name == name
    assert profgen(name, "--help").returncode == 0


def test_version() -> None:
    done = profgen("--version")
    assert (done.returncode, done.stdout.split()[-1]) == (0, __version__)


def test_help_imports_little() -> None:
    """It must be quick: what only some commands need is imported by them."""
    code = (
        "import json, sys; from profiler.cli.main import run; run(['--help']); print(json.dumps(sorted(sys.modules)))"
    )
    done = python("-c", code, check=True)
    modules = set(json.loads(done.stdout.splitlines()[-1]))
    assert "click" in modules
    heavy = {
        "yaml",
        "jinja2",
        "ptrace",
        "system_calls",
        "bcc",
        "hashlib",
        "subprocess",
        "profiler.cli.record",
        "profiler.kernel",
    }
    assert not heavy & modules


@pytest.mark.parametrize(
    "name", ["diff", "explain", "coverage", "verify", "lint", "score", "refine", "minimise", "doctor"]
)
def test_every_report_is_to_be_had_as_json(name: str) -> None:
    """In two spellings, the same everywhere."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    options = {option: parameter for parameter in command.params for option in parameter.opts}
    assert "json" in options["--format"].type.choices
    assert options["--json"].is_flag


def test_the_directory_that_generate_wrote_stands_for_its_policy(tmp_path: Path) -> None:
    made = derive(trace(call("read"), call("execve")), Options())
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "policy.yaml").write_text(dumps(made))
    for arguments in (
        ["lint", "app"],
        ["score", "app"],
        ["explain", "app", "read"],
        ["diff", "app", "app"],
        ["merge", "app", "app"],
    ):
        done = profgen(*arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert json.loads(profgen("generate", "app", "-t", "seccomp", cwd=tmp_path).stdout)
    assert (
        json.loads(profgen("diff", "--json", "app", "docker-default", cwd=tmp_path).stdout)["new"]["source"]
        == "docker-default"
    )
    done = profgen("lint", ".", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "profgen: cannot read ./policy.yaml: no such file or directory\n")


def test_an_interrupt_while_modules_are_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Importing(types.ModuleType):
        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "profiler.cli.main", Importing("profiler.cli.main"))
    assert start.main() == 130
    assert capsys.readouterr().err == "profgen: interrupted\n"


def test_a_reader_that_goes_away_is_no_verdict(
    failing: dict[str, BaseException], capfd: pytest.CaptureFixture[str]
) -> None:
    """As head(1) in a pipe: click alone would make status 1 of it, which is lint's and diff's word for findings."""
    failing["error"] = BrokenPipeError(errno.EPIPE, "Broken pipe")
    kept = os.dup(1)
    try:
        assert run(["doctor"]) == 141
    finally:
        os.dup2(kept, 1)
        os.close(kept)
    assert capfd.readouterr() == ("", "")


def test_standard_input_is_a_dash(tmp_path: Path) -> None:
    made = dumps(derive(trace(call("read")), Options()))
    assert profgen("explain", "-", "read", input=made, cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("terminal", "variables", "expected"),
    [
        (True, {"TERM": "xterm"}, (True, True)),
        (True, {}, (True, True)),
        (True, {"TERM": "dumb"}, (False, False)),
        (True, {"TERM": "xterm", "NO_COLOR": "1"}, (True, False)),
        (True, {"TERM": "xterm", "NO_COLOR": ""}, (True, True)),
        (False, {"TERM": "xterm"}, (False, False)),
    ],
)
def test_what_a_terminal_can_show(
    terminal: bool, variables: dict[str, str], expected: tuple[bool, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TERM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    assert (redraws(stream), style_for(stream).on) == expected


def test_labels_are_coloured(capsys: pytest.CaptureFixture[str]) -> None:
    say("  danger: it opens \x1b[31m the note: door", Style(on=True))
    say("a note: of that", Style(on=True))
    say("warning: no terminal here")
    assert capsys.readouterr().err.splitlines() == [
        "profgen:   \x1b[31mdanger\x1b[0m: it opens \\x1b[31m the note: door",
        "profgen: a note: of that",
        "profgen: warning: no terminal here",
    ]


def test_a_change_is_coloured_as_git_does() -> None:
    diff = "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-old\n+new\n same\n"
    assert in_colours(diff, Style()) == diff
    shown = in_colours(diff, Style(on=True))
    assert "\n\x1b[31m-old\x1b[0m\n\x1b[32m+new\x1b[0m\n same\n" in shown
    assert re.sub(r"\x1b\[[0-9;]*m", "", shown) == diff


# -- failures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["--nonsense"],
        ["record", "--nonsense"],
        ["record"],
        ["record", "--tracer", "nonsense", "--", "true"],
        ["record", "--duration", "-1", "--", "true"],
        ["record", "--duration", "nan", "--", "true"],
        ["record", "--duration", "x", "--", "true"],
        ["nonsense\x1b[2J\nnonsense"],
        ["--debug", "nonsense"],
    ],
    ids=repr,
)
def test_wrong_usage(arguments: list[str], tmp_path: Path) -> None:
    done = profgen(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("profgen: ")
    assert lines[0].isprintable()
    assert "; see profgen" in lines[0] or "; try: profgen" in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_a_command_with_a_slip(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recrod", "--", "true"]) == 2
    assert capsys.readouterr().err == "profgen: unknown command 'recrod' (did you mean record?); see profgen --help\n"


def test_a_command_that_helps_is_on_a_line_of_its_own(
    failing: dict[str, BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    failing["error"] = errors.OutputError("it was edited; do:", "profgen merge 'a b'\n\x1b[2J")
    assert run(["doctor"]) == 125
    assert capsys.readouterr().err == "profgen: it was edited; do:\n  profgen merge 'a b'\\n\\x1b[2J\n"


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (errors.ProfgenError("it broke"), 125, "it broke"),
        (errors.InputError("bad file"), 2, "bad file"),
        (errors.OutputError("no room"), 125, "no room"),
        (errors.TracerError("no way"), 125, "no way"),
        (errors.CommandNotFound("none"), 127, "none"),
        (errors.CommandNotExecutable("not so"), 126, "not so"),
        (errors.InputError("two\nlines\x1b[2J \udcff"), 2, "two"),
        (click.UsageError("wrong\nuse"), 2, "wrong"),
        (click.ClickException("wrong"), 2, "wrong"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (click.Abort(), 130, "interrupted"),
        (RuntimeError("a bug\nof ours"), 125, "internal error: RuntimeError: a bug"),
        (KeyError("x"), 125, "internal error"),
        (MemoryError(), 125, "not enough memory"),
        (ImportError("/x/_ctypes.so: failed to map segment from shared object"), 125, "not enough memory"),
        (RuntimeError("can't start new thread"), 125, "not enough memory"),
        (OSError(12, "Cannot allocate memory"), 125, "not enough memory"),
        (RecursionError("deep"), 125, "internal error"),
        (OSError(28, "No space left on device"), 125, "no space left on device"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_failure(
    error: BaseException, status: int, says: str, failing: dict[str, BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    failing["error"] = error
    assert run(["doctor"]) == status
    out, err = capsys.readouterr()
    assert out == ""
    # click ends the line on which a terminal shows ^C
    err = err.removeprefix("\n") if isinstance(error, KeyboardInterrupt) else err
    assert err.startswith("profgen: ")
    assert err.endswith("\n")
    assert err[:-1].isprintable()
    assert says in err
    assert "Traceback" not in err


@pytest.mark.parametrize("error", [errors.InputError("x"), RuntimeError("x")], ids=repr)
def test_debug_shows_where(error: Exception, failing: dict[str, BaseException]) -> None:
    failing["error"] = error
    with pytest.raises(type(error)):
        run(["--debug", "doctor"])
    # Behind the command it may be the workload's own.
    assert run(["doctor", "--", "--debug"]) == getattr(error, "exit_code", 125)


def test_debug_prints_a_traceback(tmp_path: Path) -> None:
    plain, debug = (
        profgen("generate", "none.json", cwd=tmp_path),
        profgen("--debug", "generate", "none.json", cwd=tmp_path),
    )
    assert plain.returncode == 2
    assert "Traceback" not in plain.stderr
    assert debug.returncode != 0
    assert "Traceback" in debug.stderr


def test_reader_has_gone() -> None:
    """As after ``profgen ... | head -0``: no complaint, no traceback."""
    reading, writing = os.pipe()
    os.close(reading)
    done = profgen("--help", stdout=writing, stderr=subprocess.PIPE, capture_output=False)
    os.close(writing)
    assert done.returncode != 0
    assert done.stderr == ""


@pytest.mark.parametrize(
    "command", ["targets", "targets --json", "--help", "--version", "completion bash", "record -h"]
)
@pytest.mark.parametrize(("output", "why"), [(">&-", "bad file descriptor"), (">/dev/full", "no space left on device")])
def test_standard_output_that_takes_nothing(command: str, output: str, why: str) -> None:
    """A result that reaches nobody is an error, also where only Python's exit would notice."""
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m profiler {command} {output}"],
        env={**ENVIRONMENT, "PYTHONUNBUFFERED": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (125, f"profgen: cannot write to standard output: {why}\n")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_standard_files_closed(closed: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m profiler generate none.json {closed}"],
        env=ENVIRONMENT,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "" if "2>&-" in closed else len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "count"),
    [([], 0), (["record"], 0), (["--debug"], 1), (["--debug", "record", "--debug"], 1), (["-h", "--debug", "x"], 2)],
)
def test_options_before_the_command(words: list[str], count: int) -> None:
    assert len(words[: main._before_command(words)]) == count


def test_an_interrupt_in_disguise(failing: dict[str, BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    """Python 3.11 raises RuntimeError from a KeyboardInterrupt that came while a class was made."""
    error = RuntimeError("Error calling __set_name__")
    error.__cause__ = KeyboardInterrupt()
    failing["error"] = error
    assert run(["doctor"]) == 130
    assert capsys.readouterr().err == "profgen: interrupted\n"
