"""Where logs of denials are read: files, standard input, systemd's journal."""

from __future__ import annotations

from profiler.denials.auditlog import Reader
from profiler.errors import InputError, ProgramError
from profiler.run import reading
from profiler.wording import cause

JOURNAL_SECONDS = 600.0
"""Time limit for journalctl to print the whole journal."""
JOURNAL_FIELDS = "MESSAGE,_TRANSPORT,_AUDIT_ID,_SOURCE_REALTIME_TIMESTAMP"


def read(reader: Reader, source: str) -> None:
    """Read the log ``source``: a file, ``-`` for standard input, ``journal`` for systemd's. Raises InputError."""
    if source == "journal":
        _read_journal(reader)
        return
    try:
        with open(0 if source == "-" else source, "rb", buffering=0, closefd=source != "-") as stream:
            reader.read(stream)
    except OSError as error:
        name = "standard input" if source == "-" else source
        raise InputError(f"cannot read {name}: {cause(error)}") from error


def _read_journal(reader: Reader) -> None:
    # --all: journalctl leaves out long messages otherwise.
    words = ["journalctl", "--output=json", f"--output-fields={JOURNAL_FIELDS}", "--all", "--no-pager", "--quiet"]
    try:
        with reading([*words, "_TRANSPORT=audit", "+", "_TRANSPORT=kernel"], JOURNAL_SECONDS) as stream:
            reader.read(stream)
    except ProgramError as error:
        raise InputError(f"{error}; give the log with --from FILE") from error
    if not reader.reading.bytes:
        # The kernel's messages at boot at least are in the journal.
        raise InputError(
            "the journal shows no kernel messages to this user: run as root, or give the log with --from FILE"
        )
