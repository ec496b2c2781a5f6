"""What an AppArmorProfile of the Security Profiles Operator says: lists of paths, kinds of sockets and capabilities.

The operator makes AppArmor rules of each list (crd2armor.go, appArmorTemplate, release 1.0.0):

- ``allowedExecutables`` ``ixr``, ``allowedLibraries`` ``mr``;
- ``readOnlyPaths`` ``r`` and ``deny wlk``, ``writeOnlyPaths`` ``wlk`` and ``deny r``, ``readWritePaths`` ``rwlk``.

A deny rule wins over every other rule, whatever their order. So a path is in a list with one only when no path that
fits it needs what is denied.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from profiler.errors import InputError
from profiler.kernel.apparmor import letters
from profiler.policy.model import FileRule, Policy
from profiler.policy.patterns import Literal, parse
from profiler.quoting.apparmor import Inexpressible
from profiler.quoting.text import printable
from profiler.targets.apparmor import rules
from profiler.targets.base import Loss
from profiler.targets.spo.globs import Glob, directory, globs, overlap
from profiler.wording import listed

_LISTED = 5
_READS, _WRITES = frozenset("rmx"), frozenset("wlk")

STREAMS = ("/dev/null", "/dev/pts/{name}")
"""Standard streams, which the kernel checks again when a container's profile is applied (aa_inherit_files)."""

_DENIED = re.compile(
    r"/proc/(?:[^/]*|(?:[^1-9]|[^1-9][^0-9]|[^1-9s][^0-9y][^0-9s]|[^1-9][^0-9][^0-9][^0-9][^/]*)/.+"
    r"|sys/[^k].*|sys/kernel/(?:[^/]|[^/]{2}|[^s][^h][^m].*))",
    re.DOTALL,
)
"""What the operator's own deny rules refuse to write, as AppArmor matches it: ``[^1-9]`` matches a slash too."""
_DENIED_WHOLLY = re.compile(r"/proc/(?:sysrq-trigger|mem|kmem|kcore)|/sys/firmware/efi/efivars/.+", re.DOTALL)
_NUMERIC = frozenset({"pid", "tid", "digits", "version", "date"})

_MEDIATED = frozenset(
    {"mount", "bind", "rbind", "move", "move_mount", "remount", "propagation", "umount", "pivot_root"}
)
"""Changes of the mount tree that AppArmor checks."""

TCP = frozenset({("inet", "stream"), ("inet6", "stream")})
UDP = frozenset({("inet", "dgram"), ("inet6", "dgram")})


@dataclass(frozen=True)
class Abstract:
    """The content of ``spec.abstract``, sorted, and what it does not express."""

    executables: tuple[str, ...]
    libraries: tuple[str, ...]
    read_only: tuple[str, ...]
    write_only: tuple[str, ...]
    read_write: tuple[str, ...]
    raw: bool
    tcp: bool
    udp: bool
    capabilities: tuple[str, ...]
    losses: tuple[Loss, ...]


@dataclass
class _Lists:
    """The lists of paths, as texts."""

    executables: list[str] = field(default_factory=list)
    libraries: list[str] = field(default_factory=list)
    read_only: list[str] = field(default_factory=list)
    write_only: list[str] = field(default_factory=list)
    read_write: list[str] = field(default_factory=list)


def abstract(policy: Policy) -> Abstract:
    """Return what the operator's form says of a policy that has evidence of files."""
    paths = _Paths(policy)
    lists = paths.lists()
    kinds = {(rule.family, rule.type) for rule in policy.sockets}
    return Abstract(
        executables=tuple(lists.executables),
        libraries=tuple(lists.libraries),
        read_only=tuple(lists.read_only),
        write_only=tuple(lists.write_only),
        read_write=tuple(lists.read_write),
        raw=any(sort == "raw" for _, sort in kinds),
        tcp=bool(kinds & TCP),
        udp=bool(kinds & UDP),
        capabilities=tuple(name.removeprefix("CAP_").lower() for name in policy.needed()),
        losses=(*paths.losses(), *_sockets(policy), *_others(policy)),
    )


