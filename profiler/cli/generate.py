"""``profgen generate``: traces (or a reviewed policy.yaml) to policy.yaml and profiles."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from profiler.cli.derive_options import DeriveOptions, derive_options
from profiler.cli.options import STANDARD_INPUT, output_file, source_file
from profiler.cli.results import JSON, print_json
from profiler.cli.target_options import GivenTargets, TargetCommand, TargetOptions, target_options
from profiler.cli.terminal import emit, say, say_outdated, say_what_takes_long
from profiler.errors import InputError, OutputError, ProfgenError
from profiler.files import STANDARD_OUTPUT, check_writable, make_directory, read_start, refuse_to_replace, write_atomic
from profiler.policy.directory import POLICY_FILE, TRACE_FILE, default_directory, is_directory
from profiler.policy.model import Options, Policy
from profiler.progress import busy
from profiler.quoting.shell import profgen
from profiler.quoting.text import word
from profiler.targets.base import File, Target
from profiler.targets.rendering import Rendered, render
from profiler.trace.model import Trace
from profiler.wording import listed

if TYPE_CHECKING:
    from profiler.policy.evidence import Coverage


@click.command("generate", cls=TargetCommand)
@click.argument("inputs", nargs=-1, required=True, type=source_file, metavar="TRACE|POLICY|DIR...")
@target_options
@click.option(
    "-o",
    "--output",
    type=output_file,
    metavar="DIR|FILE",
    help="Where to write; - for standard output. A new name is a directory. It is the file of the target if it "
    "ends as that does (run.sh), or in .json or .yaml, or has any suffix and one file is written: what the file needs, "
    "and with --into the files of other targets, come next to it. A slash at the end makes it a directory.  "
    "[default: NAME.profile; a single target is printed]",
)
@derive_options
@click.option("-q", "--quiet", is_flag=True, help="Print only warnings and errors.")
@JSON
def generate(
    inputs: tuple[str, ...],
    given: GivenTargets,
    output: str | None,
    deriving: DeriveOptions,
    quiet: bool,
    form: str | None,
) -> None:
    """Write policy.yaml and profiles from traces, or profiles from a policy.yaml.

    Several traces are merged. A policy.yaml is rendered as it stands. Without -o, app.trace.json gives the directory
    app.profile, and a directory that generate wrote is written again; with one target it goes to standard output.

    \b
      profgen generate app.trace.json
      profgen generate app.trace.json -t seccomp > seccomp.json
      profgen generate app.trace.json -O apparmor.complain
      profgen generate policy.yaml -t oci --into config.json -o config.json
    """
    targeting, options = given.parsed(), deriving.parsed()
    output = _place(output, inputs, one=targeting.targets is not None and len(targeting.targets) == 1)
    if form == "json" and output is None:
        raise click.UsageError("--json prints on standard output, where the file goes too: name a file with -o")
    if targeting.targets is not None:
        targeting.chosen(None)  # a wrong option is said before a long trace is read
    _warn_about_version(options)
    if not quiet:
        say_what_takes_long()
    with busy("deriving the policy"):
        policy, trace = _policy(inputs, deriving)
    targets = targeting.chosen(policy.workload.launch.engine)
    _warn_about(policy, trace)
    _tell_privileges(policy, trace, quiet)
    without = _without_files(policy, targets, targeting)
    targets = tuple(target for target in targets if target not in without)

    # Everything is rendered before anything is written: a failure leaves every old file as it was.
    with busy("writing the profiles"):
        counts = _coverage(trace, inputs) if any(target.counts for target in targets) else None
        rendered = render(policy, targets, targeting.settings, targeting.existing, targeting.templates, counts)
    evidence = [] if trace is None else _evidence(policy, trace)
    main = _main(rendered, targets, into=targeting.existing is not None)
    if output is not None and evidence:
        _refuse_other_workload(Path(output), policy)
    where = _deliver(rendered, main, evidence, inputs, output, quiet)
    for target in without:
        say(f"{target.name}: left out, because the recording did not watch files; record again, without --no-files")
    _tell_losses(rendered, quiet)
    if where is not None and not quiet:
        _tell_usage(targets, rendered, _paths(where, main, rendered.files))
    if form == "json" and where is not None:
        kept = evidence if where.is_dir() else []
        paths = _paths(where, main, [*kept, *rendered.files])
        print_json("generate", _as_data(where, paths, rendered, without))


def _as_data(where: Path, paths: Mapping[str, str], rendered: Rendered, without: Sequence[Target]) -> dict[str, Any]:
    """Return what was written, and what it does not express, for programs. ``paths``: where each file was written."""
    return {
        "output": str(where),
        "files": list(paths.values()),
        "losses": [
            {"target": name, **{member: getattr(loss, member) for member in ("section", "item", "why", "effect")}}
            for name, loss in rendered.losses
        ],
        "usage": [
            {"target": name, "kind": step.kind, "text": step.line(paths)}
            for name, made in rendered.outputs.items()
            for step in made.usage
        ],
        "left_out": [target.name for target in without],
    }


def _main(rendered: Rendered, targets: Sequence[Target], into: bool) -> File | None:
    """Return the file that ``-o FILE`` names: the one that was rewritten, or the first one of the only target."""
    made = [rendered.outputs[target.name] for target in targets if target.rewrites or not into]
    return made[0].files[0] if len(made) == 1 else None


def _paths(where: Path, main: File | None, files: Sequence[File]) -> dict[str, str]:
    """Return where each file was written: in a directory, or as ``main`` and next to it."""
    if where.is_dir():
        return {file.name: str(where / file.name) for file in files}
    return {file.name: str(where if file is main else where.parent / file.name) for file in files}


def _place(output: str | None, inputs: Sequence[str], one: bool) -> str | None:
    """Return where the files go, None for standard output. ``one``: the files of one target. Raises InputError."""
    if output == str(STANDARD_OUTPUT) or (output is None and one):
        if one:
            return None
        raise InputError("several files cannot go to standard output: name a directory with -o, or one target with -t")
    if output is None and inputs[0] == STANDARD_INPUT:
        raise InputError("standard input has no name to derive one from: name a directory with -o")
    return str(default_directory(inputs[0])) if output is None else output


def _policy(inputs: tuple[str, ...], deriving: DeriveOptions) -> tuple[Policy, Trace | None]:
    """Return the policy, and the trace that it was derived from; None when it was read as such."""
    policy, traces = _load(inputs)
    if policy is None:
        from profiler.policy.derive import derive

        trace = _merged(traces, deriving.allow_loss)
        return derive(trace, deriving.parsed()), trace
    if deriving.given:
        raise InputError(
            f"{inputs[0]} is a policy, rendered as it stands: {' and '.join(deriving.given)} can only be given with "
            "traces"
        )
    return policy, None


def _load(paths: tuple[str, ...]) -> tuple[Policy | None, list[Trace]]:
    """Read the one policy, or the traces."""
    from profiler.policy import document
    from profiler.trace import store as trace_store

    policy, traces = None, []
    for path in paths:
        data = trace_store.read_limited(path)
        if trace_store.is_trace(data):
            traces.append(trace_store.loads(data, path))
        else:
            policy = document.loads(data, path)
            if len(paths) > 1:
                raise InputError(f"{path} is a policy: give one policy alone, or traces")
            if document.head_is_outdated(data, policy):
                say_outdated(path)
    return policy, traces


def _merged(traces: list[Trace], allow_loss: bool) -> Trace:
    from profiler.trace.caveats import lost
    from profiler.trace.merge import merge

    trace = merge(traces) if len(traces) > 1 else traces[0]
    if not trace.meta.complete:
        text = f"the recording is incomplete ({lost(trace.meta.losses)}): a profile from it may break the workload"
        if not allow_loss:
            raise ProfgenError(f"{text}; record again, or accept that with --allow-loss")
        say(text)
    return trace


def _warn_about_version(options: Options) -> None:
    """Print that a runtime's version is newer than any that was measured."""
    from profiler.kernel.runtimes import newest_measured, version_key

    if options.runtime_version is None:
        return
    newest = newest_measured(options.runtime)
    try:
        newer = version_key(options.runtime_version)[:2] > version_key(newest)[:2]
    except ValueError as error:
        raise InputError(str(error)) from error
    if newer:
        say(
            f"warning: --runtime-version {options.runtime_version}: the newest that was measured is {newest}; "
            "what it calls is allowed"
        )


