"""Read entries of systemd's journal, in every form of journalctl(1) that has their fields.

Fields with an underscore in front are the journal's own: no client can set them (systemd.journal-fields(7)). So an
entry shows whether the kernel (``_TRANSPORT=kernel``) or the audit system (``audit``) wrote it. Forms: Journal Export
Formats of systemd's documentation; src/shared/logs-show.c, journald-kmsg.c and journald-audit.c of systemd 252.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

ENTRY_MAX = 1 << 20
"""The longest field that is read, and the longest entry in the form of several lines."""

_TIMES = ("_SOURCE_REALTIME_TIMESTAMP", "__REALTIME_TIMESTAMP")
FIELDS = (
    "MESSAGE",
    "_TRANSPORT",
    "_AUDIT_ID",
    "_AUDIT_TYPE",
    "_SOURCE_REALTIME_TIMESTAMP",
    "PRIORITY",
    "SYSLOG_FACILITY",
)
"""The fields that are examined, besides the time of the entry, which journalctl always prints."""
_WANTED = frozenset((*FIELDS, *_TIMES))

_RECORD_TYPES = frozenset(("1326", "1400", "1107", *(str(number) for number in range(1500, 1508))))
_KERNEL = {"PRIORITY": "5", "SYSLOG_FACILITY": "0"}
"""What every record that the kernel prints has: severity notice (kauditd_printk_skb), facility kern. A program that
writes to /dev/kmsg gets another facility (devkmsg_write)."""


@dataclass(frozen=True)
class Entry:
    """An entry. ``message``: None if journalctl left it out; ``transport``: None for what is not from a journal."""

    message: bytes | None
    transport: str | None
    stamp: bytes | None
    genuine: bool
    """Whether the journal's fields are those of a record."""


def entry(fields: Mapping[str, Any]) -> Entry:
    """Return what matters of an entry. ``fields``: as in journalctl's JSON; of any type, as strangers write them."""
    transport = fields.get("_TRANSPORT")
    genuine = transport in ("kernel", "audit") and fields.get("_AUDIT_TYPE", "1326") in _RECORD_TYPES
    if transport == "kernel":
        genuine = genuine and all(fields.get(name, value) == value for name, value in _KERNEL.items())
    return Entry(
        _message(fields.get("MESSAGE")),
        transport if transport is None or isinstance(transport, str) else "",
        _stamp(fields),
        genuine,
    )


def _message(value: object) -> bytes | None:
    """Return a message as bytes. JSON has a list of bytes for what is not text, and null for what is too long."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, list):
        try:
            return bytes(value)
        except (ValueError, TypeError):
            return None
    return None


def _stamp(fields: Mapping[str, Any]) -> bytes | None:
    """Return the time of an entry as the audit system writes it, with the record's number if there is one."""
    time = next((fields[name] for name in _TIMES if name in fields), None)
    if not (isinstance(time, str) and _number(time, 17)):
        return None
    number = fields.get("_AUDIT_ID")
    return f"{int(time) // 1000 / 1000:.3f}:{number if _number(number, 20) else ''}".encode()


def _number(text: object, digits: int) -> bool:
    return isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= digits


def strings(value: object) -> Iterator[str]:
    """Yield every text in a JSON value, at any depth."""
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, list):
            todo.extend(reversed(one))
        elif isinstance(one, dict):
            todo.extend(reversed(one.values()))


# --- forms with several lines for an entry

_EXPORT = re.compile(
    rb"(?:__CURSOR|__REALTIME_TIMESTAMP|__MONOTONIC_TIMESTAMP|[_A-Z0-9]{1,64})=[^\n]*\n[_A-Z0-9]{1,64}[=\n]"
)
_VERBOSE = re.compile(rb"\S[^\n]*\[s=[0-9a-f]{32};[^\n]*\]\n    [_A-Z0-9]+=")
_PRETTY = re.compile(rb"\s*\[?\s*\{\s*\n\s*\"")
_VERBOSE_FIELD = re.compile(rb"    ([A-Z_0-9]+)=(.*)", re.DOTALL)


