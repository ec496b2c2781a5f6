"""``profgen refine``: denials of a log to a reviewable change of a policy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from profiler.cli.options import coloured, grouped, output_file, output_format, source_file
from profiler.cli.proposals import about_proposal, addition_data
from profiler.cli.results import FORMATS, show
from profiler.cli.terminal import emit, in_colours, say
from profiler.errors import InputError
from profiler.files import STANDARD_OUTPUT, refuse_to_replace
from profiler.policy.directory import default_directory
from profiler.quoting.shell import profgen
from profiler.quoting.text import printable, quoted
from profiler.style import Style
from profiler.wording import counted, listed, size
from profiler.wording import grouped as digits

if TYPE_CHECKING:
    from profiler.denials.additions import Proposal
    from profiler.denials.belongs import Skipped
    from profiler.denials.logs.reading import Reading

NAMED = 5
"""Programs or profiles named in a line about skipped denials."""


@dataclass(frozen=True)
class LogOptions:
    """Which logs to read, and which of their denials to take."""

    sources: tuple[str, ...]
    profiles: tuple[str, ...]
    comms: tuple[str, ...]
    exes: tuple[str, ...]
    any_program: bool
    trust_text: bool


@dataclass(frozen=True)
class _Change:
    """What is found. ``new``: the text of the policy with the additions; ``diff``: the change that makes it."""

    reading: Reading
    skipped: Sequence[Skipped]
    proposal: Proposal
    new: str
    diff: str
    content: bytes
    """The policy's file as it was read."""

    @property
    def unproven(self) -> int:
        """The number of additions for which a denial is not proven."""
        return sum(any(denial.unproven for denial in row.denials) for row in self.proposal.added)


@click.command("refine")
@click.argument("policy", type=source_file, metavar="POLICY|DIR")
@grouped(
    LogOptions,
    "logs",
    click.option(
        "--from",
        "sources",
        multiple=True,
        metavar="FILE|-|journal",
        help="Log to read, in any form, compressed or not; /dev/kmsg is the kernel's own. Can be repeated.  [default: "
        "/var/log/audit/audit.log, the journal and /dev/kmsg, as far as they can be read]",
    ),
    click.option(
        "--profile",
        "profiles",
        multiple=True,
        metavar="NAME",
        help="Name of the AppArmor profile, SELinux type or TOMOYO namespace.  [default: the generated one's]",
    ),
    click.option(
        "--comm", "comms", multiple=True, metavar="NAME", help="Only denials of processes with this name (comm)."
    ),
    click.option("--exe", "exes", multiple=True, metavar="PATH", help="Only denials of this program."),
    click.option("--any-program", is_flag=True, help="Include denials of programs that the policy does not know."),
    click.option(
        "--trust-text", is_flag=True, help="Write what only text logs hold, into which any local user can write."
    ),
)
@click.option(
    "-o",
    "--output",
    type=output_file,
    metavar="FILE",
    help="Write the changed policy to a file; - for standard output.",
)
@click.option("-i", "--in-place", is_flag=True, help="Write the changed policy over POLICY.")
@click.option(
    "--allow-dangerous",
    multiple=True,
    metavar="ITEM",
    help="Add a dangerous item, by the name under which it is listed. Can be repeated.",
)
@click.option("--review", is_flag=True, help="Decide on each addition at the terminal, then write POLICY, or -o FILE.")
@output_format(*FORMATS)
@coloured()
def refine(
    policy: str,
    logs: LogOptions,
    output: str | None,
    in_place: bool,
    allow_dangerous: tuple[str, ...],
    review: bool,
    form: str,
    style: Style,
) -> int:
    """Read what the kernel refused under a profile, and propose the least additions to its POLICY.

    Reads records of seccomp, AppArmor and SELinux in auditd's log, the kernel's log, syslog, and the journal's text and
    JSON, and TOMOYO's own log.
    Prints a change for patch(1) on standard output. Where it comes from, what may be dangerous and is left to you, and
    gaps of the log are printed on standard error.

    Any local user can write lines into a text log. What only text logs hold is marked as unproven, and is written to a
    policy only with --trust-text. auditd's audit.log, the journal and its JSON, and /dev/kmsg prove who wrote a record.

    With --review each addition is shown with its evidence and risk, and is taken, made narrower or wider, or left out,
    with the keys of git add -p. Dangerous and unproven ones are part of the review.

    The exit status is 0 when there is nothing to add, or the policy was written or reviewed; 1 when a change is only
    shown, or when a line looks like a denial and was not understood; 2 in trouble.

    \b
      profgen refine app.profile
      profgen refine app.profile --from /var/log/audit/audit.log --in-place
      profgen refine app.profile --allow-dangerous CAP_NET_ADMIN -o new.yaml
      profgen refine app.profile --review
    """
    if in_place and output is not None:
        raise InputError("--in-place and -o name two places: give one of them")
    if form != "text" and output == str(STANDARD_OUTPUT):
        raise click.UsageError(f"--format {form} and -o - both print on standard output; give a file with -o")
    if logs.sources.count("-") > 1 or len(set(logs.sources)) != len(logs.sources):
        raise InputError("--from names the same log twice")
    if output is not None:
        refuse_to_replace(output, logs.sources)
    if review:
        return _review(policy, logs, output, allow_dangerous, form)
    found = _change(policy, logs, allow_dangerous)
    writes = in_place or output is not None
    distrusted = 0 if logs.trust_text else found.unproven
    _show(policy, found, form, style, writes=writes, written=writes and not distrusted)
    if writes and distrusted:
        raise InputError(
            f"nothing is written, because {counted(distrusted, 'entry', 'entries')} would rest on text logs alone; "
            "read a log that proves them, or give --trust-text"
        )
    if writes:
        _write(Path(policy if output is None else output), found.new, form)
    elif found.proposal.added or found.proposal.refused:
        return 1
    elif not found.reading.unread:
        say("nothing to add")
    return 1 if found.reading.unread else 0


