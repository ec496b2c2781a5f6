"""A target that is new appears everywhere without another edit than its line in the list."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from unit.policy.making import call, check, trace
from unit.targets import tables
from unit.targets.example import Greeting
from unit.trace.written import write_trace

from profiler.cli.main import cli
from profiler.errors import InputError
from profiler.targets import catalogue, template


@pytest.fixture(autouse=True)
def greeting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The line in the list, and the template in templates/."""
    built_in = tmp_path / "templates"
    built_in.mkdir()
    for path in template.template_directory().iterdir():
        (built_in / path.name).symlink_to(path)
    (built_in / "greeting.txt.j2").write_text("{{ tone }}, see {{ seccomp }}\n")
    monkeypatch.setattr(template, "template_directory", lambda: built_in)
    monkeypatch.setattr(catalogue, "TARGETS", (*catalogue.TARGETS, Greeting()))
    template._environment.cache_clear()
    yield
    template._environment.cache_clear()


@pytest.fixture
def recording(tmp_path: Path) -> str:
    path = tmp_path / "app.trace.json"
    write_trace(trace(call("read"), capabilities=[check("CAP_KILL")]), path)
    return str(path)


def profgen(*words: str) -> Result:
    return CliRunner().invoke(cli, words)


def test_generate_writes_it_and_what_it_needs(recording: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = profgen("generate", recording, "-t", "greeting", "-O", "greeting.tone=salve", "-o", str(out))
    assert done.exit_code == 0, done.stderr
    assert {path.name for path in out.iterdir()} == {"policy.yaml", "trace.json", "greeting.txt", "seccomp.json"}
    assert (out / "greeting.txt").read_text() == "salve, see seccomp.json\n"
    assert "greeting: allows more than the policy: manners: a list has none" in done.stderr
    assert "greeting: does not limit no_new_privs" in done.stderr
    assert f"greeting: cat {out}/greeting.txt" in done.stderr


def test_its_settings_are_checked(recording: str) -> None:
    for word, message in (
        ("greeting.tone=1", "-O greeting.tone: a tone is one word"),
        ("greeting.tune=a", "greeting has no such option (did you mean tone?): one of tone"),
        ("greeting.tone", "-O greeting.tone needs a value: greeting.tone=WORD"),
    ):
        done = profgen("generate", recording, "-t", "greeting", "-O", word)
        assert isinstance(done.exception, InputError)
        assert message in str(done.exception)


def test_targets_and_help_describe_it() -> None:
    assert "greeting      launcher  greeting.txt: people who like lists" in profgen("targets").stdout
    one = profgen("targets", "greeting").stdout
    assert "expresses:         capabilities\n" in one
    assert "-O greeting.tone=WORD\n      how the list greets its reader" in one
    data = json.loads(profgen("targets", "--json").stdout)
    assert data["schema"] == "profgen.targets/1"
    assert data["targets"][-1]["settings"][0]["default"] == "hello"
    text = profgen("generate", "--help").stdout
    assert "greeting.txt: people who like lists" in text
    assert "greeting.tone=WORD" in text


def test_the_tables_of_the_documentation_have_it() -> None:
    assert "| `greeting` | greeting.txt: people who like lists |" in tables.summaries()
    assert "| `greeting` | launcher | capabilities | seccomp |" in tables.targets()
    assert "| `greeting.tone=WORD` | how the list greets its reader |" in tables.settings()


def test_the_engine_of_a_recording_chooses_it() -> None:
    assert catalogue.default("letters")[-1].name == "greeting"
