"""Trace files: the schema describes what is written, what is written is read back, and nothing else is accepted."""

from __future__ import annotations

import copy
import dataclasses
import gc
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from inputs import examples
from jsonschema import Draft202012Validator
from unit.trace.strategies import traces
from unit.trace.written import write_trace

from profiler.errors import InputError, OutputError
from profiler.trace import model
from profiler.trace.model import Arguments, Program, Results, Syscall, Trace
from profiler.trace.store import READ_LIMIT_BYTES, USES, dumps, from_dict, loads, read_limited, read_trace, to_dict

CHECKOUT = Path(__file__).resolve().parents[3]
RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
MANY = settings(RELAXED, max_examples=examples(200))


@cache
def validator() -> Draft202012Validator:
    schema = json.loads((CHECKOUT / "docs" / "trace.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def example_trace(**meta: Any) -> Trace:
    """A small trace that has every kind of row."""
    given_meta = {
        "tool": "profgen 0",
        "tracer": "ptrace",
        "features": ("x",),
        "kernel": "6.1",
        "arch": "x86_64",
        "distribution": None,
        "libc": None,
        "argv": ("ls", "/"),
        "cwd": "/",
        "uid": 0,
        "gid": 0,
        "groups": (0, 4),
        "no_new_privs": False,
        "start": "2026-01-01T00:00:00+00:00",
        "duration": 1.5,
        "exit_status": 0,
        "complete": True,
        "losses": {},
        "last_new": 0.25,
    }
    return Trace(
        model.Meta(**(given_meta | meta)),
        (Program("/bin/ls", None, "ls", "0" * 64, "ab" * 20, 1), Program("/x", "/bin/sh")),
        (
            Syscall(
                "x86_64",
                41,
                "socket",
                3,
                Results(1, {"EPERM": 2}),
                0.0,
                1.0,
                {0: 2, 1: 1},
                Arguments(("domain", "type"), {(2, 1): frozenset({0}), (10, (1 << 64) - 1): frozenset({0, 1})}),
            ),
            Syscall("i386", 999, None, 1, Results(), 0.5, 0.5, {1: 1}),
        ),
        (
            model.Capability(
                "CAP_CHOWN",
                "initial",
                "granted",
                None,
                True,
                False,
                1,
                0.0,
                0.0,
                frozenset({0}),
                {"chown": 1},
                (("cap_capable", "capable"),),
            ),
        ),
        (model.Exec(0, None, 1), model.Exec(1, 0, 2)),
        files=(
            model.File(
                "/etc/\udcff",
                "read",
                "file",
                "linked",
                {"ok": 3, "EACCES": 1},
                frozenset({"other"}),
                frozenset({0, 1}),
                0.5,
                1.0,
            ),
            model.File("/b", "link", "file", "deleted", {"ok": 1}, frozenset(), frozenset({0}), 0.0, 0.0, "/a", "self"),
        ),
        sockets=(
            model.Socket("inet6", "stream", 6, "bind", 80, None, {"ok": 1}, frozenset({1}), 0.0, 0.5),
            model.Socket("unix", "dgram", 0, "send", None, "@a\0b", {"ECONNREFUSED": 1}, frozenset({1}), 0.0, 0.5),
        ),
        signals=(model.Signal("RTMIN+3", "group", {"ok": 1}, frozenset({0})),),
        inspections=(model.Inspection("traceme", "self", {"EPERM": 1}, frozenset({0})),),
        mounts=(model.Mount("bind", "/a", "/b", None, ("rdonly", "rec"), {"ok": 1}, frozenset({0})),),
    )


# -- the schema ----------------------------------------------------------------------------------------------------


@RELAXED
@given(traces())
def test_schema_accepts_what_is_written(trace: Trace) -> None:
    validator().validate(to_dict(trace))


@RELAXED
@given(traces())
def test_round_trip(trace: Trace) -> None:
    text = dumps(trace)
    again = loads(text.encode("ascii"), "x")
    assert dumps(again) == text
    assert to_dict(again) == to_dict(trace)


@pytest.mark.parametrize(
    "command", [["ls", "/"], ["sh", "-c", "ls / | cat; /bin/echo \u00fc; exit 3"]], ids=["ls", "sh"]
)
@pytest.mark.parametrize("tracer", ["ptrace", "ebpf"])
def test_real_traces_validate(tracer: str, command: list[str], tmp_path: Path) -> None:
    if tracer == "ebpf" and (os.geteuid() != 0 or not Path("/usr/lib/python3/dist-packages/bcc").is_dir()):
        pytest.skip("the eBPF tracer needs root, and bcc")
    result = subprocess.run(
        [sys.executable, "-m", "profiler", "record", "--tracer", tracer, "-q", "-o", "out.json", "--", *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )
    assert result.returncode == (0 if command[0] == "ls" else 3), result.stderr
    text = (tmp_path / "out.json").read_bytes()
    document = json.loads(text)
    validator().validate(document)
    assert document["syscalls"]
    assert dumps(loads(text, "out.json")).encode() == text


def test_schema_describes_every_member() -> None:
    """The schema has every field of the model and no other; each is described and required."""
    definitions = validator().schema["$defs"]
    shapes = {
        "meta": model.Meta,
        "program": model.Program,
        "syscall": model.Syscall,
        "arguments": model.Arguments,
        "capability": model.Capability,
        "exec": model.Exec,
        "file": model.File,
        "socket": model.Socket,
        "signal": model.Signal,
        "inspection": model.Inspection,
        "mount": model.Mount,
        "container": model.Container,
    }
    assert set(definitions) == set(shapes)
    for name, cls in shapes.items():
        definition = definitions[name]
        assert set(definition["properties"]) == set(cls.__dataclass_fields__), name
    assert set(validator().schema["properties"]) == {"schema", *model.Trace.__dataclass_fields__}

    def check(node: Any, where: str) -> None:
        if isinstance(node, list):
            for item in node:
                check(item, where)
        if not isinstance(node, dict):
            return
        if node.get("type") == "object" and "properties" in node:
            assert node["additionalProperties"] is False, where
            assert set(node["required"]) == set(node["properties"]), where
            for name, member in node["properties"].items():
                assert member.get("description") or "$ref" in member, f"{where}.{name}"
        for name, member in node.items():
            check(member, f"{where}.{name}")

    check(validator().schema, "$")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d.update(more=1),
        lambda d: d["meta"].pop("uid"),
        lambda d: d["meta"].update(groups=[True]),
        lambda d: d["syscalls"][0].update(abi="mips"),
        lambda d: (
            d["syscalls"][0]["arguments"]["values"][0]["value"].append(1 << 64)
            if d["syscalls"][0]["arguments"]
            else d.clear()
        ),
        lambda d: d["capabilities"][0].update(namespace="other"),
        lambda d: d["execs"][0].update(by=-1),
        lambda d: d["programs"][0].update(sha256="00"),
        lambda d: d["files"][0].update(access="execve"),
        lambda d: d["files"][0].update(owner=["root"]),
        lambda d: d["files"][0].update(whose="mine"),
        lambda d: d["files"][0].update(path=""),
        lambda d: d["files"][0].update(path="/a\0b"),
        lambda d: d["files"][0].update(results={"okay": 1}),
        lambda d: d["files"][0].pop("existing"),
        lambda d: d["sockets"][0].update(family="AF_INET"),
        lambda d: d["sockets"][0].update(port="80"),
        lambda d: d["signals"][0].update(signal="TERM, file"),
        lambda d: d["signals"][0].update(whom="all"),
        lambda d: d["inspections"][0].update(operation="look"),
        lambda d: d["mounts"][0].update(flags=["MS_BIND"]),
        lambda d: d["mounts"][0].update(operation="a b"),
    ],
)
def test_schema_refuses(spoil: Callable[[Any], Any]) -> None:
    document = json.loads(dumps(example_trace()))
    spoil(document)
    assert not validator().is_valid(document)


# -- files ---------------------------------------------------------------------------------------------------------


def test_write_and_read(tmp_path: Path) -> None:
    trace = example_trace(argv=(b"\xff\xfe".decode("utf-8", "surrogateescape"), "\n"), cwd="/\udc80")
    write_trace(trace, tmp_path / "t.json")
    assert (tmp_path / "t.json").read_bytes().isascii()
    assert read_trace(tmp_path / "t.json") == read_trace(str(tmp_path / "t.json"))
    assert to_dict(read_trace(tmp_path / "t.json")) == to_dict(trace)
    assert os.fsencode(read_trace(tmp_path / "t.json").meta.argv[0]) == b"\xff\xfe"


def test_same_data_whatever_the_order_of_rows() -> None:
    trace = example_trace()
    turned = Trace(
        trace.meta,
        trace.programs,
        trace.syscalls[::-1],
        trace.capabilities,
        trace.execs[::-1],
        trace.files[::-1],
        trace.sockets[::-1],
        trace.signals,
        trace.inspections,
        trace.mounts,
    )
    assert dumps(turned) == dumps(trace)


def test_unreadable_files(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path, Path("/proc/self/mem")):
        one_line(lambda path=path: read_trace(path))
    with pytest.raises(OutputError):
        write_trace(example_trace(), tmp_path / "none" / "t.json")


def test_a_fifo_is_read_only_if_somebody_writes(tmp_path: Path) -> None:
    fifo = tmp_path / "policy.yaml"
    os.mkfifo(fifo)
    assert "no program writes to" in one_line(lambda: read_limited(fifo))
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(fifo, os.O_WRONLY)
    os.write(writer, b"1234")
    writing = threading.Timer(0.2, lambda: (os.write(writer, b"5"), os.close(writer)))
    writing.start()
    try:
        assert read_limited(fifo) == b"12345"
    finally:
        writing.join()
        os.close(reader)
    assert "is a directory" in one_line(lambda: read_limited(tmp_path))


def test_a_key_that_comes_twice() -> None:
    text = dumps(example_trace())
    twice = text.replace('"calls"', '"calls": 1, "calls"', 1)
    assert twice != text
    assert "key 'calls' is given twice" in one_line(lambda: loads(twice.encode(), "t.json"))


def test_too_large(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(READ_LIMIT_BYTES + 1)  # sparse
    assert "larger than" in one_line(lambda: read_trace(path))
    path.write_bytes(b"12345")
    assert read_limited(path, 5) == b"12345"
    assert "larger than" in one_line(lambda: read_limited(path, 4))


# -- junk ----------------------------------------------------------------------------------------------------------


def one_line(call: Callable[[], object]) -> str:
    """Return the message of the InputError that the call must raise: one short, printable line."""
    with pytest.raises(InputError) as caught:
        call()
    return check_message(caught.value)


def check_message(error: InputError) -> str:
    message = str(error)
    assert message
    assert message.isprintable(), repr(message)
    assert len(message) < 1000
    assert error.exit_code == 2
    return message


def accepted(call: Callable[[], Trace]) -> Trace | None:
    """The call returns a trace that can be written again, or raises InputError."""
    try:
        trace = call()
    except InputError as error:
        check_message(error)
        return None
    again = dumps(trace)
    assert dumps(loads(again.encode("ascii"), "again")) == again
    return trace


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "not JSON"),
        (b"\0" * 64, "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"null", "no schema"),
        (b"[]", "no schema"),
        (b'{"schema": 1}', "no schema"),
        (b'{"schema": "profgen.trace/2"}', "newer profgen"),
        (b'{"schema": "profgen.policy/1"}', "not a trace"),
        (b'{"schema": "profgen.trace/1"}', "programs"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"1" * 5000, "not JSON"),
        (b"\x00\xff" * 500_000, "not JSON"),
        (b"x" * 10_000_000, "not JSON"),
        (b'{"schema": "a\\nb\\u001b[31m"}', "not a trace"),
    ],
)
def test_junk(text: bytes, says: str) -> None:
    assert says in one_line(lambda: loads(text, "junk"))


