"""The oracle: what strace(1) saw of a command, in the trace's own terms.

strace numbers each call with ``-n`` and says when a process changes its ABI, so calls are compared by (ABI, number)
and no table of names is shared between the oracle and the program under test.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

X32_BIT = 0x4000_0000
NUMBER_MASK = 0xFFFF_FFFF
"""Numbers are unsigned and have 32 bits, as seccomp compares them."""
_ABIS = {"64 bit": "x86_64", "32 bit": "i386", "x32": "x32"}
_ABIS_ARM = {"64 bit": "aarch64", "32 bit": "arm"}
_MODE = re.compile(r"\[ Process PID=(\d+) runs in (.*?) mode\. \]")
_CALL = re.compile(r"^(\d+) +\[ *(\d+|\?+)\] (\w+)\((.*)$")
_RESUMED = re.compile(r"^(\d+) +\[ *(\d+|\?+)\] <\.\.\. (\w+) resumed>(.*)$")
_OTHER = re.compile(r"^(\d+) +(\[ *(\d+|\?+)\] )?(---|\+\+\+|\[ Process) ?")
_CLONE3 = re.compile(r"^\{flags=(0x[0-9a-f]+|\d+)")
_ERRNO = re.compile(r" = -1 (E[A-Z0-9]+)")
_ERESTART = re.compile(r" = \? (ERESTART\w+|ERESTART_RESTARTBLOCK)")


class OracleError(Exception):
    """strace did not run, or wrote what the parser does not know: never taken for an empty set."""


@dataclass
class Seen:
    """One (ABI, number) as strace saw it. ``errors`` counts results by errno name; ``arguments`` are the raw values;
    ``cut``: how many of the calls another thread's exit_group ended. When strace holds such a thread at a call's start,
    the kernel ends it there, before the call's tracepoint (kernel/entry/common.c)."""

    name: str
    calls: int = 0
    ok: int = 0
    cut: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    arguments: set[tuple[int, ...]] = field(default_factory=set)

    def agrees(self, count: int) -> bool:
        """Whether a tracer that saw the same run may have counted so many calls."""
        return self.calls - self.cut <= count <= self.calls


@dataclass(frozen=True)
class Oracle:
    calls: Mapping[tuple[str, int], Seen]
    status: int

    @property
    def syscalls(self) -> frozenset[tuple[str, int]]:
        return frozenset(self.calls)


def run(
    argv: Sequence[str],
    log: Path,
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    timeout: float = 60,
) -> Oracle:
    """Run ``argv`` under strace and parse what it wrote to ``log``."""
    quiet = "--quiet=attach,exit,path-resolution,thread-execve"  # -qq would hide the changes of ABI too
    command = ["strace", "-f", "-n", quiet, "-e", "raw=all", "-e", "signal=none", "-s", "0", "-o", str(log)]
    if user:
        command += ["-u", user]
    process = subprocess.Popen(
        [*command, "--", *argv],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise OracleError(f"strace of {argv} took longer than {timeout} s") from None
    if "strace:" in errors:
        raise OracleError(errors.strip())
    status = process.returncode
    return Oracle(parse(log.read_text(errors="surrogateescape").splitlines()), 128 - status if status < 0 else status)


def parse(lines: Iterable[str]) -> dict[tuple[str, int], Seen]:
    """Sum up the lines of ``strace -f -n -e raw=all -o``. Raises OracleError for a line that makes no sense.

    With ``-e raw=!clone3 -X raw`` the flags behind clone3's pointer are its argument.
    """
    names = _ABIS if os.uname().machine == "x86_64" else _ABIS_ARM
    current = names["64 bit"]
    abis: dict[str, str] = {}
    in_flight: dict[str, tuple[tuple[str, int], str]] = {}
    calls: dict[tuple[str, int], Seen] = {}
    for line in lines:
        if mode := _MODE.search(line):
            current = abis[mode[1]] = names[mode[2]]
            continue
        if call := _CALL.match(line):
            pid, number, name, rest = call.groups()
            # strace starts a new process off with the ABI of whatever it decoded last.
            current = abis.setdefault(pid, current)
            # strace -n shows no number beyond its tables' range; the only one made here is -1.
            key = (current, NUMBER_MASK if "?" in number else int(number) & ~(X32_BIT if current == "x32" else 0))
            seen = calls.setdefault(key, Seen(name))
            if seen.name != name:
                raise OracleError(f"{key} is both {seen.name} and {name}: the ABI is misread in: {line}")
            seen.calls += 1
            seen.arguments.add(_arguments(rest))
            if rest.endswith("<unfinished ...>"):
                in_flight[pid] = (key, rest)
            else:
                _result(seen, rest)
        elif resumed := _RESUMED.match(line):
            pid, _, _, rest = resumed.groups()
            if pid in in_flight:
                _result(calls[in_flight.pop(pid)[0]], rest)
        elif not _OTHER.match(line):
            raise OracleError(f"cannot read strace's line: {line}")
    for key, _ in in_flight.values():
        _result(calls[key], "= ?")
    if not calls:
        raise OracleError("strace saw nothing")
    return calls


def _arguments(text: str) -> tuple[int, ...]:
    """The raw arguments at the start of ``text``. Strings stay pointers with ``raw=all``, so all are numbers."""
    if flags := _CLONE3.match(text):
        return (int(flags[1], 0),)
    return tuple(int(value, 0) for value in _leading_numbers(text))


def _leading_numbers(text: str) -> Iterator[str]:
    for part in re.split(r"[,)]|<unfinished|=", text):
        if not re.fullmatch(r" *(0x[0-9a-f]+|\d+) *", part):
            return
        yield part.strip()


def _result(seen: Seen, text: str) -> None:
    if error := _ERRNO.search(text):
        seen.errors[error[1]] = seen.errors.get(error[1], 0) + 1
    elif text.rstrip().endswith("= ?"):
        seen.cut += not seen.name.startswith("exit")
    elif not _ERESTART.search(text):
        seen.ok += 1
