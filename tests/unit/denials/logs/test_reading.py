"""Records as the kernel, auditd, syslog and the journal keep them: the same denial from each, nothing from
other text, never a crash."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from unit.denials.logs.lines import read_lines
from unit.denials.logs.pieces import Pieces

from profiler.denials.logs import scan
from profiler.denials.logs.reading import MARKS, Reader, Reading
from profiler.denials.model import Denial

DATA = Path(__file__).parent / "data"
"""Lines of booted kernels: Debian's 6.1 with AppArmor, and 6.18."""

BODY = (
    'auid=4294967295 uid=0 gid=0 ses=4294967295 pid=8124 comm="unshare" exe="/usr/bin/unshare" sig=0 arch=c000003e '
    "syscall=272 compat=0 ip=0x7fb6f6e710f7 code=0x7ffc0000"
)
AA = (
    'apparmor="DENIED" operation="open" profile="web" name="/etc/x y" pid=7 comm="web" requested_mask="r" '
    'denied_mask="r" fsuid=33 ouid=0'
)
AUDIT = "audit(1795353970.253:17): "


def of(*lines: str | bytes) -> Reading:
    return read_lines(line if isinstance(line, bytes) else line.encode("utf-8", "surrogateescape") for line in lines)


def counts_nothing(line: str) -> bool:
    return replace(of(line), bytes=0) == of()


def one(*lines: str | bytes) -> Denial:
    found = of(*lines).denials
    assert len(found) == 1, found
    return found[0]


def journal(message: object, **more: object) -> str:
    return json.dumps({"__REALTIME_TIMESTAMP": "1795353970253111", "_TRANSPORT": "kernel", "MESSAGE": message, **more})


