"""Editing YAML in place: the value is set, and no line of another value changes."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.rewriting.yaml import Item, Unreadable, append, loads, members, put, remove

WILD = sorted(Path(__file__).with_name("wild").glob("*.yaml"))
Place = tuple[str | int, ...]

# --- random documents in a random style

KEYS = st.sampled_from(["a", "b", "spec", "name", "with space", "x.y/z", "é", "12", "yes", "#k", "{{k"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-5, 70000)
    | st.sampled_from(
        ["", "x", "a b", "12", "yes", "# no", "a: b", "two\nlines\n", "é", "\ttab", "- d", "$x", "*a", "&a"]
    )
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
DOCUMENTS = st.dictionaries(KEYS, VALUES, max_size=4)


@dataclass
class Line:
    """A line of a document, the places of the values that begin on it, and whether one of them is whole on it."""

    text: str
    places: list[Place] = field(default_factory=list)
    whole: bool = False


class Writer:
    """Write a value in a style that is drawn anew for each part."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.step = draw(st.sampled_from([2, 4, 3]))
        self.dash = draw(st.sampled_from([0, self.step]))
        self.comments = draw(st.booleans())

    def chance(self, of: int) -> bool:
        return self.draw(st.integers(1, of)) == 1

    def remark(self) -> str:
        return (
            f"  # {self.draw(st.sampled_from(['why', 'a: b', '- x', '{']))}" if self.comments and self.chance(4) else ""
        )

    def scalar(self, value: Any, key: bool = False) -> str:
        if isinstance(value, str) and value.isalpha() and value != "yes" and self.chance(2):
            return value
        if isinstance(value, str) and "\n" not in value and self.chance(2):
            return "'" + value.replace("'", "''") + "'"
        if value is None and not key:
            return self.draw(st.sampled_from(["null", "~"]))
        return json.dumps(value, ensure_ascii=self.chance(2))

    def flow(self, value: Any) -> str:
        blank = " " * self.draw(st.integers(0, 1))
        comma = "," if self.chance(4) and value else ""
        if isinstance(value, dict):
            inner = ", ".join(f"{self.scalar(key, True)}: {self.flow(one)}" for key, one in value.items())
            return "{" + blank + inner + comma + blank + "}"
        if isinstance(value, list):
            return "[" + blank + ", ".join(map(self.flow, value)) + comma + blank + "]"
        return self.scalar(value)

    def block(self, value: Any, place: Place) -> list[Line]:
        """Return the lines of a mapping or list that is not empty."""
        lines: list[Line] = []
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            here = (*place, key)
            if lines and self.chance(5):
                # In a block text, what is indented is not a comment.
                indented = [] if lines[-1].text == " " * self.step + "lines" else ["  # a: b"]
                lines.append(Line(self.draw(st.sampled_from(["", "# a comment", "#", *indented]))))
            below = bool(one) and isinstance(one, (dict, list)) and not self.chance(4)
            inner = self.block(one, here) if below else []
            if isinstance(value, list) and below and not self.chance(5):
                inner[0] = Line("- " + inner[0].text, [here, *inner[0].places], inner[0].whole)
                lines += [inner[0], *(self.shifted(line, 2) for line in inner[1:])]
                continue
            head = "-" if isinstance(value, list) else f"{self.scalar(key, True)}:"
            if below:
                by = max(2, self.step) if isinstance(value, list) else self.dash if isinstance(one, list) else self.step
                lines += [Line(head + self.remark(), [here]), *(self.shifted(line, by) for line in inner)]
            elif one == "two\nlines\n" and self.chance(2):
                lines.append(Line(f"{head} |", [here], True))
                lines += [Line(" " * self.step + text, [here], True) for text in ("two", "lines")]
            else:
                text = "" if one is None and self.chance(2) else " " * self.draw(st.integers(1, 2)) + self.flow(one)
                lines.append(Line(head + text + self.remark(), [here], True))
        return lines

    def shifted(self, line: Line, by: int) -> Line:
        return Line(" " * by + line.text if line.text else "", line.places, line.whole)


@st.composite
def cases(draw: st.DrawFn) -> tuple[dict[str, Any], list[Line], str]:
    document = draw(DOCUMENTS)
    writer = Writer(draw)
    lines = writer.block(document, ()) if document else [Line("{}", [()], True)]
    newline = draw(st.sampled_from(["\n", "\n", "\r\n"]))
    text = draw(st.sampled_from(["", "", "\ufeff", "# head\n", "---\n", "other: 1\n---\n"])).replace("\n", newline)
    text += newline.join(line.text for line in lines) + draw(st.sampled_from([newline, newline, "", newline * 2]))
    return document, lines, text