@pytest.mark.parametrize("name", ["NaN", "Infinity", "-Infinity"])
def test_words_that_are_no_json(name: str) -> None:
    text = dumps(example_trace()).replace('"duration": 1.5', f'"duration": {name}')
    assert name in text
    assert "not a JSON number" in one_line(lambda: loads(text.encode(), "x"))


@MANY
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    one_line(lambda: loads(data, "x"))


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from(
        [-1, 0, 1, 2, 1 << 63, (1 << 64) - 1, 1 << 64, -(1 << 64), 10**400, 0.5, -0.0, 1e308, float("inf"), 1e12]
    )
    | st.sampled_from(["", "0", "1", "-1", " 1", "1_0", "\u0661", "99", "x", "\n", "\x1b[2J", "\ud800", "a" * 5000]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["", "0", "a", "value", "\n\x1b", "1" * 3000]), inner, max_size=3)
    ),
    max_leaves=6,
)


def nodes(document: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [place]
    if isinstance(document, dict):
        for key in document:
            found += nodes(document[key], (*place, key))
    elif isinstance(document, list):
        for key, item in enumerate(document):
            found += nodes(item, (*place, key))
    return found


def parent_of(document: Any, place: tuple[Any, ...]) -> Any:
    for key in place[:-1]:
        document = document[key]
    return document


@MANY
@given(st.data())
def test_mutated(data: st.DataObject) -> None:
    document = json.loads(dumps(example_trace()))
    for _ in range(data.draw(st.integers(1, 3))):
        places = [place for place in nodes(document) if place]
        if not places:
            break
        place = data.draw(st.sampled_from(places))
        above = parent_of(document, place)
        action = data.draw(st.sampled_from(["delete", "replace", "replace", "duplicate", "rename"]))
        if action == "delete":
            del above[place[-1]]
        elif action == "replace":
            above[place[-1]] = data.draw(JSON_VALUES)
        elif action == "duplicate" and isinstance(above, list):
            above.append(copy.deepcopy(above[place[-1]]))
        elif isinstance(above, dict):
            above[data.draw(st.sampled_from(["0", "7", "-1", "", "\n", "\x1b[2J", "x" * 3000, "\u0661", "1e0"]))] = (
                above.pop(place[-1])
            )
    accepted(lambda: from_dict(document))
    # The same, as text: numbers out of a double's range become infinite on the way.
    text = json.dumps(document).replace("Infinity", "1e999").encode()
    accepted(lambda: loads(text, "x"))


@RELAXED
@given(st.data())
def test_truncated(data: st.DataObject) -> None:
    text = dumps(example_trace()).rstrip().encode()
    one_line(lambda: loads(text[: data.draw(st.integers(0, len(text) - 1))], "x"))


@RELAXED
@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=3))
def test_bytes_changed(position: int, change: bytes) -> None:
    text = dumps(example_trace()).encode()
    position %= len(text)
    accepted(lambda: loads(text[:position] + change + text[position + len(change) :], "x"))


