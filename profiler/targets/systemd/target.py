"""NAME.service.d/50-profgen.conf: what a service of systemd may do, or the same keys in a unit file of the user."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from profiler.errors import InputError
from profiler.kernel.syscalls import number_of
from profiler.kernel.systemd import words
from profiler.policy.caveats import extent
from profiler.policy.model import Policy
from profiler.quoting.shell import shell
from profiler.quoting.text import printable
from profiler.rewriting.units import MARK, Entry, Unreadable, assignments, lines_of, put
from profiler.targets import contexts
from profiler.targets.base import (
    Existing,
    File,
    Launches,
    Loss,
    Output,
    Request,
    Setting,
    Step,
    Target,
    written,
    yes_or_no,
)
from profiler.targets.systemd.check import check
from profiler.targets.systemd.facts import Facts
from profiler.targets.systemd.options import KEYS, OPTIONS, Chosen, chosen
from profiler.wording import listed

_SHOWN = 12
_UNITS = "/etc/systemd/system"
_NAME = re.compile(r"[A-Za-z0-9:_.\\@-]{1,240}")
"""What names of units are made of (systemd.unit(5))."""
_OTHERS = ("automount", "device", "mount", "path", "scope", "slice", "socket", "swap", "target", "timer")
_HEADINGS = {
    "calls": "Calls",
    "privileges": "Privileges",
    "files": "Files",
    "devices": "Devices",
    "network": "Network",
    "kernel": "The kernel",
    "limits": "Limits",
}


def _name(text: str) -> str:
    """Parse the name of a service, with or without its suffix."""
    if not _NAME.fullmatch(text) or text.startswith(("-", ".")) or _service(text) is None:
        raise InputError(f"{printable(text)!r} is not the name of a service, such as redis or getty@tty1.service")
    return text


def _service(name: str) -> str | None:
    """Return the name with its suffix; None for a unit of another kind, and for no name."""
    suffix = name.rpartition(".")[2]
    if not name or suffix in (
        "socket",
        "scope",
        "slice",
        "mount",
        "swap",
        "target",
        "timer",
        "path",
        "device",
        "automount",
    ):
        return None
    return name if name.endswith(".service") else f"{name}.service"


class Systemd(Target):
    """A service of systemd."""

    name = "systemd"
    summary = "NAME.service.d/50-profgen.conf: a drop-in for a unit of systemd; or your own unit rewritten"
    says = frozenset({"syscalls", "refused", "capabilities", "no_new_privs"})
    unit = Setting("unit", "the unit's name; default: the recorded one, or the program's", "NAME", "", _name)
    loopback = Setting("loopback", "it talks to this machine alone: deny other addresses", "yes|no", False, yes_or_no)
    settings = (unit, loopback)
    rewrites = "a systemd unit"
    launches = Launches(frozenset({"systemd"}), names=frozenset({"apparmor", "selinux"}))

    def render(self, request: Request) -> Output:
        """See Target.render."""
        policy = request.policy
        own = _own(request.existing) if request.existing else Own()
        facts = Facts(policy, self.loopback.of(request), own.paths)
        rows = [*chosen(facts)]
        apparmor = request.artifacts.get("apparmor")
        if apparmor:
            profile = apparmor.called.replace("%", "%%")
            rows.append(Chosen("AppArmorProfile", "files", (profile,), "it must be loaded where AppArmor is on"))
        if context := contexts.wanted(request):
            rows.append(Chosen("SELinuxContext", "files", (context,), "its type must be loaded where SELinux is on"))
        name = _service(self.unit.of(request)) or unit_of(policy)
        lost = tuple(_losses(facts))
        if request.existing is not None:
            try:
                lost = (*lost, *_stricter_losses(facts, rows, own))
                rows = [row for row in rows if not _is_stricter(own.value(row.key), row)]
                keys = [Entry(row.key, row.values, row.reason) for row in rows]
                lines = (f"{row.key}={value}\n" for row in rows for value in row.values)
                check(f"[Service]\n{''.join(lines)}".encode("utf-8", "surrogateescape"), name)
                text = put(request.existing.data, "Service", keys, KEYS)
            except Unreadable as error:
                raise InputError(f"{request.existing.name}: cannot be rewritten: {error}") from error
            return Output((File(_file_name(request.existing, name), text),), lost)
        drop_in = f"{name}.d/50-profgen.conf"
        work = policy.workload
        data = request.template(
            "systemd.conf.j2",
            unit=name,
            argv=" ".join(map(shell, work.argv)),
            extent=extent(work),
            image=work.image,
            joined=work.joined,
            user=facts.stance.user,
            recorded=work.launch.engine == "systemd",
            groups=[(_HEADINGS[key], [row for row in rows if row.group == key]) for key in _HEADINGS],
        )
        check(data, drop_in)
        return Output((File(drop_in, data),), lost, tuple(_steps(name, drop_in)))


_RANKS = {"ProtectSystem": ("yes", "full", "strict"), "ProtectHome": ("read-only", "tmpfs", "yes")}
"""Values of options that have more than one, the strictest last."""
_TRUE = frozenset({"1", "yes", "y", "true", "t", "on"})
_PATH = re.compile(r"(?<![A-Za-z0-9._%/])(/[^\s\"':;,]*|%[hTV][^\s\"':;,]*|~(?=\s|$))")
_SPECIFIERS = {"~": "/root", "%h": "/root", "%T": "/tmp", "%V": "/var/tmp"}
"""What they stand for in a unit of the system (systemd.unit(5))."""
_SECTIONS = {"calls": "syscalls", "kernel": "syscalls", "privileges": "capabilities", "network": "sockets"}
"""Sections of a policy, by groups of options; others are about files."""


@dataclass(frozen=True)
class Own:
    """What the user's unit says itself, without what profgen put into it. ``values``: by key, the last one counts.
    ``paths``: the paths in the values of other keys than those of the drop-in."""

    values: tuple[tuple[str, str], ...] = ()
    paths: tuple[str, ...] = ()

    def value(self, key: str) -> str:
        """Return the value of a key, ``yes`` for each word that means it; empty where the unit has none."""
        text = dict(self.values).get(key, "")
        return "yes" if text.lower() in _TRUE else text


def _file_name(existing: Existing, unit: str) -> str:
    """Return the name of the file that was given: a unit, or a drop-in. Standard input has none of its own."""
    given = posixpath.basename(existing.name)
    return given if given.endswith((".service", ".conf")) else unit


def _own(existing: Existing) -> Own:
    """Read the user's unit. Raises InputError."""
    lines = lines_of(existing.data.decode("utf-8", "surrogateescape"))
    try:
        found = [row for row in assignments(lines) if row.section == "Service"]
    except Unreadable as error:
        raise InputError(f"{existing.name}: cannot be rewritten: {error}") from error
    rows = [(row.key, row.value) for row in found if not (row.first and lines[row.first - 1].startswith(MARK))]
    paths = {path for key, value in rows if key not in KEYS for path in _PATH.findall(value)}
    return Own(tuple(rows), tuple(sorted(_SPECIFIERS.get(path[:2], path[:2]) + path[2:] for path in paths)))


