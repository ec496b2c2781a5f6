"""apparmor.profile: files, programs, sockets, signals, other processes, mounts and capabilities."""

from __future__ import annotations

from dataclasses import dataclass, replace

from profiler.errors import InputError
from profiler.policy.caveats import extent
from profiler.policy.model import Policy
from profiler.policy.variables import written as with_variables
from profiler.quoting.apparmor import Glob, Inexpressible
from profiler.quoting.apparmor import apparmor as quoted_path
from profiler.quoting.shell import shell
from profiler.quoting.text import printable
from profiler.targets.apparmor import rules
from profiler.targets.apparmor.abstractions import weigh
from profiler.targets.apparmor.naming import profile_name, valid_name, valid_namespace
from profiler.targets.apparmor.programs import Files
from profiler.targets.apparmor.rules import FileLine, FileLines, LinkLine, UnixLine
from profiler.targets.base import (
    File,
    Loss,
    OneOf,
    Output,
    Request,
    Setting,
    Step,
    Target,
    absolute,
    written,
    yes_or_no,
)

FILE = "apparmor.profile"

ABIS = ("3.0", "4.0")
"""The AppArmor that a profile is written for: the features of the kernel, and the words of the parser."""
RUNTIME_PROFILES = ("runc", "crun", "podman")
"""Profiles that runtimes may run under themselves; they send the signals that stop a container. Sources:
profiles/apparmor of moby, pkg/apparmor of containers/common, and apparmor.d of Ubuntu 24.04, which names all three."""
LXC_PROFILES = ("/usr/bin/lxc-start", "lxc-start")
"""Profiles of lxc-start, which stops the container (usr.bin.lxc-start of LXC 5 and 6): it may start containers only
under profiles named lxc-*."""

_NAMESPACES = "/sys/kernel/security/apparmor/policy/namespaces"

STREAMS: tuple[tuple[rules.Parts, str], ...] = (
    (("/dev/null",), "rw"),
    (("/dev/pts/", Glob("[0-9]*")), "rw"),
)
"""Standard streams. The kernel checks a descriptor again when it is opened by name (/dev/stdout), when an exec changes
the profile, or when the process that opened it is confined. It replaces a refused one (aa_inherit_files in file.c)."""


@dataclass(frozen=True)
class Choices:
    """How the profile is written. ``name``: None makes one from the policy. ``attach``: the path of the program that
    always runs under it; None for a profile that something names (containers, systemd). ``complain``: denials are
    logged, not enforced. ``children``: each further program gets a profile of its own. ``namespace``: the policy
    namespace that it is loaded into, below the root; None for the one of whoever loads it."""

    name: str | None = None
    attach: str | None = None
    abi: str = "3.0"
    complain: bool = False
    children: bool = False
    namespace: str | None = None


def _program(text: str) -> str:
    try:
        quoted_path(absolute(text))
    except Inexpressible as error:
        raise InputError(f"{printable(text)!r}: {error}") from error
    return text


NAME: Setting[str | None] = Setting(
    "name", "the profile's name; default: made from the policy", "NAME", None, valid_name
)
ATTACH: Setting[str | None] = Setting(
    "attach",
    "the program that always runs under the profile; default: none, something names it",
    "PATH",
    None,
    _program,
)
ABI = Setting("abi", f"the AppArmor to write for: {', '.join(ABIS)}", "ABI", ABIS[0], OneOf(*ABIS))
COMPLAIN = Setting("complain", "log what no rule allows, and allow it", "yes|no", False, yes_or_no)
CHILDREN = Setting("children", "give each further program a profile of its own", "yes|no", False, yes_or_no)

NAMESPACE: Setting[str | None] = Setting(
    "namespace", "the policy namespace that the profile is loaded into", "NAME", None, valid_namespace
)


def choices(request: Request) -> Choices:
    """Return the settings of a request."""
    return Choices(
        NAME.of(request),
        ATTACH.of(request),
        ABI.of(request),
        COMPLAIN.of(request),
        CHILDREN.of(request),
        NAMESPACE.of(request),
    )