def _warn_about(policy: Policy, trace: Trace | None) -> None:
    """Print what the policy cannot promise, and what its recording cannot show."""
    from profiler.policy.caveats import caveats
    from profiler.trace import caveats as recording

    for caveat in caveats(policy):
        if trace is None or caveat.rule != "incomplete":  # said with what was lost
            say(f"warning: {caveat.what}; {caveat.fix}")
    for text in () if trace is None else recording.circumstances(trace):
        say(f"warning: {text}")


def _tell_privileges(policy: Policy, trace: Trace | None, quiet: bool) -> None:
    """Print which programs gain privileges by their file. Under no_new_privs they gain none, and may fail."""
    from profiler.policy.evidence import gaining

    if trace is not None:
        found = {path: sorted(words) for path, words in gaining(trace).items()}
    else:
        reasons = [(row.program, reason) for row in policy.transitions for reason in row.because]
        found = {program: list(reason.names) for program, reason in reasons if reason.kind == "gained"}
    what = listed([f"{word(path)} ({', '.join(words)})" for path, words in sorted(found.items())], 3)
    if found and policy.no_new_privs:
        say(
            f"warning: no_new_privs is on, and prevents what was recorded: {what} gained privileges by the file; "
            "without them it may fail: generate with --allow-new-privs, or set no_new_privs: false"
        )
    elif found and not quiet:
        say(
            f"no_new_privs is off, because {what} gained privileges by the file; to set it nevertheless: --no-new-privs"
        )


