"""apparmor.profile: what the workload may do with files, programs, sockets, signals, other processes, mounts and
capabilities."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace

from profiler.errors import InputError
from profiler.policy import patterns
from profiler.policy.model import Policy
from profiler.policy.variables import written
from profiler.quoting.apparmor import Glob, Inexpressible
from profiler.quoting.apparmor import apparmor as quoted_path
from profiler.quoting.shell import shell
from profiler.quoting.text import printable
from profiler.targets.apparmor import rules
from profiler.targets.apparmor.abstractions import weigh
from profiler.targets.apparmor.programs import Files
from profiler.targets.apparmor.rules import FileLine, FileLines, LeftOut, LinkLine, UnixLine
from profiler.targets.base import APPARMOR_ABIS, RenderOptions
from profiler.targets.template import render_template
from profiler.wording import UNKNOWN

FILE = "apparmor.profile"

_NAMESPACES = re.compile(r"/proc/\{pid\}/(?:task/\{tid\}/)?ns(?:/|$)")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}")
"""The command of recordings that know none."""
RUNTIME_PROFILES = ("runc", "crun", "podman")
"""Profiles under which runtimes may run themselves; they send the signals that stop a container. Sources:
profiles/apparmor of moby, pkg/apparmor of containers/common, and apparmor.d of Ubuntu 24.04, which names all three."""

STREAMS: tuple[tuple[rules.Parts, str], ...] = (
    (("/dev/null",), "rw"),
    (("/dev/pts/", Glob("[0-9]*")), "rw"),
)
"""Standard streams. A descriptor is asked for again when it is opened by name (/dev/stdout), when another profile takes
hold at an exec, or when whoever opened it is confined; what is refused then is replaced (aa_inherit_files in
file.c)."""


def profile_name(policy: Policy, options: RenderOptions) -> str:
    """The name given, or ``profgen-`` and the workload's command, as people call it: redis-server, though that is a
    link to another program. Raises InputError for a name that no profile can have."""
    given = options.apparmor.name
    if given is not None:
        if not _NAME.fullmatch(given) or given in rules.RESERVED:
            raise InputError(
                f"{printable(given)!r} is no name for a profile: letters, digits and _.+-, 100 at most, not one of "
                + ", ".join(sorted(rules.RESERVED))
            )
        return given
    firsts = [path for row in policy.transitions if row.by is None and (path := patterns.path_of(row.program))]
    # What ran already may have made a title of its command line; and there may be none.
    argv = [word for word in policy.workload.argv[:1] if word != UNKNOWN and not policy.workload.joined]
    words = [
        re.sub(r"[^A-Za-z0-9_.+-]+", "_", path.rsplit("/", 1)[-1]).strip("_")
        for path in (*policy.workload.joined, *argv, *firsts)
    ]
    return f"profgen-{next(filter(None, words), 'workload')[:80]}"


@dataclass(frozen=True)
class Body:
    """File rules of the profile itself (no ``name``) or of a child profile for ``program``."""

    files: tuple[FileLine, ...]
    links: tuple[LinkLine, ...]
    name: str = ""
    program: str = ""

    def texts(self) -> list[str]:
        """Every path in it."""
        return [line.path for line in self.files] + [path for link in self.links for path in (link.name, link.existing)]


@dataclass(frozen=True)
class Profile:
    """Everything the template writes."""

    name: str
    attach: str | None
    flags: tuple[str, ...]
    abi: str
    variables: tuple[tuple[str, str], ...]
    includes: tuple[str, ...]
    weighed: tuple[str, ...]
    """Abstractions that would open more than they save."""
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
    left_out: tuple[LeftOut, ...]


def _attachment(options: RenderOptions) -> str | None:
    path = options.apparmor.attach
    if path is None:
        return None
    if not path.startswith("/"):
        raise InputError(f"--apparmor-attach {printable(path)!r}: the path of a program starts with /")
    try:
        return quoted_path(path)
    except Inexpressible as error:
        raise InputError(f"--apparmor-attach {printable(path)!r}: {error}") from error


def _container(policy: Policy) -> bool:
    return policy.runtime != "none"


def _flags(policy: Policy, options: RenderOptions) -> tuple[str, ...]:
    """``attach_disconnected``: the workload uses something that no path of its mount namespace leads to, looks at a
    namespace, which has no path either, attaches System V shared memory, or changes mounts, and with them what leads to
    the descriptors it holds.

    ``mediate_deleted``: a deleted file gets a name again, or is executed (d_namespace_path in path.c, with the
    profile's own flags). All else that is done with one is judged by its old name without that.
    """
    container = _container(policy)
    detached = any(
        _NAMESPACES.match(rule.pattern)
        or ("detached" in rule.states and rules.detached(rule.pattern, "execute" in rule.access))
        for rule in policy.files
    )
    flags = []
    if container or detached or policy.mounts or rules.shared_memory(policy):
        flags.append("attach_disconnected")
    if options.apparmor.complain:
        flags.append("complain")
    deleted = {rule.pattern: rule for rule in policy.files if "deleted" in rule.states}
    named = any(existing in deleted for rule in policy.files for existing in rule.existing)
    if named or any(rule.use == "needed" and "execute" in rule.access for rule in deleted.values()):
        flags.append("mediate_deleted")
    return tuple(flags)


def _streams() -> tuple[FileLine, ...]:
    lines = FileLines()
    for parts, modes in STREAMS:
        lines.add(parts, modes)
    return lines.lines()


def _without(lines: tuple[FileLine, ...], others: tuple[FileLine, ...]) -> tuple[FileLine, ...]:
    """``lines`` but for those that ``others`` say already."""
    said = {line.path: set(line.modes) for line in others if not line.owner}
    return tuple(
        line for line in lines if line.modes.endswith("x") or not set(line.modes) <= said.get(line.path, set())
    )


def build(policy: Policy, options: RenderOptions) -> Profile:
    """What the profile says, as data. Raises InputError for a policy without evidence of files, and for options no
    profile can have."""
    if not policy.has_files:
        raise InputError(
            "the policy says nothing of files: an AppArmor profile needs a recording that watched them; record again"
        )
    chosen = options.apparmor
    if chosen.abi not in APPARMOR_ABIS:
        raise InputError(f"unknown AppArmor abi {printable(chosen.abi)!r}: one of {', '.join(APPARMOR_ABIS)}")
    if chosen.children and policy.no_new_privs:
        raise InputError(
            "child profiles need a workload without no_new_privs, under which the kernel refuses to change "
            "profiles at an exec: "
            "add --allow-new-privs, or leave --child-profiles out"
        )
    policy = replace(policy, variables=tuple(row for row in policy.variables if rules.can_say(row)))
    name = profile_name(policy, options)
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
    signals, no_signals = rules.signals(policy, own, RUNTIME_PROFILES if container else ())
    mounts, no_mounts, notes = rules.mounts(written(policy))
    later, not_mediated = rules.later(policy, chosen.abi)
    notes += not_mediated
    profile = Profile(
        name=name,
        attach=_attachment(options),
        flags=_flags(policy, options),
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
        left_out=(*files.left_out, *no_network, *no_unix, *no_signals, *no_mounts),
    )
    texts = [text for body in profile.bodies for text in body.texts()]
    texts += [text for line in unix for text in (line.address, line.peer) if text] + mounts
    return replace(profile, variables=rules.variables_in("".join(texts), policy.variables))


def left_out(policy: Policy, options: RenderOptions) -> list[str]:
    """What the policy allows and the profile cannot say, one line each, for people. Raises as :func:`build`."""
    return [f"not in the AppArmor profile: {printable(row.what)}: {row.why}" for row in build(policy, options).left_out]


def load_command(file: str) -> str:
    """What loads the profile in ``file``."""
    return f"apparmor_parser -r -W {shell(file)}"


def usage(policy: Policy, options: RenderOptions, file: str = FILE) -> list[str]:
    """The commands that load the profile in ``file`` and use it, one line each. Raises InputError for a name that
    cannot be."""
    name = profile_name(policy, options)
    path = shell(file)
    lines = [f"load it:     {load_command(file)}   (as root; again after each change)"]
    if options.apparmor.attach:
        lines.append(f"then:        {shell(options.apparmor.attach)} runs under it from its next start on")
    if _container(policy):
        lines += [
            f"docker:      docker run --security-opt apparmor={name} ...   (podman and nerdctl alike)",
            f"kubernetes:  securityContext: {{appArmorProfile: {{type: Localhost, localhostProfile: {name}}}}}  "
            " (loaded on the node)",
        ]
    return [
        *lines,
        f"systemd:     AppArmorProfile={name}",
        f"a command:   aa-exec -p {name} -- COMMAND",
        f"unload it:   apparmor_parser -R {path}",
    ]


def render(policy: Policy, options: RenderOptions) -> dict[str, bytes]:
    """``apparmor.profile``. Raises InputError for a policy without evidence of files, and for options no profile can
    have."""
    profile = build(policy, options)
    flags = f" flags=({', '.join(profile.flags)})" if profile.flags else ""
    values = {
        "command": shlex.join(policy.workload.argv),
        "profile": profile,
        "flags": flags,
        "usage": usage(policy, options),
    }
    return {FILE: render_template("apparmor.profile.j2", **values)}
