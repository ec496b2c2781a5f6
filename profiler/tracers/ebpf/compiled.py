"""recorder.bpf.c as bytecode: compiled by bcc, and kept for the next recording on the same kernel.

Compiling takes several times as long as everything else at the start of a recording. The result depends only on the
text, on the flags (which have all that differs between kernels) and on bcc, so it is kept (kept.py) under a hash of
these.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from profiler import kept
from profiler.errors import TracerError
from profiler.progress import busy
from profiler.tracers.ebpf import bpf
from profiler.tracers.ebpf.bcc import bcc_version, import_bcc, quiet_stderr
from profiler.tracers.ebpf.bpf import Shape

HERE = Path(__file__).parent
HELPERS = 1000
"""Above all numbers of helpers, below the ids of kernel functions."""


@dataclass(frozen=True)
class Compiled:
    """Maps and programs. In a program's code, a load of a map has the map's index in ``maps`` for its descriptor."""

    maps: tuple[Shape, ...]
    programs: Mapping[str, bytes]

    def code(self, function: str, descriptors: Sequence[int]) -> bytes:
        """Return a program's instructions with the descriptors of ``maps``, in their order."""
        return _with_maps(self.programs[function], dict(enumerate(descriptors)))


def compiled(source: str, flags: Sequence[str]) -> Compiled:
    """Return the text compiled with these flags, now or by an earlier recording. Compiling imports bcc.

    Raises TracerError: bcc is missing, or the compiler's first complaint.
    """
    identity = json.dumps([source, list(flags), bcc_version(), os.uname().machine])
    name = f"{hashlib.sha256(identity.encode()).hexdigest()[:40]}.json"
    found = _of_document(kept.read(name))
    if found is None:
        found = _compile(import_bcc(), source, flags)
        kept.keep(name, _document(found))
    return found


def _compile(bcc: ModuleType, source: str, flags: Sequence[str]) -> Compiled:
    with (
        busy("compiling the eBPF programs, which later recordings take over"),
        _environment("BCC_KERNEL_SOURCE", str(HERE)),
        quiet_stderr() as said,
    ):
        try:
            module = bcc.BPF(text=source.encode(), cflags=[*flags, f"-I{HERE / 'include'}"])
        except Exception as error:
            complaint = next((line.strip() for line in said().splitlines() if "error:" in line), None)
            raise TracerError(f"bcc cannot compile the recorder: {complaint or error}") from error
    try:
        lib = bcc.libbcc.lib
        # bcc's Python part does not declare these two: the number of tables of a module; the name of one.
        for undeclared, like in (("bpf_num_tables", "bpf_num_functions"), ("bpf_table_name", "bpf_function_name")):
            for part in ("restype", "argtypes"):
                setattr(getattr(lib, undeclared), part, getattr(getattr(lib, like), part))
        names = [lib.bpf_table_name(module.module, number) for number in range(lib.bpf_num_tables(module.module))]
        places = {int(lib.bpf_table_fd(module.module, name)): place for place, name in enumerate(names)}
        maps = tuple(_shape(lib, module.module, name) for name in names)
        functions = [
            lib.bpf_function_name(module.module, number) for number in range(lib.bpf_num_functions(module.module))
        ]
        return Compiled(
            maps, {function.decode(): _with_maps(module.dump_func(function), places) for function in functions}
        )
    finally:
        module.cleanup()


def _shape(lib: Any, module: Any, name: bytes) -> Shape:
    # struct bpf_map_info: type, id, key_size, value_size, max_entries, map_flags
    kind, _, key, value, entries, flags = struct.unpack("=6I", bpf.info(lib.bpf_table_fd(module, name), 24))
    types = [
        json.loads(describe(module, name) or b'"int"') for describe in (lib.bpf_table_key_desc, lib.bpf_table_leaf_desc)
    ]
    # bcc describes a plain type by its name, and a structure by a list that begins with its name.
    key_type, value_type = (described if isinstance(described, str) else described[0] for described in types)
    return Shape(name.decode(), kind, key, value, entries, flags, key_type, value_type)


def _with_maps(code: bytes, numbers: Mapping[int, int]) -> bytes:
    """Return instructions with other numbers for their maps, and with calls of kernel functions marked as such: C has
    only their numbers.

    Raises KeyError for an unknown map.
    """
    changed = bytearray(code)
    at = 0
    while at < len(code):
        operation, registers, offset, value = bpf.INSTRUCTION.unpack_from(code, at)
        if operation == bpf.LOAD_WORD and registers >> 4 == bpf.OF_MAP:
            bpf.INSTRUCTION.pack_into(changed, at, operation, registers, offset, numbers[value])
        if operation == bpf.CALL and registers >> 4 == 0 and value > HELPERS:
            bpf.INSTRUCTION.pack_into(changed, at, operation, bpf.KERNEL_FUNCTION << 4, offset, value)
        at += bpf.INSTRUCTION.size * (2 if operation == bpf.LOAD_WORD else 1)
    return bytes(changed)


# -- as a document -----------------------------------------------------------------------------------------------------


def _document(result: Compiled) -> dict[str, Any]:
    programs = {function: base64.b64encode(code).decode() for function, code in result.programs.items()}
    return {"maps": [asdict(shape) for shape in result.maps], "programs": programs}


def _of_document(document: Any) -> Compiled | None:
    """Return what a document holds, None when it is damaged."""
    try:
        maps = tuple(Shape(**shape) for shape in document["maps"])
        return Compiled(
            maps, {function: base64.b64decode(code, validate=True) for function, code in document["programs"].items()}
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
