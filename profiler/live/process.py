"""The two processes of a recording with a live view.

The process that the user started becomes the view. A child records as always, in a session of its own whose terminal is
kept aside (aside.py). So the view does not slow the recording, and whatever happens to one of the two, the other ends
in order: the trace is written, and the terminal is restored.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import sys
import termios
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from profiler.errors import ExtraMissing, InputError
from profiler.live.aside import FILE_BYTES, Aside, window_size
from profiler.live.feed import Feed
from profiler.live.state import State
from profiler.quoting.text import printable
from profiler.run import end_with_parent
from profiler.tracers.launch import FORWARDED, shell_status
from profiler.wording import cause, size

_RESTORE = b"\x1b[?1000l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?1004l\x1b[<u\x1b[?7h\x1b[?1049l\x1b[?25h\x1b[0m"
"""Ends what Textual switched on (textual/drivers/linux_driver.py), for a view that failed."""


def need_terminal() -> None:
    """Raise ProgramError or InputError when there cannot be a view here."""
    if importlib.util.find_spec("textual") is None:
        raise ExtraMissing("the live view", "textual", "live")
    if os.environ.get("TERM", "dumb") == "dumb":
        raise InputError("the live view needs a terminal that can draw, and TERM names one that cannot")
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError as error:
        raise InputError(f"the live view needs a terminal, and there is none here ({cause(error)})") from error


def split(title: str, output: Path | None) -> Feed | int:
    """Make the child that records, and show the view in this process.

    ``title``: what is recorded. ``output``: the file for what the workload prints; None if profgen does not start it.
    Returns the feed in the child, and the exit status in this process, when the child has ended. Raises ProgramError or
    InputError when there cannot be a view.
    """
    need_terminal()
    sys.stdout.flush()
    aside = Aside(output)
    here, there = socket.socketpair()
    read, write = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        here.close()
        os.close(read)
        _end_with(parent)
        aside.take_over()
        # Standard error is the workload's now. Names in messages may hold anything.
        sys.stderr = open(write, "w", buffering=1, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        return Feed(there)
    there.close()
    os.close(write)
    return _View(pid, State(printable(title)), aside, here, read).run()


def _end_with(parent: int) -> None:
    """Get SIGTERM when the view is killed: the workload gets it in turn, and the trace is written."""
    end_with_parent(signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


class _View:
    """The parent's part. ``pid``: the child; ``messages``: where it prints."""

    def __init__(self, pid: int, state: State, aside: Aside, connection: socket.socket, messages: int) -> None:
        self._pid, self._state, self._aside, self._connection = pid, state, aside, connection
        self._messages = messages
        self._printed: list[str] = []
        self._status: int | None = None
        self._screen: Any = None
        self._gone = False
        """Whether the terminal has hung up."""

    def run(self) -> int:
        """Show the view until the recording ends; then print what the recorder printed. Return its status."""
        for number in FORWARDED:
            signal.signal(number, self._forward)
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
        self._aside.resize(*window_size(terminal))
        self._aside.start()
        reader = threading.Thread(target=self._read_messages, name="messages", daemon=True)
        reader.start()
        waiter = threading.Thread(target=self._wait, name="waiter", daemon=True)
        waiter.start()
        failure = self._show(terminal)
        if failure and self._status is None and not self._gone:
            print(f"profgen: the live view failed ({failure}); recording goes on, and Ctrl-C ends it", file=sys.stderr)
        while waiter.is_alive():
            waiter.join(0.1)  # signal handlers run in between
        reader.join(2)
        self._aside.close()
        try:
            self._report()
        except OSError:
            pass  # the terminal is gone
        assert self._status is not None
        return shell_status(self._status)

    # -- the screen --------------------------------------------------------------------------------------------------

    def _show(self, terminal: int) -> str:
        """Draw the view on the terminal until it is over, and restore the terminal. Return why it failed, or ""."""
        from profiler.live.screen import Screen, forget_size_of_environment

        attributes = termios.tcgetattr(terminal)
        streams = [os.dup(fd) for fd in (0, 2)]
        failure, in_disorder = "", False
        forget_size_of_environment()
        try:
            for fd in (0, 2):
                os.dup2(terminal, fd)
            why = "" if self._aside.path is not None else "profgen did not start this, so it does not see its output"
            self._screen = Screen(self._state, self._aside, self._connection, self._interrupt, why)
            if not self._gone:
                self._screen.run(mouse=False)
            if self._screen._exception is not None:
                failure = _reason(self._screen._exception)
        except Exception as error:
            failure, in_disorder = _reason(error), True
        finally:
            self._screen = None
            self._restore(terminal, attributes, in_disorder)
            for fd, stream in zip((0, 2), streams, strict=True):
                os.dup2(stream, fd)
                os.close(stream)
            for number in FORWARDED:
                signal.signal(number, self._forward)
        return failure

    def _restore(self, terminal: int, attributes: list[Any], in_disorder: bool) -> None:
        try:
            if in_disorder:
                os.write(terminal, _RESTORE)
            termios.tcsetattr(terminal, termios.TCSADRAIN, attributes)
        except (OSError, termios.error):
            pass  # the terminal is gone

    # -- signals -----------------------------------------------------------------------------------------------------

    def _forward(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._gone = True
            if self._screen is not None:
                self._screen.exit()
        if number in (signal.SIGINT, signal.SIGQUIT):
            self._interrupt(signal.Signals(number).name)
        else:
            self._send(number)

    def _interrupt(self, name: str) -> None:
        """Interrupt everything on the workload's terminal: the workload and the recorder."""
        number = signal.Signals[name]
        if not self._aside.interrupt(number):
            self._send(number)

    def _send(self, number: int) -> None:
        if self._status is None:
            try:
                os.kill(self._pid, number)
            except ProcessLookupError:
                pass

    # -- the recorder ------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        self._status = os.waitpid(self._pid, 0)[1]
        self._state.over = True

    def _read_messages(self) -> None:
        with open(self._messages, encoding="utf-8", errors="replace", newline="\n") as stream:
            for line in stream:
                self._printed.append(line)
                self._state.message = printable(line.rstrip("\n"))

    def _report(self) -> None:
        sys.stderr.write("".join(self._printed))
        aside = self._aside
        if aside.path is not None and aside.total and aside.failure:
            print(f"profgen: cannot write {printable(str(aside.path))}: {aside.failure}", file=sys.stderr)
        elif aside.path is not None and aside.total:
            part = f", the first {size(FILE_BYTES)} of" if aside.total > FILE_BYTES else ""
            where = printable(str(aside.path))
            print(f"profgen: {where} has{part} what the command printed ({size(aside.total)})", file=sys.stderr)
        assert self._status is not None
        if os.WIFSIGNALED(self._status):
            name = signal.Signals(os.WTERMSIG(self._status)).name
            print(f"profgen: the recorder was killed by {name}; no trace was written", file=sys.stderr)
        sys.stderr.flush()


def _reason(error: BaseException) -> str:
    return printable(f"{type(error).__name__}: {error}")
