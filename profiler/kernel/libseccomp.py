"""Ask the installed libseccomp which syscalls it knows.

Container runtimes leave out rules for names that their libseccomp does not know.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache

_UNKNOWN = -1
"""__NR_SCMP_ERROR (seccomp.h). Other negative numbers are pseudo numbers of calls that this architecture does not have.
"""


class _Version(ctypes.Structure):
    _fields_ = (("major", ctypes.c_uint), ("minor", ctypes.c_uint), ("micro", ctypes.c_uint))


@dataclass(frozen=True)
class Library:
    """The installed libseccomp. ``version`` has three numbers."""

    version: str
    _handle: ctypes.CDLL

    def knows(self, name: str) -> bool:
        """Return whether the library has a number or a pseudo number for a name (seccomp_syscall_resolve_name(3))."""
        # The library would read a name only up to a NUL.
        return (
            "\0" not in name and self._handle.seccomp_syscall_resolve_name(name.encode("utf-8", "replace")) != _UNKNOWN
        )


@cache
def installed() -> Library | None:
    """Return the installed library, or None if there is none."""
    try:
        handle = ctypes.CDLL("libseccomp.so.2")
        handle.seccomp_version.restype = ctypes.POINTER(_Version)
        handle.seccomp_syscall_resolve_name.argtypes = (ctypes.c_char_p,)
        version = handle.seccomp_version().contents
    except (OSError, AttributeError, ValueError):
        return None
    return Library(f"{version.major}.{version.minor}.{version.micro}", handle)
