"""NAME.cil: a module of SELinux policy with a type for the workload's processes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from profiler.errors import InputError
from profiler.policy.caveats import extent
from profiler.policy.model import Policy
from profiler.quoting.cil import NAME, RESERVED, Inexpressible, cil_path
from profiler.quoting.shell import shell
from profiler.quoting.text import printable
from profiler.targets.base import File, Loss, OneOf, Output, Request, Setting, Step, Target, absolute, written
from profiler.targets.contexts import of_process
from profiler.targets.naming import command_of, digest_of
from profiler.targets.selinux import contexts
from profiler.targets.selinux.contexts import Contexts
from profiler.targets.selinux.labels import CONTAINER, OWN, Labels, makers, mounted
from profiler.targets.selinux.rules import build
from profiler.wording import cause

CONTEXTS_MAX = 16 << 20
"""Bytes of a file_contexts. Debian's has 340 000."""
BASE = "/usr/share/udica/templates/base_container.cil"
"""The template ``container`` of container-selinux, which modules of udica inherit."""

_PORT = re.compile(r"(tcp|udp|sctp|dccp)/([1-9][0-9]{0,4})")
_LAST_PORT = 0xFFFF


def _name(text: str) -> str:
    if not NAME.fullmatch(text) or text in RESERVED or text.endswith("container"):
        raise InputError(
            f"{printable(text)!r} is not a name for a module: letters, digits and _, after a letter, 100 at most; not "
            "a word of the language, and not the name of a template (container)"
        )
    return text


def _type(text: str) -> str:
    if not NAME.fullmatch(text):
        raise InputError(f"{printable(text)!r} is not the name of a type")
    return text


def _types(text: str) -> Mapping[str, str]:
    """Parse ``/srv/app=app_t,tcp/8080=http_cache_port_t``."""
    found: dict[str, str] = {}
    for word in text.split(","):
        where, equals, name = word.rpartition("=")
        port = _PORT.fullmatch(where)
        if not equals or not (port or where.startswith("/")):
            raise InputError(f"{printable(word)!r}: write it as /PATH=TYPE or tcp/PORT=TYPE")
        if port and int(port[2]) > _LAST_PORT:
            raise InputError(f"{printable(word)!r}: a port is at most {_LAST_PORT}")
        found[where if port else absolute(where.rstrip("/") or "/")] = _type(name)
    return found


def _from(text: str) -> tuple[str, ...]:
    return tuple(_type(word) for word in text.split(","))


def _paths(text: str) -> tuple[str, ...]:
    words = tuple(absolute(word.rstrip("/") or word) for word in text.split(","))
    if "/" in words:
        raise InputError("'/' is the whole machine: name the directories that belong to the workload")
    for word in words:
        try:
            cil_path(word)
        except Inexpressible as error:
            raise InputError(f"{printable(word)!r}: {error}; write the path of a directory, without blanks") from error
    return words


def _contexts(text: str) -> Contexts:
    """Read a file_contexts and those that belong to it."""
    main = _read(Path(text))
    if main is None:
        raise InputError(f"{printable(text)}: there is no such file")
    others = [data for suffix in contexts.SUFFIXES if (data := _read(Path(text + suffix))) is not None]
    renames = [data for suffix in contexts.SUBSTITUTIONS if (data := _read(Path(text + suffix))) is not None]
    found = contexts.read([main, *others], renames)
    if not found.specs:
        raise InputError(f"{printable(text)}: not a file_contexts(5): it has no line with a path and a context")
    return found


def _read(path: Path) -> str | None:
    """Return the text of a file, None when there is none. Raises InputError."""
    try:
        if not path.exists():
            return None
        if not path.is_file():
            raise InputError(f"{printable(str(path))} is not a regular file")
        with path.open("rb") as file:
            data = file.read(CONTEXTS_MAX + 1)
    except (OSError, ValueError) as error:
        why = cause(error) if isinstance(error, OSError) else "not a path"
        raise InputError(f"{printable(str(path))}: {why}") from error
    if len(data) > CONTEXTS_MAX:
        raise InputError(f"{printable(str(path))} is larger than {CONTEXTS_MAX >> 20} MiB")
    return data.decode("utf-8", "surrogateescape")


FORM = Setting(
    "form",
    "udica (inherits the template container), minimal, or auto (udica for a container)",
    "FORM",
    "auto",
    OneOf("auto", "udica", "minimal"),
)
NAMED: Setting[str | None] = Setting(
    "name", "the module's name; the type is NAME.process; default: made from the policy", "NAME", None, _name
)
CONTEXTS: Setting[Contexts | None] = Setting(
    "contexts",
    "the machine's file_contexts; default: types of the reference policy",
    "FILE",
    None,
    _contexts,
)
TYPES: Setting[Mapping[str, str]] = Setting(
    "types", "types of paths, with all below them, and of ports: /srv/app=app_t,tcp/81=web_port_t", "LIST", {}, _types
)
RELABEL: Setting[tuple[str, ...]] = Setting(
    "relabel", "directories, such as volumes, that get a type of the workload's own", "DIRS", (), _paths
)
FROM: Setting[tuple[str, ...]] = Setting(
    "from",
    "the types that start the workload; default: container_runtime_t, or init_t and unconfined_t",
    "TYPES",
    (),
    _from,
)


