"""Read denials from logs: the kernel's audit records of seccomp (type 1326) and AppArmor (type 1400).

Forms: auditd's audit.log; the kernel's own log as in dmesg(1), /dev/kmsg and syslog; journalctl(1), as text and as
JSON. Other lines are skipped. A record counts only if the kernel or the audit daemon wrote it: the same text in another
program's message is not trusted.

Sources: kernel/auditsc.c (audit_seccomp), kernel/audit.c (audit_log_untrustedstring, audit_log_lost),
security/apparmor/ (audit.c and the ``audit_cb`` functions: file.c, net.c, ipc.c, mount.c, capability.c),
lib/ratelimit.c, kernel/printk/printk.c of Linux 6.1 to 6.18; src/journal/journald-audit.c and journald-kmsg.c of
systemd 252; auditd.conf(5); and lines of booted kernels (tests/unit/denials/data).
"""

from __future__ import annotations

import json
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from profiler.denials.model import EVENTS_MAX, Denial, merged
from profiler.denials.scan import Raw, Scanner
from profiler.kernel import apparmor
from profiler.kernel.abi import ABIS, abi_of
from profiler.kernel.capabilities import CAPABILITIES
from profiler.kernel.syscalls import name_of, number_of
from profiler.targets.apparmor.rules import MOUNT_FLAGS
from profiler.trace.model import FILE_ACCESSES, SOCKET_OPERATIONS

MARKS = (b" compat=", b"apparmor=", b"audit_lost=", b" limit exceeded", b" callbacks suppressed", b" messages")
"""Every line that matters contains one of these. Only records of seccomp contain ``compat=``, in every form."""

MARKS_JSON = (b"32,99,111,109,112,97,116,61", b"97,112,112,97,114,109,111,114,61")
"""The first two marks as journalctl writes a message that is not plain text: as a list of bytes."""

DISTINCT_MAX = 10_000
"""The number of different records that are kept; a hostile log could hold any number."""

REMEMBERED = 1 << 16
"""The number of events that are remembered to recognise duplicates: one journal can hold both the kernel's log and the
audit transport."""

ACTIONS = {
    0x80000000: "kill_process", 0x00000000: "kill_thread", 0x00030000: "trap", 0x00050000: "errno",
    0x7FC00000: "user_notif", 0x7FF00000: "trace", 0x7FFC0000: "log", 0x7FFF0000: "allow",
}  # fmt: skip
"""SECCOMP_RET_* of include/uapi/linux/seccomp.h, without their data: a record does not contain the errno."""

REFUSING = frozenset({"kill_process", "kill_thread", "trap", "errno"})
"""The other actions let the call pass (log, allow) or leave it to a supervisor (user_notif, trace)."""


@dataclass(frozen=True)
class Gap:
    """A statement in the log that records are missing.

    ``lost``: how many, if stated; ``times``: how often it was stated.
    """

    what: str
    times: int
    lost: int | None
    lines: tuple[int, ...]


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
    """Lines that begin like a record but are not one: cut off, or of an unknown form."""
    foreign: int = 0
    """Lines that have the text of a record in a message of another program."""
    supervised: int = 0
    """Calls that seccomp left to a supervisor or a tracer."""
    beyond: int = 0
    """Records beyond DISTINCT_MAX different ones, counted and dropped."""
    bytes: int = 0


# --- the beginning of a record

_STAMP = rb"(?:[A-Z][a-z]{2} [ \d]\d (?:\d{4} )?\d\d:\d\d:\d\d(?:\.\d+)?|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S*)"
_BRACKETS = rb"(?:\[[^\[\]]{0,64}\]:? ?)*"
_KERNEL = _BRACKETS + rb"(?:audit: )?"
_PREFIX = re.compile(
    b"(?:"
    + b"|".join(
        (
            rb"(?:node=\S+ )?",  # auditd, with name_format
            rb"(?:<\d+>)?(?:\w+ *:\w+ *: *)?" + _KERNEL,  # dmesg, also -r, -T and -x
            rb"(?P<kmsg>\d+,\d+,\d+,[^;]{0,64};)" + _KERNEL,  # /dev/kmsg
            rb"(?:<\d+>)?(?:\d )?" + _STAMP + rb" (?:\S+ )?"  # syslog, of either sort
            rb"(?:kernel(?: \S+ \S+ \S+|:)|(?:audit|audispd|audisp-syslog|auditd)(?:\[\d+\])?:) " + _KERNEL,
        )
    )
    + rb")\Z"
)

