"""The workload of a command line: which program, as which user."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal

from profiler.cli.options import whole
from profiler.errors import InputError
from profiler.files import invoking_user
from profiler.tracers.base import Workload
from profiler.tracers.launch import find_program, quoted
from profiler.wording import suggestion


def _directory() -> str:
    """Return the working directory. Raises InputError when it was removed."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise InputError("the working directory no longer exists: change to another") from None


def workload_of(command: tuple[str, ...], user: str | None, mask: frozenset[signal.Signals]) -> Workload:
    """Return the workload that runs a command.

    ``user``: name or uid; None for the user who called profgen under sudo, else profgen's own. ``mask``: the signal
    mask that it starts with. Raises ProfgenError.
    """
    env = dict(os.environ)
    identity: tuple[int, int, tuple[int, ...]] | None = None
    entry: pwd.struct_passwd | None = None
    if user is not None:
        uid = whole(user)
        # 2**32 - 1 is not an id: for setresuid(2) it means "leave unchanged", and the command would run as root.
        if uid is not None and uid >= (1 << 32) - 1:
            raise InputError(f"{user} is not a user id")
        try:
            entry = pwd.getpwnam(user) if uid is None else pwd.getpwuid(uid)
        except KeyError:
            if uid is None:
                near = suggestion(user, (row.pw_name for row in pwd.getpwall()))
                raise InputError(f"there is no user {quoted(user)}{near}") from None
            identity = (uid, uid, (uid,))
    elif (caller := invoking_user()) is not None:
        identity = (*caller, (caller[1],))
        with contextlib.suppress(KeyError):
            entry = pwd.getpwuid(caller[0])
    if entry is not None:
        identity = (entry.pw_uid, entry.pw_gid, tuple(sorted(os.getgrouplist(entry.pw_name, entry.pw_gid))))
        env |= {"HOME": entry.pw_dir, "USER": entry.pw_name, "LOGNAME": entry.pw_name}
    if identity is not None:
        if os.geteuid() != 0 and identity[0] != os.geteuid():
            raise InputError("--user needs root: run profgen with sudo, or as that user")
        if os.geteuid() != 0 or (identity[0] == 0 and os.getuid() == 0 and user is None):
            identity = None
    return Workload(command, find_program(command[0], env), env, _directory(), identity, mask)


def in_bundle(command: tuple[str, ...], mask: frozenset[signal.Signals]) -> Workload:
    """Return the workload of a command in a container, which also determines the user."""
    return Workload(command, "", dict(os.environ), _directory(), None, mask)