def places(value: Any, at: Place = ()) -> list[Place]:
    found = [at] if at else []
    for key, one in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        found += places(one, (*at, key))
    return found


def changed(value: Any, path: Place, new: Any) -> Any:
    """The value with one member set; the path exists up to its last step, or is made of keys."""
    if not path:
        return new
    if isinstance(value, list):
        return [changed(one, path[1:], new) if index == path[0] else one for index, one in enumerate(value)]
    return {**(value or {}), path[0]: changed((value or {}).get(path[0]), path[1:], new)}


def without(value: Any, path: Place) -> Any:
    kept = value.items() if isinstance(value, dict) else enumerate(value)
    found = {key: without(one, path[1:]) if key == path[0] else one for key, one in kept if path != (key,)}
    return found if isinstance(value, dict) else list(found.values())


def last(text: str) -> Any:
    return loads(text.encode())[1][-1]


def untouched(lines: list[Line], path: Place, made: str) -> None:
    """Lines of other values are as they were, in their order."""
    starts = [
        line.places[-1]
        for line in lines
        if line.whole and line.places and line.places[-1] == path[: len(line.places[-1])]
    ]
    holder = max(starts, key=len, default=None)

    def may_change(line: Line) -> bool:
        own = any(place[: len(path)] == path for place in line.places)
        return own or (line.whole and holder in line.places) or not line.places

    fixed = [line.text for line in lines if not may_change(line)]
    new = iter(made.removeprefix("\ufeff").replace("\r\n", "\n").split("\n"))
    # A block text that ended with the file, without a line end, must not get one when lines are added.
    ended = lines[-1].text.endswith("  lines")
    for text in fixed:
        same = {text, text + "-"} if ended and text.endswith("|") else {text}
        assert any(line in same for line in new), f"the line {text!r} is gone, or moved"


@given(cases(), st.data())
def test_put_sets_the_value_and_keeps_every_other_line(
    case: tuple[dict[str, Any], list[Line], str], more: st.DataObject
) -> None:
    document, lines, text = case
    base = more.draw(st.sampled_from([(), *places(document)]))
    inner: Any = document
    for key in base:
        inner = inner[key]
    extra = (
        more.draw(st.lists(KEYS, min_size=0 if base else 1, max_size=2))
        if inner is None or isinstance(inner, dict)
        else []
    )
    path = (*base, *extra)
    for length in range(len(base), len(path)):
        inner = inner.get(path[length]) if isinstance(inner, dict) else None
        if length + 1 < len(path) and inner is not None and not isinstance(inner, dict):
            return
    if not path:
        return
    value = more.draw(VALUES)
    document_number = len(loads(text.encode())[1]) - 1
    made = put(text, path, value, document_number)
    assert last(made) == changed(document, path, value)
    assert put(made, path, value, document_number) == made
    untouched(lines, path, made)
    if "\r\n" in text:
        assert "\n" not in made.replace("\r\n", "")
    assert text.endswith("\n") == made.endswith("\n")


@given(cases(), st.data())
def test_remove_takes_the_value_and_nothing_else(
    case: tuple[dict[str, Any], list[Line], str], more: st.DataObject
) -> None:
    document, lines, text = case
    path = more.draw(st.sampled_from([("gone",), *places(document)]))
    number = len(loads(text.encode())[1]) - 1
    made = remove(text, path, number)
    assert last(made) == (document if path == ("gone",) else without(document, path))
    assert remove(made, ("gone",), number) == made
    if len(document) > 1:
        untouched([line for line in lines if line.places and line.places[0][0] != path[0]], path, made)


# --- texts as people write them


def pods(value: Any, at: Place = ()) -> list[Place]:
    """The places of all pod specs."""
    found = [at] if isinstance(value, dict) and isinstance(value.get("containers"), list) else []
    for key, one in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        found += pods(one, (*at, key))
    return found


def at(value: Any, path: Place) -> Any:
    for key in path:
        value = value[key]
    return value


