"""Reduce the calling process to the capabilities of a policy (capabilities(7)), in two steps around the change of user.

Nothing is left to do after the filter is loaded: execve(2) turns the sets into exactly those of the oci target. It
takes root's from the bounding set, and another user's from the ambient set.
"""

from __future__ import annotations

import ctypes
import os

from profiler.kernel.capabilities import CAPABILITIES, number_of
from profiler.policy.model import Policy

_libc = ctypes.CDLL(None, use_errno=True)
_PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_KEEPCAPS, _PR_CAP_AMBIENT = 23, 24, 8, 47
_AMBIENT_RAISE, _AMBIENT_CLEAR_ALL = 2, 4
_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3, include/uapi/linux/capability.h


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Data(ctypes.Structure):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]


def _prctl(option: int, first: int = 0, second: int = 0) -> int:
    result: int = _libc.prctl(
        option, ctypes.c_ulong(first), ctypes.c_ulong(second), ctypes.c_ulong(0), ctypes.c_ulong(0)
    )
    if result < 0:
        raise OSError(ctypes.get_errno(), "capabilities")
    return result


def permitted() -> int:
    """Return the permitted set of the calling thread as a bit mask."""
    header, data = _Header(_VERSION, 0), (_Data * 2)()
    if _libc.capget(ctypes.byref(header), ctypes.byref(data)) != 0:
        raise OSError(ctypes.get_errno(), "capabilities")
    return int(data[0].permitted) | int(data[1].permitted) << 32


def _set(effective: int, allowed: int, inheritable: int) -> None:
    data = (_Data * 2)()
    for index in range(2):
        data[index] = _Data(*((mask >> 32 * index) & 0xFFFFFFFF for mask in (effective, allowed, inheritable)))
    header = _Header(_VERSION, 0)
    if _libc.capset(ctypes.byref(header), ctypes.byref(data)) != 0:
        raise OSError(ctypes.get_errno(), "capabilities")


def mask_of(policy: Policy) -> int:
    """The policy's needed capabilities as a bit mask."""
    return sum(1 << (number_of(name) or 0) for name in policy.needed())


def reduce_bounding(policy: Policy) -> None:
    """Before the user changes: take what the policy does not need from the bounding set. Does nothing without
    CAP_SETPCAP."""
    wanted = mask_of(policy)
    if permitted() >> (number_of("CAP_SETPCAP") or 0) & 1:
        for number in range(64):
            try:
                present = _prctl(_PR_CAPBSET_READ, number)
            except OSError:
                break  # past the kernel's last one
            if present and not wanted >> number & 1:
                _prctl(_PR_CAPBSET_DROP, number)
    _prctl(_PR_SET_KEEPCAPS, 1)


def reduce(policy: Policy, *, keep_until_exec: bool) -> None:
    """Reduce all sets, after the user has changed. ``keep_until_exec``: keep the permitted set, to load a filter;
    execve(2) drops it."""
    have = permitted()
    wanted = mask_of(policy) & have
    kept = wanted if os.geteuid() != 0 else 0
    left = have if keep_until_exec else wanted
    _prctl(_PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL)
    _set(left, left, kept)
    for number in range(len(CAPABILITIES)):
        if kept >> number & 1:
            _prctl(_PR_CAP_AMBIENT, _AMBIENT_RAISE, number)
