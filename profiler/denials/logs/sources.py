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


def read(reader: Reader, source: str) -> None:
    """Read the log ``source``: a file, ``-`` for standard input, ``journal`` for systemd's. Raises InputError."""
    if source == "journal":
        _read_journal(reader, ["_TRANSPORT=audit", "+", "_TRANSPORT=kernel"])
        return
    name = "standard input" if source == "-" else source
    try:
        with open(0 if source == "-" else source, "rb", buffering=0, closefd=source != "-") as stream:
            status = os.fstat(stream.fileno())
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == KMSG:
                _read_kmsg(reader, stream.fileno())
            elif stat.S_ISREG(status.st_mode) and os.pread(stream.fileno(), len(JOURNAL_FILE), 0) == JOURNAL_FILE:
                _read_journal(reader, [f"--file=/proc/{os.getpid()}/fd/{stream.fileno()}"])
            else:
                with opened(stream) as plain:
                    reader.read(plain)
    except OSError as error:
        raise InputError(f"cannot read {name}: {cause(error)}") from error
    except (InputError, ProgramError) as error:
        raise InputError(f"cannot read {name}: {error}") from error


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
    try:
        with reading([*command, "--quiet", *words], JOURNAL_SECONDS) as stream:
            reader.read(stream)
    except ProgramError as error:
        raise InputError(f"{error}; give the log with --from FILE") from error
    if not reader.reading.bytes:
        # The kernel's messages at boot at least are in the journal.
        raise InputError(
            "the journal shows no kernel messages to this user: run as root, or give the log with --from FILE"
        )
