"""The project's text is plain technical English, in lines of at most 120 columns.

Messages, help texts, docstrings and comments of profiler/, templates, documents and the docstrings of tests must not
contain the expressions of IDIOMS. What stands in `backticks` or {braces} is code and is not looked at.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
COLUMNS = 120

IDIOMS = {
    "is no X (is not an X)": r"(?<!there )\b(?:is|are|was|were) no (?!longer\b|more\b|less\b)\w",
    "is none": r"(?<!there )\b(?:is|are|was|were) (?-i:none)\b",
    "to be had (available)": r"\bto be had\b",
    "mend (fix)": r"\bmend(?:s|ed|ing)?\b",
    "whose it is": r"\bwhose (?:it|they) (?:is|are|was|were)\b",
    "in vain": r"\bin vain\b",
    "shall (must, will)": r"\bshall\b",
    "archaic adverbs": r"\b(?:where|there|here)(?:in|of|upon|with|to)\b",
    "of which none": r"\bof which (?:none|no)\b",
    "what nobody": r"\b(?:what|which) nobody\b",
    "beside (next to)": r"\bbeside\b",
    "leave (permission)": r"\b(?:give|gives|given|gave|has|have|had|get|gets|no|with|without) leave\b",
}
"""What to write instead, or what is wrong, to a regular expression; case does not matter."""


def below(*patterns: str) -> list[Path]:
    found = {path for pattern in patterns for path in TOP.glob(pattern)}
    return sorted(path for path in found if path.is_file() and "__pycache__" not in path.parts)


DOCUMENTS = ("README.md", "CHANGELOG.md", "docs/**/*.md", "sample_apps/**/*.md")
TEXTS = below("profiler/**/*.py", "profiler/**/*.yaml", "profiler/**/*.[ch]", "templates/**/*", *DOCUMENTS)
TESTS = frozenset(below("tests/**/*.py"))
"""Only their docstrings are read: their other text imitates what strangers write."""
SOURCES = below(*(f"{room}/**/*.{end}" for room in ("profiler", "tests", "sample_apps") for end in ("py", "[ch]")))


def of_python(source: str) -> Iterator[tuple[int, str]]:
    """Yield the comments and string constants of a module, each with its first line; neighbours are joined."""
    begun, kind, parts = 0, None, []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        # A comment that begins after code goes on in the next line.
        between = (tokenize.NL, tokenize.INDENT, tokenize.DEDENT, *([tokenize.NEWLINE] if kind == "COMMENT" else []))
        if token.type in between and kind is not None:
            continue
        name = tokenize.tok_name[token.type]
        found = name if name == "COMMENT" else "STRING" if name in ("STRING", "FSTRING_MIDDLE") else None
        if parts and found != kind:
            yield begun, _joined(parts)
            parts = []
        if found is not None:
            if not parts:
                begun = token.start[0]
            parts.append(token.string)
        kind = found
    if parts:
        yield begun, _joined(parts)


def _joined(parts: list[str]) -> str:
    """Join literals, whose quotes do not separate words, or comments."""
    if parts[0].startswith("#"):
        return " ".join(part.lstrip("#") for part in parts)
    return "".join(re.sub(r"^\w{0,2}(?:\"\"\"|'''|\"|')|(?:\"\"\"|'''|\"|')$", "", part) for part in parts)


def of_others(text: str) -> Iterator[tuple[int, str]]:
    """Yield paragraphs; the marks of comments in front of lines are not part of them."""
    begun, lines = 0, []
    for number, line in enumerate([*text.splitlines(), ""], 1):
        plain = re.sub(r"^\s*(?:#+|/\*+|\*+/?|//|\{#-?)?\s*", "", line)
        if plain:
            begun = begun or number
            lines.append(plain)
        elif lines:
            yield begun, " ".join(lines)
            begun, lines = 0, []


def of_docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Yield the docstrings of a module, its classes and functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (text := ast.get_docstring(node)):
            yield node.body[0].lineno, text


def idioms(path: Path) -> list[str]:
    """Return the idioms of a file, each with where it begins."""
    text = path.read_text(encoding="utf-8")
    found = []
    units = of_docstrings if path in TESTS else of_python if path.suffix == ".py" else of_others
    for line, unit in units(text):
        plain = re.sub(r"(`+)[^`]+\1|\{[^{}]*\}", "``", " ".join(unit.split()))
        for what, pattern in IDIOMS.items():
            for match in re.finditer(pattern, plain, re.IGNORECASE):
                around = plain[max(0, match.start() - 30) : match.end() + 30]
                found.append(f"{path.relative_to(TOP)}:{line}: {what}: ...{around}...")
    return found


PRAGMA = re.compile(r"  # (?:type: ignore|noqa|fmt)\b.*")
"""A comment for a tool, which ruff does not count either."""


def wide(path: Path) -> list[str]:
    """Return the lines of a file that have too many columns."""
    lines = path.read_text(encoding="utf-8").expandtabs(8).splitlines()
    long = (number for number, line in enumerate(lines, 1) if len(PRAGMA.sub("", line)) > COLUMNS)
    return [f"{path.relative_to(TOP)}:{number}" for number in long]


def name_of(path: Path) -> str:
    return str(path.relative_to(TOP))


@pytest.mark.parametrize("path", [*TEXTS, *sorted(TESTS)], ids=name_of)
def test_plain_english(path: Path) -> None:
    found = idioms(path)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", [*SOURCES, *below(*DOCUMENTS)], ids=name_of)
def test_columns(path: Path) -> None:
    found = wide(path)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = 1  # This is no\n# file.\n", 1),
        ("x = ('it is '\n     'no file')\n", 1),
        ("def f():\n    '''It is not to be\n    had.'''\n", 1),
        ("x = 'there is no file; it is no longer there'\n", 0),
        ("x = 'the member `beside` is code'\n", 0),
        ("x = f'{y} is {None if y is None else y}, which is None'\n", 0),
        ("beside = shall\n", 0),
    ],
)
def test_what_is_found(text: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.TOP", tmp_path)
    (tmp_path / "x.py").write_text(text)
    assert len(idioms(tmp_path / "x.py")) == expected
