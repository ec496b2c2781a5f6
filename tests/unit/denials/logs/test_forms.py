"""One denial, as each kind of log has it: every form gives the same denial, as a file with other lines around it."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs import examples

from profiler.denials.logs import sources
from profiler.denials.logs.openers import opened
from profiler.denials.logs.reading import Reader, Reading


@dataclass(frozen=True)
class Record:
    """A record. ``named``: its fields as ausearch -i writes them; ``aa``: as aa-log does."""

    number: str
    type: str
    body: str
    named: str = ""
    enriched: str = ""
    aa: str = ""


TASK = "auid=4294967295 uid=0 gid=0 ses=4294967295 subj=unconfined "
SECCOMP = Record(
    "1326",
    "SECCOMP",
    TASK + 'pid=8124 comm="unshare" exe="/usr/bin/unshare" sig=0 arch=c000003e syscall=272 compat=0 ip=0x7fb6f6e710f7 '
    "code=0x7ffc0000",
    "auid=unset uid=root gid=root ses=unset subj=unconfined pid=8124 comm=unshare exe=/usr/bin/unshare sig=SIG0 "
    "arch=x86_64 syscall=unshare compat=0 ip=0x7fb6f6e710f7 code=log ",
    'AUID="unset" UID="root" GID="root" ARCH=x86_64 SYSCALL=unshare',
)
APPARMOR = Record(
    "1400",
    "AVC",
    'apparmor="DENIED" operation="open" class="file" profile="web" name="/etc/app.conf" pid=8124 comm="web" '
    'requested_mask="r" denied_mask="r" fsuid=33 ouid=0',
    enriched='FSUID="www-data" OUID="root"',
    aa="DENIED  web open /etc/app.conf comm=web requested_mask=r denied_mask=r",
)

STAMP = "audit(1795353970.253:17)"
KERNEL, AUDITD, SHORT = "<kernel>", "<auditd>", "<short>"
"""In the table: what the kernel prints, what auditd writes, and what journalctl shows of the audit transport."""


def journal(message: str, transport: str = "kernel", **more: object) -> str:
    fields = {"__CURSOR": "s=cf", "__REALTIME_TIMESTAMP": "1795353970253111", "_TRANSPORT": transport}
    fields |= {"PRIORITY": "5", "SYSLOG_FACILITY": "0"} if transport == "kernel" else {"_AUDIT_ID": "17"}
    return json.dumps({**fields, "MESSAGE": message, "_HOSTNAME": "web1", **more}, separators=(",", ":"))


VERBOSE = """\
Sun 2026-11-22 13:26:10.253111 UTC [s=cf0cc5afccea4332941e5da8e6a9a30c;i=15f;b=98;m=46;t=66;x=1c]
    _TRANSPORT=kernel
    PRIORITY=5
    SYSLOG_FACILITY=0
    MESSAGE=<kernel>
    _HOSTNAME=web1"""
EXPORT = """\
__CURSOR=s=cf;i=15f
__REALTIME_TIMESTAMP=1795353970253111
PRIORITY=5
_TRANSPORT=kernel
SYSLOG_FACILITY=0
MESSAGE=<kernel>
"""
PRETTY = """\
{
\t"MESSAGE" : "<json>",
\t"__REALTIME_TIMESTAMP" : "1795353970253111",
\t"PRIORITY" : "5",
\t"_TRANSPORT" : "kernel"
}"""
DMESG_JSON = """\
{
   "dmesg": [
      {
         "pri": 5,
         "time":    285.294898,
         "msg": "<json>"
      }
   ]
}"""

FORMS = {
    # auditd's own, and what reads it (audit 3.0.9)
    "audit.log": AUDITD,
    "audit.log, enriched": AUDITD + "\x1d<enriched>",
    "audit.log, enriched, from a terminal": AUDITD + "<enriched>",
    "audit.log of several hosts": f"node=web1 {AUDITD}",
    "ausearch": f"----\ntime->Sun Nov 22 13:26:10 2026\n{AUDITD}",
    "ausearch -i": "----\ntype=<type> msg=audit(11/22/26 13:26:10.253:17) : <named>",
    "ausearch -i, year with four digits": "type=<type> msg=audit(11/22/2026 13:26:10.253:17) : <named>",
    "audisp-syslog": f"Nov 22 13:26:10 web1 audisp-syslog[812]: {AUDITD}",
    "audisp-syslog, rsyslog": f"2026-11-22T13:26:10.2+00:00 web1 audisp-syslog: {AUDITD}#035<enriched>",
    "audispd": f"Nov 22 13:26:10 web1 audispd: node=web1 {AUDITD}",
    # the kernel's log (util-linux 2.38, busybox 1.35)
    "dmesg": f"[  285.294898] {KERNEL}",
    "dmesg, with callers": f"[  285.294898] [   T12] {KERNEL}",
    "dmesg -r": f"<5>[  285.294898] {KERNEL}",
    "dmesg -T": f"[Sun Nov 22 13:26:10 2026] {KERNEL}",
    "dmesg -x": f"kern  :notice: [  285.294898] {KERNEL}",
    "dmesg -xT": f"kern  :notice: [Sun Nov 22 13:26:10 2026] {KERNEL}",
    "dmesg -d": f"[  285.294898 <   35.926901>] {KERNEL}",
    "dmesg -e": f"[Nov22 13:26] {KERNEL}",
    "dmesg -e, the next line": f"[ +35.926901] {KERNEL}",
    "dmesg --time-format=iso": f"2026-11-22T13:26:10,294898+00:00 {KERNEL}",
    "dmesg -t": KERNEL,
    "dmesg -H, coloured": f"\x1b[32m[ +35.926901] \x1b[0m\x1b[33maudit: \x1b[0m{KERNEL}".replace(
        "audit: \x1b[0m<", "<"
    ),
    "dmesg --json": DMESG_JSON,
    "a copy of /dev/kmsg": f"5,347,285294898,-;{KERNEL}",
    "before Linux 3.17": f"[  285.294898] {KERNEL}".replace(KERNEL, "type=<number> <stamp>: <body>"),
    "dmesg, ts": f"Nov 22 13:26:10 [  285.294898] {KERNEL}",
    "dmesg, in a container": f"2026-11-22T13:26:10.253111222Z stdout F [  285.294898] {KERNEL}",
    "dmesg, multilog": f"@400000006921b3021b4d3c4c <5>[  285.294898] {KERNEL}".replace("<5>", ""),
    "talosctl dmesg": f"172.20.0.2: kern: notice: [2026-11-22T13:26:10.253Z]: {KERNEL}",
    # syslog
    "RFC 3164": f"Nov 22 13:26:10 web1 kernel: [  285.294898] {KERNEL}",
    "RFC 3164, without the kernel's time": f"Nov  2 13:26:10 web1 kernel: {KERNEL}",
    "RFC 3164, with a priority": f"<5>Nov 22 13:26:10 web1 kernel: [  285.294898] {KERNEL}",
    "RFC 3164, with a zone": f"Nov 22 13:26:10 CEST web1 kernel: {KERNEL}",
    "RFC 3164, the message alone": f" {KERNEL}",
    "RFC 3164, without a time": f"web kernel: {KERNEL}",
    "RFC 3164, through a relay": f"Nov 22 13:26:12 loghost 2026-11-22T13:26:10Z web1 kernel: {KERNEL}",
    "RFC 3164, with a year": f"Nov 22 2026 13:26:10 web1 kernel: {KERNEL}",
    "RFC 5424": f"<5>1 2026-11-22T13:26:10.253Z web1 kernel - - - [  285.294898] {KERNEL}",
    "RFC 5424, rsyslog": f"<5>1 2026-11-22T13:26:10.253111+00:00 web1 kernel - - -  {KERNEL}",
    "RFC 5424, with data": f'<5>1 2026-11-22T13:26:10Z web1 kernel - - [meta sequenceId="3"] {KERNEL}',
    "rsyslog": f"2026-11-22T13:26:10.253111+00:00 web1 kernel: [  285.294898] {KERNEL}",
    "an address for a host": f"2026-11-22T13:26:10.253111+00:00 fe80::5054:ff:fe12 kernel: {KERNEL}",
    "busybox syslogd": f"Nov 22 13:26:10 web1 kern.notice kernel: [  285.294898] {KERNEL}",
    "OpenWrt logread": f"Sun Nov 22 13:26:10 2026 kern.notice kernel: [  285.294898] {KERNEL}",
    "socklog": f"@400000006921b3021b4d3c4c kern.notice: [  285.294898] {KERNEL}",
    "socklog, svlogd -tt": f"2026-11-22_13:26:10.25311 kern.notice: [  285.294898] {KERNEL}",
    "socklog, with klogd": f"kern.notice: Nov 22 13:26:10 kernel: [  285.294898] {KERNEL}",
    "metalog": f"Nov 22 13:26:10 [kernel] [  285.294898] {KERNEL}",
    "end of line of Windows": f"Nov 22 13:26:10 web1 kernel: {KERNEL}\r",
    # the journal (systemd 252)
    "journalctl": f"Nov 22 13:26:10 web1 kernel: {KERNEL}",
    "journalctl, audit": f"Nov 22 13:26:10 web1 audit[8124]: {SHORT}",
    "journalctl, Dutch": f"nov 22 13:26:10 web1 kernel: {KERNEL}",
    "journalctl, French": f"déc. 22 13:26:10 web1 audit[8124]: {SHORT}",
    "journalctl, German": f"Mär 22 13:26:10 web1 kernel: {KERNEL}",
    "journalctl, Japanese": f"11月 22 13:26:10 web1 kernel: {KERNEL}",
    "journalctl, Russian": f"ноя 22 13:26:10 web1 audit: {SHORT}",
    "journalctl --no-hostname": f"Nov 22 13:26:10 kernel: {KERNEL}",
    "journalctl -o short-full": f"Sun 2026-11-22 13:26:10 CEST web1 kernel: {KERNEL}",
    "journalctl -o short-iso": f"2026-11-22T13:26:10+0100 web1 kernel: {KERNEL}",
    "journalctl -o short-precise": f"Nov 22 13:26:10.253111 web1 kernel: {KERNEL}",
    "journalctl -o short-unix": f"1795353970.253111 web1 kernel: {KERNEL}",
    "journalctl -o short-monotonic": f"[  285.294898] web1 kernel: {KERNEL}",
    "journalctl -o short-delta": f"[  285.294898 <   35.926901 >] web1 kernel: {KERNEL}",
    "journalctl -o with-unit": f"Sun 2026-11-22 13:26:10 UTC web1 audit[8124]: {SHORT}",
    "journalctl -o cat": KERNEL,
    "journalctl -o verbose": VERBOSE,
    "journalctl -o export": EXPORT,
    "journalctl -o json": "<journal>",
    "journalctl -o json, audit": "<journal audit>",
    "journalctl -o json, as bytes": "<journal bytes>",
    "journalctl -o json-seq": "\x1e<journal>",
    "journalctl -o json-sse": "data: <journal>\n",
    "journalctl -o json-pretty": PRETTY,
    # other containers of lines
    "json-file of Docker": '{"log":"[  285.294898] <json>\\n","stream":"stdout","time":"2026-11-22T13:26:10Z"}',
    "Cloud Logging": '{"insertId":"x","jsonPayload":{"MESSAGE":"<json>"},"logName":"projects/p/logs/l"}',
    "a beat": '{"@timestamp":"2026-11-22T13:26:10Z","message":"<json auditd>","input":{"type":"log"}}',
    "aa-log": "<aa>",
    "aa-log, coloured": "\x1b[1;31m<aa>",
}
"""A line or an entry of each form."""

PROVEN = {
    "audit.log",
    "audit.log, enriched",
    "audit.log, enriched, from a terminal",
    "audit.log of several hosts",
    "journalctl -o export",
    "journalctl -o json",
    "journalctl -o json, audit",
    "journalctl -o json, as bytes",
    "journalctl -o json-seq",
    "journalctl -o json-sse",
    "journalctl -o json-pretty",
}
"""Those into which only the kernel and the audit system write such a record."""

NO_EVENT = {name for name, text in FORMS.items() if any(part in text for part in (SHORT, "<named>", "<aa>"))}
"""Those that do not tell the record's number."""