def _is_stricter(own: str, row: Chosen) -> bool:
    """Return whether the unit's own value of an option stays because it is stricter."""
    rank = _RANKS.get(row.key, ())
    return own in rank and rank.index(own) > rank.index(row.values[0])


def _stricter_losses(facts: Facts, rows: Sequence[Chosen], own: Own) -> Iterator[Loss]:
    """Yield what the unit's own options may refuse of the policy: they stay."""
    by_key = {row.key: row for row in rows}
    kept: dict[str, list[str]] = {}
    for option in OPTIONS:
        value, row = own.value(option.key), by_key.get(option.key)
        known = facts.has_paths or (option.group == "calls")
        if value in _RANKS.get(option.key, ("yes",)) and known and (row is None or _is_stricter(value, row)):
            kept.setdefault(_SECTIONS.get(option.group, "files"), []).append(f"{option.key}={value}")
    for section, texts in kept.items():
        why = "your unit sets it, so it stays, and the recording has uses that it may refuse: remove it if it does"
        yield Loss(section, f"what {', '.join(texts)} forbids", why, "refused")


def unit_of(policy: Policy) -> str:
    """Return the name of the service that was recorded, or one made from the program."""
    work = policy.workload
    if work.launch.unit and _NAME.fullmatch(work.launch.unit) and (found := _service(work.launch.unit)):
        return found
    program = posixpath.basename(work.argv[0]) if work.argv else ""
    return f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', program).strip('-._')[:64] or 'workload'}.service"


def _steps(unit: str, drop_in: str) -> Iterator[Step]:
    place, unit = shell(f"{_UNITS}/{drop_in}"), shell(unit)
    yield Step("load", f"install -D -m 644 {written(drop_in)} {place} && systemctl daemon-reload")
    yield Step("use", f"systemctl restart {unit} && systemd-analyze security --no-pager {unit}")
    yield Step("undo", f"rm {place} && systemctl daemon-reload && systemctl restart {unit}")


def _losses(facts: Facts) -> Iterator[Loss]:
    policy = facts.policy
    native = policy.abis[0]
    names = {entry.name for entry in facts.entries}
    own = [name for name in words("own") if name not in names and number_of(native, name) is not None]
    if own:
        yield Loss("syscalls", ", ".join(own), "systemd may need them to start the program, or to say why it cannot")
    later = [name for name in words("default_later") if name not in names and number_of(native, name) is not None]
    if later:
        why = "systemd allows them by itself where its libseccomp knows them, and logs them where it does not"
        yield Loss("syscalls", ", ".join(later), why)
    natives = {entry.name for entry in facts.entries if entry.abi == native}
    others = sorted(name for name in names - natives - {*own} if number_of(native, name) is not None)
    if others:
        why = f"a unit has one list for all architectures, so {native} has what others need"
        yield Loss("syscalls", listed(others, _SHOWN), why)
    if facts.has_paths and facts.places:
        for source, target in facts.places.apart:
            why = (
                f"files are moved between {printable(source)} and {printable(target)}, which ReadWritePaths= would "
                "make two mounts (EXDEV)"
            )
            yield Loss("files", "writing to directories in which nothing was changed", why)
    if policy.workload.uid and not policy.no_new_privs:
        why = "systemd sets NoNewPrivileges= for a user other than root, because a filter needs it"
        yield Loss("no_new_privs", "new privileges by files", why, "refused")
