"""Asks a compiled AppArmor policy what it allows, as the kernel would, without a kernel that has AppArmor.

``apparmor_parser -S`` prints what it would load. The format is that of security/apparmor/policy_unpack.c (a stream of
tagged values, little endian), the state machines inside it that of security/apparmor/match.c (tables with a header, big
endian).
"""

from __future__ import annotations

import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ABI = "/etc/apparmor.d/abi/3.0"
STRICT = ("-Q", "-K", "--Werror", "-M", ABI)
"""Parse and compile for a kernel with everything that abi knows; any warning is an error; neither kernel nor cache is
touched."""
TIMEOUT = 120

BITS = {"x": 0x01, "w": 0x02, "r": 0x04, "a": 0x08, "l": 0x10, "k": 0x20, "m": 0x40}
"""File permissions in the accept table (include/perms.h, the layout of policy up to v8); owner in bits 0 to 6, others
in 14 to 20."""
OTHER_SHIFT = 14
CLASS_MOUNT, CLASS_PTRACE, CLASS_SIGNAL, CLASS_NET = 7, 9, 10, 14
"""First byte matched by the machine of everything but files (include/apparmor.h)."""
DEFAULT_FLAG = 0x80000000
"""MATCH_FLAG_DIFF_ENCODE: go on with the default state and the same byte."""


def parser(text: bytes, *flags: str) -> subprocess.CompletedProcess[bytes]:
    """apparmor_parser on a profile's text. Without jobs: no child that works on when it is killed for taking too
    long."""
    return subprocess.run(
        ["apparmor_parser", "--jobs=0", *flags], input=text, capture_output=True, timeout=TIMEOUT, check=False
    )


@dataclass(frozen=True)
class Machine:
    """One state machine. ``start`` is the state before the first byte."""

    start: int
    tables: dict[int, tuple[int, ...]]

    ACCEPT, BASE, CHECK, DEFAULT, CLASSES, NEXT = 1, 2, 3, 4, 5, 8

    @classmethod
    def read(cls, blob: bytes, start: int) -> Machine:
        at = blob.index(struct.pack(">I", 0x1B5E783D))  # padding may come before it
        _, header, size, _ = struct.unpack_from(">IIIH", blob, at)
        position, end, tables = at + header, at + size, {}
        while position < end:
            number, flags, _, length = struct.unpack_from(">HHII", blob, position)
            tables[number] = struct.unpack_from(
                f">{length}{ {1: 'B', 2: 'H', 4: 'I'}[flags & 7] }", blob, position + 12
            )
            position += -(-(12 + length * (flags & 7)) // 8) * 8
        return cls(start, tables)

    def walk(self, text: bytes, state: int | None = None) -> int:
        """The state after ``text``; 0 refuses everything that follows."""
        base, check, default, following = (
            self.tables[number] for number in (self.BASE, self.CHECK, self.DEFAULT, self.NEXT)
        )
        classes = self.tables.get(self.CLASSES, tuple(range(256)))
        state = self.start if state is None else state
        for byte in text:
            while True:
                index = (base[state] & 0xFFFFFF) + classes[byte]
                if check[index] == state:
                    state = following[index]
                    break
                more = base[state] & DEFAULT_FLAG
                state = default[state]
                if not more:
                    break
        return state

    def accept(self, text: bytes, state: int | None = None) -> int:
        """The permission word of the state after ``text``."""
        return self.tables[self.ACCEPT][self.walk(text, state)]


@dataclass(frozen=True)
class Compiled:
    """One profile. ``files`` and ``others`` are None when it has no rules of that sort."""

    name: str
    files: Machine | None
    others: Machine | None
    values: dict[str, Any]
    """The tagged values with a name, as the kernel reads them."""

    def allows(self, path: bytes, *, owner: bool = False) -> str:
        """Letters of BITS that a process has on this path; ``owner``: as the file's owner."""
        if self.files is None:
            return ""
        word = self.files.accept(path)
        word = word if owner else word >> OTHER_SHIFT
        return "".join(sorted(letter for letter, bit in BITS.items() if word & bit))

    def link(self, name: bytes, existing: bytes) -> bool:
        """Whether ``existing`` may get the further name ``name`` (profile_path_link in file.c)."""
        if self.files is None:
            return False
        state = self.files.walk(name)
        bit = BITS["l"] << OTHER_SHIFT
        pair = self.files.walk(existing, self.files.walk(b"\0", state))
        accept = self.files.tables[Machine.ACCEPT]
        return bool(accept[state] & bit and accept[pair] & bit)

    def other(self, text: bytes) -> int:
        """The permission word for a string of the other classes, its first byte the class."""
        return 0 if self.others is None else self.others.accept(text)


def _values(data: bytes) -> list[tuple[str | None, int, Any]]:
    """Every value of the stream with its name, its tag, and what it holds (policy_unpack.c, enum aa_code)."""
    found: list[tuple[str | None, int, Any]] = []
    at, name = 0, None
    fixed = {0: "<B", 1: "<H", 2: "<I", 3: "<Q", 11: "<H"}
    while at < len(data):
        tag = data[at]
        at += 1
        value: Any = None
        if tag in fixed:
            (value,) = struct.unpack_from(fixed[tag], data, at)
            at += struct.calcsize(fixed[tag])
        elif tag in (4, 5, 6):  # a name, a string, a blob
            width = 4 if tag == 6 else 2
            length = int.from_bytes(data[at : at + width], "little")
            value = data[at + width : at + width + length]
            at += width + length
        elif tag not in (7, 8, 9, 10, 12):
            raise AssertionError(f"tag {tag} at {at - 1}")
        if tag == 4:
            name = value.rstrip(b"\0").decode()
            continue
        found.append((name, tag, value))
        name = None
    return found


def read(data: bytes) -> dict[str, Compiled]:
    """Profiles by name from what ``apparmor_parser -S`` printed."""
    profiles: dict[str, Compiled] = {}
    parts: list[list[tuple[str | None, int, Any]]] = []
    for entry in _values(data):
        if entry[0] == "profile" and entry[1] == 7:
            parts.append([])
        if parts:
            parts[-1].append(entry)
    for part in parts:
        name = next(value for _, tag, value in part if tag == 5).rstrip(b"\0").decode()
        values: dict[str, Any] = {key: value for key, _, value in part if key is not None}
        blobs = [(index, value) for index, (key, tag, value) in enumerate(part) if key == "aadfa" and tag == 6]
        policydb = next((index for index, (key, tag, _) in enumerate(part) if key == "policydb" and tag == 7), None)
        files = others = None
        for index, blob in blobs:
            if policydb is not None and index == policydb + 1:
                others = Machine.read(blob, 1)
            else:
                files = Machine.read(blob, values.get("dfa_start", 1))
        profiles[name] = Compiled(name, files, others, values)
    return profiles


def compiled(text: bytes) -> dict[str, Compiled]:
    """Profiles by name, from their text. Fails when the parser has anything to complain of."""
    done = parser(text, *STRICT, "-S")
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    return read(done.stdout)


def compiled_file(path: Path) -> dict[str, Compiled]:
    return compiled(path.read_bytes())