def _show(policy: str, found: _Change, form: str, style: Style, *, writes: bool, written: bool) -> None:
    """Print the report. ``writes``: the policy is to be written; ``written``: and will be."""
    if form != "text":
        from profiler.cli.refine_report import report

        show(report(policy, found.content, found.proposal, found.reading, written, _as_data(found)), form)
        return
    if not writes:
        emit(in_colours(found.diff, style))
    for note in _notes(found, written):
        say(note)
    if found.unproven:
        say(_about_proof(policy, found.unproven))


def _review(policy: str, logs: LogOptions, output: str | None, allow: tuple[str, ...], form: str) -> int:
    """Review what the logs ask for, and write what was taken. Raises ProfgenError."""
    from profiler.cli import reviewing
    from profiler.cli.refine_review import Denials
    from profiler.policy.directory import evidence
    from profiler.policy.document import loads
    from profiler.policy.editing import comments, decoded, with_comments
    from profiler.review.stepwise import Changes

    if form != "text":
        raise InputError(f"--review asks a person, and --format {form} is for programs: give one of them")
    if policy == "/dev/stdin" and output is None:
        raise InputError("--review cannot write over standard input: give -o FILE")
    terminal = reviewing.terminal("-" in logs.sources or policy == "/dev/stdin")
    found = _change(policy, logs, allow, review=True)
    for note in _notes(replace(found, proposal=replace(found.proposal, added=(), refused=())), False):
        say(note)
    changes = Changes(loads(found.content, policy), found.proposal.policy, evidence(policy))
    if not changes.choices:
        say("nothing to add")
        return 1 if found.reading.unread else 0
    outcome = reviewing.review(changes, terminal, Denials(found.proposal, allow))
    say(outcome.words)
    if outcome.policy is None:
        say(f"{policy} stays as it was")
    else:
        text = with_comments(outcome.policy, comments(decoded(found.content, policy)))
        _write(Path(policy if output is None else output), text, form)
    return 1 if found.reading.unread else 0


