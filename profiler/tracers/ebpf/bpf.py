"""bpf(2), as far as profgen needs it: making maps, reading and writing them, loading and attaching programs.

Numbers and structures are those of include/uapi/linux/bpf.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from profiler.tracers.ebpf.shared import ctype

MAP_CREATE, MAP_LOOKUP_ELEM, MAP_UPDATE_ELEM, MAP_DELETE_ELEM = 0, 1, 2, 3
PROG_LOAD, OBJ_GET_INFO_BY_FD, RAW_TRACEPOINT_OPEN, BTF_LOAD = 5, 15, 17, 18
MAP_LOOKUP_BATCH, LINK_CREATE, ITER_CREATE = 24, 28, 33
PROG_TYPE_KPROBE, PROG_TYPE_TRACING, PROG_TYPE_LSM = 2, 26, 29
ATTACH_TRACE_RAW_TP, ATTACH_LSM_MAC, ATTACH_TRACE_ITER = 23, 27, 28
MAP_TYPE_ARRAY, MAP_TYPE_PERCPU_ARRAY, MAP_TYPE_TASK_STORAGE = 2, 6, 29
_NUMBER = {"x86_64": 321, "aarch64": 280}
_LOADS_MAX = 20
"""The kernel gives a load up when a signal comes meanwhile (EAGAIN, kernel/bpf/verifier.c do_check): so often it is
tried."""


def bpf(command: int, attribute: bytes) -> int:
    """bpf(2). Raises OSError."""
    return bpf_buffer(command, ctypes.create_string_buffer(attribute, max(len(attribute), 128)))


def bpf_buffer(command: int, buffer: Any, met: int = 0) -> int:
    """The same with an attribute that the kernel may write into. Raises OSError; gives -1 for the error ``met``."""
    result: int = _libc().syscall(
        ctypes.c_long(_NUMBER[platform.machine()]), ctypes.c_int(command), buffer, ctypes.c_uint(len(buffer))
    )
    if result < 0 and ctypes.get_errno() != met:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


def info(fd: int, size: int) -> bytes:
    """The first ``size`` bytes of what the kernel says of a map or program (struct bpf_map_info, struct bpf_prog_info).
    Raises OSError."""
    buffer = ctypes.create_string_buffer(size)
    bpf(OBJ_GET_INFO_BY_FD, struct.pack("=IIQ", fd, size, ctypes.addressof(buffer)))
    return buffer.raw


def load(code: bytes, kind: int, attach: int, target: int, name: str, license_text: bytes, log: Any = None) -> int:
    """Load a program of a ``kind`` (BPF_PROG_TYPE_*) for a BTF type. ``log``: a buffer for what the verifier says.
    Raises OSError."""
    instructions = ctypes.create_string_buffer(code, len(code))
    its_license = ctypes.create_string_buffer(license_text)
    # union bpf_attr for BPF_PROG_LOAD
    attribute = (
        struct.pack("=IIQQ", kind, len(code) // 8, ctypes.addressof(instructions), ctypes.addressof(its_license))
        + (struct.pack("=IIQ", 0, 0, 0) if log is None else struct.pack("=IIQ", 1, len(log), ctypes.addressof(log)))
        + struct.pack("=II16sII", 0, 0, name.encode()[:15], 0, attach)
        + struct.pack("=IIQIIQII", 0, 0, 0, 0, 0, 0, 0, target)
    )
    for _ in range(_LOADS_MAX - 1):
        with contextlib.suppress(BlockingIOError):
            return bpf(PROG_LOAD, attribute)
    return bpf(PROG_LOAD, attribute)


@dataclass(frozen=True)
class Shape:
    """What a map is: the parameters of BPF_MAP_CREATE, and the C types of its keys and values."""

    name: str
    type: int
    key_size: int
    value_size: int
    entries: int
    flags: int
    key: str
    value: str


class Map:
    """A map in the kernel, made new. Closing it is closing ``fd``."""

    def __init__(self, shape: Shape) -> None:
        """Raises OSError."""
        self.shape = shape
        self.Key, self.Leaf = ctype(shape.key, shape.key_size), ctype(shape.value, shape.value_size)
        types, key_type, value_type = -1, 0, 0
        if shape.type == MAP_TYPE_TASK_STORAGE:
            types, key_type, value_type = _storage_types(shape.value_size), 1, 3
        try:
            # type, key size, value size, entries, flags, inner map, NUMA node, name, interface, BTF, its types of key
            # and value
            self.fd = bpf(
                MAP_CREATE,
                struct.pack(
                    "=IIIIIII16sIIII",
                    shape.type,
                    shape.key_size,
                    shape.value_size,
                    shape.entries,
                    shape.flags,
                    0,
                    0,
                    shape.name.encode()[:15],
                    0,
                    max(types, 0),
                    key_type,
                    value_type,
                ),
            )
        finally:
            if types >= 0:
                os.close(types)

    def __getitem__(self, key: Any) -> Any:
        """The value of a key; of a map with one for each processor, an array of all. Raises KeyError."""
        leaf = self.Leaf * _possible_processors() if self.shape.type == MAP_TYPE_PERCPU_ARRAY else self.Leaf
        value = leaf()
        if bpf_buffer(MAP_LOOKUP_ELEM, self._element(key, value), errno.ENOENT) < 0:
            raise KeyError(key)
        return value

    def __setitem__(self, key: Any, value: Any) -> None:
        """Raises OSError."""
        bpf_buffer(MAP_UPDATE_ELEM, self._element(key, value))

    def __delitem__(self, key: Any) -> None:
        """Of an entry that is not there, too."""
        packed = struct.pack("=IIQ", self.fd, 0, ctypes.addressof(key))
        bpf_buffer(MAP_DELETE_ELEM, ctypes.create_string_buffer(packed, 128), errno.ENOENT)

    def delete(self, key: bytes) -> None:
        """The same for a key as `entries` has it."""
        del self[ctypes.create_string_buffer(key, len(key))]

    def push(self, value: Any) -> None:
        """Into a queue. Raises OSError when it is full."""
        packed = struct.pack("=IIQQQ", self.fd, 0, 0, ctypes.addressof(value), 0)
        bpf_buffer(MAP_UPDATE_ELEM, ctypes.create_string_buffer(packed, 128))

    def clear(self, key: Any) -> None:
        """Set the value of an array's place to zeros, on all processors."""
        leaf = self.Leaf * _possible_processors() if self.shape.type == MAP_TYPE_PERCPU_ARRAY else self.Leaf
        self[key] = leaf()

    @property
    def kernel_bytes(self) -> int:
        """Memory that the kernel holds for it (proc_pid_fdinfo(5), ``memlock``)."""
        with open(f"/proc/self/fdinfo/{self.fd}") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("memlock:"))

    def __len__(self) -> int:
        """Places of an array; entries of a hash."""
        return self.shape.entries if self.shape.type in (MAP_TYPE_ARRAY, MAP_TYPE_PERCPU_ARRAY) else len(self.entries())

    def __iter__(self) -> Iterator[Any]:
        """The keys of a hash."""
        return (self.Key.from_buffer_copy(key) for key, _ in self.entries())

    def items(self) -> list[tuple[Any, Any]]:
        """Keys and values of a hash."""
        return [(self.Key.from_buffer_copy(key), self.Leaf.from_buffer_copy(value)) for key, value in self.entries()]

    def member(self, key: bytes, name: str) -> int:
        """Return a member of a key as `entries` has it: a number of 32 or 64 bits."""
        place = getattr(self.Key, name)
        return int.from_bytes(key[place.offset : place.offset + place.size], sys.byteorder)

    def entries(self) -> list[tuple[bytes, bytes]]:
        """Keys and values of a hash as they are in the kernel, read many at a time (BPF_MAP_LOOKUP_BATCH, Linux
        5.6)."""
        shape = self.shape
        count = min(4096, max(shape.entries, 64))
        keys, values = (
            ctypes.create_string_buffer(count * shape.key_size),
            ctypes.create_string_buffer(count * shape.value_size),
        )
        before, after = ctypes.c_uint32(), ctypes.c_uint32()
        found: list[tuple[bytes, bytes]] = []
        more, first = True, True
        while more:
            # union bpf_attr, batch: in_batch, out_batch, keys, values, count, map_fd, elem_flags, flags
            attribute = ctypes.create_string_buffer(
                struct.pack(
                    "=QQQQIIQQ",
                    0 if first else ctypes.addressof(before),
                    ctypes.addressof(after),
                    ctypes.addressof(keys),
                    ctypes.addressof(values),
                    count,
                    self.fd,
                    0,
                    0,
                ),
                128,
            )
            more = bpf_buffer(MAP_LOOKUP_BATCH, attribute, errno.ENOENT) == 0
            got = struct.unpack_from("=I", attribute, 32)[0]
            all_keys, all_values = keys.raw[: got * shape.key_size], values.raw[: got * shape.value_size]
            found += [
                (
                    all_keys[at * shape.key_size : (at + 1) * shape.key_size],
                    all_values[at * shape.value_size : (at + 1) * shape.value_size],
                )
                for at in range(got)
            ]
            before.value, first = after.value, False
        return found

    def _element(self, key: Any, value: Any) -> Any:
        # union bpf_attr: map_fd, key, value, flags
        packed = struct.pack("=IIQQQ", self.fd, 0, ctypes.addressof(key), ctypes.addressof(value), 0)
        return ctypes.create_string_buffer(packed, 128)


def _storage_types(size: int) -> int:
    """BTF of a task storage: its key is an int, its value ``size`` bytes; the kernel wants to be told
    (map_check_btf)."""
    integer, array = 1 << 24, 3 << 24  # BTF_KIND_INT, BTF_KIND_ARRAY
    types = b"".join(
        (
            struct.pack("=IIII", 1, integer, 4, 1 << 24 | 32),  # 1: int, signed
            struct.pack("=IIII", 5, integer, 1, 8),  # 2: u8
            struct.pack("=IIIIII", 0, array, 0, 2, 1, size),  # 3: u8[size]
        )
    )
    names = b"\0int\0u8\0"
    # struct btf_header
    data = struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(names)) + types + names
    buffer = ctypes.create_string_buffer(data, len(data))
    return bpf(BTF_LOAD, struct.pack("=QQIIII", ctypes.addressof(buffer), 0, len(data), 0, 0, 0))


@cache
def _possible_processors() -> int:
    """How many values a map with one for each processor has."""
    with open("/sys/devices/system/cpu/possible") as file:
        last = file.read().strip().replace(",", "-").rpartition("-")[2]
    return int(last) + 1