FORMS = {
    "dmesg": "[ 4557.676379] audit: type=1326 " + AUDIT + BODY,
    "dmesg, with callers": "[ 4557.676379] [   T12] audit: type=1326 " + AUDIT + BODY,
    "dmesg -r": "<5>[ 4557.676379] audit: type=1326 " + AUDIT + BODY,
    "dmesg -T": "[Sat Nov 22 13:26:10 2025] audit: type=1326 " + AUDIT + BODY,
    "dmesg -x": "kern  :notice: [ 4557.676379] audit: type=1326 " + AUDIT + BODY,
    "/dev/kmsg": "5,1234,4557676379,-;audit: type=1326 " + AUDIT + BODY,
    "syslog": "Nov 22 13:26:10 web1 kernel: [ 4557.676379] audit: type=1326 " + AUDIT + BODY,
    "syslog without time": "Nov  2 13:26:10 web1 kernel: audit: type=1326 " + AUDIT + BODY,
    "syslog, ISO times": "2025-11-22T13:26:10.253111+00:00 web1 kernel: [ 4557.676379] audit: type=1326 "
    + AUDIT
    + BODY,
    "syslog, RFC 5424": "<5>1 2025-11-22T13:26:10Z web1 kernel - - - [ 4557.676379] audit: type=1326 " + AUDIT + BODY,
    "before Linux 3.17": "[ 4557.676379] type=1326 " + AUDIT + BODY,
    "audit.log": "type=SECCOMP msg=" + AUDIT + BODY,
    "audit.log of several hosts": "node=web1 type=SECCOMP msg=" + AUDIT + BODY,
    "audit.log with labels": "type=SECCOMP msg=" + AUDIT + BODY.replace("pid=", "subj=unconfined pid="),
    "audit.log, enriched": "type=SECCOMP msg="
    + AUDIT
    + BODY
    + '\x1dAUID="unset" UID="root" GID="root" ARCH=x86_64 SYSCALL=unshare',
    "audisp": "Nov 22 13:26:10 web1 audisp-syslog[812]: type=SECCOMP msg=" + AUDIT + BODY,
    "journalctl -o json": journal("audit: type=1326 " + AUDIT + BODY),
    "journalctl -o json, as bytes": journal(list(b"audit: type=1326 " + AUDIT.encode() + BODY.encode())),
    "journalctl -o json-seq": "\x1e" + journal("audit: type=1326 " + AUDIT + BODY),
    "journalctl -o json, audit": journal(
        "SECCOMP " + BODY, _TRANSPORT="audit", _AUDIT_ID="17", _SOURCE_REALTIME_TIMESTAMP="1795353970253000"
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_line_of_each_form(form: str) -> None:
    """test_forms.py reads the forms as files."""
    reading = of(FORMS[form])
    assert [(row.name, row.comm, row.lines) for row in reading.denials] == [("unshare", "unshare", (1,))]
    assert (reading.records, reading.broken, reading.foreign) == (1, 0, 0)


def test_journalctl_as_text_has_no_times() -> None:
    denial = one("Nov 22 13:26:10 web1 audit[8124]: SECCOMP " + BODY)
    assert (denial.name, denial.first, denial.events) == ("unshare", None, ())
    assert one("Nov 22 13:26:10 web1 audit[7]: AVC " + AA).path == "/etc/x y"


@pytest.mark.parametrize(
    "line",
    [
        "Nov 22 13:26:10 web1 app[7]: audit: type=1326 " + AUDIT + BODY,
        "Nov 22 13:26:10 web1 app[7]: kernel: audit: type=1326 " + AUDIT + BODY,
        "Nov 22 13:26:10 web1 app: Nov 22 13:26:10 web1 kernel: audit: type=1326 " + AUDIT + BODY,
        "user said: type=SECCOMP msg=" + AUDIT + BODY,
        'GET /?x=" type=AVC msg=' + AUDIT + AA,
        "Nov 22 13:26:10 web1 app[7]: SECCOMP " + BODY,
        "SECCOMP " + BODY,
        journal("audit: type=1326 " + AUDIT + BODY, _TRANSPORT="syslog"),
        journal("audit: type=1326 " + AUDIT + BODY, _TRANSPORT="stdout"),
        journal("app[1]: audit: type=1326 " + AUDIT + BODY),
    ],
)
def test_a_record_in_somebody_elses_message_is_not_believed(line: str) -> None:
    reading = of(line)
    assert reading.denials == ()
    assert reading.foreign == 1


def test_fields_cannot_be_forged_from_within_a_record() -> None:
    """The kernel quotes what strangers choose; a second field of the same name comes after the real one."""
    denial = one("type=AVC msg=" + AUDIT + AA + ' name="/etc/shadow" denied_mask="w"')
    assert (denial.path, denial.access) == ("/etc/x y", ("read",))


def test_names_in_hexadecimal() -> None:
    assert one("type=AVC msg=" + AUDIT + AA.replace('"/etc/x y"', "2F6574632F7820FF0A")).path == "/etc/x \udcff\n"
    assert one("type=SECCOMP msg=" + AUDIT + BODY.replace('"unshare"', "612062")).comm == "a b"
    assert one("type=SECCOMP msg=" + AUDIT + BODY.replace('"/usr/bin/unshare"', "(null)")).exe is None
    # what stands behind a NUL is no part of the name
    assert one("type=AVC msg=" + AUDIT + AA.replace('"/etc/x y"', "2F6100622F")).path == "/a"


def test_only_dev_kmsg_escapes() -> None:
    name = AA.replace("/etc/x y", "/etc/a\\x5cb")
    assert one("5,1,2,-;audit: type=1400 " + AUDIT + name).path == "/etc/a\\b"
    assert one("type=AVC msg=" + AUDIT + name).path == "/etc/a\\x5cb"


@pytest.mark.parametrize(
    ("arch", "number", "abi", "found", "name"),
    [
        ("c000003e", 41, "x86_64", 41, "socket"),
        ("c000003e", (1 << 30) + 41, "x32", 41, "socket"),
        ("40000003", 102, "i386", 102, "socketcall"),
        ("c00000b7", 198, "aarch64", 198, "socket"),
        ("c000003e", 99999, "x86_64", 99999, None),
        ("c000003e", -1, "x86_64", (1 << 32) - 1, None),
        ("80000015", 1, "architecture 80000015", 1, None),
    ],
)
def test_architectures(arch: str, number: int, abi: str, found: int, name: str | None) -> None:
    denial = one(
        "type=SECCOMP msg=" + AUDIT + BODY.replace("c000003e", arch).replace("syscall=272", f"syscall={number}")
    )
    assert (denial.abi, denial.number, denial.name) == (abi, found, name)


@pytest.mark.parametrize(
    ("code", "action", "refused"),
    [
        ("0x50000", "errno", True),
        ("0x50026", "errno", True),
        ("0x7ffc0000", "log", False),
        ("0x80000000", "kill_process", True),
        ("0x0", "kill_thread", True),
        ("0x30000", "trap", True),
    ],
)
def test_actions(code: str, action: str, refused: bool) -> None:
    denial = one("type=SECCOMP msg=" + AUDIT + BODY.replace("0x7ffc0000", code))
    assert (denial.action, denial.refused, denial.errno) == (action, refused, None)


def test_what_is_no_denial() -> None:
    assert of("type=SECCOMP msg=" + AUDIT + BODY.replace("0x7ffc0000", "0x7fff0000")).denials == ()
    left = of("type=SECCOMP msg=" + AUDIT + BODY.replace("0x7ffc0000", "0x7fc00000"))
    assert (left.denials, left.supervised) == ((), 1)
    for verdict in ("AUDIT", "STATUS", "HINT", "ERROR"):
        assert counts_nothing("type=AVC msg=" + AUDIT + AA.replace("DENIED", verdict))
    assert of("type=AVC msg=" + AUDIT + "avc:  denied  { read } for  pid=1 scontext=a tcontext=b").denials == ()
    assert of("type=SYSCALL msg=" + AUDIT + "arch=c000003e syscall=2 success=no exit=-13 compat=0").denials == ()
    assert counts_nothing("[    0.000000] Command line: apparmor=1 security=apparmor")


def test_real_lines_of_apparmor() -> None:
    lines = (DATA / "apparmor.log").read_bytes().splitlines()
    reading = read_lines(lines)
    assert (reading.records, reading.broken) == (len(lines) - 2, 1), "all but one that printk cut, and a status"
    x = "/srv/profgen-vm-fgvh4t6x/work/x"
    seen = {
        (row.operation, row.path, row.access, row.directory)
        for row in reading.denials
        if row.kind == "file" and (row.path or "").startswith(x)
    }
    assert {
        ("open", f"{x}/f", ("read",), False),
        ("open", f"{x}/sp ace", ("read", "write", "create"), False),
        ("mknod", f"{x}/newa", ("create",), False),
        ("mkdir", f"{x}/newdir", ("make",), True),
        ("rmdir", f"{x}/dir", ("remove",), True),
        ("rename_src", f"{x}/f", ("rename_from",), False),
        ("rename_dest", f"{x}/dir", ("rename_to",), False),
        ("link", f"{x}/tmplinked", ("link",), False),
        ("symlink", f"{x}/news", ("make",), False),
        ("chmod", f"{x}/#206", ("mode",), False),
        ("chown", f"{x}/f", ("owner",), False),
        ("truncate", f"{x}/f", ("truncate",), False),
        ("file_lock", f"{x}/#206", ("lock_exclusive",), False),
        ("file_mmap", f"{x}/#206", ("read", "map"), False),
    } <= seen
    by_kind: dict[str, list[Denial]] = {}
    for row in reading.denials:
        by_kind.setdefault(row.kind, []).append(row)
    assert [row.capability for row in by_kind["capability"]] == ["CAP_NET_RAW"]
    assert {(row.family, row.type, row.protocol, row.operations) for row in by_kind["socket"]} == {
        ("unix", "stream", 0, ("create",)),
        ("inet", "stream", 6, ("send",)),
    }
    assert {(row.signal, row.operations, row.peer) for row in by_kind["signal"]} == {
        ("0", ("send",), "p"),
        ("0", ("receive",), "p"),
    }
    assert {row.operations for row in by_kind["inspection"]} == {("trace",), ("readby",)}
    assert {(row.operation, row.source, row.target, row.filesystem, row.flags) for row in by_kind["mount"]} == {
        ("bind", f"{x}/dir", f"{x}/mnt", None, ("bind",)),
        ("mount", "tmpfs", f"{x}/mnt", "tmpfs", ("nodev", "nosuid")),
        ("propagation", None, "/", None, ("private", "rec")),
        ("umount", None, f"{x}/mnt", None, ()),
        ("pivot_root", f"{x}/mnt", f"{x}/mnt/old", None, ()),
    }
    executed = next(row for row in reading.denials if row.operation == "exec")
    assert (executed.access, executed.refused, executed.path) == (("execute",), True, "/run/x/op")
    lost = next(row for row in reading.denials if row.path == "x")
    assert lost.info == "Failed name lookup - disconnected path"


def test_real_lines_of_seccomp() -> None:
    reading = read_lines((DATA / "seccomp.log").read_bytes().splitlines())
    assert {(row.abi, row.name, row.action, row.comm) for row in reading.denials} == {
        ("x86_64", "getpgid", "kill_process", "signals"),
        ("i386", "getpgid", "kill_process", "signals32"),
        ("i386", "getpid", "kill_thread", "probe"),
        ("x86_64", "close", "log", "runc:[2:INIT]"),
        ("x86_64", "getegid", "log", "unshare"),
        ("x86_64", "unshare", "log", "unshare"),
    }
    assert [(gap.times, gap.lost) for gap in reading.gaps] == [(3, 43 + 570 + 332)]


def test_real_lines_of_the_journal() -> None:
    reading = read_lines((DATA / "journal.json").read_bytes().splitlines())
    assert reading.records == 2
    assert len(reading.gaps) == 1
    assert all(row.name and row.first and row.events for row in reading.denials)


@pytest.mark.parametrize(
    ("line", "lost"),
    [
        ("[    9.1] audit: audit_lost=12 audit_rate_limit=0 audit_backlog_limit=64", 12),
        ("[    9.1] audit: rate limit exceeded", None),
        ("[    9.1] audit: backlog limit exceeded", None),
        ("[    9.1] kauditd_printk_skb: 43 callbacks suppressed", 43),
        ("[    9.1] audit_printk_skb: 5 callbacks suppressed", 5),
        ("** 77 printk messages dropped ** [    9.1] x", 77),
        ("Nov 22 13:26:10 web1 systemd-journald[9]: Missed 8 kernel messages", 8),
        ("Nov 22 13:26:10 web1 systemd-journald[9]: /dev/kmsg buffer overrun, some messages lost.", None),
        ("Nov 22 13:26:10 web1 systemd-journald[9]: Suppressed 3 messages from app.service", 3),
        (
            "Nov 22 13:26:10 web1 rsyslogd: imjournal: 900 messages lost due to rate-limiting (20000 allowed "
            "within 600 seconds)",
            900,
        ),
    ],
)
def test_gaps_are_noticed(line: str, lost: int | None) -> None:
    for reading in (of(line), read_stream(line.encode() + b"\n")):
        assert [(gap.times, gap.lost, gap.lines) for gap in reading.gaps] == [(1, lost, (1,))]


def test_a_burst_that_the_kernel_cuts_off_in_silence() -> None:
    def lines(form: str, seconds: float) -> list[str]:
        return [
            FORMS[form].replace("1795353970.253:17", f"{1795353970 + number * seconds:.3f}:{number}")
            for number in range(10)
        ]

    assert [gap.times for gap in of(*lines("dmesg", 0.1)).gaps] == [1]
    assert of(*lines("dmesg", 0.1)[1:]).gaps == ()
    assert of(*lines("dmesg", 1)).gaps == ()
    assert of(*lines("audit.log", 0.1)).gaps == (), "auditd is not limited so"


def test_other_limits_are_no_gap() -> None:
    assert of("[    9.1] net_ratelimit: 12 callbacks suppressed").gaps == ()
    assert of("Nov 22 13:26:10 web1 app[1]: 5 messages queued").gaps == ()


def test_lost_records_are_counted_from_the_start_of_the_machine() -> None:
    reading = of(*(f"audit: audit_lost={number} audit_rate_limit=0 audit_backlog_limit=64" for number in (3, 9, 9)))
    assert [(gap.times, gap.lost) for gap in reading.gaps] == [(3, 9)]


def test_the_same_event_twice_is_one() -> None:
    """One journal can contain both the kernel's log and the audit transport."""
    reading = of(FORMS["journalctl -o json"], FORMS["journalctl -o json, audit"], FORMS["audit.log"])
    assert (reading.records, reading.duplicates) == (1, 2)
    # one event may refuse two things
    other = FORMS["audit.log"].replace("syscall=272", "syscall=41")
    assert of(FORMS["audit.log"], other).records == 2


def test_alike_is_counted() -> None:
    lines = [
        FORMS["dmesg"].replace(":17)", f":{number})").replace("pid=8124", f"pid={number}") for number in range(20, 30)
    ]
    denial = one(*lines)
    assert (denial.count, denial.pid, denial.events[0], denial.lines) == (10, 20, "1795353970.253:20", (1, 2, 3))


@pytest.mark.parametrize(
    "line",
    [
        FORMS["dmesg"][:-40],
        FORMS["dmesg"][:90],
        FORMS["dmesg"].replace("syscall=272", "syscall=x"),
        FORMS["dmesg"].replace("syscall=272", "syscall=99999999999999999999"),
        "type=AVC msg=" + AUDIT + 'apparmor="DENIED"',
        "type=AVC msg=" + AUDIT + AA[: AA.index("y") + 1],
        "type=AVC msg=" + AUDIT + AA[: AA.index("pid")],
        "type=AVC msg=" + AUDIT + 'apparmor="DENIED" operation="capable" profile="p" capability=99',
        journal("x")[:-5] + " type=1326 compat=",
    ],
)
def test_half_a_record_is_counted(line: str) -> None:
    reading = of(line)
    assert (reading.denials, reading.broken) == ((), 1)


def test_different_records_have_a_limit() -> None:
    reader = Reader(distinct=10)
    for number in range(30):
        reader.line(b"type=AVC msg=" + AUDIT.encode() + AA.replace("/etc/x y", f"/f{number}").encode(), number)
    assert (len(reader.reading.denials), reader.reading.beyond) == (10, 20)


# --- the scanner


def read_stream(data: bytes, size: int = 1 << 16) -> Reading:
    reader = Reader()
    reader.read(Pieces(data, size))
    return reader.reading


LINES = st.lists(
    st.one_of(
        st.binary(max_size=40).map(lambda data: data.replace(b"\n", b"")),
        st.sampled_from([b"a mark here", b"mark", b"markmark", b"mar", b"k", b"", b"xx token mark", b"toke", b"n"]),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(lines=LINES, ends=st.booleans(), chunk=st.integers(20, 90), size=st.integers(1, 100))
@example(lines=[b"x" * 200, b"mark"], ends=True, chunk=20, size=7)
@example(lines=[b"mark" + b"x" * 200, b"mark"], ends=False, chunk=20, size=90)
def test_the_scanner_finds_what_splitting_finds(lines: list[bytes], ends: bool, chunk: int, size: int) -> None:
    marks = (b"mark", b"token")
    data = b"\n".join(lines) + (b"\n" if ends else b"")
    expected = []
    whole = data.split(b"\n")
    for number, line in enumerate(whole, start=1):
        last = number == len(whole)
        if len(line) + (not last) > chunk or (last and len(line) == chunk):
            continue  # longer than it looks at
        if line and (last or any(mark in line for mark in marks)):
            expected.append((line, number))
    found = list(scan.Scanner(Pieces(data, size), marks, chunk))
    assert [line for line, _ in found] == [line for line, _ in expected]
    if all(len(line) < chunk for line in whole):
        assert found == expected


def test_lines_longer_than_a_chunk_are_passed_over() -> None:
    data = b"x" * (3 << 20) + b" compat= \n" + FORMS["dmesg"].encode() + b"\n"
    reading = read_stream(data, 1 << 20)
    assert (reading.records, reading.broken) == (1, 1)


def test_a_log_in_pieces_and_without_an_end() -> None:
    data = "\n".join([*FORMS.values(), "noise"] * 3 + [FORMS["dmesg"][:100]]).encode()
    for size in (1, 7, 1000, 1 << 20):
        reading = read_stream(data, size)
        assert (reading.records, reading.broken) == (1, 1)


def test_bytes_as_json_are_found_in_a_stream() -> None:
    first = journal("nothing", _TRANSPORT="kernel")
    data = "\n".join([first, FORMS["journalctl -o json, as bytes"], first, ""]).encode().replace(b", ", b",")
    assert read_stream(data).records == 1


# --- hostile logs

_REAL = [*FORMS.values(), *(DATA / "apparmor.log").read_text().splitlines()]


@settings(deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=5))
def test_any_bytes(lines: list[bytes]) -> None:
    read_stream(b"\n".join(lines))
    read_lines(lines)


@settings(deadline=None)
@given(
    line=st.sampled_from(_REAL),
    cuts=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 40), st.binary(max_size=20)), max_size=4),
)
def test_any_change_of_a_record(line: str, cuts: list[tuple[int, int, bytes]]) -> None:
    data = line.encode()
    for at, length, more in cuts:
        data = data[:at] + more + data[at + length :]
    for reading in (read_lines(data.split(b"\n")), read_stream(data)):
        for denial in reading.denials:
            assert denial.count >= 1
            assert denial.kind == "syscall" or denial.by == "apparmor"


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json(value: object) -> None:
    read_lines(
        [
            json.dumps(value).encode(),
            journal(value).encode(),
            journal("SECCOMP " + BODY, _TRANSPORT="audit", _AUDIT_ID=value, _SOURCE_REALTIME_TIMESTAMP=value).encode(),
        ]
    )


