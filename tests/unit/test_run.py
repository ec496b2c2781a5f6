"""Starting other programs."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from profiler.errors import ProgramError
from profiler.run import Inquiry, ask, foreground, reading, shell_status


def test_an_answer_has_output_errors_and_a_status() -> None:
    done = ask(["sh", "-c", "echo out; echo first >&2; echo last >&2; exit 3"])
    assert (done.status, done.text, done.errors, done.reason) == (3, "out\n", b"first\nlast\n", "last")


def test_no_shell_reads_the_words() -> None:
    assert ask(["printf", "%s|", "$(id)", "a b", ";"]).text == "$(id)|a b|;|"


def test_the_input_is_empty_unless_one_is_given() -> None:
    assert ask(["cat"]).output == b""
    assert ask(["cat"], data=b"\0\xff").output == b"\0\xff"
    assert ask(["cat"], data=b"\xff").text == "\udcff"


def test_a_reason_is_never_empty() -> None:
    assert ask(["sh", "-c", "exit 4"]).reason == "status 4"
    assert ask(["sh", "-c", "kill -9 $$"]).reason == "status 137"


def test_a_program_that_is_missing_is_one_clear_error() -> None:
    with pytest.raises(ProgramError, match="cannot execute /none/such: no such file or directory"):
        ask(["/none/such"])
    with pytest.raises(ProgramError, match="cannot execute"):
        Inquiry(["/none/such"], 5)
    with pytest.raises(ProgramError, match="cannot execute"):
        foreground(["/none/such"], frozenset())
    with pytest.raises(ProgramError, match="cannot execute"), reading(["/none/such"], 5):
        pass


def test_a_program_that_hangs_is_ended() -> None:
    with pytest.raises(ProgramError, match=r"^sleep 600 did not end within 0\.1s$"):
        ask(["sleep", "600"], seconds=0.1)
    with (
        pytest.raises(ProgramError, match=r"^sleep 600 did not end within 0\.1s$"),
        reading(["sleep", "600"], 0.1) as file,
    ):
        assert file.read() == b""


def test_a_question_need_not_be_waited_for(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    asked = Inquiry(["sh", "-c", 'read -r word < "$0"; echo "got $word"', str(gate)], 60)
    assert asked.answer() is None
    gate.write_text("it\n")
    deadline = time.monotonic() + 60
    while (text := asked.answer()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert text == "got it\n"


def test_a_question_that_takes_too_long_has_an_empty_answer() -> None:
    assert Inquiry(["sleep", "600"], seconds=0.0).answer() == ""


def test_a_question_can_be_dropped() -> None:
    Inquiry(["sleep", "600"], 60).drop()


def test_a_long_output_is_a_stream() -> None:
    with reading(["sh", "-c", "echo one; echo two"], 60) as file:
        assert file.read() == b"one\ntwo\n"


def test_a_failure_shows_at_the_end_of_the_stream() -> None:
    with (
        pytest.raises(ProgramError, match=r"^sh failed: broken$"),
        reading(["sh", "-c", "echo broken >&2; echo more >&2; exit 1"], 60) as file,
    ):
        file.read()


def test_a_reader_may_stop_early() -> None:
    def stop() -> None:
        with reading(["yes"], 60) as file:
            assert file.read(2) == b"y\n"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stop()


def test_a_foreground_program_has_the_signal_mask() -> None:
    code = "import signal, sys; sys.exit(42 if signal.SIGUSR1 in signal.pthread_sigmask(signal.SIG_BLOCK, ()) else 0)"
    assert foreground([sys.executable, "-c", code], frozenset({signal.SIGUSR1})).wait() == 42
    assert foreground([sys.executable, "-c", code], frozenset()).wait() == 0


@pytest.mark.parametrize(("code", "status"), [(0, 0), (3, 3), (-9, 137)])
def test_statuses_are_those_of_a_shell(code: int, status: int) -> None:
    assert shell_status(code) == status
