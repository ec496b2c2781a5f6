"""``profgen generate``: traces (or a reviewed policy.yaml) to policy.yaml and profiles."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from profiler.cli.options import source_file
from profiler.errors import InputError, OutputError, ProfgenError
from profiler.policy.model import GENERALISE_THRESHOLD, Options, Policy
from profiler.quoting.text import printable
from profiler.targets.base import APPARMOR_ABIS, DEFAULT_ACTIONS, EXECUTABLE, TARGETS, AppArmorOptions, RenderOptions
from profiler.targets.base import target as find_target
from profiler.trace.model import Trace
from profiler.wording import cause

_RUNTIMES = ["any", "none", "runc", "crun", "docker", "podman", "containerd"]


def _warn(text: str) -> None:
    print(f"profgen: {printable(text)}", file=sys.stderr)


def _load(paths: tuple[str, ...]) -> tuple[Policy | None, list[Trace]]:
    """The one policy, or the traces."""
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
    return policy, traces


def _derived(traces: list[Trace], options: Options, allow_loss: bool) -> Policy:
    from profiler.policy.derive import derive
    from profiler.trace.merge import merge

    trace = merge(traces) if len(traces) > 1 else traces[0]
    if not trace.meta.complete:
        losses = ", ".join(f"{name}: {number}" for name, number in sorted(trace.meta.losses.items())) or "not said what"
        text = f"the recording is incomplete ({losses}): a profile from it may break the workload"
        if not allow_loss:
            raise ProfgenError(f"{text}; record again, or accept that with --allow-loss")
        _warn(text)
    return derive(trace, options)


def _outputs(policy: Policy, targets: list[str], options: RenderOptions) -> dict[str, bytes]:
    from profiler.policy.document import dumps

    files = {"policy.yaml": dumps(policy).encode("utf-8")}
    for name in targets:
        files.update(find_target(name).render(policy, options))
    return files


def _write(files: dict[str, bytes], directory: Path) -> None:
    from profiler.files import write_atomic

    for name, data in files.items():
        write_atomic(directory / name, data, executable=name in EXECUTABLE)


def _reasons(value: object) -> Iterator[str]:
    """Every reason in a policy."""
    if isinstance(value, tuple):
        for item in value:
            yield from _reasons(item)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            within = getattr(value, field.name)
            if field.name == "because":
                yield from within
            else:
                yield from _reasons(within)


def _refuse_to_overwrite(path: Path) -> None:
    """Raises OutputError for a policy that bears marks of people's work. (What they only took out leaves none.)"""
    from profiler.denials.rewrite import has_comments
    from profiler.policy import document
    from profiler.policy.reasons import is_edit
    from profiler.trace.store import read_limited

    if not path.is_file():
        return
    data = read_limited(path)
    try:
        policy = document.loads(data, str(path))
    except InputError:
        why = "it cannot be read as profgen writes it"
    else:
        if has_comments(data.decode("utf-8", "replace"), policy):
            why = "it has comments of its own"
        elif any(map(is_edit, _reasons(policy))):
            why = "it has entries of a reviewer's, of refine or of minimise"
        else:
            return
    raise OutputError(
        f"{path} was edited ({why}) and would be lost: write to another directory and bring that in with "
        "profgen merge --base"
        " (docs/merge.md), or remove it first"
    )


def _make_directory(directory: Path) -> None:
    from profiler.files import as_invoking_user

    if directory.is_dir():
        return
    try:
        with as_invoking_user():
            directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make directory {directory}: {cause(error)}") from error


