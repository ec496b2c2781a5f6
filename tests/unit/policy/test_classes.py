"""The classes of an entry: from the narrowest to the widest, and each next one includes the last."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.policy.making import call, file, touching

from profiler.kernel.arguments import spec_for
from profiler.policy.argument_rules import rules_for
from profiler.policy.changes import Edit
from profiler.policy.classes import Classes, classes
from profiler.policy.covering import left
from profiler.policy.model import (
    Allowed,
    Capability,
    FileRule,
    InspectionRule,
    MountRule,
    SignalRule,
    SocketRule,
)
from profiler.policy.patterns import literal
from profiler.trace.model import FILE_ACCESSES, SOCKET_OPERATIONS, Mount


def of(section: str, after: object, before: object = None, trace: object = None) -> Classes:
    return classes(Edit(section, () if before is None else (before,), (after,)), trace)  # type: ignore[arg-type]


def words(found: Classes) -> list[str]:
    return [level.words for level in found.levels]


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=20)
ACCESSES = st.lists(st.sampled_from(FILE_ACCESSES[:-1]), min_size=1, max_size=5, unique=True)


@given(st.lists(NAMES, min_size=1, max_size=4), ACCESSES, st.sets(st.sampled_from(FILE_ACCESSES[:-1]), max_size=2))
def test_each_class_of_a_file_includes_the_one_before(names: list[str], access: list[str], held: set[str]) -> None:
    ordered = tuple(word for word in FILE_ACCESSES if word in {*access, *held})
    row = FileRule(literal("/" + "/".join(names)), ordered)
    before = FileRule(row.pattern, tuple(word for word in FILE_ACCESSES if word in held)) if held else None
    found = of("files", row, before)
    assert found.levels[found.proposed].rows == (row,)
    for narrow, wide in zip(found.levels, found.levels[1:], strict=False):
        assert all(left(wide.rows, rule, exact=True) is None for rule in narrow.rows)
        assert not all(left(narrow.rows, rule, exact=True) is None for rule in wide.rows)
    if before is not None:
        assert all(left(level.rows, before) is None for level in found.levels)


def test_a_file_is_widened_by_name_and_directory() -> None:
    found = of("files", FileRule("/var/lib/app/4567.json", ("read", "write")))
    assert words(found) == [
        "without write",
        "",
        "for /var/lib/app/{digits}.json",
        "for /var/lib/app/{name}",
        "for /var/lib/app/{tree}",
    ]


def test_the_root_directory_is_never_opened() -> None:
    assert words(of("files", FileRule("/secret", ("read",)))) == [""]
    assert "for /etc/{tree}" in words(of("files", FileRule("/etc/x", ("read",))))


def test_a_pattern_is_narrowed_to_what_was_seen() -> None:
    trace = touching(
        file("/srv/a.1"), file("/srv/a.2", "write"), file("/srv/b", "read"), file("/srv/a.3", "read", "ENOENT")
    )
    found = of("files", FileRule("/srv/a.{digits}", ("read", "write")), trace=trace)
    assert words(found)[0] == "only 2 paths that the recording has"
    assert [(row.pattern, row.access) for row in found.levels[0].rows] == [
        ("/srv/a.1", ("read",)),
        ("/srv/a.2", ("write",)),
    ]


def test_arguments() -> None:
    spec = spec_for("socket")
    assert spec is not None
    row = Allowed("observed", "x86_64", "socket", rules=rules_for(spec, [(2, 1, 6), (10, 1, 6)]))
    found = of("syscalls", row)
    assert words(found)[found.proposed :] == [
        "",
        "comparing only domain, type",
        "comparing only domain",
        "with any arguments",
    ]
    assert len(found.levels[0].rows[0].rules) == 1
    for narrow, wide in zip(found.levels, found.levels[1:], strict=False):
        for registers in ([2, 1, 6], [10, 1, 6], [2, 2, 17], [16, 3, 0]):
            arguments = [*registers, 0, 0, 0]
            assert wide.rows[0].permits(arguments) or not narrow.rows[0].permits(arguments)


def test_arguments_that_were_seen() -> None:
    trace = touching(syscalls=[call("socket", [(2, 1, 6)])])
    found = of("syscalls", Allowed("observed", "x86_64", "socket"), trace=trace)
    assert words(found) == ["only the arguments that the recording has", ""]
    assert not found.levels[0].rows[0].permits([16, 3, 0, 0, 0, 0])


def test_sockets() -> None:
    row = SocketRule("inet", "stream", 6, ("create", "connect"), ports=(("connect", (443,)),))
    found = of("sockets", row)
    assert words(found) == ["without connect port 443", ""]
    assert found.levels[0].rows == (SocketRule("inet", "stream", 6, ("create",)),)


def test_ports_of_a_socket_are_taken_one_by_one() -> None:
    row = SocketRule("inet", "stream", 6, ("create", "connect"), ports=(("connect", (443, 5432)),))
    found = of("sockets", row, replace(row, operations=("create",), ports=()))
    assert words(found) == ["without connect port 5432", ""]
    assert found.levels[0].rows == (replace(row, ports=(("connect", (443,)),)),)
    held = replace(row, ports=(("connect", (443,)),))
    assert words(of("sockets", row, held)) == [""]


WIDER = ("{digits}.sock", "{name}", "{tree}")


def test_a_unix_socket_is_widened_as_a_file() -> None:
    row = SocketRule("unix", "stream", 0, ("create", "connect"), addresses=(("connect", ("/run/app/7.sock",)),))
    found = of("sockets", row)
    assert words(found) == ["without connect /run/app/7.sock", "", *(f"for /run/app/{name}" for name in WIDER)]
    assert found.levels[-1].rows[0].addresses == (("connect", ("/run/app/{tree}",)),)
    abstract = replace(row, addresses=(("connect", ("@name",)),))
    assert words(of("sockets", abstract)) == ["without connect @name", ""]


SOCKETS = st.builds(
    SocketRule,
    st.just("unix"),
    st.just("stream"),
    st.just(0),
    st.lists(st.sampled_from(SOCKET_OPERATIONS[:6]), min_size=1, max_size=3, unique=True).map(
        lambda words: tuple(word for word in SOCKET_OPERATIONS if word in words)
    ),
)
VALUES = st.dictionaries(st.sampled_from(["bind", "connect"]), st.sets(st.integers(1, 9), min_size=1, max_size=3))


@given(SOCKETS, VALUES, VALUES, st.sampled_from(["/run/a", "@a", "/x/y/1234"]))
def test_each_class_of_a_socket_includes_the_one_before(
    row: SocketRule, ports: dict[str, set[int]], held: dict[str, set[int]], place: str
) -> None:
    def made(values: dict[str, set[int]]) -> tuple[tuple[str, tuple[int, ...]], ...]:
        return tuple((word, tuple(sorted(values[word]))) for word in row.operations if word in values)

    row = replace(row, addresses=tuple((word, (literal(place),)) for word in row.operations if word == "connect"))
    before = replace(row, ports=made(held), operations=tuple(word for word, _ in made(held)), addresses=())
    both = {word: ports.get(word, set()) | held.get(word, set()) for word in {*ports, *held}}
    found = of("sockets", replace(row, ports=made(both)), before if before.operations else None)
    for narrow, wide in zip(found.levels, found.levels[1:], strict=False):
        assert all(left(wide.rows, rule, exact=True) is None for rule in narrow.rows)
        assert not all(left(narrow.rows, rule, exact=True) is None for rule in wide.rows)
    if before.operations:
        assert all(left(level.rows, before, exact=True) is None for level in found.levels)


def test_a_signal_goes_to_more_processes() -> None:
    found = of("signals", SignalRule("TERM", "self"))
    assert words(found) == ["", "to the whole workload", "to processes outside of the workload too"]
    assert [row.whom for row in found.levels[-1].rows] == ["self", "workload", "outside"]
    assert words(of("signals", SignalRule("TERM", "group"))) == words(
        of("inspections", InspectionRule("read", "outside"))
    )


def test_a_mount() -> None:
    seen = [Mount("bind", f"/srv/{name}", "/mnt/1", None, (), {"ok": 1}, frozenset()) for name in "ab"]
    row = MountRule("bind", "/srv/{name}", "/mnt/1", None, ())
    found = of("mounts", row, trace=touching(mounts=seen))
    assert words(found) == [
        "only 2 mounts that the recording has",
        "",
        "at /mnt/{digits}",
        "at /mnt/{name}",
        "at /mnt/{tree}",
    ]
    assert [rule.source for rule in found.levels[0].rows] == ["/srv/a", "/srv/b"]
    assert words(of("mounts", MountRule("umount", None, None, None, ()))) == [""]


@pytest.mark.parametrize(
    "edit", [Edit("capabilities", (), (Capability("CAP_KILL"),)), Edit("files", (FileRule("/a/b", ("read",)),), ())]
)
def test_nothing_to_choose(edit: Edit) -> None:
    assert words(classes(edit)) == [""]
