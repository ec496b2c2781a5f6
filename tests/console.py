"""Commands and their output as documents show them: how they are written, and how an output may differ from them.

A block is a fence with the language ``console``. Its first line begins with the prompt, ``$`` for an ordinary user or
``#`` for root; lines with that prompt are commands, the rest is their output. A command goes on in the next line after
a backslash, and a here-document in lines with ``> ``.

In the output a line ``...`` stands for any lines, and ``...`` within a line for any text. Figures that differ from run
to run (`VOLATILE`) stand for any other of their kind. A line ``^C`` is Ctrl-C, pressed when the lines before it are
there.

HTML comments above a block, invisible to readers, tell what the page leaves out:

- ``before``: commands with prompts that run first;
- ``ready``: a shell condition to wait for after each command of the block that ends with ``&``, as a person does, or
  before Ctrl-C is pressed;
- ``images``: images that a container engine has; it is started for the page;
- ``figures``: why all figures of the block may differ;
- ``not run``: why the test does not run the block.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

_NOTE = r"<!-- (before|ready|images|figures|not run):\s+(.*?)\s*-->\n+"
_FENCE = re.compile(rf"((?:^ *{_NOTE})*)^( *)```(\w*)\n(.*?)^\4```$", re.MULTILINE | re.DOTALL)

_DATE = r"\d\d? [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d\.\d{3}"
VOLATILE = {
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z",
    r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d": r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d",
    _DATE: _DATE,
    r"#{3,} +\d+(?:\.\d+)?": r"#+ +\d+(?:\.\d+)?",
    r"(?<=\S)  +": "  +",
    r"\b\d+(?:\.\d+)?(?:ms|s)\b|\b\d+m \d+s\b": r"(?:\d+(?:\.\d+)?(?:ms|s)|\d+m \d+s)",
    r"(?<![\d.])\d+\.\d+(?![\d.])|\b\d+(?= [kM]?B\b)": r"\d+(?:\.\d+)?",
    r"\b\d+(?: \d{3})*(?= calls)": r"\d+(?: \d{3})*",
    r"\b\d{1,3}(?: \d{3})+\b": r"\d+(?: \d{3})*",
    r"(?<=pid )\d+|\b\d+#\d+\b": r"\d+(?:#\d+)?",
    r"\b(?:[0-9a-f]{64}|[0-9a-f]{12}|[0-9a-f]{8})\b": r"[0-9a-f]{8,64}",
    r"(?<![\d.])\d+\.\d+\.\d+(?!\.\d)(?:[-+.~]\w+)*": r"\d+(?:[-+.~]\w+)*",
}
"""Figures that differ from run to run, and what may stand in their place: times, durations, sizes, numbers of calls,
process ids, figures with a decimal point, bars with their figure, identifiers and digests, versions, and the width of
columns."""
_VOLATILE = re.compile(r"\.\.\.|" + "|".join(f"(?:{form})" for form in VOLATILE))
_FIGURES = re.compile(rf"{_VOLATILE.pattern}|(?! +{_DATE}) *\b\d+(?: \d{{3}})*(?:\.\d+)?(?!\.?\d|m?s\b|m \d)")


@dataclass(frozen=True)
class Command:
    """A command as a page shows it. ``line``: its number in the page. ``text``: what is typed."""

    line: int
    text: str
    output: tuple[str, ...]


@dataclass(frozen=True)
class Block:
    """A code block. ``notes``: the comments above it, by key."""

    line: int
    language: str
    lines: tuple[str, ...]
    notes: Mapping[str, tuple[str, ...]]

    @property
    def root(self) -> bool:
        """Whether its prompt is root's."""
        return self.lines[0].startswith("# ")

    @cached_property
    def commands(self) -> tuple[Command, ...]:
        """The commands of a console block."""
        return tuple(_commands(self.lines, self.line + 1))


def blocks(text: str) -> Iterator[Block]:
    """Yield the code blocks of a page."""
    for found in _FENCE.finditer(text):
        notes: dict[str, tuple[str, ...]] = {}
        for key, note in re.findall(_NOTE, found[1], re.DOTALL):
            notes[key] = (*notes.get(key, ()), note)
        indent = len(found[4])
        line = text.count("\n", 0, found.end(1)) + 1
        yield Block(line, found[5], tuple(row[indent:] for row in found[6].splitlines()), notes)


def typed(note: str) -> Iterator[tuple[bool, str]]:
    """Yield the commands of a note: whether root's, and the text."""
    for command in re.split(r"\n(?=[$#] )", note):
        yield command.startswith("# "), command[2:]


def _commands(lines: Sequence[str], number: int) -> Iterator[Command]:
    prompt = lines[0][:2]
    assert prompt in ("$ ", "# "), f"line {number} has no prompt: {lines[0]}"
    index = 0
    while index < len(lines):
        start, text = index, lines[index][2:]
        while text.endswith("\\") or ("<<" in text and lines[index + 1 : index + 2] and lines[index + 1][:2] == "> "):
            index += 1
            text += "\n" + (lines[index] if text.endswith("\\") else lines[index][2:])
        index += 1
        end = index
        while end < len(lines) and not lines[end].startswith(prompt):
            end += 1
        yield Command(number + start, text, tuple(lines[index:end]))
        index = end


def _pattern(line: str, figures: bool = False) -> str:
    """Return the regular expression of what a line of output stands for."""
    end = 0
    pattern = ""
    for found in (_FIGURES if figures else _VOLATILE).finditer(line):
        pattern += re.escape(line[end : found.start()])
        end = found.end()
        forms = (stands for form, stands in VOLATILE.items() if re.compile(form).match(line, found.start()))
        pattern += ".*" if found[0] == "..." else next(forms, r" *\d+(?: \d{3})*(?:\.\d+)?")
    return pattern + re.escape(line[end:])


def difference(shown: Sequence[str], printed: Sequence[str], figures: bool = False) -> str | None:
    """Compare what a page shows with what was printed; None when they agree, else a diff of the lines. ``figures``: any
    figure stands for any other."""
    lines = [None if line.strip() == "..." else _pattern(line.rstrip(), figures) + " *" for line in shown]
    text = "".join(f"{line}\n" for line in printed)
    if re.fullmatch("".join(r"(?:.*\n)*?" if line is None else rf"{line}\n" for line in lines), text):
        return None
    left: list[str] = []
    rest = list(printed)
    for index, line in enumerate(lines):  # the lines that agree are as the page has them
        after = next((other for other in lines[index + 1 :] if other is not None), None)
        wanted = after if line is None else line
        place = next((place for place, other in enumerate(rest) if wanted and re.fullmatch(wanted, other)), None)
        if line is None and wanted is None:
            rest = []
        if place is not None:
            left += [] if line is None else rest[:place]
            rest = rest[place:] if line is None else rest[place + 1 :]
        if line is None or place is not None:
            left.append(shown[index])
    return "\n".join(difflib.unified_diff(list(shown), left + rest, "the page", "printed", lineterm="", n=2))


def written(text: str, changes: Mapping[Command, Sequence[str]]) -> str:
    """Return a page with other output for some of its commands."""
    lines = text.split("\n")
    for command, output in sorted(changes.items(), key=lambda change: -change[0].line):
        start = command.line - 1 + command.text.count("\n") + 1
        indent = re.match(" *", lines[command.line - 1])[0]
        lines[start : start + len(command.output)] = [indent + line for line in output]
    return "\n".join(lines)