_RECORD = re.compile(
    rb"type=(?P<type>1326|SECCOMP|1400|AVC|1107|USER_AVC|150[1-7]|APPARMOR(?:_\w+)?) "
    rb"(?:msg=)?audit\((?P<stamp>[^()]{1,64})\) ?: ?"
)
_JOURNAL_TEXT = re.compile(rb"(?P<type>SECCOMP|AVC|USER_AVC|APPARMOR(?:_\w+)?) (?=auid=|pid=|apparmor=)")
"""In journalctl's text, and in the MESSAGE of the audit transport, the type of the record comes first, and there is no
time."""

_EVENT = re.compile(rb"(\d{1,11}(?:\.\d{1,9})?):(\d{1,20})\Z")

_SECCOMP_TYPES = frozenset({b"1326", b"SECCOMP"})
_SECCOMP = re.compile(
    rb'\bpid=(?P<pid>\d{1,10}) comm=(?P<comm>"[^"]*"|[^\s"]+) exe=(?P<exe>"[^"]*"|[^\s"]+) sig=(?P<sig>\d+) '
    rb"arch=(?P<arch>\w+)"
    rb" syscall=(?P<syscall>-?\w+) compat=\d+ ip=\w+ code=(?P<code>\w+)"
)
_FIELD = re.compile(rb'([A-Za-z_]\w*)=("[^"]*"|[^\s",]*)')
_PID = re.compile(rb"\bpid=(\d{1,10})\b")

_UNTRUSTED = frozenset(
    {
        b"comm",
        b"exe",
        b"name",
        b"profile",
        b"peer",
        b"target",
        b"srcname",
        b"namespace",
        b"addr",
        b"peer_addr",
        b"info",
        b"fstype",
    }
)
"""Fields that are hexadecimal, without quotes, if they hold quotes, blanks or bytes that are not plain text
(audit_log_untrustedstring)."""
_HEX = re.compile(rb"(?:[0-9A-F]{2})+\Z")
_KMSG_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")

_GAPS: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"\baudit_lost=(\d{1,20})\b"), "audit_lost: the kernel dropped records"),
    (
        re.compile(rb"\baudit: (?:rate|backlog) limit exceeded()"),
        "audit: rate or backlog limit exceeded: the kernel dropped records",
    ),
    # All callers of printk_ratelimit() share one limit: another caller may report what audit lost.
    (
        re.compile(rb"\b(?:\w*audit\w*|show_signal\w*): (\d{1,20}) callbacks suppressed"),
        "callbacks suppressed: the kernel printed fewer records than there were",
    ),
    (
        re.compile(rb"\b(\d{1,20}) (?:printk )?messages dropped\b"),
        "messages dropped: the kernel's log was read too slowly",
    ),
    (
        re.compile(rb"\b(?:some messages lost|kmsg buffer overrun)()"),
        "messages lost: the kernel's log was read too slowly",
    ),
    (re.compile(rb"\bMissed (\d{1,20}) kernel messages\b"), "missed kernel messages: the journal read them too slowly"),
    (re.compile(rb"\bSuppressed (\d{1,20}) messages from\b"), "suppressed messages: the journal limits their rate"),
    (re.compile(rb"\b(\d{1,20}) messages lost due to rate-limiting"), "messages lost: syslog limits their rate"),
)


PRINTED_MAX, PRINTED_SECONDS = 10, 5.0
"""How many records the kernel prints on the whole machine if no audit daemon takes them (kernel.printk_ratelimit and
..._burst in sysctl/kernel.rst). It reports dropped records only when it next prints one."""
_BURST = "the kernel's limit of 10 records in 5 seconds was reached: it may have dropped records after them"


def _text(value: bytes) -> str:
    return os.fsdecode(value)


def _value(name: bytes, raw: bytes, kmsg: bool) -> str:
    if raw.startswith(b'"'):
        inner = raw[1:-1]
        if kmsg and b"\\" in inner:  # /dev/kmsg escapes backslashes and unprintable bytes (msg_add_ext_text)
            inner = _KMSG_ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), inner)
        return _text(inner)
    if name in _UNTRUSTED and _HEX.match(raw):
        # The kernel passes on only the text up to a NUL; what follows it is not part of the record.
        return _text(bytes.fromhex(raw.decode()).partition(b"\0")[0])
    return _text(raw)