@pytest.mark.parametrize(
    "place",
    [
        ("execs", 0, "program", 2),
        ("execs", 0, "program", True),
        ("execs", 0, "program", -1),
        ("execs", 1, "by", 7),
        ("execs", 1, "by", "0"),
        ("capabilities", 0, "programs", [float("inf")]),
        ("capabilities", 0, "programs", [0.5]),
        ("capabilities", 0, "programs", ["0"]),
        ("capabilities", 0, "programs", [None]),
        ("capabilities", 0, "verdict", "maybe"),
        ("capabilities", 0, "chains", [["a", 1]]),
        ("capabilities", 0, "chains", ["abc"]),
        ("syscalls", 1, "programs", {"2": 1}),
        ("syscalls", 1, "programs", {"0": 1, "00": 2}),
        ("syscalls", 1, "programs", {"0": -1}),
        ("syscalls", 1, "programs", {"\u0661": 1}),
        ("syscalls", 1, "programs", {"\x1b[2J": "x"}),
        ("syscalls", 1, "results", "errors", {"a\nb": "x"}),
        ("syscalls", 1, "results", "errors", {"a" * 5000: "x"}),
        ("syscalls", 1, "number", 1 << 70),
        ("syscalls", 1, "number", -1),
        ("syscalls", 1, "number", 1.0),
        ("syscalls", 1, "calls", -1),
        ("syscalls", 1, "calls", 1 << 64),
        ("syscalls", 1, "calls", True),
        ("syscalls", 1, "first", -0.5),
        ("syscalls", 1, "first", float("inf")),
        ("syscalls", 1, "first", 10**400),
        ("syscalls", 1, "arguments", "fields", ["one"]),
        ("syscalls", 1, "arguments", "values", 0, "value", [1]),
        ("syscalls", 1, "arguments", "values", 0, "value", [1, 1 << 64]),
        ("syscalls", 1, "arguments", "values", 0, "value", [1, True]),
        ("syscalls", 1, "arguments", "values", 0, "programs", [9]),
        ("files", 0, "path", ""),
        ("files", 0, "path", None),
        ("files", 0, "path", "/a\0b"),
        ("files", 0, "path", "/\ud800"),
        ("files", 0, "path", ["/"]),
        ("files", 0, "access", "existing"),
        ("files", 0, "access", "\x1b[2J"),
        ("files", 0, "access", None),
        ("files", 0, "kind", "fd"),
        ("files", 0, "state", "gone"),
        ("files", 0, "existing", ""),
        ("files", 0, "whose", "group"),
        ("files", 0, "whose", 1),
        ("files", 0, "owner", ["root"]),
        ("files", 0, "owner", "self"),
        ("files", 0, "results", {"a\nb": 1}),
        ("files", 0, "results", {"ok": -1}),
        ("files", 0, "results", {"ok": 1.0}),
        ("files", 0, "results", {"ok ": 1}),
        ("files", 0, "programs", [2]),
        ("files", 0, "programs", [True]),
        ("files", 0, "first", -1),
        ("files", 0, "runs", "1"),
        ("files", 0, None),
        ("files", None),
        ("sockets", {}),
        ("sockets", 0, "family", "a b"),
        ("sockets", 0, "family", "\u0661"),
        ("sockets", 0, "type", "stream\n"),
        ("sockets", 0, "protocol", 1 << 32),
        ("sockets", 0, "protocol", True),
        ("sockets", 0, "protocol", None),
        ("sockets", 0, "operation", "read"),
        ("sockets", 0, "port", -1),
        ("sockets", 0, "port", False),
        ("sockets", 0, "port", 1 << 32),
        ("sockets", 0, "address", "\udfff"),
        ("signals", 0, "signal", "term"),
        ("signals", 0, "signal", "TERM, file,"),
        ("signals", 0, "signal", ""),
        ("signals", 0, "whom", "everybody"),
        ("inspections", 0, "operation", "look"),
        ("inspections", 0, "whom", "group"),
        ("mounts", 0, "operation", ""),
        ("mounts", 0, "source", 1),
        ("mounts", 0, "target", "\ud800"),
        ("mounts", 0, "flags", ["rec", "rdonly"]),
        ("mounts", 0, "flags", ["rec", "rec"]),
        ("mounts", 0, "flags", ["a,b"]),
        ("mounts", 0, "flags", [1]),
        ("meta", "groups", [True]),
        ("meta", "groups", [-1]),
        ("meta", "exit_status", 1 << 70),
        ("meta", "exit_status", True),
        ("meta", "uid", -1),
        ("meta", "argv", "ls"),
        ("meta", "losses", {"tasks": 1.5}),
    ],
    ids=lambda place: (
        ".".join(str(part)[:12] for part in place).encode("ascii", "backslashreplace").decode().replace("\x1b", "ESC")
    ),
)
def test_out_of_place(place: tuple[Any, ...]) -> None:
    """Each of these values would be wrong later on; the schema rejects them too."""
    document = json.loads(dumps(example_trace()))
    # to_dict sorts the syscalls: i386 first, x86_64 with its arguments second.
    assert document["syscalls"][1]["name"] == "socket"
    *path, value = place
    parent_of(document, tuple(path))[path[-1]] = value
    one_line(lambda: from_dict(document))