class _Paths:
    """Collects the letters that each path needs."""

    def __init__(self, policy: Policy) -> None:
        self._letters: dict[Glob, set[str]] = {}
        self._refused: list[Loss] = []
        self._wider: dict[str, list[str]] = {}
        for pattern in STREAMS:
            self._add(pattern, "rw", ("char",))
        for rule in policy.files:
            try:
                self._rule(rule)
            except (Inexpressible, InputError) as error:
                self._refused.append(Loss("files", rule.pattern, str(error), "refused"))
        for program in policy.programs:
            try:
                self._add(program, "mrx", ("file",))
            except (Inexpressible, InputError) as error:
                self._refused.append(Loss("transitions", program, str(error), "refused"))
        if rules.shared_memory(policy):
            self._add("/", "rw", ("directory",))

    def _rule(self, rule: FileRule) -> None:
        modes, pattern = letters(rule.access), rule.pattern
        if rule.states == ("detached",):
            seen_as = rules.detached(pattern, "x" in modes)
            if seen_as is None:
                return
            pattern = seen_as
        if not modes:
            return
        if "l" in modes and not rule.existing:
            raise Inexpressible("the file that it is another name of is not known")
        for existing in rule.existing:
            globs(existing)  # fails before anything is added
        self._add(pattern, modes, rule.kinds)
        if rules.is_namespace(pattern):
            self._add("/", modes, ("directory",))
        for existing in rule.existing if "l" in modes else ():
            # The kernel wants the rights to the new name on the old one too (profile_path_link in file.c).
            self._add(existing, modes + "rw", ("file",))
            self._widen("a file that gets another name may be read and written too", existing)
        if rule.owner:
            self._widen("the operator has no rules for a user's own files", rule.pattern)
        if _is_denied(pattern, modes):
            why = "the operator denies it in every profile"
            self._refused.append(Loss("files", rule.pattern, why, "refused"))

    def _add(self, pattern: str, modes: str, kinds: Iterable[str]) -> None:
        for glob in globs(pattern):
            for form in _forms(glob, frozenset(kinds)):
                self._letters.setdefault(form, set()).update(modes)
            if glob.replaced:
                self._widen("? stands for each character that the operator refuses in a path", pattern)
            if glob.widened:
                self._widen("the operator refuses sets and alternatives in a path: ? and * stand for them", pattern)

    def _widen(self, why: str, item: str) -> None:
        self._wider.setdefault(why, []).append(item)

    def lists(self) -> _Lists:
        """Return the lists that each path belongs to."""
        found = _Lists()
        reads = [glob for glob, modes in self._letters.items() if modes & _READS]
        writes = [glob for glob, modes in self._letters.items() if modes & _WRITES]
        for glob, modes in sorted(self._letters.items(), key=lambda item: item[0].text):
            if "x" in modes:
                found.executables.append(glob.text)
            if "m" in modes:
                found.libraries.append(glob.text)
            if modes & _WRITES:
                if modes & _READS or _meets(glob, reads):
                    found.read_write.append(glob.text)
                    if not modes & _READS:
                        self._widen("it may be read too, as a path that fits it must be", glob.text)
                else:
                    found.write_only.append(glob.text)
                if "w" not in modes:
                    self._widen("what may be locked or linked may be written too", glob.text)
            elif not modes & {"x", "m"}:
                if _meets(glob, writes):
                    found.libraries.append(glob.text)
                    self._widen("it may be mapped as code: in readOnlyPaths it would deny writes elsewhere", glob.text)
                else:
                    found.read_only.append(glob.text)
        return found

    def losses(self) -> Iterator[Loss]:
        """Yield what the lists do not express; call it after ``lists``."""
        yield from self._refused
        for why, items in self._wider.items():
            yield Loss("files", listed([printable(item) for item in dict.fromkeys(items)], _LISTED), why)
        if any(modes & _WRITES for modes in self._letters.values()):
            yield Loss("files", "files that are written", "each may be locked and linked, made and removed too")
        yield Loss("files", "what abstractions/base allows", "the operator includes it in every profile")


