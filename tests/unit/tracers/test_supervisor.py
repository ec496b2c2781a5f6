"""The thread that forwards signals and ends the workload when its time is up, with real processes."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading

import pytest
from children import in_child
from waiting import HANG_SECONDS, until

from profiler.tracers.launch import FORWARDED
from profiler.tracers.supervisor import Supervisor, hold_signals, note_survivors

WAITS_FOR_SIGNAL = """
import signal, time
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
print("ready", flush=True)
signal.sigwait({signal.SIGHUP})
print("got", flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a workload that is asked to end enough time, however busy the machine is."""
    monkeypatch.setattr("profiler.tracers.supervisor.GRACE_SECONDS", HANG_SECONDS)


def reporter(script: str) -> subprocess.Popen[bytes]:
    """Start a shell that prints ``ready`` and then what its traps print."""
    process = subprocess.Popen(
        ["bash", "-c", f"{script}; echo ready; while :; do sleep 600 & wait; done"],
        stdout=subprocess.PIPE,
        preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, set()),
        start_new_session=True,
    )
    assert line(process) == "ready"
    return process


def line(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], HANG_SECONDS)
    assert ready, "it says nothing"
    return process.stdout.readline().decode().strip()


def ended(process: subprocess.Popen[bytes]) -> int:
    status = process.wait(HANG_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # its sleep
    assert process.stdout is not None
    process.stdout.close()
    return status


@pytest.mark.parametrize("number", sorted(FORWARDED), ids=lambda number: signal.Signals(number).name)
def test_forwards(number: signal.Signals) -> None:
    def work() -> None:
        hold_signals()
        process = reporter(f"trap 'echo got' {int(number)}")
        with Supervisor(lambda: [process.pid], None) as supervisor:
            supervisor.start(process.pid)
            os.kill(os.getpid(), number)
            assert line(process) == "got"
        os.killpg(process.pid, signal.SIGKILL)
        ended(process)

    in_child(work)


def test_after_the_main_process_a_signal_ends_the_rest() -> None:
    def work() -> None:
        hold_signals()
        rest = [reporter("trap 'exit 3' TERM"), reporter("trap 'exit 4' TERM")]
        with Supervisor(lambda: [process.pid for process in rest], None) as supervisor:
            supervisor.start(2**22)  # no such process
            supervisor.main_ended()
            os.kill(os.getpid(), signal.SIGHUP)
            assert [ended(process) for process in rest] == [3, 4]

    in_child(work)


@pytest.mark.parametrize("reaped", [True, False])
def test_a_signal_just_after_the_main_process_has_ended(reaped: bool) -> None:
    """No signal is lost between the end of the main process and the call that reports it."""

    def work() -> None:
        hold_signals()
        rest = reporter("trap 'exit 3' TERM")
        gone = subprocess.Popen(["true"])
        os.waitid(os.P_PID, gone.pid, os.WEXITED | (0 if reaped else os.WNOWAIT))
        with Supervisor(lambda: [rest.pid], None) as supervisor:
            supervisor.start(gone.pid)
            os.kill(os.getpid(), signal.SIGHUP)
            assert ended(rest) == 3

    in_child(work)


def test_a_signal_that_the_main_process_does_not_take() -> None:
    """A tracer that saw it take none says so when it has ended. What it reads with sigwait(3) counts as taken."""

    def work() -> None:
        hold_signals()
        rest = reporter("trap 'exit 3' TERM")
        main = subprocess.Popen([sys.executable, "-ISc", WAITS_FOR_SIGNAL], stdout=subprocess.PIPE)
        assert line(main) == "ready"
        with Supervisor(lambda: [rest.pid], None) as supervisor:
            supervisor.start(main.pid)
            os.kill(os.getpid(), signal.SIGHUP)
            assert line(main) == "got"
            until(lambda: not supervisor.passed, "it is forgotten")
            os.kill(os.getpid(), signal.SIGUSR1)  # which it blocks
            until(lambda: supervisor.passed, "it is passed on")
            assert rest.poll() is None
            main.kill()
            ended(main)
            supervisor.main_ended(untaken=bool(supervisor.passed))
            assert ended(rest) == 3

    in_child(work)


def test_duration() -> None:
    def work() -> None:
        hold_signals()
        process = reporter("trap 'exit 3' TERM")
        with Supervisor(lambda: [process.pid], 0.01) as supervisor:
            supervisor.start(process.pid)
            assert ended(process) == 3

    in_child(work)


def test_an_end_that_another_thread_asks_for() -> None:
    def work() -> None:
        hold_signals()
        process, stop = reporter("trap 'exit 3' TERM"), threading.Event()
        with Supervisor(lambda: [process.pid], 1000, stop) as supervisor:
            supervisor.start(process.pid)
            stop.set()
            assert ended(process) == 3

    in_child(work)


def test_stopped_and_continued() -> None:
    """A stop of profgen itself (Ctrl-Z) is not forwarded, and forwarding goes on after it."""

    def work() -> None:
        hold_signals()
        process = reporter("for s in HUP INT QUIT USR2 TERM; do trap \"echo $s\" $s; done; trap 'echo passed' USR1")
        with Supervisor(lambda: [process.pid], None) as supervisor:
            supervisor.start(process.pid)
            for _ in range(2):
                subprocess.run(["sh", "-c", "kill -STOP $PPID; sleep 0.4; kill -CONT $PPID"], check=True, timeout=120)
            os.kill(os.getpid(), signal.SIGUSR1)
            assert line(process) == "passed"
        process.kill()
        ended(process)

    in_child(work)


def test_duration_wakes_what_is_stopped() -> None:
    def work() -> None:
        hold_signals()
        process = reporter("trap 'exit 3' TERM")
        os.kill(process.pid, signal.SIGSTOP)
        with Supervisor(lambda: [process.pid], 0.01) as supervisor:
            supervisor.start(process.pid)
            assert ended(process) == 3

    in_child(work)


def test_duration_then_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> None:
        monkeypatch.setattr("profiler.tracers.supervisor.GRACE_SECONDS", 0.1)
        hold_signals()
        process = reporter("trap '' TERM")
        with Supervisor(lambda: [process.pid], 0.01) as supervisor:
            supervisor.start(process.pid)
            assert ended(process) == -signal.SIGKILL

    in_child(work)


def test_never_started() -> None:
    def work() -> None:
        hold_signals()
        with Supervisor(list, None):
            os.kill(os.getpid(), signal.SIGTERM)

    in_child(work)


def test_signals_are_held_to_the_end() -> None:
    """One that arrives after the work is done has no effect; the mask before is what the workload gets."""

    def work() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGHUP})
        assert hold_signals() == {signal.SIGHUP}
        for number in FORWARDED:
            os.kill(os.getpid(), number)
        assert signal.pthread_sigmask(signal.SIG_BLOCK, set()) >= FORWARDED

    in_child(work)


def test_signal_for_a_process_that_is_gone() -> None:
    def work() -> None:
        hold_signals()
        other = reporter("trap 'echo got' USR1")
        gone = subprocess.Popen(["true"])
        gone.wait()
        with Supervisor(lambda: [gone.pid, other.pid], 0.01) as supervisor:
            supervisor.start(gone.pid)
            assert ended(other) == -signal.SIGTERM

    in_child(work)


@pytest.mark.parametrize(
    ("count", "says"),
    [
        (1, "1 process outlives the command and is still recorded; Ctrl-C ends it"),
        (3, "3 processes outlive the command and are still recorded; Ctrl-C ends them"),
    ],
)
def test_survivors(count: int, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, and only on a terminal; it erases nothing of what they wrote there."""
    note_survivors(count)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    note_survivors(count)
    assert capsys.readouterr().err == f"profgen: {says}\n"
