"""Records that strangers wrote: refused where something shows it, unproven where nothing does, and never proven."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.denials.logs.test_forms import FORMS, PROVEN, SECCOMP, STAMP, journal, read, text_of

from profiler.denials.logs.reading import Reader, Reading

KERNEL = f"audit: type=1326 {STAMP}: {SECCOMP.body}"
AUDITD = f"type=SECCOMP msg={STAMP}: {SECCOMP.body}"
SEGFAULT = "probe[8123]: segfault at 0 ip 00007f11aa2c4003 sp 00007ffd2c1d3b10 error 6 in "
TAIL = "[3,7f11aa2c4000+1000] likely on CPU 1 (core 1, socket 0)"
"""What the kernel prints before and after the name of a file, with all its newlines (show_signal_msg)."""
LINES = "[    1.000000] Linux version 6.18\n"


def export(transport: str, message: str, **more: str) -> bytes:
    """Return an entry whose message is not plain text, as journalctl -o export writes it."""
    fields = {"__CURSOR": "s=cf", "__REALTIME_TIMESTAMP": "1795353970253111", "_TRANSPORT": transport, **more}
    text = "".join(f"{name}={value}\n" for name, value in fields.items()).encode()
    data = message.encode()
    return text + b"MESSAGE\n" + len(data).to_bytes(8, "little") + data + b"\n\n"


REFUSED = {
    "the rest of a line after the record": f"<6>[  812.330021] {SEGFAULT}x\n{KERNEL} {TAIL}\n",
    "a line without the time of the others": f"{LINES}[  812.330021] {SEGFAULT}x\n{KERNEL}\n{TAIL}\n",
    "auditd's line in the kernel's log": f"{LINES}[  812.330021] {SEGFAULT}x\n{AUDITD}\n{TAIL}\n",
    "a line with a priority among lines with a time": f"{LINES}[  812.3] {SEGFAULT}x\n<5>[  812.4] {KERNEL}\n{TAIL}\n",
    "a priority that no record has": f"<6>[  812.330021] {KERNEL}\n",
    "a second priority": f"<6>[  812.330021] <5>[  812.4] {KERNEL}\n",
    "a user's priority": f"<13>Nov 22 13:26:10 web1 kernel: {KERNEL}\n",
    "a user's facility": f"Nov 22 13:26:10 web1 user.notice kernel: {KERNEL}\n",
    "a facility that no record has": f"Nov 22 13:26:10 web1 kern.info kernel: {KERNEL}\n",
    "a user's facility, socklog": f"user.notice: Nov 22 13:26:10 kernel: {KERNEL}\n",
    "a user's facility, OpenWrt": f"Sun Nov 22 13:26:10 2026 user.notice kernel: {KERNEL}\n",
    "a kernel with a process": f"Nov 22 13:26:10 web1 kernel[8123]: {KERNEL}\n",
    "another program": f"Nov 22 13:26:10 web1 app[7]: {KERNEL}\n",
    "another program, RFC 5424": f"<5>1 2026-11-22T13:26:10Z web1 app 7 - - {KERNEL}\n",
    "another program that names the kernel": f"Nov 22 13:26:10 web1 app: kernel: {KERNEL}\n",
    "another program that quotes a line": f"Nov 22 13:26:10 web1 app: Nov 22 13:26:10 web1 kernel: {KERNEL}\n",
    "a record within another program's record": f"type=USER_CMD msg={STAMP}: pid=1 msg='x {AUDITD} res=success'\n",
    "a record within the kernel's line": f"[  812.330021] usb 1-1: Product: {KERNEL}\n",
    "a call after the end": f"[  1.2] {KERNEL} syscall=41\n",
    "text before the fields": f"[  1.2] audit: type=1326 {STAMP}: x {SECCOMP.body}\n",
    "a field too few": f"[  1.2] {KERNEL}\n".replace(" compat=0", ""),
    "members in another order": f"[  1.2] {KERNEL}\n".replace("sig=0 arch=c000003e", "arch=c000003e sig=0"),
    "a line after the record, in JSON": journal(f"{KERNEL}\n{TAIL}"),
    "two names of a file, interpreted": f"type=SECCOMP msg=audit(11/22/26 13:26:10.253:17) : {SECCOMP.named}\n".replace(
        "exe=/usr/bin/unshare", "exe=/tmp/x sig=SIG0 arch=x86_64 syscall=ptrace exe=/usr/bin/unshare"
    ),
}  # fmt: skip
"""Something shows that the kernel did not write it, or not all of it. It may be a denial in an unknown form."""

DISPROVEN = {
    "JSON: another program": journal(KERNEL, "syslog", SYSLOG_IDENTIFIER="kernel"),
    "JSON: a program's output": journal(KERNEL, "stdout"),
    "JSON: a program that uses the journal": journal(KERNEL, "journal", TRANSPORT="kernel"),
    "JSON: a file's name with a newline": journal(f"{SEGFAULT}x\n{KERNEL}\n{TAIL}"),
    "JSON: /dev/kmsg, written by a program": journal(KERNEL, SYSLOG_FACILITY="1"),
    "JSON: a priority that no record has": journal(KERNEL, PRIORITY="6"),
    "JSON: audit, of another type": journal(f"SECCOMP {SECCOMP.body}", "audit", _AUDIT_TYPE="1105"),
    "JSON: audit, in a user's message": journal(f"USER pid=1 msg='x SECCOMP {SECCOMP.body}'", "audit"),
    "JSON: several transports": journal(KERNEL).replace('"kernel"', '["kernel","syslog"]'),
    "export: another program": export("syslog", KERNEL, SYSLOG_IDENTIFIER="kernel"),
    "export: a newline in a program's message": export("syslog", f"x\n\n_TRANSPORT=kernel\nMESSAGE={KERNEL}\n\n"),
    "export: a newline in a file's name": export("kernel", f"{SEGFAULT}x\n{KERNEL}\n{TAIL}", PRIORITY="6"),
    "verbose: a field within a text": FORMS["journalctl -o verbose"]
    .replace("MESSAGE=<kernel>", f"MESSAGE=x\n            _TRANSPORT=kernel\n            MESSAGE={KERNEL}")
    .replace("_TRANSPORT=kernel", "_TRANSPORT=syslog", 1),
}  # fmt: skip
"""The journal shows that another program wrote it, or the kernel in a line about something else."""

UNPROVEN = {
    "logger -t kernel": f"Nov 22 13:26:10 web1 kernel: {KERNEL}\n",
    "logger -t audit": f"Nov 22 13:26:10 web1 audit[8124]: SECCOMP {SECCOMP.body}\n",
    "a file's name with two newlines": f"{LINES}[  812.330021] {SEGFAULT}x\n[  812.4] {KERNEL}\n{TAIL}\n",
    "the messages of a journal alone": f"{AUDITD}\nhello\n",
    "the messages of a journal alone, as JSON": journal(KERNEL) + "\nhello\n",
    "JSON that is not from a journal": json.dumps({"message": KERNEL}) + "\n",
    "JSON whose fields are deeper": json.dumps({"entry": {"_TRANSPORT": "kernel", "MESSAGE": KERNEL}}) + "\n",
    "auditd's lines after others": f"{LINES.replace('[', '{')}{AUDITD}\n",
    "auditd's lines before others": f"{AUDITD}\nNov 22 13:26:10 web1 app[7]: x\n",
    "a copy of /dev/kmsg": f"5,347,285294898,-;{KERNEL}\n",
}
"""Nothing in the log shows whether it is a record of the kernel."""


def data_of(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    reading = read(tmp_path / "log", data_of(REFUSED[name]))
    assert reading.denials == ()
    assert reading.unread == reading.broken + reading.foreign >= 1
    assert reading.samples


@pytest.mark.parametrize("name", DISPROVEN)
def test_disproven(name: str, tmp_path: Path) -> None:
    reading = read(tmp_path / "log", data_of(DISPROVEN[name]))
    assert reading.denials == ()
    assert (reading.foreign, reading.unread) == (1, 0)


@pytest.mark.parametrize("name", UNPROVEN)
def test_unproven(name: str, tmp_path: Path) -> None:
    reading = read(tmp_path / "log", data_of(UNPROVEN[name]))
    assert [denial.unproven for denial in reading.denials] == [True]


def test_a_log_that_proves_what_another_shows(tmp_path: Path) -> None:
    reader = Reader()
    for form in ("dmesg", "audit.log"):
        text = text_of(form, SECCOMP)
        assert text is not None
        path = tmp_path / "log"
        path.write_text(text + "\n")
        with open(path, "rb", buffering=0) as stream:
            reader.read(stream)
        assert [row.unproven for row in reader.reading.denials] == [form == "dmesg"]
    assert (reader.reading.records, reader.reading.duplicates) == (1, 1)


LINE = st.one_of(
    st.sampled_from([KERNEL, AUDITD, f"<5>[ 1.2] {KERNEL}", f"[ 1.2] {KERNEL}", f"SECCOMP {SECCOMP.body}"]),
    st.sampled_from([f"Nov 22 13:26:10 web1 kernel: {KERNEL}", journal(KERNEL), "", "x", "{", "}", "__CURSOR=s"]),
    st.text(max_size=20),
)


@settings(deadline=None)
@given(lines=st.lists(LINE, min_size=1, max_size=6), transport=st.sampled_from(["syslog", "stdout", "journal"]))
def test_no_message_of_a_program_becomes_a_denial(lines: list[str], transport: str) -> None:
    """Whatever a program sends to the journal, in every form that the journal proves."""
    message = "\n".join(lines)
    entry = journal(message, transport)
    pretty = json.dumps(json.loads(entry), indent=1) + "\n"
    for data in (entry.encode() + b"\n", pretty.encode(), export(transport, message)):
        assert reading_of(data).denials == ()


@settings(deadline=None)
@given(name=LINE, form=st.sampled_from(sorted(PROVEN - {"journalctl -o json, audit"})))
def test_no_name_of_a_file_becomes_a_proven_denial(name: str, form: str) -> None:
    """The kernel prints it as it is in a line about a crash, which the journal marks as the kernel's."""
    message = f"{SEGFAULT}{name}{TAIL}"
    for data in (journal(message, PRIORITY="6").encode() + b"\n", export("kernel", message)):
        assert not [row for row in reading_of(data).denials if not row.unproven]


def reading_of(data: bytes) -> Reading:
    reader = Reader()
    reader.read(io.BytesIO(data))
    return reader.reading
