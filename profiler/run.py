"""Start other programs: never through a shell, with a time limit, and with an empty input unless one is given."""

from __future__ import annotations

import contextlib
import ctypes
import io
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

from profiler.errors import ProgramError
from profiler.progress import busy
from profiler.wording import cause, duration

ASK_SECONDS = 30.0
"""Time limit for a question to another program."""

_REASON_BYTES = 4096
_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h
_libc = ctypes.CDLL(None)


@dataclass(frozen=True)
class Ended:
    """A program that has ended. ``status`` as a shell shows it; ``output`` and ``errors``: what it printed."""

    status: int
    output: bytes
    errors: bytes

    @property
    def text(self) -> str:
        """Return its output as text; bytes that are not UTF-8 become surrogates."""
        return self.output.decode("utf-8", "surrogateescape")

    @property
    def reason(self) -> str:
        """Return why it failed: the last line of its errors, else its status."""
        return _last_line(self.errors) or f"status {self.status}"


def ask(
    words: Sequence[str],
    *,
    seconds: float | None = ASK_SECONDS,
    data: bytes = b"",
    show_errors: bool = False,
    ends_with_us: bool = False,
    doing: str | None = None,
) -> Ended:
    """Run a program to its end, with ``data`` on its standard input, and return what it printed.

    ``seconds``: None for work that the user waits for and can interrupt. ``show_errors``: its standard error goes to
    the user instead. ``ends_with_us``: it is killed when profgen is. ``doing``: what it does, for a user who waits.
    Raises ProgramError when it cannot be executed or does not end in time.
    """
    try:
        with busy(doing or f"waiting for {_title(words)}"):
            done = subprocess.run(
                words,
                stdin=None if data else subprocess.DEVNULL,
                input=data or None,
                stdout=subprocess.PIPE,
                stderr=None if show_errors else subprocess.PIPE,
                timeout=seconds,
                preexec_fn=end_with_parent if ends_with_us else None,
            )
    except subprocess.TimeoutExpired as error:
        raise ProgramError(f"{_title(words)} did not end within {duration(seconds or 0)}") from error
    except OSError as error:
        raise _not_executed(words, error) from error
    return Ended(shell_status(done.returncode), done.stdout, done.stderr or b"")


def end_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send the calling process a signal when the thread that forked it ends (PR_SET_PDEATHSIG of
    prctl(2))."""
    _libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(number))


class Inquiry:
    """A question under way, for a caller that must not wait: see :meth:`answer`. Raises ProgramError."""

    def __init__(self, words: Sequence[str], seconds: float) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it outlives this call
        self._until = time.monotonic() + seconds
        try:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=self._file, stderr=subprocess.DEVNULL
            )
        except OSError as error:
            self._file.close()
            raise _not_executed(words, error) from error

    def answer(self) -> str | None:
        """Return what the program printed, None while it runs, and an empty text after the time limit. Call it until it
        returns a text, and not again."""
        if self._process.poll() is None:
            if time.monotonic() < self._until:
                return None
            self.drop()
            return ""
        self._file.seek(0)
        with self._file as file:
            return file.read().decode("utf-8", "surrogateescape")

    def drop(self) -> None:
        """End the program and forget the question."""
        self._process.kill()
        self._process.wait()
        self._file.close()


@contextmanager
def reading(words: Sequence[str], seconds: float, data: Iterable[bytes] | None = None) -> Iterator[io.FileIO]:
    """Run a program whose output is too large to keep, and give its output as a stream.

    ``data``: what its standard input gets, piece by piece, from a thread. Raises ProgramError when it cannot be
    executed, and at the end of the block when it failed or took too long.
    """
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL if data is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,
            )
        except OSError as error:
            raise _not_executed(words, error) from error
        assert process.stdout is not None
        late = _Limit(process, seconds)
        if data is not None:
            _feed(process, data)
        try:
            with cast(io.FileIO, process.stdout) as stream:
                yield stream
            status = process.wait()
        finally:
            late.cancel()
            process.kill()
            process.wait()
        if late.passed:
            raise ProgramError(f"{_title(words)} did not end within {duration(seconds)}")
        if status != 0:
            errors.seek(0)
            first = errors.read(_REASON_BYTES).decode("utf-8", "replace").strip().splitlines()
            raise ProgramError(f"{words[0]} failed: {first[0] if first else f'status {shell_status(status)}'}")


def _feed(process: subprocess.Popen[bytes], data: Iterable[bytes]) -> None:
    """Write to a program's standard input from a thread, until the data end or the program closes it."""
    import threading

    def write() -> None:
        assert process.stdin is not None
        with contextlib.suppress(OSError), process.stdin as stream:
            for piece in data:
                stream.write(piece)

    threading.Thread(target=write, daemon=True).start()


class _Limit:
    """Kills a process after some seconds. ``passed``: it did."""

    def __init__(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        import threading

        self.passed = False
        self._process = process
        self._timer = threading.Timer(seconds, self._kill)
        self._timer.daemon = True
        self._timer.start()

    def _kill(self) -> None:
        self.passed = True
        self._process.kill()

    def cancel(self) -> None:
        """The process has ended."""
        self._timer.cancel()


Client = subprocess.Popen[bytes]
"""A program in the foreground, started by :func:`foreground`."""


def foreground(words: Sequence[str], mask: frozenset[signal.Signals]) -> Client:
    """Start a program with this process's input, output and terminal, and with ``mask`` as its signal mask.

    Raises ProgramError when it cannot be executed.
    """
    try:
        return subprocess.Popen(words, preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, mask))
    except OSError as error:
        raise _not_executed(words, error) from error


def shell_status(code: int) -> int:
    """Return a return code of ``subprocess`` as a shell shows it: 128 + N for signal N."""
    return 128 - code if code < 0 else code


def _not_executed(words: Sequence[str], error: OSError) -> ProgramError:
    return ProgramError(f"cannot execute {words[0]}: {cause(error)}")


def _title(words: Sequence[str]) -> str:
    """``docker version``: the program and, when it has one, its subcommand."""
    return " ".join(words[: 1 if len(words) < 2 or words[1].startswith("-") else 2])


def _last_line(data: bytes) -> str:
    lines = [line.strip() for line in data.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""
