"""Runs in the background: their outcome, their output, and that nothing of them is left."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from unit.enforce.runs import Fake, everything_but, shell
from waiting import HANG_SECONDS, until

from profiler.enforce import background
from profiler.enforce.base import Options, Outcome
from profiler.errors import InputError, ProfgenError
from profiler.tracers.launch import spawn

POLICY = everything_but()


def started(work: Callable[[], Outcome], output: int) -> background.Background:
    return background.start(Fake(work), POLICY, shell("exit 9"), Options(), output)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    os.close(read)
    os.close(write)


def ends(pid: int) -> bool:
    """Whether no process has the number, or only a zombie."""
    try:
        return " Z " in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True


def test_the_outcome_and_the_output(pipe: tuple[int, int]) -> None:
    def work() -> Outcome:
        os.write(1, b"out ")
        os.write(2, b"err")
        assert os.read(0, 1) == b"", "its input is empty"
        assert os.getsid(0) == os.getpid(), "no signal of the terminal reaches it"
        return Outcome(3)

    with started(work, pipe[1]) as run:
        assert run.wait(HANG_SECONDS) == Outcome(3)
        assert run.wait(0) == Outcome(3), "once more"
    assert os.read(pipe[0], 100) == b"out err"


def test_while_it_runs_there_is_no_outcome(pipe: tuple[int, int]) -> None:
    def work() -> Outcome:
        os.write(1, b"x")
        signal.pause()
        return Outcome(0)

    with started(work, pipe[1]) as run:
        assert os.read(pipe[0], 1) == b"x"
        assert run.wait(0) is None
    run.close()  # closing twice does nothing
    assert ends(run.pid)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (InputError("bad policy"), InputError, "bad policy"),
        (ValueError("x"), ProfgenError, "internal error: ValueError: x"),
    ],
)
def test_an_error_of_the_enforcer_is_the_callers(
    error: Exception, kind: type[Exception], message: str, pipe: tuple[int, int]
) -> None:
    def work() -> NoReturn:
        raise error

    with started(work, pipe[1]) as run, pytest.raises(kind, match=message):
        run.wait(HANG_SECONDS)


def test_a_keeper_that_is_killed_has_no_outcome(pipe: tuple[int, int]) -> None:
    def work() -> NoReturn:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    with started(work, pipe[1]) as run, pytest.raises(ProfgenError, match="ended without a result"):
        run.wait(HANG_SECONDS)


def test_leaving_ends_every_process(pipe: tuple[int, int]) -> None:
    """Also one that ignores signals, and one whose parent has ended."""

    def work() -> Outcome:
        child = spawn(shell("trap '' TERM; (trap '' TERM HUP; sleep 1000 & echo $!; sleep 1000) & echo $$; sleep 1000"))
        child.release()
        os.waitpid(child.pid, 0)
        return Outcome(0)

    with started(work, pipe[1]), open(pipe[0], closefd=False) as lines:
        pids = [int(lines.readline()) for _ in range(2)]
        assert not any(map(ends, pids))
    until(lambda: all(map(ends, pids)), "they end")


def test_what_the_enforcer_leaves_ends_with_the_run(pipe: tuple[int, int]) -> None:
    """A process that kills the last of them must not end before it has killed all of them."""

    def work() -> Outcome:
        child = spawn(shell("exec sleep 1000"))
        child.release()
        os.write(1, b"%d\n" % child.pid)
        return Outcome(0)

    with started(work, pipe[1]) as run, open(pipe[0], closefd=False) as lines:
        assert run.wait(HANG_SECONDS) == Outcome(0)
        assert ends(int(lines.readline()))


def test_one_runs_lifeline_is_not_anothers(pipe: tuple[int, int]) -> None:
    def work() -> Outcome:
        signal.pause()
        return Outcome(0)

    with started(work, pipe[1]) as first, started(work, pipe[1]) as second:
        first.close()  # which would wait for ever, if the second keeper held the first one's pipe
        assert ends(first.pid)
        assert second.wait(0) is None
