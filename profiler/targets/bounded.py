"""Work that a user's template decides, in a process of its own: it cannot run forever or take all memory."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import PurePath
from typing import NoReturn

import yaml

from profiler.errors import InputError
from profiler.files import kernel_text
from profiler.run import ask
from profiler.wording import duration

CPU_SECONDS = 10
MEMORY_BYTES = 1 << 30
"""What the work may take in addition to what profgen has."""
RESULT_MAX = 64 << 20

_DONE, _FAILED = b"\0", b"\1"
_PARSERS = {".profile": ("apparmor_parser", "-N", "-K"), ".sh": ("sh", "-n")}
"""Suffix of a file to a program that reads it from standard input, and fails when it cannot be parsed."""


def bounded(work: Callable[[], bytes], name: str) -> bytes:
    """Return what ``work`` returns, from a child process. ``name`` is for messages.

    Raises the InputError that it raises, and InputError when it exceeds a limit.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _child(work, writer)
    os.close(writer)
    with open(reader, "rb") as stream:
        made = stream.read(RESULT_MAX + 1)
    if len(made) > RESULT_MAX:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if len(made) > RESULT_MAX:
        raise InputError(f"{name}: its result is larger than {RESULT_MAX >> 20} MiB")
    if os.waitstatus_to_exitcode(status) == -signal.SIGXCPU:
        raise InputError(f"{name}: it did not end within {duration(CPU_SECONDS)}: look for a loop in it")
    if made[:1] == _FAILED:
        raise InputError(made[1:].decode("utf-8", "backslashreplace"))
    if made[:1] != _DONE or status:
        raise InputError(f"{name}: rendering it failed (wait status {status:#x})")
    return made[1:]


def _child(work: Callable[[], bytes], writer: int) -> NoReturn:
    """Do the work under the limits, write its result, and end without any clean-up that is the parent's."""
    status = 1
    try:
        signal.signal(signal.SIGXCPU, signal.SIG_DFL)
        with kernel_text("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        _limit(resource.RLIMIT_CORE, 0)  # the default action of SIGXCPU writes one
        _limit(resource.RLIMIT_CPU, CPU_SECONDS)
        _limit(resource.RLIMIT_AS, used + MEMORY_BYTES)
        try:
            made = _DONE + work()
        except InputError as error:
            made = _FAILED + str(error).encode("utf-8", "backslashreplace")
        with open(writer, "wb") as stream:
            stream.write(made)
        status = 0
    finally:
        os._exit(status)


def _limit(kind: int, most: int) -> None:
    """Lower the soft limit, to ``most`` or to the hard limit that the user has."""
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def check(name: str, data: bytes) -> None:
    """Raise InputError when a file cannot be parsed as what its suffix says. What no parser is known for, or installed,
    is not checked."""
    suffix = PurePath(name).suffix
    try:
        if suffix == ".json":
            json.loads(data)
        elif suffix in (".yaml", ".yml"):
            for _ in yaml.parse(data, Loader=yaml.SafeLoader):
                pass
        elif suffix in _PARSERS and shutil.which(_PARSERS[suffix][0]):
            done = ask(_PARSERS[suffix], data=data)
            if done.status:
                raise ValueError(done.reason)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{name} would not be valid: {said}") from error
