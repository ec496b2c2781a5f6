"""Names of error numbers."""

from __future__ import annotations

import errno

FIRST_INTERNAL = 512
"""The first error number that is internal to the kernel (include/linux/errno.h); a profile cannot return one."""

_INTERNAL = {
    512: "ERESTARTSYS",
    513: "ERESTARTNOINTR",
    514: "ERESTARTNOHAND",
    515: "ENOIOCTLCMD",
    516: "ERESTART_RESTARTBLOCK",
    517: "EPROBE_DEFER",
    530: "EIOCBQUEUED",
}
"""Error numbers internal to the kernel (include/linux/errno.h). A tracer sees the restart numbers, a program never
does."""

_NUMBERS = {name: number for number, name in {**errno.errorcode, **_INTERNAL}.items()}


def name_of(number: int) -> str:
    """Return ``ENOENT`` for 2 or -2, ``ERRNO_<n>`` for a number without a name."""
    number = abs(number)
    return errno.errorcode.get(number) or _INTERNAL.get(number) or f"ERRNO_{number}"


def result_of(number: int) -> str:
    """Name the result of a call as a trace does: ``ok`` for 0, else the errno's name."""
    return name_of(number) if number else "ok"


def number_of(name: str) -> int | None:
    """Return 2 for ``ENOENT``, None for an unknown name."""
    return _NUMBERS.get(name)


def is_restart(number: int) -> bool:
    """Return whether the call was interrupted: the kernel restarts it or returns EINTR, so it did not fail."""
    return abs(number) in (512, 513, 514, 516)
