"""Read logs, line by line or entry by entry, and count what they contain.

A log is read once, in pieces; memory does not grow with its size, nor with what strangers write into it.
"""

from __future__ import annotations

import io
import json
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from profiler.denials.logs import aalog, apparmor, journal, seccomp, selinux, text, tomoyo
from profiler.denials.logs import gaps as statements
from profiler.denials.logs.fields import values_of
from profiler.denials.logs.gaps import Gap, Gaps
from profiler.denials.logs.openers import Head
from profiler.denials.logs.scan import CHUNK, Raw, Scanner
from profiler.denials.model import EVENTS_MAX, Denial, merged

_KERNELS = (b"type=1326", b"SECCOMP", b"apparmor", selinux.MARK)
MARKS = (*_KERNELS, b'"seccomp"', *statements.MARKS)
"""Every line that matters contains one of these. The fifth is in forms that are not read, and are counted."""

_JSON_STARTS = (b"{", b"\x1e{", b"data: {", b"\n")
_FURTHER_MARKS = {
    # journalctl writes a message that is not plain text as a list of bytes.
    _JSON_STARTS: (*(",".join(map(str, mark)).encode() for mark in _KERNELS), b" compat=", b'"MESSAGE":null'),
    aalog.MARKS: aalog.MARKS,
    # ausearch --format=text and =csv
    (b"At ", b"NODE,EVENT,"): (b"-seccomp-controlled-",),
}
"""By how a log starts: further marks of the lines that matter in it."""

DISTINCT_MAX = 10_000
"""The number of different records that are kept; a hostile log could hold any number."""

REMEMBERED = 1 << 16
"""The number of events that are remembered to recognise duplicates: one journal can hold both the kernel's log and the
audit transport."""

SAMPLES, SAMPLE_BYTES = 3, 160
"""How many of the lines that were not understood are kept, and how much of each."""

_LEFT_OUT = "messages left out: journalctl prints long ones only with --all"


@dataclass(frozen=True)
class Reading:
    """What a log contained."""

    denials: tuple[Denial, ...] = ()
    gaps: tuple[Gap, ...] = ()
    records: int = 0
    """The denials, repetitions included."""
    duplicates: int = 0
    """Records that came again with the same time and number."""
    broken: int = 0
    """Lines that look like a record but are not one: cut off, longer than any record, or of an unknown form."""
    foreign: int = 0
    """Lines that have the text of a record in a message of another program."""
    unread: int = 0
    """Of the broken and foreign ones, those that may be denials all the same."""
    samples: tuple[tuple[int | None, str], ...] = ()
    """The numbers of the first unread lines, and their text."""
    supervised: int = 0
    """Calls that seccomp left to a supervisor or a tracer."""
    beyond: int = 0
    """Records beyond DISTINCT_MAX different ones, counted and dropped."""
    bytes: int = 0
    """The size of the log, without compression."""


NUMBERS = ("records", "duplicates", "broken", "foreign", "unread", "supervised", "beyond", "bytes")
"""The members of a Reading that are numbers."""


@dataclass
class _Tally:
    """Records that differ only in process, time and place. ``sources``: the logs that prove them."""

    denial: Denial
    identity: int
    count: int = 0
    first: float | None = None
    last: float | None = None
    pid: int | None = None
    events: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    sources: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class _Log:
    """A log. ``provable``: only the kernel and the audit daemon write into one of this form. ``shape``: how its lines
    begin (text.shape), None if unknown."""

    number: int = 0
    provable: bool = False
    shape: str | None = None


_EVENT = re.compile(rb"(\d{1,11}(?:\.\d{1,9})?):(\d{1,20})\Z")
_ENTRY_TIME = re.compile(rb"(\d{1,11}\.\d{3}):\Z")
_PID = re.compile(rb"\bpid=(\d{1,10})\b")
_AUDIT_STARTS = (b"type=", b"node=")


