"""The examples in the help of each command can be typed as they stand."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
from pathlib import Path

import click
import pytest
from unit.policy.making import call, check, touching, uses
from unit.trace.written import write_trace

from profiler.cli.main import COMMANDS, cli, run
from profiler.cli.terminal import UNKNOWN_WIDTH, WIDEST

ENGINES = ("record", "hook", "run", "verify", "minimise", "watch", "refine", "report", "push", "pull")
"""Commands that run something else, read the machine's logs, draw for seconds or need a network: their examples are
only parsed."""
ROOT = click.Context(cli, info_name="profgen")


def command(name: str) -> click.Command:
    found = cli.get_command(ROOT, name)
    assert found is not None
    return found


def examples(text: str | None) -> list[str]:
    """The lines of a help text that begin with profgen, without the remarks behind some of them."""
    lines = [line.strip() for line in (text or "").splitlines()]
    return [re.split(r"  +", line)[0] for line in lines if line.startswith("profgen ")]


EXAMPLES = {line: None for text in (cli.help, *(command(name).help for name in COMMANDS)) for line in examples(text)}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Path:
    """A directory with the files that the examples name."""
    monkeypatch.chdir(tmp_path)
    recorded = touching(
        *uses("/etc/passwd", "read"),
        syscalls=[call("openat"), call("chown"), call("ptrace", [(16,)])],
        capabilities=[check("CAP_CHOWN")],
    )
    for name in set(re.findall(r"[\w*/]+\.trace\.json", " ".join(EXAMPLES))):
        path = Path(name.replace("*", "one"))
        path.parent.mkdir(exist_ok=True)
        write_trace(recorded, path)
    for name in ("app.profile", "nginx.profile", "app", "staging", "production", "main"):
        assert run(["generate", "-q", "app.trace.json", "-o", f"{name}/"]) == 0
    shutil.copy("app.profile/policy.yaml", "policy.yaml")
    shutil.copy("app.profile/seccomp.json", "seccomp.json")
    for name in ("node1.yaml", "node2.yaml"):
        assert run(["generate", "-q", "app.trace.json", "-t", "spo", "-o", name]) == 0
    Path("config.json").write_text(json.dumps({"ociVersion": "1.0.2", "process": {"args": ["x"]}, "linux": {}}))
    capfd.readouterr()
    return tmp_path


@pytest.mark.parametrize("line", EXAMPLES)
def test_an_example_parses(line: str) -> None:
    name, *words = shlex.split(re.split(r" [|>&] ", line)[0])[1:]
    command(name).make_context(name, words, parent=ROOT)


def test_examples_run_as_typed(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for line in EXAMPLES:
        name, *words = shlex.split(line.partition(" > ")[0])[1:]
        words = [one for word in words for one in (sorted(map(str, place.glob(word))) if "*" in word else [word])]
        if name in ENGINES or "/etc/" in line or "--review" in line or "--image" in line:
            # --review asks at a terminal, --image asks an engine.
            continue
        with contextlib.suppress(SystemExit):
            status = run([name, *words])
        assert status in (0, 1), (line, capfd.readouterr().err)
    assert Path("app.profile/policy.yaml").is_file()


@pytest.mark.parametrize("name", ["", *COMMANDS])
@pytest.mark.parametrize("width", [UNKNOWN_WIDTH, WIDEST, 200])
def test_no_line_of_help_is_broken(name: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    shown = command(name) if name else cli
    with shown.make_context(f"profgen {name}".strip(), [], resilient_parsing=True) as context:
        lines = shown.get_help(context).splitlines()
    assert max(map(len, lines)) <= min(width, WIDEST)
    assert not [line for line in lines if re.search(r"\w-$", line)], "words with hyphens are kept together"


def test_a_letter_means_the_same_everywhere() -> None:
    meanings: dict[str, set[str]] = {}
    for shown in (cli, *map(command, COMMANDS)):
        for option in shown.params:
            for short in (word for word in option.opts if re.fullmatch(r"-\w", word)):
                # -a is --all, and --all-containers
                meanings.setdefault(short, set()).update(
                    word[2:].split("-")[0] for word in option.opts if word != short
                )
    assert {short: words for short, words in meanings.items() if len(words) > 1} == {}
    assert {"-o", "-q", "-f", "-u", "-d", "-p", "-t", "-O", "-a", "-j", "-v", "-V", "-i"} <= set(meanings)
