"""What the rules of infer.py have in common: each looks at a call and gives the capabilities that it needs."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from profiler.tracers.ptrace.threads import Credentials

if TYPE_CHECKING:
    from profiler.tracers.ptrace.capabilities import Inference

Rule = Callable[["Inference", int, tuple[int, ...], Credentials], "tuple[str, ...]"]
"""Of an inference, the thread, its arguments and its credentials. May raise OSError and ValueError: then nothing is
known."""

U32 = 0xFFFFFFFF
KEEP = U32
"""-1 as an id: leave it unchanged (chown(2), setresuid(2))."""


def unique(names: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def always(*capabilities: str) -> Rule:
    return lambda _inference, _tid, _args, _credentials: capabilities


def when(test: Callable[[tuple[int, ...]], bool], *capabilities: str) -> Rule:
    return lambda _inference, _tid, args, _credentials: capabilities if test(args) else ()


def sysctl(name: str) -> int:
    with open(f"/proc/sys/{name}") as file:
        return int(file.read())


@functools.cache
def kernel() -> tuple[int, ...]:
    """Version and patch level of the running one: (6, 10)."""
    return tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])
