"""Work that may wait for a server is done by other processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from profiler.tracers import errands
from profiler.tracers.errands import GaveUp, Parking, Patient, Task, Waiting


def task(work: Callable[[], Any], key: object = "key", kept: tuple[int, ...] = ()) -> Task:
    return Task(key, "/mnt", work, kept)


def fails() -> None:
    raise FileNotFoundError(2, "gone", "/mnt/x")


def test_an_answer_comes_from_another_process() -> None:
    assert Patient().ask(task(os.getpid)) != os.getpid()
    assert Patient().ask(task(lambda: "x" * (1 << 20))) == "x" * (1 << 20)
    with pytest.raises(FileNotFoundError, match="gone"):
        Patient().ask(task(fails))


def test_descriptors_that_are_kept() -> None:
    read, write = os.pipe()
    Patient().ask(task(lambda: os.write(write, b"x"), kept=(write,)))
    assert os.read(read, 1) == b"x"
    with pytest.raises(OSError, match="Bad file descriptor"):
        Patient().ask(task(lambda: os.write(write, b"x")))
    os.close(read)
    os.close(write)


def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errands, "PATIENCE_SECONDS", 0.05)
    said: list[str] = []
    patient = Patient(said.append)
    with pytest.raises(GaveUp):
        patient.ask(task(lambda: time.sleep(600)))
    began = time.monotonic()
    with pytest.raises(GaveUp):
        patient.ask(task(lambda: 1))
    assert time.monotonic() - began < 0.05, "it is not asked again"
    assert patient.ask(Task("key", "/other", lambda: 1)) == 1
    assert said == ["/mnt", "/mnt"]


def test_a_process_that_is_killed() -> None:
    with pytest.raises(GaveUp):
        Patient().ask(task(lambda: os.kill(os.getpid(), signal.SIGKILL)))


def test_parking() -> None:
    parking, went, started = Parking(), [], []
    parking.tid = 7

    def go() -> None:
        try:
            went.append((parking.ask(task(lambda: 1, "a")), parking.ask(task(lambda: 2, "b"))))
        except Waiting as waiting:
            started.append(waiting.process.pid)
            parking.park(7, waiting, go)

    go()
    for _ in range(2):
        assert not went
        assert parking.busy
        parking.tid = 8
        assert parking.done(os.waitpid(started[-1], 0)[0])
        assert parking.tid == 7
    assert went == [(1, 2)]
    parking.served(7)
    assert not parking.busy
    with pytest.raises(Waiting) as waiting:
        parking.ask(task(lambda: 1, "a"))
    parking.park(7, waiting.value, go)
    parking.end()
    assert parking.done(os.waitpid(waiting.value.process.pid, 0)[0]), "it was one of its processes"
    assert not parking.busy
    assert not parking.done(1 << 22)
    assert went == [(1, 2)]