def text_of(form: str, record: Record) -> str | None:
    """Return the record in this form, None if the form does not exist for it."""
    kernel = f"audit: type={record.number} {STAMP}: {record.body}"
    parts = {
        "kernel": kernel,
        "auditd": f"type={record.type} msg={STAMP}: {record.body}",
        "short": f"{record.type} {record.body}",
        "json": json.dumps(kernel)[1:-1],
        "json auditd": json.dumps(f"type={record.type} msg={STAMP}: {record.body}")[1:-1],
        "journal": journal(kernel),
        "journal audit": journal(f"{record.type} {record.body}", "audit", _AUDIT_TYPE=record.number),
        "journal bytes": json.dumps({"MESSAGE": list(kernel.encode()), "_TRANSPORT": "kernel"}, separators=(",", ":")),
        "stamp": STAMP,
        **vars(record),
    }
    text = FORMS[form]
    for name, value in parts.items():
        if f"<{name}>" in text and not value:
            return None
        text = text.replace(f"<{name}>", value)
    return text


def read(path: Path, data: bytes) -> Reading:
    path.write_bytes(data)
    reader = Reader()
    sources.read(reader, str(path))
    return reader.reading


def check(reading: Reading, form: str, record: Record) -> None:
    assert (reading.records, reading.broken, reading.foreign, reading.unread) == (1, 0, 0, 0), reading.samples
    (denial,) = reading.denials
    if record is SECCOMP:
        assert (denial.kind, denial.by, denial.refused, denial.action) == ("syscall", "seccomp", False, "log")
        assert (denial.comm, denial.exe, denial.abi, denial.number, denial.name) == (
            "unshare", "/usr/bin/unshare", "x86_64", 272, "unshare",
        )  # fmt: skip
    else:
        assert (denial.kind, denial.by, denial.refused, denial.operation) == ("file", "apparmor", True, "open")
        assert (denial.path, denial.access, denial.owner) == ("/etc/app.conf", ("read",), False)
        assert (denial.profile, denial.comm) == ("web", "web")
    assert denial.unproven == (form not in PROVEN)
    if form not in NO_EVENT and form != "journalctl -o json, as bytes":
        assert denial.events == ("1795353970.253:17",)
        assert denial.first == denial.last == 1795353970.253


