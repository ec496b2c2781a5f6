"""Read the memory of stopped threads.

It is read through /proc/TID/mem, which takes one call when the file is open already, and works where a seccomp profile
refuses process_vm_readv(2), as Docker 20.10's does. An open file leads to the memory of the program that ran when it
was opened (fs/proc/base.c mem_open). Only the tracing thread may call these functions.
"""

from __future__ import annotations

import os

PAGE_BYTES = 4096
_FILES_MAX = 64
"""The number of files that stay open, one for each thread."""

_START_BYTES = 256
"""The size of the first read of a string: most are shorter."""

_files: dict[int, int] = {}
"""The file descriptor of each thread's memory, the one that was opened last at the end."""


def forget_memory(tid: int) -> None:
    """Close the file of a thread that has ended, or that runs another program."""
    file = _files.pop(tid, None)
    if file is not None:
        os.close(file)


def read_memory(tid: int, address: int, size: int) -> bytes | None:
    """Return ``size`` bytes of a thread's memory, fewer at the end of a mapping, None if it is unreadable."""
    try:
        file = _files.get(tid)
        data = os.pread(_open(tid) if file is None else file, size, address)
        if not data and size:  # the program that ran has ended (fs/proc/base.c mem_rw)
            data = os.pread(_open(tid), size, address)
    except (OSError, OverflowError):  # file offsets are signed, and user memory lies below
        return None
    return data or None


def read_string(tid: int, address: int, limit: int = 4096) -> bytes | None:
    """Return a NUL-terminated string of a thread's memory, without the NUL and at most ``limit`` bytes.

    None if it is unreadable.
    """
    size = min(limit, _START_BYTES)
    try:
        text = os.pread(_files[tid], size, address)
    except (KeyError, OSError, OverflowError):
        text = read_memory(tid, address, size) or b""
    while (end := text.find(b"\0")) < 0 and len(text) < limit:
        here = address + len(text)
        data = read_memory(tid, here, min(limit - len(text), PAGE_BYTES - here % PAGE_BYTES))
        if data is None:
            return None
        text += data
    return text[:end] if end >= 0 else text


def page_is_present(tid: int, address: int) -> bool:
    """Return whether a page of memory can be read without being brought in first (proc_pid_pagemap(5)).

    Raises OSError.
    """
    fd = os.open(f"/proc/{tid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        entry = os.pread(fd, 8, address // PAGE_BYTES * 8)
    except OverflowError:
        return True  # no user memory
    finally:
        os.close(fd)
    return len(entry) < 8 or bool(entry[7] & 0xC0)  # present, or swapped


def read_memory_file(fd: int, address: int, size: int, *, string: bool) -> bytes | None:
    """Read memory as `read_memory` does, or as `read_string` does, from an open /proc/TID/mem."""
    try:
        data = os.pread(fd, size, address)
    except (OSError, OverflowError):
        return None
    text, nul, _ = data.partition(b"\0")
    if string:
        return text if nul or len(data) == size else None
    return data or None


def hides_memory(tid: int) -> bool:
    """Return whether a thread hides its memory and its /proc links from profgen.

    It does if it is not dumpable (PR_SET_DUMPABLE of prctl(2)) and profgen lacks CAP_SYS_PTRACE.
    """
    try:
        _open(tid)
    except PermissionError:
        return True
    except OSError:
        pass
    return False


def _open(tid: int) -> int:
    """Open the memory of a thread and keep the file. Raises OSError."""
    forget_memory(tid)
    file = os.open(f"/proc/{tid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    _files[tid] = file
    if len(_files) > _FILES_MAX:
        forget_memory(next(iter(_files)))
    return file
