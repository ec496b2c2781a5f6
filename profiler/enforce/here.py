"""Enforce a policy on the calling process, which then becomes the workload: nothing of profgen stays next to it.

What a policy becomes for that is kept (profiler/kept.py), since to read a policy takes longer than all else. So this
module imports nothing that knows policies.
"""

from __future__ import annotations

import base64
import hashlib
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from profiler import __version__, confinement, kept
from profiler.confinement import Landlock, Loader, Ready, confine, permitted, ready, reduce_bounding, shortfalls
from profiler.errors import CommandNotExecutable, ProfgenError
from profiler.tracers.base import Workload
from profiler.tracers.launch import Start, failure
from profiler.wording import listed

_ROOMS = ("kernel", "policy", "targets")
"""What decides how a policy is enforced."""


class Confinement(NamedTuple):
    """What enforces a policy. ``needed``: names and numbers of capabilities; ``version``: the regular expression of the
    class {version}; ``unlimited``: what Landlock is not used for, as sentences; ``notes``: what else a user should
    know."""

    needed: Sequence[tuple[str, int]]
    no_new_privs: bool
    rules: Landlock
    version: str
    program: bytes
    unlimited: Sequence[str]
    notes: Sequence[str]

    @property
    def mask(self) -> int:
        """The capabilities as a bit mask."""
        return sum(1 << number for _, number in self.needed)


class Prepared(NamedTuple):
    """A confinement on this machine. ``lacks``: what it does not enforce of the policy here, as sentences."""

    confinement: Confinement
    rules: Ready
    lacks: Sequence[str]
    notes: Sequence[str]


def name_for(content: bytes) -> str:
    """Return the name under which the confinement of a policy's text is kept: another one after each change of profgen
    or of the machine's architecture."""
    digest = hashlib.sha256(f"{__version__} {platform.machine()}\n".encode() + content)
    package = Path(__file__).parent.parent
    for place in (package, *(package / room for room in _ROOMS)):
        with os.scandir(place) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                status = entry.stat()
                digest.update(f"{entry.name} {status.st_mtime_ns} {status.st_size}\n".encode())
    return f"{digest.hexdigest()[:40]}.run.json"


def known(name: str) -> Confinement | None:
    """Return a confinement that was kept, None when there is none."""
    found = kept.read(name)
    if not isinstance(found, dict):
        return None
    try:
        files, network, scopes = ([confinement.Right(*row) for row in group] for group in found["rights"])
        paths = [confinement.Path(*row) for row in found["paths"]]
        ports = [confinement.Ports(*row) for row in found["ports"]]
        return Confinement(
            [(str(name), int(number)) for name, number in found["needed"]],
            bool(found["no_new_privs"]),
            Landlock(files, network, scopes, paths, ports),
            found["version"],
            base64.b64decode(found["program"]),
            found["unlimited"],
            found["notes"],
        )
    except (KeyError, TypeError, ValueError, IndexError):
        return None


def keep(name: str, made: Confinement) -> None:
    """Keep a confinement for the next run."""
    rules = made.rules
    document: dict[str, Any] = {
        "needed": list(made.needed),
        "no_new_privs": made.no_new_privs,
        "rights": [list(rules.files), list(rules.network), list(rules.scopes)],
        "paths": list(rules.paths),
        "ports": list(rules.ports),
        "version": made.version,
        "program": base64.b64encode(made.program).decode("ascii"),
        "unlimited": list(made.unlimited),
        "notes": list(made.notes),
    }
    kept.keep(name, document)


def enforceable(rules: Landlock, version: str) -> Ready:
    """Make the rules of Landlock. Raises ProfgenError."""
    try:
        return ready(rules, version)
    except OSError as error:
        raise ProfgenError(f"the kernel refuses the rules of Landlock: {os.strerror(error.errno or 0)}") from error


def prepared(made: Confinement) -> Prepared:
    """Make all that is needed before a process is confined. Raises ProfgenError."""
    rules = enforceable(made.rules, made.version)
    have = permitted()
    notes = list(made.notes)
    absent = [name for name, number in made.needed if not have >> number & 1]
    if absent:
        notes.append(f"the policy allows {listed(absent, 4)}, which this process does not have and cannot pass on")
    if rules.missing:
        notes.append(f"without a rule, because a symbolic link or nothing is there: {listed(rules.missing, 4)}")
    return Prepared(made, rules, [*made.unlimited, *shortfalls(rules, made.no_new_privs)], notes)


def execute(made: Prepared, workload: Workload) -> NoReturn:
    """Confine the calling process and execute the workload in its place. When that fails, print why and exit: the
    filter may refuse what Python does at its end."""
    mask, no_new_privs = made.confinement.mask, made.confinement.no_new_privs
    loader = Loader(made.confinement.program)

    def last() -> None:
        confine(mask, no_new_privs, loader, made.rules.descriptor)

    start = Start(workload, lambda: reduce_bounding(mask), last)
    code = 0
    try:
        start.execute()
    except OSError as error:
        code = error.errno or 0
    except ValueError:
        pass
    found = failure(workload.path, start.step, code)
    hint = ""
    if isinstance(found, CommandNotExecutable):
        hint = " (the policy may not allow it: profgen verify names what it refuses)"
    os.write(2, f"profgen: {found}{hint}\n".encode("utf-8", "backslashreplace"))
    os._exit(found.exit_code)
