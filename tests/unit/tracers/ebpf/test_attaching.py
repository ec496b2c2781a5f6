"""How long the program at every call's end is attached, and how often the maps are read."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest

from profiler.errors import TracerError
from profiler.tracers.ebpf import attaching
from profiler.tracers.ebpf.attaching import LEARNING_SECONDS, Spare

BEGINNING, END, EXECUTING = "on_sys_enter", "on_sys_exit", "on_exec_prepared"


class Kernel:
    """What is attached; ``refuses``: functions that cannot be attached (again), and places."""

    def __init__(self, *refuses: str) -> None:
        self.here = {BEGINNING, END}
        self.refuses = refuses
        self.tried: list[str] = []
        self.counters = {"ENTRIES": 1, "UNUSUAL": 0}

    def attached(self, function: str) -> bool:
        return function in self.here

    def missed(self, *_: str) -> int:
        return 3

    def detach(self, function: str) -> None:
        if function == BEGINNING:
            assert self.counters["ENTRIES"] == 0, "the other program takes over before"
        self.here.remove(function)

    def attach_tracepoint(self, function: str, place: str) -> None:
        self.tried.append(place)
        if place in self.refuses or function in self.refuses:
            raise TracerError("refused")
        self.here.add(function)

    attach_kprobe = attach_tracepoint

    def counter(self, name: str) -> int:
        return self.counters[name]

    def set_counter(self, name: str, value: int) -> None:
        assert value == 0 or BEGINNING in self.here, "the other program gives its work away after"
        self.counters[name] = value

    def attach_iterator(self, function: str, _: str) -> None:
        self.here.add(function)

    def iterate(self, function: str) -> None:
        self.tried.append(function)


def spare(kernel: Kernel, *, files: bool, always: bool = False) -> Spare:
    return Spare(cast(Any, kernel), files=files, always=always)


OLD = int((LEARNING_SECONDS + 1) * 1e9)


def follow(program: Spare, age: int) -> None:
    program.follow(time.monotonic_ns() - age)


def test_results_are_learnt_while_something_is_new() -> None:
    kernel = Kernel()
    program = spare(kernel, files=False)
    for age, here, missed in ((0, True, 0), (OLD, False, 3), (OLD, False, 3), (0, True, 3), (OLD, False, 6)):
        follow(program, age)
        assert (END in kernel.here, program.missed) == (here, missed)
        assert BEGINNING in kernel.here
    assert not program.failed


@pytest.mark.parametrize("older", [(), ("sched_prepare_exec",)])
def test_with_files_the_end_suffices(older: tuple[str, ...]) -> None:
    """Nothing new needs the beginning back; an unusual thread does, from then on."""
    kernel = Kernel(*older)
    program = spare(kernel, files=True)
    for age, here in ((0, True), (OLD, False), (0, False), (OLD, False)):
        follow(program, age)
        assert (BEGINNING in kernel.here) == here
        assert END in kernel.here
    assert EXECUTING in kernel.here
    assert kernel.counters["ENTRIES"] == 0
    kernel.counters["UNUSUAL"] = 1
    for _ in range(2):
        follow(program, OLD)
        assert BEGINNING in kernel.here
        assert kernel.counters["ENTRIES"] == 2
    assert program.missed == 3


@pytest.mark.parametrize("reason", ["lsm", "no way to see execve", "aarch64"])
def test_where_the_end_does_not_suffice(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel("sched_prepare_exec", "begin_new_exec") if reason == "no way to see execve" else Kernel()
    if reason == "lsm":
        kernel.here.add("on_cap_lsm")
    if reason == "aarch64":
        monkeypatch.setattr(attaching, "native_abi", lambda: "aarch64")
    program = spare(kernel, files=True)
    for _ in range(3):
        follow(program, OLD)
    assert BEGINNING in kernel.here
    assert kernel.counters["ENTRIES"] == 1
    assert len(kernel.tried) == (2 if reason == "no way to see execve" else 0), "it is not tried again"


@pytest.mark.parametrize("files", [False, True])
def test_what_other_things_need_stays(files: bool) -> None:
    kernel = Kernel()
    follow(spare(kernel, files=files, always=True), OLD)
    assert kernel.here == {BEGINNING, END}


def test_a_refusal_is_told_and_not_repeated() -> None:
    kernel = Kernel(END)
    program = spare(kernel, files=False)
    follow(program, OLD)
    for _ in range(3):
        follow(program, 0)
    assert program.failed
    assert kernel.tried == ["sys_exit"]


def test_calls_in_flight_are_counted_without_the_beginning_only() -> None:
    kernel = Kernel()
    program = spare(kernel, files=True)
    program.count_in_flight()
    assert kernel.tried == []
    follow(program, OLD)
    for _ in range(2):
        program.count_in_flight()
    assert kernel.tried == ["sched_prepare_exec", "on_in_flight", "on_in_flight"]
    kernel.here.clear()
    program.count_in_flight()
    assert len(kernel.tried) == 3, "the recording is over"
