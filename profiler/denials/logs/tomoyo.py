r"""Read TOMOYO's own log: /sys/kernel/security/tomoyo/audit, and the files of tomoyo-auditd(8).

A record has three lines: who asked, the domain, and what for. Names are words of TOMOYO's policy, so none of them holds
a newline. Source: tomoyo_init_log and tomoyo_print_header in security/tomoyo/audit.c of Linux 6.1.

::

    #2026/01/31 10:00:00# profile=1 mode=enforcing granted=no (global-pid=7) task={ pid=7 ... fsgid=0 }
    <profgen_app> /usr/bin/app
    file read /etc/shadow
"""

from __future__ import annotations

import calendar
import io
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from profiler.denials.model import Denial
from profiler.quoting.tomoyo import decoded
from profiler.trace.model import SOCKET_OPERATIONS

LINE_MAX = 1 << 16
"""Bytes of a line: a header has the arguments of an exec, up to 8 192 bytes."""

_HEADER = re.compile(
    rb"#(?P<time>\d{4}/\d\d/\d\d \d\d:\d\d:\d\d)# profile=\d{1,3} mode=(?P<mode>[a-z]{1,20}) "
    rb"granted=(?P<granted>yes|no) \(global-pid=(?P<pid>\d{1,10})\) task=\{ (?P<task>[a-z0-9= ]{1,400}) \}(?P<rest>.*)"
)
_START = re.compile(rb"[\0\s]*#\d{4}/\d\d/\d\d \d\d:\d\d:\d\d# profile=\d")
_FSUID = re.compile(rb"\bfsuid=(\d{1,10})\b")
_OWNER = re.compile(rb" path1=\{ uid=(\d{1,10}) ")
_TYPE = re.compile(rb" path1=\{ [^{}]{0,300}\btype=([a-z]{1,20})\b")
_REALPATH = re.compile(rb' exec=\{ realpath="([^" ]{1,8192})"')
_DOMAIN = re.compile(rb"<([^ <>]{1,4096})>((?: /[^ ]*)*)")

_LOCAL = {
    b"proc:": b"/proc", b"devpts:": b"/dev/pts", b"mqueue:": b"/dev/mqueue", b"debugfs:": b"/sys/kernel/debug",
    b"securityfs:": b"/sys/kernel/security", b"tracefs:": b"/sys/kernel/tracing",
}  # fmt: skip
_ACCESS = {
    "read": "read", "write": "write", "append": "append", "truncate": "truncate", "execute": "execute",
    "create": "create", "unlink": "remove", "rmdir": "remove", "chmod": "mode", "chown": "owner", "chgrp": "owner",
    "chroot": "chroot", "mkdir": "make", "mkfifo": "make", "mksock": "make", "symlink": "make", "mkchar": "make",
    "mkblock": "make",
}  # fmt: skip
_MADE = {"mkfifo": "fifo", "mksock": "socket", "symlink": "symlink", "mkchar": "char", "mkblock": "block"}
_TYPES = {
    b"file": "file",
    b"symlink": "symlink",
    b"fifo": "fifo",
    b"socket": "socket",
    b"char": "char",
    b"block": "block",
}
_MOUNTS = {"--bind": "bind", "--move": "move", "--remount": "remount"}
_PROTOCOLS = {"stream": 6, "dgram": 17}


@dataclass(frozen=True)
class Record:
    """A record. ``key``: what repetitions have in common; ``denials``: none when it was granted, two of a rename."""

    key: tuple[bytes, ...]
    denials: tuple[Denial, ...]
    time: float
    pid: int


def is_log(head: bytes) -> bool:
    """Return whether a file that begins like this is a log of TOMOYO."""
    return _START.match(head) is not None


def records(stream: io.BufferedIOBase) -> Iterator[tuple[Record | bytes, int]]:
    """Yield the records, the first line of one that cannot be read, and the number of the line where it begins."""
    lines = enumerate(iter(lambda: stream.readline(LINE_MAX), b""), start=1)
    pending: list[bytes] = []
    begun = 0
    for number, raw in lines:
        line = raw.strip(b"\0 \r\n\t")
        if line.startswith(b"#"):
            if pending:
                yield pending[0], begun
            pending, begun = [line], number
        elif line and pending:
            pending.append(line)
            if len(pending) == 3:
                yield _record(*pending), begun
                pending = []
        elif line:
            yield line, number
    if pending:
        yield pending[0], begun


def _record(header: bytes, domain: bytes, request: bytes) -> Record | bytes:
    found, place = _HEADER.fullmatch(header), _DOMAIN.fullmatch(domain)
    if found is None or place is None:
        return header
    try:
        when = float(calendar.timegm(time.strptime(found["time"].decode(), "%Y/%m/%d %H:%M:%S")))
        denials = tuple(_denials(found, place, request)) if found["granted"] == b"no" else ()
    except (ValueError, IndexError):
        return header
    key = (
        b"tomoyo",
        found["mode"],
        domain,
        request,
        *(m[1] for m in (_FSUID.search(header), _OWNER.search(header)) if m),
    )
    return Record(key, denials, when, int(found["pid"]))