@pytest.mark.parametrize("record", [SECCOMP, APPARMOR], ids=lambda record: record.type)
@pytest.mark.parametrize("form", FORMS)
def test_every_form(form: str, record: Record, tmp_path: Path) -> None:
    text = text_of(form, record)
    if text is None:
        return  # no such form of this record
    check(read(tmp_path / "log", text.encode() + b"\n"), form, record)


def test_there_are_many_forms() -> None:
    assert sum(text_of(form, SECCOMP) is not None for form in FORMS) >= 60


WRAPPERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "gzip twice": lambda data: gzip.compress(gzip.compress(data)),
    "gzip of two parts": lambda data: gzip.compress(data[:40]) + gzip.compress(data[40:]),
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "UTF-8 with a mark": lambda data: b"\xef\xbb\xbf" + data,
    "UTF-16, little": lambda data: data.decode().encode("utf-16"),
    "UTF-16, big": lambda data: b"\xfe\xff" + data.decode().encode("utf-16-be"),
    "UTF-16 without a mark": lambda data: data.decode().encode("utf-16-le"),
    "UTF-32": lambda data: data.decode().encode("utf-32"),
    "UTF-16 in gzip": lambda data: gzip.compress(data.decode().encode("utf-16")),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("form", ["dmesg", "audit.log", "journalctl -o export", "journalctl -o json"])