@dataclass(frozen=True)
class Choices:
    """How the module is written."""

    name: str
    inherits: bool
    starters: tuple[str, ...]


def module_name(policy: Policy) -> str:
    """Return ``profgen_COMMAND_DIGEST``. Its type is ``profgen_COMMAND_DIGEST.process``."""
    return f"profgen_{command_of(policy, 'A-Za-z0-9')[:60]}_{digest_of(policy)}"


def choices(request: Request) -> Choices:
    """Return the settings of a request, with their defaults."""
    policy = request.policy
    container = policy.runtime != "none"
    form = FORM.of(request)
    return Choices(
        NAMED.of(request) or module_name(policy),
        form == "udica" or (form == "auto" and container),
        FROM.of(request) or (("container_runtime_t",) if container else ("init_t", "unconfined_t")),
    )


def labels_of(request: Request) -> Labels:
    """Return where the types of files come from."""
    policy = request.policy
    return Labels(
        {where: name for where, name in TYPES.of(request).items() if where.startswith("/")},
        RELABEL.of(request),
        policy.runtime != "none",
        mounted(policy),
        CONTEXTS.of(request),
        makers(policy),
    )


class SELinux(Target):
    """A type of SELinux for the workload."""

    name = "selinux"
    summary = "NAME.cil: an SELinux module with a type for containers or services"
    says = frozenset({"capabilities", "files", "sockets", "signals", "inspections", "mounts"})
    settings = (FORM, NAMED, CONTEXTS, TYPES, RELABEL, FROM)

    def render(self, request: Request) -> Output:
        """See Target.render. Raises InputError for a policy without evidence of files."""
        policy, chosen = request.policy, choices(request)
        if not policy.has_files:
            raise InputError(
                "the policy says nothing about files: an SELinux type needs a recording that watched them; record again"
            )
        labels = labels_of(request)
        domain = build(policy, labels, _ports(TYPES.of(request)), inherits=chosen.inherits)
        name, losses = f"{chosen.name}.cil", list(domain.losses)
        if chosen.inherits:
            why = "it brings what every container may do: as container_t, without its network"
            losses.append(Loss("files", "the template container", why))
        else:
            why = "every process must have it, and it brings what the distribution allows to all"
            losses.append(Loss("files", "the attribute domain", why))
        steps = tuple(_usage(policy, chosen, labels, name))
        values = {
            "command": " ".join(map(shell, policy.workload.argv)),
            "extent": extent(policy.workload),
            "block": chosen.name,
            "inherits": chosen.inherits,
            "container": labels.container,
            "starters": chosen.starters,
            "domain": domain,
            "data": any(row.target == OWN for row in domain.rules),
            "relabelled": labels.relabelled,
            "refused": [row for row in losses if row.effect == "refused"],
            "usage": [step.line({name: name}) for step in steps],
        }
        file = File(name, request.template("selinux.cil.j2", **values))
        return Output((file,), tuple(losses), steps, f"{chosen.name}.process")


def _ports(types: Mapping[str, str]) -> Mapping[tuple[str, int], str]:
    return {(found[1], int(found[2])): name for where, name in types.items() if (found := _PORT.fullmatch(where))}


def _usage(policy: Policy, chosen: Choices, labels: Labels, name: str) -> Iterator[Step]:
    own = f"{chosen.name}.process"
    context = of_process(own)
    base = f" {BASE}" if chosen.inherits else ""
    yield Step("load", f"load it:     semodule -i {written(name)}{base}   (as root; again after each change)")
    for path in labels.relabelled:
        yield Step("load", f"then:        restorecon -R {shell(path)}")
    if labels.container:
        yield Step("use", f"docker:      docker run --security-opt label=type:{own} ...   (podman alike)")
        yield Step("use", f"kubernetes:  securityContext: {{seLinuxOptions: {{type: {own}}}}}   (loaded on the node)")
    else:
        yield Step("use", f"systemd:     SELinuxContext={context}")
        yield Step("use", f"a command:   runcon {context} COMMAND")
    yield Step("undo", f"unload it:   semodule -r $(basename {written(name)} .cil)")
    if chosen.inherits:
        yield Step("note", "the machine needs container-selinux: Debian's policy has no types for containers")
    elif labels.container:
        yield Step("note", f"the machine's policy must have {CONTAINER} and container_runtime_t; Debian's has not")
    if labels.contexts is None and not labels.container:
        yield Step(
            "note",
            "types of files are those of the reference policy; for the machine's own add "
            "-O selinux.contexts=/etc/selinux/targeted/contexts/files/file_contexts",
        )