@click.command("generate")
@click.argument("inputs", nargs=-1, required=True, type=source_file, metavar="TRACE|policy.yaml...")
@click.option(
    "-t", "--target", "targets", multiple=True, metavar="TARGET", help=f"One of {', '.join(TARGETS)}; default: all."
)
@click.option("-o", "--output", metavar="DIR|FILE", help="Directory for all files, or the file for a single target.")
@click.option(
    "--runtime",
    default=None,
    metavar="NAME",
    help=f"Runtime whose own needs are added: {', '.join(_RUNTIMES)}. Default: any.",
)
@click.option(
    "--runtime-version",
    default=None,
    metavar="V",
    help="Version of that runtime's runc or crun. Default: every known one.",
)
@click.option(
    "--allow-new-privs",
    is_flag=True,
    help="For containers without no_new_privs; they need more of the runtime's syscalls.",
)
@click.option(
    "--default-action",
    type=click.Choice(list(DEFAULT_ACTIONS)),
    default="errno",
    help="For syscalls not named. Default: errno.",
)
@click.option("--no-equivalents", is_flag=True, help="Only the syscalls seen, none that stand in for them elsewhere.")
@click.option("--no-arguments", is_flag=True, help="No argument filters.")
@click.option(
    "--start-up", is_flag=True, help="Add what programs call to start: for recordings that joined them while they ran."
)
@click.option("--drop-failing", is_flag=True, help="Leave out syscalls that never succeeded.")
@click.option(
    "--no-generalise", is_flag=True, help="Paths as they were seen; only process ids and the like become classes."
)
@click.option(
    "--generalise-threshold",
    type=click.IntRange(2, 1_000_000),
    metavar="N",
    help=f"Names used alike in one directory before one rule stands for them. Default: {GENERALISE_THRESHOLD}.",
)
@click.option(
    "--apparmor-name", metavar="NAME", help="Name of the AppArmor profile. Default: profgen- and the command's."
)
@click.option(
    "--apparmor-attach",
    metavar="PATH",
    help="Program that always runs under the AppArmor profile. Default: none, it is named.",
)
@click.option(
    "--apparmor-abi",
    type=click.Choice(list(APPARMOR_ABIS)),
    help=f"What AppArmor to write for. Default: {APPARMOR_ABIS[0]}.",
)
@click.option("--apparmor-complain", is_flag=True, help="An AppArmor profile that logs what it would deny.")
@click.option("--child-profiles", is_flag=True, help="An AppArmor profile of its own for each further program.")
@click.option("--oci-config", metavar="FILE", help="config.json to rewrite for the target oci.")
@click.option("--allow-loss", is_flag=True, help="Accept an incomplete recording.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but warnings and errors.")
def generate(
    inputs: tuple[str, ...],
    targets: tuple[str, ...],
    output: str | None,
    runtime: str | None,
    runtime_version: str | None,
    allow_new_privs: bool,
    default_action: str,
    no_equivalents: bool,
    no_arguments: bool,
    start_up: bool,
    drop_failing: bool,
    no_generalise: bool,
    generalise_threshold: int | None,
    apparmor_name: str | None,
    apparmor_attach: str | None,
    apparmor_abi: str | None,
    apparmor_complain: bool,
    child_profiles: bool,
    oci_config: str | None,
    allow_loss: bool,
    quiet: bool,
) -> None:
    """Write policy.yaml and profiles from traces, or profiles from a policy.yaml.

    Several traces are merged. A policy.yaml is rendered as it stands. With one target and no -o it goes to standard
    output.

    \b
      profgen generate app.trace.json -o profiles/
      profgen generate app.trace.json -t seccomp > seccomp.json
      profgen generate policy.yaml -t oci --oci-config config.json -o config.json
    """
    output = None if output == "-" else output
    chosen = list(dict.fromkeys(targets)) or list(TARGETS)
    for name in chosen:
        find_target(name)
    if runtime is not None and runtime not in _RUNTIMES:
        raise InputError(f"unknown runtime {runtime!r}: one of {', '.join(_RUNTIMES)}")
    if runtime_version is not None and runtime in (None, "any", "none"):
        raise InputError("--runtime-version needs the --runtime whose version it is")
    if oci_config is not None and "oci" not in chosen:
        raise InputError("--oci-config is for the target oci: add -t oci")
    if no_generalise and generalise_threshold is not None:
        raise InputError("--generalise-threshold has no meaning with --no-generalise: leave one of them out")
    apparmor = AppArmorOptions(
        apparmor_name, apparmor_attach, apparmor_abi or APPARMOR_ABIS[0], apparmor_complain, child_profiles
    )
    about_apparmor = any((apparmor_name, apparmor_attach, apparmor_abi, apparmor_complain, child_profiles))
    if about_apparmor and "apparmor" not in chosen:
        raise InputError("--apparmor-... and --child-profiles are for the target apparmor: add -t apparmor")
    if output is None and len(chosen) > 1:
        raise InputError("several files to write: say where with -o DIR, or choose one target with -t")
    config = _oci_config(oci_config)

    policy, traces = _load(inputs)
    if policy is None:
        options = Options(
            runtime=runtime or "any",
            runtime_version=runtime_version,
            no_new_privs=not allow_new_privs,
            equivalents=not no_equivalents,
            arguments=not no_arguments,
            drop_failing=drop_failing,
            start_up=start_up,
            generalise=not no_generalise,
            generalise_threshold=generalise_threshold or GENERALISE_THRESHOLD,
        )
        policy = _derived(traces, options, allow_loss)
        from_policy = False
    else:
        from_policy = True
        passes = {
            "--runtime": runtime,
            "--runtime-version": runtime_version,
            "--allow-new-privs": allow_new_privs,
            "--no-equivalents": no_equivalents,
            "--no-arguments": no_arguments,
            "--start-up": start_up,
            "--drop-failing": drop_failing,
            "--no-generalise": no_generalise,
            "--generalise-threshold": generalise_threshold,
        }
        if given := [option for option, value in passes.items() if value]:
            raise InputError(
                f"{inputs[0]} is a policy, rendered as it stands: {' and '.join(given)} can only be given with traces"
            )
    if policy.workload.joined:
        _warn(_start_unknown(policy.workload.joined, start_up, from_policy))
    for row in policy.unknown:
        _warn(
            f"warning: syscall number {row.number} ({row.abi}) has no known name and is in no profile: "
            f"{'; '.join(row.because)}"
        )

    for check in policy.capabilities:
        if check.use == "needed" and check.name not in policy.needed():
            _warn(
                f"warning: capability {check.name} has no known name and is in no profile: {'; '.join(check.because)}"
            )

    if policy.io_uring:
        _warn(
            "warning: io_uring is used: seccomp does not see its requests, and files used only through them "
            "are in no policy"
        )
    without_apparmor = "apparmor" in chosen and not policy.has_files and not targets and not about_apparmor
    if without_apparmor:
        chosen.remove("apparmor")

    # Everything is rendered before anything is written: a failure leaves every old file as it was.
    render_options = RenderOptions(default_action, config, apparmor, names_apparmor="apparmor" in chosen)
    files = _outputs(policy, chosen, render_options)
    _deliver(files, chosen, output, from_policy, policy.workload.image, quiet)
    if without_apparmor:
        _warn("no AppArmor profile: the recording did not watch files; record again, without --no-files")
    elif "apparmor" in chosen:
        _tell_of_apparmor(
            policy, render_options, None if quiet else output, brief="docker" in chosen and apparmor.attach is None
        )


