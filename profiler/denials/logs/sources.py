"""Where logs of denials are read: files, standard input, the kernel's own log, systemd's journal."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from profiler.denials.logs import journal
from profiler.denials.logs.openers import opened
from profiler.denials.logs.reading import Reader
from profiler.errors import InputError, ProgramError
from profiler.run import reading
from profiler.wording import cause

JOURNAL_SECONDS = 600.0
"""Time limit for journalctl to print the whole journal."""
JOURNAL_FILE = b"LPKSHHRH"
"""How a file of the journal begins (HEADER_SIGNATURE in systemd's journal-def.h)."""

KMSG = os.makedev(1, 11)
"""The device of /dev/kmsg (Documentation/admin-guide/devices.txt)."""
KMSG_RECORD = 8192
"""No record of /dev/kmsg is longer (PRINTK_MESSAGE_MAX, 2048, before Linux 6.3 8192)."""


USUAL = ("/var/log/audit/audit.log", "journal", "/dev/kmsg")
"""Where Linux systems keep the records: auditd's log, systemd's journal, the kernel's own log (dmesg(1))."""


def read(reader: Reader, source: str) -> None:
    """Read the log ``source``: a file, ``-`` for standard input, ``journal`` for systemd's. Raises InputError."""
    if reason := _why_not(reader, source):
        advice = "; run as root, or give the log with --from FILE" if source == "journal" else ""
        raise InputError(f"cannot read {title(source)}: {reason}{advice}")


def read_usual(reader: Reader) -> tuple[tuple[str, ...], dict[str, str]]:
    """Read each of USUAL that can be read; a record that is in several counts once. Return which were read, and why the
    others were not. Raises InputError when none can be read."""
    reasons = {source: _why_not(reader, source) for source in USUAL}
    unread = {source: reason for source, reason in reasons.items() if reason is not None}
    if len(unread) == len(USUAL):
        told = "; ".join(f"{title(source)}: {reason}" for source, reason in unread.items())
        raise InputError(f"no log can be read here ({told}); run as root, or give a log with --from FILE")
    return tuple(source for source in USUAL if source not in unread), unread


def title(source: str) -> str:
    """Return a log's name for people."""
    return {"-": "standard input", "journal": "the journal"}.get(source, source)


def _why_not(reader: Reader, source: str) -> str | None:
    """Read a log. Return why it cannot be read, None when it was."""
    try:
        if source == "journal":
            _read_journal(reader, ["_TRANSPORT=audit", "+", "_TRANSPORT=kernel"])
        else:
            _read_file(reader, source)
    except OSError as error:
        return cause(error)
    except (InputError, ProgramError) as error:
        return str(error)
    return None


def _read_file(reader: Reader, source: str) -> None:
    with open(0 if source == "-" else source, "rb", buffering=0, closefd=source != "-") as stream:
        status = os.fstat(stream.fileno())
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == KMSG:
            _read_kmsg(reader, stream.fileno())
        elif stat.S_ISREG(status.st_mode) and os.pread(stream.fileno(), len(JOURNAL_FILE), 0) == JOURNAL_FILE:
            _read_journal(reader, [f"--file=/proc/{os.getpid()}/fd/{stream.fileno()}"])
        else:
            with opened(stream) as plain:
                reader.read(plain)


def kernel_records(device: int) -> Iterator[bytes | None]:
    """Yield the records that the kernel's log has now, and None where records were overwritten before they were read.

    ``device``: /dev/kmsg, not blocking. Each read(2) gives one record (Documentation/ABI/testing/dev-kmsg). Raises
    OSError.
    """
    while True:
        try:
            record = os.read(device, KMSG_RECORD)
        except BlockingIOError:
            return
        except BrokenPipeError:
            yield None
        else:
            yield record.partition(b"\n")[0]


def _read_kmsg(reader: Reader, device: int) -> None:
    os.set_blocking(device, False)
    for number, record in enumerate(kernel_records(device), start=1):
        reader.line(b"kmsg buffer overrun" if record is None else record, number, provable=True)


def _read_journal(reader: Reader, words: list[str]) -> None:
    # --all: journalctl leaves out long messages otherwise.
    command = ["journalctl", "--output=json", f"--output-fields={','.join(journal.FIELDS)}", "--all", "--no-pager"]
    before = reader.reading.bytes
    with reading([*command, "--quiet", *words], JOURNAL_SECONDS) as stream:
        reader.read(stream)
    if reader.reading.bytes == before:
        # The kernel's messages at boot at least are in the journal.
        raise InputError("it shows no kernel messages to this user")