class Reader:
    """Read logs one after the other; ``reading`` is what they contained."""

    def __init__(self, distinct: int = DISTINCT_MAX) -> None:
        self._tallies: dict[tuple[bytes, ...], _Tally | str] = {}
        """By the content of a record; a word if it is not a denial: ``passed``, ``broken``, ``supervised``."""
        self._distinct = distinct
        self._seen: OrderedDict[tuple[bytes, int], None] = OrderedDict()
        self._gaps = Gaps()
        self._numbers = dict.fromkeys(NUMBERS, 0)
        self._samples: list[tuple[int | None, str]] = []
        self._logs = 0
        self._mixed: set[int] = set()
        """Logs that turned out to hold lines of another form."""

    def read(self, stream: Raw) -> None:
        """Read a log, which openers.opened made plain, to the end. Raises OSError."""
        self._logs += 1
        plain = stream if isinstance(stream, Head) else Head(stream)
        kind = journal.form(plain.head)
        if kind is not None:
            self._entries(plain, kind)
        elif tomoyo.is_log(plain.head):
            self._records_of_tomoyo(plain)
        else:
            self._lines(plain)
        self._numbers["bytes"] += plain.bytes

    def _lines(self, plain: Head) -> None:
        start = text.plain(plain.head).lstrip(b" \r\n")
        further = [marks for starts, marks in _FURTHER_MARKS.items() if start.startswith(starts)]
        if b"\n{" in plain.head:  # JSON among other lines
            further.append(_FURTHER_MARKS[_JSON_STARTS])
        marks = (*MARKS, *(mark for several in further for mark in several))
        starts = next((starts for starts in (_JSON_STARTS, _AUDIT_STARTS) if start.startswith(starts)), ())
        first = next((line for line in plain.head.split(b"\n") if line.strip() and not line.startswith(b"-- ")), b"")
        log = _Log(self._logs, bool(starts), text.shape(text.plain(first)))
        scanner = Scanner(plain, marks, starts=starts)
        for line, number in scanner:
            self._line(line, number, log)
        if not scanner.uniform:
            self._mixed.add(log.number)
        self._numbers["broken"] += scanner.overlong

    def _entries(self, plain: Head, kind: str) -> None:
        # The form for people is a text: only its indentation separates a field from the text of another.
        log = _Log(self._logs, provable=kind != "verbose")
        for fields, number in journal.entries(io.BufferedReader(plain, CHUNK), kind):
            if fields is None:
                self._numbers["broken"] += 1
                self._mixed.add(log.number)
            else:
                self._entry(fields, number, log)

    def line(self, line: bytes, number: int | None = None, provable: bool = False) -> None:
        """Read one line without its newline. Never raises, whatever the line contains.

        ``provable``: only the kernel and the audit daemon write where the line is from.
        """
        self._numbers["bytes"] += len(line) + 1
        self._line(line, number, _Log(provable=provable))

    def _line(self, line: bytes, number: int | None, log: _Log) -> None:
        line = text.plain(line)
        start = line.lstrip(b" \x1e").removeprefix(b"data: ")
        if not start.startswith(b"{"):
            self._text(line, number, log)
            return
        try:
            fields = json.loads(start)
        except (ValueError, RecursionError):
            if b'"MESSAGE"' in line or text.suspect(line):
                self._unread("broken", line, number)
            return
        self._entry(fields, number, log, line)

    def _entry(self, fields: Mapping[str, Any], number: int | None, log: _Log, whole: bytes = b"") -> None:
        """Read an entry of the journal, or any object that was written as JSON: ``whole`` on one line."""
        entry = journal.entry(fields)
        if entry.transport is None:
            # What no journal marked is as good as a line of text.
            texts = (string.encode("utf-8", "surrogatepass").split(b"\n") for string in journal.strings(fields))
            lines = [line for several in texts for line in several if any(mark in line for mark in MARKS)]
            for line in lines:
                self._text(line, number, _Log())
            if not lines and text.suspect(whole):
                self._unread("broken", whole, number)
            return
        message = entry.message
        if message is None:
            if entry.genuine and fields.get("MESSAGE", "") is None:
                self._gaps.note(_LEFT_OUT, None, number)
            elif isinstance(fields.get("MESSAGE"), list):
                self._unread("broken", b"", number)
            return
        found = text.find(message)
        if found is None:
            self._gaps.line(message, number)
            if entry.genuine and len(message) <= text.RECORD_MAX and text.suspect(message):
                self._unread("broken", message, number)
            return
        begins = message[: found.at] in (b"", b"audit: ") and (found.stamp or entry.transport == "audit")
        if not (entry.genuine and begins):
            self._numbers["foreign"] += 1
            return
        self._record(found, found.stamp or entry.stamp, message, number, log)

    def _text(self, line: bytes, number: int | None, log: _Log) -> None:
        if len(line) > text.RECORD_MAX:
            self._gaps.line(line, number)
            if text.suspect(line):
                self._unread("broken", line, number)
            return
        found = text.find(line)
        if found is None:
            if aalog.is_line(line):
                self._record_of_aalog(line, number)
                return
            self._gaps.line(line, number)
            if text.suspect(line):
                self._unread("broken", line, number)
        elif not found.trusted or (log.shape is not None and text.shape(line) != log.shape):
            self._unread("foreign", line, number)
        else:
            direct = found.kmsg or text.is_node(line[: found.at])
            numbered = found.stamp is not None and bool(_EVENT.match(found.stamp))
            proves = log.provable and direct and numbered
            self._record(found, found.stamp, line, number, log if proves else replace(log, provable=False))

    def _record(self, found: text.Found, stamp: bytes | None, line: bytes, number: int | None, log: _Log) -> None:
        """Count a record that the log attributes to the kernel or the audit system."""
        event = _EVENT.match(stamp) if stamp else None
        if found.printed and event:
            self._gaps.printed(float(event[1]), number)
        body, pid = found.body, 0
        key: tuple[bytes, ...] = (body,)
        match = seccomp.match(body) if found.seccomp else None
        if match:
            key = match.group("comm", "exe", "arch", "syscall", "code")
            pid = int(match["pid"])
        elif not found.seccomp:
            if b"apparmor=" not in body and selinux.split(body) is None:
                return  # a record of another security module
            key = (b"kmsg" if found.kmsg else b"", _PID.sub(b"", body))
            process = _PID.search(body)
            pid = int(process[1]) if process else 0
        tally = self._tallies.get(key)
        if tally is None:
            if len(self._tallies) >= self._distinct:
                self._numbers["beyond"] += 1
                return
            tally = self._tallies[key] = _parsed(found, match)
        if isinstance(tally, str):
            if tally == "broken":
                self._unread("broken", line, number)
            elif tally != "passed":
                self._numbers[tally] += 1
            return
        time = event[1] if event else None
        if stamp and event is None and (entry := _ENTRY_TIME.match(stamp)):
            time = entry[1]
        self._count(tally, stamp if event else None, time, pid, number, log)

    def _record_of_aalog(self, line: bytes, number: int | None) -> None:
        key = (b"aa-log", line)
        tally = self._tallies.get(key)
        if tally is None:
            if len(self._tallies) >= self._distinct:
                self._numbers["beyond"] += 1
                return
            try:
                denial = apparmor.denial(aalog.values_of(line))
            except (KeyError, ValueError):
                denial = None
            tally = self._tallies[key] = _Tally(denial, hash(denial)) if denial else "broken"
        if isinstance(tally, str):
            self._unread("broken", line, number)
        else:
            self._count(tally, None, None, 0, number, _Log())

    def _records_of_tomoyo(self, plain: Head) -> None:
        log = _Log(self._logs, provable=True)
        for record, number in tomoyo.records(io.BufferedReader(plain, CHUNK)):
            if isinstance(record, bytes):
                self._unread("broken", record, number)
                self._mixed.add(log.number)
                continue
            for part, denial in enumerate(record.denials):
                key = (*record.key, b"%d" % part)
                tally = self._tallies.get(key)
                if tally is None:
                    if len(self._tallies) >= self._distinct:
                        self._numbers["beyond"] += 1
                        continue
                    tally = self._tallies[key] = _Tally(denial, hash(denial))
                if isinstance(tally, _Tally):
                    self._count(tally, None, b"%.0f" % record.time, record.pid, number, log)

    def _count(
        self, tally: _Tally, event: bytes | None, time: bytes | None, pid: int, number: int | None, log: _Log
    ) -> None:
        """Add one record to those that are like it, once for each event."""
        if log.provable:
            tally.sources.add(log.number)
        if event:
            if self._twice((event, tally.identity)):
                self._numbers["duplicates"] += 1
                return
            if len(tally.events) < EVENTS_MAX:
                tally.events.append(event.decode("ascii"))
        self._numbers["records"] += 1
        tally.count += 1
        tally.pid = tally.pid or pid or None
        if number is not None and len(tally.lines) < EVENTS_MAX:
            tally.lines.append(number)
        if time is not None:
            when = float(time)
            tally.first = when if tally.first is None else min(tally.first, when)
            tally.last = when if tally.last is None else max(tally.last, when)

    def _twice(self, event: tuple[bytes, int]) -> bool:
        if event in self._seen:
            return True
        self._seen[event] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return False

    def _unread(self, kind: str, line: bytes, number: int | None) -> None:
        """Count a line that looks like a denial, and keep it if it is one of the first. ``kind``: broken or foreign."""
        self._numbers[kind] += 1
        self._numbers["unread"] += 1
        if len(self._samples) < SAMPLES:
            shown = line if len(line) <= SAMPLE_BYTES else line[:SAMPLE_BYTES] + b"..."
            self._samples.append((number, shown.decode("utf-8", "surrogateescape")))

    @property
    def reading(self) -> Reading:
        """Return what was read so far."""
        denials = merged(
            replace(
                row.denial,
                count=row.count,
                first=row.first,
                last=row.last,
                pid=row.pid,
                events=tuple(row.events),
                lines=tuple(row.lines),
                unproven=not row.sources - self._mixed,
            )
            for row in self._tallies.values()
            if isinstance(row, _Tally) and row.count
        )
        return Reading(denials, self._gaps.all(), samples=tuple(self._samples), **self._numbers)


def _parsed(found: text.Found, match: re.Match[bytes] | None) -> _Tally | str:
    """Return the tally of a new record; a word if it is not a denial."""
    try:
        if match:
            denial: Denial | None = seccomp.denial(match, found.kmsg)
        elif found.seccomp:
            return "broken"
        elif (parts := selinux.split(found.body)) is not None:
            denied, rights, rest = parts
            denial = selinux.denial(values_of(rest, found.kmsg), denied, rights)
        else:
            denial = apparmor.denial(values_of(found.body, found.kmsg))
    except (KeyError, ValueError):
        return "broken"
    if denial is None or denial.action == "allow":
        return "passed"
    if denial.action in ("user_notif", "trace"):
        return "supervised"
    return _Tally(denial, hash(denial))