def _start_unknown(programs: tuple[str, ...], start_up: bool, from_policy: bool) -> str:
    """What the profile lacks of programs that a recording joined, and what to do."""
    text = f"warning: start-up syscalls unknown: joined a running process ({', '.join(programs)})"
    if start_up or from_policy:
        return f"{text}; files and capabilities of its start are missing too: merge a recording of the start"
    return f"{text}; merge a recording of the start, or add what every start needs with --start-up"


def _tell_of_apparmor(policy: Policy, options: RenderOptions, output: str | None, brief: bool) -> None:
    """What the profile cannot say; and, when it was written to a file, how it is used. ``brief``: beside files that use
    it."""
    from profiler.targets.apparmor.profile import FILE, left_out, load_command, usage

    for line in left_out(policy, options):
        _warn(f"warning: {line}")
    if output is not None:
        path = Path(output)
        file = str(path / FILE if path.is_dir() else path)
        if brief:
            _warn(
                f"where AppArmor is in use, load its profile first: {load_command(file)}   (as root; its head "
                "tells more)"
            )
            return
        for line in usage(policy, options, file):
            _warn(line)


def _oci_config(path: str | None) -> tuple[str, bytes] | None:
    if path is None:
        return None
    from profiler.trace.store import read_limited

    return path, read_limited(path)


def _deliver(
    files: dict[str, bytes], chosen: list[str], output: str | None, from_policy: bool, image: str | None, quiet: bool
) -> None:
    """Print a single target, write it to a file, or write everything into a directory."""
    made = [name for name in files if name != "policy.yaml"]
    if output is None:
        if len(made) == 1:
            parts = [files[made[0]]]
        else:
            parts = [f"# --- {name}\n".encode() + files[name] for name in made if name != "seccomp.json"]
        sys.stdout.flush()
        sys.stdout.buffer.write(b"".join(parts))
        sys.stdout.buffer.flush()
        return
    path = Path(output)
    as_directory = output.endswith("/") or path.is_dir() or len(made) > 1 or not (path.suffix or path.exists())
    if not as_directory:
        _write({path.name: files[made[0]]}, path.parent)
        return
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path} is a file: several files need a directory")
    # A reviewed policy.yaml is the user's: it is not written back over itself or anything else.
    if not from_policy:
        _refuse_to_overwrite(path / "policy.yaml")
    written = {name: data for name, data in files.items() if name != "policy.yaml" or not from_policy}
    _make_directory(path)
    _write(written, path)
    if quiet:
        return
    _warn(f"wrote {', '.join(written)} to {path}")
    if not from_policy:
        start = (
            f"; run: {shlex.quote(str(path / 'docker-run.sh'))} {shlex.quote(image or 'IMAGE')}"
            if "docker" in chosen
            else ""
        )
        _warn(f"next: review {path / 'policy.yaml'} and commit it{start}")
