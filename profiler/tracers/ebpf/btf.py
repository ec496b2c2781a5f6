"""Offsets of kernel structures, from the running kernel's own type data (/sys/kernel/btf/vmlinux) through libbpf."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from typing import Any

from profiler.errors import TracerError
from profiler.tracers.ebpf.libbpf import is_error, libbpf

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
_NONE = -1


class KernelTypes:
    """The kernel's BTF, which is loaded at the first question that ``known`` does not answer."""

    def __init__(self, known: dict[str, int] | None = None) -> None:
        """``known``: answers for the same kernel, to which new ones are added."""
        self._answers = {} if known is None else known
        """By question; _NONE for a type or a member that the kernel does not have."""
        self._loaded: Any = None

    @property
    def _btf(self) -> Any:
        """The loaded types. Raises TracerError when the kernel has none, or libbpf is missing."""
        if self._loaded is None:
            loaded = libbpf().btf__load_vmlinux_btf()
            if is_error(loaded):
                raise TracerError(
                    "this kernel has no /sys/kernel/btf/vmlinux (CONFIG_DEBUG_INFO_BTF); use --tracer ptrace"
                )
            self._loaded = loaded
        return self._loaded

    def close(self) -> None:
        """Free the type data."""
        if self._loaded is not None:
            libbpf().btf__free(self._loaded)
            self._loaded = None

    def _answer(self, question: str, find: Callable[[], int | None]) -> int | None:
        if question not in self._answers:
            found = find()
            self._answers[question] = _NONE if found is None else found
        return None if self._answers[question] == _NONE else self._answers[question]

    def find(self, name: str, kind: int) -> int | None:
        """Return the id of a type, None when the kernel has none of this name and kind. Raises TracerError."""
        return self._answer(f"{kind} {name}", lambda: self._find(name, kind))

    def _find(self, name: str, kind: int) -> int | None:
        number: int = libbpf().btf__find_by_name_kind(self._btf, name.encode(), kind)
        return number if number > 0 else None

    def offset(self, structure: str, *path: str) -> int:
        """Return the bytes from the start of ``structure`` to the member at ``path``, also through anonymous members.

        Raises TracerError when this kernel's structure has no such member.
        """
        found = self._answer(" ".join((structure, *path)), lambda: self._offset(structure, path))
        if found is None:
            raise TracerError(f"this kernel's struct {structure} has no {'.'.join(path)}; use --tracer ptrace")
        return found

    def _offset(self, structure: str, path: tuple[str, ...]) -> int | None:
        number = self.find(structure, KIND_STRUCT)
        total = 0
        for member in path:
            found = None if number is None else self._member(number, member)
            if found is None:
                return None
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
            text = libbpf().btf__name_by_offset(self._btf, name).decode()
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
        address = libbpf().btf__type_by_id(self._btf, number)
        _, info, target = _TYPE.unpack(ctypes.string_at(address, _TYPE.size))
        return address, info >> _KIND_SHIFT & _KIND_MASK, info, target