def form(head: bytes) -> str | None:
    """Return the form of a journal's text by its beginning: ``export``, ``verbose`` or ``pretty``, None for others."""
    while head.startswith(b"-- ") and b"\n" in head:
        head = head.partition(b"\n")[2]
    for name, pattern in (("export", _EXPORT), ("verbose", _VERBOSE), ("pretty", _PRETTY)):
        if pattern.match(head.replace(b"\r\n", b"\n")):
            return name
    return None


def entries(stream: io.BufferedIOBase, kind: str) -> Iterator[tuple[Mapping[str, Any] | None, int]]:
    """Yield the fields of each entry, None for one that is not whole, and the number of the line where it begins."""
    yield from {"export": _export, "verbose": _verbose, "pretty": _pretty}[kind](stream)


def _lines(stream: io.BufferedIOBase) -> Iterator[bytes]:
    """Yield lines with their newlines. A longer line comes in pieces."""
    while line := stream.readline(ENTRY_MAX):
        yield line


def _export(stream: io.BufferedIOBase) -> Iterator[tuple[Mapping[str, Any] | None, int]]:
    """Read ``FIELD=text`` lines; a field that is not text is a line with its name, its size in 8 bytes, and its bytes.
    An empty line ends an entry."""
    fields: dict[str, Any] | None = {}
    number = first = 1
    for line in _lines(stream):
        if line == b"\n":
            yield fields, first
            fields, first = {}, number + 1
        elif fields is not None:
            name, sign, value = line.removesuffix(b"\n").partition(b"=")
            key = name.decode("ascii", "replace")
            if sign and line.endswith(b"\n"):
                if key in _WANTED:
                    fields[key] = value.decode() if key != "MESSAGE" and value.isascii() else value
            else:
                sized = stream.read(8)
                size = int.from_bytes(sized, "little")
                if sign or not line.endswith(b"\n") or size > ENTRY_MAX:
                    fields = None
                    continue
                data = stream.read(size + 1)
                number += (sized + data).count(b"\n")
                if key in _WANTED:
                    fields[key] = data[:-1]
        number += 1
    if fields != {}:
        yield fields, first


def _verbose(stream: io.BufferedIOBase) -> Iterator[tuple[Mapping[str, Any] | None, int]]:
    """Read a line with the time and the cursor, then ``    FIELD=text`` lines. Further lines of a text are indented
    more deeply (print_multiline)."""
    fields: dict[str, Any] = {}
    first = 1
    for number, line in enumerate(_lines(stream), start=1):
        if line[:1] not in b" \t":
            if fields:
                yield fields, first
            fields, first = {}, number
        elif found := _VERBOSE_FIELD.fullmatch(line.rstrip(b"\r\n")):
            key = found[1].decode()
            if key in _WANTED and key not in fields:
                fields[key] = found[2] if key == "MESSAGE" else found[2].decode("utf-8", "replace")
        elif "MESSAGE" in fields and line[4:5] == b" ":
            fields["MESSAGE"] = (fields["MESSAGE"] + b"\n" + line.strip())[:ENTRY_MAX]
    if fields:
        yield fields, first


def _pretty(stream: io.BufferedIOBase) -> Iterator[tuple[Mapping[str, Any] | None, int]]:
    """Read JSON whose objects are spread over lines. Only the innermost objects with a member on each line count."""
    lines: list[bytes] = []
    size, first, inside = 0, 1, False
    for number, line in enumerate(_lines(stream), start=1):
        text = line.strip(b" \t\r\n\x1e")
        if text.startswith(b"}") and inside:
            yield _parsed(lines) if size <= ENTRY_MAX else None, first
            inside = False
        if text.endswith(b"{"):
            lines, size, first, inside = [], 0, number, True
        elif inside:
            size += len(text)
            if size <= ENTRY_MAX:
                lines.append(text)
    if inside and lines:
        yield None, first


def _parsed(lines: list[bytes]) -> Mapping[str, Any] | None:
    try:
        found = json.loads(b"{" + b"".join(lines).rstrip(b",") + b"}")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
