"""seccomp.json: the JSON that Docker, Podman, containerd and the OCI runtimes all read the same way.

It has only what all of them accept (runtime-spec config-linux.md, moby profiles/seccomp). There are no comments,
includes, excludes or archMap. ``errnoRet`` is only on SCMP_ACT_ERRNO, which crun requires. A rule has one condition for
an argument, because runtimes read two as alternatives. A name never has both an unconditional and a conditional rule,
because the first would make the second pointless.
"""

from __future__ import annotations

from collections.abc import Mapping
from errno import ENOSYS, EPERM
from typing import Any

from profiler.kernel.abi import seccomp_name
from profiler.kernel.errno import number_of as errno_number
from profiler.kernel.multiplexers import IMPLIED, IMPLIED_ABI
from profiler.kernel.syscalls import number_of
from profiler.policy.model import SECTIONS, Policy, Rule
from profiler.targets.base import File, Loss, OneOf, Output, Request, Setting, Step, Target, written
from profiler.wording import listed

DEFAULT_ACTIONS: Mapping[str, str] = {
    "errno": "SCMP_ACT_ERRNO",
    "log": "SCMP_ACT_LOG",
    "kill-process": "SCMP_ACT_KILL_PROCESS",
}
"""The word of the setting, and OCI's."""

ACTION = Setting(
    "action",
    f"what happens on a syscall that the profile does not name: {', '.join(DEFAULT_ACTIONS)}",
    "ACTION",
    "errno",
    OneOf(*DEFAULT_ACTIONS),
)


def _arguments(rule: Rule) -> list[dict[str, int | str]]:
    return [
        # MASKED_EQ for whole values too: the kernel passes 64 bits, and a program sets only 32 of them for an int.
        {"index": condition.position, "value": condition.mask, "valueTwo": condition.value, "op": "SCMP_CMP_MASKED_EQ"}
        for condition in rule.conditions
    ]


def closed(policy: Policy) -> tuple[str, ...]:
    """Return the multiplexers that a profile must refuse by name, or libseccomp allows them along with the calls whose
    work they do."""
    if IMPLIED_ABI not in policy.abis:
        return ()
    allowed = {entry.name for entry in policy.syscalls}
    return tuple(name for name in IMPLIED if name not in allowed)


def profile(policy: Policy, default_action: str) -> dict[str, Any]:
    """Return the profile as data. A name is allowed for all architectures, because OCI has no rules for one of them."""
    unconditional: dict[str, str] = {}
    rules: dict[str, set[Rule]] = {}
    for section in SECTIONS:
        for entry in policy.entries(section):
            if entry.rules:
                rules.setdefault(entry.name, set()).update(entry.rules)
            else:
                unconditional.setdefault(entry.name, section)
    syscalls: list[dict[str, Any]] = []
    for section in SECTIONS:
        names = sorted(name for name, where in unconditional.items() if where == section)
        if names:
            syscalls.append({"names": names, "action": "SCMP_ACT_ALLOW"})
    by_rule: dict[Rule, list[str]] = {}
    for name in sorted(rules):
        if name not in unconditional:
            for rule in rules[name]:
                by_rule.setdefault(rule, []).append(name)
    for rule, names in sorted(by_rule.items(), key=lambda item: (item[1], item[0])):
        syscalls.append({"names": names, "action": "SCMP_ACT_ALLOW", "args": _arguments(rule)})
    by_errno: dict[int, list[str]] = {}
    errors = {name: ENOSYS for name in closed(policy) if default_action != "log"}
    errors |= {refusal.name: errno_number(refusal.errno) or EPERM for refusal in policy.refused}
    for name, errno in errors.items():
        if name not in unconditional and name not in rules:
            by_errno.setdefault(errno, []).append(name)
    for errno, names in sorted(by_errno.items()):
        syscalls.append({"names": sorted(names), "action": "SCMP_ACT_ERRNO", "errnoRet": errno})
    head: dict[str, Any] = {"defaultAction": DEFAULT_ACTIONS[default_action]}
    if default_action == "errno":
        head["defaultErrnoRet"] = EPERM
    return {**head, "architectures": [seccomp_name(abi) for abi in policy.abis], "syscalls": syscalls}


def _losses(policy: Policy) -> tuple[Loss, ...]:
    """Return the syscalls of other ABIs that the profile allows for the native one as well."""
    native = policy.abis[0]
    own = {entry.name for entry in policy.syscalls if entry.abi == native}
    others = {
        entry.name for entry in policy.syscalls if entry.abi != native and number_of(native, entry.name) is not None
    }
    names = sorted(others - own)
    why = f"a profile has one list for all architectures, so {native} has what others need"
    return (Loss("syscalls", listed(names, 8), why),) if names else ()


class Seccomp(Target):
    """A seccomp profile in the JSON of the OCI world."""

    name = "seccomp"
    summary = "seccomp.json: Docker, Podman, containerd, CRI-O, the OCI runtime specification"
    says = frozenset({"syscalls", "arguments", "refused"})
    settings = (ACTION,)

    def render(self, request: Request) -> Output:
        """See Target.render."""
        made = profile(request.policy, ACTION.of(request))
        file = File("seccomp.json", request.template("seccomp.json.j2", profile=made))
        use = Step("use", f"docker run --security-opt seccomp={written(file.name)} ...")
        return Output((file,), _losses(request.policy), (use,))