def _meets(glob: Glob, others: Sequence[Glob]) -> bool:
    return any(other is not glob and overlap(glob, other) for other in others)


def _forms(glob: Glob, kinds: frozenset[str]) -> list[Glob]:
    """Return the names of a path: with a slash for a directory, both when the kind is not known."""
    unsure = not kinds or "unknown" in kinds
    as_directory = unsure or "directory" in kinds
    return [glob] * (unsure or bool(kinds - {"directory"})) + [directory(glob)] * as_directory


def _is_denied(pattern: str, modes: str) -> bool:
    """Return whether the operator's own deny rules take this from the paths of a pattern, or from some of them."""
    one = "".join(
        token.text if isinstance(token, Literal) else "1" if token.name in _NUMERIC else "x" for token in parse(pattern)
    )
    return bool(_DENIED_WHOLLY.fullmatch(one) or ("w" in modes and _DENIED.fullmatch(one)))


def _sockets(policy: Policy) -> Iterator[Loss]:
    kinds = sorted({(rule.family, rule.type) for rule in policy.sockets})
    for family, sort in kinds:
        if sort != "raw" and (family, sort) not in TCP | UDP and family != "unix":
            why = "the operator has words for TCP, UDP and raw sockets alone"
            yield Loss("sockets", f"sockets {printable(family)} {printable(sort)}", why, "refused")
    if any(sort == "raw" for _, sort in kinds):
        yield Loss("sockets", "raw sockets", "allowRaw opens them in every family")
    if one := [name for name, both in (("TCP", TCP), ("UDP", UDP)) if len(both & set(kinds)) == 1]:
        yield Loss("sockets", " and ".join(one), "the operator does not tell IPv4 from IPv6")
    if ports := sorted({port for rule in policy.sockets for _, row in rule.ports for port in row}):
        yield Loss("sockets", f"ports {listed(list(map(str, ports)), 8)}", "AppArmor has no ports")
    named = sorted(
        {text for rule in policy.sockets for _, row in rule.addresses for text in row if text[:1] == "@" and text[1:]}
    )
    if named:
        what = f"unix sockets {listed([printable(text) for text in named], _LISTED)}"
        yield Loss("sockets", what, "a kernel that mediates unix sockets asks for rules that it lacks", "refused")


def _others(policy: Policy) -> Iterator[Loss]:
    """Yield what becomes of signals, inspections and mounts: only abstractions/base is about them."""
    why = "the operator has no rules for it"
    sent = {rule.signal for rule in policy.signals if rule.whom == "outside" and rule.signal != "0"}
    if sent:
        yield Loss("signals", f"signals {listed(sorted(map(printable, sent)), 8)} to others", why, "refused")
    for access, peer in rules.inspections(policy, "own"):
        allowed = {"readby", "tracedby"} | ({"read"} if peer == "own" else set())
        if lacking := sorted(set(access.strip("()").split(", ")) - allowed):
            whom = "own processes" if peer == "own" else "others"
            yield Loss("inspections", f"ptrace {' and '.join(lacking)} of {whom}", why, "refused")
    operations = {rule.operation for rule in policy.mounts} & _MEDIATED
    raw = "CAP_SYS_RAWIO" in policy.needed()
    if refused := sorted(operations if not raw else operations & {"pivot_root"}):
        yield Loss("mounts", listed(list(map(printable, refused)), 8), why, "refused")
    if raw:
        yield Loss("mounts", "all mounts", "the operator allows them along with CAP_SYS_RAWIO")