def hardened(text: str, document: int, value: Any) -> str:
    """A manifest or a Compose file with the members that targets set."""
    for pod in pods(value):
        text = put(text, (*pod, "securityContext", "runAsNonRoot"), True, document)
        for container in at(value, pod)["containers"]:
            path = (*pod, "containers", Item("name", container["name"]))
            text = put(text, (*path, "securityContext", "readOnlyRootFilesystem"), True, document)
            text = put(text, (*path, "securityContext", "capabilities", "add"), ["CHOWN"], document)
            text = append(text, (*path, "volumeMounts"), {"name": "tmp", "mountPath": "/tmp"}, document)
        text = append(text, (*pod, "volumes"), {"name": "tmp", "emptyDir": {"medium": "Memory"}}, document)
    for service in value.get("services", {}) if isinstance(value, dict) else ():
        text = put(text, ("services", service, "read_only"), True, document)
        text = append(text, ("services", service, "cap_drop"), "ALL", document)
        text = append(text, ("services", service, "tmpfs"), "/tmp:exec", document)
    return text


def expected(value: Any) -> Any:
    """The data of a document that was hardened."""
    value = json.loads(json.dumps(value))
    for place in pods(value):
        pod = at(value, place)
        pod["securityContext"] = {**(pod.get("securityContext") or {}), "runAsNonRoot": True}
        for container in pod["containers"]:
            context = container["securityContext"] = {**(container.get("securityContext") or {})}
            context["readOnlyRootFilesystem"] = True
            context["capabilities"] = {**context.get("capabilities", {}), "add": ["CHOWN"]}
            container.setdefault("volumeMounts", []).append({"name": "tmp", "mountPath": "/tmp"})
        pod["volumes"] = [*(pod.get("volumes") or []), {"name": "tmp", "emptyDir": {"medium": "Memory"}}]
    for name, service in (value or {}).get("services", {}).items() if isinstance(value, dict) else ():
        service = value["services"][name] = {**(service or {}), "read_only": True}
        service["cap_drop"] = [*(old for old in service.get("cap_drop") or [] if old != "ALL"), "ALL"]
        service["tmpfs"] = [*(service.get("tmpfs") or []), "/tmp:exec"]
    return value


@pytest.mark.parametrize("path", WILD, ids=lambda path: path.stem)
def test_files_as_people_write_them(path: Path) -> None:
    text, documents = loads(path.read_bytes())
    assert text.encode() == path.read_bytes()
    made = text
    if path.stem == "k8s_anchors":
        with pytest.raises(Unreadable, match="line 14: a change here would also change line 19"):
            hardened(text, 0, documents[0])
        documents[0]["spec"]["template"]["spec"]["containers"][:2] = []
    for number, document in enumerate(documents):
        made = hardened(made, number, document)
    if path.stem != "k8s_anchors":
        assert loads(made.encode())[1] == [expected(document) for document in documents]
    again = made
    for number, document in enumerate(documents):
        again = hardened(again, number, document)
    assert again == made
    # Lines that go are those of members that were set, or had nothing in them.
    old, new = ([line.removesuffix(",") for line in one.splitlines(keepends=True)] for one in (text, made))
    gone = [line[2:] for line in difflib.ndiff(old, new) if line.startswith("- ")]
    if text.endswith(("\n", "\r")):
        assert all(any(word in line for word in TOUCHED) for line in gone), gone
    assert [line.strip() for line in old if "#" in line and line.strip()[0] == "#"] == [
        line.strip() for line in new if line.strip() and line.strip()[0] == "#"
    ]


TOUCHED = (
    "read_only",
    "readOnlyRootFilesystem",
    "cap_drop",
    "tmpfs",
    "{}",
    "[]",
    "~",
    "containers",
    "name",
    "image",
    "args",
)


def test_thirty_of_them() -> None:
    assert len(WILD) >= 30


ALIASES = """base: &base
  a: {b: 1}
  list: &list [1]
use: *base
merged:
  <<: *base
  c: 1
  list: *list
"""


@pytest.mark.parametrize(
    ("path", "value", "result"),
    [
        (("use",), 1, "use: 1\n"),
        (("use", "c"), 1, "use:\n  a:\n    b: 1\n  list:\n    - 1\n  c: 1\n"),
        (("merged", "a", "d"), 1, "  list: *list\n  a:\n    b: 1\n    d: 1\n"),
        (("merged", "list", 0), 2, "  list:\n    - 2\n"),
    ],
)
def test_an_alias_is_replaced_and_what_it_stands_for_stays(path: Place, value: Any, result: str) -> None:
    made = put(ALIASES, path, value)
    assert made.startswith("base: &base\n  a: {b: 1}\n  list: &list [1]\n")
    assert result in made