def _without_files(policy: Policy, targets: Sequence[Target], targeting: TargetOptions) -> tuple[Target, ...]:
    """Return the targets that the user did not choose and that express nothing of this policy but capabilities: those
    about files, when the recording did not watch them."""
    if policy.has_files or targeting.targets is not None:
        return ()
    return tuple(target for target in targets if "files" in target.says and target.name not in targeting.settings)


def _coverage(trace: Trace | None, inputs: Sequence[str]) -> Coverage | None:
    """Return in how many recordings each syscall was seen, by the trace or the one next to the policy."""
    from profiler.policy.directory import evidence
    from profiler.policy.evidence import coverage

    trace = evidence(inputs[0]) if trace is None else trace
    return None if trace is None else coverage(trace)


def _evidence(policy: Policy, trace: Trace) -> list[File]:
    """Return what is kept for review: the policy with its digest, and the trace that it was derived from."""
    from profiler.policy.document import dumps
    from profiler.policy.head import sealed
    from profiler.trace.store import dumps as trace_text

    return [
        File(POLICY_FILE, sealed(dumps(policy)).encode("utf-8")),
        File(TRACE_FILE, trace_text(trace).encode("utf-8")),
    ]


def _deliver(
    rendered: Rendered, main: File | None, evidence: list[File], inputs: Sequence[str], output: str | None, quiet: bool
) -> Path | None:
    """Print a single target, write it to a file, or write everything into a directory, with the ``evidence``. Return
    where files went."""
    if output is None:
        _print([file for made in rendered.outputs.values() for file in made.files])
        return None
    path = Path(output)
    if not is_directory(output, [file.name for file in rendered.files]):
        if main is None:
            raise OutputError(f"{path} is the name of a file: several files need a directory: -o {path}/")
        check_writable(path)  # a directory that is missing is not made for a file
        others = [file for file in rendered.files if file is not main]
        for made in (path, *(path.parent / file.name for file in others)):
            refuse_to_replace(made, inputs)
        _refuse_to_share(path, others)
        _write([dataclasses.replace(main, name=path.name), *others], path.parent)
        if others and not quiet:
            say(f"wrote {', '.join([path.name, *(file.name for file in others)])} to {path.parent}")
        return path
    # A policy.yaml that was given is the user's: nothing is written back over it.
    if evidence:
        _refuse_to_overwrite(path, inputs)
    for file in rendered.files:
        refuse_to_replace(path / file.name, inputs)
    files = [*evidence, *rendered.files]
    make_directory(path)
    _write(files, path)
    if not quiet:
        say(f"wrote {', '.join(file.name for file in files)} to {path}")
        if evidence:
            say(f"next: review {path / POLICY_FILE} and commit it")
    return path


