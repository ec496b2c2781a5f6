"""``profgen refine``: denials of a log to a reviewable change of a policy."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from profiler.cli.options import output_format, source_file
from profiler.cli.proposals import about_proposal, addition_data
from profiler.errors import InputError, ProgramError
from profiler.quoting.text import printable
from profiler.run import reading
from profiler.wording import cause, counted, listed

if TYPE_CHECKING:
    from profiler.denials.additions import Proposal
    from profiler.denials.auditlog import Reader, Reading
    from profiler.denials.belongs import Skipped

JOURNAL_SECONDS = 600.0
"""For journalctl to read the whole journal."""
JOURNAL_FIELDS = "MESSAGE,_TRANSPORT,_AUDIT_ID,_SOURCE_REALTIME_TIMESTAMP"
NAMED = 5
"""Programs or profiles named where some were skipped."""


def _say(text: str) -> None:
    print(f"profgen: {printable(text)}", file=sys.stderr)


def _read_journal(reader: Reader) -> None:
    """What the kernel and the audit system said, from all that the journal keeps. Raises ProfgenError."""
    # --all: a long message would else be left out
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


def _read(reader: Reader, source: str) -> None:
    if source == "journal":
        _read_journal(reader)
        return
    try:
        with open(0 if source == "-" else source, "rb", buffering=0, closefd=source != "-") as stream:
            reader.read(stream)
    except OSError as error:
        name = "standard input" if source == "-" else source
        raise InputError(f"cannot read {name}: {cause(error)}") from error


def _about_log(reading: Reading) -> Iterator[str]:
    """What a reader of the result should know of the log."""
    if not reading.bytes:
        yield (
            "the log is empty: if it comes from another command, see whether that may read the kernel's log (root may)"
        )
    for gap in reading.gaps:
        lost = f" ({gap.lost} of them)" if gap.lost else ""
        where = f", line {gap.lines[0]}" if gap.lines else ""
        yield f"the log has gaps, there may be more denials: {gap.what}{lost}{where}"
    if reading.broken:
        yield f"{counted(reading.broken, 'record')} cut off or of an unknown form"
    if reading.foreign:
        yield f"{counted(reading.foreign, 'line')} with a record's text in another program's message: not believed"
    if reading.supervised:
        yield f"{counted(reading.supervised, 'call')} that seccomp left to a supervisor"
    if reading.beyond:
        yield f"{counted(reading.beyond, 'denial')} not looked at: too many different ones"


def _about_skipped(skipped: Sequence[Skipped]) -> Iterator[str]:
    for row in skipped:
        names = listed([f"{name} ({number})" for name, number in row.whose], NAMED)
        how = f" ({row.option} NAME takes them{', --any-program all' if 'does not know' in row.why else ''})"
        yield f"skipped {counted(row.count, 'denial')} {row.why}: {names}{'' if 'asked for' in row.why else how}"


def _as_data(reading: Reading, skipped: Sequence[Skipped], proposal: Proposal, change: str) -> dict[str, Any]:
    return {
        "added": [addition_data(row) for row in proposal.added],
        "refused": [addition_data(row) for row in proposal.refused],
        "unanswered": [asdict(row) for row in proposal.unanswered],
        "skipped": [{"why": row.why, "count": row.count, "whose": dict(row.whose)} for row in skipped],
        "gaps": [asdict(gap) for gap in reading.gaps],
        "log": {
            name: getattr(reading, name)
            for name in ("records", "duplicates", "broken", "foreign", "supervised", "beyond", "bytes")
        },
        "diff": change,
    }


@click.command("refine")
@click.argument("policy", type=source_file, metavar="POLICY")
@click.option(
    "--from", "sources", multiple=True, required=True, metavar="FILE|-|journal", help="A log to read. May be repeated."
)
@click.option("-o", "--output", metavar="FILE", help="Write the changed policy there.")
@click.option("--in-place", is_flag=True, help="Write the changed policy over POLICY.")
@click.option(
    "--allow-dangerous",
    multiple=True,
    metavar="ITEM",
    help="Add this although it is dangerous, by the name it is listed under.",
)
@click.option(
    "--profile",
    "profiles",
    multiple=True,
    metavar="NAME",
    help="Name of the AppArmor profile. Default: the one generated.",
)
@click.option("--comm", "comms", multiple=True, metavar="NAME", help="Only denials of processes with this name (comm).")
@click.option("--exe", "exes", multiple=True, metavar="PATH", help="Only denials of this program.")
@click.option("--any-program", is_flag=True, help="Also denials of programs that the policy does not know.")
@output_format()
def refine(
    policy: str,
    sources: tuple[str, ...],
    output: str | None,
    in_place: bool,
    allow_dangerous: tuple[str, ...],
    profiles: tuple[str, ...],
    comms: tuple[str, ...],
    exes: tuple[str, ...],
    any_program: bool,
    form: str,
) -> int:
    """Read what the kernel refused under a profile, and propose the least additions to its POLICY.

    Reads records of seccomp and AppArmor in auditd's log, the kernel's log, syslog, and the journal's text and JSON.
    Prints a change that patch(1) takes; what it comes from, what may be dangerous and is left for you to decide, and
    gaps of the log go to standard error.

    The exit status is 0 when there is nothing to add or the policy was written, 1 when something is only shown, 2 in
    trouble.

    \b
      profgen refine policy.yaml --from /var/log/audit/audit.log
      dmesg | profgen refine policy.yaml --from - --in-place
      profgen refine policy.yaml --from journal --allow-dangerous CAP_NET_ADMIN -o new.yaml
    """
    from profiler.denials.auditlog import Reader
    from profiler.denials.belongs import Wanted, split
    from profiler.denials.propose import propose
    from profiler.denials.rewrite import has_comments, rewritten, unified
    from profiler.policy.document import dumps, loads
    from profiler.targets.apparmor.naming import profile_name
    from profiler.trace.store import read_limited

    if in_place and output is not None:
        raise InputError("--in-place and -o are two places: give one")
    if sources.count("-") > 1 or len(set(sources)) != len(sources):
        raise InputError("--from names the same log twice")
    data = read_limited(policy)
    old = loads(data, policy)
    reader = Reader()
    for source in sources:
        _read(reader, source)
    reading = reader.reading
    kept, skipped = split(old, reading.denials, Wanted(profiles, comms, exes, any_program), profile_name(old))
    proposal = propose(
        old, kept, tuple(text.upper() if text.upper().startswith("CAP_") else text for text in allow_dangerous)
    )

    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{policy}: not in UTF-8") from error
    changed: str | None = text
    if proposal.added:
        changed = rewritten(text, old, proposal.policy)
        if changed is None and not has_comments(text, old):
            changed = dumps(proposal.policy)
    writes = in_place or output is not None
    notes = [
        f"read {counted(reading.records, 'denial')} of {counted(len(reading.denials), 'kind')}, "
        f"{reading.bytes / 1e6:.1f} MB of log"
    ]
    notes += [*_about_log(reading), *_about_skipped(skipped)]
    notes += about_proposal(proposal, "added" if writes and changed is not None else "to add:")
    if changed is None:
        # Comments would be lost: what profgen would write is shown against what it makes of the file without them.
        change = unified(printable(policy), dumps(old), dumps(proposal.policy))
        where = (
            "the policy has comments, and where this has to go it is not as profgen writes it: add the lines by hand"
        )
    else:
        change, where = unified(printable(policy), text, changed), ""
    sys.stdout.flush()
    if form == "json":
        from profiler.quoting.json import as_json

        print(as_json(_as_data(reading, skipped, proposal, change)))
    elif not writes or changed is None:
        sys.stdout.buffer.write(change.encode("utf-8", "backslashreplace"))
    sys.stdout.flush()
    if form != "json":
        for note in notes:
            _say(note)
    if changed is None and writes:
        raise InputError(f"nothing was written: {where}")
    if changed is not None and writes:
        _write(Path(policy if output is None else output), changed, form)
        return 0
    if where:
        _say(where)
    if not (proposal.added or proposal.refused):
        _say("nothing to add")
        return 0
    return 1


def _write(path: Path, text: str, form: str) -> None:
    from profiler.files import write_atomic

    write_atomic(path, text.encode("utf-8"))
    if form != "json":
        _say(f"wrote {path}")
        _say(f"next: profgen generate {path} -o DIR, and load the profiles again")
