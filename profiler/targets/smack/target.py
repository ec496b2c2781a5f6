"""smack.rules and smack-labels.sh: a label for the workload's processes, and labels for what it writes."""

from __future__ import annotations

from collections.abc import Iterator

from profiler.errors import InputError
from profiler.policy.caveats import extent
from profiler.policy.model import Policy
from profiler.quoting import smack
from profiler.quoting.shell import shell
from profiler.quoting.text import printable
from profiler.targets.base import File, Output, Request, Setting, Step, Target, written
from profiler.targets.naming import command_of, digest_of
from profiler.targets.smack.rules import build

RULES, SCRIPT = "smack.rules", "smack-labels.sh"

_SUFFIX = ".rwxatl"
"""The longest that a label of files has besides."""


def _label(text: str) -> str:
    try:
        smack.label(text + _SUFFIX)
    except smack.Inexpressible as error:
        raise InputError(f"{printable(text)!r}: {error} ({len(_SUFFIX)} are for labels of files)") from error
    if len(text) < 2:
        raise InputError(f"{printable(text)!r}: labels of one character may belong to the kernel: use a longer one")
    return text


LABEL: Setting[str | None] = Setting(
    "label", "the label of the processes; default: made from the policy", "LABEL", None, _label
)


class Smack(Target):
    """Rules of Smack, and a script that labels files."""

    name = "smack"
    summary = f"{RULES}, {SCRIPT}: Smack, rules and labels for a service or a command"
    says = frozenset({"files", "signals", "inspections"})
    settings = (LABEL,)

    def render(self, request: Request) -> Output:
        """See Target.render. Raises InputError for a policy without evidence of files."""
        policy = request.policy
        if not policy.has_files:
            raise InputError(
                "the policy says nothing about files: labels need a recording that watched them; record again"
            )
        label = LABEL.of(request) or f"{command_of(policy, 'A-Za-z0-9_.')[:64]}.{digest_of(policy)}"
        domain = build(policy)
        steps = tuple(_usage(policy, label))
        values = {
            "command": " ".join(map(shell, policy.workload.argv)),
            "extent": extent(policy.workload),
            "label": label,
            "domain": domain,
            "refused": [row for row in domain.losses if row.effect == "refused"],
        }
        files = (
            File(RULES, request.template("smack.rules.j2", **values)),
            File(SCRIPT, request.template("smack-labels.sh.j2", **values), executable=True),
        )
        return Output(files, domain.losses, steps, label)


def _usage(policy: Policy, label: str) -> Iterator[Step]:
    own = shell(label)
    yield Step("load", f"label files:    {written(SCRIPT)}                (as root)")
    yield Step("load", f"load rules:     cat {written(RULES)} > /sys/fs/smackfs/load2")
    yield Step("load", f"at each boot:   install -D -m 644 {written(RULES)} /etc/smack/accesses.d/{own}   (systemd)")
    if any(row.family in ("inet", "inet6") for row in policy.sockets):
        yield Step(
            "load", "network:        echo '0.0.0.0/0 @' > /sys/fs/smackfs/netlabel   (any process, to any address)"
        )
    yield Step("use", f"systemd:        SmackProcessLabel={label}")
    yield Step(
        "use", f'a command:      sh -c \'echo "$0" > /proc/self/attr/current && exec "$@"\' {shell(label)} COMMAND'
    )
    yield Step("undo", f"labels:         {written(SCRIPT)} --undo")
    yield Step(
        "undo",
        f"rules:          echo {own} > /sys/fs/smackfs/revoke-subject; rm /etc/smack/accesses.d/{own}",
    )
    yield Step("note", "the processes need another user than root, or no CAP_MAC_OVERRIDE: it overrides every rule")
