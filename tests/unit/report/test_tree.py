"""The tree of files: every rule is counted, nothing is cut silently, and it stays small."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from profiler.policy.model import FileRule
from profiler.report.tree import CHILDREN_MAX, DEPTH_MAX, NODES_MAX, Node, group_of, place_of, tree
from profiler.trace.model import FILE_ACCESSES


def every(nodes: tuple[Node, ...]) -> Iterator[Node]:
    for node in nodes:
        yield node
        yield from every(node.children)


def read(*patterns: str) -> list[FileRule]:
    return [FileRule(pattern, ("read",)) for pattern in patterns]


def test_names_that_do_not_branch_are_one() -> None:
    (root,) = tree(read("/usr/lib/x/a.so", "/usr/lib/x/b.so"))
    assert root.name == "/usr/lib/x"
    assert [child.name for child in root.children] == ["a.so", "b.so"]


def test_a_directory_with_a_rule_of_its_own() -> None:
    (root,) = tree([FileRule("/srv", ("list",)), FileRule("/srv/a", ("read", "write"), owner=True)])
    assert (root.name, root.access) == ("/srv", "list")
    assert root.counts == {"written": 1, "read": 2}
    assert root.children[0].access == "read, write (own files only)"


def test_patterns_without_a_root() -> None:
    roots = tree(read("{home}/.profile", "memfd:x", "/"))
    assert [node.name for node in roots] == ["/", "memfd:x", "{home}/.profile"]


def test_what_is_written_is_shown_first() -> None:
    rules = [*read(*(f"/d/{number:03}" for number in range(200))), FileRule("/d/zz", ("write",))]
    (root,) = tree(rules)
    assert len(root.children) == CHILDREN_MAX
    assert root.children[-1].name == "zz"
    assert root.more == 201 - CHILDREN_MAX
    assert root.counts == {"written": 1, "read": 200}


def test_deep_and_wide() -> None:
    deep = tree(read("/" + "a/" * 2000 + "b", "/" + "a/" * 2000 + "c"))
    assert sum(1 for _ in every(deep)) <= DEPTH_MAX
    wide = tree(read(*(f"/{a}/{b}/{c}" for a in range(30) for b in range(30) for c in range(30))))
    assert sum(1 for _ in every(wide)) <= NODES_MAX + 2
    assert wide[0].counts == {"read": 27_000}


def test_sorts_of_access() -> None:
    assert {access: group_of(access) for access in ("read", "create", "map", "execute", "connect", "list")} == {
        "read": "read", "create": "written", "map": "executed", "execute": "executed", "connect": "connected",
        "list": "read",
    }  # fmt: skip


PATTERNS = st.lists(st.sampled_from(["a", "b", "{pid}", "c.so"]), max_size=4).map(lambda parts: "/" + "/".join(parts))


@given(st.lists(st.builds(FileRule, PATTERNS, st.sampled_from(FILE_ACCESSES).map(lambda word: (word,))), max_size=20))
def test_every_rule_is_counted(rules: list[FileRule]) -> None:
    nodes = tree(rules)
    counted = {group: sum(node.counts.get(group, 0) for node in nodes) for group in ("written", "executed", "read")}
    assert counted == {group: sum(group_of(rule.access[0]) == group for rule in rules) for group in counted}
    named = sorted(node.access for node in every(nodes) if node.access)
    assert len(named) == len({rule.pattern for rule in rules})
    for rule in rules:
        assert place_of(rule.pattern) == "/" + rule.pattern.split("/")[1]
