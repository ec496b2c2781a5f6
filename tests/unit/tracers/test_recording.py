"""A recording sums and sorts what tracers add, and counts every loss."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.trace.strategies import FILE_KEYS, FILE_OWNERS, SOCKET_KEYS
from unit.trace.test_merge import META

from profiler.trace.model import FILES_FEATURE, File, Inspection, Mount, Signal, Socket, Trace, row_order
from profiler.trace.store import READ_LIMIT_BYTES, USES, dumps, loads
from profiler.tracers import recording as module
from profiler.tracers.recording import Recording

ME, OTHER = frozenset({"self"}), frozenset({"other"})


@pytest.fixture
def recording() -> Recording:
    """Return a recording with two programs, the first of which comes second in a trace."""
    made = Recording("x86_64")
    assert made.program("/z", None, None) == 0
    assert made.program("/a", None, None) == 1
    return made


# -- rows ------------------------------------------------------------------------------------------------------------


def test_file(recording: Recording) -> None:
    recording.file("/f", "read", "file", "ok", 0, owner=("self",), first=1.2345, last=2.0)
    recording.file("/f", "read", "file", "ok", 0, owner=("other",), first=0.75, last=1.0, count=3)
    recording.file("/f", "read", "file", "EACCES", 1, first=1.0, last=3.4567)
    recording.file("/b", "link", "file", "ok", 1, existing="/f", state="deleted", whose="workload", first=1.0, last=1.0)
    assert recording.trace(META).files == (
        File("/b", "link", "file", "deleted", {"ok": 1}, frozenset(), frozenset({0}), 1.0, 1.0, "/f", "workload"),
        File("/f", "read", "file", "linked", {"EACCES": 1, "ok": 4}, ME | OTHER, frozenset({0, 1}), 0.75, 3.457),
    )
    assert recording.paths_seen == 2


@pytest.mark.parametrize(
    "change",
    [
        {"path": "/g"},
        {"access": "write"},
        {"kind": "fifo"},
        {"state": "deleted"},
        {"existing": "/e"},
        {"whose": "self"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_tells_files_apart(recording: Recording, change: dict[str, str]) -> None:
    base = {"path": "/f", "access": "read", "kind": "file", "result": "ok", "program": 0}
    recording.file(**base)
    recording.file(**base | {"result": "EACCES", "program": 1}, owner=("self",))
    assert len(recording.trace(META).files) == 1
    recording.file(**base | change)
    assert len(recording.trace(META).files) == 2


def test_socket(recording: Recording) -> None:
    recording.socket("inet", "stream", 6, "bind", "ok", 0, port=0, first=1.0, last=2.0)
    recording.socket("inet", "stream", 6, "bind", "ok", 1, port=80, first=1.0, last=2.0, count=2)
    recording.socket("inet", "stream", 6, "bind", "EADDRINUSE", 1, port=80, first=0.5, last=1.0)
    recording.socket("inet", "stream", 6, "create", "ok", 1, first=0.0, last=0.0)
    recording.socket("unix", "stream", 0, "bind", "ok", 1, address="@a\0", first=0.0, last=0.0)
    assert recording.trace(META).sockets == (
        Socket("inet", "stream", 6, "bind", 0, None, {"ok": 1}, frozenset({1}), 1.0, 2.0),
        Socket("inet", "stream", 6, "bind", 80, None, {"EADDRINUSE": 1, "ok": 2}, frozenset({0}), 0.5, 2.0),
        Socket("inet", "stream", 6, "create", None, None, {"ok": 1}, frozenset({0}), 0.0, 0.0),
        Socket("unix", "stream", 0, "bind", None, "@a\0", {"ok": 1}, frozenset({0}), 0.0, 0.0),
    )


def test_signal_inspection_mount(recording: Recording) -> None:
    recording.signal("TERM", "workload", "ok", 0)
    recording.signal("TERM", "workload", "EPERM", 1, 2)
    recording.signal("TERM", "outside", "EPERM", 1)
    recording.inspection("read", "outside", "ok", 0, 3)
    recording.inspection("read", "outside", "ok", 0)
    recording.mount("bind", "/s", "/t", None, ("rec", "bind"), "ok", 0)
    recording.mount("bind", "/s", "/t", None, ("bind", "rec", "rec"), "EPERM", 1)
    recording.mount("umount", None, "/t", None, (), "ok", 0, 2)
    trace = recording.trace(META)
    assert trace.signals == (
        Signal("TERM", "outside", {"EPERM": 1}, frozenset({0})),
        Signal("TERM", "workload", {"EPERM": 2, "ok": 1}, frozenset({0, 1})),
    )
    assert trace.inspections == (Inspection("read", "outside", {"ok": 4}, frozenset({1})),)
    assert trace.mounts == (
        Mount("bind", "/s", "/t", None, ("bind", "rec"), {"EPERM": 1, "ok": 1}, frozenset({0, 1})),
        Mount("umount", None, "/t", None, (), {"ok": 2}, frozenset({1})),
    )


def test_the_old_sections_are_as_they_were(recording: Recording) -> None:
    trace = recording.trace(META)
    assert [program.path for program in trace.programs] == ["/a", "/z"]
    assert all(getattr(trace, section) == () for section in USES)


# -- times -----------------------------------------------------------------------------------------------------------

NEW: dict[str, Callable[[Recording], object]] = {
    "file": lambda r: r.file("/f", "read", "file", "ok", 0),
    "socket": lambda r: r.socket("inet", "stream", 6, "create", "ok", 0),
    "signal": lambda r: r.signal("TERM", "self", "ok", 0),
    "inspection": lambda r: r.inspection("read", "self", "ok", 0),
    "mount": lambda r: r.mount("umount", None, "/", None, (), "ok", 0),
}


@pytest.mark.parametrize("add", NEW.values(), ids=NEW)
def test_only_a_new_row_is_new(
    recording: Recording, add: Callable[[Recording], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 5.0
    monkeypatch.setattr(recording, "elapsed", lambda: now)
    add(recording)
    assert recording.last_new == 5.0
    now = 7.0
    add(recording)
    assert recording.last_new == 5.0
    trace = recording.trace(META)
    for row in (*trace.files, *trace.sockets):
        assert (row.first, row.last) == (5.0, 7.0)


@pytest.mark.parametrize(
    ("first", "last", "shown"),
    [(None, None, (5.0, 5.0)), (1.0, None, (1.0, 5.0)), (None, 2.0, (2.0, 2.0)), (1.0, 2.0, (1.0, 2.0))],
)
def test_times_given_or_now(
    recording: Recording,
    first: float | None,
    last: float | None,
    shown: tuple[float, float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recording, "elapsed", lambda: 5.0)
    recording.file("/f", "read", "file", "ok", 0, first=first, last=last)
    recording.socket("inet", "stream", 6, "create", "ok", 0, first=first, last=last)
    trace = recording.trace(META)
    assert (trace.files[0].first, trace.files[0].last) == shown
    assert (trace.sockets[0].first, trace.sockets[0].last) == shown
    assert recording.last_new == shown[0]


@pytest.mark.parametrize("what", ["signal", "inspection", "mount"])
def test_collected_at_the_end_it_is_as_old_as_it_was(recording: Recording, what: str) -> None:
    arguments = {"signal": ("TERM", "self"), "inspection": ("read", "self"), "mount": ("umount", None, "/", None, ())}[
        what
    ]
    add = getattr(recording, what)
    add(*arguments, "ok", 0, count=2, first=1.0, last=2.0)
    add(*arguments, "EPERM", 0, first=3.0, last=3.0)
    assert recording.last_new == 1.0


def test_an_older_row_is_not_the_last_new(recording: Recording) -> None:
    recording.file("/f", "read", "file", "ok", 0, first=9.0, last=9.0)
    recording.file("/g", "read", "file", "ok", 0, first=8.0, last=9.5)
    assert recording.last_new == 9.0


# -- order, room -----------------------------------------------------------------------------------------------------

USE = st.tuples(
    st.sampled_from([0, 1]),
    st.sampled_from(["ok", "EPERM"]),
    st.integers(1, 9),
    st.integers(0, 9000).map(lambda n: n / 1000),
)


@settings(deadline=None)
@given(
    st.lists(st.tuples(FILE_KEYS, USE, st.frozensets(st.sampled_from(FILE_OWNERS))), max_size=8),
    st.lists(st.tuples(SOCKET_KEYS, USE), max_size=8),
    st.randoms(use_true_random=False),
)
def test_the_order_of_events_does_not_matter(files: list[Any], sockets: list[Any], shuffle: random.Random) -> None:
    def trace_of(files: list[Any], sockets: list[Any]) -> Trace:
        made = Recording("x86_64")
        made.program("/z", None, None)
        made.program("/a", None, None)
        for (path, access, kind, state, existing, whose), (program, result, count, time), owner in files:
            made.file(
                path, access, kind, result, program,
                state=state, owner=owner, existing=existing, whose=whose, count=count, first=time, last=time,
            )  # fmt: skip
        for (family, sort, protocol, operation, port, address), (program, result, count, time) in sockets:
            made.socket(
                family,
                sort,
                protocol,
                operation,
                result,
                program,
                port=port,
                address=address,
                count=count,
                first=time,
                last=time,
            )
        return made.trace(META)

    trace = trace_of(files, sockets)
    assert sum(n for row in trace.files for n in row.results.values()) == sum(use[2] for _, use, _ in files)
    assert sum(n for row in trace.sockets for n in row.results.values()) == sum(use[2] for _, use in sockets)
    assert {row.key for row in trace.files} == {key for key, _, _ in files}
    keys = [row_order(row.key) for row in trace.files]
    assert keys == sorted(keys)
    text = dumps(trace)
    assert loads(text.encode(), "x") == trace
    shuffle.shuffle(files)
    shuffle.shuffle(sockets)
    assert dumps(trace_of(files, sockets)) == text


def test_no_room(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known rows are still counted; new ones are lost, and the loss is counted."""
    monkeypatch.setattr(module, "USES_BYTES_MAX", 2 * module._ROW_BYTES + 20)  # names in quotes: 12 and 4
    recording.file("/" + "f" * 9, "read", "file", "ok", 0)
    recording.socket("unix", "stream", 0, "bind", "ok", 0, address="/s")
    assert not recording.losses
    recording.file("/g", "read", "file", "ok", 0)
    recording.socket("unix", "stream", 0, "bind", "ok", 0, address="/t")
    recording.mount("umount", None, "/g", None, (), "ok", 0)
    assert recording.losses == {"uses": 3}
    recording.file("/" + "f" * 9, "read", "file", "ok", 0)
    recording.socket("unix", "stream", 0, "bind", "ok", 0, address="/s")
    assert recording.losses == {"uses": 3}
    trace = recording.trace(META)
    assert [row.results for row in (*trace.files, *trace.sockets, *trace.mounts)] == [{"ok": 2}, {"ok": 2}]


@pytest.mark.parametrize("letter", ["a", "\udcff", "\u00e9", "\U0001f600", '"', "\n", "\x7f"], ids=ascii)
def test_a_full_trace_can_be_read_again(recording: Recording, letter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the names consist of, the text stays well below the limit."""
    monkeypatch.setattr(module, "USES_BYTES_MAX", module.USES_BYTES_MAX >> 10)
    number = 0
    while not recording.losses:
        number += 1
        recording.file(
            f"/{letter * 200}{number}",
            "rename_from",
            "directory",
            "ERRNO_522",
            number % 2,
            owner=("self",),
            whose="workload",
        )
    assert number > 20
    assert len(dumps(recording.trace(META))) < READ_LIMIT_BYTES >> 10


def test_a_file_without_a_path_is_a_loss(recording: Recording) -> None:
    recording.file("", "read", "file", "ok", 0, count=2)
    assert recording.losses == {"paths": 2}
    assert recording.trace(META).files == ()


def test_features_say_whether_files_were_watched(recording: Recording) -> None:
    assert not recording.trace(META).has_files
    assert FILES_FEATURE == "files"