def _print(files: Sequence[File]) -> None:
    """Write files to standard output, with their names when there are several."""
    parts = [file.data if len(files) == 1 else f"# --- {file.name}\n".encode() + file.data for file in files]
    emit(b"".join(parts))


def _write(files: Sequence[File], directory: Path) -> None:
    for file in files:
        make_directory((directory / file.name).parent)
        write_atomic(directory / file.name, file.data, executable=file.executable)


def _refuse_to_share(path: Path, others: Sequence[File]) -> None:
    """Raise OutputError when a file that comes next to a new ``path`` is there with other content: it belongs to
    something else."""
    for file in others:
        place = path.parent / file.name
        if place == path:
            raise OutputError(f"{path} would be both the file and {file.name}, which it needs: give it another name")
        if not path.exists() and place.is_file() and read_start(place, len(file.data) + 1) != file.data:
            raise OutputError(
                f"{place} is there already, with another profile, and {path.name} is new: write it to another directory"
            )


def _refuse_to_overwrite(directory: Path, inputs: Sequence[str]) -> None:
    """Raise OutputError for a policy that was edited after ``generate`` wrote it."""
    from profiler.policy.head import is_edited
    from profiler.trace.store import read_limited

    path = directory / POLICY_FILE
    if not path.is_file() or not is_edited(read_limited(path)):
        return
    base = directory / TRACE_FILE
    lost, discard = f"{path} was edited and would be lost", f"delete {path} to discard the edits"
    if not base.is_file():
        raise OutputError(f"{lost}; write to another directory, or {discard}")
    command = profgen("merge", "--base", base, path, *map(Path, inputs), "-o", directory)
    raise OutputError(f"{lost}; {discard}, or bring the new recording in:", command)


def _refuse_other_workload(directory: Path, policy: Policy) -> None:
    """Raise OutputError for a policy of another workload that ``generate`` wrote and nobody edited."""
    from profiler.policy.document import loads
    from profiler.policy.head import is_edited
    from profiler.trace.store import read_limited

    path = directory / POLICY_FILE
    if not path.is_file() or is_edited(data := read_limited(path)):
        return
    old, new = loads(data, str(path)).workload, policy.workload
    if old.is_other(new):
        raise OutputError(
            f"{path} is the policy of {old.title}, and this is {new.title}; write to another directory, or delete "
            f"{path}"
        )


def _tell_losses(rendered: Rendered, quiet: bool) -> None:
    """Print what the files do not express. What they allow beyond the policy is left out when quiet."""
    sections: dict[str, list[str]] = {}
    items: dict[tuple[str, str, str], list[str]] = {}
    for name, loss in rendered.losses:
        if not loss.item and loss.effect == "wider":
            sections.setdefault(name, []).append(loss.section)
        else:
            items.setdefault((name, loss.effect, loss.why), []).append(loss.item or loss.section)
    for (name, effect, why), found in items.items():
        if effect == "refused":
            say(f"warning: {name}: refuses {listed(found, 20)}, which the policy allows: {why}")
        elif not quiet:
            say(f"{name}: allows more than the policy: {listed(found, 20)}: {why}")
    if not quiet:
        for name, lost in sections.items():
            say(f"{name}: does not limit {', '.join(lost)}")


def _tell_usage(targets: Sequence[Target], rendered: Rendered, paths: Mapping[str, str]) -> None:
    """Print how the files are loaded, used and unloaded. An artifact that a launcher names only needs loading."""
    named = frozenset[str]().union(*(target.launches.names for target in targets if target.launches))
    for name, made in rendered.outputs.items():
        for step in made.usage:
            if name not in named or step.kind == "load":
                say(f"{name}: {step.line(paths)}")
