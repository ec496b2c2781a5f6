"""Take the record out of a line of a text log: auditd's, the kernel's, any syslog's, journalctl's.

What is before a record shows who wrote the line. Forms differ in their times, languages and hosts, so only what
matters is examined: the name of the source that is directly before the record, and that no other program's is before
that. Sources: dmesg(1), journalctl(1), RFC 3164 and RFC 5424; kernel/printk/printk.c; ausearch(8); and what rsyslog,
syslog-ng, the syslogd of busybox and OpenWrt, socklog and metalog write.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

RECORD_MAX = 1 << 14
"""The longest record: 8 970 bytes (include/uapi/linux/audit.h), what auditd appends, and what is before it."""

_RECORD = re.compile(
    rb"type=(?P<type>1326|SECCOMP|1400|AVC|1107|USER_AVC|150[1-7]|APPARMOR(?:_\w+)?) "
    rb"(?:msg=)?audit\((?P<stamp>[^()]{1,64})\) ?: ?"
)
_JOURNAL_TEXT = re.compile(rb"(?P<type>SECCOMP|AVC|USER_AVC|APPARMOR(?:_\w+)?) (?=auid=|pid=|apparmor=)")
"""In journalctl's text, and in the MESSAGE of the audit transport, the type of the record comes first, and there is no
time."""

_SUSPECT = re.compile(
    rb"type=(?:1326|SECCOMP)\b|type\W{1,4}seccomp\b|seccomp-controlled-syscall|\bcompat=[01] ip=0x"
    rb"|(?:\A|[\s,'\"])SECCOMP(?:[,:'\"]| (?:msg|auid|uid|pid|comm|syscall)\b)"
    rb"|apparmor\W{1,6}(?:DENIED|ALLOWED|KILLED)"
)
"""What only a line about a denial contains."""

_SECCOMP_TYPES = frozenset({b"1326", b"SECCOMP"})

_COLOUR = re.compile(rb"\x1b\[[0-9;]*m")
_BRACKETS = re.compile(rb"(?:(?:^|(?<=[\s>;]))\[(?!kernel\])[^\[\]]{0,64}\]:? *)+\Z")
"""The kernel's time, a caller (CONFIG_PRINTK_CALLER), structured data of RFC 5424."""
_KMSG = re.compile(rb"(\d{1,3}),\d{1,20},\d{1,20},[^;]{0,64};\Z")
_PRIORITY = re.compile(rb"<(\d{1,3})>(?:1 )?")
_TIMED = re.compile(
    rb"(?:[^\s:]+ +){0,3}(?:\S*\d\d:\d\d:\d\d\S*|\d{9,10}\.\d+|@[0-9a-f]{24})(?: (?:[A-Z]{2,5}|[+-]\d\d:?\d\d))? "
    rb"(?:std(?:out|err) [FP] )?\Z"
)
"""A time alone, before what the kernel wrote: dmesg --time-format=iso, ts(1), the logs of containers."""
_KERNEL = re.compile(rb"(?:^|(?<= ))(?:kernel:|kernel \S+ \S+(?: -)?|\[kernel\]|kern\.notice:|kern *: ?notice *:) *\Z")
_AUDIT = re.compile(rb"(?:^|(?<= ))(?:audit|auditd|audispd|audisp-syslog)(?:(?:\[\d+\])?:|(?: \S+ \S+(?: -)?)) *\Z")
_NODE = re.compile(rb"(?:node=\S+ )?\Z")
_NODE_AT_END = re.compile(rb"node=\S+ \Z")
_FACILITY = re.compile(rb"([a-z0-9]{2,8}\.(?:emerg|alert|crit|err|error|warn|warning|notice|info|debug)):?\Z")
_OTHER_PROGRAM = re.compile(rb"(?![0-9a-f.:]+\Z).*:|[^\[].*\[\d+\]", re.DOTALL)
"""A word that ends like the name of a program: ``app:``, ``app[17]``; not an address: ``172.20.0.2:``."""

_BEFORE_MAX, _HEAD_WORDS = 400, 12
"""The longest text before a record, and the most words before the name of its source."""
_KERN_NOTICE = 5
"""The priority of every record that the kernel prints: facility kern, severity notice (kauditd_printk_skb)."""


