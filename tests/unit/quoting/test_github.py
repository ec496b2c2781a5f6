"""Workflow commands against what the runner does with a line of a step's output.

The runner's source is C#: actions/runner, src/Runner.Common/ActionCommand.cs. ``parsed`` follows TryParseV2 there, and
``old_parsed`` TryParse, which is asked when the first finds nothing.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.quoting.test_quoting import ARGUMENT, NASTY

from profiler.quoting.github import command
from profiler.quoting.text import printable

TEXT = ARGUMENT | st.text(st.sampled_from("::,=%25\n\r \x1b\u202ea#[]"), max_size=20)
COMMANDS = {"error", "warning", "notice", "set-output", "add-mask", "stop-commands", "set-env"}
DATA = (("%0D", "\r"), ("%0A", "\n"), ("%25", "%"))
PROPERTY = (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%"))


def unescaped(text: str, table: tuple[tuple[str, str], ...]) -> str:
    for written, meant in table:
        text = text.replace(written, meant)
    return text


def parsed(line: str) -> tuple[str, dict[str, str], str] | None:
    line = line.lstrip()
    end = line.find("::", 2)
    if not line.startswith("::") or end < 0:
        return None
    head = line[2:end]
    name, space, rest = head.partition(" ")
    if name not in COMMANDS:
        return None
    pairs = [part.split("=", 1) for part in rest.strip().split(",") if part]
    properties = {pair[0]: unescaped(pair[1], PROPERTY) for pair in pairs if len(pair) == 2 and pair[1]}
    return name, properties if space else {}, unescaped(line[end + 2 :], DATA)


def old_parsed(line: str) -> bool:
    """Whether the older form finds a command anywhere in the line."""
    return any(re.split("[ ]", found)[0] in COMMANDS for found in re.findall(r"##\[([^\]]*)\]", line))


def check(file: str, message: str) -> None:
    line = command("error", {"file": file, "line": "3", "title": ""}, message)
    assert line.isprintable()
    found = parsed(line)
    assert found is not None, "the older form is never looked for"
    name, properties, data = found
    expected = {"file": printable(file), "line": "3"}
    # The runner trims blanks at the end of all properties, and drops an empty one.
    assert (name, properties) == ("error", {key: value for key, value in expected.items() if value})
    assert data == "\n".join(map(printable, message.split("\n")))


@given(TEXT, TEXT)
def test_the_runner_gets_what_was_meant(file: str, message: str) -> None:
    check(file, message)


@pytest.mark.parametrize(
    "text", [*NASTY, "::set-output name=x::y", "\n::add-mask::x", "%0A::error::x", "##[add-mask]x", "%250A", "a,line=9"]
)
def test_nasty_text(text: str) -> None:
    check(text, text)


def test_the_parser_of_this_test_knows_commands() -> None:
    assert parsed("  ::error file=a%3Ab,line=1::x%0Ay%25") == ("error", {"file": "a:b", "line": "1"}, "x\ny%")
    assert parsed("x ::error::y") is None
    assert old_parsed("x ##[add-mask]y")