def _change(path: str, logs: LogOptions, allow_dangerous: tuple[str, ...], review: bool = False) -> _Change:
    """Read the logs and propose additions to the policy; for a ``review``, dangerous ones too. Raises ProfgenError."""
    from profiler.denials.belongs import Wanted, split
    from profiler.denials.logs import sources
    from profiler.denials.logs.reading import Reader
    from profiler.denials.propose import propose
    from profiler.policy.document import loads
    from profiler.policy.editing import comments, decoded, unified, with_comments
    from profiler.targets.apparmor.naming import profile_name
    from profiler.targets.selinux.target import module_name
    from profiler.targets.tomoyo.target import namespace_name
    from profiler.trace.store import read_limited

    data = read_limited(path)
    old = loads(data, path)
    reader = Reader()
    for source in logs.sources:
        sources.read(reader, source)
    if not logs.sources:
        read, unread = sources.read_usual(reader)
        reasons = "".join(f"; not {sources.title(source)}: {reason}" for source, reason in unread.items())
        say(f"read {' and '.join(map(sources.title, read))}{reasons}")
    wanted = Wanted(logs.profiles, logs.comms, logs.exes, logs.any_program)
    names = (profile_name(old), f"{module_name(old)}.process", namespace_name(old))
    kept, skipped = split(old, reader.reading.denials, wanted, names)
    allowed = tuple(item.upper() if item.upper().startswith("CAP_") else item for item in allow_dangerous)
    proposal = propose(old, kept, allowed)
    if review and proposal.refused:
        dangerous = [danger.item for row in proposal.refused for danger in row.dangers]
        proposal = propose(old, kept, (*allowed, *dangerous))
    text = decoded(data, path)
    new = with_comments(proposal.policy, comments(text)) if proposal.added else text
    return _Change(reader.reading, skipped, proposal, new, unified(printable(path), text, new), data)


def _notes(found: _Change, writes: bool) -> Iterator[str]:
    """Return lines about the log, what was skipped, and what is proposed."""
    reading = found.reading
    kinds = f"{counted(reading.records, 'denial')} of {counted(len(reading.denials), 'kind')}"
    yield f"read {kinds}, {size(reading.bytes)} of log"
    yield from _about_log(reading)
    for row in found.skipped:
        names = listed([f"{name} ({digits(number)})" for name, number in row.whose], NAMED)
        how = f" (to include them: {' or '.join(row.options)})" if row.options else ""
        yield f"skipped {counted(row.count, 'denial')} {row.why}: {names}{how}"
    yield from about_proposal(found.proposal, "added" if writes else "to add:")


def _about_log(reading: Reading) -> Iterator[str]:
    if not reading.bytes:
        yield "the log is empty: if another command prints it, check that it may read the kernel's log (as root)"
    for gap in reading.gaps:
        lost = f" ({gap.lost} of them)" if gap.lost else ""
        where = f", line {gap.lines[0]}" if gap.lines else ""
        yield f"the log has gaps, there may be more denials: {gap.what}{lost}{where}"
    if reading.broken:
        yield f"{counted(reading.broken, 'record')} ignored: cut off, or of an unknown form"
    if reading.foreign:
        yield f"{counted(reading.foreign, 'line')} ignored: the text of a record in another program's message"
    for number, text in reading.samples:
        yield f"  not understood{'' if number is None else f', line {number}'}: {quoted(text)}"
    if reading.unread:
        yield "  such lines may be denials; read the same log in another form: auditd's log, or journalctl -o json"
    if reading.supervised:
        yield f"{counted(reading.supervised, 'call')} ignored: seccomp left them to a supervisor"
    if reading.beyond:
        yield f"{counted(reading.beyond, 'denial')} ignored: too many different ones"


def _about_proof(policy: str, number: int) -> str:
    """Return how to prove denials that only text logs hold."""
    command = profgen("refine", Path(policy), "--from", "journal")
    return (
        f"{counted(number, 'entry', 'entries')} unproven: any local user can write such lines into a text log; on the "
        f"machine that wrote it, read the records from the journal: {command} "
        "(or --from /var/log/audit/audit.log, or --from /dev/kmsg)"
    )


def _as_data(found: _Change) -> dict[str, Any]:
    from profiler.denials.logs.reading import NUMBERS

    reading, proposal = found.reading, found.proposal
    return {
        "added": [addition_data(row) for row in proposal.added],
        "refused": [addition_data(row) for row in proposal.refused],
        "unanswered": [asdict(row) for row in proposal.unanswered],
        "skipped": [{"why": row.why, "count": row.count, "whose": dict(row.whose)} for row in found.skipped],
        "gaps": [asdict(gap) for gap in reading.gaps],
        "log": {
            **{name: getattr(reading, name) for name in NUMBERS},
            "samples": [{"line": number, "text": text} for number, text in reading.samples],
        },
        "unproven": found.unproven,
        "diff": found.diff,
    }


def _write(path: Path, text: str, form: str) -> None:
    from profiler.files import write_atomic

    write_atomic(path, text.encode("utf-8"))
    if form == "text" and path != STANDARD_OUTPUT:
        say(f"wrote {path}")
        say(f"next: {profgen('generate', path, '-o', default_directory(path))}, and load the profiles again")
