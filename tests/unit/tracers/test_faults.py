"""A fault of profgen's own costs a loss, not the recording."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from profiler.tracers.ebpf import calls, loader
from profiler.tracers.ebpf.calls import Uses
from profiler.tracers.errands import Parking
from profiler.tracers.paths import Memory, Resolver
from profiler.tracers.ptrace.tracer import Kind, Run, Tracee
from profiler.tracers.recording import Recording, Row


def test_the_first_fault_is_described_and_all_count() -> None:
    recording = Recording("x86_64")
    for number in range(3):
        try:
            raise OverflowError(f"mode {number}")
        except OverflowError as error:
            recording.failed("a call of mknod", error)
    assert recording.losses == {"faults": 3}
    (warning,) = recording.warnings
    assert "a call of mknod" in warning
    assert "OverflowError in test_faults.py, line " in warning
    assert "mode 0" in warning


def test_a_callback_of_a_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    """ctypes would print the exception and go on."""
    callbacks: list[Any] = []

    def new_ring(fd: int, function: Any, context: None, options: None) -> int:
        callbacks.append(function)
        return 1

    monkeypatch.setattr(loader, "libbpf", lambda: SimpleNamespace(ring_buffer__new=new_ring))
    programs = object.__new__(loader.Programs)
    programs._callbacks, programs._rings, programs.faults, programs.first_fault = [], {}, 0, None
    monkeypatch.setattr(programs, "map_fd", lambda name: 3)
    programs.open_ring("events", fails)
    assert [callbacks[0](None, 0, 0) for _ in range(3)] == [0, 0, 0]
    assert programs.faults == 3
    assert programs.first_fault is not None
    assert "events" in programs.first_fault[0]


@pytest.fixture
def run() -> Run:
    made = object.__new__(Run)
    made.recording = Recording("x86_64")
    made.errands = Parking()
    made.threads = cast(Any, SimpleNamespace(stopped=lambda: None, before=lambda *_: None, after=lambda *_: None))
    return made


def fails(*_: Any) -> Any:
    raise StopIteration


def kind(**more: Any) -> Kind:
    told: dict[str, Any] = {
        "row": Row(first=0.0), "abi": "x86_64", "name": "openat", "spec": None, "looked_at": True, "inferred": False,
        "enter": None, "changes": False, "clone": False, "makes": False, "program": 0, "quiet": frozenset(), **more,
    }  # fmt: skip
    return Kind(**told)


def test_before_a_call(run: Run) -> None:
    run._enter(1, Tracee(0), kind(enter=fails), (0,) * 6)
    assert run.recording.losses == {"faults": 1}


def test_after_a_call(run: Run) -> None:
    tracee = Tracee(0)
    tracee.leave = fails
    run._finished(1, tracee, kind(), 0, 0)
    assert run.recording.losses == {"faults": 1}
    assert tracee.leave is None


def test_an_event_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = cast(
        Any,
        SimpleNamespace(
            recording=Recording("x86_64"), abis=("x86_64",), root=None, gone=False, resolver=Resolver(Memory())
        ),
    )
    uses = Uses(cast(Any, None), reader)
    event = SimpleNamespace(abi=0, number=257, key=b"key", program=3)
    monkeypatch.setattr(calls, "parse", lambda data: event)
    monkeypatch.setattr(uses, "_interpret", fails)
    uses.add(b"")
    assert not uses.resolve()
    assert uses._rows == {b"key": []}
    assert reader.recording.losses == {"faults": 1}
