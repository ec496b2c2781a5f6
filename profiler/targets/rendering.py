"""Rendering a set of targets: artifacts first, then the launchers that name them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from profiler.errors import OutputError
from profiler.policy.evidence import Coverage
from profiler.policy.model import Policy
from profiler.quoting.text import printable
from profiler.targets.base import SECTIONS, Artifact, Existing, File, Loss, Output, Request, Target
from profiler.targets.catalogue import find
from profiler.targets.template import BUILT_IN, Templates

Settings = Mapping[str, Mapping[str, object]]
"""Name of a target to values of its settings."""

_RESTRICTIVE = frozenset({"refused"})
"""Sections that a workload breaks without: libc falls back only on the error that the policy names."""


@dataclass(frozen=True)
class Rendered:
    """What a set of targets gave. ``outputs`` holds the chosen targets alone; ``files`` also the files that theirs
    need."""

    outputs: Mapping[str, Output]
    files: tuple[File, ...]
    losses: tuple[tuple[str, Loss], ...]
    """The name of the target, and what its files do not express."""


def render(
    policy: Policy,
    targets: Sequence[Target],
    settings: Settings | None = None,
    existing: Existing | None = None,
    templates: Templates = BUILT_IN,
    coverage: Coverage | None = None,
) -> Rendered:
    """Render these targets. ``existing`` goes to those that rewrite a file.

    Raises InputError when one cannot be rendered, OutputError for two files of one name with different content.
    """
    chosen = {target.name: target for target in targets}
    required = {name for target in targets if target.launches for name in target.launches.requires}
    artifacts = [target for target in targets if target.launches is None]
    artifacts += [find(name) for name in sorted(required - chosen.keys())]
    launchers = [target for target in targets if target.launches]
    # Launchers that all want the same get it; others take any name.
    starts = {
        target.launches.name_start for target in targets if target.launches and "apparmor" in target.launches.names
    }
    start = starts.pop() if len(starts) == 1 else ""
    requests = {
        target.name: Request(
            policy,
            settings=(settings or {}).get(target.name, {}),
            existing=existing if target.rewrites else None,
            templates=templates,
            coverage=coverage,
            name_start=start,
        )
        for target in (*artifacts, *launchers)
    }
    made = {target.name: target.render(requests[target.name]) for target in artifacts}
    every = {file.name: file for output in made.values() for file in output.files}
    outputs: dict[str, Output] = {}
    for target in launchers:
        prefix = target.prefix(requests[target.name])
        own = {name: _prefixed(output, prefix) for name, output in made.items()}
        every |= {file.name: file for output in own.values() for file in output.files}
        if len(launchers) == 1 or (existing and target.rewrites):
            outputs |= own
        names = target.launches.names if target.launches else frozenset[str]()
        known = {name: _artifact(output) for name, output in own.items() if name in names}
        outputs[target.name] = output = target.render(replace(requests[target.name], artifacts=known))
        every |= {file.name: file for file in output.files}
    outputs = {**made, **outputs}
    shown = {name: outputs[name] for name in chosen}
    losses = list(_section_losses(policy, targets, made))
    losses += [(name, loss) for name, output in outputs.items() for loss in output.losses]
    return Rendered(shown, _files(shown, every), tuple(losses))


def _artifact(output: Output) -> Artifact:
    first = output.files[0]
    return Artifact(output.called or first.name, first.data, first.name)


def _prefixed(output: Output, prefix: str) -> Output:
    """Return what an artifact made, with other names of files, also in the lines about their use."""
    files = tuple(replace(file, name=prefix + file.name) for file in output.files)
    usage = tuple(replace(step, text=step.renamed(lambda name: prefix + name)) for step in output.usage)
    return replace(output, files=files, usage=usage)


def render_one(
    name: str, policy: Policy, settings: Mapping[str, object] | None = None, existing: Existing | None = None
) -> Output:
    """Render one target of the list."""
    return render(policy, [find(name)], {name: settings or {}}, existing).outputs[name]


def _files(shown: Mapping[str, Output], every: Mapping[str, File]) -> tuple[File, ...]:
    """Return the files of the chosen targets and, after each target's own, those that they need. ``every``: all
    files by name."""
    found: dict[str, File] = {}
    for output in shown.values():
        for file in (*output.files, *(every[name] for own in output.files for name in own.needs)):
            if found.setdefault(file.name, file).data != file.data:
                raise OutputError(
                    f"two targets write {printable(file.name)} with different content: choose one of them"
                )
    return tuple(found.values())


def present(policy: Policy) -> tuple[str, ...]:
    """Return the sections in which the policy limits something, in their order."""
    limits = {
        "syscalls": True,
        "arguments": any(row.rules for row in policy.syscalls),
        "refused": bool(policy.refused),
        "capabilities": True,
        "no_new_privs": policy.no_new_privs,
    }
    return tuple(section for section in SECTIONS if limits.get(section, policy.has_files))


def _section_losses(
    policy: Policy, targets: Sequence[Target], rendered: Mapping[str, object]
) -> Iterator[tuple[str, Loss]]:
    """Yield the sections that are not expressed: by each launcher with the artifacts that it names, or, when no
    launcher was chosen, by all artifacts together."""
    launchers = [target for target in targets if target.launches]
    groups = [(target.name, _said(target, rendered)) for target in launchers]
    if not launchers:
        names = ", ".join(target.name for target in targets)
        groups = [(names, frozenset[str]().union(*(target.says for target in targets)))]
    for name, said in groups:
        for section in present(policy):
            # Without a filter no syscall is refused, so there is nothing to answer.
            if section not in said and (section != "refused" or "syscalls" in said):
                effect: Literal["wider", "refused"] = "refused" if section in _RESTRICTIVE else "wider"
                yield name, Loss(section, "", "it has no form for them", effect)


def _said(launcher: Target, rendered: Mapping[str, object]) -> frozenset[str]:
    """Return what the launcher's files express together with the artifacts that they name."""
    names = launcher.launches.names if launcher.launches else frozenset[str]()
    return launcher.says.union(*(find(name).says for name in names & rendered.keys()))