def test_every_compression_and_encoding(wrapper: str, form: str, tmp_path: Path) -> None:
    text = text_of(form, SECCOMP)
    assert text is not None
    check(read(tmp_path / "log", WRAPPERS[wrapper](text.encode() + b"\n")), form, SECCOMP)


@pytest.mark.parametrize("program", ["zstd", "lz4"])
def test_compressions_that_need_a_program(program: str, tmp_path: Path) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    text = text_of("dmesg", SECCOMP)
    assert text is not None
    data = subprocess.run(
        [program, "-cq"], input=text.encode() + b"\n", stdout=subprocess.PIPE, check=True, timeout=60
    ).stdout
    check(read(tmp_path / "log", data), "dmesg", SECCOMP)


TEXTS = [text for form in FORMS for record in (SECCOMP, APPARMOR) if (text := text_of(form, record)) is not None]


@settings(deadline=None, max_examples=examples(300))
@given(
    texts=st.lists(st.sampled_from(TEXTS), min_size=1, max_size=4),
    cuts=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 60), st.binary(max_size=12)), max_size=4),
    encoding=st.sampled_from(["UTF-8 with a mark", "UTF-16, little", "UTF-16 without a mark", None]),
    compression=st.sampled_from(["gzip", "xz", "bzip2", None, None, None]),
)
def test_any_change_of_a_log(
    texts: list[str], cuts: list[tuple[int, int, bytes]], encoding: str | None, compression: str | None
) -> None:
    """test_openers.py damages what is compressed."""
    data = "\n".join([*texts, ""]).encode()
    data = data if encoding is None else WRAPPERS[encoding](data)
    for at, length, more in cuts:
        data = data[:at] + more + data[at + length :]
    data = data if compression is None else WRAPPERS[compression](data)
    reader = Reader()
    with opened(io.BytesIO(data)) as plain:
        reader.read(plain)
    reading = reader.reading
    assert reading.unread <= reading.broken + reading.foreign
    assert len(reading.samples) == min(3, reading.unread)
    for denial in reading.denials:
        assert denial.count >= 1
        assert denial.kind == "syscall" or denial.by == "apparmor"