def _known(text: str | None) -> str | None:
    return None if text in (None, "", "(null)", "?") else text


# --- seccomp


def _seccomp(values: Mapping[str, str]) -> Denial | None:
    """Return the denial in a record, None if it is not one. Raises ValueError or KeyError for an incomplete record."""
    arch, call = values["arch"], values["syscall"]
    if re.fullmatch(r"[0-9a-f]{1,8}", arch):
        number = int(call)
        if not -(1 << 31) <= number < 1 << 32:
            raise ValueError(call)
        try:
            abi, number = abi_of(int(arch, 16), number)
        except KeyError:
            abi = f"architecture {arch}"
        name = name_of(abi, number) if abi in ABIS else None
    else:  # as ausearch -i writes it
        abi, name = arch, call
        if abi not in ABIS or (known := number_of(abi, name)) is None:
            raise ValueError(abi)
        number = known
    code = values["code"]
    action = ACTIONS.get(int(code, 16) & 0xFFFF0000, "unknown") if code.startswith("0x") else code.replace("-", "_")
    return Denial(
        kind="syscall",
        by="seccomp",
        refused=action in REFUSING,
        action=action,
        comm=_known(values.get("comm")),
        exe=_known(values.get("exe")),
        abi=abi,
        number=number,
        name=name,
    )


# --- AppArmor

_VERDICTS = {"DENIED": True, "KILLED": True, "ALLOWED": False}
"""Refused; refused, and the process was killed; would have been refused (complain mode). AUDIT, STATUS, HINT and ERROR
are not denials."""

_FILE_OPERATIONS = frozenset(
    {"open", "file_mmap", "file_mprotect", "file_lock", "file_perm", "file_inherit", "getattr"}
)
"""Operations whose records always have a mask after the name: without one the record was cut off, as printk does at
about 1 000 bytes."""

_SOCKET_WORDS = {"getopt": "getoption", "setopt": "setoption", "getattr": "name", "setattr": "setoption"} | {
    word: word for word in SOCKET_OPERATIONS
}
_SOCKET_OPERATIONS = {
    "sendmsg": "send",
    "recvmsg": "receive",
    "getsockname": "name",
    "getpeername": "name",
    "getsockopt": "getoption",
    "setsockopt": "setoption",
    "socket_shutdown": "shutdown",
    "create": "create",
    "bind": "bind",
    "connect": "connect",
    "listen": "listen",
    "accept": "accept",
}
"""Kernels before 4.17 write no mask for sockets."""
_DEFAULT_PROTOCOLS = {("inet", "stream"): 6, ("inet", "dgram"): 17, ("inet6", "stream"): 6, ("inet6", "dgram"): 17}
"""The protocol of a socket for which 0 was requested (ip(7)). The check of socket(2) itself sees 0."""

_FLAGS_OF_MOUNTS = {word: name for name, word in MOUNT_FLAGS.items()}
_PROPAGATION = ("unbindable", "private", "slave", "shared")


def _accesses(operation: str, mask: str, directory: bool) -> tuple[str, ...]:
    words = set(apparmor.reported(operation, mask))
    if directory and "read" in words:
        words = words - {"read"} | {"list"}
    return tuple(word for word in FILE_ACCESSES if word in words)


def _mount(operation: str, values: Mapping[str, str]) -> dict[str, Any]:
    """Return the members of a Denial, in the words of MountRule."""
    name, source = values.get("name", ""), values.get("srcname")
    if operation == "pivotroot":
        return {"operation": "pivot_root", "source": _place(name), "target": None if source is None else _place(source)}
    if operation == "umount":
        return {"operation": "umount", "target": _place(name)}
    flags: set[str] = set()
    for word in re.split(r"[, ]+", values.get("flags", "")):
        plain = word.removeprefix("r") if word in {f"r{kind}" for kind in (*_PROPAGATION, "bind")} else word
        if plain in (*_PROPAGATION, "bind", "remount", "move"):
            flags |= {plain, "rec"} if plain != word else {plain}
        elif word not in ("", "rw"):
            flags.add(_FLAGS_OF_MOUNTS.get(word, re.sub(r"[^a-z0-9_]", "_", word.lower()) or "unknown"))
    kind = "mount"
    if "remount" in flags:
        kind = "remount"
    elif "bind" in flags:
        kind = "rbind" if "rec" in flags else "bind"
    elif flags & set(_PROPAGATION):
        kind = "propagation"
    elif "move" in flags:
        kind = "move"
    is_path = kind in ("bind", "rbind", "move")
    return {
        "operation": kind,
        "source": _place(source) if source is not None and is_path else source,
        "target": _place(name),
        "filesystem": _known(values.get("fstype")),
        "flags": tuple(sorted(flags)),
    }