def test_duplicate_syscall() -> None:
    document = json.loads(dumps(example_trace()))
    document["syscalls"].append(document["syscalls"][0])
    assert "twice" in one_line(lambda: from_dict(document))


@pytest.mark.parametrize("section", USES)
def test_duplicate_uses(section: str) -> None:
    document = json.loads(dumps(example_trace()))
    document[section].append({**document[section][0], "runs": 7, "programs": []})
    message = one_line(lambda: from_dict(document))
    assert section in message
    assert "two rows" in message


@pytest.mark.parametrize(
    ("part", "name"),
    [*((None, section) for section in USES), ("meta", "container"), ("meta", "watched"), ("execs", "runs")],
)
def test_no_member_may_be_missing(part: str | None, name: str) -> None:
    document = json.loads(dumps(example_trace()))
    place = document if part is None else document[part]
    del (place[0] if isinstance(place, list) else place)[name]
    assert not validator().is_valid(document)
    assert repr(name) in one_line(lambda: from_dict(document))


def test_has_files() -> None:
    assert not example_trace().has_files
    assert example_trace(features=(model.FILES_FEATURE,)).has_files


def test_joined() -> None:
    """Programs that were already running have no executions, until a merged recording saw their start."""
    running, started = model.Program("/bin/a"), model.Program("/bin/a", executions=1)
    other, unknown = model.Program("/bin/b", executions=2), model.Program("(unknown)")
    trace = dataclasses.replace(example_trace(features=(model.JOINED_FEATURE,)), programs=(running, other, unknown))
    assert trace.joined == ("/bin/a",)
    assert dataclasses.replace(trace, programs=(started, other, unknown)).joined == ()
    assert dataclasses.replace(example_trace(), programs=(running, other, unknown)).joined == ()
    alone = dataclasses.replace(
        trace, programs=(other,), execs=(model.Exec(0, 0, 2), model.Exec(0, None, 1, entered=1))
    )
    assert alone.joined == ("/bin/b",), "it ran itself again; how it began is not known"