@pytest.mark.parametrize(
    "path", [("base", "new"), ("base",), ("base", "list"), ("base", "list", 0), ("base", "a", "b")]
)
def test_what_an_alias_stands_for_is_not_changed(path: Place) -> None:
    for change in (lambda: put(ALIASES, path, 7), lambda: remove(ALIASES, path)):
        if path == ("base", "new") and change is not None:
            with pytest.raises(Unreadable, match="line 1: a change here would also change line 4"):
                put(ALIASES, path, 7)
            return
        with pytest.raises(Unreadable, match="a change here would also change line"):
            change()


def test_what_comes_by_a_merge_key_cannot_be_removed() -> None:
    with pytest.raises(Unreadable, match="line 6: a comes from another place, by a merge key"):
        remove(ALIASES, ("merged", "a"))


@pytest.mark.parametrize(
    ("text", "path", "value", "result"),
    [
        ("a: 1  # one\n", ("a",), {"b": 2}, "a:  # one\n  b: 2\n"),
        ("a:\n  # why\n  - x  # x\n\nb: 1\n", ("a",), ["z"], "a:\n  # why\n  - z\n\nb: 1\n"),
        ("a:  # why\n  b: 1  # one\n", ("a",), None, "a: null  # why\n"),
        ("a: &x\n  b: 1\n", ("a",), [1], "a:\n  - 1\n"),
        ("a: |\n  text\n\n# c\nb: 1\n", ("a",), "t", "a: t\n\n# c\nb: 1\n"),
        ("a: |+\n  text\n\n\nb: 1\n", ("c",), 1, "a: |+\n  text\n\n\nb: 1\nc: 1\n"),
        ("a:\n  k: |+\n    text\n\n\nb: 1\n", ("a", "c"), 1, "a:\n  k: |+\n    text\n\n\n  c: 1\nb: 1\n"),
        ("a: 'x\n  y'  # c\n", ("a",), [], "a: []  # c\n"),
        ("a: {b: 1,}\n", ("a", "c"), 2, "a: {b: 1, c: 2,}\n"),
        ("a: [\n  1, # one\n  2 # two\n]\n", ("a", 1), 3, "a: [\n  1, # one\n  3 # two\n]\n"),
        ("a:\n  - name: x\n", ("a", Item("name", "y"), "b"), 1, "a:\n  - name: x\n  - name: \"y\"\n    b: 1\n"),
        ("{}\n", ("a",), 1, "{a: 1}\n"),
        ("a:\n- - 1\n  - 2\n", ("a", 0, 1), [3], "a:\n- - 1\n  - - 3\n"),
        ("a: b\n...\n# end\n", ("c",), 1, "a: b\nc: 1\n...\n# end\n"),
        ("a: !x\n", ("a", "b"), 1, "a:\n  b: 1\n"),
    ],
)  # fmt: skip
def test_forms(text: str, path: Place, value: Any, result: str) -> None:
    assert put(text, path, value) == result
    assert put(result, path, value) == result


def test_append_adds_what_the_list_does_not_have() -> None:
    assert append("a: [1]\n", ("a",), 1) == "a: [1]\n"
    assert append("a: [1]\n", ("a",), True) == "a: [1, true]\n"
    assert append("b: 1\n", ("a", "c"), {"x": 1}) == "b: 1\na:\n  c:\n    - x: 1\n"


@pytest.mark.parametrize(
    ("text", "path", "result"),
    [
        ("a: 1\nb: 2\n", ("a",), "b: 2\n"),
        ("a: 1\nb: 2", ("b",), "a: 1"),
        ("a:\n  b: 1\nc: 2\n", ("a", "b"), "a: {}\nc: 2\n"),
        ("- a: 1\n  b: 2\n", (0, "a"), "- b: 2\n"),
        ("- 1 # one\n- 2\n", (0,), "- 2\n"),
        ("a: 1\n", ("a",), "{}\n"),
        ("a: {b: 1, c: 2}\n", ("a", "c"), "a: {b: 1}\n"),
        ("a: {b: 1, c: 2}\n", ("a", "b"), "a: {c: 2}\n"),
        ("a: 1\n", ("b", "c"), "a: 1\n"),
        ("x:\n- - 1\n  - 2\n- 3\n", ("x", 0, 0), "x:\n- - 2\n- 3\n"),
    ],
)
def test_remove(text: str, path: Place, result: str) -> None:
    assert remove(text, path) == result