def _denials(found: re.Match[bytes], place: re.Match[bytes], request: bytes) -> Iterator[Denial]:
    """Yield what was refused. Raises ValueError or IndexError for what is not a request."""
    sort, *words = request.split(b" ")
    programs = place[2].split()
    namespace = decoded(place[1])
    base = Denial(
        kind="other",
        by="tomoyo",
        refused=found["mode"] == b"enforcing",
        operation=" ".join(decoded(word) for word in (sort, *words[:1])),
        info=" ".join(map(decoded, words[1:])) or None,
        exe=decoded(programs[-1]) if programs else None,
        profile=namespace if namespace != "kernel" else decoded(place[0]),
    )
    if sort == b"network":
        yield _socket(base, [decoded(word) for word in words])
    elif sort == b"file":
        yield from _file(base, found, words[0].decode("ascii"), words[1:])
    elif sort in (b"misc", b"task"):
        yield base
    else:
        raise ValueError(sort)


def _file(base: Denial, found: re.Match[bytes], word: str, names: list[bytes]) -> Iterator[Denial]:
    task, rest = found["task"], found["rest"]
    fsuid, owner, kind = _FSUID.search(task), _OWNER.search(rest), _TYPE.search(rest)
    base = replace(
        base,
        kind="file",
        operation=word,
        info=None,
        mask=word,
        owner=fsuid[1] == owner[1] if fsuid and owner else None,
    )
    if word == "execute" and (real := _REALPATH.search(rest)):
        names = [real[1]]
    if word in ("rename", "link"):
        old, new = (_named(replace(base, owner=None), name, found) for name in names[:2])
        if word == "rename":
            yield replace(old, access=("rename_from",), owner=base.owner)
            yield replace(new, access=("rename_to",))
        else:
            yield replace(new, access=("link",), existing=old.path)
    elif word in ("mount", "unmount", "pivot_root"):
        yield _mount(base, word, [decoded(name) for name in names])
    elif word in _ACCESS:
        denial = _named(base, names[0], found)
        access = "list" if word == "read" and denial.directory else _ACCESS[word]
        sort = _MADE.get(word) or (_TYPES.get(kind[1]) if kind and word != "create" else None)
        yield replace(denial, access=(access,), file_kind=None if denial.directory else sort)
    else:
        yield replace(base, kind="other", operation=f"file {word}", info=" ".join(map(decoded, names)), mask="")


def _named(base: Denial, name: bytes, found: re.Match[bytes]) -> Denial:
    """Return the denial with the path that a name stands for."""
    prefix, colon, rest = name.partition(b":")
    whose = None
    if colon and not name.startswith(b"/"):
        if prefix + colon not in _LOCAL:
            return replace(base, path=decoded(name), info="no path leads to it")
        if prefix == b"proc" and rest.startswith(b"/self/"):
            rest, whose = b"/" + found["pid"] + rest[5:], "self"
        name = _LOCAL[prefix + colon] + rest
    path = decoded(name)
    return replace(base, path=path.rstrip("/") or "/", directory=len(path) > 1 and path.endswith("/"), whose=whose)


def _mount(base: Denial, word: str, names: list[str]) -> Denial:
    places = [name.rstrip("/") or "/" for name in names]
    base = replace(base, kind="mount", mask="", owner=None)
    if word == "unmount":
        return replace(base, operation="umount", target=places[0])
    if word == "pivot_root":
        return replace(base, operation="pivot_root", source=places[0], target=places[1])
    kind = names[2]
    if kind.startswith("--make-"):
        return replace(base, operation="propagation", target=places[1], flags=(kind.removeprefix("--make-"),))
    if kind in _MOUNTS:
        source = places[0] if kind != "--remount" else None
        return replace(base, operation=_MOUNTS[kind], source=source, target=places[1])
    return replace(base, operation="mount", source=names[0], target=places[1], filesystem=kind)


def _socket(base: Denial, words: list[str]) -> Denial:
    """Return the denial of a socket. Policies have ports of the internet, and no addresses."""
    family, sort, operation, address = words[:4]
    if operation not in SOCKET_OPERATIONS:
        raise ValueError(operation)
    base = replace(base, kind="socket", type=sort, operations=(operation,), operation=f"network {operation}", info=None)
    if family == "unix":
        name = None if address == "anonymous" else f"@{address[1:]}" if address.startswith("\0") else address
        return replace(base, family="unix", protocol=0, address=name)
    port = int(words[4])
    return replace(
        base,
        family="inet6" if ":" in address else "inet",
        protocol=port if sort == "raw" else _PROTOCOLS[sort],
        port=None if sort == "raw" else port,
    )
