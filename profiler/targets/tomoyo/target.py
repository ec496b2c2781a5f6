"""tomoyo.*.conf: a profile, an exception policy and a domain policy of TOMOYO for the workload."""

from __future__ import annotations

from collections.abc import Iterator

from profiler.errors import InputError
from profiler.policy.caveats import extent
from profiler.policy.model import Policy
from profiler.quoting.shell import shell
from profiler.quoting.text import printable
from profiler.quoting.tomoyo import NAMESPACE
from profiler.targets.base import File, Output, Request, Setting, Step, Target, written, yes_or_no
from profiler.targets.naming import command_of, digest_of
from profiler.targets.tomoyo.rules import build

PROFILE, EXCEPTIONS, DOMAINS = "tomoyo.profile.conf", "tomoyo.exception.conf", "tomoyo.domain.conf"
_SELF = "/sys/kernel/security/tomoyo/self_domain"


def _name(text: str) -> str:
    if not NAMESPACE.fullmatch(text) or text == "kernel":
        raise InputError(
            f"{printable(text)!r} is not a name for a namespace: up to 64 letters, digits, '_', '.' and '-'; not kernel"
        )
    return text


NAMED: Setting[str | None] = Setting("name", "the namespace's name; default: made from the policy", "NAME", None, _name)
PERMISSIVE = Setting("permissive", "only log what is not allowed", "yes|no", False, yes_or_no)


def namespace_name(policy: Policy) -> str:
    """Return ``profgen_COMMAND_DIGEST``."""
    return f"profgen_{command_of(policy, 'A-Za-z0-9')[:40]}_{digest_of(policy)}"


class Tomoyo(Target):
    """A namespace of TOMOYO with a domain for each program."""

    name = "tomoyo"
    summary = "tomoyo.domain.conf, tomoyo.exception.conf, tomoyo.profile.conf: TOMOYO, for services and commands"
    says = frozenset({"files", "transitions", "sockets", "mounts"})
    settings = (NAMED, PERMISSIVE)

    def render(self, request: Request) -> Output:
        """See Target.render. Raises InputError for a policy without evidence of files."""
        policy = request.policy
        if not policy.has_files:
            raise InputError(
                "the policy says nothing about files: TOMOYO's policy needs a recording that watched them; record again"
            )
        name = NAMED.of(request) or namespace_name(policy)
        rules = build(policy, name)
        steps = tuple(_usage(policy, name))
        paths = {file: file for file in (PROFILE, EXCEPTIONS, DOMAINS)}
        values = {
            "command": " ".join(map(shell, policy.workload.argv)),
            "extent": extent(policy.workload),
            "namespace": f"<{name}>",
            "mode": "permissive" if PERMISSIVE.of(request) else "enforcing",
            "rules": rules,
            "refused": [row for row in rules.losses if row.effect == "refused"],
            "usage": [step.line(paths) for step in steps],
        }
        files = tuple(File(file, request.template(f"{file}.j2", **values)) for file in paths)
        needs = (File(DOMAINS, files[2].data, needs=(PROFILE, EXCEPTIONS)), *files[:2])
        return Output(needs, rules.losses, steps, name)


def _usage(policy: Policy, name: str) -> Iterator[Step]:
    for what, option, file in (("load it:", "-p", PROFILE), ("", "-e", EXCEPTIONS), ("", "-d", DOMAINS)):
        yield Step("load", f"{what:12} tomoyo-loadpolicy {option} < {written(file)}")
    yield Step("use", f'a command:   sh -c \'echo "<{name}>" > {_SELF} && exec "$@"\' sh COMMAND')
    yield Step("undo", f"unload it:   grep '^<' {written(DOMAINS)} | sed 's/^/delete /' | tomoyo-loadpolicy -d")
    yield Step("undo", f"             grep '^[<a]' {written(EXCEPTIONS)} | sed 's/^/delete /' | tomoyo-loadpolicy -e")
    if policy.runtime != "none":
        yield Step(
            "note", "no container runtime starts a workload in a domain of TOMOYO; this is for commands and services"
        )