def _place(name: str) -> str:
    return name.rstrip("/") or "/"


def _port(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and int(text[:6]) < 1 << 16 else None


def _signal(word: str) -> str:
    """Return a signal's name as a trace has it.

    AppArmor counts real-time signals from 32, as the trace does (security/apparmor/include/sig_names.h).
    """
    if word == "exists":
        return "0"
    if word == "rtmin+0":
        return "RTMIN"
    return {"stp": "TSTP"}.get(word, word.upper())


def _apparmor(values: Mapping[str, str]) -> Denial | None:
    """Return the denial in a record, None if it is not one. Raises ValueError or KeyError for an incomplete record."""
    verdict = values["apparmor"]
    if not re.fullmatch(r"[A-Z]{2,20}", verdict):
        raise ValueError(verdict)
    if verdict not in _VERDICTS:
        return None
    operation = values["operation"]
    base = Denial(
        kind="other",
        by="apparmor",
        refused=_VERDICTS[verdict],
        operation=operation,
        info=_known(values.get("info")),
        comm=_known(values.get("comm")),
        exe=_known(values.get("exe")),
        profile=_known(values.get("profile") or values.get("label")),
    )
    letters = re.sub(r"[^a-z]", "", values.get("denied_mask", values.get("requested_mask", "")))
    words = re.split(r"[, ]+", values.get("denied_mask", values.get("requested_mask", "")))
    if operation == "capable":
        name = values.get("capname")
        number = values.get("capability", "")
        if name is None and not (number.isascii() and number.isdigit() and int(number[:4]) < len(CAPABILITIES)):
            raise ValueError(number)
        return replace(base, kind="capability", capability=f"CAP_{name.upper()}" if name else CAPABILITIES[int(number)])
    if operation == "signal":
        directions = tuple(word for word in ("send", "receive") if word in words)
        return replace(
            base,
            kind="signal",
            signal=_signal(values["signal"]),
            operations=directions,
            peer=_known(values.get("peer")),
        )
    if operation == "ptrace":
        # tracedby and readby report the same from the other side, under the profile of the traced process.
        directions = tuple(word for word in ("trace", "read", "tracedby", "readby") if word in words)
        return replace(base, kind="inspection", operations=directions, peer=_known(values.get("peer")))
    if operation in ("mount", "umount", "pivotroot"):
        return replace(base, kind="mount", **_mount(operation, values))
    if operation.startswith("userns"):
        return replace(base, kind="user_namespace")
    if operation.startswith("uring"):
        return replace(base, kind="io_uring")
    if "family" in values and "name" not in values:
        kind, protocol = values.get("sock_type", "unknown"), int(values.get("protocol") or 0)
        operations = {_SOCKET_WORDS[word] for word in words if word in _SOCKET_WORDS} or {
            _SOCKET_OPERATIONS.get(operation, "create")
        }
        address = _known(values.get("peer_addr") or values.get("addr"))
        return replace(
            base,
            kind="socket",
            family=values["family"],
            type=kind,
            protocol=protocol or _DEFAULT_PROTOCOLS.get((values["family"], kind), 0),
            operations=tuple(word for word in SOCKET_OPERATIONS if word in operations),
            port=_port(values.get("lport" if "bind" in operations else "fport")),
            address=None if address == "none" else address,
        )
    if "name" in values and not letters and (operation in _FILE_OPERATIONS or apparmor.has_one_access(operation)):
        raise ValueError("no mask")
    if "name" in values and letters and values.get("class", "file") == "file":
        path = values["name"]
        directory = len(path) > 1 and path.endswith("/")
        owners = values.get("fsuid"), values.get("ouid")
        return replace(
            base,
            kind="file",
            path=_place(path) if directory else path,
            directory=directory,
            access=_accesses(operation, letters, directory or path == "/"),
            mask=letters,
            owner=None if None in owners else owners[0] == owners[1],
            existing=_known(values.get("target")) if operation == "link" else None,
        )
    return replace(base, peer=_known(values.get("peer")), path=_known(values.get("name")))


# --- lines


@dataclass
class _Tally:
    """Records that differ only in process, time and place."""

    denial: Denial
    identity: int
    count: int = 0
    first: float | None = None
    last: float | None = None
    pid: int | None = None
    events: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)


