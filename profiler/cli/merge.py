"""``profgen merge``: several traces or policies as one; a reviewed policy and a new one, with what changed in each."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from profiler.cli.options import output_file, source_file, trace_file
from profiler.cli.results import JSON, print_json
from profiler.cli.terminal import emit, say
from profiler.errors import InputError
from profiler.files import STANDARD_OUTPUT, read_start, write_atomic
from profiler.policy.directory import POLICY_FILE, TRACE_FILE, is_directory
from profiler.quoting.shell import profgen
from profiler.wording import counted

if TYPE_CHECKING:
    from profiler.policy.model import Policy
    from profiler.policy.threeway import Conflict
    from profiler.review.diff import Change
    from profiler.review.rights import Rights
    from profiler.trace.model import Trace

_PROFILE = re.compile(rb"\bkind[\"']?[ \t]*:[ \t]*[\"']?SeccompProfile\b")
_START_BYTES = 1 << 16
"""Where the kind of an object is looked for."""


@click.command("merge")
@click.argument("inputs", nargs=-1, required=True, type=source_file, metavar="FILE|DIR...")
@click.option(
    "-o",
    "--output",
    type=output_file,
    default=str(STANDARD_OUTPUT),
    metavar="FILE|DIR",
    help="Where to write; a directory gets policy.yaml and trace.json.  [default: standard output]",
)
@click.option("--intersect", is_flag=True, help="What all of them have, instead of what any has.")
@click.option(
    "--base",
    type=trace_file,
    metavar="FILE",
    help="The trace or policy that the reviewed policy was made from: merge what changed since then.",
)
@click.option(
    "--review", is_flag=True, help="Decide at the terminal on each change to the first FILE, which must be a policy."
)
@JSON
def merge(
    inputs: tuple[str, ...], output: str, intersect: bool, base: str | None, review: bool, form: str | None
) -> int:
    """Merge traces into a trace, or policies into a policy.

    Without --base every FILE counts the same: the result has what any of them has (or all, with --intersect). Where a
    policy is among them, traces are merged as the policies that generate makes of them.

    SeccompProfiles of the Security Profiles Operator give one that allows what any of them allows, with the sum of the
    recordings in which each syscall was seen (spo.x-k8s.io/syscall-coverage).

    A single policy is written anew, with its comments and a head that says what its entries say.

    With --base the first FILE is the reviewed policy, and the others are what is new. What a reviewer added, changed or
    took out since BASE stays, with all comments; what is new is added. Where both changed the same in two ways the
    reviewed policy is kept, the place is named, and the exit status is 1; in trouble it is 2.

    With --review each change to the first FILE is shown with its reasons and risk, and is taken, made narrower or
    wider, or left out, with the keys of git add -p.

    \b
      profgen merge start.trace.json load.trace.json -o all.trace.json
      profgen merge staging/ production/ -o merged/
      profgen merge node1.yaml node2.yaml -o web.yaml
      profgen merge --base app/trace.json app/ new.trace.json -o app/
      profgen merge --base app/trace.json app/ new.trace.json -o app/ --review
    """
    if base is not None and (len(inputs) < 2 or intersect):
        raise InputError(
            "--base takes the reviewed policy and at least one new trace or policy"
            + (", and no --intersect" if intersect else "")
        )
    if form == "json" and output == str(STANDARD_OUTPUT):
        raise click.UsageError("--json prints on standard output, where the result goes too: name a file with -o")
    if (profiles := _profiles(inputs)) is not None:
        if intersect or base is not None or review or form == "json":
            raise InputError("SeccompProfiles are merged without --base, --intersect, --review and --json")
        _merge_profiles(profiles, output)
        return 0
    answers = _answers(inputs, base) if review else None
    read = [_read(path) for path in inputs]
    if review and read[0].policy is None:
        raise InputError(f"{read[0].name} is a trace: --review shows the changes to a policy")
    result = _three_way(_read(base), read, answers) if base is not None else _merged(read, intersect, answers)
    written = [] if result.text is None else _deliver(result, output, len(inputs) + (base is not None))
    if result.conflicts:
        say(f"{counted(len(result.conflicts), 'conflict')}: look at each place, then commit")
    if form == "json":
        print_json("merge", {"inputs": list(inputs), "base": base, "files": written, **_as_data(result)})
    return 1 if result.conflicts else 0


@dataclass(frozen=True)
class _Result:
    """``files``: what a directory gets; ``text``: what a file gets, None for nothing, as a review took nothing.
    ``changes``: of the reviewed policy."""

    files: dict[str, str]
    text: str | None
    changes: tuple[Change, ...] = ()
    conflicts: tuple[Conflict, ...] = ()


def _profiles(inputs: Sequence[str]) -> list[Rights] | None:
    """Return SeccompProfiles of the Security Profiles Operator; None when the files are something else. Raises
    InputError when only some of them are."""
    from profiler.review.sources import machine, open_source

    if not any(map(_is_profile, inputs)):
        return None
    sources = [open_source(path) for path in inputs]
    if others := [source.name for source in sources if source.kind != "spo"]:
        raise InputError(f"{others[0]} is not a SeccompProfile: those are merged only with one another")
    abi = machine(*sources)
    return [source.rights(abi, None) for source in sources]


def _is_profile(path: str) -> bool:
    from profiler.review.sources import parts

    file = parts(path)[0]
    return os.path.isfile(file) and _PROFILE.search(read_start(file, _START_BYTES)) is not None


def _merge_profiles(profiles: Sequence[Rights], output: str) -> None:
    """Write the union of SeccompProfiles, with the name of the first."""
    from profiler.review.union import dumps, union

    text = dumps(union(profiles))
    for profile in profiles:
        for note in profile.notes:
            say(f"note: {note}")
    if output == str(STANDARD_OUTPUT):
        emit(text)
        return
    write_atomic(Path(output), text.encode("utf-8"))
    say(f"merged {counted(len(profiles), 'SeccompProfile')}, wrote {output}")


def _answers(inputs: Sequence[str], base: str | None) -> TextIO:
    """Return the terminal for a review. Raises InputError."""
    from profiler.cli.reviewing import terminal

    if len(inputs) < 2:
        raise InputError("--review takes a policy and at least one other file")
    return terminal("/dev/stdin" in (*inputs, base))


def _reviewed(old: _Source, new: Policy, trace: Trace | None, answers: TextIO) -> Policy | None:
    """Return the old policy with the changes that the user takes; None when there is nothing to write."""
    from profiler.cli.reviewing import NoEvidence, review
    from profiler.review.stepwise import Changes

    assert old.policy is not None
    changes = Changes(old.policy, new, trace)
    if not changes.choices:
        say(f"what {old.name} allows stays as it was")
        return new
    outcome = review(changes, answers, NoEvidence())
    say(outcome.words)
    if outcome.policy is None:
        say(f"{old.name} stays as it was")
    return outcome.policy


def _merged(read: Sequence[_Source], common: bool, answers: TextIO | None) -> _Result:
    _note_silent(read, common)
    if all(source.policy is None for source in read):
        text = _traces(read, common)
        return _Result({TRACE_FILE: text}, text)
    return _policies(read, common, answers)


def _as_data(result: _Result) -> dict[str, Any]:
    from profiler.review.render import change_data

    return {
        "changes": [change_data(row) for row in result.changes],
        "conflicts": [asdict(row) for row in result.conflicts],
    }


@dataclass(frozen=True)
class _Source:
    """A file that was read. ``policy``: None for a trace. ``trace``: itself, or the evidence next to the policy."""

    name: str
    text: str
    policy: Policy | None
    trace: Trace | None
    edited: bool = False

    @property
    def rights(self) -> Policy:
        """The policy, or the one that ``generate`` makes of the trace."""
        from profiler.policy.derive import derive
        from profiler.policy.model import Options

        if self.policy is not None:
            return self.policy
        assert self.trace is not None
        return derive(self.trace, Options())

    @property
    def has_files(self) -> bool:
        found = self.policy or self.trace
        return found is not None and found.has_files

    def is_plain(self) -> bool:
        """Whether ``generate`` without options makes this policy of the trace next to it."""
        from profiler.policy.derive import derive
        from profiler.policy.document import dumps
        from profiler.policy.model import Options

        if self.policy is None or self.trace is None or self.edited:
            return self.policy is None
        return dumps(derive(self.trace, Options())) == dumps(self.policy)


def _read(path: str) -> _Source:
    from profiler.policy.directory import evidence
    from profiler.policy.document import loads
    from profiler.policy.editing import decoded
    from profiler.policy.head import is_edited
    from profiler.trace import store

    data = store.read_limited(path)
    if store.is_trace(data):
        return _Source(path, "", None, store.loads(data, path))
    return _Source(path, decoded(data, path), loads(data, path), evidence(path), is_edited(data))


def _note_silent(read: Sequence[_Source], common: bool) -> None:
    """Say which inputs know nothing of files when others do."""
    silent = [source.name for source in read if not source.has_files]
    if silent and len(silent) < len(read):
        result = "the result takes what the others say" if common else "the result has no rules for files"
        say(f"note: {silent[0]} comes from a recording that did not watch files: {result}")


def _traces(read: Sequence[_Source], common: bool) -> str:
    from profiler.trace import merge as merging
    from profiler.trace.store import dumps

    traces = [source.trace for source in read if source.trace is not None]
    for source in read:
        if source.trace is not None and not source.trace.meta.complete:
            say(f"note: {source.name} is incomplete, and so is the merged trace")
    return dumps((merging.intersect if common else merging.merge)(traces))


def _policies(read: Sequence[_Source], common: bool, answers: TextIO | None) -> _Result:
    """Merge policies. ``answers``: the terminal for a review of the changes to the first one."""
    from profiler.policy import merge as merging
    from profiler.policy.derive import derive
    from profiler.policy.document import dumps
    from profiler.policy.editing import comments, with_comments
    from profiler.policy.model import Options

    if len(read) == 1:
        text = with_comments(read[0].rights, comments(read[0].text))
        return _Result(*_with_policy(text, {} if read[0].trace is None else {TRACE_FILE: _traces(read, common)}))
    for source in read[1:] if answers else read:
        if source.policy is not None and comments(source.text):
            say(f"note: {source.name} has comments, which only a merge with --base keeps")
    files = {TRACE_FILE: _traces(read, common)} if all(source.trace is not None for source in read) else {}
    if files and not common and all(source.is_plain() for source in read):
        # Nobody edited them: the passes see all the evidence together.
        policy = derive(_trace_of(files[TRACE_FILE]), Options())
    else:
        policy = (merging.intersect if common else merging.merge)([source.rights for source in read])
    if answers is None:
        return _Result(*_with_policy(dumps(policy), files))
    chosen = _reviewed(read[0], policy, _trace_of(files[TRACE_FILE]) if files else read[0].trace, answers)
    if chosen is None:
        return _Result({}, None)
    return _Result(*_with_policy(with_comments(chosen, comments(read[0].text)), files))


def _with_policy(text: str, files: dict[str, str]) -> tuple[dict[str, str], str]:
    """Return what a directory gets: the policy, with a digest where ``generate`` makes the same of the trace that goes
    next to it, and that trace, if there is one. And the text of the policy."""
    from profiler.policy.derive import derive
    from profiler.policy.document import dumps
    from profiler.policy.head import sealed
    from profiler.policy.model import Options

    made = sealed(text) if files and dumps(derive(_trace_of(files[TRACE_FILE]), Options())) == text else text
    return {POLICY_FILE: made, **files}, text


def _three_way(base: _Source, read: Sequence[_Source], answers: TextIO | None) -> _Result:
    from profiler.policy.derive import derive
    from profiler.policy.editing import comments, merged, with_comments
    from profiler.policy.merge import merge as union
    from profiler.policy.model import Options
    from profiler.policy.threeway import three_way
    from profiler.review.diff import compare
    from profiler.review.rights import of_policy

    ours, new = read[0], read[1:]
    if ours.policy is None:
        raise InputError(f"{ours.name} is a trace: with --base the first FILE is the reviewed policy")
    files = {TRACE_FILE: _traces(new, False)} if all(source.trace is not None for source in new) else {}
    if all(source.policy is None for source in new):
        theirs = derive(_trace_of(files[TRACE_FILE]), Options())
    else:
        theirs = union([source.rights for source in new])
    result = three_way(base.rights, ours.policy, theirs)
    policy: Policy | None = result.policy
    if answers is None:
        changes = _told(ours.policy, result.policy, ours.name)
    else:
        policy = _reviewed(ours, result.policy, _trace_of(files[TRACE_FILE]) if files else ours.trace, answers)
        changes = compare(of_policy(ours.policy, ours.name), of_policy(policy, "merged")).changes if policy else ()
    for conflict in result.conflicts:
        say(f"conflict: {conflict.where}: {conflict.what}")
    if policy is None:
        return _Result({}, None, changes, result.conflicts)
    notes = [comments(source.text) if source.policy is not None else () for source in (base, ours)]
    notes.append(tuple(note for source in new if source.policy is not None for note in comments(source.text)))
    return _Result(*_with_policy(with_comments(policy, merged(*notes)), files), changes, result.conflicts)


def _told(ours: Policy, policy: Policy, name: str) -> tuple[Change, ...]:
    """Say what a merge changes in the reviewed policy, and return it."""
    from profiler.review.diff import compare
    from profiler.review.rights import of_policy

    found = compare(of_policy(ours, name), of_policy(policy, "merged"))
    for row in found.changes:
        details = f" ({'; '.join(row.details)})" if row.details else ""
        say(f"{row.change} {row.subject} {row.name}{details}" + (f", {row.risk.level} risk" if row.risk else ""))
    if not found.changes:
        say(f"what {name} allows stays as it was")
    return found.changes


def _trace_of(text: str) -> Trace:
    from profiler.trace.store import loads

    return loads(text.encode("utf-8"), "the merged trace")


def _deliver(result: _Result, output: str, number: int) -> list[str]:
    """Print the text, write it to a file, or write all files into a directory. Return the paths that were written."""
    files = result.files
    assert result.text is not None
    if output == str(STANDARD_OUTPUT):
        emit(result.text)
        return []
    from profiler.files import make_directory

    into = is_directory(output, tuple(files))
    directory = make_directory(Path(output) if into else Path(output).parent)
    written = {directory / name: data for name, data in files.items()} if into else {Path(output): result.text}
    for path, data in written.items():
        write_atomic(path, data.encode("utf-8"))
    say(f"merged {counted(number, 'file')}, wrote {', '.join(files) + ' to ' if into else ''}{output}")
    if into and POLICY_FILE in files:
        say(f"next: {profgen('generate', Path(output), '-o', Path(output))}")
    return list(map(str, written))
