"""A denial as a use of the policy's words, and both as AppArmor sees them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from profiler.denials.model import Denial
from profiler.kernel.apparmor import coarse
from profiler.policy.covering import Resource
from profiler.policy.model import FileRule, InspectionRule, MountRule, SignalRule, SocketRule, Transition
from profiler.policy.patterns import literal
from profiler.trace.model import SOCKET_OPERATIONS

ADDRESSED = ("bind", "connect", "send")
"""Operations of sockets that name a port or an address."""


def use_of(denial: Denial) -> Resource | None:
    """Return the use that was denied; None for what is not a file, socket, signal, inspection, mount or
    execution.

    Raises InputError for a path that no bytes give.
    """
    if denial.kind == "file" and denial.path is not None:
        return FileRule(
            literal(denial.path),
            denial.access,
            (denial.sort_of_file,),
            (),
            denial.owner is True,
            existing=() if denial.existing is None else (literal(denial.existing),),
            states=(denial.state or "linked",),
            whose=() if denial.whose is None else (denial.whose,),
        )
    if denial.kind == "socket":
        operations = tuple(word for word in denial.operations if word in SOCKET_OPERATIONS)
        addressed = tuple(word for word in operations if word in ADDRESSED)
        return SocketRule(
            denial.family or "",
            denial.type or "",
            denial.protocol or 0,
            operations,
            (),
            ports=() if denial.port is None else tuple((word, (denial.port,)) for word in addressed),
            addresses=() if denial.address is None else tuple((word, (literal(denial.address),)) for word in addressed),
        )
    if denial.kind == "signal":
        return SignalRule(denial.signal or "", whom_of(denial), ())
    if denial.kind == "inspection":
        return InspectionRule(denial.operations[0] if denial.operations else "", whom_of(denial), ())
    if denial.kind == "execution" and denial.path is not None and denial.source is not None:
        return Transition(literal(denial.path), literal(denial.source))
    if denial.kind == "mount":
        source, target, filesystem = (
            None if text is None else literal(text) for text in (denial.source, denial.target, denial.filesystem)
        )
        return MountRule(denial.operation or "mount", source, target, filesystem, denial.flags, ())
    return None


def whom_of(denial: Denial) -> str:
    """Return whom a signal or an inspection went to.

    Where only the profile of the other side is known: the same profile, or a child or parent of it, is the workload's.
    """
    if denial.whom is not None:
        return denial.whom
    mine, other = (denial.profile or "").partition("//")[0], (denial.peer or "").partition("//")[0]
    return "workload" if mine and mine == other else "outside"


def as_apparmor(rule: Resource) -> Iterator[Resource]:
    """Yield the rule, or the use, as AppArmor tells it from others.

    Files: by the letters of their accesses; the name of a directory ends with a slash (aa_path_name in path.c), and
    the rule of what is not known to be one or not is for both. Sockets: by family and type, unix sockets by operation
    and address too. Signals and inspections: by the profile of the other side.
    """
    match rule:
        case FileRule():
            seen = replace(rule, access=coarse(rule.access), kinds=(), states=("linked",), whose=())
            kinds = set(rule.kinds) or {"unknown"}
            if rule.pattern == "/" or kinds != {"directory"}:
                yield seen
            if rule.pattern != "/" and kinds & {"directory", "unknown"}:
                yield replace(seen, pattern=f"{rule.pattern}/")
        case SocketRule(family="unix"):
            yield replace(rule, protocol=0)
        case SocketRule():
            yield replace(rule, protocol=0, operations=SOCKET_OPERATIONS, ports=(), addresses=())
        case SignalRule() | InspectionRule():
            yield replace(rule, whom="outside" if rule.whom == "outside" else "workload")
        case _:
            yield rule
