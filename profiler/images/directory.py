"""Read the files of an image from a directory that is its root, without following links."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from profiler.errors import InputError
from profiler.images.files import Node
from profiler.images.layers import Budget
from profiler.kernel.file_capabilities import FileCapabilities, parse_file_capabilities
from profiler.wording import cause


def entries(top: str, budget: Budget, unreadable: list[str]) -> Iterator[tuple[str, Node]]:
    """Yield what is in a directory and below it, on its own file system. ``unreadable`` gets the directories that
    cannot be read. Raises InputError when the first cannot."""
    try:
        device = os.stat(top).st_dev
        os.scandir(top).close()
    except OSError as error:
        raise InputError(f"cannot be read: {cause(error)}") from error
    ahead = [""]
    while ahead:
        path = ahead.pop()
        try:
            with os.scandir(f"{top}/{path}") as found:
                names = [entry.name for entry in found]
        except OSError:
            unreadable.append(path)
            continue
        for name in names:
            below = f"{path}/{name}"
            try:
                status = os.lstat(top + below)
                node = _node(top + below, status)
            except OSError:
                continue  # gone, or its path is too long
            budget.entry()
            yield below, node
            if node.kind == "directory" and status.st_dev == device:
                ahead.append(below)


def _node(path: str, status: os.stat_result) -> Node:
    mode, permissions = status.st_mode, stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(mode):
        return Node("symlink", permissions, status.st_uid, status.st_gid, os.readlink(path))
    if stat.S_ISDIR(mode):
        return Node("directory", permissions, status.st_uid, status.st_gid)
    if stat.S_ISREG(mode):
        return Node("file", permissions, status.st_uid, status.st_gid, "", _capabilities(path))
    device = stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
    return Node("device" if device else "other", permissions, status.st_uid, status.st_gid)


def _capabilities(path: str) -> FileCapabilities | None:
    try:
        return parse_file_capabilities(os.getxattr(path, "security.capability", follow_symlinks=False))
    except OSError:
        return None
