"""Name signals as a trace writes them."""

from __future__ import annotations

import signal

_FIRST_REAL_TIME = 32
"""SIGRTMIN of include/uapi/asm-generic/signal.h; C libraries reserve the first two or three for themselves."""
_LAST = 64

_NAMES = {number.value: number.name.removeprefix("SIG") for number in signal.Signals if number.value < _FIRST_REAL_TIME}


def signal_name(number: int) -> str:
    """Return ``TERM`` for 15, ``0`` for the existence check of kill(2), ``RTMIN+3`` for 35."""
    if _FIRST_REAL_TIME <= number <= _LAST:
        return f"RTMIN+{number - _FIRST_REAL_TIME}" if number > _FIRST_REAL_TIME else "RTMIN"
    return _NAMES.get(number, str(number))