def test_one_use_a_line() -> None:
    """Each use is one line, so that a diff shows one line for it, and 100 000 of them are written quickly."""
    trace = example_trace()
    lines = dumps(trace).splitlines()
    for row in (row for section in USES for row in to_dict(trace)[section]):
        assert json.dumps(row, sort_keys=True) in [line.strip().rstrip(",") for line in lines]


def test_many_files() -> None:
    rows = tuple(
        model.File(
            f"/srv/\udcff{n}", "read", "file", "linked", {"ok": n}, frozenset({"self"}), frozenset({n % 2}), 0.0, 1.0
        )
        for n in range(20_000)
    )
    trace = dataclasses.replace(example_trace(), files=rows)
    again = loads(dumps(trace).encode(), "x")
    assert {row.path: row for row in again.files} == {row.path: row for row in rows}
    # Equal sets are one object: a row more must not cost much more than its path.
    assert len({id(row.programs) for row in again.files}) == 2
    assert len({id(row.owner) for row in again.files}) == 1


def test_garbage_collection_is_left_as_it_was() -> None:
    text = dumps(example_trace()).encode()
    assert gc.isenabled()
    loads(text, "x")
    one_line(lambda: loads(b"", "x"))
    assert gc.isenabled()
    gc.disable()
    try:
        loads(text, "x")
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_message_names_the_file_and_the_place() -> None:
    document = json.loads(dumps(example_trace()))
    del document["syscalls"][1]["calls"]
    message = one_line(lambda: from_dict(document, "some.trace.json"))
    assert "some.trace.json" in message
    assert "syscalls[1]" in message
    assert "'calls'" in message


@example("a\nb.json")
@example("\x1b[2J")
@example("\udcff")
@given(st.text(max_size=20))
def test_message_with_any_file_name(name: str) -> None:
    for text in (b"", b"{}", dumps(example_trace()).encode().replace(b'"calls"', b'"calles"')):
        one_line(lambda text=text: loads(text, name))