def test_deep_json() -> None:
    assert of('{"MESSAGE":' + "[" * 100_000).broken == 1


def test_the_marks_are_in_every_line_that_matters() -> None:
    for name, line in FORMS.items():
        if "bytes" not in name:
            assert any(mark in line.encode() for mark in MARKS), name


@pytest.mark.parametrize(
    "line",
    [
        '{"ID":"1.2:3","SECCOMP":{"auid":0,"comm":"app","exe":"/bin/app","arch":"0xc000003e","syscall":272}}',
        '{"ID":"1.2:3","AVC":{"apparmor":"DENIED","operation":"open","profile":"web","name":"/x"}}',
        '{"sequence":7,"messages":[{"type":1326,"data":"' + BODY.replace('"', '\\"') + '"}]}',
        'I0623 1 x.go:9] "audit" logger="log-enricher" type="seccomp" executable="/bin/app" syscallName="close"',
        ",SECCOMP,11/22/26,13:26:10,17,dac-decision,unset,system,root,privileged-acct",
        "type=SECCOMP msg=audit(1795353970.253:17): auid=0",
        '[{"MESSAGE":"audit: type=1326 audit(1795353970.253:17): x"}]',
    ],
)
def test_a_form_that_is_not_read_is_counted(line: str) -> None:
    """As a line among others, and alone."""
    for data in (line, f"{line}\n", f"{line}\nx\n", f"x\n{line}\n"):
        reading = read_stream(data.encode())
        assert (reading.denials, reading.unread) == ((), 1), data


def test_what_is_no_record_is_not_counted() -> None:
    for line in (
        "Nov 22 13:26:10 web1 systemd[1]: systemd 252 running in system mode (+APPARMOR +IMA +SECCOMP +GCRYPT)",
        '{"process":{"args":["a"]},"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ERRNO"}}}',
        '[  1.2] audit: type=1400 audit(1.2:3): apparmor="STATUS" operation="profile_load" profile="x" name="y"',
        "Command line: BOOT_IMAGE=/vmlinuz apparmor=1 security=apparmor",
    ):
        assert read_stream(line.encode() + b"\n").unread == 0, line
