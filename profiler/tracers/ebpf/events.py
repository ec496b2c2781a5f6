"""Events of uses.bpf.c: the first use of each sort, with its names."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass

from profiler.kernel.errno import result_of
from profiler.tracers.ebpf.shared import constant, names, structure

_ERROR_MASK = constant("DETAIL_ERROR")
OWN, OTHERS, PSEUDO = constant("DETAIL_OWN"), constant("DETAIL_OTHERS"), constant("DETAIL_PSEUDO")
"""Of ``detail``: who the file belongs to, and whether no path leads to its mount."""
WHOSE = (None, *names("whom", "WHOM_")[1:])
_DELETED, _DETACHED, _PIECE_BITS = constant("FACT_DELETED"), constant("FACT_DETACHED"), constant("FACT_PIECE_BITS")
OTHER_ROOT, OTHER_MOUNTS = constant("FACT_OTHER_ROOT"), constant("FACT_OTHER_MOUNTS")
DESCRIPTOR, SAME_TOP = constant("FACT_DESCRIPTOR"), constant("FACT_SAME_TOP")
_TEXTS = constant("TEXTS")
ROOT = constant("PIECES") - 1
"""The path that is the process's root, if that is not the workload's."""
NEW_MOUNTS = constant("CALL_NEW_MOUNTS") >> constant("CALL_ABI_SHIFT")
"""In place of an ABI: no call, but a new mount namespace."""
_Event = structure("use_event")


def call_of(call: int) -> tuple[int, int]:
    """Return the ABI and the number of a call, from a key's ``call``."""
    return call >> constant("CALL_ABI_SHIFT"), call & constant("CALL_NUMBER_MASK")


@dataclass
class Event:
    """``struct use_event`` of uses.bpf.c."""

    key: bytes
    program: int
    abi: int
    number: int
    flags: int
    detail: int
    root: int
    mounts: int
    """The mount namespace, by a number that is never used again."""
    mounts_before: int
    """For NEW_MOUNTS: the namespace that it is a copy of."""
    mode: int
    facts: int
    fsuid: int
    tgid: int
    tid: int
    own_tgid: int
    own_tid: int
    texts: tuple[bytes | None, ...]
    paths: tuple[str | None, ...]

    @property
    def result(self) -> str:
        """``ok`` or an errno name."""
        return result_of(self.detail & _ERROR_MASK)

    def state(self, piece: int) -> str:
        """Return the state (FILE_STATES) of the file at one of the paths."""
        facts = self.facts >> _PIECE_BITS * piece
        return "detached" if facts & _DETACHED else "deleted" if facts & _DELETED else "linked"


def program_of(data: bytes) -> int:
    """Return the number of the program that an event belongs to."""
    return int(_Event.from_buffer_copy(data).key.program)


def parse(data: bytes) -> Event:
    """Read an event as it comes from the ring."""
    head = _Event.from_buffer_copy(data)
    key = head.key
    at = ctypes.sizeof(_Event)
    pieces = []
    for length in (*head.text_length, *head.path_length):
        pieces.append(data[at : at + length] if length else None)
        at += length
    pseudo = bool(key.detail & PSEUDO)
    return Event(
        bytes(key),
        key.program,
        *call_of(key.call),
        key.flags,
        key.detail,
        head.root,
        head.mounts,
        head.mounts_before,
        head.mode,
        head.facts,
        head.fsuid,
        head.tgid,
        head.tid,
        head.own_tgid,
        head.own_tid,
        tuple(pieces[:_TEXTS]),
        tuple(None if piece is None else _path(piece, pseudo) for piece in pieces[_TEXTS:]),
    )


def _path(components: bytes, pseudo: bool = False) -> str:
    """Join NUL-ended components, leaf first, that end with one more NUL."""
    parts = components[:-1].split(b"\0")[:-1]
    parts.reverse()
    return os.fsdecode((b"" if pseudo else b"/") + b"/".join(parts))


def text_of(data: bytes | None) -> str | None:
    """Return a text that comes with its NUL; None for none."""
    return None if data is None else os.fsdecode(data.split(b"\0", 1)[0])