class Reader:
    """Read sources one after the other; ``reading`` is what they contained. Memory does not grow with their size."""

    def __init__(self, distinct: int = DISTINCT_MAX) -> None:
        self._tallies: dict[tuple[bytes, ...], _Tally | str] = {}
        """By the content of a record; a word if it is not a denial: ``passed``, ``broken``, ``supervised``."""
        self._distinct = distinct
        self._seen: OrderedDict[tuple[bytes, int], None] = OrderedDict()
        self._gaps: dict[str, tuple[int, int | None, list[int]]] = {}
        self._window = (0.0, 0)
        self._numbers = dict.fromkeys(
            ("records", "duplicates", "broken", "foreign", "supervised", "beyond", "bytes"), 0
        )

    def read(self, stream: Raw) -> None:
        """Read to the end. Raises OSError."""
        scanner = Scanner(stream, MARKS, marks_json=MARKS_JSON)
        for line, number in scanner:
            self.line(line, number)
        self._numbers["broken"] += scanner.overlong
        self._numbers["bytes"] += scanner.bytes

    def line(self, line: bytes, number: int | None = None) -> None:
        """Read one line without its newline. Never raises, whatever the line contains."""
        if line.lstrip(b" \x1e")[:1] == b"{":
            self._json(line.lstrip(b" \x1e"), number)
        else:
            self._message(line.rstrip(b"\r"), number, None, None)

    def _json(self, line: bytes, number: int | None) -> None:
        """Read a line of ``journalctl -o json``. Only messages of the kernel count, and the journal marks those."""
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            self._numbers["broken"] += b'"MESSAGE"' in line
            return
        if not isinstance(entry, dict):
            return
        message = entry.get("MESSAGE")
        if isinstance(message, list):
            try:
                message = bytes(message)
            except (ValueError, TypeError):
                self._numbers["broken"] += 1
                return
        elif isinstance(message, str):
            message = message.encode("utf-8", "surrogatepass")
        else:
            return
        transport = entry.get("_TRANSPORT")
        if transport not in ("kernel", "audit"):
            self._gap(message, number)
            self._numbers["foreign"] += transport is not None and bool(
                _RECORD.search(message) or _JOURNAL_TEXT.match(message)
            )
            return
        stamp = None
        time, event = entry.get("_SOURCE_REALTIME_TIMESTAMP", entry.get("__REALTIME_TIMESTAMP")), entry.get("_AUDIT_ID")
        if isinstance(time, str) and time.isascii() and time.isdigit() and len(time) < 18:
            identity = (
                event if isinstance(event, str) and event.isascii() and event.isdigit() and len(event) <= 20 else ""
            )
            stamp = f"{int(time) // 1000 / 1000:.3f}:{identity}".encode()
        self._message(message, number, stamp, transport)

    def _message(self, line: bytes, number: int | None, stamp: bytes | None, transport: str | None) -> None:
        found = _RECORD.search(line) or (_JOURNAL_TEXT.search(line))
        if found is None:
            self._gap(line, number)
            if b" compat=" in line and b"type=1326" in line:
                self._numbers["broken"] += 1
            return
        prefix = _PREFIX.match(line[: found.start()])
        journal_text = "stamp" not in found.groupdict()
        if journal_text and transport != "audit":
            # Without the beginning of a record, only what the journal marks as the audit system's counts.
            prefix = prefix if prefix and b"audit" in prefix[0] else None
        if prefix is None:
            self._numbers["foreign"] += 1
            return
        if not journal_text:
            stamp = found["stamp"]
            if found["type"].isdigit():
                self._printed(stamp, number)
        body = line[found.end() :].partition(b"\x1d")[0]  # auditd appends names after this byte (log_format = ENRICHED)
        seccomp = found["type"] in _SECCOMP_TYPES
        if not seccomp and b"apparmor=" not in body:
            return  # a record of another security module
        self._record(body, seccomp, stamp, number, bool(prefix["kmsg"]))

    def _record(self, body: bytes, seccomp: bool, stamp: bytes | None, number: int | None, kmsg: bool) -> None:
        key: tuple[bytes, ...]
        if seccomp and (found := _SECCOMP.search(body)):
            key = found.group("comm", "exe", "arch", "syscall", "code")
            pid = int(found["pid"])
        else:
            key = (b"kmsg" if kmsg else b"", _PID.sub(b"", body))
            process = _PID.search(body)
            pid = int(process[1]) if process else 0
        tally = self._tallies.get(key)
        if tally is None:
            if len(self._tallies) >= self._distinct:
                self._numbers["beyond"] += 1
                return
            tally = self._tallies[key] = self._parsed(body, seccomp, kmsg)
        if isinstance(tally, str):
            if tally != "passed":
                self._numbers[tally] += 1
            return
        event = _EVENT.match(stamp) if stamp else None
        if event and stamp and event[2]:
            if self._twice((stamp, tally.identity)):
                self._numbers["duplicates"] += 1
                return
            if len(tally.events) < EVENTS_MAX:
                tally.events.append(stamp.decode("ascii"))
        self._numbers["records"] += 1
        tally.count += 1
        tally.pid = tally.pid or pid or None
        if number is not None and len(tally.lines) < EVENTS_MAX:
            tally.lines.append(number)
        time = float(event[1]) if event else _time(stamp)
        if time is not None:
            tally.first = time if tally.first is None else min(tally.first, time)
            tally.last = time if tally.last is None else max(tally.last, time)

    def _twice(self, event: tuple[bytes, int]) -> bool:
        if event in self._seen:
            return True
        self._seen[event] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return False

    def _parsed(self, body: bytes, seccomp: bool, kmsg: bool) -> _Tally | str:
        if body.count(b'"') % 2:
            return "broken"
        values: dict[str, str] = {}
        for name, raw in _FIELD.findall(body.replace(b"msg='", b" ")):  # a user-space record quotes its content
            # The kernel writes each field once; another one after it was written by somebody else.
            values.setdefault(name.decode("ascii").lower() if name.isascii() else "", _value(name, raw, kmsg))
        parse: Callable[[Mapping[str, str]], Denial | None] = _seccomp if seccomp else _apparmor
        try:
            denial = parse(values)
        except (KeyError, ValueError):
            return "broken"
        if denial is None or denial.action == "allow":
            return "passed"
        if denial.action in ("user_notif", "trace"):
            return "supervised"
        return _Tally(denial, hash(denial))

    def _printed(self, stamp: bytes, number: int | None) -> None:
        """Notice where the kernel reached its limit of printed records."""
        event = _EVENT.match(stamp)
        if event is None:
            return
        time = float(event[1])
        begin, printed = self._window
        if not begin <= time <= begin + PRINTED_SECONDS:
            begin, printed = time, 0
        self._window = (begin, printed + 1)
        if printed + 1 == PRINTED_MAX:
            self._note_gap(_BURST, None, number)

    def _gap(self, line: bytes, number: int | None) -> None:
        for pattern, what in _GAPS:
            if found := pattern.search(line):
                self._note_gap(what, int(found[1]) if found[1] else None, number)
                return

    def _note_gap(self, what: str, lost: int | None, number: int | None) -> None:
        times, before, lines = self._gaps.get(what, (0, None, []))
        if lost is not None:
            # audit_lost counts from the start of the machine, the others since their last message.
            lost = max(before or 0, lost) if what.startswith("audit_lost") else (before or 0) + lost
        if number is not None and len(lines) < EVENTS_MAX:
            lines.append(number)
        self._gaps[what] = (times + 1, before if lost is None else lost, lines)

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
            )
            for row in self._tallies.values()
            if isinstance(row, _Tally) and row.count
        )
        gaps = tuple(Gap(what, times, lost, tuple(lines)) for what, (times, lost, lines) in self._gaps.items())
        return Reading(denials, gaps, **self._numbers)


def _time(stamp: bytes | None) -> float | None:
    """Return the time of a journal entry, which may lack a number."""
    if stamp is None or not re.fullmatch(rb"\d{1,11}\.\d{3}:", stamp):
        return None
    return float(stamp[:-1])
