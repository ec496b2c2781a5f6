"""Work that may wait for a server is done by other processes."""

from __future__ import annotations

import contextlib
import operator
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from system.harness import state_of
from waiting import HANG_SECONDS, until

from profiler.tracers import errands
from profiler.tracers.errands import GaveUp, Guise, Parking, Patient, Task, Waiting


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
    monkeypatch.setattr(errands, "_REST_SECONDS", 2 * HANG_SECONDS)
    said: list[str] = []
    patient = Patient(said.append)
    with pytest.raises(GaveUp):
        patient.ask(task(lambda: time.sleep(600)))
    monkeypatch.setattr(errands, "PATIENCE_SECONDS", HANG_SECONDS)
    with pytest.raises(GaveUp):  # it is not asked again
        patient.ask(task(lambda: 1))
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
        assert parking.done(os.waitpid(started[-1], 0)[0], ended=True)
        assert parking.tid == 7
    assert went == [(1, 2)]
    parking.served(7)
    assert not parking.busy
    with pytest.raises(Waiting) as waiting:
        parking.ask(task(lambda: 1, "a"))
    parking.park(7, waiting.value, go)
    parking.end()
    assert parking.done(os.waitpid(waiting.value.process.pid, 0)[0], ended=True), "it was one of its processes"
    assert not parking.busy
    assert not parking.done(1 << 22, ended=True)
    assert went == [(1, 2)]


class Asker:
    """Asks for one thing after the other, as a tracer does for a stopped thread."""

    def __init__(self) -> None:
        self.parking = Parking()
        self.parking.tid = 7
        self.pids: list[int] = []
        """The process that was asked for each answer."""

    def lasting(self, work: Callable[[], Any], subject: str = "/mnt") -> Task:
        return Task(len(self.pids), subject, work, (), Guise(os.getpid(), None), lasts=True)

    def begin(self, task: Task, answers: list[Any]) -> int:
        """Ask, and return the process that does the task; its answer is put into a list by :meth:`next`."""
        with pytest.raises(Waiting) as raised:
            self.parking.ask(task)
        waiting = raised.value
        self.pids.append(waiting.process.pid)

        def then() -> None:
            try:
                answers.append(self.parking.ask(task))
            except (GaveUp, OSError) as error:
                answers.append(type(error))

        self.parking.park(7, waiting, then)
        return waiting.process.pid

    def next(self) -> None:
        """Serve the next stop or end of one of these processes, as the tracer's loop does."""
        pid, status = until(self._change, "a process stops or ends")
        assert self.parking.done(pid, ended=not os.WIFSTOPPED(status))

    def _change(self) -> tuple[int, int] | None:
        for pid in set(self.pids):
            with contextlib.suppress(ChildProcessError):
                found = os.waitpid(pid, os.WUNTRACED | os.WNOHANG)
                if found[0]:
                    return found
        return None

    def answer(self, work: Callable[[], Any], subject: str = "/mnt") -> Any:
        answers: list[Any] = []
        self.begin(self.lasting(work, subject), answers)
        while not answers:
            self.next()
        return answers[0]

    def end(self) -> None:
        self.parking.end()
        while self.parking.used:
            self.next()


@pytest.fixture
def asker() -> Iterator[Asker]:
    made = Asker()
    yield made
    made.end()


def test_a_process_that_lasts(asker: Asker) -> None:
    """It answers all questions about one mount, errors too; another mount has another process."""
    assert [asker.answer(os.getpid) for _ in range(3)] == asker.pids
    assert len(set(asker.pids)) == 1
    assert asker.answer(fails) is FileNotFoundError
    assert asker.answer(partial(operator.mul, "x", 1 << 20)) == "x" * (1 << 20)
    assert asker.answer(partial(str, "short")) == "short", "nothing of the answer before it is left"
    assert asker.answer(os.getpid, "/other") not in asker.pids[:-1]
    assert not asker.parking.busy
    assert asker.parking.used


def test_questions_at_the_same_time(asker: Asker) -> None:
    answers: list[Any] = []
    pids = {asker.begin(asker.lasting(os.getpid), answers) for _ in range(3)}
    while len(answers) < 3:
        asker.next()
    assert set(answers) == pids
    assert len(pids) == 3
    assert asker.answer(os.getpid) in pids


def test_one_that_is_killed_is_replaced(asker: Asker) -> None:
    assert asker.answer(partial(os.kill, 0, 0)) is None
    kill = partial(subprocess.run, ["sh", "-c", "kill -9 $PPID"])
    assert asker.answer(kill) is GaveUp, "in its work"
    first = asker.answer(os.getpid)
    os.kill(first, signal.SIGKILL)  # while it has nothing to do
    assert asker.answer(os.getpid) != first


def test_one_that_others_stop_and_continue(asker: Asker) -> None:
    """A shell continues all processes of a job (fg): nothing is lost, and no answer is made up."""
    first = asker.answer(os.getpid)
    answers: list[Any] = []
    for number in range(20):
        os.kill(first, signal.SIGCONT)
        assert asker.begin(asker.lasting(os.getpid), answers) == first
        os.kill(first, signal.SIGSTOP)
        os.kill(first, signal.SIGCONT)
        while len(answers) == number:
            asker.next()
    assert answers == [first] * 20


def test_one_for_a_thread_that_goes_on_is_ended(asker: Asker) -> None:
    """It may wait for a server, so another one takes the next question."""
    silent = asker.begin(asker.lasting(partial(time.sleep, 600)), [])
    asker.parking.served(7)
    assert asker.answer(os.getpid) != silent


def test_one_ends_with_profgen() -> None:
    """Also if it is stopped then, as it is while it has nothing to do."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, b"%d" % Asker().answer(os.getpid))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    left = int(os.read(read, 16))
    os.close(read)
    os.close(write)
    until(lambda: state_of(left) in (None, "Z"), "it ends")
