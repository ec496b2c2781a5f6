"""bpf(2), as far as profgen needs it: making maps, reading and writing them, loading and attaching programs.

Numbers and structures are those of include/uapi/linux/bpf.h; attributes are the members of ``union bpf_attr``.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import platform
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from profiler.files import kernel_text
from profiler.tracers.ebpf.shared import ctype

MAP_CREATE, MAP_LOOKUP_ELEM, MAP_UPDATE_ELEM, MAP_DELETE_ELEM = 0, 1, 2, 3
PROG_LOAD, OBJ_GET_INFO_BY_FD, RAW_TRACEPOINT_OPEN, BTF_LOAD = 5, 15, 17, 18
MAP_LOOKUP_BATCH, LINK_CREATE, ITER_CREATE = 24, 28, 33
PROG_TYPE_KPROBE, PROG_TYPE_TRACING, PROG_TYPE_LSM = 2, 26, 29
ATTACH_TRACE_RAW_TP, ATTACH_LSM_MAC, ATTACH_TRACE_ITER = 23, 27, 28
MAP_TYPE_ARRAY, MAP_TYPE_PERCPU_ARRAY, MAP_TYPE_TASK_STORAGE = 2, 6, 29

INSTRUCTION = struct.Struct("=BBhi")
"""struct bpf_insn: operation, registers (source above destination), offset, value."""
MOVE, LOAD, CALL, EXIT = 0xB7, 0x79, 0x85, 0x95
"""BPF_ALU64 | BPF_MOV | BPF_K; BPF_LDX | BPF_MEM | BPF_DW; BPF_JMP | BPF_CALL; BPF_JMP | BPF_EXIT."""
LOAD_WORD = 0x18
"""BPF_LD | BPF_IMM | BPF_DW: 64 bits, in two instructions."""
OF_MAP, KERNEL_FUNCTION = 1, 2
"""In place of the source register: BPF_PSEUDO_MAP_FD of a LOAD_WORD, BPF_PSEUDO_KFUNC_CALL of a CALL."""

_NUMBER = {"x86_64": 321, "aarch64": 280}
_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}
_EVENT_BYTES, _EVENT_CLOEXEC, _EVENT_SET_BPF, _EVENT_ENABLE = 72, 8, 0x40042408, 0x2400
_KPROBES = "/sys/bus/event_source/devices/kprobe"
"""include/uapi/linux/perf_event.h; Documentation/ABI/testing/sysfs-bus-event_source-devices-format"""
_ATTRIBUTE_BYTES = 128
_NAME_BYTES = 15
_LICENSE = b"Dual MIT/GPL"
_LOADS_MAX = 20
"""How often a load is tried: a signal makes the kernel give it up (EAGAIN, do_check of kernel/bpf/verifier.c)."""
_BATCH = 4096
_CHUNK_MIN = 64

_BTF_MAGIC = 0xEB9F
_BTF_INT, _BTF_ARRAY = 1 << 24, 3 << 24
_BTF_SIGNED = 1 << 24


def bpf(command: int, attribute: bytes) -> int:
    """Call bpf(2). Raises OSError."""
    return _call(command, _padded(attribute))


def _padded(attribute: bytes) -> Any:
    return ctypes.create_string_buffer(attribute, max(len(attribute), _ATTRIBUTE_BYTES))


def _call(command: int, buffer: Any, expected: int = 0) -> int:
    """Call bpf(2) with an attribute that the kernel may write into.

    Returns -1 for the error ``expected``; raises OSError for any other.
    """
    result: int = _libc().syscall(
        ctypes.c_long(_NUMBER[platform.machine()]), ctypes.c_int(command), buffer, ctypes.c_uint(len(buffer))
    )
    if result < 0 and ctypes.get_errno() != expected:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


def info(fd: int, size: int) -> bytes:
    """Return the first ``size`` bytes of struct bpf_map_info or struct bpf_prog_info. Raises OSError."""
    buffer = ctypes.create_string_buffer(size)
    bpf(OBJ_GET_INFO_BY_FD, struct.pack("=IIQ", fd, size, ctypes.addressof(buffer)))
    return buffer.raw


def load(code: bytes, kind: int, attach: int, target: int, name: str, log: Any = None) -> int:
    """Load a program of a ``kind`` (PROG_TYPE_*) for a BTF type, and return its descriptor.

    ``log``: a buffer for the verifier's messages. Raises OSError.
    """
    instructions, text = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(_LICENSE)
    attribute = (
        struct.pack(
            "=IIQQ", kind, len(code) // INSTRUCTION.size, ctypes.addressof(instructions), ctypes.addressof(text)
        )
        + (struct.pack("=IIQ", 0, 0, 0) if log is None else struct.pack("=IIQ", 1, len(log), ctypes.addressof(log)))
        + struct.pack("=II16sII", 0, 0, name.encode()[:_NAME_BYTES], 0, attach)
        + struct.pack("=IIQIIQII", 0, 0, 0, 0, 0, 0, 0, target)
    )
    for _ in range(_LOADS_MAX - 1):
        with contextlib.suppress(BlockingIOError):
            return bpf(PROG_LOAD, attribute)
    return bpf(PROG_LOAD, attribute)


def open_kprobe(program: int, symbol: str, *, back: bool) -> int:
    """Run a program at the beginning of a kernel function, or at its end (``back``), until the returned descriptor is
    closed (perf_event_open(2), the PMU ``kprobe`` of Linux 4.17). Raises OSError."""
    with kernel_text(f"{_KPROBES}/type") as file:
        kind = int(file.read())
    with kernel_text(f"{_KPROBES}/format/retprobe") as file:
        at_end = int(file.read().partition(":")[2])
    name = ctypes.create_string_buffer(symbol.encode())
    # struct perf_event_attr up to PERF_ATTR_SIZE_VER1: type, size, config, sample_period, sample_type, read_format,
    # flags, wakeup_events, bp_type, kprobe_func, probe_offset
    attribute = struct.pack(
        "=IIQQQQQIIQQ", kind, _EVENT_BYTES, int(back) << at_end, 0, 0, 0, 0, 0, 0, ctypes.addressof(name), 0
    )
    # attr, pid, cpu, group_fd, flags
    places = (ctypes.c_long(place) for place in (-1, 0, -1, _EVENT_CLOEXEC))
    number = ctypes.c_long(_EVENT_OPEN[platform.machine()])
    event: int = _libc().syscall(number, ctypes.create_string_buffer(attribute), *places)
    if event < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    try:
        fcntl.ioctl(event, _EVENT_SET_BPF, program)
        fcntl.ioctl(event, _EVENT_ENABLE, 0)
    except OSError:
        os.close(event)
        raise
    return event


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
    """A new map in the kernel. A key or a value is an int where C has a number, else an instance of `Key` or `Leaf`.

    Closing ``fd`` frees the map.
    """

    def __init__(self, shape: Shape) -> None:
        """Raises OSError."""
        self.shape = shape
        self.Key, self.Leaf = ctype(shape.key, shape.key_size), ctype(shape.value, shape.value_size)
        self._one_a_processor = shape.type == MAP_TYPE_PERCPU_ARRAY
        types, key_type, value_type = -1, 0, 0
        if shape.type == MAP_TYPE_TASK_STORAGE:
            types, key_type, value_type = _storage_types(shape.value_size), 1, 3
        try:
            # map_type, key_size, value_size, max_entries, map_flags, inner_map_fd, numa_node, map_name, map_ifindex,
            # btf_fd, btf_key_type_id, btf_value_type_id
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
                    shape.name.encode()[:_NAME_BYTES],
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
        """Return the value of a key; of a map with a value for each processor, an array of all. Raises KeyError."""
        place, value = _given(self.Key, key), self._leaf()
        if _call(MAP_LOOKUP_ELEM, self._element(place, value), errno.ENOENT) < 0:
            raise KeyError(key)
        return _plain(value)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Raises OSError."""
        place, content = _given(self.Key, key), _given(self.Leaf, value)
        _call(MAP_UPDATE_ELEM, self._element(place, content))

    def __delitem__(self, key: Any) -> None:
        """Delete an entry, if it is there."""
        place = _given(self.Key, key)
        _call(MAP_DELETE_ELEM, _padded(struct.pack("=IIQ", self.fd, 0, ctypes.addressof(place))), errno.ENOENT)

    def delete(self, key: bytes) -> None:
        """Delete the entry of a key in the form that `entries` returns."""
        del self[self.Key.from_buffer_copy(key)]

    def push(self, value: Any) -> None:
        """Put a value into a queue. Raises OSError when it is full."""
        content = _given(self.Leaf, value)
        _call(MAP_UPDATE_ELEM, _padded(struct.pack("=IIQQQ", self.fd, 0, 0, ctypes.addressof(content), 0)))

    def clear(self, key: Any) -> None:
        """Set a place of an array to zeros, for all processors."""
        self[key] = self._leaf()

    @property
    def kernel_bytes(self) -> int:
        """Memory that the kernel holds for the map (proc_pid_fdinfo(5), ``memlock``)."""
        with kernel_text(f"/proc/self/fdinfo/{self.fd}") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("memlock:"))

    def __len__(self) -> int:
        """Places of an array; entries of a hash."""
        return self.shape.entries if self.shape.type in (MAP_TYPE_ARRAY, MAP_TYPE_PERCPU_ARRAY) else len(self.entries())

    def __iter__(self) -> Iterator[Any]:
        """The keys of a hash."""
        return (_plain(self.Key.from_buffer_copy(key)) for key, _ in self.entries())

    def items(self) -> list[tuple[Any, Any]]:
        """Return the keys and values of a hash."""
        return [
            (_plain(self.Key.from_buffer_copy(key)), _plain(self.Leaf.from_buffer_copy(value)))
            for key, value in self.entries()
        ]

    def member(self, key: bytes, name: str) -> int:
        """Return a member of a key in the form that `entries` returns: a number of 32 or 64 bits."""
        place = getattr(self.Key, name)
        return int.from_bytes(key[place.offset : place.offset + place.size], sys.byteorder)

    def entries(self) -> list[tuple[bytes, bytes]]:
        """Return the keys and values of a hash as bytes, read many at a time (BPF_MAP_LOOKUP_BATCH, Linux 5.6)."""
        key_size, value_size = self.shape.key_size, self.shape.value_size
        count = min(_BATCH, max(self.shape.entries, _CHUNK_MIN))
        keys, values = ctypes.create_string_buffer(count * key_size), ctypes.create_string_buffer(count * value_size)
        before, after = ctypes.c_uint32(), ctypes.c_uint32()
        found: list[tuple[bytes, bytes]] = []
        more, first = True, True
        while more:
            # in_batch, out_batch, keys, values, count, map_fd, elem_flags, flags
            places = (ctypes.addressof(place) for place in (after, keys, values))
            start = 0 if first else ctypes.addressof(before)
            attribute = _padded(struct.pack("=QQQQIIQQ", start, *places, count, self.fd, 0, 0))
            more = _call(MAP_LOOKUP_BATCH, attribute, errno.ENOENT) == 0
            got = struct.unpack_from("=I", attribute, 32)[0]
            all_keys, all_values = keys.raw[: got * key_size], values.raw[: got * value_size]
            found += [
                (all_keys[at * key_size : (at + 1) * key_size], all_values[at * value_size : (at + 1) * value_size])
                for at in range(got)
            ]
            before.value, first = after.value, False
        return found

    def _leaf(self) -> Any:
        return (self.Leaf * _possible_processors() if self._one_a_processor else self.Leaf)()

    def _element(self, key: Any, value: Any) -> Any:
        # map_fd, key, value, flags; the caller keeps key and value alive
        return _padded(struct.pack("=IIQQQ", self.fd, 0, ctypes.addressof(key), ctypes.addressof(value), 0))


