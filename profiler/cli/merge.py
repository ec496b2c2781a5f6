"""``profgen merge``: several traces or policies as one; a reviewed policy and a new one, with what changed in each."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from profiler.cli.options import source_file
from profiler.errors import InputError
from profiler.quoting.text import printable


def _say(text: str) -> None:
    print(f"profgen: {printable(text)}", file=sys.stderr)


@click.command("merge")
@click.argument("inputs", nargs=-1, required=True, type=source_file, metavar="FILE...")
@click.option("-o", "--output", metavar="FILE", help="Where to write. Default: standard output (-).")
@click.option("--intersect", is_flag=True, help="What all of them have, instead of what any has.")
@click.option(
    "--base",
    type=source_file,
    metavar="FILE",
    help="The policy.yaml that both FILEs were made from: merge what changed in each.",
)
def merge(inputs: tuple[str, ...], output: str | None, intersect: bool, base: str | None) -> int:
    """Merge traces into a trace, or policies into a policy.

    Without --base every FILE counts the same: the result has what any of them has (or all, with --intersect), and says
    of each entry in how many of the recordings it was seen.

    With --base there are two FILEs, the reviewed policy first. What a reviewer added, changed or took out since BASE
    stays, with all comments; what the second FILE brings is added. Where both changed the same in two ways the first
    FILE is kept, the place is named, and the exit status is 1; in trouble it is 2.

    \b
      profgen merge start.trace.json load.trace.json -o all.trace.json
      profgen merge staging/policy.yaml production/policy.yaml -o policy.yaml
      profgen merge --base old/policy.yaml policy.yaml new/policy.yaml -o policy.yaml
    """
    from profiler.trace.store import is_trace, read_limited

    output = None if output == "-" else output
    if base is not None:
        if len(inputs) != 2 or intersect:
            raise InputError(
                "--base takes two policies, the reviewed one and the new one"
                + (", and no --intersect" if intersect else "")
            )
        return _three_way((base, *inputs), output)
    read = [read_limited(path) for path in inputs]
    kinds = [is_trace(data) for data in read]
    if any(kinds) and not all(kinds):
        other = inputs[kinds.index(not kinds[0])]
        raise InputError(
            f"cannot merge {inputs[0]} with {other}: a trace and a policy; generate a policy from the traces first"
        )
    text = _traces(inputs, read, intersect) if kinds[0] else _policies(inputs, read, intersect)
    _deliver(text, output, len(inputs))
    return 0


def _traces(paths: Sequence[str], read: Sequence[bytes], common: bool) -> str:
    from profiler.trace import merge as merging
    from profiler.trace.store import dumps, loads

    traces = [loads(data, path) for path, data in zip(paths, read, strict=True)]
    for path, trace in zip(paths, traces, strict=True):
        if not trace.meta.complete:
            _say(f"note: {path} is incomplete, and so is the merged trace")
    silent = [path for path, trace in zip(paths, traces, strict=True) if not trace.has_files]
    if silent and len(silent) < len(paths):
        _say(f"note: {silent[0]} was recorded without files: nothing can be made for files of the merged trace")
    return dumps((merging.intersect if common else merging.merge)(traces))


def _policies(paths: Sequence[str], read: Sequence[bytes], common: bool) -> str:
    from profiler.denials.rewrite import has_comments
    from profiler.policy import merge as merging
    from profiler.policy.document import dumps, loads

    policies = [loads(data, path) for path, data in zip(paths, read, strict=True)]
    silent = [path for path, policy in zip(paths, policies, strict=True) if not policy.has_files]
    if silent and len(silent) < len(paths):
        _say(
            f"note: {silent[0]} says nothing of files"
            + (", so what the others say is taken" if common else ", and so does the merged policy")
        )
    for path, data, policy in zip(paths, read, policies, strict=True):
        if has_comments(data.decode("utf-8", "replace"), policy):
            _say(f"note: {path} has comments of its own, which a merge of equals does not keep; --base keeps them")
    return dumps((merging.intersect if common else merging.merge)(policies))


def _three_way(paths: Sequence[str], output: str | None) -> int:
    """Base, ours and theirs."""
    from profiler.denials.rewrite import rewritten
    from profiler.policy import comments
    from profiler.policy.document import loads
    from profiler.policy.threeway import three_way
    from profiler.review.diff import compare
    from profiler.review.rights import of_policy
    from profiler.trace.store import is_trace, read_limited

    texts, policies, notes = [], [], []
    for path in paths:
        data = read_limited(path)
        if is_trace(data):
            raise InputError(f"{path} is a trace: --base merges policies; generate one first")
        policy = loads(data, path)
        try:
            texts.append(data.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not in UTF-8") from error
        policies.append(policy)
        notes.append(comments.found(texts[-1], policy))
    base, ours, theirs = policies
    result = three_way(base, ours, theirs)
    wanted = comments.merged(*notes)
    text = rewritten(texts[1], ours, result.policy) if wanted == notes[1] else None
    if text is None:
        text = comments.carried(result.policy, wanted)
    found = compare(of_policy(ours, paths[1]), of_policy(result.policy, output or "merged"))
    for row in found.changes:
        details = f" ({'; '.join(row.details)})" if row.details else ""
        _say(f"{row.change} {row.subject} {row.name}{details}" + (f", {row.risk.level} risk" if row.risk else ""))
    if not found.changes:
        _say(f"what {paths[1]} allows stays as it was")
    for conflict in result.conflicts:
        _say(f"conflict: {conflict.where}: {conflict.what}")
    _deliver(text, output, 3)
    if result.conflicts:
        _say(
            f"{len(result.conflicts)} conflict{'' if len(result.conflicts) == 1 else 's'}: look at each place, "
            "then commit"
        )
    return 1 if result.conflicts else 0


def _deliver(text: str, output: str | None, number: int) -> None:
    if output is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode("utf-8"))
        sys.stdout.buffer.flush()
        return
    from profiler.files import write_atomic

    write_atomic(Path(output), text.encode("utf-8"))
    _say(f"merged {number} file{'' if number == 1 else 's'}, wrote {output}")
