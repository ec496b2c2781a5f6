"""Where logs are read."""

from __future__ import annotations

from pathlib import Path

import pytest
from executables import write_program

from profiler.denials.logs import sources
from profiler.denials.logs.reading import Reader
from profiler.errors import InputError

RECORD = (
    'type=SECCOMP msg=audit(1795368446.262:1133): auid=0 uid=0 gid=0 ses=1 pid=7 comm="app" exe="/bin/app" sig=0 '
    "arch=c000003e syscall=116 compat=0 ip=0x7f code=0x50000\n"
)


def test_a_file(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_text(RECORD)
    reader = Reader()
    sources.read(reader, str(log))
    assert [row.name for row in reader.reading.denials] == ["setgroups"]
    assert reader.reading.bytes == len(RECORD)


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_file_that_cannot_be_read(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="cannot read"):
        sources.read(Reader(), name)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo broken >&2; exit 1", r"journalctl failed: broken; run as root, or give the log with --from FILE"),
        ("exit 0", "shows no kernel messages to this user"),
    ],
)
def test_a_journal_that_cannot_be_read(
    script: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_program(tmp_path / "journalctl", f"#!/bin/sh\n{script}\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(InputError, match=reason):
        sources.read(Reader(), "journal")


def test_a_journal_that_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_program(tmp_path / "journalctl", "#!/bin/sh\nexec sleep 600\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(sources, "JOURNAL_SECONDS", 0.1)
    with pytest.raises(InputError, match=r"journalctl did not end within 0.1s; run as root"):
        sources.read(Reader(), "journal")


def test_no_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="cannot execute journalctl"):
        sources.read(Reader(), "journal")


def test_records_that_the_kernel_overwrote(monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/kmsg gives EPIPE once for them."""
    answers: list[bytes | OSError] = [
        b"6,1,2,-;one\n SUBSYSTEM=pci\n",
        BrokenPipeError(),
        b"6,9,2,-;two\n",
        BlockingIOError(),
    ]

    def read(device: int, size: int) -> bytes:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(sources.os, "read", read)
    assert list(sources.kernel_records(7)) == [b"6,1,2,-;one", None, b"6,9,2,-;two"]


def test_a_file_of_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "system.journal").write_bytes(sources.JOURNAL_FILE + bytes(100))
    entry = '{"_TRANSPORT":"kernel","MESSAGE":"audit: ' + RECORD.strip().replace('"', '\\"') + '"}'
    entry = entry.replace("type=SECCOMP msg=", "type=1326 ")
    write_program(tmp_path / "journalctl", f"#!/bin/sh\necho \"$@\" >{tmp_path}/words\ncat <<'E'\n{entry}\nE\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    reader = Reader()
    sources.read(reader, str(tmp_path / "system.journal"))
    assert [(row.name, row.unproven) for row in reader.reading.denials] == [("setgroups", False)]
    assert "--file=/proc/" in (tmp_path / "words").read_text()


@pytest.mark.parametrize(
    ("data", "reason"), [(b"PK\x03\x04", "a zip archive; unpack it first"), (b"\x1f\x8b\x08", "end early")]
)
def test_a_file_that_is_not_a_log(data: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(data)
    with pytest.raises(InputError, match=f"cannot read .*log: .*{reason}"):
        sources.read(Reader(), str(tmp_path / "log"))


def test_the_usual_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each that can be read; a record in two of them counts once."""
    (tmp_path / "audit.log").write_text(RECORD)
    entry = '{"_TRANSPORT":"audit","_AUDIT_TYPE":"1326","MESSAGE":"' + RECORD.strip().replace('"', '\\"') + '"}'
    write_program(tmp_path / "journalctl", f"#!/bin/sh\ncat <<'E'\n{entry}\nE\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(sources, "USUAL", (str(tmp_path / "audit.log"), "journal", str(tmp_path / "kmsg")))
    reader = Reader()
    read, unread = sources.read_usual(reader)
    assert [sources.title(source) for source in read] == [str(tmp_path / "audit.log"), "the journal"]
    assert unread == {str(tmp_path / "kmsg"): "no such file or directory"}
    assert [(row.name, row.count) for row in reader.reading.denials] == [("setgroups", 1)]


def test_no_log_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sources, "USUAL", (str(tmp_path / "audit.log"), "journal"))
    with pytest.raises(InputError, match=r"audit\.log: no such file .*; the journal: cannot execute .*--from FILE"):
        sources.read_usual(Reader())
