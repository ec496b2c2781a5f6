"""libbpf, as far as profgen needs it: the kernel's type data, and rings."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

from profiler.errors import TracerError

RING_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
"""ring_buffer_sample_fn: context, data, size."""

_MAX_ERRNO = 4095
_FUNCTIONS: tuple[tuple[str, Any, list[Any]], ...] = (
    ("btf__load_vmlinux_btf", ctypes.c_void_p, []),
    ("btf__find_by_name_kind", ctypes.c_int, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint32]),
    ("btf__type_by_id", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_uint32]),
    ("btf__name_by_offset", ctypes.c_char_p, [ctypes.c_void_p, ctypes.c_uint32]),
    ("btf__free", None, [ctypes.c_void_p]),
    ("ring_buffer__new", ctypes.c_void_p, [ctypes.c_int, RING_CALLBACK, ctypes.c_void_p, ctypes.c_void_p]),
    ("ring_buffer__consume", ctypes.c_int, [ctypes.c_void_p]),
    ("ring_buffer__free", None, [ctypes.c_void_p]),
)


_MISSING = "cannot open shared object file"  # dlopen(3)


@cache
def libbpf() -> Any:
    """Return the library. Raises TracerError when it is missing."""
    for name in ("libbpf.so.1", "libbpf.so.0"):
        try:
            library = ctypes.CDLL(name, use_errno=True)
        except OSError as error:
            if _MISSING in str(error):
                continue
            raise TracerError(f"libbpf cannot be loaded: {error}") from error  # too little memory, for example
        for function, result, arguments in _FUNCTIONS:
            getattr(library, function).restype = result
            getattr(library, function).argtypes = arguments
        return library
    raise TracerError("libbpf is missing; install it: apt install libbpf1")


def is_error(pointer: int | None) -> bool:
    """Whether a pointer that libbpf returned stands for an error: before 1.0 it may be a negative errno."""
    return not pointer or bool(pointer >> 63 and (1 << 64) - pointer <= _MAX_ERRNO)
