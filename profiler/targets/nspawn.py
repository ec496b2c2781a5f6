"""NAME.nspawn: settings of systemd-nspawn for one container (systemd.nspawn(5))."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from profiler.errors import InputError
from profiler.kernel.syscalls import known_names
from profiler.kernel.systemd import words
from profiler.policy.caveats import extent
from profiler.policy.model import Policy
from profiler.policy.posture import Posture, posture
from profiler.quoting.shell import shell
from profiler.quoting.systemd import has_unit_path
from profiler.quoting.text import printable
from profiler.targets import contexts
from profiler.targets.base import File, Launches, Loss, Output, Request, Setting, Step, Target, written
from profiler.targets.containers import READ_ONLY, is_read_only, moves_lost
from profiler.wording import listed

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,62}[A-Za-z0-9])?")
_PLACE = "/etc/systemd/nspawn"
"""Settings here are trusted. Those in a file next to the image cannot give capabilities, mounts or a network."""
_PLAIN = re.compile(r"/[A-Za-z0-9_@+=,./-]*", re.ASCII)
_COLUMNS = 110
_SHOWN = 12


def _name(text: str) -> str:
    """Parse the name of a machine."""
    if not _NAME.fullmatch(text):
        raise InputError(f"{printable(text)!r} is not the name of a machine: letters, digits and '-', at most 64")
    return text


class Nspawn(Target):
    """A container of systemd-nspawn."""

    name = "nspawn"
    summary = "NAME.nspawn: settings of systemd-nspawn for a container"
    says = frozenset({"syscalls", "refused", "capabilities", "no_new_privs"})
    machine = Setting("name", "the machine's name; default: the program's", "NAME", "", _name)
    settings = (READ_ONLY, machine)
    launches = Launches(frozenset(), names=frozenset({"selinux"}))

    def render(self, request: Request) -> Output:
        """See Target.render."""
        policy = request.policy
        work, stance = policy.workload, posture(policy)
        name = self.machine.of(request) or _machine(policy)
        read_only = is_read_only(request, stance)
        allowed, refused = _allowed(policy), {row.name for row in policy.refused}
        default, needed = words("nspawn"), policy.needed()
        places = [row.path for row in stance.temporary if _PLAIN.fullmatch(row.path)]
        mounts = [row for row in stance.mounts if row.kind == "bind"]
        sayable = [row for row in mounts if _PLAIN.fullmatch(row.source) and _PLAIN.fullmatch(row.destination)]
        command = stance.command if all(map(has_unit_path, stance.command)) else ()
        text = request.template(
            "nspawn.j2",
            machine=name,
            argv=" ".join(map(shell, work.argv)),
            extent=extent(work),
            image=work.image,
            option=_option(contexts.wanted(request)),
            joined=work.joined,
            sure=stance.sure,
            command=command,
            user=(stance.user or "").partition(":")[0],
            directory=stance.directory if stance.directory and _PLAIN.fullmatch(stance.directory) else None,
            no_new_privs=policy.no_new_privs,
            dropped=[each for each in default if each not in needed],
            added=[each for each in needed if each not in default],
            ambient=needed if work.uid else (),
            allowed=_lines(sorted(allowed)),
            denied=_lines(sorted(known_names() - allowed - refused)),
            read_only=read_only,
            temporary=places,
            kept=stance.kept,
            mounts=sayable,
            private=stance.network == "none",
        )
        file = File(f"{name}.nspawn", text)
        lost = [*_losses(policy, allowed), *(_unwritable(stance) if read_only else ())]
        for row in mounts:
            if row not in sayable:
                why = "a path in the file cannot have these characters: use --bind"
                lost.append(Loss("files", row.destination, why, "refused"))
        place, context = f"{_PLACE}/{file.name}", contexts.wanted(request)
        usage = (
            Step("load", f"install -D -m 644 {written(file.name)} {place}"),
            Step("use", f"systemd-nspawn --machine={name} --directory=DIRECTORY{_option(context)}"),
            Step("undo", f"rm {place}"),
        )
        return Output((file,), tuple(lost), usage)


def _option(context: str) -> str:
    """Return the option for an SELinux context, which has no key in the file. Empty for no context."""
    return f" --selinux-context={context}" if context else ""


def _machine(policy: Policy) -> str:
    program = policy.workload.argv[0].rpartition("/")[2] if policy.workload.argv else ""
    return re.sub(r"[^A-Za-z0-9]+", "-", program)[:60].strip("-") or "workload"


def _allowed(policy: Policy) -> set[str]:
    """Return the calls of the workload, and those that nspawn makes itself after its filter is loaded."""
    own = (*words("nspawn_own"), *(words("nspawn_user") if policy.workload.uid else ()))
    return {entry.name for entry in policy.syscalls if entry.section != "base"} | set(own)


def _lines(names: Iterable[str]) -> list[str]:
    lines: list[str] = []
    for name in names:
        if lines and len(lines[-1]) + 1 + len(name) <= _COLUMNS:
            lines[-1] += f" {name}"
        else:
            lines.append(name)
    return lines


def _unwritable(stance: Posture) -> Iterator[Loss]:
    """Yield what the workload writes to and a root that cannot be written refuses: the settings can name directories of
    the host there, which only the user knows."""
    why = "the root is read-only: add Bind=DIRECTORY:PATH to the file, with a directory of the host"
    memory = (row.path for row in stance.temporary if not _PLAIN.fullmatch(row.path))
    volumes = (row.destination for row in stance.mounts if row.kind != "bind" and not row.read_only)
    for path in dict.fromkeys((*stance.kept, *volumes, *memory, *(stance.elsewhere or ()))):
        yield Loss("files", printable(path), why, "refused")
    yield from moves_lost(stance)


def _losses(policy: Policy, allowed: set[str]) -> Iterator[Loss]:
    names = {entry.name for entry in policy.syscalls if entry.section != "base"}
    if own := sorted(allowed - names):
        yield Loss("syscalls", ", ".join(own), "systemd-nspawn makes them itself after its filter is loaded")
    if refused := sorted(row.name for row in policy.refused if row.name not in allowed):
        why = "the file has no errors of single calls, so the list of systemd-nspawn decides"
        yield Loss("refused", listed(refused, _SHOWN), why)
    native = policy.abis[0]
    natives = {entry.name for entry in policy.syscalls if entry.abi == native}
    if others := sorted(names - natives):
        yield Loss("syscalls", listed(others, _SHOWN), "the file has one list for all architectures")