@dataclass(frozen=True)
class Body:
    """File rules of the profile itself (no ``name``) or of a child profile for ``program``."""

    files: tuple[FileLine, ...]
    links: tuple[LinkLine, ...]
    name: str = ""
    program: str = ""

    def texts(self) -> list[str]:
        """Return every path in it."""
        return [line.path for line in self.files] + [path for link in self.links for path in (link.name, link.existing)]


@dataclass(frozen=True)
class Profile:
    """Everything the template writes. ``called``: the name with the namespace, as seen from outside of it."""

    name: str
    called: str
    attach: str | None
    flags: tuple[str, ...]
    abi: str
    variables: tuple[tuple[str, str], ...]
    includes: tuple[str, ...]
    weighed: tuple[str, ...]
    """Abstractions that are not included, because they would open more than they save."""
    container: bool
    shared_memory: bool
    """System V shared memory is attached."""
    streams: tuple[FileLine, ...]
    bodies: tuple[Body, ...]
    capabilities: tuple[str, ...]
    network: tuple[str, ...]
    unix: tuple[UnixLine, ...]
    signals: tuple[tuple[str, tuple[str, ...], str], ...]
    inspections: tuple[tuple[str, str], ...]
    mounts: tuple[str, ...]
    later: tuple[str, ...]
    """Rules that only newer abis know."""
    notes: tuple[str, ...]
    losses: tuple[Loss, ...]


def _container(policy: Policy) -> bool:
    return policy.runtime != "none"


def _flags(policy: Policy, complain: bool) -> tuple[str, ...]:
    """Return the flags of the profile.

    ``attach_disconnected``: the workload uses something that no path in its mount namespace leads to: it looks at a
    namespace, attaches System V shared memory, or changes mounts, and so the paths of the descriptors that it holds.

    ``mediate_deleted``: a deleted file gets a name again, or is executed (d_namespace_path in path.c, with the
    profile's own flags). Without the flag, every other use of a deleted file is checked under its old name.
    """
    container = _container(policy)
    detached = any(
        rules.is_namespace(rule.pattern)
        or ("detached" in rule.states and rules.detached(rule.pattern, "execute" in rule.access))
        for rule in policy.files
    )
    flags = []
    if container or detached or policy.mounts or rules.shared_memory(policy):
        flags.append("attach_disconnected")
    if complain:
        flags.append("complain")
    deleted = {rule.pattern: rule for rule in policy.files if "deleted" in rule.states}
    named = any(existing in deleted for rule in policy.files for existing in rule.existing)
    if named or any("execute" in rule.access for rule in deleted.values()):
        flags.append("mediate_deleted")
    return tuple(flags)


def _streams() -> tuple[FileLine, ...]:
    lines = FileLines()
    for parts, modes in STREAMS:
        lines.add(parts, modes)
    return lines.lines()


def _without(lines: tuple[FileLine, ...], others: tuple[FileLine, ...]) -> tuple[FileLine, ...]:
    """Return ``lines`` without those that ``others`` already cover."""
    said = {line.path: set(line.modes) for line in others if not line.owner}
    return tuple(
        line for line in lines if line.modes.endswith("x") or not set(line.modes) <= said.get(line.path, set())
    )