def _given(kind: Any, value: Any) -> Any:
    """Return a ctypes instance for an int or an instance."""
    return kind(value) if isinstance(value, int) else value


def _plain(value: Any) -> Any:
    """Return an int for a number of C, any other value as it is."""
    return value.value if isinstance(value, ctypes._SimpleCData) else value


def _storage_types(size: int) -> int:
    """Load the BTF that the kernel wants for a task storage (map_check_btf): the key is an int, the value ``size``
    bytes. Returns its descriptor."""
    types = b"".join(
        (
            struct.pack("=IIII", 1, _BTF_INT, 4, _BTF_SIGNED | 32),  # 1: int
            struct.pack("=IIII", 5, _BTF_INT, 1, 8),  # 2: u8
            struct.pack("=IIIIII", 0, _BTF_ARRAY, 0, 2, 1, size),  # 3: u8[size]
        )
    )
    names = b"\0int\0u8\0"
    # struct btf_header
    header = struct.pack("=HBBIIIII", _BTF_MAGIC, 1, 0, 24, 0, len(types), len(types), len(names))
    data = header + types + names
    buffer = ctypes.create_string_buffer(data, len(data))
    return bpf(BTF_LOAD, struct.pack("=QQIIII", ctypes.addressof(buffer), 0, len(data), 0, 0, 0))


@cache
def _possible_processors() -> int:
    """Return how many values a map with a value for each processor has."""
    with kernel_text("/sys/devices/system/cpu/possible") as file:
        last = file.read().strip().replace(",", "-").rpartition("-")[2]
    return int(last) + 1
