"""lxc.seccomp: a seccomp policy in LXC's own format, version 2, which LXC and Incus read.

Source: src/lxc/seccomp.c of LXC 5.0.2 and 7.0, tried with 5.0.2. What its parser takes badly is never written: a rule
has its action in front of its arguments; nothing follows the arguments; arguments hold no blanks; the value of a
masked comparison comes second and its mask fourth; no rule has the default's action, which LXC refuses along with the
file. Section headers do not limit a rule to an ABI: LXC adds each rule for all ABIs of the machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from errno import EPERM
from typing import Any

from profiler.kernel.abi import SUB_ABIS
from profiler.kernel.multiplexers import IMPLIED_ABI, implied
from profiler.kernel.runtimes import base_for
from profiler.policy.caveats import extent
from profiler.policy.model import Policy, Rule
from profiler.policy.passes.runtime_base import with_bases
from profiler.quoting.shell import shell
from profiler.targets.base import File, Loss, OneOf, Output, Request, Setting, Step, Target, written
from profiler.targets.seccomp import profile
from profiler.wording import listed

FILE = "lxc.seccomp"

ACTIONS = {"errno": f"errno {EPERM}", "kill": "kill"}
"""The word of the setting, and LXC's. LXC has no action that only logs, and its kill ends one thread."""
STARTS = {"start": "lxc", "execute": "lxc-execute"}
"""The word of the setting, and the runtime whose base sets are added."""

ACTION = Setting(
    "action",
    f"what happens on a syscall that the policy does not name: {', '.join(ACTIONS)}",
    "ACTION",
    "errno",
    OneOf(*ACTIONS),
)
START = Setting(
    "start",
    "what starts it: start (lxc-start), or execute (lxc-execute, whose init makes more calls)",
    "HOW",
    "start",
    OneOf(*STARTS),
)


@dataclass(frozen=True)
class Rows:
    """Lines with a title. ``lines`` are rules as LXC reads them."""

    title: str
    lines: tuple[str, ...]


class LxcSeccomp(Target):
    """LXC's seccomp policy."""

    name = "lxc-seccomp"
    summary = "lxc.seccomp: a seccomp policy for LXC and Incus, with arguments"
    says = frozenset({"syscalls", "arguments", "refused"})
    settings = (ACTION, START)

    def render(self, request: Request) -> Output:
        """See Target.render."""
        policy, action = request.policy, ACTION.of(request)
        whole = with_bases(policy, base_for(STARTS[START.of(request)], None, policy.no_new_privs))
        values = {
            "argv": " ".join(map(shell, policy.workload.argv)),
            "extent": extent(policy.workload),
            "action": ACTIONS[action],
            "groups": tuple(_groups(profile(policy, "errno"), profile(whole, "errno"), ACTIONS[action])),
        }
        file = File(FILE, request.template("lxc.seccomp.j2", **values))
        use = Step("use", f"lxc.seccomp.profile = {written(file.name)}   (a line of a container's config)")
        return Output((file,), tuple(_losses(policy, whole)), (use,))


def _groups(own: Mapping[str, Any], whole: Mapping[str, Any], default: str) -> Iterator[Rows]:
    """Yield the rules, those that only LXC itself needs last. ``whole`` allows what ``own`` does, and LXC's calls."""
    every = dict.fromkeys(_lines(whole, default))
    needed = set(_lines(own, default))
    yield Rows("what the workload needs", tuple(line for line in every if line in needed))
    yield Rows("what LXC itself calls", tuple(line for line in every if line not in needed))


def _lines(profile: Mapping[str, Any], default: str) -> Iterator[str]:
    """Yield the rules of a profile in OCI's form."""
    for row in profile["syscalls"]:
        action = "allow" if row["action"] == "SCMP_ACT_ALLOW" else f"errno {row['errnoRet']}"
        if action == default:
            continue
        tests = "".join(
            f"[{test['index']},{test['valueTwo']:#x},SCMP_CMP_MASKED_EQ,{test['value']:#x}]"
            for test in row.get("args", ())
        )
        for name in row["names"]:
            yield f"{name} {action} {tests}".rstrip()


def _losses(policy: Policy, whole: Policy) -> Iterator[Loss]:
    """Yield what the rules of ``whole`` allow or refuse beyond the policy, whose calls and LXC's are in it."""
    native, *others = policy.abis
    own = {entry.name for entry in policy.syscalls if entry.abi == native}
    foreign = {entry.name for entry in policy.syscalls if entry.abi != native}
    added = {entry.name for entry in whole.syscalls} - own - foreign
    if added:
        yield _named("syscalls", added, "LXC itself calls them after it has loaded the policy")
    wider = {name for name in own | foreign if _rules(policy, name) and _rules(policy, name) != _rules(whole, name)}
    if wider:
        yield _named("arguments", wider, "LXC itself calls them with other arguments")
    unseen = [abi for abi in SUB_ABIS.get(native, ()) if abi not in others]
    if unseen:
        why = "LXC adds each rule for all ABIs of the machine"
        yield Loss("syscalls", f"calls of {' and '.join(unseen)} with the same names", why)
    if foreign - own:
        yield _named("syscalls", foreign - own, f"a rule has no ABI, so {native} has what others need")
    lost = {name for name in foreign if implied(name)} if IMPLIED_ABI in others else set()
    if lost:
        why = f"LXC leaves out the calls that {IMPLIED_ABI} also has through a multiplexer"
        yield Loss("syscalls", f"{listed(sorted(lost), 8)} of {IMPLIED_ABI}", why, "refused")


def _named(section: str, names: set[str], why: str) -> Loss:
    return Loss(section, listed(sorted(names), len(names)), why)


def _rules(policy: Policy, name: str) -> frozenset[Rule]:
    """Return the rules of a call, none when it is allowed with any arguments."""
    entries = [entry for entry in policy.syscalls if entry.name == name]
    return (
        frozenset(rule for entry in entries for rule in entry.rules) if all(e.rules for e in entries) else frozenset()
    )
