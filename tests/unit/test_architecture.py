"""Modules import as docs/architecture.md says, and never in a circle."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest
from unit.documents import TOP, rows, section

PACKAGE = TOP / "profiler"


def name_of(path: Path) -> str:
    """The module of a file below the checkout."""
    return ".".join(path.relative_to(TOP).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
ROOMS = [path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()]


def imported(text: str) -> Iterator[str]:
    """What a module imports, by full names: at the top, in functions and under TYPE_CHECKING."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def graph(texts: Mapping[str, str]) -> dict[str, set[str]]:
    """Each module to those that are loaded for it: what it imports, and the packages that those are in."""
    found: dict[str, set[str]] = {}
    for name, text in texts.items():
        parts = [each.split(".") for each in imported(text)]
        prefixes = {".".join(each[:length]) for each in parts for length in range(1, len(each) + 1)}
        found[name] = {each for each in prefixes & texts.keys() if each != name and not name.startswith(f"{each}.")}
        found[name] |= {each for each in prefixes & texts.keys() if name.startswith(f"{each}.") and texts[each].strip()}
    return found


def circles(edges: Mapping[str, set[str]]) -> set[frozenset[str]]:
    """The sets of modules that all import one another, directly or not."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        ahead = [start]
        while ahead:
            new = edges[ahead.pop()] - seen
            seen |= new
            ahead += new
        return seen

    reach = {name: reached(name) for name in edges}
    return {frozenset(other for other in reach[name] if name in reach[other]) for name in edges if name in reach[name]}


@cache
def edges() -> dict[str, set[str]]:
    return graph({name: path.read_text(encoding="utf-8") for name, path in MODULES.items()})


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert circles(edges()) == set()


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({"a": "import b", "b": ""}, set()),
        ({"a": "import b", "b": "import a"}, {frozenset("ab")}),
        ({"a": "from b import x", "b": "def f():\n    from c import y", "c": "import a"}, {frozenset("abc")}),
        ({"a": "import b", "b": "if TYPE_CHECKING:\n    from a import X"}, {frozenset("ab")}),
        ({"a": "import b\nimport c", "b": "import a", "c": ""}, {frozenset("ab")}),
        ({"p": "from p.a import x", "p.a": "from p.b import y", "p.b": ""}, {frozenset({"p", "p.a"})}),
        ({"p": '"""Text."""', "p.a": "from p.b import y", "p.b": ""}, set()),
        ({"p": "", "p.a": "from p import b", "p.b": "from p import a"}, {frozenset({"p.a", "p.b"})}),
    ],
)
def test_circles_are_found(texts: dict[str, str], expected: set[frozenset[str]]) -> None:
    assert circles(graph(texts)) == expected


def allowed() -> dict[str, set[str]]:
    """Each room to those that it may import, in the order of the table: from the ground up."""
    table = {row[0]: row[2] for row in rows(section("docs/architecture.md", "The rooms"))}
    return {
        found[1]: set(re.findall(r"\w+", cell)) & set(ROOMS)
        for key, cell in table.items()
        if (found := re.match(r"`profiler/(\w+)/`", key))
    }


def test_every_room_is_in_the_table() -> None:
    assert set(allowed()) == set(ROOMS)


def test_the_table_goes_from_the_ground_up() -> None:
    below: set[str] = set()
    for room, others in allowed().items():
        assert others <= below, f"{room} may import only what is above it in the table"
        below.add(room)


@pytest.mark.parametrize("room", sorted(set(ROOMS) - {"cli"}))
def test_rooms_import_only_what_the_architecture_allows(room: str) -> None:
    for name, others in edges().items():
        if name.startswith(f"profiler.{room}."):
            rooms = {other.split(".")[1] for other in others if other.count(".")}
            assert rooms & set(ROOMS) <= allowed()[room] | {room}, name


def test_modules_next_to_the_rooms_import_only_quoting() -> None:
    for name, others in edges().items():
        if name.count(".") == 1 and name.split(".")[1] not in {*ROOMS, "__main__"}:
            rooms = {other.split(".")[1] for other in others if other.count(".")} & set(ROOMS)
            assert rooms <= {"quoting"}, name


def test_nothing_but_the_start_imports_the_command_line() -> None:
    for name, others in edges().items():
        if name != "profiler.__main__" and not name.startswith("profiler.cli"):
            assert not [other for other in others if other.startswith("profiler.cli")], name


@pytest.mark.parametrize("tracer", ["ptrace", "ebpf"])
def test_tracers_are_imported_by_nothing_in_their_room(tracer: str) -> None:
    """Except the survey of the machine, which tries what they need."""
    package = f"profiler.tracers.{tracer}"
    for name, others in edges().items():
        inside = name == package or name.startswith(f"{package}.")
        if name.startswith("profiler.tracers.") and not inside and name != "profiler.tracers.survey":
            assert not [other for other in others if other.startswith(package)], name