@dataclass(frozen=True)
class Found:
    """A record in a line. ``stamp``: None if there is none; ``printed``: the kernel printed it; ``kmsg``: in /dev/kmsg.

    ``at``: where it begins; ``trusted``: whether the text before it is that of the kernel or the audit system.
    """

    seccomp: bool
    stamp: bytes | None
    body: bytes
    at: int
    printed: bool
    kmsg: bool
    trusted: bool


def plain(line: bytes) -> bytes:
    """Return the line without the colours of dmesg(1) and others, and without the end of line of Windows."""
    if b"\x1b" in line:
        line = _COLOUR.sub(b"", line)
    return line.rstrip(b"\r")


def find(line: bytes) -> Found | None:
    """Return the record in the line, None if there is none."""
    found = _RECORD.search(line)
    kind = found
    if found is None:
        kind = _JOURNAL_TEXT.search(line)
    if kind is None:
        return None
    before = line[: kind.start()]
    return Found(
        kind["type"] in _SECCOMP_TYPES,
        found["stamp"] if found else None,
        line[kind.end() :],
        kind.start(),
        kind["type"].isdigit(),
        bool(_KMSG.match(before.removesuffix(b"audit: "))),
        len(before) <= _BEFORE_MAX and (kernels(before) if found else audits(before)),
    )


def is_node(before: bytes) -> bool:
    """Return whether the text before a record is what auditd's own log has there: nothing, or the name of a host."""
    return bool(_NODE.match(before))


def suspect(line: bytes) -> bool:
    """Return whether the line seems to tell of a denial."""
    return bool(_SUSPECT.search(line))


def kernels(before: bytes) -> bool:
    """Return whether the text before a record is what the kernel, or the audit daemon, has there."""
    if is_node(before):
        return True
    rest = _BRACKETS.sub(b"", _NODE_AT_END.sub(b"", before).removesuffix(b"audit: "))
    if not rest.strip() or _TIMED.match(rest):
        return True
    if found := _KMSG.match(rest):
        return int(found[1]) == _KERN_NOTICE
    if (found := _PRIORITY.fullmatch(rest)) and not rest.endswith(b" "):
        return int(found[1]) == _KERN_NOTICE
    if found := _KERNEL.search(rest):
        return _is_head(rest[: found.start()], kernel=True)
    return audits(rest)


def audits(before: bytes) -> bool:
    """Return whether the text before a record is what journalctl, or a part of auditd that writes to syslog, has
    there."""
    found = _AUDIT.search(before)
    return found is not None and _is_head(before[: found.start()], kernel=False)


def _is_head(head: bytes, kernel: bool) -> bool:
    """Return whether this is a time, a host and a priority, in any order and language, and no program's name."""
    if found := _PRIORITY.match(head):
        if kernel and int(found[1]) != _KERN_NOTICE:
            return False
        head = head[found.end() :]
    words = head.split()
    facilities = [found[1] for word in words if (found := _FACILITY.match(word))]
    return (
        len(words) <= _HEAD_WORDS
        and not any(_OTHER_PROGRAM.fullmatch(word) and not _FACILITY.match(word) for word in words)
        and (not kernel or all(word == b"kern.notice" for word in facilities))
        and (len(words) < 2 or any(48 <= byte <= 57 for byte in head))
    )


# --- the form of the lines of one log

_SHAPES = (
    (re.compile(rb"<\d{1,3}>"), "priority"),
    (re.compile(rb"\["), "brackets"),
    (re.compile(rb"\d{1,3},\d+,\d+,"), "kmsg"),
    (re.compile(rb"(?=[^\n]{0,60}\d\d:\d\d)|\d{9,10}\.\d|@[0-9a-f]{24}"), "time"),
)


def shape(line: bytes) -> str | None:
    """Return how a line begins: with a time, a priority, brackets; None without any.

    The lines of one log agree in it. A line that begins in another way may have been made by a newline in the text of
    the line before.
    """
    if is_node(line.partition(b"type=")[0]):
        return None
    return next((name for pattern, name in _SHAPES if pattern.match(line)), None)