BOMB = b"a0: &a0 [1, 1, 1]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (number, number, b",".join([b"*a%d" % (number - 1)] * 9)) for number in range(1, 9)
)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff", "not UTF-8 (byte 0)"),
        (b"a: 1\nb:\n  c: 1\n  c: 2\n", "line 4: the key 'c' is given twice"),
        (b"image: {{ .Values.image }}\n", "it may be a template ({{ ... }}): render it first"),
        (b"a: [", "line 2: did not find expected node content"),
        (b"[" * 100_000, "line 1: "),
        (b"".join(b"%sa:\n" % (b" " * level) for level in range(200)), "line 64: it is nested too deeply"),
        (b"a: &x [*x]", "line 1: the alias *x has no value before it"),
        (b"a: \x01", "characters that YAML does not allow"),
        (b"? [a]\n: 1", "line 1: a key that is not a word"),
        (b"a:\n\tb: 1", "line 2: found character that cannot start any token"),
        (b"a: {<<: 1}", "line 1: << takes over the members of a mapping"),
        (BOMB, "its aliases stand for too much"),
    ],
)  # fmt: skip
def test_what_cannot_be_read(data: bytes, message: str) -> None:
    with pytest.raises(Unreadable) as raised:
        loads(data)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("a: 1\n", ("a", "b"), "there is not a mapping where b must go"),
        ("a: {b: 1}\n", ("a", 0), "there is not a list where an item must go"),
        ("a: [1]\n", ("a", 3), "a list has only 1 items"),
        ("a:\n- name: x\n- name: x\n", ("a", Item("name", "x")), "two items of a list have the name 'x'"),
        ("? a\n: 1\n", ("a",), "line 1: a key without its colon behind it"),
        ("{a, b}\n", ("a",), "line 1: the form of the text here is not known"),
    ],
)
def test_what_cannot_be_changed(text: str, path: Any, message: str) -> None:
    with pytest.raises(Unreadable) as raised:
        put(text, path, {"q": 5})
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("text", "added", "removed"),
    [
        ("a: 1\nb: |\n  x", "a: 1\nb: |-\n  x\nc: 1", "a: 1"),
        ("a: 1\nb: >+\n  x", "a: 1\nb: >-\n  x\nc: 1", "a: 1"),
        ("a: 1\nb: |2-\n   x", "a: 1\nb: |2-\n   x\nc: 1", "a: 1"),
        ("a: 1\nb: |-2\n   x", "a: 1\nb: |2-\n   x\nc: 1", "a: 1"),
        ("a: 1\nb: !x |\n  x", "a: 1\nb: !x |-\n  x\nc: 1", "a: 1"),
        ("a: 1\nb:\n  - d: |\n      x", "a: 1\nb:\n  - d: |-\n      x\nc: 1", "a: 1"),
        ("a: |\n  x\nb: 1", "a: |\n  x\nb: 1\nc: 1", "a: |\n  x\n"),
    ],
)
def test_a_block_text_at_the_end_of_a_file_without_a_line_end(text: str, added: str, removed: str) -> None:
    assert put(text, ("c",), 1) == added
    assert remove(text, ("b",)) == removed


LIST = """# head
caps: # all of them
  - CHOWN   # for the pid file
  # gone with the next version
  - SYS_ADMIN
  - KILL # its children
  - KILL
next: 1
"""


def test_items_of_a_list_that_stay_keep_their_comments() -> None:
    made = members(LIST, ("caps",), ["NET_RAW", "KILL", "CHOWN"])
    assert made == LIST.replace("  - SYS_ADMIN\n", "").replace("  - KILL\n", "  - NET_RAW\n")
    assert members(made, ("caps",), ["KILL", "CHOWN", "NET_RAW"]) == made
    assert members(LIST, ("caps",), ["BPF"]) == "# head\ncaps: # all of them\n  - BPF\nnext: 1\n"
    assert members(LIST, ("caps",), []) == "# head\nnext: 1\n"
    assert members("a: 1\n", ("caps",), ["BPF"]) == "a: 1\ncaps:\n  - BPF\n"
    assert members("a: [x, y, z] # c\n", ("a",), ["w", "y"]) == "a: [y, w] # c\n"
    assert members("b: &l [x]\na: *l\n", ("a",), ["x", "y"]) == 'b: &l [x]\na:\n  - x\n  - "y"\n'
