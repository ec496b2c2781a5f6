"""Offsets of kernel structures, from the running kernel's own type data (/sys/kernel/btf/vmlinux) through libbpf."""

from __future__ import annotations

import ctypes
import struct

from profiler.errors import TracerError

# include/uapi/linux/btf.h
KIND_STRUCT, KIND_FUNC, KIND_TYPEDEF = 4, 12, 8
_KIND_UNION = 5
_TRANSPARENT = {8, 9, 10, 11, 18}
"""typedef, volatile, const, restrict, type tag"""
_TYPE = struct.Struct("=III")
"""struct btf_type: name, info, size or type"""
_MEMBER = struct.Struct("=III")
"""struct btf_member: name, type, offset in bits"""
_KIND_SHIFT, _KIND_MASK, _COUNT_MASK, _BITFIELDS = 24, 0x1F, 0xFFFF, 1 << 31
"""Of info. With _BITFIELDS, the upper byte of a member's offset is the width of its bit field."""
_OFFSET_MASK = 0xFFFFFF

_MAX_ERRNO = 4095
"""libbpf before 1.0 returns an error as a pointer."""


class KernelTypes:
    """The kernel's BTF. Raises TracerError when the kernel has none, or libbpf is missing."""

    def __init__(self) -> None:
        for name in ("libbpf.so.1", "libbpf.so.0"):
            try:
                self._lib = ctypes.CDLL(name, use_errno=True)
                break
            except OSError:
                continue
        else:
            raise TracerError("libbpf is missing; install it: apt install libbpf1")
        for function, result, arguments in (
            ("btf__load_vmlinux_btf", ctypes.c_void_p, []),
            ("btf__find_by_name_kind", ctypes.c_int, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint32]),
            ("btf__type_by_id", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_uint32]),
            ("btf__name_by_offset", ctypes.c_char_p, [ctypes.c_void_p, ctypes.c_uint32]),
            ("btf__free", None, [ctypes.c_void_p]),
        ):
            getattr(self._lib, function).restype = result
            getattr(self._lib, function).argtypes = arguments
        self._btf = self._lib.btf__load_vmlinux_btf()
        if not self._btf or (self._btf >> 63 and (1 << 64) - self._btf <= _MAX_ERRNO):
            raise TracerError("this kernel has no /sys/kernel/btf/vmlinux (CONFIG_DEBUG_INFO_BTF); use --tracer ptrace")

    def close(self) -> None:
        """Free the type data."""
        self._lib.btf__free(self._btf)

    def find(self, name: str, kind: int) -> int | None:
        """Return the id of a type, None when the kernel has none of this name and kind."""
        number: int = self._lib.btf__find_by_name_kind(self._btf, name.encode(), kind)
        return number if number > 0 else None

    def offset(self, structure: str, *path: str) -> int:
        """Return the bytes from the start of ``structure`` to the member at ``path``, also through anonymous members.

        Raises TracerError when this kernel's structure has no such member.
        """
        number = self.find(structure, KIND_STRUCT)
        total = 0
        for member in path:
            found = None if number is None else self._member(number, member)
            if found is None:
                raise TracerError(f"this kernel's struct {structure} has no {'.'.join(path)}; use --tracer ptrace")
            number, offset = found
            total += offset
        return total

    def _member(self, number: int, wanted: str) -> tuple[int, int] | None:
        """Return the type and the offset of a structure's member; None when there is none of this name."""
        address, kind, info, _ = self._type(self._resolve(number))
        if kind not in (KIND_STRUCT, _KIND_UNION):
            return None
        members = ctypes.string_at(address + _TYPE.size, (info & _COUNT_MASK) * _MEMBER.size)
        for name, kind_of_member, offset in _MEMBER.iter_unpack(members):
            offset = (offset & _OFFSET_MASK if info & _BITFIELDS else offset) // 8
            text = self._lib.btf__name_by_offset(self._btf, name).decode()
            if text == wanted:
                return kind_of_member, offset
            if not text and (inner := self._member(kind_of_member, wanted)) is not None:
                return inner[0], offset + inner[1]
        return None

    def _resolve(self, number: int) -> int:
        """Return the type that a typedef or a qualified type stands for."""
        while True:
            _, kind, _, target = self._type(number)
            if kind not in _TRANSPARENT:
                return number
            number = target

    def _type(self, number: int) -> tuple[int, int, int, int]:
        """Return (address, kind, info, size or type) of a ``struct btf_type``."""
        address = self._lib.btf__type_by_id(self._btf, number)
        _, info, target = _TYPE.unpack(ctypes.string_at(address, _TYPE.size))
        return address, info >> _KIND_SHIFT & _KIND_MASK, info, target