def build(policy: Policy, chosen: Choices) -> Profile:
    """Return the profile as data. Raises InputError for a policy without evidence of files, and for child profiles
    under no_new_privs."""
    if not policy.has_files:
        raise InputError(
            "the policy says nothing about files: an AppArmor profile needs a recording that watched them; record again"
        )
    if chosen.children and policy.no_new_privs:
        raise InputError(
            "child profiles need a workload without no_new_privs, under which the kernel refuses to change profiles "
            "at an exec: add --allow-new-privs, or leave -O apparmor.children out"
        )
    name = chosen.name or profile_name(policy)
    policy = replace(policy, variables=tuple(row for row in policy.variables if rules.can_say(row)))
    files = Files(policy, name, chosen.children)
    container = _container(policy)
    streams = _streams() if container or chosen.children else ()
    main = _without(files.lines(None), streams)
    verdicts = () if chosen.children else weigh((*streams, *main))
    included = {line for verdict in verdicts if verdict.included for line in verdict.saved}
    children = tuple(
        Body(_without(files.lines(child), streams), files.links(child), child, program)
        for program, child in (files.programs.children.items() if files.programs else ())
    )
    own = f'"{name}{{,//?*}}"' if children else name
    network, no_network = rules.network(policy.sockets)
    unix, no_unix = rules.unix(policy.sockets)
    runtimes = (*(RUNTIME_PROFILES if container else ()), *(LXC_PROFILES if name.startswith("lxc-") else ()))
    signals, no_signals = rules.signals(policy, own, runtimes)
    mounts, no_mounts, notes = rules.mounts(with_variables(policy))
    later, not_mediated = rules.later(policy, chosen.abi)
    notes += not_mediated
    profile = Profile(
        name=name,
        called=name if chosen.namespace is None else f":{chosen.namespace}:{name}",
        attach=None if chosen.attach is None else quoted_path(chosen.attach),
        flags=_flags(policy, chosen.complain),
        abi=chosen.abi,
        variables=(),
        includes=tuple(verdict.name for verdict in verdicts if verdict.included),
        weighed=tuple(verdict.name for verdict in verdicts if not verdict.included),
        container=container,
        shared_memory=rules.shared_memory(policy),
        streams=tuple(line for line in streams if line not in included),
        bodies=(Body(tuple(line for line in main if line not in included), files.links(None)), *children),
        capabilities=tuple(capability.removeprefix("CAP_").lower() for capability in policy.needed()),
        network=tuple(network),
        unix=tuple(unix),
        signals=tuple(signals),
        inspections=tuple(rules.inspections(policy, own)),
        mounts=tuple(mounts),
        later=tuple(later),
        notes=tuple(notes),
        losses=(*files.losses, *no_network, *no_unix, *no_signals, *no_mounts),
    )
    texts = [text for body in profile.bodies for text in body.texts()]
    texts += [text for line in unix for text in (line.address, line.peer) if text] + mounts
    return replace(profile, variables=rules.variables_in("".join(texts), policy.variables))


def usage(policy: Policy, name: str, chosen: Choices) -> list[Step]:
    """Return the commands that load the profile, use it and unload it. ``name``: with its namespace."""
    file, attach = written(FILE), chosen.attach
    steps = [Step("load", f"load it:     apparmor_parser -r -W {file}   (as root; again after each change)")]
    if attach:
        steps.append(Step("use", f"then:        {shell(attach)} runs under it from its next start on"))
    if _container(policy):
        steps += [
            Step("use", f"docker:      docker run --security-opt apparmor={name} ...   (podman and nerdctl alike)"),
            Step(
                "use",
                f"kubernetes:  securityContext: {{appArmorProfile: {{type: Localhost, localhostProfile: {name}}}}}  "
                " (loaded on the node)",
            ),
        ]
    undo = [Step("undo", f"unload it:   apparmor_parser -R {file}")]
    if chosen.namespace is not None:
        steps.append(Step("use", f"stacked:     HOST//&{name} is under the profile HOST of the machine too"))
        undo.append(Step("undo", f"if empty:    rmdir {_NAMESPACES}/{chosen.namespace}"))
    return [
        *steps,
        Step("use", f"systemd:     AppArmorProfile={name}"),
        Step("use", f"a command:   aa-exec -p {name} -- COMMAND"),
        *undo,
    ]


class AppArmor(Target):
    """An AppArmor profile."""

    name = "apparmor"
    summary = "apparmor.profile: AppArmor, for containers, services and commands"
    says = frozenset(
        {"capabilities", "files", "transitions", "sockets", "signals", "inspections", "mounts"},
    )
    settings = (NAME, ATTACH, ABI, COMPLAIN, CHILDREN, NAMESPACE)

    def render(self, request: Request) -> Output:
        """See Target.render."""
        policy, chosen = request.policy, choices(request)
        if chosen.name is None and request.name_start:
            chosen = replace(chosen, name=request.name_start + profile_name(policy))
        profile = build(policy, chosen)
        steps = usage(policy, profile.called, chosen)
        values = {
            "command": " ".join(map(shell, policy.workload.argv)),
            "extent": extent(policy.workload),
            "profile": profile,
            "flags": f" flags=({', '.join(profile.flags)})" if profile.flags else "",
            "usage": [step.line({FILE: FILE}) for step in steps],
        }
        file = File(FILE, request.template("apparmor.profile.j2", **values))
        return Output((file,), (*profile.losses, *rules.coarser(policy)), tuple(steps), profile.called)
